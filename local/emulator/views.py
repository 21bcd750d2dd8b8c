"""A task as the query operations show it (field by field after api-facts 1.2)."""

import hashlib
import json
import math

from .answers import Answer
from .behaviour import Behaviour
from .task import Task

_STATUS = {"INIT": 0, "START": 1, "SUCCESS": 2, "FAIL": 3, "TIMEOUT": 4}
_RESULT = {"SUCCESS": "successful", "FAIL": "failed", "TIMEOUT": "timeout"}
_WITHOUT_FAIL = {"FAIL": "TIMEOUT"}
"""GetOnceTaskResultInfo and GetLastOnceTaskInfo know no FAIL (api-facts 3)."""


def shown_ms(instant_s: float, behaviour: Behaviour) -> int:
    """Epoch ms of the service's skewed clock, in whole seconds."""
    return math.floor(instant_s + behaviour.clock_skew_s) * 1000


def shown_id(task_id: str, behaviour: Behaviour) -> str | int:
    """A task's id as it is told; none is an empty text."""
    if behaviour.ids == "number" and task_id.isdecimal():
        return int(task_id)
    return f"{task_id}\n" if behaviour.ids == "line end" and task_id else task_id


def item(task: Task, now_s: float, behaviour: Behaviour) -> Answer:
    """One entry of TaskManageResponseList, the task's own."""
    entry = _entry(task, task.targets, now_s, behaviour)
    return entry | {"DetailData": "[]"} if behaviour.details_below else entry


def items_below(task: Task, now_s: float, behaviour: Behaviour) -> list[Answer]:
    """The entries of the tasks below it, one a host."""
    return [
        _entry(task, (target,), now_s, behaviour) | {"TaskId": shown_id(_id_below(task, target), behaviour)}
        for target in task.targets
    ]


def _id_below(task: Task, target: str) -> str:
    return hashlib.sha256(f"{task.task_id}/{target}".encode()).hexdigest()[:32]


def _entry(task: Task, targets: tuple[str, ...], now_s: float, behaviour: Behaviour) -> Answer:
    state = task.state(now_s)
    ended = state in _RESULT
    answer: Answer = {
        "TaskId": shown_id(task.task_id, behaviour),
        "TaskType": task.type,
        "TaskName": task.name if behaviour.shows_name else "",
        "TaskStatus": _STATUS[state],
        "TaskStatusText": _text(state, behaviour),
        "Progress": f"{_progress(task, now_s)}%",
        "TaskStartTime": shown_ms(task.created_s, behaviour),
        "TaskEndTime": shown_ms(task.ends_s, behaviour) if ended else 0,
        "Source": task.source if behaviour.keeps_source else "",
        "ResultInfo": _RESULT.get(state, ""),
    }
    details = _details(task, targets, now_s, behaviour)
    counts = _counts(state, targets, behaviour) if behaviour.shows_counts else {}
    return answer | counts | ({} if details is None else {"DetailData": details})


def _text(state: str, behaviour: Behaviour) -> str:
    texts = {"INIT": behaviour.init_text, "START": behaviour.running_text}
    return texts.get(state, state if behaviour.end_text is None else behaviour.end_text)


def _counts(state: str, targets: tuple[str, ...], behaviour: Behaviour) -> Answer:
    """Machines: a task that ends well may have failed on some."""
    count = max(1, len(targets))
    failed = count if state in {"FAIL", "TIMEOUT"} else 0
    if state == "SUCCESS":
        failed = len({target for target in targets if behaviour.fails(target)})
    succeeded = count - failed if state == "SUCCESS" else 0
    return {"TotalCount": count, "SuccessCount": succeeded, "FailCount": failed}


def result_info(task: Task, now_s: float, behaviour: Behaviour) -> Answer:
    """GetOnceTaskResultInfo of a known task."""
    state = task.state(now_s)
    count = max(1, len(task.targets))
    return {
        "TaskId": shown_id(task.task_id, behaviour),
        "CollectTime": shown_ms(task.created_s, behaviour),
        "TotalCount": count,
        "FinishCount": count if state in _RESULT else 0,
        "TaskInfo": {"Status": _WITHOUT_FAIL.get(state, state)},
    }


def no_result_info() -> Answer:
    """GetOnceTaskResultInfo of an unknown task; how the real one puts it is not documented."""
    return {"TaskId": "", "CollectTime": 0, "TotalCount": 0, "FinishCount": 0, "TaskInfo": {}}


def last_info(task: "Task | None", now_s: float, behaviour: Behaviour) -> Answer:
    """GetLastOnceTaskInfo; None: there is no such task."""
    if task is None:
        return no_result_info() | {"TaskInfo": {"Progress": 0, "Result": "TASK_NOT_EXISTS"}}
    answer = result_info(task, now_s, behaviour)
    status = _WITHOUT_FAIL.get(task.state(now_s), task.state(now_s))
    info = {"Status": status, "Progress": _progress(task, now_s), "Result": "SUCCESS"}
    return answer | {"TaskInfo": info}


def _progress(task: Task, now_s: float) -> int:
    if now_s >= task.ends_s:
        return 100
    return int(100 * (now_s - task.created_s) / (task.ends_s - task.created_s))


def _details(task: Task, targets: tuple[str, ...], now_s: float, behaviour: Behaviour) -> str | None:
    """JSON text; while it runs the hosts alone are told, and where the details lag not even these."""
    if now_s < task.ends_s + behaviour.details_lag_s and behaviour.details_lag_s:
        return "[]"
    ended = now_s >= task.ends_s
    if ended and behaviour.details != "usual":
        return {"none": "[]", "empty": "", "absent": None, "odd": "[{"}[behaviour.details]
    shown = targets if behaviour.shows_targets else ()
    return json.dumps([_detail(target) | (_outcome(target, behaviour) if ended else {}) for target in shown])


def _outcome(target: str, behaviour: Behaviour) -> Answer:
    """What an ended task says of the host; 1003, to be run by hand, is the one documented code."""
    failed: Answer = {}
    if behaviour.fails(target):
        failed = {
            "dispatchType": "manual",
            "problemType": "offline",
            "resCode": ["1003"],
            "resMsg": ["powershell aegis_checker.exe -b eyJtb2RlIjoxfQ=="],
            "url": f"https://logs.emulator/{target}",
        }
    return failed | behaviour.host_details.get(target, {})


def _detail(target: str) -> Answer:
    return {
        "dispatchType": "auto",
        "causeCode": [],
        "causeMsg": [],
        "resCode": [],
        "resMsg": [],
        "uuid": target,
        "instanceId": "",
        "instanceName": "",
        "internetIp": "",
        "intranetIp": "",
        "url": "",
    }
