"""A Security Center that a scenario scripts: what SecurityCenter promises, without the wire.

It also remembers what really happened, for the laws: which events each sending was for, and what it made.
"""

import math
from collections import deque
from dataclasses import dataclass, field
from typing import NamedTuple

from oncetask.clock import Deadline
from oncetask.errors import Code, Kind, QueryFailed
from oncetask.ledger.records import Event, Lane, Served, event_key, lane_key
from oncetask.models import Answer, Ended, ErrorInfo, Outcome, Progress, Task, TaskRequest, TaskResponse
from tests.explorer.scheduler import Scheduler
from tests.explorer.store import ExploredStore

CALL_S = 0.05
TIMEOUT_S = 10.0
MARGIN_S = 1.0
SLOW_S = 100.0
"""An answer that comes so late had been read in time by a process that was frozen behind it."""
DESCRIBED = frozenset({"CLIENT_PROBLEM_CHECK", "CLIENT_DEV_OPS"})

_REFUSALS = {
    "refused": (Outcome.REFUSED, Kind.SENDER, "InvalidParam"),
    "cap": (Outcome.CAP_REACHED, Kind.REMOTE, "-110"),
    "throttled": (Outcome.THROTTLED, Kind.REMOTE, "Throttling"),
    "forbidden": (Outcome.OPERATOR, Kind.OPERATOR, "NoPermission"),
    "unlisted": (Outcome.UNLISTED, Kind.OPERATOR, "PushTaskError"),
}


class Broken(AssertionError):  # noqa: N818 - read as what became of the law
    """A law does not hold."""


class Sending(NamedTuple):
    """What one call that reached the service was for, and what came of it: a task, or a word."""

    call_id: str
    request: TaskRequest
    served: tuple[Served, ...]
    word: str
    task_id: str | None
    at_s: float


@dataclass(slots=True)
class MadeTask:
    """A task of the service; `sending` is None for another tool's."""

    task_id: str
    request: TaskRequest
    made_s: float
    shown_s: float
    sending: Sending | None = None


