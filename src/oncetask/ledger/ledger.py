"""The ledger's rules over one store."""

import secrets
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from threading import Lock
from typing import Any, NamedTuple

from pydantic import ValidationError

from oncetask.clock import Clock
from oncetask.errors import DamagedRecord, LedgerUnavailable
from oncetask.ledger.records import (
    LEASE_KEY,
    Ask,
    Event,
    Lease,
    Place,
    Record,
    Signature,
    TaskOwner,
    ask_key,
    event_key,
    place_key,
    task_key,
)
from oncetask.ledger.store import Row, Store

REMEMBERED = 256
"""How many records a process remembers as it last saw them: two groups of 100, and what is around them."""

WRITE_TRIES = 20
"""How often a change is tried anew when another process changed the record in between."""


class Kept[R: Record](NamedTuple):
    """A record as it was read, with the version that a change of it must still meet."""

    record: R
    version: str


class Read[R: Record](NamedTuple):
    """Open records, and the keys of those that cannot be read."""

    records: list[R]
    damaged_keys: list[str]


class Waiting(NamedTuple):
    """An open event as the index shows it; `due_s` is None where it is `unknown`."""

    event_id: str
    task_type: str
    received_s: float
    due_s: float | None


class Ledger:
    """The rules over one store. Every method raises LedgerUnavailable where the store cannot be reached,
    and DamagedRecord where the record in question cannot be read.

    What this process last saw of a record is what a change of it is tried on first, without a read. That is
    safe for any age of it: a version is a row's content, and a write meets the version or writes nothing.
    """

    def __init__(self, store: Store, clock: Clock) -> None:
        self.store = store
        self.clock = clock
        self._seen: dict[str, Kept[Any]] = {}
        self._seeing = Lock()

    # -- events -------------------------------------------------------------------------------

    def record(self, event: Event) -> tuple[Event, bool]:
        """Keep a new event unless its id is bound: the event that has the id, and whether it is this one."""
        kept, is_new = self._put_if_free(event_key(event.event_id), event, lambda kept: kept.frees_its_id)
        return kept.record, is_new

    def event(self, event_id: str) -> Event | None:
        """The event of that id; None where there is none, or it has expired."""
        kept = self._get(event_key(event_id), Event)
        return kept.record if kept else None

    def events(self, event_ids: Iterable[str]) -> list[Event]:
        """Those that exist, in the order given; damaged ones are left out."""
        rows = self.store.get_many([event_key(event_id) for event_id in event_ids])
        found = (self._readable(row, Event) for row in rows)
        return [event for event in found if event is not None and not self._has_expired(event)]

    def oldest_open_events(self, most: int) -> Read[Event]:
        """The oldest events that are pending or unknown, at most so many."""
        return self._read([key for _, key in islice(self.store.open_keys("event"), most)], Event)

    def change_event(self, event_id: str, change: Callable[[Event], Event]) -> Event | None:
        """Apply a pure change to the event as it stands now; None where there is none.

        A change that returns its argument writes nothing.
        """
        return self._change(event_key(event_id), Event, change)

    def waiting(self) -> Iterator[Waiting]:
        """Every open event, oldest first, lazily, from the index alone: it may lag behind the records."""
        for mark, key in self.store.open_keys("event"):
            age, task_type, due_ms = mark.split("|")
            yield Waiting(
                event_id=key.removeprefix("event/"),
                task_type=task_type,
                received_s=float(age.split(".")[0]) / 1000,
                due_s=int(due_ms) / 1000 if due_ms else None,
            )

    # -- the place of a task type -------------------------------------------------------------

    def take_place(self, place: Place) -> Kept[Place] | None:
        """Take the type's place; None where another ask has it.

        A place whose claim has ended although its ask was never recorded is free: whoever held it
        asks nothing after that moment.
        """
        try:
            kept, is_new = self._put_if_free(place_key(place.task_type), place, self._is_abandoned)
        except DamagedRecord:
            return None  # the sweep mends it
        return kept if is_new else None

    def _is_abandoned(self, place: Place) -> bool:
        return place.claim_ends_s <= self.clock.now_s() and self.ask(place.ask_id) is None

    def place_is_taken(self, task_type: str) -> bool:
        """Whether an ask of the type may be in flight or unresolved."""
        return self.store.get(place_key(task_type)) is not None

    def place_names(self, ask: Ask) -> bool:
        """Whether the ask has its type's place; also where nobody can read who has it."""
        row = self.store.get(place_key(ask.request.task_type))
        place = self._readable(row, Place) if row else None
        return row is not None and (place is None or place.ask_id == ask.ask_id)

    def give_place_back(self, place: Kept[Place]) -> None:
        """The ask is resolved and its events are settled: the type may be asked for again."""
        self.store.delete(place_key(place.record.task_type), version=place.version)

    def places(self) -> list[Kept[Place]]:
        """Every place that is taken and can be read."""
        rows = self.store.get_many([key for _, key in self.store.open_keys("place")])
        places = ((row, self._readable(row, Place)) for row in rows)
        return [Kept(place, row.version) for row, place in places if place]

    def mend_places(self) -> list[str]:
        """Make places that cannot be read anew, from what their type still asks; their keys."""
        rows = self.store.get_many([key for _, key in self.store.open_keys("place")])
        damaged = [row for row in rows if self._readable(row, Place) is None]
        for row in damaged:
            self._put(row.key, self._place_of_what_is_asked(row), replacing=row.version)
        return [row.key for row in damaged]

    def _place_of_what_is_asked(self, row: Row) -> Place:
        task_type = row.key.removeprefix("place/")
        asks = (ask for ask in self.open_asks().records if ask.unresolved)
        ask_id = next((ask.ask_id for ask in asks if ask.request.task_type == task_type), "none")
        return Place(task_type=task_type, ask_id=ask_id, claim_ends_s=0)

    # -- asks ---------------------------------------------------------------------------------

    def record_ask(self, ask: Ask) -> None:
        """Keep what is about to be sent."""
        if not self._put(ask_key(ask.ask_id), ask, replacing=None):
            raise _contended(ask_key(ask.ask_id))

    def ask(self, ask_id: str) -> Ask | None:
        """The ask of that id; None where there is none, or it has expired."""
        kept = self._get(ask_key(ask_id), Ask)
        return kept.record if kept else None

    def change_ask(self, ask_id: str, change: Callable[[Ask], Ask]) -> Ask | None:
        """As `change_event`."""
        return self._change(ask_key(ask_id), Ask, change)

    def open_asks(self) -> Read[Ask]:
        """Unresolved asks, and those whose task runs or is watched for, oldest first."""
        return self._read([key for _, key in self.store.open_keys("ask")], Ask)

    # -- tasks --------------------------------------------------------------------------------

    def own_task(self, task_id: str, ask_id: str) -> TaskOwner:
        """Whose the task is: this ask's, unless another ask has it already."""
        mine = TaskOwner(task_id=task_id, ask_id=ask_id, since_s=self.clock.now_s())
        return self._put_if_free(task_key(task_id), mine, damaged_is_free=True)[0].record

    def task_owner(self, task_id: str) -> TaskOwner | None:
        """Whose the task is; None where it is no ask's of this ledger."""
        kept = self._get(task_key(task_id), TaskOwner)
        return kept.record if kept else None

    # -- the sweep's lease ----------------------------------------------------------------------

    def take_lease(self, ends_s: int) -> Kept[Lease] | None:
        """The lease until then; None where another sweep has it."""
        lease = Lease(holder=secrets.token_hex(8), ends_s=ends_s)
        kept, is_new = self._put_if_free(LEASE_KEY, lease, damaged_is_free=True)
        return kept if is_new else None

    def give_lease_back(self, lease: Kept[Lease]) -> None:
        """The next sweep may begin."""
        self.store.delete(LEASE_KEY, version=lease.version)

    # -- signatures ---------------------------------------------------------------------------

    def first_delivery(self, route: str, signature_sha256: str, delivery_id: str, keep_s: int) -> str:
        """The delivery id that this signature first came with, within `keep_s`; this one if it is new."""
        key = f"signature/{route}/{signature_sha256}"
        mine = Signature(delivery_id=delivery_id, ends_s=int(self.clock.now_s()) + keep_s)
        return self._put_if_free(key, mine, damaged_is_free=True)[0].record.delivery_id

    # -- damage ---------------------------------------------------------------------------------

    def set_aside(self, key: str) -> bool:
        """Take a damaged record out of the index, so that it is met once; whether that was now."""
        row = self.store.get(key)
        if row is None or row.open is None:
            return False
        closed = Row(key, secrets.token_hex(8), None, row.expires_s, row.body)
        return self.store.put(closed, replacing=row.version)

    def _read[R: Record](self, keys: Sequence[str], kind: type[R]) -> Read[R]:
        read = Read[R]([], [])
        for row in self.store.get_many(keys):
            record = self._readable(row, kind)
            if record is None:
                read.damaged_keys.append(row.key)
            elif record.row_open() is not None:
                read.records.append(record)
        return read

    # -- the one conditional write ------------------------------------------------------------

    def _put_if_free[R: Record](
        self,
        key: str,
        record: R,
        is_free: Callable[[R], bool] = lambda _: False,
        *,
        damaged_is_free: bool = False,
    ) -> tuple[Kept[R], bool]:
        """Keep the record unless the key is bound: what is kept, and whether it is this one.

        The one primitive that carries idempotency, places, owners and the lease. A key is free where
        there is no record, where it has expired, or where `is_free` says so of it.
        """
        for _ in range(WRITE_TRIES):
            version = self._put(key, record, replacing=None)
            if version:
                return Kept(record, version), True
            row = self.store.get(key)
            if row is None:
                continue
            kept = self._readable(row, type(record))
            if kept is None and not damaged_is_free:
                raise DamagedRecord(key)
            if kept is not None and not self._has_expired(kept) and not is_free(kept):
                return Kept(kept, row.version), False
            version = self._put(key, record, replacing=row.version)
            if version:
                return Kept(record, version), True
        raise _contended(key)

    def _put(self, key: str, record: Record, *, replacing: str | None) -> str | None:
        version = secrets.token_hex(8)
        row = Row(
            key,
            version,
            record.row_open(),
            record.expires_s,
            record.model_dump_json(by_alias=True, exclude_none=True),
        )
        if not self.store.put(row, replacing=replacing):
            return None
        self._remember(key, Kept(record, version))
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
        self._remember(row.key, Kept(record, row.version))
        return record

    def _remember(self, key: str, kept: "Kept[Any]") -> None:
        with self._seeing:
            self._seen.pop(key, None)
            self._seen[key] = kept
            if len(self._seen) > REMEMBERED:
                del self._seen[next(iter(self._seen))]

    def _has_expired(self, record: Record) -> bool:
        return record.expires_s is not None and record.expires_s <= self.clock.now_s()


def _contended(key: str) -> LedgerUnavailable:
    return LedgerUnavailable(f"the ledger's record {key} changes faster than it can be written; try again")
