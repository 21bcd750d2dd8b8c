"""Records to rows and back: the one conditional write that every step of the protocol is made of."""

import json
import secrets
from collections.abc import Callable, Sequence
from threading import Lock
from typing import Any, NamedTuple

from pydantic import ValidationError

from oncetask.clock import Clock
from oncetask.errors import DamagedRecord, LedgerUnavailable, RecordTooLarge
from oncetask.ledger.records import FORMAT, Record
from oncetask.ledger.store import Row, Store

REMEMBERED = 256
"""How many records a process remembers as it last saw them: two groups of 100, and what is around them."""

REMEMBERED_BYTES = 20_000
"""A longer record is not remembered, so that all of them together stay small."""

WRITE_TRIES = 20
"""How often a change is tried again when another process changed the record in between."""

MOST_RECORD_BYTES = 200_000
"""Half of what DynamoDB takes for an item."""


class Kept[R: Record](NamedTuple):
    """A record as it was read, with the version that a change of it must still meet."""

    record: R
    version: str


class Read[R: Record](NamedTuple):
    """Records, and the keys of those that could not be read."""

    records: list[R]
    damaged_keys: list[str]


class Rows:
    """The rows of one store as records; threads may share it.

    What this process last saw of a record is what a change of it is tried on first, without a read. That is
    safe for any age of it: a version is a row's content, and a write meets the version or writes nothing.
    """

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._seen: dict[str, Kept[Any]] = {}
        self._seeing = Lock()

    def put_if_free[R: Record](
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
        A newer version's record always binds its key, and raises DamagedRecord.
        """
        for _ in range(WRITE_TRIES):
            version = self.put(key, record, replacing=None)
            if version:
                return Kept(record, version), True
            row = self._store.get(key)
            if row is None:  # deleted in between: try to be the first once more
                continue
            kept = self.readable(row, type(record))
            if kept is None and (is_newer(row) or not damaged_is_free):
                raise DamagedRecord(key)
            if kept is not None and not self._has_expired(kept) and not is_free(kept):
                return Kept(kept, row.version), False
            joined = record if kept is None else following(record, kept)
            version = self.put(key, joined, replacing=row.version)
            if version:
                return Kept(joined, version), True
        raise _contended(key)

    def put(self, key: str, record: Record, *, replacing: str | None) -> str | None:
        """Write the record where the stored row has the version `replacing` (None: there is no row): its new
        version; None where another was met. Raises RecordTooLarge.
        """
        version = secrets.token_hex(8)
        body = record.model_dump_json(by_alias=True, exclude_none=True)
        size_bytes = len(body.encode())
        if size_bytes > MOST_RECORD_BYTES:
            raise RecordTooLarge(key)
        queue, due = record.queued() or (None, None)
        row = Row(key, version, queue, due, record.expires_s, body)
        if not self._store.put(row, replacing=replacing):
            return None
        self._remember(key, Kept(record, version), size_bytes)
        return version

    def get[R: Record](self, key: str, kind: type[R]) -> Kept[R] | None:
        """The record as it stands; None where there is none, or it has expired. Raises DamagedRecord."""
        row = self._store.get(key)
        if row is None:
            return None
        record = self.readable(row, kind)
        if record is None:
            raise DamagedRecord(key)
        return None if self._has_expired(record) else Kept(record, row.version)

    def read[R: Record](self, keys: Sequence[str], kind: type[R]) -> Read[R]:
        """Those that exist, in the order of the keys, and the keys of those that could not be read."""
        read = Read[R]([], [])
        for row in self._store.get_many(keys):
            record = self.readable(row, kind)
            if record is None:
                read.damaged_keys.append(row.key)
            elif not self._has_expired(record):
                read.records.append(record)
        return read

    def change[R: Record](self, key: str, kind: type[R], change: Callable[[R], R]) -> R | None:
        """Apply a pure change to the record as it stands now; None where there is none. Raises DamagedRecord.

        A change that returns its argument writes nothing.
        """
        # First on what was seen last, without a read: safe of any age, since the write meets its version.
        seen = self._seen.get(key)
        if seen is not None and not self._has_expired(seen.record):
            changed = change(seen.record)
            if changed is not seen.record and self.put(key, changed, replacing=seen.version):
                return changed
        for _ in range(WRITE_TRIES):
            kept = self.get(key, kind)
            if kept is None:
                return None
            changed = change(kept.record)
            if changed is kept.record or self.put(key, changed, replacing=kept.version):
                return changed
        raise _contended(key)

    def readable[R: Record](self, row: Row, kind: type[R]) -> R | None:
        """The row's record; None where it is damaged, or a newer version's."""
        seen: Kept[R] | None = self._seen.get(row.key)
        if seen is not None and seen.version == row.version:
            return seen.record
        try:
            record = kind.model_validate_json(row.body)
        except ValidationError:
            return None
        self._remember(row.key, Kept(record, row.version), len(row.body))
        return record

    def seen(self, key: str) -> Kept[Any] | None:
        """The record as this process last saw it; others may have changed it since."""
        return self._seen.get(key)

    def _remember(self, key: str, kept: Kept[Any], size_bytes: int) -> None:
        with self._seeing:
            self._seen.pop(key, None)
            if size_bytes <= REMEMBERED_BYTES:
                self._seen[key] = kept
            if len(self._seen) > REMEMBERED:
                del self._seen[next(iter(self._seen))]

    def _has_expired(self, record: Record) -> bool:
        return record.expires_s is not None and record.expires_s <= self._clock.now_s()


def is_newer(row: Row) -> bool:
    """Whether a newer version of this code wrote it."""
    try:
        document = json.loads(row.body)
    except (ValueError, RecursionError):
        return False
    found = document.get("format") if isinstance(document, dict) else None
    return isinstance(found, int) and found > FORMAT


def _contended(key: str) -> LedgerUnavailable:
    return LedgerUnavailable(f"the ledger's record {key} changes faster than it can be written; try again")
