"""The ledger: idempotency record, durable queue and task history in one.

Four kinds of record, each changed by one conditional write at a time; no transaction spans two:

    event       what was accepted: its request, where it stands, when it is due, how it ended
    ask         one GenerateOnceTask call, once sent or about to be, and the events that it serves
    place       the one ask that a task type has in flight or unresolved, over all processes
    signature   which delivery a signature first came with, where the delivery id is not signed

    record event -> take place -> record ask -> (send) -> answer on it -> settle events -> give place back
         |              | died: the place ends with its claim   | died: the place still names the ask,
         | died: the sweep finds it                             | so the next sweep looks or settles

Whoever holds a type's place is the only one who asks for events of that type, so events need no
locks of their own: they are read anew under the place. A `Store` keeps rows and knows nothing of
these rules; memory, SQLite and DynamoDB differ only there.
"""

import secrets
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from pydantic import Field, ValidationError

from oncetask.clock import Clock
from oncetask.errors import Code, DamagedRecord, LedgerUnavailable
from oncetask.models import (
    Answer,
    ErrorInfo,
    Finish,
    Ours,
    Outcome,
    Result,
    Status,
    TaskRequest,
    TaskResponse,
    Trigger,
    instant,
)

ASK_KEPT_S = 7 * 86_400
"""How long an ask that made no task, or whose task has ended, is remembered: its id marks tasks as ours."""

WRITE_TRIES = 20
"""How often a change is tried anew when another process changed the record in between."""


@dataclass(frozen=True, slots=True)
class Row:
    """One stored record. `key` is `{kind}/{name}`; `version` changes with every write.

    `open` is the record's place in the order of its kind's open records, oldest first; None: closed,
    and not in the index. `expires_s` (epoch seconds): the store may delete it after that.
    """

    key: str
    version: str
    open: str | None
    expires_s: int | None
    body: str


class Store(Protocol):
    """Where rows are kept. Every method raises LedgerUnavailable where the store cannot be reached."""

    def get(self, key: str) -> Row | None:
        """The row as last written, strongly consistent; rows past `expires_s` may still be there."""

    def get_many(self, keys: Sequence[str]) -> list[Row]:
        """The rows that exist, in the order of the keys; otherwise as `get`."""

    def put(self, row: Row, *, replacing: str | None) -> bool:
        """Write if the stored row has the version `replacing` (None: there is no row); else False.

        A retried write that meets its own version has succeeded.
        """

    def delete(self, key: str, *, version: str) -> bool:
        """Delete if the stored row has this version; else False. A row already gone is False."""

    def open_keys(self, kind: str) -> Iterator[tuple[str, str]]:
        """`(open, key)` of every open row of a kind, oldest first; lazily; may lag behind writes."""

    def forget_expired(self, now_s: float) -> None:
        """Delete what has expired, where the store does not do so by itself."""

    def close(self) -> None:
        """Release connections."""


class Record(Ours):
    """What the four kinds share. `format` tells records of another version."""

    format: Literal[1] = 1

    @property
    def expires_s(self) -> int | None:
        """When the record may go, epoch seconds; None while it is still needed."""
        return None

    def row_open(self) -> str | None:
        """Its place in the order of its kind's open records; None: closed."""
        return None


