"""Whose is it? What the service shows after an answer was lost, judged. Pure.

The service has no idempotency token. A lost task is found by its type, by when it started, and by
what of its name, Source and targets is shown:

              first sending           last sending
        -5 s  │                       │       + 5 s + read time-out
      ────┼───┴───────────────────────┴────────────┼──────────────────→ started
          │        one here: it is ours            │  only here: perhaps ours, perhaps another's
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from oncetask.ledger.records import Call, TaskRecord
from oncetask.models import Task

BEFORE_S = 5.0
AFTER_S = 5.0
SEARCHES_S = (5, 30, 90)
"""When a lost answer is searched for, in seconds after the sending; the last search is ONCETASK_LOOK_S."""


class Found(NamedTuple):
    """The task that is the call's."""

    task_id: str


class NothingYet(NamedTuple):
    """Nothing that could be the call's task is shown."""


class Unclear(NamedTuple):
    """Nobody can tell; these tasks could be the call's."""

    candidates: tuple[str, ...]


type Judgement = Found | NothingYet | Unclear


class Shown(NamedTuple):
    """What a query showed. `is_all`: every task of the type since the first sending is among them; else only
    the type's last one, behind which ours may hide.
    """

    tasks: Sequence[Task]
    is_all: bool


def search_is_due(call: Call, *, look_s: int, now_s: float) -> bool:
    """Whether one of the searches has come that was not made yet."""
    searched_s = call.searched_s or 0.0
    moments = [call.sent_s + after_s for after_s in (*SEARCHES_S, look_s) if after_s <= look_s]
    return any(searched_s < moment <= now_s for moment in moments)


def is_last_search(call: Call, *, look_s: int, now_s: float) -> bool:
    """Whether the call is searched for no longer after this search."""
    return now_s >= call.sent_s + look_s


def judge(
    call: Call,
    shown: Shown,
    record_of: Callable[[str], TaskRecord | None],
    *,
    read_timeout_s: float,
) -> Judgement:
    """Whether one of the tasks shown is the call's."""
    candidates = []
    for task in shown.tasks:
        record = record_of(task.task_id)
        if record is not None and record.call_id == call.call_id and not record.is_candidate:
            return Found(task.task_id)
        if record is None and could_be(call, task):
            candidates.append(task)
        elif not shown.is_all and _could_hide_ours(call, task, record):
            return Unclear(())
    inside = [task for task in candidates if _is_inside(call, task, read_timeout_s)]
    if len(inside) == 1:
        return Found(inside[0].task_id)
    return Unclear(tuple(task.task_id for task in candidates)) if candidates else NothingYet()


def judge_later(
    call: Call,
    shown: Shown,
    record_of: Callable[[str], TaskRecord | None],
    *,
    read_timeout_s: float,
) -> Judgement:
    """The same long after the last search, which showed nothing: what started after the call is another's,
    and nothing hides behind it.
    """
    inside = [task for task in shown.tasks if _is_inside(call, task, read_timeout_s)]
    return judge(call, Shown(inside, is_all=True), record_of, read_timeout_s=read_timeout_s)


def could_be(call: Call, task: Task) -> bool:
    """Started since the first sending, and nothing that is shown of it differs."""
    return _started_since_first_sending(call, task) and not _differs(call, task)


def _started_since_first_sending(call: Call, task: Task) -> bool:
    return task.started_s is None or task.started_s >= call.first_sent_s - BEFORE_S


def _could_hide_ours(call: Call, task: Task, record: TaskRecord | None) -> bool:
    """The last task of the type is another's, and ours may be the one before it."""
    if record is not None and record.since_s < call.first_sent_s:
        return False
    return _started_since_first_sending(call, task)


def _is_inside(call: Call, task: Task, read_timeout_s: float) -> bool:
    latest_s = call.sent_s + AFTER_S + read_timeout_s
    return task.started_s is not None and task.started_s <= latest_s


def _differs(call: Call, task: Task) -> bool:
    request = call.request
    if task.name and task.name != request.task_name:
        return True
    if task.source and task.source != request.source:
        return True
    uuids = request.param.get("uuids")
    if task.targets is None or not isinstance(uuids, str):
        return False
    return not task.targets <= {uuid.strip() for uuid in uuids.split(",")}
