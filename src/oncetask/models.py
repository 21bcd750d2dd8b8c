"""The nouns: what is asked of Security Center, what it answers, and what becomes of an event.

All are frozen. Field names are the outside's own: Alibaba Cloud's inside `request` and `response`,
snake_case around them.
"""

import json
from datetime import UTC, datetime
from enum import StrEnum
from string import ascii_letters, digits
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from oncetask.errors import Kind, QueryFailed, Rejection

TASK_TYPES = (
    "CLIENT_PROBLEM_CHECK",
    "CLIENT_DEV_OPS",
    "ASSET_SECURITY_CHECK",
    "ASSETS_COLLECTION",
    "IMAGE_SCAN",
    "AI_SECURITY_CHECK",
    "IDC_PROBE_SCAN",
    "ATTACK_SURFACE_SCAN",
    "ASSET_EXPOSURE_SCAN",
    "VUL_CHECK_TASK",
)
"""The ten types of GenerateOnceTask (docstring of alibabacloud-sas20181203 10.3.2)."""

LOST_AFTER_S = 86_400
"""A task that has not ended so long after it was made counts as `LOST`."""

RUNS_ON_HOSTS = "CLIENT_DEV_OPS"
"""The type that runs operations on hosts: guarded at start, never asked twice."""


class Trigger(StrEnum):
    """What starts a route."""

    TIMER = "timer"
    WEBHOOK = "webhook"


class Status(StrEnum):
    """What became of an event."""

    CREATED = "created"
    DUPLICATE = "duplicate"
    PENDING = "pending"
    UNKNOWN = "unknown"
    IGNORED = "ignored"
    REJECTED = "rejected"
    FAILED = "failed"
    EXPANDED = "expanded"
    FINISHED = "finished"


class Ours(BaseModel):
    """What we write: nothing unknown in it, nothing changed after."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        populate_by_name=True,
        json_schema_serialization_defaults_required=True,
        defer_build=True,  # at the first use: no path uses them all
        cache_strings="keys",  # else 16,384 ids are kept, none of which is met twice
    )


type By = Literal["uuid", "instance-id", "private-ip", "public-ip", "name"]
"""By what a sender may call a host."""


class TaskRequest(Ours):
    """The four fields of one GenerateOnceTask request; Param as an object."""

    task_type: str = Field(alias="TaskType")
    task_name: str = Field(alias="TaskName")
    param: dict[str, Any] = Field(alias="Param")
    source: str = Field(alias="Source")

    def query(self) -> dict[str, str]:
        """The request as it travels: every parameter in the query string, Param as compact JSON."""
        return {
            "TaskType": self.task_type,
            "TaskName": self.task_name,
            "Param": compact_json(self.param),
            "Source": self.source,
        }

    def targets(self, key: str | None) -> tuple[str, ...]:
        """What Param names at that key, comma-joined; none where a route has no `targets`."""
        return () if key is None else tuple(str(self.param.get(key, "")).split(","))

    def line_bytes(self) -> int:
        """Length of the HTTP request line that carries it, in bytes. Raises ValueError: it is no Unicode."""
        query = self.query()
        fields_bytes = sum(len(f"{name}=&") + encoded_bytes(value) for name, value in query.items())
        return len("POST /? HTTP/1.1") + fields_bytes - 1


class TaskResponse(BaseModel):
    """The seven fields of GenerateOnceTask's answer; null where the service left one out.

    Numbers and texts are taken as they come: the published types contradict the published
    examples, and a surprising type must not turn a created task into an unreadable answer.
    """

    model_config = ConfigDict(
        frozen=True,
        extra="ignore",
        populate_by_name=True,
        json_schema_serialization_defaults_required=True,
        defer_build=True,  # at the first use: no path uses them all
    )

    request_id: str | None = Field(default=None, alias="RequestId")
    can_create: bool | None = Field(default=None, alias="CanCreate")
    last_task: str | int | None = Field(default=None, alias="LastTask")
    collect_time_ms: int | str | None = Field(default=None, alias="CollectTime")
    total_count: int | str | None = Field(default=None, alias="TotalCount")
    task_id: str | None = Field(default=None, alias="TaskId")
    finish_count: int | str | None = Field(default=None, alias="FinishCount")


class ErrorInfo(Ours):
    """Why an event is not (yet) a task, and who must act. `code` is the service's own where it gave one."""

    kind: Kind
    code: str
    message: str
    http_status: int | None = None
    request_id: str | None = None


