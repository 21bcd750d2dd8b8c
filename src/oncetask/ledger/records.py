"""What the ledger keeps: one class a kind of record."""

from typing import Literal

from pydantic import Field

from oncetask.errors import Code
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


LEASE_KEY = "lease/sweep"


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
    route: str | None = None
    item_sha256: str | None = Field(
        default=None, description="of the item as canonical JSON, to tell a reused id; None: the first wins"
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
    doubtful: bool = Field(default=False, description="a sending of it was never accounted for")
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
        age = f"{int(self.received_s * 1000):014d}.{self.order:05d}"
        due = str(int(self.due_s * 1000)) if self.status is Status.PENDING else ""
        return f"{age}|{self.request.task_type}|{due}"

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
    attempts_before: tuple[int, ...] = Field(description="how often each of them had been asked for")
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
    watched: bool = Field(default=False, description="asked again: the first sending's task may still show")
    finish: Finish | None = None
    ended_s: float | None = Field(default=None, description="closed without an answer of its own")

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
        if self.row_open() is not None:
            return None
        return int(self.ended_s or self.answered_s or self.last_sent_s) + ASK_KEPT_S

    def row_open(self) -> str | None:
        """Its place among the open asks."""
        is_open = self.unresolved or self.runs or self.watched
        return f"{int(self.first_sent_s * 1000):014d}" if is_open else None


class Place(Record):
    """The one ask of a task type that is in flight or unresolved."""

    task_type: str
    ask_id: str
    claim_ends_s: float = Field(description="if the ask was not even recorded by then, the place is free")

    def row_open(self) -> str:
        """Places are always open: each is work that somebody may have left."""
        return self.task_type


class TaskOwner(Record):
    """The ask that a task of the service belongs to."""

    task_id: str
    ask_id: str
    since_s: float

    @property
    def expires_s(self) -> int:
        """Long after anybody could take the task for theirs."""
        return int(self.since_s) + ASK_KEPT_S


class Lease(Record):
    """The one sweep that is at work."""

    holder: str
    ends_s: int

    @property
    def expires_s(self) -> int:
        """Whether or not its holder lives."""
        return self.ends_s


class Signature(Record):
    """The delivery id that a signature first came with."""

    delivery_id: str
    ends_s: int

    @property
    def expires_s(self) -> int:
        """Whatever becomes of the delivery's events."""
        return self.ends_s


def event_key(event_id: str) -> str:
    """The key of an event's record."""
    return f"event/{event_id}"


def ask_key(ask_id: str) -> str:
    """The key of an ask's record."""
    return f"ask/{ask_id}"


def place_key(task_type: str) -> str:
    """The key of a task type's place."""
    return f"place/{task_type}"


def task_key(task_id: str) -> str:
    """The key of a task's owner."""
    return f"task/{task_id}"
