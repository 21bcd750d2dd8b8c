"""`oncetask ledger`: an operator's hands on the ledger that the environment names.

summary   how much is open, by route, state and code; what runs; what is damaged
list      what waits and why; with a state, also what has ended
show      where one event stands, its last call with what may be its task, and what happened to it
retry     ask for it again at the next sweep: the operator knows that no task was made
adopt     TASK is its task: the operator found it
give-up   end it; or remove a record that cannot be read
"""

import json
import os
import pwd
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from typing import Any, NamedTuple

from local import operator, screen
from local.damage import Damaged, found_damaged, remove
from local.durations import shown as shown_s
from local.environments import ledger_that_is_there, told
from local.errors import NotDone
from local.ledger_queries import (
    OPEN_STATES,
    STATES,
    Filter,
    call_document,
    calls_of,
    damaged_records,
    events,
    timeline,
)
from local.ledger_queries import summary as summary_of
from local.operator import Done, OperatorError, Wanted
from local.screen import Screen
from local.text import nearest
from oncetask.app import App, app_of
from oncetask.errors import DamagedRecord
from oncetask.ledger.records import MOST_NAME_CHARS, MOST_REASON_CHARS, Event
from oncetask.models import Result, Status, Task, instant, results_document
from oncetask.submit.lane import Held

ACTIONS = ("summary", "list", "show", "retry", "adopt", "give-up")


class Consent(NamedTuple):
    """How a change is wanted, and why."""

    dry_run: bool = False
    yes: bool = False
    force: bool = False
    reason: str | None = None


@contextmanager
def _opened() -> Iterator[App]:
    """An app over a ledger that lasts. Raises CommandError."""
    environment = told()
    ledger_that_is_there(environment)
    with closing(app_of(environment)) as app:
        yield app


# -- reading --------------------------------------------------------------------------------------


def summary(*, as_json: bool) -> None:
    """Print how much is open."""
    with _opened() as app:
        document = summary_of(app)
    shown = Screen()
    if as_json:
        shown.document(document)
        return
    shown.line(f"{document['waiting']} events wait, the oldest for {shown_s(document['oldest_waiting_s'])}")
    if document["by"]:
        rows = [
            (one["route"], one["status"], one["code"] or "-", one["count"], shown_s(one["oldest_s"]))
            for one in document["by"]
        ]
        shown.table(("route", "state", "code", "events", "oldest"), rows)
    slots = document["slots"]
    shown.line(f"{slots['in_use']} of {slots['of']} slots are in use by tasks of this ledger")
    for task in document["running"]:
        shown.line(task["task_type"], f"for {task['events']} events since {task['since']}", indent=1)
        shown.ids(task["task_id"])
    if document["damaged"]:
        shown.line(f"{len(document['damaged'])} records are damaged: `show` each", style="red")
        for key in document["damaged"]:
            shown.ids(key.removeprefix("event/"))


def listed(chosen: Filter, *, as_json: bool) -> None:
    """Print events, oldest first, and what is damaged; each as it is read, where it is no JSON document."""
    _check_state(chosen, STATES)
    with _opened() as app:
        _show_results(_listed(app, chosen), as_json=as_json)


def _listed(app: App, chosen: Filter) -> Iterator[dict[str, Any]]:
    if not chosen.is_damaged:
        yield from (event.result().document() for event in events(app, chosen))
    now_s = app.clock.now_s()
    yield from (record.result(now_s).document() for record in damaged_records(app, chosen))


def _show_results(results: Iterable[dict[str, Any]], *, as_json: bool) -> None:
    shown = Screen()
    if as_json:
        shown.document(results_document(list(results)))
        return
    counts = dict.fromkeys(map(str, Status), 0)
    for result in results:
        shown.result(result)
        counts[result["status"]] += 1
    shown.line(screen.counted(counts))


def _check_state(chosen: Filter, states: Sequence[Status]) -> None:
    if chosen.state is not None and chosen.state not in states:
        hint = nearest(chosen.state, states)
        raise OperatorError(f"--state must be {', '.join(states[:-1])} or {states[-1]}{hint}")


def show(name: str, *, as_json: bool) -> None:
    """Print one event whole, or a damaged record as it is. `name`: an event's id, or a record's key."""
    with _opened() as app:
        record = found_damaged(app, name)
        if record is None:
            _show_event(app, _event(app, name), as_json=as_json)
        else:
            _show_damaged(app, record, as_json=as_json)


