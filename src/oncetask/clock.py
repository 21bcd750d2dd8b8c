"""Time as the rest of the code sees it: injected, never read. Only `app` makes the real clock."""

from collections.abc import Callable
from typing import NamedTuple, Protocol

POLL_S = 0.02


class Clock(Protocol):
    """The time."""

    def now_s(self) -> float:
        """Wall clock, epoch seconds; may step."""

    def elapsed_s(self) -> float:
        """Seconds since some moment; never steps."""

    def sleep(self, seconds: float) -> None:
        """Wait."""


class Deadline(NamedTuple):
    """A moment by which something must have ended."""

    clock: Clock
    ends_elapsed_s: float

    @classmethod
    def after(cls, seconds: float, clock: Clock) -> "Deadline":
        """That many seconds from now."""
        return cls(clock, clock.elapsed_s() + seconds)

    def left_s(self) -> float:
        """Seconds left; negative once it has passed."""
        return self.ends_elapsed_s - self.clock.elapsed_s()


def patiently[T](clock: Clock, patience_s: float, take: Callable[[], T | None]) -> T | None:
    """What taking something gives, tried until it gives something or the patience is over."""
    waited = Deadline.after(patience_s, clock)
    while True:
        taken = take()
        if taken is not None or waited.left_s() <= 0:
            return taken
        clock.sleep(min(POLL_S, waited.left_s()))
