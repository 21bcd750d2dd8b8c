"""A store in memory whose index may lag, and whose answers may be lost."""

from collections.abc import Iterator, Sequence

from oncetask.errors import LedgerUnavailable
from oncetask.ledger.store import Row
from tests.explorer.scheduler import Scheduler


class ExploredStore:
    """A `Store`. `written`: every row that was ever written, in order; None under its key: deleted.

    It deletes nothing by itself, as DynamoDB may not for days.
    """

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self.rows: dict[str, Row] = {}
        self.written: list[tuple[str, Row | None]] = []

    def get(self, key: str) -> Row | None:
        self._reach("get", key)
        return self.rows.get(key)

    def get_many(self, keys: Sequence[str]) -> list[Row]:
        self._reach("get", " ".join(keys))
        return [self.rows[key] for key in keys if key in self.rows]

    def put(self, row: Row, *, replacing: str | None) -> bool:
        fault = self._reach("put", row.key)
        return _unless_lost(fault, done=self._write(row.key, row, replacing))

    def delete(self, key: str, *, version: str) -> bool:
        fault = self._reach("delete", key)
        return _unless_lost(fault, done=key in self.rows and self._write(key, None, version))

    def queued(self, queue: str, most: int | None = None) -> Iterator[tuple[str, str]]:
        fault = self._reach("queued", queue)
        rows = self.rows.values() if fault is None else self._rows_before(int(fault.removeprefix("lag")))
        found = sorted((str(row.due), row.key) for row in rows if row.queue == queue)
        yield from found[:most]

    def forget_expired(self, now_s: float) -> None:
        """Nothing is deleted: an expired record counts as absent all the same."""

    def close(self) -> None:
        """Nothing is open."""

    def _reach(self, operation: str, what: str) -> str | None:
        fault = self._scheduler.point(operation, what)
        if fault == "refuse":
            raise LedgerUnavailable("out of reach")
        return fault

    def _write(self, key: str, row: Row | None, replacing: str | None) -> bool:
        stored = self.rows.get(key)
        if (stored.version if stored else None) != replacing:
            return False
        self.written.append((key, row))
        if row is None:
            del self.rows[key]
        else:
            self.rows[key] = row
        return True

    def _rows_before(self, writes: int) -> list[Row]:
        """The rows as they were so many writes ago."""
        rows = dict(self.written[: max(0, len(self.written) - writes)])
        return [row for row in rows.values() if row is not None]


def _unless_lost(fault: str | None, *, done: bool) -> bool:
    if fault == "lose":
        raise LedgerUnavailable("the answer was lost")
    return done
