"""From an HTTP event to a verified payload."""
