"""What an operator may do with open events: each change under the lane of the event's type.

retry     ask for it again at the next sweep: the operator knows that no task was made
adopt     a task is its call's: the operator found it
give-up   end it
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

from oncetask.app import App
from oncetask.errors import OnceTaskError, QueryFailed
from oncetask.ledger.records import Call, Event, LostCall, TaskRecord, event_queue
from oncetask.ledger.rows import Read
from oncetask.models import Result, Status, Task
from oncetask.submit.lane import Held, held
from oncetask.submit.settlement import Made, with_task
from oncetask.sweep.matching import BEFORE_S
from oncetask.sweep.queue import end_of, given_up

PATIENCE_S = 5.0
"""How long a lane that is taken is waited for."""
READ_AT_ONCE = 100


class OperatorError(OnceTaskError):
    """What was asked for cannot be done; the text says why."""


class CallOfEvent(NamedTuple):
    """The call that an event waits for, or waited for last. `lost`: what is remembered of it, once closed."""

    call: Call
    lost: LostCall | None


def open_events(app: App) -> Iterator[Read[Event]]:
    """Every open event, queue by queue, the one that is due first first, in parts."""
    names = (*(event_queue(name) for name in app.routes), *app.ledger.taken(()).queues)
    for queue in dict.fromkeys(names):
        ids = [waiting.event_id for waiting in app.ledger.waiting(queue)]
        for start in range(0, len(ids), READ_AT_ONCE):
            read = app.ledger.read_events(ids[start : start + READ_AT_ONCE])
            yield Read([event for event in read.records if event.waits], read.damaged_keys)


def open_event(app: App, event_id: str) -> Event:
    """The event of that id, which must be open. Raises OperatorError."""
    event = app.ledger.event(event_id)
    if event is None:
        raise OperatorError("there is no event of that id")
    if not event.waits:
        raise OperatorError(f"this event is {event.status}: there is nothing to decide")
    return event


def call_of(app: App, event: Event) -> CallOfEvent | None:
    """The event's last call, where it gave no answer; None where there is none that could be read."""
    lane = app.ledger.lane(event.request.task_type)
    call = lane.record.call if lane else None
    if call is not None and event.event_id in call.event_ids:
        return CallOfEvent(call, None)
    ids = [one for one in (*event.lost_calls[::-1], event.call_id) if one is not None]
    for lost in app.ledger.lost_calls(ids):
        return CallOfEvent(lost.call, lost)
    return None


def retry(app: App, event_id: str, *, by: str | None = None) -> Result:
    """Due at once, and as if it had never been asked for but for its `attempts`. Raises OperatorError."""
    with _held_for(app, event_id) as (lane, event):
        if _is_searched_for(lane, event):
            raise OperatorError(
                "this event's call is searched for: wait until it is Ambiguous, or give it up"
            )
        now_s = app.clock.now_s()
        update: dict[str, object] = {
            "status": Status.PENDING,
            "error": None,
            "due_s": now_s,
            "failures": 0,
            "part": None,
            "call_id": None,
            "lost_calls": (),
            "may_have_run": False,
        }
        return _changed(app, event, event.moved(now_s, update, by=by))


def give_up(app: App, event_id: str, *, by: str | None = None) -> Result:
    """`OutcomeUnknown` where a task may have been made, else `Expired`. Raises OperatorError."""
    with _held_for(app, event_id) as (lane, event):
        code = end_of(event, lane.lane.record.call)
        return _changed(app, event, given_up(event, code, app.clock.now_s(), by=by))


def adopt(app: App, event_id: str, task_id: str, *, by: str | None = None) -> list[Result]:
    """The task is the whole call's, and is followed from now on. Raises OperatorError."""
    with _held_for(app, event_id) as (_, event):
        found = call_of(app, event)
        if event.status is not Status.UNKNOWN or found is None:
            raise OperatorError("no call for this event is in doubt, so no task can be its own")
        call = found.call
        if app.caller.claim_task(call, task_id).call_id != call.call_id:
            raise OperatorError("this task belongs to another event already")
        made = Made(task_id, call.call_id, len(call.events))
        now_s = app.clock.now_s()
        instances = {served.event_id: served.instance for served in call.events}

        def adopted(kept: Event) -> Event:
            is_its = kept.instance == instances[kept.event_id] and kept.waits
            return with_task(kept, made, now_s, attempts=kept.attempts, by=by) if is_its else kept

        changed = [app.ledger.change_event(one, adopted) for one in call.event_ids]
        return [event.result() for event in changed if event is not None and event.task_id == task_id]


def candidates(app: App, event: Event) -> list[Task]:
    """Tasks that may be the event's, looked for now: of its type, started since its call, and nobody else's.

    Raises OperatorError where there is no such call, or where Security Center does not tell.
    """
    found = call_of(app, event)
    if found is None:
        raise OperatorError("no call for this event is in doubt, so no task can be its own")
    shown = _shown(app, found.call)
    return [task for task in shown if _may_be(app.ledger.task(task.task_id), found.call)]


def _shown(app: App, call: Call) -> Sequence[Task]:
    request, deadline = call.request, app.deadline(None)
    try:
        if app.security_center.describes(request.task_type):
            since_s = call.first_sent_s - BEFORE_S
            return app.security_center.tasks_started_since(request.task_type, since_s, deadline)
        last = app.security_center.last_task(request.task_type, request.task_name, deadline)
    except QueryFailed as error:
        raise OperatorError(f"Security Center does not show its tasks: {error}") from None
    return [last] if last else []


def _may_be(owner: TaskRecord | None, call: Call) -> bool:
    return owner is None or owner.is_candidate or owner.call_id == call.call_id


@contextmanager
def _held_for(app: App, event_id: str) -> Iterator[tuple[Held, Event]]:
    """The lane of the event's type, and the event, read under it. Raises OperatorError."""
    task_type = open_event(app, event_id).request.task_type
    with held(app.ledger, app.clock, task_type, patience_s=PATIENCE_S) as lane:
        if lane is None:
            raise OperatorError(f"a call of type {task_type} is on its way: try again in some seconds")
        yield lane, open_event(app, event_id)


def _is_searched_for(lane: Held, event: Event) -> bool:
    call = lane.lane.record.call
    return call is not None and event.event_id in call.event_ids


def _changed(app: App, event: Event, changed: Event) -> Result:
    become: Callable[[Event], Event] = lambda kept: changed if kept == event else kept  # noqa: E731
    kept = app.ledger.change_event(event.event_id, become)
    if kept is not changed:
        raise OperatorError("the event has changed meanwhile: look again")
    return kept.result()