@dataclass(slots=True)
class ExploredService:
    """A `SecurityCenter`. `script`: what comes of the next sendings, a word each; then of all: `always`.

    The words: `made`, `unheard` (made, its answer lost), `unmade` (lost, nothing made), `slow`, `late:N`
    (lost, and shown after N seconds), and the refusals. `poison`: a target that is always refused.
    """

    scheduler: Scheduler
    store: ExploredStore
    script: deque[str] = field(default_factory=deque)
    always: str = "made"
    poison: str | None = None
    task_s: float = 300.0
    sendings: list[Sending] = field(default_factory=list)
    tasks: list[MadeTask] = field(default_factory=list)
    in_flight: dict[str, float] = field(default_factory=dict)

    def call_timeout_s(self) -> float:
        return TIMEOUT_S

    def ask_timeout_s(self) -> float:
        return TIMEOUT_S

    def prepare(self, deadline: Deadline) -> None:
        """The keys are at hand."""

    def has_time(self, deadline: Deadline) -> bool:
        return deadline.left_s() > MARGIN_S

    def describes(self, task_type: str) -> bool:
        return task_type in DESCRIBED

    # -- create -------------------------------------------------------------------------------

    def generate(self, request: TaskRequest, deadline: Deadline) -> Answer:
        fault = self.scheduler.point("generate", request.task_type)
        if not self.has_time(deadline):
            return Answer(outcome=Outcome.NOT_CONNECTED)
        lane = self._lane_of(request)
        word = fault or self._word_for(request)
        sending = self._sent(lane, request, word)
        heard_s = {"slow": SLOW_S, "made": CALL_S}.get(word, CALL_S if word in _REFUSALS else TIMEOUT_S)
        self.scheduler.sleep(heard_s)
        self.scheduler.point("answer", word)
        self.in_flight.pop(request.task_type, None)
        return _answer(sending)

    def _lane_of(self, request: TaskRequest) -> Lane:
        """The lane that this call goes out under. Raises Broken."""
        task_type, now_s = request.task_type, self.scheduler.time_s
        row = self.store.rows.get(lane_key(task_type))
        lane = Lane.model_validate_json(row.body) if row else None
        if lane is None or lane.call is None or lane.call.request != request or lane.call.answer:
            raise Broken("a call was sent that its type's lane does not hold")
        if self.in_flight.get(task_type, 0.0) > now_s:
            raise Broken("a second call of a type was sent while the first was in flight, within its claim")
        if lane.claim_ends_s <= now_s:
            raise Broken("a call was sent after its claim had ended")
        if not all(map(self._is_open, lane.call.events)):
            raise Broken("a call was sent for an event that has ended, or is another by now")
        self.in_flight[task_type] = lane.claim_ends_s
        return lane

    def _is_open(self, served: Served) -> bool:
        row = self.store.rows[event_key(served.event_id)]
        event = Event.model_validate_json(row.body)
        return event.waits and event.instance == served.instance

    def _word_for(self, request: TaskRequest) -> str:
        word = self.script.popleft() if self.script else self.always
        is_poisoned = self.poison is not None and self.poison in str(request.param.get("uuids")).split(",")
        return "refused" if is_poisoned and word == "made" else word

    def _sent(self, lane: Lane, request: TaskRequest, word: str) -> Sending:
        call = lane.call
        assert call is not None
        kind, _, after_s = word.partition(":")
        makes = kind in {"made", "slow", "unheard", "late"}
        task_id = f"task-{len(self.tasks)}" if makes else None
        sending = Sending(call.call_id, request, call.events, word, task_id, self.scheduler.time_s)
        self.sendings.append(sending)
        if task_id is not None:
            self._make(task_id, request, float(after_s or 0), sending)
        return sending

    def _make(self, task_id: str, request: TaskRequest, after_s: float, sending: Sending | None) -> None:
        now_s = self.scheduler.time_s
        self.tasks.append(MadeTask(task_id, request, now_s, now_s + after_s, sending))

    def foreign_task(self, request: TaskRequest) -> None:
        """Another tool makes a task that shows nothing to tell it from ours."""
        self._make(f"task-{len(self.tasks)}", request, 0.0, None)

    # -- queries ------------------------------------------------------------------------------

    def tasks_started_since(self, task_type: str, since_s: float, _deadline: Deadline) -> list[Task]:
        return [task for task in self._shown(task_type) if (task.started_s or 0) >= math.floor(since_s)]

    def last_task(self, task_type: str, _task_name: str, _deadline: Deadline) -> Task | None:
        return next(iter(self._shown(task_type)[::-1]), None)

    def follow(self, task_type: str, task_id: str, _task_name: str, _deadline: Deadline) -> Progress:
        shown = [task for task in self._shown(task_type) if task.task_id == task_id]
        return Progress(shown[0].state, shown[0].ended) if shown else Progress()

    def _shown(self, task_type: str) -> list[Task]:
        """Raises QueryFailed."""
        if self.scheduler.point("query", task_type) == "fail":
            raise QueryFailed(
                kind=Kind.REMOTE, code="ServerError", message="", http_status=500, request_id=None
            )
        now_s = self.scheduler.time_s
        mine = [task for task in self.tasks if task.request.task_type == task_type and task.shown_s <= now_s]
        return [self._as_shown(task) for task in mine]

    def _as_shown(self, task: MadeTask) -> Task:
        has_ended = self.scheduler.time_s >= task.made_s + self.task_s
        ended = Ended("SUCCESS", task.made_s + self.task_s) if has_ended else None
        started_s = float(math.floor(task.made_s))
        return Task(task.task_id, task.request.task_type, started_s=started_s, state="", ended=ended)


def _answer(sending: Sending) -> Answer:
    if sending.word in {"made", "slow"}:
        response = TaskResponse(task_id=sending.task_id, can_create=True)
        return Answer(outcome=Outcome.CREATED, task_id=sending.task_id, response=response)
    outcome, kind, code = _REFUSALS.get(sending.word, (Outcome.LOST, Kind.UNKNOWN, str(Code.NO_ANSWER)))
    return Answer(outcome=outcome, error=ErrorInfo(kind=kind, code=code, message="scripted"))
