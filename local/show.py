"""Results for people on a terminal, for programs in a pipe: the same results, a table or JSON lines."""

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

STYLES = {
    "created": "green",
    "finished": "green",
    "duplicate": "cyan",
    "ignored": "dim",
    "pending": "yellow",
    "unknown": "magenta",
    "rejected": "red",
    "failed": "bold red",
    "refused": "red",
}


def results(documents: Iterable[Mapping[str, Any]], *, titles: Sequence[str] = ()) -> None:
    """Print result documents; on a terminal as a table, a title (say, the event's file) before each."""
    documents = list(documents)
    if not sys.stdout.isatty():
        for document in documents:
            print(json.dumps(document, ensure_ascii=False, separators=(",", ":")))
        sys.stdout.flush()
        return
    names = [*(["event document"] if titles else []), "status", "event id", "task id", "why"]
    table(names, [[*titles[i : i + 1], *_row(document)] for i, document in enumerate(documents)])


def table(names: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a table whose `status` column is coloured."""
    shown = Table(*names, header_style="bold")
    status = names.index("status")
    for row in rows:
        shown.add_row(*row, style=STYLES.get(row[status], ""))
    Console().print(shown)


def _row(document: Mapping[str, Any]) -> list[str]:
    error = document["error"] or {}
    why = ": ".join(part for part in (error.get("code"), error.get("message")) if part)
    named = [document.get(key) or "-" for key in ("event_id", "task_id")]
    return [document.get("status", "refused"), *named, why]
