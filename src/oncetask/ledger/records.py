"""What the ledger keeps: one class a kind of record. Times are epoch seconds."""

import secrets
from collections.abc import Mapping
from typing import Literal, NamedTuple, Self

from pydantic import Field

from oncetask.errors import Code
from oncetask.models import (
    Answer,
    By,
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

FORMAT = 2
"""What this version writes. A record of a higher one is left alone: a newer version serves it."""

KEPT_S = 7 * 86_400
"""How long a task and a lost call are remembered after they have ended: their ids mark tasks as ours."""

MOST_HAPPENINGS = 20

MOST_NAME_CHARS = 100
MOST_REASON_CHARS = 200
"""Of what an operator says of themselves: an event's history stays small."""

INLINE = ".inline"
"""The queue of events without a route; no route's name has a dot."""

NO_REQUEST = TaskRequest(task_type="", task_name="", param={}, source="")
"""That of an event that was rejected before it had one; its result shows none."""

RUNNING_QUEUE = "running"
"""Tasks that have not ended, and lost calls whose task may still show."""

DAMAGED_QUEUE = "damaged"
"""What was open and cannot be read: an operator finds it there, and no sweep meets it again."""

LEASE_KEY = "lease/sweep"
ROUTES_KEY = "routes/names"


class Queued(NamedTuple):
    """Where an open record stands."""

    queue: str
    due: str


class Record(Ours):
    """What all kinds share."""

    format: Literal[2] = 2

    @property
    def expires_s(self) -> int | None:
        """When the record may go; None while it is still needed."""
        return None

    def queued(self) -> Queued | None:
        """Where it stands among the open records; None: closed."""
        return None


class Happening(Ours):
    """What happened to an event: a status, our or the service's code, a task; where an operator did it, their
    name and why.
    """

    at_s: float
    what: str
    code: str | None = None
    task_id: str | None = None
    by: str | None = Field(default=None, max_length=MOST_NAME_CHARS)
    reason: str | None = Field(default=None, max_length=MOST_REASON_CHARS)


class HostRule(Ours):
    """Which hosts an event is about, as its route said when it came: resolving it needs no route."""

    by: By = "uuid"
    where: dict[str, str] = Field(default={}, description="what else must be so of a host")
    wait_s: int = Field(default=0, description="how long a host that is not found is waited for")
    most: int | None = Field(default=None, description="selects every host of `where`, up to so many")
    selected: tuple[str, ...] | None = Field(default=None, description="what was selected, as uuids")
    written: int = Field(default=0, description="how many of them are events of their own by now")

    @property
    def selects(self) -> bool:
        """Whether the event becomes one event for each host."""
        return self.most is not None


class Event(Record):
    """One accepted event."""

    event_id: str
    instance: str = Field(
        default_factory=lambda: secrets.token_hex(6),
        description="tells this event from an earlier or later one under the same id",
    )
    status: Status
    trigger: Trigger
    route: str | None = None
    item_sha256: str | None = Field(
        default=None, description="of the item as canonical JSON, to tell another item under the same id"
    )
    first_wins: bool = Field(
        default=False, description="the id is the item's own: another item changes nothing"
    )
    request: TaskRequest
    submit: Literal["now", "sweep"]
    target_key: str | None = Field(default=None, description="the key of Param that holds its targets")
    max_targets: int = 1
    hosts: HostRule | None = Field(default=None, description="what is to be looked up before it is asked for")
    order: int = Field(description="its index in the delivery or tick")
    received_s: float
    due_s: float = Field(
        description="not asked for before; while its own handler may still ask: when that has ended"
    )
    give_up_s: float
    keep_s: int
    attempts: int = 0
    failures: int = Field(default=0, description="answers in a row that call for backoff")
    part: str | None = Field(default=None, description="which part of a divided group it is asked for with")
    call_id: str | None = Field(default=None, description="the last call that was applied to it")
    lost_calls: tuple[str, ...] = Field(default=(), description="calls searched for in vain, oldest first")
    may_have_run: bool = Field(default=False, description="a call for it was lost at some time")
    task_id: str | None = None
    response: TaskResponse | None = None
    shared_by: int = 0
    hosts_missing: tuple[str, ...] = ()
    error: ErrorInfo | None = None
    finish: Finish | None = None
    settled_s: float | None = None
    sequence: int = 1
    history: tuple[Happening, ...] = ()

    @property
    def coalesces(self) -> bool:
        """Whether it may share a task with others of its route."""
        return self.submit == "sweep" and self.target_key is not None

    @property
    def is_ready(self) -> bool:
        """Whether it may be asked for once its turn comes: it waits, and its hosts are known."""
        return self.waits and self.hosts is None

    @property
    def waits(self) -> bool:
        """Neither settled nor given up."""
        return self.status in {Status.PENDING, Status.UNKNOWN}

    @property
    def is_ambiguous(self) -> bool:
        """Whether nobody but an operator can tell what became of it."""
        return self.status is Status.UNKNOWN and _code_of(self.error) == Code.AMBIGUOUS

    @property
    def frees_its_id(self) -> bool:
        """A later event may take the id: this one surely made no task and never will."""
        if self.status is Status.FAILED:
            return _code_of(self.error) == Code.EXPIRED
        return self.status in {Status.REJECTED, Status.IGNORED}

    @property
    def expires_s(self) -> int | None:
        """When the record may go; None while the event or its task has not ended."""
        if self.waits or self.status is Status.CREATED or self.settled_s is None:
            return None
        return int(self.settled_s) + self.keep_s

    def queued(self) -> Queued | None:
        """By route, at the sooner of its next attempt and its end; behind that, what the gauges need."""
        if not self.waits:
            return None
        due_ms = int(min(self.due_s, self.give_up_s) * 1000)
        return Queued(
            event_queue(self.route), f"{due_ms:014d}|{int(self.received_s * 1000):014d}.{self.order:05d}"
        )

    def moved(
        self, at_s: float, update: Mapping[str, object], *, by: str | None = None, why: str | None = None
    ) -> Self:
        """The event with these fields; a new result raises `sequence`, and every move is remembered.

        `by`, `why`: the operator whose decision it is, and their reason.
        """
        moved = self.model_copy(update=update)
        happening = Happening(
            at_s=round(at_s, 3),
            what=moved.status,
            code=_code_of(moved.error),
            task_id=moved.task_id,
            by=by,
            reason=why,
        )
        is_new = moved.told() != self.told()
        return moved.model_copy(
            update={
                "sequence": self.sequence + is_new,
                "history": (*self.history, happening)[-MOST_HAPPENINGS:],
            }
        )

    def told(self) -> tuple[object, ...]:
        """What makes a result a new one where it differs."""
        return self.status, _code_of(self.error), self.task_id, self.request, self.finish

    def result(self) -> Result:
        """Where the event stands."""
        return Result(
            event_id=self.event_id,
            status=self.status,
            trigger=self.trigger,
            route=self.route,
            request=None if self.request == NO_REQUEST else self.request,
            task_id=self.task_id,
            response=self.response,
            shared_by=self.shared_by,
            attempts=self.attempts,
            sequence=self.sequence,
            hosts_missing=list(self.hosts_missing),
            error=self.error,
            finish=self.finish,
            received_at=instant(self.received_s),
            settled_at=None if self.settled_s is None else instant(self.settled_s),
        )

    def result_seen_again(self) -> Result:
        """What a second delivery of a bound id is told: `duplicate` once it was settled."""
        if self.status not in {Status.CREATED, Status.EXPANDED, Status.FINISHED}:
            return self.result()
        return self.result().as_duplicate()


class Served(NamedTuple):
    """One event of a call: the very one under that id, and how often it had been asked for before."""

    event_id: str
    instance: str
    attempts: int

    @classmethod
    def of(cls, event: Event) -> "Served":
        """The event as it stands before the call is sent."""
        return cls(event.event_id, event.instance, event.attempts)


class Call(Ours):
    """One GenerateOnceTask call, recorded before it is sent. It is sent once."""

    call_id: str
    request: TaskRequest
    events: tuple[Served, ...]
    sent_s: float
    first_sent_s: float = Field(description="of the first lost call of any of its events, else `sent_s`")
    target_key: str | None = Field(default=None, description="the key of Param that holds its targets")
    earlier: tuple[str, ...] = Field(default=(), description="lost calls of its events, oldest first")
    lost: ErrorInfo | None = Field(default=None, description="it was asked, and gave no usable answer")
    searched_s: float | None = Field(default=None, description="when it was last searched for")
    answer: Answer | None = None
    retry_s: float | None = Field(default=None, description="when its events may be asked for again")

    @property
    def is_alone(self) -> bool:
        """Whether it serves one event."""
        return len(self.events) == 1

    @property
    def targets(self) -> tuple[str, ...]:
        """What it was sent for; empty where its events name none."""
        return self.request.targets(self.target_key)

    @property
    def event_ids(self) -> tuple[str, ...]:
        """The ids of its events."""
        return tuple(served.event_id for served in self.events)


class Lane(Record):
    """A task type's one call in flight or unresolved; or nothing but a holder who ends or reopens events."""

    task_type: str
    call: Call | None = None
    holder: str = Field(default_factory=lambda: secrets.token_hex(8), description="token of the claim")
    claim_ends_s: float = Field(description="the holder's call, or its other work, has surely ended by then")

    @property
    def is_unresolved(self) -> bool:
        """Whether its call has no answer."""
        return self.call is not None and self.call.answer is None


class LostCall(Record):
    """A call that was searched for in vain, or that nobody can tell the outcome of."""

    call: Call
    why: Literal["in-vain", "ambiguous"]
    closed_s: float
    candidates: tuple[str, ...] = Field(default=(), description="task ids held as perhaps this call's")
    watched_until_s: float | None = Field(
        default=None, description="its events were sent again: until then its own task may still show"
    )
    needed_until_s: float = Field(description="its events have ended by then")

    @property
    def expires_s(self) -> int:
        """Long after its events have ended."""
        return int(self.needed_until_s) + KEPT_S

    def queued(self) -> Queued | None:
        """Among what runs, while its task may still show."""
        if self.watched_until_s is None:
            return None
        return Queued(RUNNING_QUEUE, f"{int(self.closed_s * 1000):014d}")


class TaskRecord(Record):
    """A task of the service: which call's it is, and whom to tell when it has ended."""

    task_id: str
    call_id: str
    task_type: str
    task_name: str
    events: tuple[Served, ...] = ()
    targets: tuple[str, ...] = ()
    since_s: float = Field(description="when it became known here")
    is_candidate: bool = Field(default=False, description="perhaps that call's; nobody follows it")
    sweeps_ended: int = Field(default=0, description="how many sweeps have seen its end and awaited details")
    ended_s: float | None = None

    @property
    def runs(self) -> bool:
        """Whether it is followed: it has not ended, as far as we know."""
        return self.ended_s is None and not self.is_candidate

    @property
    def expires_s(self) -> int | None:
        """Long after anybody could take the task for theirs."""
        return None if self.runs else int(self.ended_s or self.since_s) + KEPT_S

    def queued(self) -> Queued | None:
        """Among what runs."""
        return Queued(RUNNING_QUEUE, f"{int(self.since_s * 1000):014d}") if self.runs else None


class Lease(Record):
    """The one sweep that is at work, and what one sweep tells the next; it is never deleted."""

    holder: str = ""
    ends_s: float = 0.0
    turns: dict[str, float] = Field(default={}, description="queue to when its last turn was")
    full_routes: tuple[str, ...] = ()
    followed_to: str = Field(
        default="", description="the task that was followed last; the next begins behind"
    )


class RouteNames(Record):
    """Every queue of events that there ever was: a route's events are found also where the file forgot it."""

    queues: tuple[str, ...] = ()


class SignedBytes(Record):
    """The delivery id that signed bytes came with, and since when."""

    delivery_id: str
    since_s: float
    ends_s: int

    @property
    def expires_s(self) -> int:
        """When no event of the delivery can be bound any more."""
        return self.ends_s


def event_queue(route: str | None) -> str:
    """The queue of a route's events."""
    return f"event/{route or INLINE}"


def event_key(event_id: str) -> str:
    """The key of an event's record."""
    return f"event/{event_id}"


def lane_key(task_type: str) -> str:
    """The key of a task type's lane."""
    return f"lane/{task_type}"


def call_key(call_id: str) -> str:
    """The key of a lost call's record."""
    return f"call/{call_id}"


def task_key(task_id: str) -> str:
    """The key of a task's record."""
    return f"task/{task_id}"


def _code_of(error: ErrorInfo | None) -> str | None:
    return None if error is None else error.code


def is_created(call: Call) -> bool:
    """Whether the call's answer is a task."""
    return call.answer is not None and call.answer.outcome is Outcome.CREATED
