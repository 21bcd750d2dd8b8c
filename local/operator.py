"""What an operator may do with open events: each change under the lane of the event's type.

retry     ask for it again at the next sweep: the operator knows that no task was made
adopt     a task is its call's: the operator found it
give-up   end it
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import batched
from typing import NamedTuple

from local.errors import CommandError
from oncetask.app import App
from oncetask.errors import DamagedRecord, QueryFailed
from oncetask.ledger.records import Call, Event, Lane, LostCall, TaskRecord, event_queue
from oncetask.models import RUNS_ON_HOSTS, Result, Status, Task
from oncetask.submit.lane import Held, held
from oncetask.submit.settlement import Made, with_task
from oncetask.sweep.matching import BEFORE_S, could_be
from oncetask.sweep.queue import end_of, given_up

PATIENCE_S = 5.0
"""How long a lane that is taken is waited for."""
HELD_AT_MOST_S = 5.0
"""How long many events of one type are changed under one claim: others want the lane, too."""
READ_AT_ONCE = 100


class OperatorError(CommandError):
    """What was asked for cannot be done; the text says why."""


class CallOfEvent(NamedTuple):
    """The call that an event waits for, or waited for last. `lost`: what is remembered of it, once closed."""

    call: Call
    lost: LostCall | None


class Part(NamedTuple):
    """Some of the open events, and the keys of those that could not be read."""

    events: list[Event]
    damaged_keys: list[str]


class Wanted(NamedTuple):
    """An event that is to be changed."""

    event_id: str
    task_type: str


class Done(NamedTuple):
    """What became of one event: its result, or why it was not changed."""

    event_id: str
    result: Result | None
    why_not: str | None = None


class Decision(NamedTuple):
    """Whose a change is, and why. `force`: also where the safeguard is against it."""

    by: str | None = None
    why: str | None = None
    force: bool = False


type Change = Callable[[Held, Event], Result]
"""What is done to one event under its type's lane. Raises OperatorError."""

# -- reading --------------------------------------------------------------------------------------


def open_events(app: App, route: str | None = None) -> Iterator[Part]:
    """Every open event, oldest first, in parts; of that route alone, where one is named."""
    queues: Iterable[str] = [event_queue(route)] if route is not None else _queues(app)
    waiting = {one.event_id: one.received_s for queue in queues for one in app.ledger.waiting(queue)}
    oldest_first = sorted(waiting, key=lambda event_id: waiting[event_id])
    for ids in batched(oldest_first, READ_AT_ONCE, strict=False):
        read = app.ledger.read_events(ids)
        yield Part([event for event in read.records if event.waits], read.damaged_keys)


def _queues(app: App) -> Iterable[str]:
    """Those of the routes, of inline tasks, and of routes that the file no longer has."""
    names = (event_queue(None), *map(event_queue, app.routes), *app.ledger.taken(()).queues)
    return dict.fromkeys(names)


def open_event(app: App, event_id: str) -> Event:
    """The event of that id, which must be open. Raises OperatorError, and DamagedRecord."""
    event = app.ledger.event(event_id)
    if event is None:
        raise OperatorError(f"there is no event {event_id}: `oncetask ledger list` names those that are open")
    if not event.waits:
        raise OperatorError(f"this event is {event.status}: there is nothing to decide")
    return event


def call_of(app: App, event: Event) -> CallOfEvent | None:
    """The event's last call, where it gave no answer; None where there is none that could be read."""
    lane = _readable_lane(app, event.request.task_type)
    call = lane.call if lane else None
    if call is not None and _serves(call, event):
        return CallOfEvent(call, None)
    ids = [one for one in (*event.lost_calls[::-1], event.call_id) if one is not None]
    for lost in app.ledger.lost_calls(ids).records:
        return CallOfEvent(lost.call, lost)
    return None


def _readable_lane(app: App, task_type: str) -> Lane | None:
    """None, too, where the lane is damaged: the next sweep frees it."""
    try:
        kept = app.ledger.lane(task_type)
    except DamagedRecord:
        return None
    return kept.record if kept else None


def _serves(call: Call, event: Event) -> bool:
    """Whether the call is for this very event, not for another one under the same id."""
    return any((one.event_id, one.instance) == (event.event_id, event.instance) for one in call.events)


def candidates(app: App, event: Event) -> list[Task]:
    """Tasks that may be the event's, as they show now: of its type, started since its call, nobody else's,
    and nothing that is shown of them differs.

    Raises OperatorError where there is no such call, or where Security Center does not tell.
    """
    found = call_of(app, event)
    if found is None:
        raise OperatorError("no call for this event is in doubt, so no task can be its own")
    shown = _shown(app, found.call)
    return [task for task in shown if could_be(found.call, task) and _may_be(app, task, found.call)]


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


def _may_be(app: App, task: Task, call: Call) -> bool:
    try:
        record: TaskRecord | None = app.ledger.task(task.task_id)
    except DamagedRecord:
        return True
    return record is None or record.is_candidate or record.call_id == call.call_id


# -- changing -------------------------------------------------------------------------------------


