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


def results(documents: Iterable[Mapping[str, Any]]) -> None:
    """Print results as they come: a line each in a pipe, a table on a terminal."""
    documents = list(documents)
    if sys.stdout.isatty():
        table(NAMES, map(_row, documents))
    else:
        for document in documents:
            _print_line(document)


def answer(document: Mapping[str, Any]) -> None:
    """Print `{"results", "counts"}`: a line in a pipe, a table on a terminal."""
    if sys.stdout.isatty():
        table(NAMES, map(_row, document["results"]))
    else:
        _print_line(document)


def answers(answered: Iterable[tuple[str, Mapping[str, Any]]]) -> None:
    """Print what events came to, `{"results", "counts"}` each: a line each in a pipe; on a terminal one
    table, with a title (say, the event's file) before each result.
    """
    if not sys.stdout.isatty():
        for _, document in answered:
            _print_line(document)
        return
    rows = [[title, *_row(result)] for title, document in answered for result in _results(document)]
    table(["event document", *NAMES], rows)


NAMES = ("status", "event id", "task id", "why")


def _print_line(document: Mapping[str, Any]) -> None:
    print(json.dumps(document, ensure_ascii=False, separators=(",", ":")), flush=True)


def _results(document: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Its results; a refused delivery has none, and is shown as what its sender was told."""
    return [document] if "error" in document else list(document["results"])


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