class Event(Record):
    """One accepted event. Times are epoch seconds."""

    event_id: str
    status: Status
    trigger: Trigger
    route: str | None
    item_sha256: str | None = Field(
        description="of the item as canonical JSON, to tell a reused id; None: the first wins"
    )
    request: TaskRequest
    submit: Literal["now", "sweep"]
    target_key: str | None = Field(default=None, description="the key of Param that holds its targets")
    max_targets: int = 1
    order: int = Field(description="its index in the delivery or tick")
    received_s: float
    due_s: float = Field(
        description="not asked before; while its own handler may still ask: when that has ended"
    )
    give_up_s: float
    keep_s: int
    attempts: int = 0
    failures: int = Field(default=0, description="answers in a row that call for backoff")
    part: str | None = Field(default=None, description="which half of a refused group it is asked with")
    ask_id: str | None = Field(default=None, description="the last ask that was applied to it")
    ask_sendings: int = Field(default=0, description="how many of that ask's sendings `attempts` holds")
    task_id: str | None = None
    response: TaskResponse | None = None
    shared_by: int = 0
    error: ErrorInfo | None = None
    finish: Finish | None = None
    settled_s: float | None = None

    @property
    def coalesces(self) -> bool:
        """Whether it may share a task with others of its route."""
        return self.submit == "sweep" and self.target_key is not None

    @property
    def waits(self) -> bool:
        """Neither settled nor given up."""
        return self.status in {Status.PENDING, Status.UNKNOWN}

    @property
    def frees_its_id(self) -> bool:
        """A later event may take the id: this one surely made no task and never will."""
        if self.status is Status.FAILED:
            return self.error is not None and self.error.code == Code.EXPIRED
        return self.status in {Status.REJECTED, Status.IGNORED}

    @property
    def expires_s(self) -> int | None:
        """When the record may go; None while the event or its task has not ended."""
        if self.waits or self.status is Status.CREATED or self.settled_s is None:
            return None
        return int(self.settled_s) + self.keep_s

    def row_open(self) -> str | None:
        """Its place among the open events: age first, then what a look at the index alone must tell."""
        if not self.waits:
            return None
        due = self.due_s if self.status is Status.PENDING else 0
        return (
            f"{int(self.received_s * 1000):014d}.{self.order:05d}|{self.request.task_type}|{int(due * 1000)}"
        )

    def result(self) -> Result:
        """Where the event stands."""
        return Result(
            event_id=self.event_id,
            status=self.status,
            trigger=self.trigger,
            route=self.route,
            request=self.request,
            task_id=self.task_id,
            response=self.response,
            shared_by=self.shared_by,
            attempts=self.attempts,
            error=self.error,
            finish=self.finish,
            received_at=instant(self.received_s),
            settled_at=None if self.settled_s is None else instant(self.settled_s),
        )

    def result_seen_again(self) -> Result:
        """What a second delivery of a bound id is told: `duplicate` once there is a task."""
        if self.status not in {Status.CREATED, Status.FINISHED}:
            return self.result()
        return self.result().model_copy(update={"status": Status.DUPLICATE, "error": None, "finish": None})


class Ask(Record):
    """One GenerateOnceTask call, recorded before it is sent. Times are epoch seconds."""

    ask_id: str
    request: TaskRequest
    event_ids: tuple[str, ...]
    first_sent_s: float
    last_sent_s: float
    sendings: int = 1
    claim: str = Field(description="token of the process whose call is out; later writes depend on it")
    claim_ends_s: float = Field(description="that call has surely ended by then")
    lost: ErrorInfo | None = Field(default=None, description="asked, no usable answer")
    looked_s: float | None = Field(default=None, description="when it was last looked for")
    answer: Answer | None = None
    answered_s: float | None = None
    candidates: tuple[str, ...] = Field(default=(), description="task ids held as perhaps this ask's")
    finish: Finish | None = None
    ended_s: float | None = None

    @property
    def unresolved(self) -> bool:
        """In flight, or lost and still looked for."""
        return self.answer is None and self.ended_s is None

    @property
    def runs(self) -> bool:
        """Its task has not ended yet, as far as we know."""
        return self.answer is not None and self.answer.outcome is Outcome.CREATED and self.finish is None

    @property
    def expires_s(self) -> int | None:
        """When the record may go; None while the call or its task has not ended."""
        if self.unresolved or self.runs:
            return None
        return int(self.ended_s or self.answered_s or self.last_sent_s) + ASK_KEPT_S

    def row_open(self) -> str | None:
        """Its place among the open asks."""
        return f"{int(self.first_sent_s * 1000):014d}" if self.unresolved or self.runs else None


