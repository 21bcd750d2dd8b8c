"""A clock that stands still until somebody, or a sleeper, moves it: for tests and sample events."""

NOW_S = 1_800_000_000.0


class FakeClock:
    """A `Clock` whose sleeps end at once and are seen in both of its times."""

    def __init__(self, now_s: float = NOW_S) -> None:
        self._now_s = now_s
        self._elapsed_s = 0.0

    def now_s(self) -> float:
        """Wall clock, epoch seconds."""
        return self._now_s

    def elapsed_s(self) -> float:
        """Seconds that have passed since it was made."""
        return self._elapsed_s

    def sleep(self, seconds: float) -> None:
        """Let that much time pass."""
        self.advance(seconds)

    def advance(self, seconds: float) -> None:
        """Let that much time pass."""
        self._now_s += seconds
        self._elapsed_s += seconds

    def step(self, seconds: float) -> None:
        """Move the wall clock alone, as when somebody sets it."""
        self._now_s += seconds
