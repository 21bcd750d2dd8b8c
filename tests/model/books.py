"""The model: what must be true of events, calls and tasks, told by what was written and what was made.

Every task carries the markers of its events in its Param, so that the service's own tasks say which
event was asked for how often, whatever the ledger says.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from local.emulator import Task
from local.emulator.tasks import DESCRIBED_TYPES
from oncetask.models import RUNS_ON_HOSTS, Result
from oncetask.submit.settlement import MOST_LOST_CALLS
from tests.model.deliveries import markers

type Body = dict[str, Any]

OWN_WINDOW_S = 4.0
"""A task that started later after its sending may lie outside of where it is taken for ours."""
LATE_SLACK_S = 20.0
"""A sending may come later than its record by what a claim leaves it."""

ALLOWED = {
    "pending": {"pending", "unknown", "created", "rejected", "failed"},
    "unknown": {"unknown", "pending", "created", "rejected", "failed"},
    "created": {"created", "finished"},
    "finished": {"finished"},
    "rejected": {"pending", "rejected"},
    "failed": {"pending", "created"},
}
"""From status to status, of one record; a freed id begins again as `pending`, and a task that comes too late
is told.
"""


class Violation(AssertionError):  # noqa: N818 - a state of the code, not of the test
    """The code broke a promise."""


def require(holds: object, promise: str, *shown: object) -> None:
    """Raises Violation."""
    if not holds:
        raise Violation(" | ".join([promise, *(str(thing) for thing in shown)]))


def brief(body: Body | None) -> str:
    """An event's record, as far as it tells what happened."""
    if body is None:
        return "nothing"
    error = (body.get("error") or {}).get("code")
    names = ("event_id", "status", "task_id", "call_id", "attempts", "lost_calls")
    return f"{ {name: body[name] for name in names} } error={error}"


def told_shortly(key: str, body: Body | None) -> str:
    """A record in a few words."""
    if body is None:
        return "gone"
    if key.startswith("event/"):
        return f"{body['status']} {code(body) or ''} task={body['task_id']} attempts={body['attempts']}"
    call = body.get("call") if key.startswith(("lane/", "call/")) else None
    if call is not None:
        outcome = (call["answer"] or {}).get("outcome") or ("lost" if call["lost"] else "in flight")
        return f"{call['call_id'][:6]} {call['request']['Param']} {outcome} {body.get('why', '')}"
    return str(body.get("call_id", ""))


def waits(event: Body) -> bool:
    """Neither settled nor given up."""
    return event["status"] in {"pending", "unknown"}


def code(event: Body) -> str | None:
    """The event's error code."""
    return (event["error"] or {}).get("code")


def frees_its_id(event: Body) -> bool:
    """Whether a later event may take the id."""
    return event["status"] == "rejected" or (event["status"] == "failed" and code(event) == "Expired")


def runs(task: Body) -> bool:
    """It has not ended, as far as the ledger knows."""
    return task["ended_s"] is None and not task["is_candidate"]


def checked_write(key: str, before: Body | None, after: Body | None, calls: Mapping[str, Body]) -> None:
    """What holds for every single write. Raises Violation."""
    kind = key.partition("/")[0]
    if kind == "event" and after is not None:
        _check_served(after, calls)
        if before is not None and before != after:
            _check_event_change(before, after)
    if kind == "task" and before is not None and after is not None:
        same = before["call_id"] == after["call_id"] or before["is_candidate"]
        require(same, "a task's owner never changes", before, after)
    if kind == "lane" and before is not None and after is not None:
        _check_lane_change(before, after)


def _check_served(event: Body, calls: Mapping[str, Body]) -> None:
    """Whatever comes to an event comes by a call that was sent for this very one, not for its predecessor."""
    if event["call_id"] is None:
        return
    served = {one["event_id"]: one["instance"] for one in calls[event["call_id"]]["events"]}
    theirs = served.get(event["event_id"])
    require(theirs == event["instance"], "an answer is for those it was sent for alone", brief(event), served)


def _check_lane_change(before: Body, after: Body) -> None:
    was, now = before["call"], after["call"]
    same = was is None or (now is not None and was["call_id"] == now["call_id"])
    require(same, "one call of a type at a time", before, after)
    if was is not None and now is not None:
        require(was["answer"] is None or was["answer"] == now["answer"], "an answer stands", was, now)