class HostOutcome(Ours):
    """What a task's record says of one host; nothing of it is judged, and no code but 1003 is documented.

    `report_url` downloads a log and may be a capability: readers of the whole result are told it, and it is
    never logged, counted or answered to a sender.
    """

    uuid: str
    problem: str | None = None
    dispatch: str | None = None
    codes: tuple[str, ...] = ()
    causes: tuple[str, ...] = ()
    report_url: str | None = None


class Finish(Ours):
    """How a task ended, as the service said it; `hosts` are the event's own, the counts the whole task's."""

    state: Literal["SUCCESS", "FAIL", "TIMEOUT", "LOST"]
    ok: Annotated[bool | None, Field(description="whether it ended well; null: nobody can tell")] = None
    finished_at: str
    success_count: int | None = None
    fail_count: int | None = None
    total_count: int | None = None
    hosts: tuple[HostOutcome, ...] = ()
    hosts_left_out: Annotated[int, Field(description="how many more there are than `hosts` shows")] = 0


class Outcome(StrEnum):
    """What one call of GenerateOnceTask came to, by what must happen next."""

    CREATED = "created"
    CAP_REACHED = "cap_reached"
    THROTTLED = "throttled"
    NOT_CONNECTED = "not_connected"
    OPERATOR = "operator"
    UNLISTED = "unlisted"
    REFUSED = "refused"
    LOST = "lost"


class Answer(Ours):
    """One call's outcome, as it is recorded with its call. `task_id` is set exactly where it is CREATED."""

    outcome: Outcome
    task_id: str | None = None
    response: TaskResponse | None = None
    error: ErrorInfo | None = None
    retry_after_ms: int | None = None

    @property
    def closes_type(self) -> bool:
        """Whether this invocation asks for no more tasks of the type."""
        if self.outcome is Outcome.CREATED:
            return self.response is not None and self.response.can_create is False
        return self.outcome in {Outcome.CAP_REACHED, Outcome.OPERATOR}

    @property
    def is_odd(self) -> bool:
        """Whether the service refused with a code that no list knows."""
        return self.outcome is Outcome.UNLISTED

    @property
    def ends_asking(self) -> bool:
        """Whether this invocation asks for no more tasks at all."""
        return self.outcome in {Outcome.THROTTLED, Outcome.NOT_CONNECTED}


type EndState = Literal["SUCCESS", "FAIL", "TIMEOUT"]


class Ended(NamedTuple):
    """How a task ended; None where the service does not say it. The counts are machines."""

    state: EndState
    finished_s: float | None = None
    success_count: int | None = None
    fail_count: int | None = None
    total_count: int | None = None


class Progress(NamedTuple):
    """How far one task is: its state in the service's word, None where nothing shows the task.

    `hosts`: what its record, or those below it, say of hosts by now; empty where they say nothing, yet or
    ever. `unread`: why those below it could not be read, where the task itself has ended.
    """

    state: str | None = None
    ended: Ended | None = None
    hosts: tuple[HostOutcome, ...] = ()
    unread: QueryFailed | None = None


class Task(NamedTuple):
    """A task as a query shows it; what the service left out, or left empty, is None.

    `targets` are server UUIDs, and perhaps not yet all of the task's. `started_s` and the end are the
    service's clock, in whole seconds, as epoch seconds.
    """

    task_id: str
    task_type: str
    name: str | None = None
    source: str | None = None
    targets: frozenset[str] | None = None
    started_s: float | None = None
    state: str | None = None
    ended: Ended | None = None
    hosts: tuple[HostOutcome, ...] = ()


