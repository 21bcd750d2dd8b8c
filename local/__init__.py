"""What one runs on one's own machine: command line, emulator, local server. Never deployed."""
