"""Where the ledger's rows are kept, and what every store promises."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol


class Row(NamedTuple):
    """One stored record. `key` is `{kind}/{name}`; `version` changes with every write.

    An open record stands in a `queue`, ordered by `due`; both are None where it is closed, and then it is
    not in the index. `expires_s` (epoch seconds): the store may delete it after that.
    """

    key: str
    version: str
    queue: str | None
    due: str | None
    expires_s: int | None
    body: str


class Store(Protocol):
    """Where rows are kept. Every method raises LedgerUnavailable where the store cannot be reached."""

    def get(self, key: str) -> Row | None:
        """The row as last written, strongly consistent; rows past `expires_s` may still be there."""

    def get_many(self, keys: Sequence[str]) -> list[Row]:
        """The rows that exist, in the order of the keys; otherwise as `get`."""

    def put(self, row: Row, *, replacing: str | None) -> bool:
        """Write if the stored row has the version `replacing` (None: there is no row); else False.

        A retried write that meets its own version has succeeded.
        """

    def delete(self, key: str, *, version: str) -> bool:
        """Delete if the stored row has this version; else False. A row already gone is False."""

    def queued(self, queue: str, most: int | None = None) -> Iterator[tuple[str, str]]:
        """`(due, key)` of the rows in a queue, by `due`, read page by page as they are wanted; may lag behind
        writes. `most`: no more than so many are wanted.
        """

    def rows(self, prefix: str) -> Iterator[Row]:
        """The rows whose keys begin so, in any order, page by page as they are wanted; otherwise as `get`.

        It reads the whole table, closed and expired rows, too: for an operator's own commands alone. No
        function calls it, and none has the right to.
        """

    def forget_expired(self, now_s: float) -> None:
        """Delete what has expired, where the store does not do so by itself."""

    def close(self) -> None:
        """Release connections."""
