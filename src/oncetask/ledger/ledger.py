"""The ledger's rules over one store."""

import json
import secrets
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from threading import Lock
from typing import Any, NamedTuple

from pydantic import ValidationError

from oncetask.clock import Clock
from oncetask.errors import DamagedRecord, LedgerUnavailable, RecordTooLarge
from oncetask.ledger.records import (
    DAMAGED_QUEUE,
    FORMAT,
    LEASE_KEY,
    ROUTES_KEY,
    RUNNING_QUEUE,
    Event,
    Lane,
    Lease,
    LostCall,
    Record,
    RouteNames,
    SignedBytes,
    TaskRecord,
    call_key,
    event_key,
    event_queue,
    lane_key,
    task_key,
)
from oncetask.ledger.store import Row, Store

REMEMBERED = 256
"""How many records a process remembers as it last saw them: two groups of 100, and what is around them."""

REMEMBERED_BYTES = 20_000
"""A longer record is not remembered, so that all of them together stay small."""

WRITE_TRIES = 20
"""How often a change is tried again when another process changed the record in between."""

MOST_RECORD_BYTES = 200_000
"""Half of what DynamoDB takes for an item."""

FULL_KNOWN_S = 60.0
"""How late a process may learn that a route is full."""


class Kept[R: Record](NamedTuple):
    """A record as it was read, with the version that a change of it must still meet."""

    record: R
    version: str


