"""The real code under schedules: every single deviation of small scenarios, and random ones."""
