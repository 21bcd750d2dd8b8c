"""What commands print: tables and colours on a terminal alone, plain lines elsewhere, one document on demand.

Data is never markup: it goes through `visible` and stands in `Text`. An id has its line to itself, unbroken,
so that it can be copied.
"""

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from enum import StrEnum
from typing import Any, TextIO

from rich.console import Console
from rich.table import Table
from rich.text import Text

from local.text import json_text, visible

STYLES = {
    **dict.fromkeys(("created", "finished", "expanded", "ok", "as expected", "set", "passed"), "green"),
    "duplicate": "cyan",
    "ignored": "dim",
    **dict.fromkeys(("pending", "warning", "not tried"), "yellow"),
    "unknown": "magenta",
    **dict.fromkeys(("rejected", "refused", "wrong", "missing", "not as expected", "mistake"), "red"),
    "failed": "bold red",
}
"""Colours by the word that says how something stands."""

INDENT = "  "


class Screen:
    """Where one command prints. Threads may share it: a line is written whole."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._console = Console(
            file=stream or sys.stdout, markup=False, highlight=False, emoji=False, soft_wrap=True
        )

    @property
    def is_terminal(self) -> bool:
        """Whether a person looks at it."""
        return self._console.is_terminal

    @property
    def width(self) -> int:
        """Columns of the terminal."""
        return self._console.width

    def line(self, *parts: object, style: str = "", indent: int = 0) -> None:
        """One line: each part as text, coloured by its word where it is one that says how things stand."""
        shown = Text(INDENT * indent)
        for number, part in enumerate(parts):
            shown.append("  " if number else "")
            text = visible(part)
            shown.append(text, style or STYLES.get(text.strip(), ""))
        self._console.print(shown)

    def blank(self) -> None:
        """An empty line."""
        self._write("")

    def title(self, text: str) -> None:
        """What follows, in a word."""
        self.line(text, style="bold")

    def table(self, names: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
        """Rows below names: on a terminal a table that fits it, elsewhere fields between tabs."""
        if not self.is_terminal:
            for row in rows:
                self._write("\t".join(visible(cell) for cell in row))
            return
        table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 2, 0, 0))
        for name in names:
            table.add_column(name, overflow="fold")
        for row in rows:
            table.add_row(*(Text(visible(cell), STYLES.get(str(cell), "")) for cell in row))
        self._console.print(table, soft_wrap=False)

    def pairs(self, pairs: Iterable[tuple[str, object]]) -> None:
        """Names, right-aligned, and what each is."""
        for name, value in pairs:
            self._write(f"{visible(name):>14}  {visible(value)}")

    def document(self, document: object) -> None:
        """One JSON document: on lines of its own for a person, on one line for a program."""
        self._write(json_text(document, indent=2 if self.is_terminal else None))

    def result(self, result: Mapping[str, Any], *before: object) -> None:
        """One result: how it stands and why on a line, its id and its task's on lines of their own."""
        parts = [*before, f"{result['status']:<9}", result["route"] or "-", why(result)]
        self.line(*(part for part in parts if part != ""), style=_STYLE_OF_END[end_of(result)])
        self.ids(result["event_id"], result.get("task_id"))

    def ids(self, event_id: str | None, task_id: str | None = None) -> None:
        """An event's id and then its task's, each alone on its line."""
        for found, style in ((event_id, ""), (task_id, "dim")):
            if found:
                self._console.print(Text(2 * INDENT + visible(found), style))

    def hosts(self, result: Mapping[str, Any]) -> None:
        """What came of each of a result's hosts: its id alone on a line, and what is said of it below."""
        finish = result.get("finish") or {}
        for host in finish.get("hosts", ()):
            self.ids(host["uuid"])
            for said in told_of_host(host):
                self.line(said, indent=3)
        if finish.get("hosts_left_out"):
            self.line(f"and {finish['hosts_left_out']} more hosts", indent=2)
        for name in result.get("hosts_missing", ()):
            self.line("no host found for:", style="yellow", indent=2)
            self.ids(name)

    def _write(self, text: str) -> None:
        self._console.file.write(text + "\n")
        self._console.file.flush()


class End(StrEnum):
    """How a task ended for one event, as far as its result tells."""

    WELL = "well"
    UNSURE = "unsure"
    BADLY = "badly"


_STYLE_OF_END = {End.WELL: "", End.UNSURE: STYLES["pending"], End.BADLY: STYLES["failed"]}


def why(result: Mapping[str, Any]) -> str:
    """`Code: message` of a result's error, how its task ended and how many hosts failed in it, or nothing."""
    error, finish = result.get("error") or {}, result.get("finish") or {}
    if finish:
        return ", ".join([str(finish["state"]), *_failed_hosts(finish)])
    return ": ".join(part for part in (error.get("code"), error.get("message")) if part)


def _failed_hosts(finish: Mapping[str, Any]) -> Iterator[str]:
    failed, total = finish.get("fail_count"), finish.get("total_count")
    if failed:
        of = f"{failed} of {total}" if total else str(failed)
        yield f"{of} {'host' if (total or failed) == 1 else 'hosts'} failed"


def end_of(result: Mapping[str, Any]) -> End:
    """UNSURE: hosts failed in a task that served others, too, so that nobody knows whether this event's did.

    A result without an end is well.
    """
    finish = result.get("finish")
    if not finish or finish["ok"]:
        return End.WELL
    if finish["state"] != "SUCCESS" or finish["ok"] is False:
        return End.BADLY
    return End.UNSURE if finish["fail_count"] else End.WELL


def told_of_host(host: Mapping[str, Any]) -> list[str]:
    """What a task's record says of one host, each on its line; never its report, perhaps a capability."""
    known = ", ".join(part for part in (host["problem"], host["dispatch"]) if part)
    return [part for part in (known, *host["codes"], *host["causes"]) if part] or ["nothing is said of it"]


def results(screen: Screen, document: Mapping[str, Any], *, as_json: bool) -> None:
    """Print `{"results", "counts"}`: as it is, or each result and then what there were of each kind."""
    if as_json:
        screen.document(document)
        return
    for result in document["results"]:
        screen.result(result)
    screen.line(counted(document["counts"]))


def counted(counts: Mapping[str, int]) -> str:
    """`2 created, 1 pending`; zeros are left out."""
    return ", ".join(f"{number} {status}" for status, number in counts.items() if number) or "nothing"
