"""What several must keep alike: ledgers, senders, the emulator, Tea."""
