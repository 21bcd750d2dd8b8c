"""`oncetask ledger`: an operator's hands on the ledger that the environment names.

summary   how much is open, by route, state and code; what runs; what is damaged
list      what waits and why
show      where one event stands, its last call with what may be its task, and what happened to it
retry     ask for it again at the next sweep: the operator knows that no task was made
adopt     TASK is its task: the operator found it
give-up   end it
"""

import os
import pwd
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any, NamedTuple

from local import screen
from local.durations import shown as shown_s
from local.environments import lasting_ledger, told
from local.errors import CommandError, NotDone
from local.ledger_queries import (
    Filter,
    damaged_records,
    damaged_result,
    open_events,
    results_of,
    timeline,
)
from local.ledger_queries import summary as summary_of
from local.screen import Screen
from local.text import nearest
from oncetask.app import App, app_of
from oncetask.errors import Code, DamagedRecord, QueryFailed
from oncetask.ledger.records import Ask, Event
from oncetask.models import Answer, Outcome, Result, Status, instant, results_document
from oncetask.sweep.sweep import given_up

ACTIONS = ("summary", "list", "show", "retry", "adopt", "give-up")
STATES = (Status.PENDING, Status.UNKNOWN)
INVOCATION_MS = 30_000
BEFORE_S = 60
"""How long before a call a task may have started that is shown as its candidate: clocks differ."""


class OperatorError(CommandError):
    """What was asked for cannot be done; the text says why."""


class Consent(NamedTuple):
    """How a change is wanted."""

    dry_run: bool = False
    yes: bool = False
    reason: str | None = None


@contextmanager
def _opened() -> Iterator[App]:
    """An app over a ledger that lasts. Raises CommandError."""
    environment = told()
    lasting_ledger(environment)
    with closing(app_of(environment)) as app:
        yield app


def operator() -> str:
    """Who changes the ledger: ONCETASK_OPERATOR, else the login name."""
    named = os.environ.get("ONCETASK_OPERATOR")
    if named:
        return named
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return f"uid {os.getuid()}"


# -- looking --------------------------------------------------------------------------------------


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
        shown.line(f"{len(document['damaged'])} records are damaged:", style="red")
        for key in document["damaged"]:
            shown.ids(key)


def listed(chosen: Filter, *, as_json: bool) -> None:
    """Print open events, oldest first, with what is damaged among them."""
    _check_state(chosen)
    with _opened() as app:
        documents = results_of(open_events(app, chosen))
        if not chosen.says_something:
            documents += [damaged_result(app, record).document() for record in damaged_records(app)]
    screen.results(Screen(), results_document(documents), as_json=as_json)


def _check_state(chosen: Filter) -> None:
    if chosen.state is not None and chosen.state not in STATES:
        hint = nearest(chosen.state, STATES)
        raise OperatorError(f"--state must be {' or '.join(STATES)}{hint}")


def show(event_id: str, *, as_json: bool) -> None:
    """Print one event whole."""
    with _opened() as app:
        event = _event(app, event_id)
        ask = _ask_of(app, event)
    document = results_document([event.result().document()])
    document["event"] = event.model_dump(mode="json", by_alias=True)
    document["ask"] = ask_document(ask) if ask else None
    document["timeline"] = timeline(event, ask)
    shown = Screen()
    if as_json:
        shown.document(document)
        return
    shown.result(document["results"][0])
    for one in document["timeline"]:
        shown.line(one["at"], one["what"])
    if event.request is not None:
        shown.line("asks for:")
        shown.document(event.request.model_dump(by_alias=True))
    for name, value in (document["ask"] or {}).items():
        values = value if isinstance(value, list) else [value]
        shown.line(f"{name}:")
        for one in values:
            shown.ids("-" if one is None else str(one))


def call_document(found: CallOfEvent) -> dict[str, object]:
    """What an operator wants to know of a call: when it was sent, and which tasks may be its own."""
    call = found.call
    return {
        "call_id": call.call_id,
        "state": _state(found),
        "first_sent_at": instant(call.first_sent_s),
        "sent_at": instant(call.sent_s),
        "task_type": call.request.task_type,
        "event_ids": list(call.event_ids),
        "task_id": call.answer.task_id if call.answer else None,
        "candidates": list(found.lost.candidates) if found.lost else [],
    }


