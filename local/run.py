"""`oncetask run`: events through the real handlers, each held against what is expected of it."""

import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import click

from local import screen
from local.cases import EVENTS, Case, Handled, by_form, documents, expectation_of
from local.documents import read_event
from local.emulator import Emulator
from local.environments import lasting_ledger, told, with_emulator
from local.errors import CommandError, NotDone
from local.expectations import Outcome, outcome_of
from local.inventories import inventory
from local.screen import Screen, counted
from oncetask.app import App, app_of
from oncetask.handlers import webhook
from oncetask.models import Status, results_document

NEXT = (
    "What to try next:",
    "  ./oncetask run events/timer/created-by-route.json       one event, its result whole",
    "  ./oncetask explain events/senders/github-deployed.json  why it became what it became",
    "  ./oncetask serve                                        webhooks and timers on this machine",
)


class Wanted(NamedTuple):
    """What the command line asks for."""

    events: tuple[Path, ...]
    keyless: bool = False
    live: bool = False
    yes: bool = False
    routes: Path | None = None
    as_json: bool = False


class Ran(NamedTuple):
    """One event that was run: `differences` None where nothing is expected of it."""

    path: Path
    document: dict[str, Any]
    differences: list[str] | None

    @property
    def is_right(self) -> bool:
        """It came to what was expected; without an expectation, it was not rejected."""
        if self.differences is not None:
            return not self.differences
        return "error" not in self.document and not self.document["counts"][Status.REJECTED]


def main(wanted: Wanted) -> None:
    """Run and print. Raises NotDone where an event came to something else, CommandError before that."""
    shown = Screen()
    if wanted.live:
        ran = list(_live(wanted))
    elif wanted.events:
        ran = [_one(path, wanted) for path in wanted.events]
    else:
        ran = list(_samples(keyless=wanted.keyless))
    if wanted.as_json:
        shown.document(_together(ran))
    elif wanted.events:
        _show_each(shown, ran)
    else:
        _show_table(shown, ran)
    if not all(one.is_right for one in ran):
        raise NotDone


# -- running --------------------------------------------------------------------------------------


def _samples(*, keyless: bool) -> Iterator[Ran]:
    paths = documents()
    for number, path in enumerate(paths):
        if sys.stderr.isatty():
            print(f"\r{number + 1}/{len(paths)} events", end="", file=sys.stderr, flush=True)
        yield _of_case(path, keyless=keyless)
    if sys.stderr.isatty():
        print("\r\x1b[K", end="", file=sys.stderr, flush=True)


def _of_case(path: Path, *, keyless: bool) -> Ran:
    case = Case.at(path)
    with Emulator() as emulator:
        handled = case.run_keyless(emulator) if keyless else case.run(emulator)
        outcome: Outcome = outcome_of(case, handled, emulator)
    return Ran(path, _document(handled), outcome.differences)


def _one(path: Path, wanted: Wanted) -> Ran:
    if path.name and expectation_of(path).is_file() and wanted.routes is None:
        return _of_case(path, keyless=wanted.keyless)
    with Emulator() as emulator:
        emulator.hosts[:] = inventory()
        environment = with_emulator(told(wanted.routes), emulator.url)
        with closing(app_of(environment)) as app:
            return Ran(path, _document(_handled(app, read_event(path))), None)


def _live(wanted: Wanted) -> Iterator[Ran]:
    """The real service, once somebody has said so."""
    if not wanted.events:
        raise CommandError("--live wants EVENT, the event to ask the real Security Center for")
    environment = told(wanted.routes)
    lasting_ledger(environment)
    events = [(path, read_event(path)) for path in wanted.events]
    with closing(app_of(environment)) as app:
        _consent(len(events), app, wanted)
        for path, event in events:
            yield Ran(path, _document(_handled(app, event)), None)


def _consent(number: int, app: App, wanted: Wanted) -> None:
    if wanted.yes:
        return
    if not sys.stdin.isatty():
        raise CommandError("--live sends to the real Security Center: without a terminal it wants --yes")
    where = app.settings.endpoint or app.settings.region
    click.confirm(f"Send {number} event(s) to the real Security Center ({where})?", abort=True, err=True)


def _handled(app: App, event: object) -> Handled:
    return by_form(event)(app, event)


def _document(handled: Handled) -> dict[str, Any]:
    """Its results and counts; of a refused delivery why as well, of a handshake its answer."""
    if isinstance(handled, webhook.Refusal):
        error = handled.error.model_dump(mode="json")
        return results_document([]) | {"error": error | {"message": handled.reason}}
    if isinstance(handled, webhook.Answered):
        return results_document([]) | {"handshake": handled.handshake}
    report = handled.report if isinstance(handled, webhook.Accepted) else handled
    return results_document([result.document() for result in report.results])


# -- printing -------------------------------------------------------------------------------------


def _together(ran: list[Ran]) -> dict[str, Any]:
    """One document for all of them."""
    document = results_document([result for one in ran for result in one.document["results"]])
    wrong = [
        {"event": _name(one.path), "differences": one.differences or []} for one in ran if not one.is_right
    ]
    refused = [
        {"event": _name(one.path), "error": one.document["error"]} for one in ran if "error" in one.document
    ]
    return document | {"events": len(ran), "not_as_expected": wrong, "refused": refused}


def _show_each(shown: Screen, ran: list[Ran]) -> None:
    for one in ran:
        shown.title(_name(one.path))
        screen.results(shown, one.document, as_json=False)
        if "error" in one.document:
            error = one.document["error"]
            shown.line("refused", f"{error['code']}: {error['message']}")
        for request in (result["request"] for result in one.document["results"] if result["request"]):
            shown.line("asked for:")
            shown.document(request)
        if one.differences is not None:
            _show_verdict(shown, one)


def _show_table(shown: Screen, ran: list[Ran]) -> None:
    rows = [_row(folder, ran) for folder in sorted({one.path.parent.name for one in ran})]
    shown.table(["events of", "run", "as expected", "came to"], rows)
    for one in ran:
        if not one.is_right:
            shown.title(_name(one.path))
            _show_verdict(shown, one)
    right = sum(one.is_right for one in ran)
    shown.blank()
    shown.line(f"{right} of {len(ran)} events came to what is expected of them.")
    for line in NEXT:
        shown.line(line)


def _show_verdict(shown: Screen, one: Ran) -> None:
    shown.line("as expected" if one.is_right else "not as expected")
    for difference in one.differences or []:
        shown.line(difference, indent=2)


def _row(folder: str, ran: list[Ran]) -> list[object]:
    of_folder = [one for one in ran if one.path.parent.name == folder]
    counts: Counter[str] = Counter()
    for one in of_folder:
        counts.update(one.document["counts"])
        counts["refused"] += "error" in one.document
    return [folder, len(of_folder), sum(one.is_right for one in of_folder), counted(counts)]


def _name(path: Path) -> str:
    """Below `events/`, or as it was given."""
    return str(path.relative_to(EVENTS.parent)) if path.is_relative_to(EVENTS) else str(path)
