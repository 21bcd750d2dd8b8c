"""What becomes of an event by the answer to its call. Pure.

created ───────────────→ created, until its task has ended
cap reached ───────────→ pending, at the end of its queue
throttled, not connected,
not permitted ─────────→ pending, due after a backoff that its whole call shares
unlisted, alone ───────→ the same
refused, alone ────────→ rejected
either, in a group ────→ pending, in two parts that are asked for apart
lost ──────────────────→ unknown; the call keeps the lane and is searched for
searched for in vain ──→ unknown, at the end of its queue, longer each time, in smaller parts; or ambiguous
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from oncetask.errors import Code, Kind
from oncetask.ledger.records import Call, Event, Served
from oncetask.models import RUNS_ON_HOSTS, Answer, ErrorInfo, Outcome, Status, TaskResponse
from oncetask.submit.grouping import targets_of

type Jitter = Callable[[float], float]
"""From a number of seconds to a random one between zero and it."""

BACKOFF_S = {Kind.REMOTE: (5, 300), Kind.OPERATOR: (15, 900)}
"""First and longest wait in seconds, by who must act; doubled at every failure in a row, full jitter."""
MOST_DOUBLINGS = 16

WAITS_AFTER_LOSS_S = (60, 300, 1800, 7200)
"""How long an event waits after its first to fourth call was searched for in vain."""
MOST_LOST_CALLS = 5
HALVED_LOSSES = 2
"""After so many losses a group is asked for in halves; after one more, each of its events is alone."""

AMBIGUOUS = ErrorInfo(
    kind=Kind.OPERATOR,
    code=Code.AMBIGUOUS,
    message="it cannot be told whether a task was made: decide with `oncetask ledger`",
)

_WAITS_WITH_BACKOFF = {Outcome.THROTTLED, Outcome.NOT_CONNECTED, Outcome.OPERATOR, Outcome.UNLISTED}
DIVIDES_GROUPS = {Outcome.REFUSED, Outcome.UNLISTED}


def retry_s(answer: Answer, failures: Iterable[int], now_s: float, jitter: Jitter) -> float | None:
    """When a call's events may be asked for again, drawn once so that they stay together; None: no backoff.

    `failures`: how many answers in a row each of its events has had that called for one.
    """
    if answer.outcome not in _WAITS_WITH_BACKOFF:
        return None
    if answer.retry_after_ms is not None:
        return now_s + answer.retry_after_ms / 1000
    kind = answer.error.kind if answer.error else Kind.REMOTE
    return now_s + backoff_s(kind, max(failures, default=0), jitter)


def backoff_s(kind: Kind, failures: int, jitter: Jitter) -> float:
    """How long to wait after so many failures in a row before this one, by who must act."""
    first_s, longest_s = BACKOFF_S[Kind.OPERATOR if kind is Kind.OPERATOR else Kind.REMOTE]
    return jitter(min(longest_s, first_s * 2 ** min(failures, MOST_DOUBLINGS)))


class Settlement(NamedTuple):
    """An answered call, about to be applied to its events. Applied twice, it changes nothing more."""

    call: Call
    answer: Answer
    parts: Mapping[str, str]
    served: Mapping[str, Served]
    now_s: float

    @classmethod
    def of(cls, call: Call, answer: Answer, events: Sequence[Event], now_s: float) -> "Settlement":
        """What the answer means for these events, which are all of the call's that there are."""
        served = {one.event_id: one for one in call.events}
        return cls(call, answer, _parts_of_group(call, answer, events), served, now_s)

    def apply(self, event: Event) -> Event:
        """The event as the answer leaves it."""
        served = self.served.get(event.event_id)
        if served is None or served.instance != event.instance:
            return event  # another event under the same id: the call was not sent for it
        # A task is told to an event that was settled or given up meanwhile, too: it is there.
        if self.answer.outcome is Outcome.CREATED:
            made = Made.answered(self.call, self.answer)
            return with_task(event, made, self.now_s, attempts=served.attempts + 1)
        if not event.waits or not self._is_due_for(event, served):
            return event  # settled by this answer already, or by a later one
        return event.moved(self.now_s, self._counted(served) | self._moved(event))

    def _is_due_for(self, event: Event, served: Served) -> bool:
        """Attempts only grow: they tell a settlement that is due from one that was applied. A call that
        counts as lost may still be answered.
        """
        if event.attempts == served.attempts:
            return True
        is_late = self.answer.outcome is not Outcome.LOST and _is_lost_with(event, self.call)
        return is_late and event.attempts == served.attempts + 1

    def _counted(self, served: Served) -> dict[str, object]:
        return {
            "call_id": self.call.call_id,
            "attempts": served.attempts + 1,
            "error": self.answer.error,
        }

    def _moved(self, event: Event) -> dict[str, object]:
        part = self.parts.get(event.event_id)
        if part is not None:
            is_refused = self.answer.outcome is Outcome.REFUSED
            error = None if is_refused else self.answer.error  # which of them was refused is not known
            return {"status": Status.PENDING, "error": error, "due_s": self.now_s, "part": part}
        match self.answer.outcome:
            case Outcome.REFUSED:
                return {"status": Status.REJECTED, "settled_s": self.now_s}
            case Outcome.LOST:
                # Not due before its end: the lane's search decides, not the queue.
                return {"status": Status.UNKNOWN, "due_s": event.give_up_s, "may_have_run": True}
            case Outcome.CAP_REACHED:
                return {"status": Status.PENDING, "due_s": self.now_s, "failures": 0}
        return {
            "status": Status.PENDING,
            "due_s": self.call.retry_s or self.now_s,
            "failures": event.failures + 1,
            "part": None if self.answer.outcome is Outcome.UNLISTED else event.part,
        }


