"""What Security Center's answers hold, tolerantly read: published types and published examples contradict
each other.

Nothing here raises, whatever JSON comes.
"""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, get_args

from pydantic import ValidationError

from oncetask.models import Ended, EndState, HostOutcome, Progress, Task, TaskResponse

_FROM_BEST_TO_WORST: tuple[EndState, ...] = ("SUCCESS", "TIMEOUT", "FAIL")
_STATE_OF_NUMBER: Mapping[str, EndState] = {"2": "SUCCESS", "3": "FAIL", "4": "TIMEOUT"}

UUID_CHARS = 128
CODES = 5
CODE_CHARS = 200
URL_CHARS = 2_000
"""What is kept of a host's outcome: a message can be a whole shell script."""


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
    hosts = hosts_of(entry.get("DetailData"))
    return Task(
        task_id=task_id,
        task_type=text_of(entry.get("TaskType")) or task_type or "",
        name=text_of(entry.get("TaskName")),
        source=text_of(entry.get("Source")),
        targets=frozenset(host.uuid for host in hosts) or None,
        started_s=seconds_of(entry.get("TaskStartTime")),
        state=state,
        ended=_ended_by_entry(entry, state),
        hosts=hosts,
    )


def _ended_by_entry(entry: Mapping[str, Any], state: str | None) -> Ended | None:
    """By its number first: not every type's end has one of the documented texts."""
    number = text_of(entry.get("TaskStatus")) or ""
    end_state = _STATE_OF_NUMBER.get(number) or _end_state(state)
    if end_state is None:
        return None
    return Ended(
        end_state,
        finished_s=seconds_of(entry.get("TaskEndTime")),
        success_count=count_of(entry.get("SuccessCount")),
        fail_count=count_of(entry.get("FailCount")),
        total_count=count_of(entry.get("TotalCount")),
    )


def ended_by_result_info(body: Mapping[str, Any]) -> Ended | None:
    """GetOnceTaskResultInfo and GetLastOnceTaskInfo know no FAIL, no end time, and not how many failed."""
    end_state = _end_state(text_of(object_of(body.get("TaskInfo")).get("Status")))
    if end_state is None or end_state == "FAIL":
        return None
    return Ended(end_state, total_count=count_of(body.get("TotalCount")))


def progress_of(parts: Sequence[Task]) -> Progress:
    """Of a task's own entry, or of all below it: it has ended once all have, as badly as the worst."""
    hosts = merged([host for part in parts for host in part.hosts])
    running = [part for part in parts if part.ended is None]
    if running:
        return Progress(running[0].state, hosts=hosts)
    ends = [part.ended for part in parts if part.ended is not None]
    worst = max((end.state for end in ends), key=_FROM_BEST_TO_WORST.index)
    return Progress(
        worst,
        Ended(
            worst,
            finished_s=max((end.finished_s for end in ends if end.finished_s is not None), default=None),
            success_count=_sum(*(end.success_count for end in ends)),
            fail_count=_sum(*(end.fail_count for end in ends)),
            total_count=_sum(*(end.total_count for end in ends)),
        ),
        hosts,
    )


def _end_state(text: str | None) -> EndState | None:
    """The end state that a text names; None for every other, known or not: the task runs."""
    return next((state for state in get_args(EndState.__value__) if state == text), None)


def hosts_of(detail_data: object) -> tuple[HostOutcome, ...]:
    """What DetailData, JSON text or its array, says of hosts; empty where it is absent, empty or unreadable.

    Every key of an entry is optional, and one without a uuid is nobody's.
    """
    if isinstance(detail_data, str):
        detail_data = _array(detail_data)
    entries = detail_data if isinstance(detail_data, list) else []
    return merged([host for entry in entries if (host := _host(object_of(entry))) is not None])


def merged(hosts: Sequence[HostOutcome]) -> tuple[HostOutcome, ...]:
    """One outcome a host, in order of arrival: a task's record and those below it may name a host twice."""
    found: dict[str, HostOutcome] = {}
    for host in hosts:
        known = found.get(host.uuid)
        found[host.uuid] = host if known is None else _joined(known, host)
    return tuple(found.values())


def _joined(first: HostOutcome, second: HostOutcome) -> HostOutcome:
    return HostOutcome(
        uuid=first.uuid,
        problem=first.problem or second.problem,
        dispatch=first.dispatch or second.dispatch,
        codes=tuple(dict.fromkeys(first.codes + second.codes))[:CODES],
        causes=tuple(dict.fromkeys(first.causes + second.causes))[:CODES],
        report_url=first.report_url or second.report_url,
    )


def _host(entry: Mapping[str, Any]) -> HostOutcome | None:
    uuid = text_of(entry.get("uuid"))
    if uuid is None or len(uuid) > UUID_CHARS:
        return None
    url = text_of(entry.get("url"))
    return HostOutcome(
        uuid=uuid,
        problem=_bounded(entry.get("problemType")),
        dispatch=_bounded(entry.get("dispatchType")),
        codes=_codes(entry.get("resCode"), entry.get("resMsg")),
        causes=_codes(entry.get("causeCode"), entry.get("causeMsg")),
        report_url=url if url is not None and len(url) <= URL_CHARS else None,  # half a URL is none
    )


def _bounded(value: object) -> str | None:
    text = text_of(value)
    return text and text[:CODE_CHARS]


def _codes(codes: object, messages: object) -> tuple[str, ...]:
    """`code: message` each; without messages where there are not as many, for nobody says whose they are."""
    all_codes, all_messages = _texts(codes), _texts(messages)
    if len(all_messages) != len(all_codes):
        all_messages = [None] * len(all_codes)
    pairs = zip(all_codes, all_messages, strict=True)
    told = (f"{code}: {message}" if code and message else code or message for code, message in pairs)
    return tuple(text[:CODE_CHARS] for text in told if text)[:CODES]


def _texts(value: object) -> list[str | None]:
    """Of a list, or of one value that stands for a list of one."""
    if value is None:
        return []
    return [text_of(each) for each in value] if isinstance(value, list) else [text_of(value)]


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
    """A task's id, without the line end that a published example has behind one. The service's types call it
    a number, so none is 0 there.
    """
    text = (text_of(value) or "").strip()
    return None if text in {"", "0"} else text


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
