"""Actors hand a baton on: one runs at a time, and a schedule says where each stops, dies or meets a fault.

An actor is a thread that runs the real code; the store, the clock and the service of this folder call `point`
at each of their operations. Everything else is pure, so a run depends on its schedule alone.
"""

import re
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from enum import IntEnum
from threading import Semaphore, Thread
from typing import NamedTuple, Self

from oncetask.errors import OnceTaskError

MOST_POINTS = 20_000
"""A run with more of them does not end."""

STOPS = ("pause", "freeze")
"""pause: until no other can go on without time passing; freeze: until all others have ended."""
WRITE_FAULTS = ("die", "refuse", "lose")
"""die: here, before it; refuse: it is not done, and fails; lose: it is done, and its answer is lost."""
FAULTS = {
    "put": WRITE_FAULTS,
    "delete": WRITE_FAULTS,
    "get": ("refuse",),
    "queued": ("refuse", "lag2", "lag8"),
    "generate": ("die", "unheard", "unmade"),
    "answer": ("die",),
    "query": ("fail",),
    "clock": (),
}
"""What else may happen at a point. A death between two effects is one before the second of them.

lagN: the index as it was N writes ago. unheard: a task is made, and the answer lost; unmade: no task either.
"""


class Died(BaseException):
    """The process is gone: no handler of the code's own may run on."""


class Deviation(NamedTuple):
    """What happens to an actor at one of its points; written `actor@point=what`."""

    actor: str
    point: int
    what: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """Raises ValueError."""
        found = re.fullmatch(r"([\w-]+)@(\d+)=(\w+)", text)
        if found is None:
            raise ValueError(f"{text!r} is not actor@point=what")
        return cls(found[1], int(found[2]), found[3])

    def __str__(self) -> str:
        return f"{self.actor}@{self.point}={self.what}"


type Schedule = tuple[Deviation, ...]


def parsed(text: str) -> Schedule:
    """A schedule as it was printed: deviations with commas between them. Raises ValueError."""
    return tuple(Deviation.parse(part) for part in text.split(",") if part)


class Point(NamedTuple):
    """One point that an actor passed: its operation, and upon what."""

    actor: str
    number: int
    operation: str
    what: str

    def deviations(self) -> Iterable[Deviation]:
        """All that may happen there."""
        for what in (*STOPS, *FAULTS[self.operation]):
            yield Deviation(self.actor, self.number, what)


class _Wait(IntEnum):
    """What an actor waits for; who waits for less goes first."""

    NOTHING = 0
    PAUSED = 1
    ASLEEP = 2
    FROZEN = 3


@dataclass(slots=True)
class _Actor:
    name: str
    program: Callable[[], None]
    deviations: dict[int, str]
    baton: Semaphore = field(default_factory=lambda: Semaphore(0))
    points: int = 0
    wait: _Wait = _Wait.NOTHING
    until_s: float = 0.0
    stopped: int = 0
    is_dead: bool = False
    has_ended: bool = False
    error: Exception | None = None


class Scheduler:
    """The actors and their one clock, which moves where all of them wait, or while nobody acts."""

    def __init__(self, schedule: Schedule, now_s: float) -> None:
        self._schedule = schedule
        self._actors: list[_Actor] = []
        self._acting: _Actor | None = None
        self._all_wait = Semaphore(0)
        self._stops = 0
        self._began_s = now_s
        self._now_s = now_s
        self.trace: list[Point] = []

    def add(self, name: str, program: Callable[[], None], *, at_s: float = 0.0) -> None:
        """An actor that begins so many seconds after the others may."""
        deviations = {one.point: one.what for one in self._schedule if one.actor == name}
        wait = _Wait.ASLEEP if at_s else _Wait.NOTHING
        self._actors.append(_Actor(name, program, deviations, wait=wait, until_s=self._now_s + at_s))

    def run(self) -> None:
        """All actors to their ends. Raises what one of them raised, but for errors that are our own: those
        are what a caller is told.
        """
        for actor in self._actors:
            Thread(target=self._act, args=(actor,), daemon=True).start()
        while going := [actor for actor in self._actors if not actor.has_ended]:
            following = min(going, key=lambda actor: (actor.wait, actor.until_s, actor.stopped))
            self._now_s = max(self._now_s, following.until_s)
            following.wait = _Wait.NOTHING
            self._hand_baton_to(following)
        for actor in self._actors:
            if actor.error is not None:
                raise actor.error

    def _hand_baton_to(self, actor: _Actor) -> None:
        self._acting = actor
        actor.baton.release()
        self._all_wait.acquire()
        self._acting = None

    def _act(self, actor: _Actor) -> None:
        actor.baton.acquire()
        try:
            with suppress(Died, OnceTaskError):
                actor.program()
        except Exception as error:  # noqa: BLE001 - raised by `run`, in the thread that can tell of it
            actor.error = error
        actor.has_ended = True
        self._all_wait.release()

    def _stop(self, actor: _Actor, wait: _Wait, until_s: float = 0.0) -> None:
        self._stops += 1
        actor.wait, actor.until_s, actor.stopped = wait, until_s, self._stops
        self._all_wait.release()
        actor.baton.acquire()

    # -- what actors call ---------------------------------------------------------------------

    def point(self, operation: str, what: str = "") -> str | None:
        """The acting actor may stop or die here; the fault that it meets, if any. Healing meets none."""
        actor = self._acting
        if actor is None:
            return None
        number, actor.points = actor.points, actor.points + 1
        if len(self.trace) >= MOST_POINTS:
            raise AssertionError("the run does not end")
        self.trace.append(Point(actor.name, number, operation, what))
        deviation = actor.deviations.get(number)
        actor.is_dead = actor.is_dead or deviation == "die"
        if actor.is_dead:  # what `finally` tries is not done either
            raise Died
        if deviation == "pause":
            self._stop(actor, _Wait.PAUSED)
        elif deviation == "freeze":
            self._stop(actor, _Wait.FROZEN)
        elif deviation in FAULTS[operation]:
            return deviation
        return None

    def now_s(self) -> float:
        """Wall clock, epoch seconds."""
        self.point("clock")
        return self._now_s

    def elapsed_s(self) -> float:
        """Seconds since the run began."""
        self.point("clock")
        return self._now_s - self._began_s

    def sleep(self, seconds: float) -> None:
        """Let others act for so long."""
        if self._acting is None:
            self._now_s += seconds
        else:
            self._stop(self._acting, _Wait.ASLEEP, self._now_s + seconds)

    @property
    def time_s(self) -> float:
        """The time, for the service and the laws: reading it is no point."""
        return self._now_s