class Made(NamedTuple):
    """A task that is known to be a call's. `response` is null where a search found it; `by`, `why`: the
    operator who found it, and their reason.
    """

    task_id: str
    call_id: str
    shared_by: int
    response: TaskResponse | None = None
    by: str | None = None
    why: str | None = None

    @classmethod
    def answered(cls, call: Call, answer: Answer) -> "Made":
        """The task in the call's answer."""
        return cls(str(answer.task_id), call.call_id, len(call.events), answer.response)


def with_task(event: Event, made: Made, now_s: float, *, attempts: int) -> Event:
    """The event once its call is known to have made a task: it gets the task while it is open. Where it has
    another task, or was given up, this is a second task, or one too late, and the operator is told.
    """
    told: dict[str, object] = {"error": _second_task(made.task_id)}
    if event.task_id == made.task_id or event.error == told["error"]:
        return event
    found: dict[str, object] = {
        "status": Status.CREATED,
        "task_id": made.task_id,
        "response": made.response,
        "shared_by": made.shared_by,
        "settled_s": now_s,
        "call_id": made.call_id,
        "error": None,
        "attempts": max(event.attempts, attempts),
    }
    if event.waits:
        return event.moved(now_s, found, by=made.by, why=made.why)
    if event.status is Status.FAILED:
        return event.moved(now_s, found | told)
    return event.moved(now_s, told)


def is_second_task(before: Event, after: Event) -> bool:
    """Whether that change told of a task beyond the one that the event goes by."""
    return after is not before and after.error is not None and after.error.code == Code.SECOND_TASK


def _second_task(task_id: str) -> ErrorInfo:
    return ErrorInfo(
        kind=Kind.OPERATOR,
        code=Code.SECOND_TASK,
        message=f"a second task, or one that came too late, was made for this event: {task_id}",
    )


# -- calls without an answer ----------------------------------------------------------------------


def searched_in_vain(event: Event, call: Call, now_s: float) -> Event:
    """The event once nothing showed that its call made a task: it waits, longer each time, and is asked for
    again in half of its group; after the last time, or where it runs on hosts, it is ambiguous.
    """
    if not _is_lost_with(event, call):
        return event
    losses = (*event.lost_calls, call.call_id)
    if call.request.task_type == RUNS_ON_HOSTS or len(losses) >= MOST_LOST_CALLS:
        return _ambiguous(event, losses, now_s)
    return event.moved(
        now_s,
        {
            "lost_calls": losses,
            "due_s": now_s + WAITS_AFTER_LOSS_S[len(losses) - 1],
            "part": _part_after_loss(event, call, len(losses)),
        },
    )


def left_to_operator(event: Event, call: Call, now_s: float) -> Event:
    """The event once nobody can tell whether its call made a task."""
    if event.is_ambiguous or not (_is_lost_with(event, call) or _was_lost_with(event, call)):
        return event
    return _ambiguous(event, tuple(dict.fromkeys((*event.lost_calls, call.call_id))), now_s)


def left_without_a_search(event: Event, now_s: float) -> Event:
    """The event whose earlier calls cannot be read any more, so that nobody can search for their tasks."""
    return event if event.is_ambiguous else _ambiguous(event, event.lost_calls, now_s)


def _ambiguous(event: Event, losses: tuple[str, ...], now_s: float) -> Event:
    update = {"lost_calls": losses, "error": AMBIGUOUS, "due_s": event.give_up_s}
    return event.moved(now_s, update)


def _was_lost_with(event: Event, call: Call) -> bool:
    """Whether it waits for its next attempt since that call, or one after it, was searched for in vain."""
    return event.status is Status.UNKNOWN and call.call_id in event.lost_calls


def _is_lost_with(event: Event, call: Call) -> bool:
    """Whether the event waits for that call: it was sent for this very event, and nothing came since."""
    served = next((one for one in call.events if one.event_id == event.event_id), None)
    return (
        served is not None
        and served.instance == event.instance
        and event.status is Status.UNKNOWN
        and event.call_id == call.call_id
        and call.call_id not in event.lost_calls
    )


def _part_after_loss(event: Event, call: Call, losses: int) -> str:
    ids = call.event_ids
    if losses > HALVED_LOSSES or len(ids) == 1:
        return f"{call.call_id}/{event.event_id}"
    return f"{call.call_id}/{0 if ids.index(event.event_id) < len(ids) // 2 else 1}"


# -- divided groups -------------------------------------------------------------------------------


def _parts_of_group(call: Call, answer: Answer, events: Sequence[Event]) -> dict[str, str]:
    """Event id to the part that it is asked for with next; empty where nothing is to be divided.

    The event whose target the service's message names stands alone; else the group is halved.
    Derived from the call and its events' own requests, so that a second reckoning gives the same.
    """
    if answer.outcome not in DIVIDES_GROUPS or call.is_alone:
        return {}
    ids = call.event_ids
    named = [event.event_id for event in events if _is_named(event, answer)]
    first = set(named) if len(named) == 1 else set(ids[: len(ids) // 2])
    return {event_id: f"{call.call_id}/{0 if event_id in first else 1}" for event_id in ids}


_WORD = re.compile(r"[\w-]")


def _is_named(event: Event, answer: Answer) -> bool:
    """Whether the message holds one of the event's targets as a word of its own."""
    if answer.error is None:
        return False
    message = answer.error.message
    return any(_holds_word(message, target) for target in targets_of(event) if target)


def _holds_word(message: str, word: str) -> bool:
    """By plain search, bounded by the message's length: no expression is made of what a sender wrote."""
    start = message.find(word)
    while start >= 0:
        around = message[start - 1 : start] + message[start + len(word) : start + len(word) + 1]
        if _WORD.search(around) is None:
            return True
        start = message.find(word, start + 1)
    return False