class Place(Record):
    """The one ask of a task type that is in flight or unresolved."""

    task_type: str
    ask_id: str
    claim_ends_s: float = Field(description="if the ask was not even recorded by then, the place is free")

    def row_open(self) -> str:
        """Places are always open: each is work that somebody may have left."""
        return self.task_type


class Signature(Record):
    """The delivery id that a signature first came with."""

    delivery_id: str
    ends_s: int

    @property
    def expires_s(self) -> int:
        """Whatever becomes of the delivery's events."""
        return self.ends_s


@dataclass(frozen=True, slots=True)
class Kept[R: Record]:
    """A record as it was read, with the version that a change of it must still meet."""

    record: R
    version: str


@dataclass(frozen=True, slots=True)
class Waiting:
    """An open event as the index shows it; `due_s` is None where it is `unknown`."""

    event_id: str
    task_type: str
    received_s: float
    due_s: float | None


class Ledger:
    """The rules over one store. Every method raises LedgerUnavailable where the store cannot be reached,
    and DamagedRecord where the record in question cannot be read.
    """

    def __init__(self, store: Store, clock: Clock) -> None:
        self.store = store
        self.clock = clock

    # -- events -------------------------------------------------------------------------------

    def record(self, event: Event) -> tuple[Event, bool]:
        """Keep a new event unless its id is bound: the event that has the id, and whether it is this one."""
        key = event_key(event.event_id)
        for _ in range(WRITE_TRIES):
            if self._put(key, event, replacing=None):
                return event, True
            kept = self._get(key, Event, even_expired=True)
            if kept is None:
                continue
            if not self._has_expired(kept.record) and not kept.record.frees_its_id:
                return kept.record, False
            if self._put(key, event, replacing=kept.version):
                return event, True
        raise _contended(key)

    def event(self, event_id: str) -> Event | None:
        """The event of that id; None where there is none, or it has expired."""
        kept = self._get(event_key(event_id), Event)
        return kept.record if kept else None

    def events(self, event_ids: Iterable[str]) -> list[Event]:
        """Those that exist, in the order given; damaged ones are left out."""
        rows = self.store.get_many([event_key(event_id) for event_id in event_ids])
        found = (_readable(row, Event) for row in rows)
        return [event for event in found if event is not None and not self._has_expired(event)]

    def change_event(self, event_id: str, change: Callable[[Event], Event]) -> Event | None:
        """Apply a pure change to the event as it stands now; None where there is none.

        A change that returns its argument writes nothing.
        """
        return self._change(event_key(event_id), Event, change)

    def waiting(self) -> Iterator[Waiting]:
        """Every open event, oldest first, lazily, from the index alone: it may lag behind the records."""
        for mark, key in self.store.open_keys("event"):
            age, task_type, due_ms = mark.split("|")
            yield Waiting(
                event_id=key.removeprefix("event/"),
                task_type=task_type,
                received_s=float(age.split(".")[0]) / 1000,
                due_s=int(due_ms) / 1000 if due_ms else None,
            )

    # -- the place of a task type -------------------------------------------------------------

    def take_place(self, place: Place) -> Kept[Place] | None:
        """Take the type's place; None where another ask has it.

        A place whose claim has ended although its ask was never recorded is free: whoever held it
        asks nothing after that moment.
        """
        key = place_key(place.task_type)
        version = self._put(key, place, replacing=None)
        if version:
            return Kept(place, version)
        kept = self._get(key, Place)
        if kept is None or kept.record.claim_ends_s > self.clock.now_s():
            return None
        if self.ask(kept.record.ask_id) is not None:
            return None
        version = self._put(key, place, replacing=kept.version)
        return Kept(place, version) if version else None

    def give_place_back(self, place: Kept[Place]) -> None:
        """The ask is resolved and its events are settled: the type may be asked for again."""
        self.store.delete(place_key(place.record.task_type), version=place.version)

    def places(self) -> list[Kept[Place]]:
        """Every place that is taken."""
        kept = (self._get(key, Place) for _, key in self.store.open_keys("place"))
        return [place for place in kept if place is not None]

    # -- asks ---------------------------------------------------------------------------------

    def record_ask(self, ask: Ask) -> None:
        """Keep what is about to be sent."""
        if not self._put(ask_key(ask.ask_id), ask, replacing=None):
            raise _contended(ask_key(ask.ask_id))

    def ask(self, ask_id: str) -> Ask | None:
        """The ask of that id; None where there is none, or it has expired."""
        kept = self._get(ask_key(ask_id), Ask)
        return kept.record if kept else None

    def change_ask(self, ask_id: str, change: Callable[[Ask], Ask]) -> Ask | None:
        """As `change_event`."""
        return self._change(ask_key(ask_id), Ask, change)

    def open_asks(self) -> list[Ask]:
        """Unresolved asks and those whose task runs, oldest first; damaged ones are left out."""
        rows = self.store.get_many([key for _, key in self.store.open_keys("ask")])
        return [ask for row in rows if (ask := _readable(row, Ask)) and ask.row_open()]

    # -- signatures ---------------------------------------------------------------------------

    def first_delivery(self, route: str, signature_sha256: str, delivery_id: str, keep_s: int) -> str:
        """The delivery id that this signature first came with, within `keep_s`; this one if it is new."""
        key = f"signature/{route}/{signature_sha256}"
        mine = Signature(delivery_id=delivery_id, ends_s=int(self.clock.now_s()) + keep_s)
        for _ in range(WRITE_TRIES):
            if self._put(key, mine, replacing=None):
                return delivery_id
            kept = self._get(key, Signature, even_expired=True)
            if kept is None:
                continue
            if not self._has_expired(kept.record):
                return kept.record.delivery_id
            if self._put(key, mine, replacing=kept.version):
                return delivery_id
        raise _contended(key)

    # -- the one conditional write ------------------------------------------------------------

    def _put(self, key: str, record: Record, *, replacing: str | None) -> str | None:
        version = secrets.token_hex(8)
        row = Row(key, version, record.row_open(), record.expires_s, record.model_dump_json(by_alias=True))
        return version if self.store.put(row, replacing=replacing) else None

    def _get[R: Record](self, key: str, kind: type[R], *, even_expired: bool = False) -> Kept[R] | None:
        row = self.store.get(key)
        if row is None:
            return None
        record = _readable(row, kind)
        if record is None:
            raise DamagedRecord(key)
        if self._has_expired(record) and not even_expired:
            return None
        return Kept(record, row.version)

    def _change[R: Record](self, key: str, kind: type[R], change: Callable[[R], R]) -> R | None:
        for _ in range(WRITE_TRIES):
            kept = self._get(key, kind)
            if kept is None:
                return None
            changed = change(kept.record)
            if changed is kept.record or self._put(key, changed, replacing=kept.version):
                return changed
        raise _contended(key)

    def _has_expired(self, record: Record) -> bool:
        return record.expires_s is not None and record.expires_s <= self.clock.now_s()


def event_key(event_id: str) -> str:
    """The key of an event's record."""
    return f"event/{event_id}"


def ask_key(ask_id: str) -> str:
    """The key of an ask's record."""
    return f"ask/{ask_id}"


def place_key(task_type: str) -> str:
    """The key of a task type's place."""
    return f"place/{task_type}"


def _readable[R: Record](row: Row, kind: type[R]) -> R | None:
    try:
        return kind.model_validate_json(row.body)
    except ValidationError:
        return None


def _contended(key: str) -> LedgerUnavailable:
    return LedgerUnavailable(f"the ledger's record {key} changes faster than it can be written; try again")
