"""The books, under every fault."""