def _show_event(app: App, event: Event, *, as_json: bool) -> None:
    calls = calls_of(app, event)
    call_documents = [call_document(found) for found in calls]
    document = results_document([event.result().document()])
    document["event"] = event.model_dump(mode="json", by_alias=True)
    document["call"] = call_documents[-1] if call_documents else None
    document["earlier_calls"] = call_documents[:-1]
    document["timeline"] = timeline(event, calls)
    shown = Screen()
    if as_json:
        shown.document(document)
        return
    shown.result(document["results"][0])
    shown.hosts(document["results"][0])
    for one in document["timeline"]:
        parts = (one["at"], one["what"], one["code"], one["by"] and f"by {one['by']}", one["reason"])
        shown.line(*(part for part in parts if part))
    shown.line("asks for:")
    shown.document(event.request.model_dump(by_alias=True))
    for name, value in (document["call"] or {}).items():
        shown.line(f"{name}:")
        for one in value if isinstance(value, list) else [value]:
            shown.ids("-" if one is None else str(one))


def _show_damaged(app: App, record: Damaged, *, as_json: bool) -> None:
    document = results_document([record.result(app.clock.now_s()).document()])
    document["damaged"] = {"key": record.row.key, "text": record.row.body, "do": record.what_to_do}
    shown = Screen()
    if as_json:
        shown.document(document)
        return
    shown.line("this record cannot be read; it holds:", style="red")
    shown.line(record.row.body)
    shown.line(f"do: {record.what_to_do}")
    shown.ids(record.name)


# -- changing -------------------------------------------------------------------------------------


def change(action: str, names: tuple[str, ...], chosen: Filter, consent: Consent, *, as_json: bool) -> None:
    """Retry or give up events, by their ids or by a filter. Raises NotDone where one was not changed."""
    if not names and not chosen.says_something:
        raise OperatorError(f"{action} wants ID, an event's id from `oncetask ledger list`, or a filter")
    if names and chosen.says_something:
        raise OperatorError(f"{action} wants either ids or a filter")
    _check_state(chosen, OPEN_STATES)
    by = _changed_by(action, consent.reason)
    with _opened() as app:
        damaged = [record for name in dict.fromkeys(names) if (record := found_damaged(app, name))]
        broken = {name for record in damaged for name in (record.name, record.row.key)}
        found = [_event(app, name) for name in dict.fromkeys(names) if name not in broken]
        _check_removal(action, damaged, consent)
        if consent.dry_run:
            now_s = app.clock.now_s()
            results = (event.result() for event in found or ([] if names else events(app, chosen)))
            unreadable = (record.result(now_s) for record in damaged)
            _show_results((one.document() for part in (results, unreadable) for one in part), as_json=as_json)
            return
        wanted = [
            Wanted(event.event_id, event.request.task_type)
            for event in (found if names else events(app, chosen))
        ]
        if len(wanted) + len(damaged) > 1 and not consent.yes:
            raise OperatorError(
                f"this would change {len(wanted) + len(damaged)} events: --dry-run shows them, --yes does it"
            )
        done = [*_each_done(app, by, wanted, consent), *_each_removed(app, damaged)]
    _show_done(by, done, damaged, as_json=as_json)


def _check_removal(action: str, damaged: Sequence[Damaged], consent: Consent) -> None:
    """A record that cannot be read is removed by `give-up --yes` alone."""
    if not damaged or consent.dry_run:
        return
    if action != "give-up":
        raise OperatorError("this record cannot be read: `oncetask ledger show ID` says what to do")
    if not consent.yes:
        raise OperatorError(
            "this record cannot be read: --yes removes it, and its id is free then; "
            "`oncetask ledger show ID` shows what is in it"
        )


def _each_done(app: App, by: dict[str, Any], wanted: Sequence[Wanted], consent: Consent) -> list[Done]:
    decision = operator.Decision(by["operator"], by["reason"], consent.force)

    def become(lane: Held, event: Event) -> Result:
        change = operator.retried if by["action"] == "retry" else operator.ended
        return change(app, lane, event, decision)

    return list(operator.each_changed(app, wanted, become))


def _each_removed(app: App, damaged: Sequence[Damaged]) -> Iterator[Done]:
    for record in damaged:
        why_not = None
        if record.is_newer:
            why_not = record.what_to_do
        elif not remove(app, record):
            why_not = "the record has changed meanwhile: look again"
        yield Done(record.name, None, why_not)


