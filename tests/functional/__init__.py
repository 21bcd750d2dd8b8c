"""Whole paths through our own code, against the emulator."""
