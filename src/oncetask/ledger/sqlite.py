"""The ledger's rows in SQLite: in memory for one process, or in one file for several.

A file is in WAL mode with `synchronous = NORMAL`: what is recorded outlives the death of any
process; only the machine's own power failing within the last moments may take it back
(https://sqlite.org/pragma.html#pragma_synchronous).
"""

import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from oncetask.errors import LedgerUnavailable
from oncetask.ledger.store import Row

BUSY_TIMEOUT_S = 5.0
PAGE_ROWS = 500

SCHEMA = """
CREATE TABLE IF NOT EXISTS ledger (
    key TEXT PRIMARY KEY,
    version TEXT NOT NULL,
    queue TEXT,
    due TEXT,
    expires_s INTEGER,
    body TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS ledger_queue ON ledger (queue, due, key) WHERE queue IS NOT NULL;
CREATE INDEX IF NOT EXISTS ledger_expires ON ledger (expires_s) WHERE expires_s IS NOT NULL;
"""


class SqlStore:
    """A `Store` in SQLite. One connection, shared by the process's threads one at a time."""

    def __init__(self, path: Path | None = None) -> None:
        """Open, and make, the file; None: memory. Raises LedgerUnavailable."""
        self._lock = threading.RLock()
        with self._available():
            self._connection = sqlite3.connect(
                ":memory:" if path is None else path,
                timeout=BUSY_TIMEOUT_S,
                isolation_level=None,
                check_same_thread=False,
            )
            if path is not None:
                self._use_wal()
            self._connection.executescript(SCHEMA)

    def get(self, key: str) -> Row | None:
        found = self._rows("SELECT key, version, queue, due, expires_s, body FROM ledger WHERE key = ?", key)
        return Row(*found[0]) if found else None

    def get_many(self, keys: Sequence[str]) -> list[Row]:
        return [row for key in keys if (row := self.get(key)) is not None]

    def put(self, row: Row, *, replacing: str | None) -> bool:
        if replacing is None:
            return self._changes(
                "INSERT INTO ledger VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
                *row,
            )
        return self._changes(
            "UPDATE ledger SET version = ?, queue = ?, due = ?, expires_s = ?, body = ?"
            " WHERE key = ? AND version = ?",
            *row[1:],
            row.key,
            replacing,
        )

    def delete(self, key: str, *, version: str) -> bool:
        return self._changes("DELETE FROM ledger WHERE key = ? AND version = ?", key, version)

    def queued(self, queue: str, most: int | None = None) -> Iterator[tuple[str, str]]:
        """Read in pages, so that no read stays open while its reader writes."""
        after = ("", "")
        page_rows = min(most or PAGE_ROWS, PAGE_ROWS)
        while True:
            page = self._rows(
                "SELECT due, key FROM ledger WHERE queue = ? AND (due, key) > (?, ?)"
                " ORDER BY due, key LIMIT ?",
                *(queue, *after, page_rows),
            )
            yield from page
            if len(page) < page_rows:
                return
            after = page[-1]

    def rows(self, prefix: str) -> Iterator[Row]:
        """Read in pages, by key, so that no read stays open while its reader writes."""
        after = ""
        while True:
            page = self._rows(
                "SELECT key, version, queue, due, expires_s, body FROM ledger"
                " WHERE key > ? AND substr(key, 1, ?) = ? ORDER BY key LIMIT ?",
                *(after, len(prefix), prefix, PAGE_ROWS),
            )
            yield from (Row(*values) for values in page)
            if len(page) < PAGE_ROWS:
                return
            after = page[-1][0]

    def forget_expired(self, now_s: float) -> None:
        self._changes("DELETE FROM ledger WHERE expires_s <= ?", int(now_s))

    def close(self) -> None:
        with self._lock:
            self._connection.close()

    def _rows(self, statement: str, *values: object) -> list[Any]:
        with self._available():
            return self._connection.execute(statement, values).fetchall()

    def _changes(self, statement: str, *values: object) -> bool:
        with self._available():
            return self._connection.execute(statement, values).rowcount > 0

    def _use_wal(self) -> None:
        """Switch to WAL; the switch itself ignores the busy time-out when several processes start at once."""
        for _ in range(int(BUSY_TIMEOUT_S / 0.05)):
            try:
                self._connection.execute("PRAGMA journal_mode = WAL")
            except sqlite3.OperationalError:
                time.sleep(0.05)
            else:
                break
        self._connection.execute("PRAGMA synchronous = NORMAL")

    @contextmanager
    def _available(self) -> Iterator[None]:
        with self._lock:
            try:
                yield
            except sqlite3.Error as error:
                name = getattr(error, "sqlite_errorname", type(error).__name__)
                raise LedgerUnavailable(
                    f"the SQLite ledger cannot be used ({name}); check ONCETASK_LEDGER and the file's folder"
                ) from error
