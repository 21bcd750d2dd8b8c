"""`make ledger`: an operator's hands on the ledger that the environment names."""

import os
import sys
from collections.abc import Callable
from itertools import islice

from local import show
from oncetask.errors import Code, OnceTaskError
from oncetask.ledgers import Ask, Event
from oncetask.models import Answer, Outcome, Result, Status, instant
from oncetask.submit import OLDEST_OPEN, damaged
from oncetask.sweep import given_up
from oncetask.wiring import App, app_of


def main(action: str, event_id: str | None, task_id: str | None) -> None:
    """Do one thing with the ledger, and print it."""
    app = app_of(os.environ)
    if action == "list":
        _print_waiting(app)
        return
    if event_id is None:
        raise OperatorError(f"{action} needs ID=, an event's id from `make ledger CMD=list`")
    show.results([result.document() for result in ACTIONS[action](app, event_id, task_id)])


class OperatorError(OnceTaskError):
    """What was asked for cannot be done; the text says why."""


def _print_waiting(app: App) -> None:
    """Everything that is open, oldest first, with its reason."""
    read = app.ledger.oldest_open_events(OLDEST_OPEN)
    results = [event.result() for event in read.records]
    results += [damaged(key.removeprefix("event/"), app.clock.now_s()) for key in read.damaged_keys]
    if not sys.stdout.isatty():
        show.results([result.document() for result in results])
        return
    due = {event.event_id: instant(event.due_s) for event in read.records if event.status is Status.PENDING}
    show.table(
        ["event id", "status", "received", "due", "asked", "why"],
        [_row(result, due.get(result.event_id or "", "-")) for result in islice(results, OLDEST_OPEN)],
    )


def _row(result: Result, due: str) -> list[str]:
    why = f"{result.error.code}: {result.error.message}" if result.error else "waits for its turn"
    return [result.event_id or "-", result.status, result.received_at, due, str(result.attempts), why]


def _show(app: App, event_id: str, _task_id: str | None) -> list[Result]:
    """Where the event stands."""
    return [_event(app, event_id).result()]


def _retry(app: App, event_id: str, _task_id: str | None) -> list[Result]:
    """Let the next sweep ask for it again: the operator knows that no task was made."""
    event, ask = _event_in_doubt(app, event_id)
    if ask is not None:
        _close(app, ask)
    now_s = app.clock.now_s()
    return _changed(
        app,
        event,
        lambda kept: kept.model_copy(
            update={
                "status": Status.PENDING,
                "error": None,
                "due_s": now_s,
                "failures": 0,
                "ask_id": None,
                "ask_sendings": 0,
            }
        ),
    )


def _give_up(app: App, event_id: str, _task_id: str | None) -> list[Result]:
    """End it: `OutcomeUnknown` where a task may have been made, else `Expired`."""
    event, _ = _event_in_doubt(app, event_id)
    in_doubt = event.status is Status.UNKNOWN or event.doubtful
    code = Code.OUTCOME_UNKNOWN if in_doubt else Code.EXPIRED
    return _changed(app, event, lambda kept: given_up(kept, code, app.clock.now_s()))


def _adopt(app: App, event_id: str, task_id: str | None) -> list[Result]:
    """The operator found the task: it is the whole ask's, and is followed from now on."""
    if task_id is None:
        raise OperatorError("adopt needs TASK=, a task's id as Security Center shows it")
    event, ask = _event_in_doubt(app, event_id)
    if ask is None:
        raise OperatorError("this event was never asked for, so no task can be its own")
    if app.ledger.own_task(task_id, ask.ask_id).ask_id != ask.ask_id:
        raise OperatorError("this task belongs to another event already")
    answer = Answer(outcome=Outcome.CREATED, task_id=task_id)
    update = {"answer": answer, "answered_s": app.clock.now_s(), "ended_s": None}
    adopted = app.ledger.change_ask(ask.ask_id, lambda kept: kept.model_copy(update=update)) or ask
    return [changed.result() for changed in app.submitter.settle(adopted, answer)] or [event.result()]


def _event(app: App, event_id: str) -> Event:
    event = app.ledger.event(event_id)
    if event is None:
        raise OperatorError("there is no event of that id")
    return event


def _event_in_doubt(app: App, event_id: str) -> tuple[Event, Ask | None]:
    """An open event that nobody is asking or looking for any more, and its last ask."""
    event = _event(app, event_id)
    if not event.waits:
        raise OperatorError(f"this event is {event.status}: there is nothing to decide")
    ask = app.ledger.ask(event.ask_id) if event.ask_id else None
    if ask is not None and ask.unresolved:
        raise OperatorError("the sweep still looks for this event's task: wait until it is Ambiguous")
    return event, ask


def _close(app: App, ask: Ask) -> None:
    app.ledger.change_ask(ask.ask_id, lambda kept: kept.model_copy(update={"watched": False}))


def _changed(app: App, event: Event, change: Callable[[Event], Event]) -> list[Result]:
    changed = app.ledger.change_event(event.event_id, lambda kept: change(kept) if kept == event else kept)
    if changed is None or changed == event:
        raise OperatorError("the event has changed meanwhile: look again")
    return [changed.result()]


ACTIONS = {"list": _show, "show": _show, "retry": _retry, "adopt": _adopt, "give-up": _give_up}
