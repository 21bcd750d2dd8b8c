"""Records of a ledger that cannot be read: found, shown as they are, and removed."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from pydantic import ValidationError

from oncetask.app import App
from oncetask.ledger.records import (
    DAMAGED_QUEUE,
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
    event_key,
)
from oncetask.ledger.rows import is_newer
from oncetask.ledger.store import Row
from oncetask.models import Result
from oncetask.submit.submit import damaged

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


class Damaged(NamedTuple):
    """A record that cannot be read, as it stands in the store."""

    row: Row

    @property
    def name(self) -> str:
        """By what a command takes it: an event's id, else the record's key."""
        return self.row.key.removeprefix("event/")

    @property
    def is_newer(self) -> bool:
        """Whether a newer version of oncetask wrote it."""
        return is_newer(self.row)

    @property
    def what_to_do(self) -> str:
        """For a reader."""
        if self.is_newer:
            return "a newer version of oncetask wrote it: use that one; nothing of it is touched"
        return (
            "put the row back from a copy of the table; or, once the logs tell whether it has its task, "
            "remove it with `oncetask ledger give-up ID --yes`: its id is free then"
        )

    def result(self, now_s: float) -> Result:
        """As the sweep reports it."""
        return damaged(self.name, now_s)


def set_aside_keys(app: App) -> Iterator[str]:
    """The keys of what sweeps found damaged and took out of its queue."""
    return (key for _, key in app.ledger.store.queued(DAMAGED_QUEUE))


def found_damaged(app: App, name: str) -> Damaged | None:
    """The damaged record that an event's id, or a key, names; None where there is none."""
    keys = [event_key(name)] + ([name] if name.partition("/")[0] in KINDS else [])
    return next(unreadable(app.ledger.store.get_many(keys)), None)


def unreadable(rows: Iterable[Row]) -> Iterator[Damaged]:
    """Those of the rows that cannot be read."""
    return (Damaged(row) for row in rows if not _can_be_read(row))


def remove(app: App, record: Damaged) -> bool:
    """Delete it, where it is still as it was; never a newer version's."""
    return not record.is_newer and app.ledger.store.delete(record.row.key, version=record.row.version)


def _can_be_read(row: Row) -> bool:
    try:
        KINDS[row.key.partition("/")[0]].model_validate_json(row.body)
    except ValidationError:
        return False
    return True
