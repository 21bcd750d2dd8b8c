"""A task as the query operations show it (field by field after api-facts 1.2)."""

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


def item(task: Task, now_s: float, behaviour: Behaviour) -> Answer:
    """One entry of TaskManageResponseList."""
    state = task.state(now_s)
    ended = state in _RESULT
    count = max(1, len(task.targets))
    return {
        "TaskId": task.task_id,
        "TaskType": task.type,
        "TaskName": task.name if behaviour.shows_name else "",
        "TaskStatus": _STATUS[state],
        "TaskStatusText": state,
        "Progress": f"{_progress(task, now_s)}%",
        "TotalCount": count,
        "SuccessCount": count if state == "SUCCESS" else 0,
        "FailCount": count if state in {"FAIL", "TIMEOUT"} else 0,
        "TaskStartTime": shown_ms(task.created_s, behaviour),
        "TaskEndTime": shown_ms(task.ends_s, behaviour) if ended else 0,
        "Source": task.source if behaviour.keeps_source else "",
        "ResultInfo": _RESULT.get(state, ""),
        "DetailData": _details(task, behaviour),
    }


def result_info(task: Task, now_s: float, behaviour: Behaviour) -> Answer:
    """GetOnceTaskResultInfo of a known task."""
    state = task.state(now_s)
    count = max(1, len(task.targets))
    return {
        "TaskId": task.task_id,
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


def _details(task: Task, behaviour: Behaviour) -> str:
    targets = task.targets if behaviour.shows_targets else ()
    return json.dumps([_detail(target) for target in targets])


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
