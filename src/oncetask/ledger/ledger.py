"""The ledger's rules over one store."""

import secrets
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from itertools import islice
from typing import Any, NamedTuple

from oncetask.clock import Clock
from oncetask.errors import DamagedRecord
from oncetask.ledger.records import (
    DAMAGED_QUEUE,
    LEASE_KEY,
    ROUTES_KEY,
    RUNNING_QUEUE,
    Event,
    Lane,
    Lease,
    LostCall,
    RouteNames,
    SignedBytes,
    TaskRecord,
    call_key,
    event_key,
    event_queue,
    lane_key,
    task_key,
)
from oncetask.ledger.rows import Kept, Read, Rows, is_newer
from oncetask.ledger.store import Row, Store

NOT_OURS = "newer"
"""The version of a lease, and the call of a task, that only a newer version of this code can read: nothing is
written over it.
"""

RECORDED_WITHIN_S = 60.0
"""A delivery has recorded its events so long after its signed bytes, or never will."""

EXTENDED_EACH_S = 3600
"""Signed bytes that come with their own id again are remembered for longer, at most so often."""

FULL_KNOWN_S = 60.0
"""How late a process may learn that a route is full."""


class Taken(NamedTuple):
    """Lanes that are taken, the keys of those that could not be read, and the names of all queues."""

    lanes: list[Kept[Lane]]
    damaged_keys: list[str]
    queues: tuple[str, ...]


class Waiting(NamedTuple):
    """An open event as the index shows it; `due_s` is the sooner of its next attempt and its end."""

    event_id: str
    due_s: float
    received_s: float


