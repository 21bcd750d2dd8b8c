"""The lowest seam: a `Store` where a process can die, fail, stand still or read a lagging index.

Every successful write is seen here, in order; what is seen is the model's own copy of the ledger.
"""

from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from local.clocks import FakeClock
from oncetask.errors import LedgerUnavailable
from oncetask.ledger.records import Ask, Event, Lease, Place, Record, Signature, TaskRecord
from oncetask.ledger.store import Row, Store

WRITE_TAKES_S = 0.001
KINDS: Mapping[str, type[Record]] = {
    "event": Event,
    "ask": Ask,
    "place": Place,
    "task": TaskRecord,
    "lease": Lease,
    "signature": Signature,
}


class Killed(BaseException):
    """The process ended here; no line of it runs any more."""


@dataclass(frozen=True, slots=True)
class Kill:
    """The process dies at its n-th write, which is done or not."""

    at_write: int
    after: bool


@dataclass(frozen=True, slots=True)
class Fail:
    """From its n-th write on, done or not, the ledger cannot be reached for so many operations."""

    at_write: int
    after: bool
    operations: int


@dataclass(frozen=True, slots=True)
class Pause:
    """The process stands still at its n-th write, while others do something."""

    at_write: int
    after: bool
    meanwhile: Callable[[], None]


type Interruption = Kill | Fail | Pause


@dataclass(slots=True)
class Frame:
    """One invocation of one process, as its store sees it.

    `clean`: nothing befell it; `shared`: others were at work meanwhile.
    """

    interruptions: Sequence[Interruption]
    writes: int = 0
    fails_for: int = 0
    dead: bool = False
    clean: bool = True
    shared: bool = False
    changed: set[str] = field(default_factory=set)


class Watcher(Protocol):
    """Who wants to see every write that was done."""

    def written(self, key: str, before: dict[str, Any] | None, after: dict[str, Any] | None) -> None:
        """A record's body before and after; None: there is none."""


class Seam:
    """What all processes of a world share: one store, who is at work on it, and what was written."""

    def __init__(self, clock: FakeClock, watcher: Watcher, counts: Counter[str]) -> None:
        self.clock = clock
        self.watcher = watcher
        self.counts = counts
        self.bodies: dict[str, dict[str, Any]] = {}
        self.frames: list[Frame] = []
        self.index_lag_writes = 0
        self._index: dict[str, str] = {}
        self._unseen: deque[tuple[str, str | None]] = deque()

    @property
    def frame(self) -> Frame:
        """The invocation that is at work."""
        return self.frames[-1]

    def catch_up(self) -> None:
        """The index shows everything that was written."""
        self._show(0)

    def index(self, kind: str) -> list[tuple[str, str]]:
        """`(open, key)` of a kind as the lagging index has it."""
        self._show(self.index_lag_writes)
        return sorted((mark, key) for key, mark in self._index.items() if key.startswith(f"{kind}/"))

    def operate(self) -> None:
        """One operation begins. Raises Killed, LedgerUnavailable."""
        if self.frame.dead:
            raise Killed
        if self.frame.fails_for > 0:
            self.frame.fails_for -= 1
            raise LedgerUnavailable("the model's ledger is away")

    def write(self, key: str, row: Row | None, do: Callable[[], bool]) -> bool:
        """One write, with whatever befalls the process before and after it."""
        self.operate()
        self.clock.advance(WRITE_TAKES_S)
        self.frame.writes += 1
        number, name = self.frame.writes, write_name(key, row, self.bodies.get(key))
        self._befall(number, name, after=False)
        done = do()
        if done:
            self._see(key, row)
        self._befall(number, name, after=True)
        return done

    def _befall(self, number: int, name: str, *, after: bool) -> None:
        for interruption in self.frame.interruptions:
            if interruption.at_write == number and interruption.after is after:
                self.frame.clean = False
                self._interrupt(interruption, f"{'after' if after else 'before'} {name}")

    def _interrupt(self, interruption: Interruption, where: str) -> None:
        match interruption:
            case Kill():
                self.counts[f"killed {where}"] += 1
                self.frame.dead = True
                raise Killed
            case Fail(operations=operations):
                self.counts[f"ledger away {where}"] += 1
                self.frame.fails_for = operations - 1
                raise LedgerUnavailable("the model's ledger goes away")
            case Pause(meanwhile=meanwhile):
                self.frame.shared = True
                self.counts[f"others at work {where}"] += 1
                meanwhile()

    def _see(self, key: str, row: Row | None) -> None:
        before = self.bodies.get(key)
        after = None if row is None else body_of(row)
        self._unseen.append((key, None if row is None else row.open))
        self.frame.changed.add(key)
        if after is None:
            self.bodies.pop(key, None)
        else:
            self.bodies[key] = after
        self.watcher.written(key, before, after)

    def _show(self, unseen: int) -> None:
        while len(self._unseen) > unseen:
            key, mark = self._unseen.popleft()
            if mark is None:
                self._index.pop(key, None)
            else:
                self._index[key] = mark


class SeamStore:
    """A process's store."""

    def __init__(self, inner: Store, seam: Seam) -> None:
        self._inner = inner
        self._seam = seam

    def get(self, key: str) -> Row | None:
        self._seam.operate()
        return self._inner.get(key)

    def get_many(self, keys: Sequence[str]) -> list[Row]:
        self._seam.operate()
        return self._inner.get_many(keys)

    def put(self, row: Row, *, replacing: str | None) -> bool:
        return self._seam.write(row.key, row, lambda: self._inner.put(row, replacing=replacing))

    def delete(self, key: str, *, version: str) -> bool:
        return self._seam.write(key, None, lambda: self._inner.delete(key, version=version))

    def open_keys(self, kind: str) -> Iterator[tuple[str, str]]:
        self._seam.operate()
        if self._seam.index_lag_writes:
            yield from self._seam.index(kind)
        else:
            yield from self._inner.open_keys(kind)

    def forget_expired(self, now_s: float) -> None:
        self._seam.operate()
        self._inner.forget_expired(now_s)

    def close(self) -> None:
        self._inner.close()


def body_of(row: Row) -> dict[str, Any]:
    """The record with all its fields, whatever of them is stored."""
    kind = KINDS[row.key.partition("/")[0]]
    return kind.model_validate_json(row.body).model_dump(mode="json", by_alias=True)


def write_name(key: str, row: Row | None, before: dict[str, Any] | None) -> str:
    """The write in the words of the path: record, place, ask, answer, owner, settle, give back, finish."""
    kind = key.partition("/")[0]
    if row is None:
        return {"place": "give back", "lease": "lease back"}.get(kind, f"{kind} gone")
    if kind == "ask":
        return "ask" if before is None else _ask_write_name(body_of(row))
    if kind == "event":
        return "record" if before is None else _event_write_name(row)
    return {"task": "owner"}.get(kind, kind)


def _event_write_name(row: Row) -> str:
    return "finish" if body_of(row)["status"] == "finished" else "settle"


def _ask_write_name(ask: dict[str, Any]) -> str:
    if ask["finish"] or ask["ended_s"]:
        return "close"
    if ask["answer"] or ask["lost"]:
        return "answer"
    return "look" if ask["looked_s"] else "ask again"
