"""What happened on this machine and what is open: printed as it comes, and shown on the page."""

from collections import deque
from collections.abc import Mapping
from threading import Lock
from time import time
from typing import Any

from local.ledger_queries import summary
from local.screen import Screen, counted, end_of, why
from oncetask.app import App
from oncetask.errors import LedgerUnavailable
from oncetask.models import instant

KEPT = 200
"""How many deliveries and changes the page can show."""
IDS_SHOWN = 10
"""How many ids one delivery prints; the page has the rest."""


class Board:
    """The last deliveries and changes. Threads share it.

    `documents`: where each result is printed as the JSON document that it is, too, on a line of its own.
    """

    def __init__(self, app: App, screen: Screen, *, documents: Screen | None = None) -> None:
        self.app = app
        self._screen = screen
        self._documents = documents
        self._deliveries: deque[dict[str, Any]] = deque(maxlen=KEPT)
        self._changes: deque[dict[str, Any]] = deque(maxlen=KEPT)
        self._trouble: str | None = None
        self._lock = Lock()

    def delivery(
        self, route: str, verdict: str, reason: str, ms: float, results: list[dict[str, Any]]
    ) -> None:
        """One delivery or tick, refused or not: what it was told, and why."""
        at = instant(time())
        told = {"at": at, "route": route, "verdict": verdict, "reason": reason, "ms": round(ms, 1)}
        told["event_ids"] = [result["event_id"] for result in results if result["event_id"]]
        with self._lock:
            self._deliveries.appendleft(told)
            self._print_documents(results)
            self._screen.line(_clock(at), verdict, route, reason, f"{ms:.0f} ms")
            for result in results[:IDS_SHOWN]:
                self._screen.ids(result["event_id"], result["task_id"])
            if len(results) > IDS_SHOWN:
                self._screen.line(f"and {len(results) - IDS_SHOWN} more", indent=2)

    def changed(self, results: list[dict[str, Any]]) -> None:
        """What a sweep changed: a line and an id each; nothing where it changed nothing."""
        at = instant(time())
        with self._lock:
            self._changes.extendleft({"at": at, **_short(result)} for result in results)
            self._print_documents(results)
            for result in results:
                self._screen.result(result, _clock(at))

    def _print_documents(self, results: list[dict[str, Any]]) -> None:
        if self._documents is not None:
            for result in results:
                self._documents.document(result)

    def trouble(self, text: str | None) -> None:
        """What is wrong with the sweep or a timer; told once as long as it stays the same."""
        with self._lock:
            if text is not None and text != self._trouble:
                self._screen.line(_clock(instant(time())), text, style="red")
            if text is None and self._trouble is not None:
                self._screen.line(_clock(instant(time())), "the sweep works again", style="green")
            self._trouble = text

    def document(self) -> dict[str, Any]:
        """All that the page shows."""
        with self._lock:
            seen = {
                "deliveries": list(self._deliveries),
                "changes": list(self._changes),
                "trouble": self._trouble,
            }
        try:
            return seen | {"ledger": summary(self.app), "unavailable": None}
        except LedgerUnavailable as error:
            return seen | {"ledger": None, "unavailable": str(error)}


def told_of(results: list[dict[str, Any]], counts: Mapping[str, int]) -> str:
    """Why a delivery came to what it came to, in a few words."""
    reasons = list(dict.fromkeys(filter(None, map(why, results))))
    return "; ".join([counted(counts), *reasons[:3]])


def _short(result: Mapping[str, Any]) -> dict[str, Any]:
    shown = {key: result[key] for key in ("event_id", "status", "route", "task_id")}
    return shown | {"why": why(result), "end": end_of(result)}


def _clock(at: str) -> str:
    """`05:00:01` of an instant."""
    return at[11:19]