Instant = Annotated[str, Field(description="UTC, ISO 8601 with milliseconds and Z")]


class Result(Ours):
    """What became of one event: returned, answered, logged and printed in this one shape."""

    event_id: str | None
    status: Status
    trigger: Trigger
    route: str | None
    request: TaskRequest | None = None
    task_id: str | None = None
    response: TaskResponse | None = None
    shared_by: Annotated[int, Field(description="how many events the one task serves; 0: no task")] = 0
    attempts: Annotated[int, Field(description="how often Security Center was asked for it")] = 0
    sequence: Annotated[
        int | None, Field(description="counts an id's results from 1; null: nothing was recorded")
    ] = None
    hosts_missing: Annotated[
        list[str], Field(description="targets that no host was found for, as the sender wrote them")
    ] = []
    error: ErrorInfo | None = None
    finish: Finish | None = None
    received_at: Instant
    settled_at: Instant | None = None

    def document(self) -> dict[str, Any]:
        """The result as JSON data."""
        return self.model_dump(mode="json", by_alias=True)

    def as_duplicate(self) -> "Result":
        """What whoever brings the same event again is told of it."""
        return self.model_copy(update={"status": Status.DUPLICATE, "error": None, "finish": None})


def told_to_others(document: dict[str, Any]) -> dict[str, Any]:
    """A result's document as it may stand in a log line or an answer to a sender: without `report_url`."""
    finish = document["finish"]
    if finish is None or not finish["hosts"]:
        return document
    hosts = [host | {"report_url": None} for host in finish["hosts"]]
    return document | {"finish": finish | {"hosts": hosts}}


def results_document(results: list[dict[str, Any]]) -> dict[str, Any]:
    """`{"results", "counts"}` of result documents, every status counted, zeros included."""
    counts = dict.fromkeys(Status, 0)
    for result in results:
        counts[Status(result["status"])] += 1
    return {"results": results, "counts": {str(status): n for status, n in counts.items()}}


def rejection(  # noqa: PLR0913 - each names one field of the result
    error: Rejection,
    *,
    trigger: Trigger,
    route: str | None,
    event_id: str | None,
    now_s: float,
    request: TaskRequest | None = None,
) -> Result:
    """The `rejected` result of an event that never reached the ledger."""
    at = instant(now_s)
    return Result(
        event_id=event_id,
        status=Status.REJECTED,
        trigger=trigger,
        route=route,
        request=request,
        error=ErrorInfo(kind=Kind.SENDER, code=error.code, message=error.message),
        received_at=at,
        settled_at=at,
    )


def ignored(*, trigger: Trigger, route: str, event_id: str, now_s: float) -> Result:
    """The `ignored` result: the route's `when` is not true, or `each` gave nothing."""
    at = instant(now_s)
    return Result(
        event_id=event_id,
        status=Status.IGNORED,
        trigger=trigger,
        route=route,
        received_at=at,
        settled_at=at,
    )


def instant(at_s: float) -> str:
    """Epoch seconds as `2026-11-24T05:00:00.123Z`."""
    return datetime.fromtimestamp(at_s, UTC).isoformat(timespec="milliseconds")[:-6] + "Z"


def encoded_bytes(text: str) -> int:
    """How long a text is in a query string: three bytes for each that does not stand for itself."""
    raw = text.encode()
    return len(raw) + 2 * len(raw.translate(None, _UNENCODED))


_UNENCODED = f"{ascii_letters}{digits}_.-~ ".encode()
"""RFC 3986's unreserved characters, and the space, which becomes a plus."""


def compact_json(value: object) -> str:
    """JSON text without spaces, non-ASCII as it is."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
