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

from oncetask.ledger.records import Ask, TaskOwner
from oncetask.models import Task

BEFORE_S = 5.0
AFTER_S = 5.0
LOOKS_S = (5, 30, 90)
"""When a lost answer is looked for, in seconds after the last sending; the last look is ONCETASK_LOOK_S."""


class Found(NamedTuple):
    """The task that is the ask's."""

    task_id: str


class NothingYet(NamedTuple):
    """Nothing that could be the ask's task is shown."""


class Unclear(NamedTuple):
    """Nobody can tell; these tasks could be the ask's."""

    candidates: tuple[str, ...]


type Judgement = Found | NothingYet | Unclear


def look_is_due(ask: Ask, *, look_s: int, now_s: float) -> bool:
    """Whether one of the looks has come that was not made yet."""
    looked_s = ask.looked_s or 0.0
    moments = [ask.last_sent_s + after_s for after_s in (*LOOKS_S, look_s) if after_s <= look_s]
    return any(looked_s < moment <= now_s for moment in moments)


def is_last_look(ask: Ask, *, look_s: int, now_s: float) -> bool:
    """Whether nothing is looked for any longer after this look."""
    return now_s >= ask.last_sent_s + look_s


def judge(
    ask: Ask,
    seen: Sequence[Task],
    owner_of: Callable[[str], TaskOwner | None],
    *,
    shows_all: bool,
    read_timeout_s: float,
) -> Judgement:
    """Whether one of the tasks seen is the ask's.

    `shows_all`: every task of the type since the first sending is among them; else only the type's
    last one, behind which ours may hide.
    """
    candidates = []
    for task in seen:
        owner = owner_of(task.task_id)
        if owner is not None and owner.ask_id == ask.ask_id:
            return Found(task.task_id)
        if owner is None and _could_be(ask, task):
            candidates.append(task)
        elif not shows_all and _could_hide_ours(ask, task, owner):
            return Unclear(())
    inside = [task for task in candidates if _is_inside(ask, task, read_timeout_s)]
    if len(inside) == 1:
        return Found(inside[0].task_id)
    return Unclear(tuple(task.task_id for task in candidates)) if candidates else NothingYet()


def _could_be(ask: Ask, task: Task) -> bool:
    """Started since the first sending, and nothing that is shown of it differs."""
    return _started_since_first_sending(ask, task) and not _differs(ask, task)


def _started_since_first_sending(ask: Ask, task: Task) -> bool:
    return task.started_s is None or task.started_s >= ask.first_sent_s - BEFORE_S


def _could_hide_ours(ask: Ask, task: Task, owner: TaskOwner | None) -> bool:
    """The last task of the type is another's, and ours may be the one before it."""
    if owner is not None and owner.since_s < ask.first_sent_s:
        return False
    return _started_since_first_sending(ask, task)


def _is_inside(ask: Ask, task: Task, read_timeout_s: float) -> bool:
    latest_s = ask.last_sent_s + AFTER_S + read_timeout_s
    return task.started_s is not None and task.started_s <= latest_s


def _differs(ask: Ask, task: Task) -> bool:
    request = ask.request
    if task.name and task.name != request.task_name:
        return True
    if task.source and task.source != request.source:
        return True
    uuids = request.param.get("uuids")
    if task.targets is None or not isinstance(uuids, str):
        return False
    return not task.targets <= {uuid.strip() for uuid in uuids.split(",")}
