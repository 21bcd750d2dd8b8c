"""What a sweep does: follow, search, recover, submit."""
