"""What AWS starts: one module a function. Each turns its event into requests, and results into a reply."""
