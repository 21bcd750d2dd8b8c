"""What an operator and the page see of a ledger: all that is open, however much it is.

The one module here that knows how the ledger keeps what is open; it only reads. Everything is read in
batches, so that 100,000 open events need no more memory than their summaries do.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from itertools import batched, islice
from typing import Any, NamedTuple

from pydantic import ValidationError

from oncetask.app import App
from oncetask.ledger.records import Ask, Event
from oncetask.ledger.store import Row
from oncetask.models import Result, Status, instant
from oncetask.submit.submit import damaged

BATCH = 500
SLOTS = 10
"""How many tasks Security Center runs at once."""
SHOWN_BYTES = 4000
"""As much of a damaged record as is shown."""


class Filter(NamedTuple):
    """Which open events are meant; None: any."""

    route: str | None = None
    state: str | None = None
    code: str | None = None
    older_than_s: int | None = None
    limit: int | None = None

    @property
    def says_something(self) -> bool:
        """Whether it leaves anything out."""
        return any(part is not None for part in self)

    def takes(self, event: Event, now_s: float) -> bool:
        """But for the limit."""
        code = event.error.code if event.error else None
        return (
            self.route in {None, event.route}
            and self.state in {None, event.status}
            and self.code in {None, code}
            and (self.older_than_s is None or now_s - event.received_s > self.older_than_s)
        )


class Damaged(NamedTuple):
    """A record that cannot be read, and what stands in it."""

    key: str
    body: str


def open_records(app: App) -> Iterator[Event | Damaged]:
    """Every open event, oldest first, and what cannot be read among them."""
    keys = (key for _, key in app.ledger.store.open_keys("event"))
    for batch in batched(keys, BATCH, strict=False):
        for row in app.ledger.store.get_many(batch):
            record = _readable(row)
            if isinstance(record, Damaged) or record.waits:
                yield record


def open_events(app: App, chosen: Filter) -> Iterator[Event]:
    """Those that the filter takes, oldest first, at most its limit."""
    now_s = app.clock.now_s()
    found = (
        record for record in open_records(app) if isinstance(record, Event) and chosen.takes(record, now_s)
    )
    return islice(found, chosen.limit)


def damaged_records(app: App) -> Iterator[Damaged]:
    """What cannot be read of what is open."""
    return (record for record in open_records(app) if isinstance(record, Damaged))


def _readable(row: Row) -> Event | Damaged:
    try:
        return Event.model_validate_json(row.body)
    except ValidationError:
        return Damaged(row.key, row.body[:SHOWN_BYTES])


def damaged_result(app: App, record: Damaged) -> Result:
    """As the sweep reports it."""
    return damaged(record.key.removeprefix("event/"), app.clock.now_s())


# -- the summary ----------------------------------------------------------------------------------


def summary(app: App) -> dict[str, Any]:
    """`{"waiting", "oldest_waiting_s", "by", "slots", "running", "damaged"}`, all of it exact."""
    now_s = app.clock.now_s()
    groups: defaultdict[tuple[str, str, str], list[float]] = defaultdict(list)
    damaged_keys: list[str] = []
    for record in open_records(app):
        if isinstance(record, Damaged):
            damaged_keys.append(record.key)
            continue
        code = record.error.code if record.error else ""
        groups[record.route or "(inline tasks)", record.status, code].append(record.received_s)
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
    running = running_tasks(app)
    return {
        "waiting": sum(len(received) for received in groups.values()),
        "oldest_waiting_s": max((one["oldest_s"] for one in by), default=0),
        "by": by,
        "slots": {"in_use": min(SLOTS, len(running)), "of": SLOTS},
        "running": running,
        "damaged": damaged_keys,
    }


def running_tasks(app: App) -> list[dict[str, Any]]:
    """Tasks of this ledger that have not ended, as far as it knows; the longest running first."""
    return [
        {
            "task_id": ask.answer.task_id if ask.answer else None,
            "task_type": ask.request.task_type,
            "since": instant(ask.answered_s or ask.first_sent_s),
            "events": len(ask.event_ids),
        }
        for ask in app.ledger.open_asks().records
        if ask.runs
    ]


# -- one event ------------------------------------------------------------------------------------


def timeline(event: Event, ask: Ask | None) -> list[dict[str, str]]:
    """What happened to the event, in order, as far as its records tell: `{"at", "what"}`."""
    told: list[tuple[float, str]] = [(event.received_s, "recorded")]
    if ask is not None:
        told.append((ask.first_sent_s, f"sent, with {len(ask.event_ids) - 1} other events"))
        if ask.last_sent_s != ask.first_sent_s:
            told.append((ask.last_sent_s, f"sent again, {ask.sendings} times in all"))
        if ask.lost is not None:
            told.append((ask.last_sent_s, f"its answer was lost: {ask.lost.code}"))
        if ask.looked_s is not None:
            told.append((ask.looked_s, "looked for the last time so far"))
        if ask.answered_s is not None and ask.answer is not None:
            told.append((ask.answered_s, f"answered: {ask.answer.outcome}"))
    if event.settled_s is not None:
        told.append((event.settled_s, str(event.status)))
    elif event.status is Status.PENDING:
        told.append((event.due_s, "due"))
    lines = [{"at": instant(at_s), "what": what} for at_s, what in sorted(told, key=lambda one: one[0])]
    if event.finish is not None:
        lines.append({"at": event.finish.finished_at, "what": f"its task ended: {event.finish.state}"})
    return lines


def results_of(records: Iterable[Event]) -> list[dict[str, Any]]:
    """As result documents."""
    return [event.result().document() for event in records]


def event_document(app: App, event_id: str) -> dict[str, Any] | None:
    """`{"result", "timeline"}` of an event; None where there is none. Raises DamagedRecord."""
    event = app.ledger.event(event_id)
    if event is None:
        return None
    ask = app.ledger.ask(event.ask_id) if event.ask_id else None
    return {"result": event.result().document(), "timeline": timeline(event, ask)}
