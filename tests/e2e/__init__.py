"""Real servers, real processes, official clients."""
