"""What waits: a queue a route, read by due time; the routes take turns, a call each."""

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from oncetask.errors import Code, Kind
from oncetask.ledger.ledger import Waiting
from oncetask.ledger.records import Call, Event, event_queue
from oncetask.models import ErrorInfo, Status
from oncetask.sweep.context import Context

MOST_DUE = 2000
"""How many due events of a route one sweep reads."""
MOST_DUE_BYTES = 16_000_000
"""How much of them, by what they ask for."""
READ_AT_ONCE = 100
COUNTED = 10_000
"""How far the gauges are exact."""


@dataclass(slots=True)
class RouteQueue:
    """One route's due events, oldest first. `open_events`: how many are open, as far as counted."""

    queue: str
    due: list[str] = field(default_factory=list)
    open_events: int = 0


def read_queues(context: Context, queues: Iterable[str]) -> list[RouteQueue]:
    """Each route's queue as the index shows it; what is open goes into the gauges."""
    return [_read_queue(context, queue) for queue in dict.fromkeys(queues)]


def _read_queue(context: Context, queue: str) -> RouteQueue:
    found = RouteQueue(queue)
    now_s, full_at = context.now_s(), context.rules.max_open.get(queue, 0)
    for waiting in context.ledger.waiting(queue):
        is_due = waiting.due_s <= now_s
        if is_due and len(found.due) < MOST_DUE:
            found.due.append(waiting.event_id)
        found.open_events += 1
        _count(context, waiting)
        is_counted = len(context.open.waiting) >= COUNTED and found.open_events >= full_at
        if is_counted and (not is_due or len(found.due) >= MOST_DUE):
            break
        # A route may have as many as its max_open says, and what is behind these is only counted.
        if found.open_events >= MOST_DUE and not context.is_in_time_to_write():
            break
    return found


def _count(context: Context, waiting: Waiting) -> None:
    if len(context.open.waiting) < COUNTED:
        context.open.waiting[waiting.event_id] = waiting.received_s


def by_turn(queues: Sequence[RouteQueue], turns: dict[str, float]) -> list[RouteQueue]:
    """Those with something due, the one whose turn was longest ago first."""
    return sorted((queue for queue in queues if queue.due), key=lambda queue: turns.get(queue.queue, 0.0))


def due_events(context: Context, queue: RouteQueue) -> deque[Event]:
    """The queue's due events as they stand, bounded by what they hold; damaged ones are set aside."""
    found: deque[Event] = deque()
    left_bytes = MOST_DUE_BYTES
    for start in range(0, len(queue.due), READ_AT_ONCE):
        read = context.ledger.read_events(queue.due[start : start + READ_AT_ONCE])
        for key in read.damaged_keys:
            context.set_aside(key)
        # As the record says, not the index: a row that lags would be asked for, or ended, a second time.
        for event in read.records:
            if _is_due(event, queue, context.now_s()):
                found.append(event)
                left_bytes -= event.request.line_bytes()
        if left_bytes <= 0:
            break
    return found


def _is_due(event: Event, queue: RouteQueue, now_s: float) -> bool:
    """The index may lag behind the record."""
    return (
        event.waits and event_queue(event.route) == queue.queue and min(event.due_s, event.give_up_s) <= now_s
    )


# -- giving up ------------------------------------------------------------------------------------


def is_past_its_end(event: Event, now_s: float) -> bool:
    """Whether it has waited for as long as its route allows."""
    return event.waits and event.give_up_s <= now_s


def given_up(
    event: Event, code: Code, now_s: float, *, by: str | None = None, why: str | None = None
) -> Event:
    """The event, failed: `Expired` if surely nothing was made, else `OutcomeUnknown`."""
    message = {
        Code.EXPIRED: f"{_why_ended(by)}; no task was made",
        Code.OUTCOME_UNKNOWN: "it was given up; whether a task was made is not known",
    }[code]
    error = ErrorInfo(kind=Kind.OPERATOR, code=code, message=message)
    return event.moved(now_s, {"status": Status.FAILED, "settled_s": now_s, "error": error}, by=by, why=why)


def _why_ended(by: str | None) -> str:
    return "it waited for as long as its route allows" if by is None else "an operator gave it up"


def end_of(event: Event, unresolved: Call | None) -> Code:
    """The code that an event is given up with. `unresolved`: the call that the type's lane holds; before a
    sweep has met it, its events do not tell that it was lost.
    """
    is_served = unresolved is not None and any(
        served.event_id == event.event_id and served.instance == event.instance
        for served in unresolved.events
    )
    in_doubt = event.may_have_run or event.status is Status.UNKNOWN or is_served
    return Code.OUTCOME_UNKNOWN if in_doubt else Code.EXPIRED


def end_event(context: Context, event: Event, unresolved: Call | None) -> None:
    """Give the event up, where it still stands as it was read."""
    failed = given_up(event, end_of(event, unresolved), context.now_s())
    context.change(event.event_id, lambda kept: failed if kept == event else kept)
