"""A value that another service holds: fetched when it is asked for, kept for a time, fetched again."""

import threading
from collections.abc import Callable
from dataclasses import dataclass, replace

from oncetask.clock import Clock
from oncetask.errors import Unavailable

RETRY_S = 30.0
"""After a fetch that failed, the old value is given for so long before the next is tried."""


@dataclass(slots=True, eq=False, repr=False)
class Dated[T]:
    """A value, until when nobody asks for a newer one, and until when it may be used at all."""

    value: T
    fresh_until_s: float
    good_until_s: float


class Cached[T]:
    """One value. Threads share it, and one of them fetches."""

    def __init__(self, fetch: Callable[[], Dated[T]], clock: Clock, *, failure_s: float = 0.0) -> None:
        """`fetch` raises Unavailable. Where there is no value, its failure stands for so many seconds."""
        self._fetch = fetch
        self._clock = clock
        self._failure_s = failure_s
        self._failed_until_s = 0.0
        self._dated: Dated[T] | None = None
        self.failure: Unavailable | None = None
        """Why there is no value, or an old one; None once there is a new one."""
        self._lock = threading.Lock()

    def get(self) -> T:
        """The value; the old one, while it is good, where fetching a newer one fails. Raises Unavailable."""
        with self._lock:
            if self._dated is None or self._clock.now_s() >= self._dated.fresh_until_s:
                self._dated = self._fetched(self._dated)
            return self._dated.value

    def forget(self) -> None:
        """The next `get` fetches, and has nothing to fall back on."""
        with self._lock:
            self._dated = self.failure = None

    def _fetched(self, old: Dated[T] | None) -> Dated[T]:
        if old is None and self.failure is not None and self._clock.now_s() < self._failed_until_s:
            raise self.failure
        try:
            fetched = self._fetch()
        except Unavailable as error:
            now_s = self._clock.now_s()
            self.failure, self._failed_until_s = error, now_s + self._failure_s
            if old is None or now_s >= old.good_until_s:
                self._dated = None
                raise
            return replace(old, fresh_until_s=min(now_s + RETRY_S, old.good_until_s))
        self.failure = None
        return fetched