def _state(ask: Ask) -> str:
    if ask.answer is not None:
        return "its task has ended" if ask.finish else f"answered: {ask.answer.outcome}"
    if ask.ended_s is not None:
        return "left to the operator"
    return "in flight" if ask.lost is None else "looked for"


# -- changing -------------------------------------------------------------------------------------


def change(
    action: str, event_ids: tuple[str, ...], chosen: Filter, consent: Consent, *, as_json: bool
) -> None:
    """Retry or give up events, by their ids or by a filter. Raises NotDone where one was not changed."""
    if not event_ids and not chosen.says_something:
        raise OperatorError(f"{action} wants ID, an event's id from `oncetask ledger list`, or a filter")
    if event_ids and chosen.says_something:
        raise OperatorError(f"{action} wants either ids or a filter")
    _check_state(chosen)
    shown = Screen()
    with _opened() as app:
        wanted = [_event(app, one) for one in event_ids] or list(open_events(app, chosen))
        if consent.dry_run:
            screen.results(shown, results_document(results_of(wanted)), as_json=as_json)
            return
        if len(wanted) > 1 and not consent.yes:
            raise OperatorError(
                f"this would change {len(wanted)} events: --dry-run shows them, --yes does it"
            )
        results, failures = _each_changed(app, action, wanted)
    document = results_document([result.document() for result in results])
    document["changed_by"] = {"operator": operator(), "reason": consent.reason, "action": action}
    document["not_changed"] = [{"event_id": event_id, "why": why} for event_id, why in failures]
    _show_changed(shown, document, as_json=as_json)
    if failures:
        raise NotDone


def _each_changed(app: App, action: str, events: list[Event]) -> tuple[list[Result], list[tuple[str, str]]]:
    """Results of those that were changed, and why the others were not. One alone raises instead."""
    results: list[Result] = []
    failures: list[tuple[str, str]] = []
    for event in events:
        try:
            results += changed(app, action, event.event_id, None)
        except OperatorError as error:
            if len(events) == 1:
                raise
            failures.append((event.event_id, str(error)))
    return results, failures


def _show_changed(shown: Screen, document: dict[str, Any], *, as_json: bool) -> None:
    screen.results(shown, document, as_json=as_json)
    if as_json:
        return
    by = document["changed_by"]
    shown.line(f"{by['action']} by {by['operator']}" + (f": {by['reason']}" if by["reason"] else ""))
    for one in document.get("not_changed", []):
        shown.line("not changed", one["why"], style="red")
        shown.ids(one["event_id"])


def adopt(event_id: str, task_id: str | None, *, force: bool, reason: str | None, as_json: bool) -> None:
    """Give the event a task; without one print the candidates."""
    shown = Screen()
    with _opened() as app:
        _, ask = _open_event(app, event_id)
        found = candidates(app, ask) if ask is not None and not (task_id and force) else []
        if task_id is None:
            _show_candidates(shown, found, as_json=as_json)
            return
        known = {one["task_id"] for one in found}
        if not force and ask is not None and task_id not in known:
            raise OperatorError(
                f"this task is no candidate ({len(known)} are: `oncetask ledger adopt ID` lists them); "
                "--force adopts it all the same"
            )
        results = changed(app, "adopt", event_id, task_id)
    document = results_document([result.document() for result in results])
    document["changed_by"] = {"operator": operator(), "reason": reason, "action": "adopt"}
    _show_changed(shown, document, as_json=as_json)


def candidates(app: App, ask: Ask) -> list[dict[str, Any]]:
    """Tasks that may be the call's: those it is held to, and those that the service shows now."""
    task_type, deadline = ask.request.task_type, app.deadline(INVOCATION_MS)
    found: dict[str, dict[str, Any]] = {
        task_id: {"task_id": task_id, "started_at": None, "source": None, "targets": None}
        for task_id in ask.candidates
    }
    try:
        if app.security_center.describes(task_type):
            tasks = app.security_center.tasks_started_since(task_type, ask.first_sent_s - BEFORE_S, deadline)
        else:
            last = app.security_center.last_task(task_type, ask.request.task_name, deadline)
            tasks = [last] if last else []
    except QueryFailed as error:
        raise OperatorError(f"Security Center does not show its tasks: {error}") from None
    for task in tasks:
        owner = app.ledger.task_owner(task.task_id)
        if owner is None or owner.ask_id == ask.ask_id:
            found[task.task_id] = {
                "task_id": task.task_id,
                "started_at": instant(task.started_s) if task.started_s is not None else None,
                "source": task.source,
                "targets": sorted(task.targets) if task.targets is not None else None,
            }
    return list(found.values())