def _check_event_change(before: Body, after: Body) -> None:
    moves = (before["status"], after["status"])
    shown = (brief(before), brief(after))
    require(moves[1] in ALLOWED[moves[0]], "an event takes only the ways of the contract", *shown)
    if before["status"] in {"created", "finished"}:
        require(before["task_id"] == after["task_id"], "a created event keeps its task", *shown)
    is_told = code(after) == "SecondTask"
    if before["status"] in {"rejected", "failed"} and not is_told:
        require(frees_its_id(before), "a bound id is not taken by another event", *shown)
    elif before["status"] == "failed":
        require(is_told, "a task that came too late is told as such", *shown)
    elif waits(before):
        require(after["attempts"] >= before["attempts"], "attempts are never forgotten", *shown)
    require(after["sequence"] >= before["sequence"], "results are counted upwards", *shown)


def check_call(call: Body, events: Mapping[str, Body]) -> None:
    """What a call that is about to be sent asks for: what its events say, and no more than each allows."""
    served = [events[one["event_id"]] for one in call["events"]]
    expected = _merged(served)
    require(call["request"] == expected, "a request is what its events said", call["request"], expected)
    key = served[0]["target_key"]
    if key is None:
        return
    targets = str(call["request"]["Param"].get(key, "")).split(",")
    most = min(event["max_targets"] for event in served)
    require(len(set(targets)) == len(targets), "a task's targets are unique", call)
    require(len(targets) <= most, "a task has no more targets than any of its events allows", call, most)


def _merged(events: list[Body]) -> Body:
    """One request for these events: theirs where they differ in their targets alone."""
    first = events[0]
    if len(events) == 1:
        return dict(first["request"])
    key = first["target_key"]
    shapes = {json.dumps(_without_targets(event), sort_keys=True) for event in events}
    require(len(shapes) == 1 and key, "what shares a task is alike but for its targets", *map(brief, events))
    targets = [one for event in events for one in event["request"]["Param"][key].split(",")]
    param = first["request"]["Param"] | {key: ",".join(dict.fromkeys(targets))}
    return first["request"] | {"Param": param}


def _without_targets(event: Body) -> Body:
    request, key = event["request"], event["target_key"]
    param = {name: value for name, value in request["Param"].items() if name != key}
    return request | {"Param": param, "route": event["route"], "submit": event["submit"], "key": key}


@dataclass(slots=True)
class Apart:
    """How far the service's clock and ours are apart, and since when: a history."""

    looks_back_s: float
    _moments: list[tuple[float, float]] = field(default_factory=list)

    def note(self, at_s: float, apart_s: float) -> None:
        """From then on, by the service's clock, so far."""
        self._moments.append((at_s, apart_s))

    def beyond(self, from_s: float, to_s: float, most_s: float = 4.0) -> bool:
        """Whether they were too far apart, or moved against each other, at any time in between."""
        shown = self._shown(from_s, to_s)
        return max(map(abs, shown)) > most_s or max(shown) - min(shown) > most_s

    def moved(self, from_s: float, to_s: float) -> bool:
        """Whether one of them was set at all."""
        return len(set(self._shown(from_s, to_s))) > 1

    def _shown(self, from_s: float, to_s: float) -> list[float]:
        before = [apart for at_s, apart in self._moments if at_s <= from_s][-1:]
        return [*before, *(apart for at_s, apart in self._moments if from_s < at_s <= to_s)] or [0.0]


@dataclass(slots=True)
class Made:
    """What is on the service, by what it says of itself."""

    tasks: list[Task]
    asked_late_s: Mapping[float, float]

    def own(self) -> list[Task]:
        """Those that our calls made."""
        return [task for task in self.tasks if not task.foreign]

    def of_marker(self) -> dict[str, list[Task]]:
        """An event's tasks in the order of their sending."""
        found: defaultdict[str, list[Task]] = defaultdict(list)
        for task in sorted(self.own(), key=lambda task: task.created_by_call or 0):
            for marker in set(markers(task.param)):
                found[marker].append(task)
        return found

    def by_id(self) -> dict[str, Task]:
        """All of them."""
        return {task.task_id: task for task in self.tasks}

    def sent_s(self, task: Task) -> float:
        """When it was asked for."""
        return self.asked_late_s.get(task.created_s, task.created_s)

    def hidden_s(self, task: Task) -> float:
        """How long after its sending no query showed it."""
        return task.visible_s - self.sent_s(task)


