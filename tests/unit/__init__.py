"""Without network, without clock: one module each."""
