"""What an operator and the page see of a ledger: all that is there, however much it is. It only reads.

Events are read in batches, so that 100,000 of them need no more memory than their ids do.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from datetime import datetime
from itertools import batched, islice
from typing import Any, NamedTuple

from pydantic import ValidationError

from local.damage import Damaged, found_damaged, set_aside_keys, unreadable
from local.operator import CallOfEvent, call_of, open_events
from oncetask.app import App
from oncetask.errors import Code
from oncetask.ledger.records import Event
from oncetask.models import Status, instant

BATCH = 100
SLOTS = 10
"""How many tasks Security Center runs at once."""
OPEN_STATES = (Status.PENDING, Status.UNKNOWN)
STATES = tuple(status for status in Status if status is not Status.DUPLICATE)
"""Every state that an event may have in the ledger."""


class Filter(NamedTuple):
    """Which events are meant; None: any. Without a state, the open ones."""

    route: str | None = None
    state: str | None = None
    code: str | None = None
    older_than_s: int | None = None
    limit: int | None = None

    @property
    def says_something(self) -> bool:
        """Whether it leaves anything out."""
        return any(part is not None for part in self)

    @property
    def is_open(self) -> bool:
        """Whether open events alone can match: nothing else has to be read then."""
        return self.state is None or self.state in OPEN_STATES

    @property
    def is_damaged(self) -> bool:
        """Whether records are meant that cannot be read, wherever they stand."""
        return self.code == Code.RECORD_DAMAGED

    def takes(self, event: Event, now_s: float) -> bool:
        """But for the limit."""
        code = event.error.code if event.error else None
        return (
            self.route in {None, event.route}
            and self.state in {None, event.status}
            and self.code in {None, code}
            and (self.older_than_s is None or now_s - event.received_s > self.older_than_s)
        )


def events(app: App, chosen: Filter) -> Iterator[Event]:
    """Those that the filter takes, oldest first, at most its limit; ended ones while they are kept."""
    now_s = app.clock.now_s()
    if not chosen.is_open:
        return _ended_events(app, chosen, now_s)
    found = (event for part in open_events(app, chosen.route) for event in part.events)
    return islice((event for event in found if chosen.takes(event, now_s)), chosen.limit)


def _ended_events(app: App, chosen: Filter, now_s: float) -> Iterator[Event]:
    """Found by reading the whole table once, and read again, oldest first."""
    found: list[tuple[float, str]] = []
    for row in app.ledger.store.rows("event/"):
        try:
            event = Event.model_validate_json(row.body)
        except ValidationError:
            continue
        if chosen.takes(event, now_s):
            found.append((event.received_s, event.event_id))
    ids = [event_id for _, event_id in sorted(found)[: chosen.limit]]
    for batch in batched(ids, BATCH, strict=False):
        yield from app.ledger.events(batch)


def damaged_records(app: App, chosen: Filter) -> Iterator[Damaged]:
    """What cannot be read: of what is open or was set aside where nothing is chosen; where damage is, all of
    the table; else nothing, because a damaged record tells of no route, state or age.
    """
    if chosen.is_damaged:
        yield from islice(unreadable(app.ledger.store.rows("")), chosen.limit)
    if chosen.says_something:
        return
    for key in dict.fromkeys(key for part in open_events(app) for key in part.damaged_keys):
        record = found_damaged(app, key)
        if record is not None:
            yield record
    for batch in batched(set_aside_keys(app), BATCH, strict=False):
        yield from unreadable(app.ledger.store.get_many(batch))


# -- the summary ----------------------------------------------------------------------------------


def summary(app: App) -> dict[str, Any]:
    """`{"waiting", "oldest_waiting_s", "by", "slots", "running", "damaged"}`, all of it exact."""
    now_s = app.clock.now_s()
    groups: defaultdict[tuple[str, str, str], list[float]] = defaultdict(list)
    damaged_keys = list(set_aside_keys(app))
    for part in open_events(app):
        damaged_keys += part.damaged_keys
        for event in part.events:
            code = event.error.code if event.error else ""
            groups[event.route or "(inline tasks)", event.status, code].append(event.received_s)
    by: list[dict[str, Any]] = [
        {
            "route": route,
            "status": status,
            "code": code or None,
            "count": len(received),
            "oldest_s": int(max(0, now_s - min(received))),
        }
        for (route, status, code), received in sorted(groups.items())
    ]
    tasks, lost_calls = app.ledger.running()
    running = [
        {
            "task_id": task.task_id,
            "task_type": task.task_type,
            "since": instant(task.since_s),
            "events": len(task.events),
        }
        for task in tasks.records
    ]
    damaged_keys += tasks.damaged_keys + lost_calls.damaged_keys
    return {
        "waiting": sum(len(received) for received in groups.values()),
        "oldest_waiting_s": max((one["oldest_s"] for one in by), default=0),
        "by": by,
        "slots": {"in_use": min(SLOTS, len(running)), "of": SLOTS},
        "running": running,
        "damaged": list(dict.fromkeys(damaged_keys)),
    }


# -- one event ------------------------------------------------------------------------------------


def calls_of(app: App, event: Event) -> list[CallOfEvent]:
    """Its calls that gave no answer, as far as they are remembered, oldest first."""
    found = [CallOfEvent(lost.call, lost) for lost in app.ledger.lost_calls(event.lost_calls).records]
    last = call_of(app, event)
    if last is not None and last.call.call_id not in {one.call.call_id for one in found}:
        found.append(last)
    return found


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
    return "on its way" if found.call.lost is None else "searched for"


def timeline(event: Event, calls: Iterable[CallOfEvent]) -> list[dict[str, Any]]:
    """What happened to the event, in order, as far as its records tell, and when its turn comes:
    `{"at", "what", "code", "task_id", "by", "reason"}`, the last four null where there is none.
    """
    told = [_moment(event.received_s, "recorded")]
    for found in calls:
        told += _moments_of_call(found)
    told += [
        _moment(one.at_s, one.what, code=one.code, task_id=one.task_id, by=one.by, reason=one.reason)
        for one in event.history
    ]
    if event.waits:
        told.append(_moment(event.due_s, "due"))
    if event.finish is not None:
        ended_s = datetime.fromisoformat(event.finish.finished_at).timestamp()
        told.append(_moment(ended_s, f"its task ended: {event.finish.state}"))
    return [one for _, one in sorted(told, key=lambda pair: pair[0])]


def _moments_of_call(found: CallOfEvent) -> Iterator[tuple[float, dict[str, Any]]]:
    call = found.call
    others = len(call.events) - 1
    yield _moment(call.sent_s, f"sent, together with {others} others" if others else "sent, alone")
    if call.searched_s is not None:
        yield _moment(call.searched_s, "searched for, and not found yet")
    if found.lost is not None:
        yield _moment(found.lost.closed_s, f"its call was {_state(found)}")


def _moment(at_s: float, what: str, **more: str | None) -> tuple[float, dict[str, Any]]:
    nothing = dict.fromkeys(("code", "task_id", "by", "reason"))
    return at_s, {"at": instant(at_s), "what": what, **nothing, **more}


def event_document(app: App, event_id: str) -> dict[str, Any] | None:
    """`{"result", "timeline"}` of an event; None where there is none. Raises DamagedRecord."""
    event = app.ledger.event(event_id)
    if event is None:
        return None
    return {"result": event.result().document(), "timeline": timeline(event, calls_of(app, event))}