class Ledger:
    """Every method raises LedgerUnavailable where the store cannot be reached, and DamagedRecord where the
    record in question cannot be read.
    """

    def __init__(self, store: Store, clock: Clock) -> None:
        self.store = store
        self.clock = clock
        self._rows = Rows(store, clock)
        self._known_queues: frozenset[str] = frozenset()
        self._full_routes: frozenset[str] = frozenset()
        self._full_known_until_s = 0.0

    # -- events -------------------------------------------------------------------------------

    def record(self, event: Event) -> tuple[Event, bool]:
        """Keep a new event unless its id is bound: the event that has the id, and whether it is this one.

        Where an earlier event of the id is still there, `sequence` goes on from it; one that was closed from
        the start, and tells nothing new, is not kept again. Raises RecordTooLarge.
        """
        # Named before it is filled: a sweep whose routes file lacks the route finds the event all the same.
        if event.waits:
            self._know_queue(event_queue(event.route))
        kept, is_new = self._rows.put_if_free(
            event_key(event.event_id),
            event,
            lambda kept: kept.frees_its_id and (event.waits or kept.told() != event.told()),
            following=lambda new, old: new.model_copy(update={"sequence": old.sequence + 1}),
        )
        return kept.record, is_new

    def event(self, event_id: str) -> Event | None:
        """The event of that id; None where there is none, or it has expired."""
        kept = self._rows.get(event_key(event_id), Event)
        return kept.record if kept else None

    def events(self, event_ids: Iterable[str]) -> list[Event]:
        """Those that exist, in the order given; damaged ones are left out."""
        return self.read_events(event_ids).records

    def read_events(self, event_ids: Iterable[str]) -> Read[Event]:
        """Those that exist, in the order given, and the keys of damaged ones."""
        return self._rows.read([event_key(event_id) for event_id in event_ids], Event)

    def change_event(self, event_id: str, change: Callable[[Event], Event]) -> Event | None:
        """Apply a pure change to the event as it stands now; None where there is none.

        A change that returns its argument writes nothing.
        """
        return self._rows.change(event_key(event_id), Event, change)

    def waiting(self, queue: str, most: int | None = None) -> Iterator[Waiting]:
        """The open events of a queue by when they are due, lazily, from the index alone: it may lag behind
        the records.
        """
        for mark, key in self.store.queued(queue, most):
            due_ms, _, age = mark.partition("|")
            yield Waiting(
                event_id=key.removeprefix("event/"),
                due_s=int(due_ms) / 1000,
                received_s=int(age.partition(".")[0]) / 1000,
            )

    def something_is_due(self, route: str | None) -> bool:
        """Whether an event of the route waits, and its turn has come."""
        return any(
            waiting.due_s <= self.clock.now_s() for waiting in islice(self.waiting(event_queue(route), 1), 1)
        )

    # -- queues -------------------------------------------------------------------------------

    def _know_queue(self, queue: str) -> None:
        """Before the queue's first event, so that a sweep whose routes file lacks the route finds it."""
        if queue in self._known_queues:
            return
        with suppress(DamagedRecord):  # a newer version's: an event is kept all the same
            self._write_queue(queue)
        self._known_queues |= {queue}

    def _write_queue(self, queue: str) -> None:
        mine = RouteNames(queues=(queue,))
        kept, is_new = self._rows.put_if_free(ROUTES_KEY, mine, damaged_is_free=True)
        if not is_new and queue not in kept.record.queues:
            self._rows.change(ROUTES_KEY, RouteNames, lambda names: _with_queue(names, queue))

    def is_full(self, route: str) -> bool:
        """Whether the last sweep found as many open events of the route as it may have, a minute ago."""
        now_s = self.clock.now_s()
        if now_s >= self._full_known_until_s or now_s < self._full_known_until_s - FULL_KNOWN_S:
            self._full_routes = frozenset(self.lease().record.full_routes)
            self._full_known_until_s = now_s + FULL_KNOWN_S
        return route in self._full_routes

    # -- lanes --------------------------------------------------------------------------------

    def take_lane(self, lane: Lane) -> Kept[Lane] | None:
        """Take the type's lane; None where another has it."""
        try:
            kept, is_new = self._rows.put_if_free(lane_key(lane.task_type), lane)
        except DamagedRecord:
            return None  # the sweep mends it
        return kept if is_new else None

    def lane(self, task_type: str) -> Kept[Lane] | None:
        """The type's lane as it stands; None where it is free."""
        return self._rows.get(lane_key(task_type), Lane)

    def taken(self, task_types: Iterable[str]) -> Taken:
        """The lanes of these types that are taken; and every queue that an event was ever recorded in."""
        rows = self.store.get_many([ROUTES_KEY, *map(lane_key, task_types)])
        taken = Taken([], [], ())
        for row in rows:
            if row.key == ROUTES_KEY:
                names = self._rows.readable(row, RouteNames)
                if names is not None:  # else the next event of each process writes it
                    taken = taken._replace(queues=names.queues)
                    self._known_queues |= {*names.queues}
                continue
            lane = self._rows.readable(row, Lane)
            if lane is None:
                taken.damaged_keys.append(row.key)
            else:
                taken.lanes.append(Kept(lane, row.version))
        return taken

    def change_lane(self, kept: Kept[Lane], **update: Any) -> Kept[Lane] | None:  # noqa: ANN401 - its fields
        """The lane with these fields, where it is still as it was read; else None: others took it over."""
        changed = kept.record.model_copy(update=update)
        version = self._rows.put(lane_key(changed.task_type), changed, replacing=kept.version)
        return Kept(changed, version) if version else None

    def release_lane(self, kept: Kept[Lane]) -> None:
        """Give the lane back, where it is still as it was read: the type may be asked for again."""
        self.store.delete(lane_key(kept.record.task_type), version=kept.version)

    # -- calls without an answer --------------------------------------------------------------

    def keep_lost_call(self, lost: LostCall) -> None:
        """Remember a call whose lane will be released without an answer. Done twice, it is the same."""
        self._rows.put_if_free(call_key(lost.call.call_id), lost, damaged_is_free=True)

    def lost_calls(self, call_ids: Iterable[str]) -> Read[LostCall]:
        """Those that exist, in the order given, and the keys of damaged ones."""
        return self._rows.read([call_key(call_id) for call_id in call_ids], LostCall)

    def change_lost_call(self, call_id: str, change: Callable[[LostCall], LostCall]) -> LostCall | None:
        """As `change_event`."""
        return self._rows.change(call_key(call_id), LostCall, change)

    # -- tasks --------------------------------------------------------------------------------

    def claim_task(self, task: TaskRecord) -> TaskRecord:
        """Whose the task is: this record's call, unless another has it already. A mere candidate is anybody's
        whose answer names it. A newer version's record is left alone, and is no call's that we know.
        """
        key = task_key(task.task_id)
        try:
            kept, _ = self._rows.put_if_free(
                key,
                task,
                lambda kept: kept.is_candidate and not task.is_candidate,
                damaged_is_free=True,
            )
        except DamagedRecord:
            return task.model_copy(update={"call_id": NOT_OURS})
        return kept.record

    def task(self, task_id: str) -> TaskRecord | None:
        """The task's record; None where it is no call's of this ledger."""
        kept = self._rows.get(task_key(task_id), TaskRecord)
        return kept.record if kept else None

    def change_task(self, task_id: str, change: Callable[[TaskRecord], TaskRecord]) -> TaskRecord | None:
        """As `change_event`."""
        return self._rows.change(task_key(task_id), TaskRecord, change)

    def running(self) -> tuple[Read[TaskRecord], Read[LostCall]]:
        """Tasks that have not ended, oldest first; and lost calls whose own task may still show."""
        keys = [key for _, key in self.store.queued(RUNNING_QUEUE)]
        if not keys:
            return Read([], []), Read([], [])
        tasks = self._rows.read([key for key in keys if key.startswith("task/")], TaskRecord)
        calls = self._rows.read([key for key in keys if key.startswith("call/")], LostCall)
        return tasks, calls

    # -- the sweep's lease ----------------------------------------------------------------------

    def lease(self) -> Kept[Lease]:
        """The lease as it stands; its version is empty where there is none yet."""
        try:
            return self._rows.get(LEASE_KEY, Lease) or Kept(Lease(), "")
        except DamagedRecord:
            row = self.store.get(LEASE_KEY)
            if row is not None and is_newer(row):
                return Kept(Lease(), NOT_OURS)
            return Kept(Lease(), row.version if row else "")

    def take_lease(self, ends_s: float) -> Kept[Lease] | None:
        """The lease until then; None where another sweep has it. It saves work and is not needed for safety:
        a newer version's is left alone, and the sweep goes on without one.
        """
        kept = self._rows.seen(LEASE_KEY) or self.lease()
        for _ in range(2):  # what was remembered, then what is there
            if kept.record.ends_s > self.clock.now_s():
                taken = None
            else:
                mine = kept.record.model_copy(update={"holder": secrets.token_hex(8), "ends_s": ends_s})
                if kept.version == NOT_OURS:
                    return Kept(mine, NOT_OURS)
                taken = self._rows.put(LEASE_KEY, mine, replacing=kept.version or None)
                if taken is not None:
                    return Kept(mine, taken)
            kept = self.lease()
        return None

    def release_lease(self, kept: Kept[Lease], **update: Any) -> None:  # noqa: ANN401 - its fields
        """The next sweep may begin, and knows this."""
        released = kept.record.model_copy(update={"ends_s": 0.0, **update})
        self._rows.put(LEASE_KEY, released, replacing=kept.version)

    # -- signed bytes -------------------------------------------------------------------------

    def delivery_of_signed_bytes(
        self, route: str, digest: str, delivery_id: str, ends_s: float, is_bound: Callable[[str], bool]
    ) -> str:
        """The delivery id that these signed bytes count for: an earlier one that they came with, as long as
        `is_bound` says so of it, or its events may still be on their way into the ledger; else this one, also
        where only a newer version could tell.
        """
        now_s = self.clock.now_s()
        mine = SignedBytes(delivery_id=delivery_id, since_s=now_s, ends_s=int(ends_s))

        def is_free(kept: SignedBytes) -> bool:
            if kept.delivery_id == delivery_id:
                # The id may be bound anew: its bytes are remembered as long as it is, written once an hour.
                return kept.ends_s + EXTENDED_EACH_S < mine.ends_s
            if kept.since_s + RECORDED_WITHIN_S > now_s:
                return False
            return not is_bound(kept.delivery_id)

        key = _signed_key(route, digest)
        try:
            kept, _ = self._rows.put_if_free(key, mine, is_free, damaged_is_free=True)
        except DamagedRecord:
            return delivery_id
        return kept.record.delivery_id

    # -- damage ---------------------------------------------------------------------------------

    def set_aside(self, key: str) -> bool:
        """Take a damaged open record out of its queue, so that it is met once; whether that was now.

        An operator finds it in a queue of its own. A newer version's record stays where it is.
        """
        row = self.store.get(key)
        if row is None or row.queue in {None, DAMAGED_QUEUE} or is_newer(row):
            return False
        aside = Row(key, secrets.token_hex(8), DAMAGED_QUEUE, key, row.expires_s, row.body)
        return self.store.put(aside, replacing=row.version)

    def is_newer(self, key: str) -> bool:
        """Whether a newer version of this code wrote the record: it is left alone, and reported."""
        row = self.store.get(key)
        return row is not None and is_newer(row)

    def drop_damaged_lane(self, key: str) -> bool:
        """Free a lane whose record cannot be read; whether that was now. A newer version's record stays."""
        row = self.store.get(key)
        if row is None or is_newer(row) or self._rows.readable(row, Lane) is not None:
            return False
        return self.store.delete(key, version=row.version)


def _with_queue(names: RouteNames, queue: str) -> RouteNames:
    if queue in names.queues:
        return names
    return names.model_copy(update={"queues": (*names.queues, queue)})


def _signed_key(route: str, digest: str) -> str:
    return f"signed/{route}/{digest}"
