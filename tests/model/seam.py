"""The lowest seam: a `Store` where a process can die, fail, stand still or read a lagging index.

Every successful write is seen here, in order; what is seen is the model's own copy of the ledger.
"""

import json
import zlib
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from local.clocks import FakeClock
from local.damage import KINDS
from oncetask.errors import LedgerUnavailable
from oncetask.ledger.records import (
    FORMAT,
    Served,
)
from oncetask.ledger.store import Row, Store

WRITE_TAKES_S = 0.001


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
    """The process stands still at its n-th write, while others do something, perhaps until its claims have
    ended. `in_doubt`: the answer of a write that worked is lost, and the store finds the row changed since.
    """

    at_write: int
    after: bool
    meanwhile: Callable[[], None]
    name: str = "others at work"
    in_doubt: bool = False


type Body = dict[str, Any]
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

    def written(self, key: str, before: Body | None, after: Body | None) -> None:
        """A record's body before and after; None: there is none."""


class Change(NamedTuple):
    """One write that was done; None: there was no row, or is none any more."""

    at_s: float
    key: str
    before: Row | None
    after: Row | None


class Seam:
    """What all processes of a world share: one store, who is at work on it, and what was written."""

    def __init__(self, clock: FakeClock, watcher: Watcher, counts: Counter[str]) -> None:
        self.clock = clock
        self.watcher = watcher
        self.counts = counts
        self.bodies: dict[str, Body] = {}
        self.changes: list[Change] = []
        self.newer: set[str] = set()
        """Keys of records that a newer version of the code has written."""
        self.frames: list[Frame] = []
        self.index_lag_writes = 0
        self._rows: dict[str, Row] = {}
        self._index: dict[str, tuple[str, str]] = {}
        self._unseen: deque[tuple[int, str, tuple[str, str] | None]] = deque()
        self._writes = 0

    @property
    def frame(self) -> Frame:
        """The invocation that is at work."""
        return self.frames[-1]

    def row(self, key: str) -> Row:
        """The record's row as it was written last; KeyError where there is none."""
        return self._rows[key]

    def catch_up(self) -> None:
        """The index shows everything that was written."""
        self._show(lag_writes=0)

    def index(self, queue: str) -> list[tuple[str, str]]:
        """`(due, key)` of a queue as the lagging index has it: rows that are closed are still there, rows
        that are open not yet, and a younger write may show before an older one of another key.
        """
        self._show(lag_writes=self.index_lag_writes)
        return sorted((due, key) for key, (where, due) in self._index.items() if where == queue)

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
            self.see(key, row)
        in_doubt = self._befall(number, name, after=True)
        if done and in_doubt and self._rows.get(key) is not row:
            self.counts[f"answer lost of {name}, changed since"] += 1
            return False
        return done

    def see(self, key: str, row: Row | None) -> None:
        """One write that was done, by whomever."""
        before, old = self.bodies.get(key), self._rows.get(key)
        after = None if row is None else body_of(row)
        self._writes += 1
        place = None if row is None or row.queue is None else (row.queue, str(row.due))
        self._unseen.append((self._writes, key, place))
        self.changes.append(Change(self.clock.now_s(), key, old, row))
        if self.frames:
            self.frame.changed.add(key)
        if row is None or after is None:
            self.bodies.pop(key, None)
            self._rows.pop(key, None)
        else:
            self.bodies[key], self._rows[key] = after, row
        self.watcher.written(key, before, after)

    def _befall(self, number: int, name: str, *, after: bool) -> bool:
        """Whether the write's answer is in doubt now."""
        in_doubt = False
        for interruption in self.frame.interruptions:
            if interruption.at_write == number and interruption.after is after:
                self.frame.clean = False
                self._interrupt(interruption, f"{'after' if after else 'before'} {name}")
                in_doubt = in_doubt or (isinstance(interruption, Pause) and interruption.in_doubt)
        return in_doubt

    def _interrupt(self, interruption: Interruption, where: str) -> None:
        match interruption:
            case Kill():
                self.counts[f"killed {where}"] += 1
                self.frame.dead = True
                raise Killed
            case Fail(operations=operations, after=after):
                what = "answer lost" if after and operations == 1 else "ledger away"
                self.counts[f"{what} {where}"] += 1
                self.frame.fails_for = operations - 1
                raise LedgerUnavailable("the model's ledger goes away")
            case Pause(meanwhile=meanwhile, name=name):
                self.frame.shared = True
                self.counts[f"{name} {where}"] += 1
                meanwhile()

    def _show(self, *, lag_writes: int) -> None:
        """A key's writes are shown in their order, each by its own lag of at most so many writes."""
        late: deque[tuple[int, str, tuple[str, str] | None]] = deque()
        for number, key, place in self._unseen:
            lag = zlib.crc32(f"{key}/{number}".encode()) % (lag_writes + 1)
            if number > self._writes - lag or any(key == other for _, other, _ in late):
                late.append((number, key, place))
            elif place is None:
                self._index.pop(key, None)
            else:
                self._index[key] = place
        self._unseen = late


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

    def queued(self, queue: str, most: int | None = None) -> Iterator[tuple[str, str]]:
        self._seam.operate()
        if self._seam.index_lag_writes:
            yield from self._seam.index(queue)
        else:
            yield from self._inner.queued(queue, most)

    def forget_expired(self, now_s: float) -> None:
        self._seam.operate()
        self._inner.forget_expired(now_s)

    def close(self) -> None:
        self._inner.close()


def body_of(row: Row) -> Body:
    """The record with all its fields, whatever of them is stored."""
    kind = KINDS[row.key.partition("/")[0]]
    document = json.loads(row.body)
    ours = {name: document[name] for name in document if name in kind.model_fields} | {"format": FORMAT}
    body = kind.model_validate_json(json.dumps(ours)).model_dump(mode="json", by_alias=True)
    for holder in (body, body.get("call") or {}):
        if "events" in holder:
            holder["events"] = [Served(*served)._asdict() for served in holder["events"]]
    return body


def write_name(key: str, row: Row | None, before: Body | None) -> str:
    """The write in the words of the path: record, lane, answer, task, settle, release, finish."""
    kind = key.partition("/")[0]
    if row is None:
        return {"lane": "release"}.get(kind, f"{kind} gone")
    if kind == "lane":
        return _lane_write_name(before, body_of(row))
    if kind == "event":
        return "record" if before is None else _event_write_name(row)
    if kind == "task":
        return _task_write_name(body_of(row))
    return {"call": "lost call"}.get(kind, kind)


def _event_write_name(row: Row) -> str:
    return "finish" if body_of(row)["status"] == "finished" else "settle"


def _task_write_name(task: Body) -> str:
    if task["is_candidate"]:
        return "candidate"
    return "close" if task["ended_s"] else "task"


def _lane_write_name(before: Body | None, after: Body) -> str:
    call = after["call"]
    if call is None:
        return "hold"
    if before is None:
        return "lane"
    if before["holder"] != after["holder"]:
        return "take over"
    if call["answer"] or (call["lost"] and not (before["call"] or {}).get("lost")):
        return "answer"
    return "look" if call["searched_s"] else "lane again"