class Read[R: Record](NamedTuple):
    """Records, and the keys of those that could not be read."""

    records: list[R]
    damaged_keys: list[str]


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

    What this process last saw of a record is what a change of it is tried on first, without a read. That is
    safe for any age of it: a version is a row's content, and a write meets the version or writes nothing.
    """

    def __init__(self, store: Store, clock: Clock) -> None:
        self.store = store
        self.clock = clock
        self._seen: dict[str, Kept[Any]] = {}
        self._seeing = Lock()
        self._known_queues: frozenset[str] = frozenset()
        self._full_routes: frozenset[str] = frozenset()
        self._full_known_until_s = 0.0

    # -- events -------------------------------------------------------------------------------

    def record(self, event: Event) -> tuple[Event, bool]:
        """Keep a new event unless its id is bound: the event that has the id, and whether it is this one.

        Where an earlier event of the id is still there, `sequence` goes on from it. Raises RecordTooLarge.
        """
        self._know_queue(event_queue(event.route))
        kept, is_new = self._put_if_free(
            event_key(event.event_id),
            event,
            lambda kept: kept.frees_its_id,
            following=lambda new, old: new.model_copy(update={"sequence": old.sequence + 1}),
        )
        return kept.record, is_new

    def event(self, event_id: str) -> Event | None:
        """The event of that id; None where there is none, or it has expired."""
        kept = self._get(event_key(event_id), Event)
        return kept.record if kept else None

    def events(self, event_ids: Iterable[str]) -> list[Event]:
        """Those that exist, in the order given; damaged ones are left out."""
        return self.read_events(event_ids).records

    def read_events(self, event_ids: Iterable[str]) -> Read[Event]:
        """Those that exist, in the order given, and the keys of damaged ones."""
        return self._read([event_key(event_id) for event_id in event_ids], Event)

    def change_event(self, event_id: str, change: Callable[[Event], Event]) -> Event | None:
        """Apply a pure change to the event as it stands now; None where there is none.

        A change that returns its argument writes nothing.
        """
        return self._change(event_key(event_id), Event, change)

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
        mine = RouteNames(queues=(queue,))
        kept, is_new = self._put_if_free(ROUTES_KEY, mine, damaged_is_free=True)
        if not is_new and queue not in kept.record.queues:
            self._change(
                ROUTES_KEY,
                RouteNames,
                lambda names: (
                    names
                    if queue in names.queues
                    else names.model_copy(update={"queues": (*names.queues, queue)})
                ),
            )
        self._known_queues |= {queue}

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
            kept, is_new = self._put_if_free(lane_key(lane.task_type), lane)
        except DamagedRecord:
            return None  # the sweep mends it
        return kept if is_new else None

    def lane(self, task_type: str) -> Kept[Lane] | None:
        """The type's lane as it stands; None where it is free."""
        return self._get(lane_key(task_type), Lane)

    def taken(self, task_types: Iterable[str]) -> Taken:
        """The lanes of these types that are taken; and every queue that an event was ever recorded in."""
        rows = self.store.get_many([ROUTES_KEY, *map(lane_key, task_types)])
        taken = Taken([], [], ())
        for row in rows:
            if row.key == ROUTES_KEY:
                names = self._readable(
                    row, RouteNames
                )  # unreadable: the next event of each process writes it
                taken = taken._replace(queues=names.queues if names else ())
                continue
            lane = self._readable(row, Lane)
            if lane is None:
                taken.damaged_keys.append(row.key)
            else:
                taken.lanes.append(Kept(lane, row.version))
        return taken

    def change_lane(self, kept: Kept[Lane], **update: Any) -> Kept[Lane] | None:  # noqa: ANN401 - its fields
        """The lane with these fields, where it is still as it was read; else None: others took it over."""
        changed = kept.record.model_copy(update=update)
        version = self._put(lane_key(changed.task_type), changed, replacing=kept.version)
        return Kept(changed, version) if version else None

    def release_lane(self, kept: Kept[Lane]) -> None:
        """Give the lane back, where it is still as it was read: the type may be asked for again."""
        self.store.delete(lane_key(kept.record.task_type), version=kept.version)

    # -- calls without an answer --------------------------------------------------------------

    def keep_lost_call(self, lost: LostCall) -> None:
        """Remember a call whose lane will be released without an answer. Done twice, it is the same."""
        self._put_if_free(call_key(lost.call.call_id), lost, damaged_is_free=True)

    def lost_calls(self, call_ids: Iterable[str]) -> list[LostCall]:
        """Those that exist and can be read, in the order given."""
        return self._read([call_key(call_id) for call_id in call_ids], LostCall).records

    def change_lost_call(self, call_id: str, change: Callable[[LostCall], LostCall]) -> LostCall | None:
        """As `change_event`."""
        return self._change(call_key(call_id), LostCall, change)

    # -- tasks --------------------------------------------------------------------------------

    def claim_task(self, task: TaskRecord) -> TaskRecord:
        """Whose the task is: this record's call, unless another has it already. A mere candidate is anybody's
        whose answer names it.
        """
        key = task_key(task.task_id)
        kept, _ = self._put_if_free(
            key,
            task,
            lambda kept: kept.is_candidate and not task.is_candidate,
            damaged_is_free=True,
        )
        return kept.record

    def task(self, task_id: str) -> TaskRecord | None:
        """The task's record; None where it is no call's of this ledger."""
        kept = self._get(task_key(task_id), TaskRecord)
        return kept.record if kept else None

    def change_task(self, task_id: str, change: Callable[[TaskRecord], TaskRecord]) -> TaskRecord | None:
        """As `change_event`."""
        return self._change(task_key(task_id), TaskRecord, change)

    def running(self) -> tuple[Read[TaskRecord], Read[LostCall]]:
        """Tasks that have not ended, oldest first; and lost calls whose own task may still show."""
        keys = [key for _, key in self.store.queued(RUNNING_QUEUE)]
        if not keys:
            return Read([], []), Read([], [])
        tasks = self._read([key for key in keys if key.startswith("task/")], TaskRecord)
        calls = self._read([key for key in keys if key.startswith("call/")], LostCall)
        return tasks, calls

    # -- the sweep's lease ----------------------------------------------------------------------

    def lease(self) -> Kept[Lease]:
        """The lease as it stands; its version is empty where there is none yet."""
        try:
            return self._get(LEASE_KEY, Lease) or Kept(Lease(), "")
        except DamagedRecord:
            row = self.store.get(LEASE_KEY)
            return Kept(Lease(), row.version if row else "")

    def take_lease(self, ends_s: float) -> Kept[Lease] | None:
        """The lease until then; None where another sweep has it."""
        kept = self._seen.get(LEASE_KEY) or self.lease()
        for _ in range(2):  # what was remembered, then what is there
            if kept.record.ends_s > self.clock.now_s():
                taken = None
            else:
                mine = kept.record.model_copy(update={"holder": secrets.token_hex(8), "ends_s": ends_s})
                taken = self._put(LEASE_KEY, mine, replacing=kept.version or None)
                if taken is not None:
                    return Kept(mine, taken)
            kept = self.lease()
        return None

    def release_lease(self, kept: Kept[Lease], **update: Any) -> None:  # noqa: ANN401 - its fields
        """The next sweep may begin, and knows this."""
        released = kept.record.model_copy(update={"ends_s": 0.0, **update})
        self._put(LEASE_KEY, released, replacing=kept.version)

    # -- signed bytes -------------------------------------------------------------------------

    def delivery_of_signed_bytes(self, route: str, digest: str, delivery_id: str, ends_s: float) -> str:
        """The delivery id that these signed bytes came with before; this one if they are new."""
        mine = SignedBytes(delivery_id=delivery_id, ends_s=int(ends_s))
        return self._put_if_free(_signed_key(route, digest), mine, damaged_is_free=True)[0].record.delivery_id

    def forget_signed_bytes(self, route: str, digest: str, delivery_id: str, instead: str) -> None:
        """No event of that delivery is bound any more: from now on the bytes came with this one."""
        self._change(
            _signed_key(route, digest),
            SignedBytes,
            lambda kept: (
                kept.model_copy(update={"delivery_id": instead}) if kept.delivery_id == delivery_id else kept
            ),
        )

    # -- damage ---------------------------------------------------------------------------------

    def set_aside(self, key: str) -> bool:
        """Take a damaged open record out of its queue, so that it is met once; whether that was now.

        An operator finds it in a queue of its own. A newer version's record stays where it is.
        """
        row = self.store.get(key)
        if row is None or row.queue in {None, DAMAGED_QUEUE} or _is_newer(row):
            return False
        aside = Row(key, secrets.token_hex(8), DAMAGED_QUEUE, key, row.expires_s, row.body)
        return self.store.put(aside, replacing=row.version)

    def drop_damaged_lane(self, key: str) -> bool:
        """Free a lane whose record cannot be read; whether that was now. A newer version's record stays."""
        row = self.store.get(key)
        if row is None or _is_newer(row) or self._readable(row, Lane) is not None:
            return False
        return self.store.delete(key, version=row.version)

    def _read[R: Record](self, keys: Sequence[str], kind: type[R]) -> Read[R]:
        read = Read[R]([], [])
        for row in self.store.get_many(keys):
            record = self._readable(row, kind)
            if record is None:
                read.damaged_keys.append(row.key)
            elif not self._has_expired(record):
                read.records.append(record)
        return read

    # -- the one conditional write ------------------------------------------------------------

    def _put_if_free[R: Record](
        self,
        key: str,
        record: R,
        is_free: Callable[[R], bool] = lambda _: False,
        *,
        following: Callable[[R, R], R] = lambda new, _: new,
        damaged_is_free: bool = False,
    ) -> tuple[Kept[R], bool]:
        """Keep the record unless the key is bound: what is kept, and whether it is this one.

        The one primitive that carries idempotency, lanes and tasks. A key is free where there is no
        record, where it has expired, or where `is_free` says so of it; `following` goes on from such a one.
        """
        for _ in range(WRITE_TRIES):
            version = self._put(key, record, replacing=None)
            if version:
                return Kept(record, version), True
            row = self.store.get(key)
            if row is None:
                continue
            kept = self._readable(row, type(record))
            if kept is None and (_is_newer(row) or not damaged_is_free):
                raise DamagedRecord(key)
            if kept is not None and not self._has_expired(kept) and not is_free(kept):
                return Kept(kept, row.version), False
            joined = record if kept is None else following(record, kept)
            version = self._put(key, joined, replacing=row.version)
            if version:
                return Kept(joined, version), True
        raise _contended(key)

    def _put(self, key: str, record: Record, *, replacing: str | None) -> str | None:
        version = secrets.token_hex(8)
        body = record.model_dump_json(by_alias=True, exclude_none=True)
        size_bytes = len(body.encode())
        if size_bytes > MOST_RECORD_BYTES:
            raise RecordTooLarge(key)
        queue, due = record.queued() or (None, None)
        row = Row(key, version, queue, due, record.expires_s, body)
        if not self.store.put(row, replacing=replacing):
            return None
        self._remember(key, Kept(record, version), size_bytes)
        return version

    def _get[R: Record](self, key: str, kind: type[R]) -> Kept[R] | None:
        row = self.store.get(key)
        if row is None:
            return None
        record = self._readable(row, kind)
        if record is None:
            raise DamagedRecord(key)
        return None if self._has_expired(record) else Kept(record, row.version)

    def _change[R: Record](self, key: str, kind: type[R], change: Callable[[R], R]) -> R | None:
        seen = self._seen.get(key)
        if seen is not None and not self._has_expired(seen.record):
            changed = change(seen.record)
            if changed is not seen.record and self._put(key, changed, replacing=seen.version):
                return changed
        for _ in range(WRITE_TRIES):
            kept = self._get(key, kind)
            if kept is None:
                return None
            changed = change(kept.record)
            if changed is kept.record or self._put(key, changed, replacing=kept.version):
                return changed
        raise _contended(key)

    def _readable[R: Record](self, row: Row, kind: type[R]) -> R | None:
        seen: Kept[R] | None = self._seen.get(row.key)
        if seen is not None and seen.version == row.version:
            return seen.record
        try:
            record = kind.model_validate_json(row.body)
        except ValidationError:
            return None
        self._remember(row.key, Kept(record, row.version), len(row.body))
        return record

    def _remember(self, key: str, kept: "Kept[Any]", size_bytes: int) -> None:
        with self._seeing:
            self._seen.pop(key, None)
            if size_bytes <= REMEMBERED_BYTES:
                self._seen[key] = kept
            if len(self._seen) > REMEMBERED:
                del self._seen[next(iter(self._seen))]

    def _has_expired(self, record: Record) -> bool:
        return record.expires_s is not None and record.expires_s <= self.clock.now_s()


def _signed_key(route: str, digest: str) -> str:
    return f"signed/{route}/{digest}"


def _is_newer(row: Row) -> bool:
    """Whether a newer version of this code wrote it."""
    try:
        document = json.loads(row.body)
    except (ValueError, RecursionError):
        return False
    found = document.get("format") if isinstance(document, dict) else None
    return isinstance(found, int) and found > FORMAT


def _contended(key: str) -> LedgerUnavailable:
    return LedgerUnavailable(f"the ledger's record {key} changes faster than it can be written; try again")