def _show_done(
    by: dict[str, Any], done: Sequence[Done], damaged: Sequence[Damaged], *, as_json: bool
) -> None:
    """Raises OperatorError for the only one, and NotDone where some of several were not changed."""
    failures = [one for one in done if one.why_not is not None]
    if len(done) == 1 and failures:
        raise OperatorError(str(failures[0].why_not))
    removed = {record.name for record in damaged} - {one.event_id for one in failures}
    document = results_document([one.result.document() for one in done if one.result is not None])
    document["changed_by"] = by
    document["removed"] = sorted(removed)
    document["not_changed"] = [{"event_id": one.event_id, "why": one.why_not} for one in failures]
    _show_changed(document, as_json=as_json)
    if failures:
        raise NotDone


def _show_changed(document: dict[str, Any], *, as_json: bool) -> None:
    _log_changed(document)
    shown = Screen()
    screen.results(shown, document, as_json=as_json)
    if as_json:
        return
    for name in document.get("removed", []):
        shown.line("removed", style="red")
        shown.ids(name)
    by = document["changed_by"]
    shown.line(f"{by['action']} by {by['operator']}" + (f": {by['reason']}" if by["reason"] else ""))
    for one in document.get("not_changed", []):
        shown.line("not changed", one["why"], style="red")
        shown.ids(one["event_id"])


def _log_changed(document: dict[str, Any]) -> None:
    """A JSON line on stderr for each change: `2>> FILE` keeps them. On a terminal the screen says it."""
    if sys.stderr.isatty():
        return
    by = document["changed_by"]
    changed = [
        {name: result[name] for name in ("event_id", "route", "status", "task_id")}
        for result in document["results"]
    ]
    removed = [{"removed": name} for name in document.get("removed", [])]
    for one in (*changed, *removed):
        line = {"level": "INFO", "message": "changed by an operator", "timestamp": instant(time.time())}
        print(json.dumps({**line, **by, **one}), file=sys.stderr)


def adopt(event_id: str, task_id: str | None, *, force: bool, reason: str | None, as_json: bool) -> None:
    """Give the event a task; without one print the candidates."""
    by = _changed_by("adopt", reason)
    with _opened() as app:
        event = _event(app, event_id)
        if task_id is None:
            _show_candidates(operator.candidates(app, event), as_json=as_json)
            return
        if not force:
            _check_candidate(task_id, operator.candidates(app, operator.open_event(app, event_id)))
        results = operator.adopt(app, event_id, task_id, by=by["operator"], why=reason)
    document = results_document([result.document() for result in results])
    document["changed_by"] = by
    _show_changed(document, as_json=as_json)


def _check_candidate(task_id: str, found: Sequence[Task]) -> None:
    if task_id not in {task.task_id for task in found}:
        raise OperatorError(
            f"this task is no candidate ({len(found)} are: `oncetask ledger adopt ID` lists them); "
            "--force adopts it all the same"
        )


def _show_candidates(found: Sequence[Task], *, as_json: bool) -> None:
    shown = Screen()
    documents = [
        {
            "task_id": task.task_id,
            "started_at": instant(task.started_s) if task.started_s is not None else None,
            "source": task.source,
            "targets": sorted(task.targets) if task.targets is not None else None,
        }
        for task in found
    ]
    if as_json:
        shown.document(results_document([]) | {"candidates": documents})
        return
    shown.line(f"{len(found)} tasks may be this event's")
    for one in documents:
        targets = ", ".join(one["targets"] or []) or "not told"
        started, source = one["started_at"] or "not told", one["source"] or "not told"
        shown.line(f"started {started}, source {source}, targets {targets}")
        shown.ids(str(one["task_id"]))


def _event(app: App, event_id: str) -> Event:
    try:
        event = app.ledger.event(event_id)
    except DamagedRecord:
        raise OperatorError("this record cannot be read: `oncetask ledger show ID` says what to do") from None
    if event is None:
        raise OperatorError(f"there is no event {event_id}: `oncetask ledger list` names those that are open")
    return event


def _changed_by(action: str, reason: str | None) -> dict[str, Any]:
    """Who changes the ledger, and why. Raises OperatorError: one of them is too long to be kept."""
    if reason is not None and len(reason) > MOST_REASON_CHARS:
        raise OperatorError(f"--reason may have {MOST_REASON_CHARS} characters; this one has {len(reason)}")
    return {"operator": _operator(), "reason": reason, "action": action}


def _operator() -> str:
    """ONCETASK_OPERATOR, else the login name."""
    named = os.environ.get("ONCETASK_OPERATOR")
    if named and len(named) > MOST_NAME_CHARS:
        raise OperatorError(f"ONCETASK_OPERATOR may have {MOST_NAME_CHARS} characters")
    if named:
        return named
    try:
        return pwd.getpwuid(os.getuid()).pw_name[:MOST_NAME_CHARS]
    except KeyError:
        return f"uid {os.getuid()}"
