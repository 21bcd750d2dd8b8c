"""The service's state: one-time tasks, how they come to exist, and how they end."""

import bisect
import math
import secrets
from collections.abc import Callable, Iterable, Mapping
from operator import attrgetter

from . import views
from .answers import Answer, ApiError
from .behaviour import Behaviour, EndState
from .refusals import Parameters, invalid, required, whole
from .task import Task, object_of, targets_of

TASK_TYPES = frozenset(
    {
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
    }
)
"""What GenerateOnceTask takes (api-facts 2)."""

DESCRIBED_TYPES = frozenset(
    {
        "VUL_CHECK_TASK",
        "CLIENT_PROBLEM_CHECK",
        "CLIENT_DEV_OPS",
        "ASSET_SECURITY_CHECK",
        "ASSET_REFRESH_HOST",
    }
)
"""What DescribeOnceTask takes (api-facts 1.1)."""


class Tasks:
    """All tasks of one account; not thread-safe."""

    def __init__(self, clock: Callable[[], float], behaviour: Behaviour) -> None:
        self._clock = clock
        self._behaviour = behaviour
        self.forget()

    def forget(self) -> None:
        """No tasks any more."""
        self._by_id: dict[str, Task] = {}
        self._by_type: dict[str, list[Task]] = {}
        self._running: list[Task] = []
        self._late: list[Task] = []
        self._newest_id = ""

    def all(self) -> list[Task]:
        """Every task that exists by now, in the order they came to exist."""
        self._settle()
        return list(self._by_id.values())

    def generate(
        self, parameters: Parameters, *, late_s: float = 0.0, call_number: int | None = None
    ) -> Answer:
        """GenerateOnceTask; with `late_s` the task comes to exist so much later, cap or no cap."""
        now_s = self._settle()
        task = self._asked_for(parameters, now_s + late_s)
        task.created_by_call = call_number
        if late_s <= 0 and len(self._running) >= self._behaviour.cap:
            return self.at_cap()
        previous_id = self._newest_id
        self._admit(task, now_s)
        return self._created(task, previous_id)

    def at_cap(self) -> Answer:
        """The answer when no task more may run: a raised ApiError or CanCreate false."""
        match self._behaviour.cap_answer:
            case "code":
                message = "The number of running once tasks has reached the limit."
                raise ApiError(400, "OnceTaskLimitExceeded", message)
            case "quota":
                raise ApiError(400, "-110", f"quota full, quota is {self._behaviour.cap}")
        return {"CanCreate": False, "LastTask": views.shown_id(self._newest_id, self._behaviour)}

    def describe(self, parameters: Parameters) -> Answer:
        """DescribeOnceTask: one page of tasks, newest first."""
        now_s = self._settle()
        if not parameters.get("RootTaskId"):
            required(parameters, "TaskType", self._behaviour)
        if parameters.get("TaskType") and parameters["TaskType"] not in DESCRIBED_TYPES:
            raise invalid("TaskType", self._behaviour)
        found = [task for task in self._described(parameters) if task.visible_s <= now_s]
        entries = [entry for task in found for entry in self._entries(task, parameters, now_s)]
        return _page(entries, parameters)

    def result_info(self, parameters: Parameters) -> Answer:
        """GetOnceTaskResultInfo: one task by id; empty TaskInfo where it is not known."""
        now_s = self._settle()
        task_type = self._task_type(parameters)
        required(parameters, "TaskName", self._behaviour)
        task = self._by_id.get(required(parameters, "TaskId", self._behaviour).strip())
        if task is None or task.type != task_type or task.visible_s > now_s:
            return views.no_result_info()
        return views.result_info(task, now_s, self._behaviour)

    def last_info(self, parameters: Parameters) -> Answer:
        """GetLastOnceTaskInfo: the newest task of a type, of one Source if that is given."""
        now_s = self._settle()
        task_type = self._task_type(parameters)
        required(parameters, "TaskName", self._behaviour)
        shown = (t for t in self._newest_first(task_type) if t.visible_s <= now_s)
        task = next(iter(self._of_source(shown, parameters.get("Source"))), None)
        return views.last_info(task, now_s, self._behaviour)

    def add_foreign(
        self, task_type: str, *, name: str | None, source: str | None, started_s: float | None
    ) -> Task:
        """A task of another tool, that counts toward the cap but is not held back by it."""
        now_s = self._settle()
        at_s = now_s if started_s is None else started_s
        task = self._new(type_=task_type, name=name or task_type, source=source or "", param="{}", at_s=at_s)
        task.foreign = True
        self._admit(task, now_s)
        return task

    def finish(self, task_id: str, end_state: EndState) -> None:
        """Ends that task now, or for "NEVER" lets it run for ever."""
        task = self._by_id[task_id]
        task.end_state = end_state
        task.ends_s = math.inf if end_state == "NEVER" else self._clock()
        self._running = [t for t in self._by_id.values() if t.ends_s > self._clock()]

    def _asked_for(self, parameters: Parameters, at_s: float) -> Task:
        task_type = self._task_type(parameters)
        name = required(parameters, "TaskName", self._behaviour)
        param = required(parameters, "Param", self._behaviour)
        if object_of(param) is None:
            raise invalid("Param", self._behaviour)
        self._refuse_broken(task_type, param)
        self._refuse_poison(param)
        self._fail(task_type, param)
        source = parameters.get("Source", "")
        return self._new(type_=task_type, name=name, source=source, param=param, at_s=at_s)

    def _task_type(self, parameters: Parameters) -> str:
        task_type = required(parameters, "TaskType", self._behaviour)
        if task_type not in TASK_TYPES | self._behaviour.extra_task_types:
            raise invalid("TaskType", self._behaviour)
        return task_type

    def _refuse_poison(self, param: str) -> None:
        if not self._behaviour.poison:
            return
        for target in targets_of(param):
            if target in self._behaviour.poison:
                named = f" uuid {target}" if self._behaviour.poison_named else ""
                raise invalid("Param", self._behaviour, named)

    def _refuse_broken(self, task_type: str, param: str) -> None:
        """What is always answered so, however often it is asked for."""
        broken = self._behaviour.broken
        for word in (task_type, *targets_of(param)) if broken else ():
            if word in broken:
                status, code = broken[word]
                raise ApiError(
                    status, code, "The request has failed due to a temporary failure of the server."
                )

    def _fail(self, task_type: str, param: str) -> None:
        failing = self._behaviour.failing
        for name in (task_type, *targets_of(param)) if failing else ():
            if name in failing:
                status, code = failing[name]
                raise ApiError(status, code, "It fails for ever.")

    def _new(self, *, type_: str, name: str, source: str, param: str, at_s: float) -> Task:
        behaviour = self._behaviour
        never = behaviour.task_end == "NEVER"
        return Task(
            task_id=self._new_id(),
            type=type_,
            name=name,
            source=source,
            param=param,
            created_s=at_s,
            visible_s=at_s + behaviour.list_lag_s,
            ends_s=math.inf if never else at_s + behaviour.task_duration_s,
            end_state=behaviour.task_end,
        )

    def _new_id(self) -> str:
        if self._behaviour.ids == "number":
            return str(10_000_000 + secrets.randbelow(10**12))
        return secrets.token_hex(16)

    def _admit(self, task: Task, now_s: float) -> None:
        if task.created_s > now_s:
            self._late.append(task)
        else:
            self._place(task)

    def _place(self, task: Task) -> None:
        self._by_id[task.task_id] = task
        bisect.insort(self._by_type.setdefault(task.type, []), task, key=attrgetter("created_s"))
        self._running.append(task)
        self._newest_id = task.task_id

    def _settle(self) -> float:
        """What is due has come to exist, what has ended no longer runs; the time now."""
        now_s = self._clock()
        if self._late:
            for task in sorted(self._late, key=attrgetter("created_s")):
                if task.created_s <= now_s:
                    self._late.remove(task)
                    self._place(task)
        self._running = [task for task in self._running if task.ends_s > now_s]
        return now_s

    def _created(self, task: Task, previous_id: str) -> Answer:
        return {
            "TaskId": views.shown_id(task.task_id, self._behaviour),
            "CanCreate": len(self._running) < self._behaviour.cap,
            "LastTask": views.shown_id(previous_id, self._behaviour),
            "CollectTime": views.shown_ms(task.created_s, self._behaviour),
            "TotalCount": max(1, len(task.targets)),
            "FinishCount": 0,
        }

    def _described(self, parameters: Parameters) -> Iterable[Task]:
        found: Iterable[Task]
        asked_ids = {k: parameters[k].strip() for k in ("TaskId", "RootTaskId") if parameters.get(k)}
        if asked_ids:
            found = self._by_ids(asked_ids, parameters.get("TaskType"))
        else:
            found = self._newest_first(parameters["TaskType"])
        return self._of_source(self._started(found, parameters), parameters.get("Source"))

    def _by_ids(self, asked_ids: Mapping[str, str], task_type: str | None) -> list[Task]:
        if any(self._behaviour.describe_id not in {"both", name} for name in asked_ids):
            return []
        task = self._by_id.get(next(iter(asked_ids.values())))
        if task is None or {*asked_ids.values()} != {task.task_id}:
            return []
        return [task] if task.type in DESCRIBED_TYPES and task_type in {None, "", task.type} else []

    def _started(self, tasks: Iterable[Task], parameters: Parameters) -> Iterable[Task]:
        """Those whose shown start lies within StartTimeQuery and EndTimeQuery, both included."""
        first_ms = whole(parameters, "StartTimeQuery", 0)
        last_ms = whole(parameters, "EndTimeQuery", 0) or math.inf
        for task in tasks:
            start_ms = views.shown_ms(task.created_s, self._behaviour)
            if start_ms < first_ms:
                return  # newest first: none of the others is younger
            if start_ms <= last_ms:
                yield task

    def _of_source(self, tasks: Iterable[Task], source: str | None) -> Iterable[Task]:
        if not source:
            return tasks
        return (t for t in tasks if self._behaviour.keeps_source and t.source == source)

    def _newest_first(self, task_type: str) -> Iterable[Task]:
        return reversed(self._by_type.get(task_type, []))

    def _entries(self, task: Task, parameters: Parameters, now_s: float) -> list[Answer]:
        """The task's own, or by RootTaskId those of the tasks below it, where there are any."""
        if self._behaviour.details_below and parameters.get("RootTaskId"):
            return views.items_below(task, now_s, self._behaviour)
        return [views.item(task, now_s, self._behaviour)]


def _page(entries: list[Answer], parameters: Parameters) -> Answer:
    page = whole(parameters, "CurrentPage", 1, at_least=1)
    size = whole(parameters, "PageSize", 20, at_least=1)
    shown = entries[(page - 1) * size : page * size]
    return {
        "PageInfo": {
            "CurrentPage": page,
            "PageSize": size,
            "TotalCount": len(entries),
            "Count": len(shown),
        },
        "TaskManageResponseList": shown,
    }
