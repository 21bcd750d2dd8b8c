"""Records that cannot be read: set aside where they were open, so that they are met once and stop nothing,
and kept in a queue of their own until an operator removes them or puts them right.
"""

import json
import secrets
from collections.abc import Iterator

from pydantic import ValidationError

from oncetask.ledger.records import (
    FORMAT,
    LEASE_KEY,
    ROUTES_KEY,
    Event,
    Lane,
    Lease,
    LostCall,
    Record,
    RouteNames,
    SignedBytes,
    TaskRecord,
)
from oncetask.ledger.store import Row, Store

DAMAGED_QUEUE = "damaged"
"""No route's and not what runs: nothing that is read in a sweep."""

KINDS: dict[str, type[Record]] = {
    "event": Event,
    "lane": Lane,
    "call": LostCall,
    "task": TaskRecord,
    "signed": SignedBytes,
    LEASE_KEY.partition("/")[0]: Lease,
    ROUTES_KEY.partition("/")[0]: RouteNames,
}
"""What stands under a key, by the key's first word."""


def is_newer(row: Row) -> bool:
    """Whether a newer version of this code wrote it."""
    try:
        document = json.loads(row.body)
    except (ValueError, RecursionError):
        return False
    found = document.get("format") if isinstance(document, dict) else None
    return isinstance(found, int) and found > FORMAT


def can_be_read(row: Row) -> bool:
    """Whether the row is a record of the kind that its key says."""
    kind = KINDS.get(row.key.partition("/")[0])
    if kind is None:
        return False
    try:
        kind.model_validate_json(row.body)
    except ValidationError:
        return False
    return True


def set_aside(store: Store, key: str) -> bool:
    """Take an open record that cannot be read out of its queue; whether that was now.

    A newer version's record stays where it is.
    """
    row = store.get(key)
    if row is None or row.queue in {None, DAMAGED_QUEUE} or is_newer(row):
        return False
    aside = Row(key, secrets.token_hex(8), DAMAGED_QUEUE, key, row.expires_s, row.body)
    return store.put(aside, replacing=row.version)


def set_aside_keys(store: Store) -> Iterator[str]:
    """The keys of what was set aside, and is still there."""
    return (key for _, key in store.queued(DAMAGED_QUEUE))


def damaged_row(store: Store, key: str) -> Row | None:
    """The row under that key, where it is there and cannot be read."""
    row = store.get(key)
    return None if row is None or can_be_read(row) else row


def remove(store: Store, row: Row) -> bool:
    """Delete a row that cannot be read, where it is still as it was; never a newer version's."""
    return not is_newer(row) and not can_be_read(row) and store.delete(row.key, version=row.version)
