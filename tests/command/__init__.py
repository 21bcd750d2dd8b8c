"""`./oncetask` as a person meets it: what it says, what it refuses, and how it looks."""
