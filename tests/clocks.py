"""The clock of the tests."""

from local.clocks import NOW_S, FakeClock

__all__ = ["NOW_S", "FakeClock"]
