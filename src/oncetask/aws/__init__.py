"""AWS: signed calls, secrets, and the identity that AWS vouches for."""
