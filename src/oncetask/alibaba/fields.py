"""What Security Center's answers hold, tolerantly read: published types and published examples contradict
each other.

Nothing here raises, whatever JSON comes.
"""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, get_args

from pydantic import ValidationError

from oncetask.models import Ended, EndState, Progress, Task, TaskResponse

_FROM_BEST_TO_WORST: tuple[EndState, ...] = ("SUCCESS", "TIMEOUT", "FAIL")
_STATE_OF_NUMBER: Mapping[str, EndState] = {"2": "SUCCESS", "3": "FAIL", "4": "TIMEOUT"}


def response_of(body: Mapping[str, Any]) -> TaskResponse:
    """The seven fields; without those that have a shape which nobody foresaw."""
    texts = {name: _unicode(value) for name, value in body.items() if isinstance(value, str)}
    ids = {"TaskId": id_of(body.get("TaskId")), "RequestId": text_of(body.get("RequestId"))}
    fields = {**body, **texts, **ids}
    try:
        return TaskResponse.model_validate(fields)
    except ValidationError as error:
        odd = {detail["loc"][0] for detail in error.errors()}
        return TaskResponse.model_validate({k: v for k, v in fields.items() if k not in odd})


def tasks_of(body: Mapping[str, Any], task_type: str | None) -> list[Task] | None:
    """DescribeOnceTask's entries; None where nobody can tell: one without an id could be any task."""
    entries = body.get("TaskManageResponseList")
    if entries is None and count_of(object_of(body.get("PageInfo")).get("TotalCount")) == 0:
        return []
    if not isinstance(entries, list):
        return None
    shown = [_task(object_of(entry), task_type) for entry in entries]
    tasks = [task for task in shown if task is not None]
    return tasks if len(tasks) == len(shown) else None


def _task(entry: Mapping[str, Any], task_type: str | None) -> Task | None:
    task_id = id_of(entry.get("TaskId"))
    if task_id is None:
        return None
    state = text_of(entry.get("TaskStatusText"))
    return Task(
        task_id=task_id,
        task_type=text_of(entry.get("TaskType")) or task_type or "",
        name=text_of(entry.get("TaskName")),
        source=text_of(entry.get("Source")),
        targets=_targets(entry.get("DetailData")),
        started_s=seconds_of(entry.get("TaskStartTime")),
        state=state,
        ended=_ended_by_entry(entry, state),
    )


def _ended_by_entry(entry: Mapping[str, Any], state: str | None) -> Ended | None:
    number = text_of(entry.get("TaskStatus")) or ""
    end_state = _end_state(state) or _STATE_OF_NUMBER.get(number)
    if end_state is None:
        return None
    succeeded, failed = count_of(entry.get("SuccessCount")), count_of(entry.get("FailCount"))
    return Ended(
        end_state,
        finished_s=seconds_of(entry.get("TaskEndTime")),
        finish_count=_sum(succeeded, failed),
        total_count=count_of(entry.get("TotalCount")),
    )


def ended_by_result_info(body: Mapping[str, Any]) -> Ended | None:
    """GetOnceTaskResultInfo and GetLastOnceTaskInfo know neither FAIL nor an end time."""
    end_state = _end_state(text_of(object_of(body.get("TaskInfo")).get("Status")))
    if end_state is None or end_state == "FAIL":
        return None
    finish_count, total_count = count_of(body.get("FinishCount")), count_of(body.get("TotalCount"))
    return Ended(end_state, finish_count=finish_count, total_count=total_count)


def progress_of(parts: Sequence[Task]) -> Progress:
    """Of a task's own entry, or of all below it: it has ended once all have, as badly as the worst."""
    running = [part for part in parts if part.ended is None]
    if running:
        return Progress(running[0].state)
    ends = [part.ended for part in parts if part.ended is not None]
    worst = max((end.state for end in ends), key=_FROM_BEST_TO_WORST.index)
    return Progress(
        worst,
        Ended(
            worst,
            finished_s=max((end.finished_s for end in ends if end.finished_s is not None), default=None),
            finish_count=_sum(*(end.finish_count for end in ends)),
            total_count=_sum(*(end.total_count for end in ends)),
        ),
    )


def _end_state(text: str | None) -> EndState | None:
    """The end state that a text names; None for every other, known or not: the task runs."""
    return next((state for state in get_args(EndState.__value__) if state == text), None)


def _targets(detail_data: object) -> frozenset[str] | None:
    """The uuids that DetailData names: JSON text, or its array; None where it names none."""
    if isinstance(detail_data, str):
        detail_data = _array(detail_data)
    entries = detail_data if isinstance(detail_data, list) else []
    uuids = (text_of(object_of(entry).get("uuid")) for entry in entries)
    return frozenset(uuid for uuid in uuids if uuid is not None) or None


def _array(text: str) -> object:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def object_of(value: object) -> Mapping[str, Any]:
    """The object; an empty one for anything else."""
    return value if isinstance(value, dict) else {}


def code_of(body: Mapping[str, Any]) -> str | None:
    """The service's own code, in either spelling of its key."""
    return text_of(body.get("Code") or body.get("code"))


def text_of(value: object) -> str | None:
    """A text, or a whole number as text, that UTF-8 can hold; None for anything else, and for no text."""
    if isinstance(value, str):
        return _unicode(value) or None
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else None


def _unicode(text: str) -> str:
    """What UTF-8 can hold of it: JSON's escapes carry lone surrogates past that."""
    return text.encode("utf-8", "replace").decode()


def id_of(value: object) -> str | None:
    """A task's id; the service's types call it a number, so none is 0 there."""
    text = text_of(value)
    return None if text == "0" else text


def count_of(value: object) -> int | None:
    """A whole number, not below 0, that came as a number or as text."""
    text = text_of(value) or ""
    return int(text) if re.fullmatch(r"[0-9]{1,18}", text) else None


def seconds_of(value: object) -> float | None:
    """Epoch milliseconds as seconds; an instant of 0 is none."""
    at_ms = count_of(value)
    return at_ms / 1000 if at_ms else None


def _sum(*counts: int | None) -> int | None:
    """Of those that are known; None where none is."""
    known = [count for count in counts if count is not None]
    return sum(known) if known else None
