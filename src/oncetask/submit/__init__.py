"""The one path: record, take the lane, call, settle."""
