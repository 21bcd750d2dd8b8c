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

from local import operator, show
from local.operator import CallOfEvent, OperatorError
from oncetask.app import App, app_of
from oncetask.ledger.records import Event
from oncetask.models import Result, Status, instant, results_document
from oncetask.submit.submit import damaged

ACTIONS = ("list", "show", "retry", "adopt", "give-up")


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
    if action == "retry":
        return [operator.retry(app, event_id)]
    if action == "give-up":
        return [operator.give_up(app, event_id)]
    if task_id is None:
        raise OperatorError("adopt needs TASK=, a task's id as Security Center shows it")
    return operator.adopt(app, event_id, task_id)


def _answer(results: list[Result]) -> None:
    show.answer(results_document([result.document() for result in results]))


def _print_waiting(app: App) -> None:
    """Everything that is open, with its reason."""
    events: list[Event] = []
    results: list[Result] = []
    for read in operator.open_events(app):
        events += read.records
        results += [event.result() for event in read.records]
        results += [damaged(key.removeprefix("event/"), app.clock.now_s()) for key in read.damaged_keys]
    if not sys.stdout.isatty():
        _answer(results)
        return
    due = {event.event_id: instant(event.due_s) for event in events if event.status is Status.PENDING}
    show.table(
        ["event id", "status", "received", "due", "asked", "why"],
        [_row(result, due.get(result.event_id or "", "-")) for result in results],
    )


def _row(result: Result, due: str) -> list[str]:
    why = f"{result.error.code}: {result.error.message}" if result.error else "waits for its turn"
    return [result.event_id or "-", result.status, result.received_at, due, str(result.attempts), why]


def _print_event(app: App, event_id: str) -> None:
    """The event's result, and then its last call, where it has one."""
    event = app.ledger.event(event_id)
    if event is None:
        raise OperatorError("there is no event of that id")
    _answer([event.result()])
    found = operator.call_of(app, event)
    if found is None:
        return
    document = call_document(found)
    if not sys.stdout.isatty():
        print(json.dumps({"call": document}, ensure_ascii=False, separators=(",", ":")))
        return
    for name, value in document.items():
        print(f"{name:>14}  {', '.join(value) if isinstance(value, list) else value}")


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


def _state(found: CallOfEvent) -> str:
    if found.lost is not None:
        return "left to the operator" if found.lost.why == "ambiguous" else "searched for in vain"
    if found.call.answer is not None:
        return f"answered: {found.call.answer.outcome}"
    return "in flight" if found.call.lost is None else "searched for"