def _show_candidates(shown: Screen, found: list[dict[str, Any]], *, as_json: bool) -> None:
    if as_json:
        shown.document({"results": [], "counts": {}, "candidates": found})
        return
    shown.line(f"{len(found)} tasks may be this event's")
    for one in found:
        targets = ", ".join(one["targets"] or []) or "not told"
        started, source = one["started_at"] or "not told", one["source"] or "not told"
        shown.line(f"started {started}, source {source}, targets {targets}")
        shown.ids(one["task_id"])


def changed(app: App, action: str, event_id: str, task_id: str | None) -> list[Result]:
    """Where the events stand that the action changed. Raises OperatorError where it cannot be done."""
    event, ask = _open_event(app, event_id)
    if action == "retry":
        return [_retry(app, event)]
    if action == "give-up":
        return [_give_up(app, event)]
    if task_id is None:
        raise OperatorError("adopt wants TASK, a task's id as Security Center shows it")
    return _adopt(app, event, ask, task_id)


def _retry(app: App, event: Event) -> Result:
    """Due at once, and as if it had never been asked for but for its `attempts`."""
    update = {
        "status": Status.PENDING,
        "error": None,
        "due_s": app.clock.now_s(),
        "failures": 0,
        "ask_id": None,
        "ask_sendings": 0,
        "doubtful": False,
    }
    return _change(app, event, lambda kept: kept.model_copy(update=update))


def _give_up(app: App, event: Event) -> Result:
    """`OutcomeUnknown` where a task may have been made, else `Expired`."""
    in_doubt = event.status is Status.UNKNOWN or event.doubtful
    code = Code.OUTCOME_UNKNOWN if in_doubt else Code.EXPIRED
    return _change(app, event, lambda kept: given_up(kept, code, app.clock.now_s()))


def _adopt(app: App, event: Event, ask: Ask | None, task_id: str) -> list[Result]:
    """The task is the whole ask's, and is followed from now on."""
    if event.status is not Status.UNKNOWN or ask is None:
        raise OperatorError("no asking for this event is in doubt, so no task can be its own")
    if app.ledger.own_task(task_id, ask.ask_id).ask_id != ask.ask_id:
        raise OperatorError("this task belongs to another event already")
    answer = Answer(outcome=Outcome.CREATED, task_id=task_id)
    update = {"answer": answer, "answered_s": app.clock.now_s(), "ended_s": None}
    app.ledger.change_ask(ask.ask_id, lambda kept: kept.model_copy(update=update))
    settled = app.submitter.settle(ask, answer)
    return [event.result() for event in settled if event.task_id == task_id]


def _event(app: App, event_id: str) -> Event:
    event = app.ledger.event(event_id)
    if event is None:
        raise OperatorError("there is no event of that id")
    return event


def _ask_of(app: App, event: Event) -> Ask | None:
    """The event's last ask; None where there is none, or none that can be read."""
    try:
        return app.ledger.ask(event.ask_id) if event.ask_id else None
    except DamagedRecord:
        return None


def _open_event(app: App, event_id: str) -> tuple[Event, Ask | None]:
    """An open event that nobody is asking or looking for, and its last ask."""
    event = _event(app, event_id)
    if not event.waits:
        raise OperatorError(f"this event is {event.status}: there is nothing to decide")
    if any(ask.unresolved and event_id in ask.event_ids for ask in app.ledger.open_asks().records):
        raise OperatorError("this event is being asked or looked for: wait until it is Ambiguous")
    return event, _ask_of(app, event)


def _change(app: App, event: Event, change: Callable[[Event], Event]) -> Result:
    kept = app.ledger.change_event(event.event_id, lambda kept: change(kept) if kept == event else kept)
    if kept is None or kept == event:
        raise OperatorError("the event has changed meanwhile: look again")
    return kept.result()