@dataclass(slots=True)
class Audit:
    """The books of a world that was healed: every event and every task is accounted for, or a Violation."""

    events: Mapping[str, Body]
    calls: Mapping[str, Body]
    owners: Mapping[str, Body]
    made: Made
    apart: Apart
    look_s: float
    failed_queries_s: Sequence[float]
    haunted: Callable[[Body], bool]
    limits: Counter[str] = field(default_factory=Counter)

    def check(self) -> None:
        """Raises Violation."""
        for event in self.events.values():
            self._check_end(event)
            self._check_task(event)
        for marker, tasks in self.made.of_marker().items():
            self._check_tasks_of(marker, tasks)
        for task in self.made.own():
            self._check_owned(task)
        self._check_sent_as_recorded()

    # -- events -------------------------------------------------------------------------------

    def _check_end(self, event: Body) -> None:
        ended = event["status"] in {"finished", "rejected", "failed"}
        left = event["status"] == "unknown" and code(event) == "Ambiguous"
        refused_for_ever = event["status"] == "pending" and self.haunted(event)
        require(
            ended or left or refused_for_ever,
            "healed, everything ends or is left to the operator",
            brief(event),
        )
        if code(event) == "Ambiguous":
            self._check_ambiguous(event)
        if code(event) == "SecondTask":
            self.limits["events noticed with a SecondTask"] += 1
        if refused_for_ever:
            self.limits["refused for ever, until its end"] += 1

    def _check_ambiguous(self, event: Body) -> None:
        calls = [self.calls[call_id] for call_id in event["lost_calls"]]
        require(calls, "what is ambiguous was asked for", brief(event))
        cause = self._why_ambiguous(event, calls[-1])
        require(cause, "an event is left to the operator only for a cause", brief(event), calls[-1])
        self.limits[f"Ambiguous: {cause}"] += 1

    def _why_ambiguous(self, event: Body, call: Body) -> str | None:
        """Why nobody could tell whose a task is."""
        if event["request"]["TaskType"] == RUNS_ON_HOSTS:
            return "it runs on hosts, and was searched for in vain"
        if len(event["lost_calls"]) >= MOST_LOST_CALLS:
            return "sent five times in vain"
        if self._no_search_has_worked(call):
            return "no search has worked"
        return self._why_not_told_apart(event, call)

    def _no_search_has_worked(self, call: Body) -> bool:
        closed_s = call["closed_s"]
        has_failed = any(closed_s - 60 <= at_s <= closed_s + 60 for at_s in self.failed_queries_s)
        is_late = closed_s >= call["sent_s"] + 2 * self.look_s
        return has_failed and is_late and not call["candidates"]

    def _why_not_told_apart(self, event: Body, call: Body) -> str | None:
        task_type, first_s, closed_s = event["request"]["TaskType"], call["first_sent_s"], call["closed_s"]
        own = self.made.of_marker().get(marker_of(event), [])
        if any(task.created_s - call["sent_s"] > OWN_WINDOW_S for task in own):
            return "its task started late"
        if self.apart.beyond(first_s - 60, closed_s + 400):
            return "clocks apart"
        others = [
            task
            for task in self.made.tasks
            if task.type == task_type and task not in own and first_s - 10 <= task.created_s <= closed_s + 10
        ]
        if call["earlier"] and others and task_type not in DESCRIBED_TYPES:
            return "sent again, and the type's last task came since the first sending"
        return self._why_others_hide_it(others, first_s)

    def _why_others_hide_it(self, others: list[Task], first_s: float) -> str | None:
        if any(task.foreign for task in others):
            return "a foreign task"
        if any(self._is_stray(task) for task in others):
            return "another event's stray task"
        undescribed = any(task.type not in DESCRIBED_TYPES for task in others)
        if undescribed and self.apart.moved(first_s - 15, first_s + 5):
            return "the clock was set back since the type's last task"
        return None

    def _check_task(self, event: Body) -> None:
        """The task that an event has is its own."""
        if event["task_id"] is None:
            return
        task = self.made.by_id().get(event["task_id"])
        require(task is not None, "an event's task exists", brief(event))
        if task is None:
            return
        self._check_finish(event, task)
        if marker_of(event) in markers(task.param):
            return
        call = self.calls[event["call_id"]]
        shown = (brief(event), task, call)
        require(task.type == event["request"]["TaskType"], "a task taken for ours is of the type", *shown)
        self._check_window(call, task, shown)
        if task.foreign:
            self.limits["foreign task taken for ours"] += 1
            return
        require(self._is_stray(task), "another event's task is taken only where it was a stray", *shown)
        self.limits["stray task of another event taken for ours"] += 1

    def _check_finish(self, event: Body, task: Task) -> None:
        """It ended as the service says; only DescribeOnceTask tells FAIL from TIMEOUT."""
        known = {"NEVER": "LOST"}
        if task.type not in DESCRIBED_TYPES:
            known["FAIL"] = "TIMEOUT"
        told = event["finish"] and event["finish"]["state"]
        require(
            told == known.get(task.end_state, task.end_state), "an event ends as its task", brief(event), task
        )
        shared_by = len(self.calls[event["call_id"]]["events"])
        require(
            event["shared_by"] == shared_by, "shared_by counts the task's events", brief(event), shared_by
        )

    def _check_window(self, call: Body, task: Task, shown: tuple[object, ...]) -> None:
        sent_s = self.made.sent_s(task)
        first_s, last_s = call["first_sent_s"], call["sent_s"]
        inside = first_s - 7 <= task.created_s <= last_s + 12
        require(
            inside or self.apart.beyond(sent_s - 60, sent_s + 3600),
            "a task is taken only where it started within the window",
            *shown,
        )

    # -- tasks --------------------------------------------------------------------------------

    def _check_tasks_of(self, marker: str, tasks: list[Task]) -> None:
        """No event has two tasks, but where a limit that the README names explains it."""
        for task, next_task in pairwise(tasks):
            cause = self._why_not_seen(task, self.made.sent_s(next_task))
            event = self._event_of(marker)
            require(cause, "no event has two tasks", marker, brief(event), *tasks)
            self.limits[f"two tasks: {cause}"] += 1

    def _why_not_seen(self, task: Task, next_sent_s: float) -> str | None:
        if self.made.hidden_s(task) > self.look_s - LATE_SLACK_S:
            return "the first was shown after the look"
        if self.apart.beyond(self.made.sent_s(task) - 60, next_sent_s):
            return "clocks apart"
        return None

    def _check_owned(self, task: Task) -> None:
        if task.task_id in self.owners:
            return
        events = [self._event_of(marker) for marker in markers(task.param)]
        cause = self._why_not_seen(task, self.made.sent_s(task) + 3600) or self._why_unowned(events)
        owned_by = [brief(event) for event in events]
        require(cause, "every task is owned, foreign, or a named limit's", task, *owned_by)
        self.limits[f"unowned: {cause}"] += 1

    def _why_unowned(self, events: Iterable[Body | None]) -> str | None:
        known = [event for event in events if event is not None]
        if any(event["status"] == "unknown" for event in known):
            return "its event is left to the operator"
        if any(event["lost_calls"] for event in known):
            return "its event was sent again"
        if any(event["status"] == "failed" and code(event) == "OutcomeUnknown" for event in known):
            return "its event was given up as OutcomeUnknown"
        tasks = self.made.by_id()
        if any(event["task_id"] and tasks[event["task_id"]].foreign for event in known):
            return "a foreign task was taken for it"
        return None

    def _check_sent_as_recorded(self) -> None:
        """Every task is one recorded call's, word for word; and no call made two."""
        recorded = Counter(_wire(call["request"]) for call in self.calls.values())
        made = Counter((task.type, task.name, task.source, task.param) for task in self.made.own())
        for sent, count in made.items():
            require(sent in recorded, "a task is what a recorded call says", sent)
            require(count <= recorded[sent], "a call is sent once", sent, count, recorded[sent])

    def _is_stray(self, task: Task) -> bool:
        """A task that no call could have at the time."""
        if self._why_not_seen(task, self.made.sent_s(task) + 3600):
            return True
        return self._why_unowned(self._event_of(marker) for marker in markers(task.param)) is not None

    def _event_of(self, marker: str) -> Body | None:
        return next((event for event in self.events.values() if marker == marker_of(event)), None)


def _wire(request: Body) -> tuple[str, str, str, str]:
    param = json.dumps(request["Param"], ensure_ascii=False, separators=(",", ":"))
    return request["TaskType"], request["TaskName"], request["Source"], param


def marker_of(event: Body) -> str:
    """The event's own marker: the first in its request; empty where it was rejected before it had one."""
    return next(iter(markers(json.dumps(event["request"]["Param"]))), "")


def by_kind(bodies: Mapping[str, Body], kind: str) -> dict[str, Body]:
    """The records of a kind by their names."""
    prefix = f"{kind}/"
    return {key.removeprefix(prefix): body for key, body in bodies.items() if key.startswith(prefix)}


def reported(result: Result) -> tuple[str, str | None, str | None]:
    """What a result says: status, task, error code."""
    return result.status.value, result.task_id, result.error.code if result.error else None


def recorded(event: Body) -> tuple[str, str | None, str | None]:
    """What a record says of the same."""
    return event["status"], event["task_id"], code(event)
