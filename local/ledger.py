"""`make ledger`: an operator's hands on the ledger that the environment names.

list      what waits and why
show      where one event stands, and its last ask with what may be its task
retry     ask for it again at the next sweep: the operator knows that no task was made
adopt     TASK is its task: the operator found it
give-up   end it
"""

import json
import os
import sys
from collections.abc import Callable

from local import show
from oncetask.app import App, app_of
from oncetask.errors import Code, DamagedRecord, OnceTaskError
from oncetask.ledger.records import Ask, Event
from oncetask.models import Answer, Outcome, Result, Status, instant, results_document
from oncetask.submit.submit import OLDEST_OPEN, damaged
from oncetask.sweep.sweep import given_up

ACTIONS = ("list", "show", "retry", "adopt", "give-up")


class OperatorError(OnceTaskError):
    """What was asked for cannot be done; the text says why."""


def main(action: str, event_id: str | None, task_id: str | None) -> None:
    """Do one thing with the ledger, and print it: for people on a terminal, as JSON lines in a pipe.

    Raises OnceTaskError, whose text is for the operator.
    """
    app = app_of(os.environ)
    if action == "list":
        _print_waiting(app)
    elif event_id is None:
        raise OperatorError(f"{action} needs ID=, an event's id from `make ledger CMD=list`")
    elif action == "show":
        _print_event(app, event_id)
    else:
        _answer(changed(app, action, event_id, task_id))


def changed(app: App, action: str, event_id: str, task_id: str | None) -> list[Result]:
    """Where the events stand that the action changed. Raises OnceTaskError where it cannot be done."""
    event, ask = _open_event(app, event_id)
    if action == "retry":
        return [_retry(app, event)]
    if action == "give-up":
        return [_give_up(app, event)]
    if task_id is None:
        raise OperatorError("adopt needs TASK=, a task's id as Security Center shows it")
    return _adopt(app, event, ask, task_id)


def _answer(results: list[Result]) -> None:
    show.answer(results_document([result.document() for result in results]))


# -- looking --------------------------------------------------------------------------------------


def _print_waiting(app: App) -> None:
    """Everything that is open, oldest first, with its reason."""
    read = app.ledger.oldest_open_events(OLDEST_OPEN)
    results = [event.result() for event in read.records]
    results += [damaged(key.removeprefix("event/"), app.clock.now_s()) for key in read.damaged_keys]
    if not sys.stdout.isatty():
        _answer(results)
        return
    due = {event.event_id: instant(event.due_s) for event in read.records if event.status is Status.PENDING}
    show.table(
        ["event id", "status", "received", "due", "asked", "why"],
        [_row(result, due.get(result.event_id or "", "-")) for result in results],
    )


def _row(result: Result, due: str) -> list[str]:
    why = f"{result.error.code}: {result.error.message}" if result.error else "waits for its turn"
    return [result.event_id or "-", result.status, result.received_at, due, str(result.attempts), why]


def _print_event(app: App, event_id: str) -> None:
    """The event's result, and then its last ask, where it has one."""
    event = _event(app, event_id)
    _answer([event.result()])
    ask = _ask_of(app, event)
    if ask is None:
        return
    document = ask_document(ask)
    if not sys.stdout.isatty():
        print(json.dumps({"ask": document}, ensure_ascii=False, separators=(",", ":")))
        return
    for name, value in document.items():
        print(f"{name:>14}  {', '.join(value) if isinstance(value, list) else value}")


def ask_document(ask: Ask) -> dict[str, object]:
    """What an operator wants to know of an ask: when it was sent, and which tasks may be its own."""
    return {
        "ask_id": ask.ask_id,
        "state": _state(ask),
        "first_sent_at": instant(ask.first_sent_s),
        "last_sent_at": instant(ask.last_sent_s),
        "sendings": ask.sendings,
        "task_type": ask.request.task_type,
        "event_ids": list(ask.event_ids),
        "task_id": ask.answer.task_id if ask.answer else None,
        "candidates": list(ask.candidates),
    }


def _state(ask: Ask) -> str:
    if ask.answer is not None:
        return "its task has ended" if ask.finish else f"answered: {ask.answer.outcome}"
    if ask.ended_s is not None:
        return "left to the operator"
    return "in flight" if ask.lost is None else "looked for"


# -- changing -------------------------------------------------------------------------------------


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