def retry(
    app: App, event_id: str, *, by: str | None = None, why: str | None = None, force: bool = False
) -> Result:
    """Due at once, and as if it had never been asked for but for its `attempts`.

    Raises OperatorError; also, unless by force, where an event that runs on hosts may have its task already.
    """
    with _held_for(app, event_id) as (lane, event):
        return retried(app, lane, event, Decision(by, why, force))


def give_up(app: App, event_id: str, *, by: str | None = None, why: str | None = None) -> Result:
    """`OutcomeUnknown` where a task may have been made, else `Expired`. Raises OperatorError."""
    with _held_for(app, event_id) as (lane, event):
        return ended(app, lane, event, Decision(by, why))


def retried(app: App, lane: Held, event: Event, decision: Decision) -> Result:
    """As `retry`, for an event whose lane is held."""
    call = lane.lane.record.call
    if call is not None and _serves(call, event):
        raise OperatorError("this event's call is searched for: wait until it is Ambiguous, or give it up")
    if event.request.task_type == RUNS_ON_HOSTS and not decision.force:
        _raise_where_it_may_have_run(app, event)
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
    return _changed(app, lane, event, event.moved(now_s, update, by=decision.by, why=decision.why))


def _raise_where_it_may_have_run(app: App, event: Event) -> None:
    """What runs operations on hosts is never asked for twice while a task may be its own."""
    if not (event.may_have_run or event.status is Status.UNKNOWN) or call_of(app, event) is None:
        return
    if candidates(app, event):
        raise OperatorError(
            f"a task that may be this event's is there, and {RUNS_ON_HOSTS} must not run twice: "
            "`oncetask ledger adopt ID` lists it; --force asks again all the same"
        )


def ended(app: App, lane: Held, event: Event, decision: Decision) -> Result:
    """As `give_up`, for an event whose lane is held."""
    now_s = app.clock.now_s()
    failed = given_up(event, end_of(event, lane.lane.record.call), now_s, by=decision.by, why=decision.why)
    return _changed(app, lane, event, failed)


def adopt(
    app: App, event_id: str, task_id: str, *, by: str | None = None, why: str | None = None
) -> list[Result]:
    """The task is the whole call's, and is followed from now on. Raises OperatorError."""
    with _held_for(app, event_id) as (_, event):
        found = call_of(app, event)
        if event.status is not Status.UNKNOWN or found is None:
            raise OperatorError("no call for this event is in doubt, so no task can be its own")
        call = found.call
        if app.caller.claim_task(call, task_id).call_id != call.call_id:
            raise OperatorError("this task belongs to another event already")
        made = Made(task_id, call.call_id, len(call.events), by=by, why=why)
        now_s = app.clock.now_s()

        def adopted(kept: Event) -> Event:
            if not (_serves(call, kept) and kept.waits):
                return kept
            return with_task(kept, made, now_s, attempts=kept.attempts)

        changed = [app.ledger.change_event(one, adopted) for one in call.event_ids]
        return [event.result() for event in changed if event is not None and event.task_id == task_id]


def each_changed(app: App, wanted: Iterable[Wanted], change: Change) -> Iterator[Done]:
    """What became of each, type by type, many under one claim; a lane that stays taken is waited for once."""
    by_type: dict[str, deque[str]] = {}
    for one in wanted:
        by_type.setdefault(one.task_type, deque()).append(one.event_id)
    for task_type, event_ids in by_type.items():
        while event_ids:
            yield from _some_changed(app, task_type, event_ids, change)


def _some_changed(app: App, task_type: str, event_ids: deque[str], change: Change) -> list[Done]:
    """Takes from the ids what it has done."""
    done: list[Done] = []
    with held(app.ledger, app.clock, task_type, patience_s=PATIENCE_S) as lane:
        if lane is None:
            done = [Done(event_id, None, _is_taken(task_type)) for event_id in event_ids]
            event_ids.clear()
            return done
        began_s = app.clock.elapsed_s()
        while event_ids and app.clock.elapsed_s() - began_s < HELD_AT_MOST_S:
            done.append(_one_changed(app, lane, event_ids.popleft(), change))
    return done


def _one_changed(app: App, lane: Held, event_id: str, change: Change) -> Done:
    try:
        return Done(event_id, change(lane, open_event(app, event_id)))
    except (OperatorError, DamagedRecord) as error:
        return Done(event_id, None, str(error))


@contextmanager
def _held_for(app: App, event_id: str) -> Iterator[tuple[Held, Event]]:
    """The lane of the event's type, and the event, read under it. Raises OperatorError."""
    task_type = open_event(app, event_id).request.task_type
    with held(app.ledger, app.clock, task_type, patience_s=PATIENCE_S) as lane:
        if lane is None:
            raise OperatorError(_is_taken(task_type))
        yield lane, open_event(app, event_id)


def _is_taken(task_type: str) -> str:
    return f"a call of type {task_type} is on its way: try again in some seconds"


def _changed(app: App, lane: Held, event: Event, changed: Event) -> Result:
    if not lane.is_ours():
        raise OperatorError("the change took too long, and others may work on the event: look again")
    become: Callable[[Event], Event] = partial(_where_unchanged, event, changed)
    if app.ledger.change_event(event.event_id, become) is not changed:
        raise OperatorError("the event has changed meanwhile: look again")
    return changed.result()


def _where_unchanged(event: Event, changed: Event, kept: Event) -> Event:
    return changed if kept == event else kept
