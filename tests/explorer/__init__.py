"""The real code, stopped wherever a schedule says: every single deviation of small scenarios, and random ones."""
