"""From a payload to events, by the routes file."""
