"""The promises, in plain words."""
