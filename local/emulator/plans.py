"""Faults by their words: what an operator plans over HTTP, or for every call on the command line."""

import json
from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any, NamedTuple

from .faults import (
    CanCreateFalse,
    CapReached,
    Fault,
    LateTask,
    NoTaskId,
    Redirect,
    Refuse,
    ResetAfter,
    ResetBefore,
    Silence,
    Slow,
    Throttle,
    Unreadable,
)

GENERATE = "GenerateOnceTask"
MOST_TIMES = 10_000
_KEYS = {"fault", "action", "times"}

WORDS: Mapping[str, tuple[Fault, str]] = {
    "cap-reached": (CapReached(), "ten tasks run already, whatever runs"),
    "can-create-false": (CanCreateFalse(), "the task is made, and it was the last for now"),
    "throttled": (Throttle(retry_after_ms=2000), "400 Throttling.User, try again after 2 s"),
    "forbidden": (Refuse(403, "NoPermission", "no permission by script"), "403 NoPermission"),
    "refused": (Refuse(400, "InvalidParameter"), "400 InvalidParameter"),
    "server-error": (Refuse(500, "InternalError"), "500 InternalError, nothing is made"),
    "server-error-after": (Refuse(500, "InternalError", task_made=True), "500, and yet the task is made"),
    "unreadable": (Unreadable(), "a gateway's 502 in HTML, nothing is made"),
    "unreadable-after": (Unreadable(task_made=True), "the same, and yet the task is made"),
    "reset-before": (ResetBefore(), "the connection is reset, nothing is made"),
    "reset-after": (ResetAfter(), "the connection is reset after the task was made"),
    "silence": (Silence(task_made=False), "no answer at all, nothing is made"),
    "silence-after": (Silence(task_made=True), "no answer at all, and yet the task is made"),
    "late-task": (LateTask(10.0), "the connection is reset, the task is made 10 s later"),
    "no-task-id": (NoTaskId(), "200 without TaskId"),
    "redirect": (Redirect(307, "http://127.0.0.1:9/"), "a redirect to nowhere"),
    "slow": (Slow(3.0), "the answer comes after 3 s"),
}
"""Each with what it does, for `--help` and for whoever wrote another word."""


class Planned(NamedTuple):
    """One fault for the next `times` calls of an action."""

    fault: Fault
    action: str
    times: int


def fault_of(word: object) -> Fault:
    """The word's fault; case and dashes do not matter. Raises ValueError, which names the words."""
    known = {_folded(name): fault for name, (fault, _) in WORDS.items()}
    found = known.get(_folded(word)) if isinstance(word, str) else None
    if found is None:
        near = get_close_matches(str(word), WORDS, n=1)
        hint = f"did you mean {near[0]}? " if near else ""
        raise ValueError(f"there is no fault {word!r}: {hint}the words are {', '.join(WORDS)}")
    return found


def planned(body: bytes, actions: set[str]) -> list[Planned]:
    """What a JSON list of `{"fault", "action"?, "times"?}` plans, all of it or nothing. Raises ValueError."""
    try:
        entries = json.loads(body)
    except (ValueError, RecursionError):
        raise ValueError("the body must be a JSON list") from None
    if not isinstance(entries, list):
        raise ValueError("the body must be a JSON list")
    return [_planned(entry, actions) for entry in entries]


def _planned(entry: Any, actions: set[str]) -> Planned:  # noqa: ANN401 - JSON
    if not isinstance(entry, dict) or "fault" not in entry or set(entry) - _KEYS:
        raise ValueError('each entry is {"fault": WORD, "action"?: OPERATION, "times"?: N}')
    action, times = entry.get("action", GENERATE), entry.get("times", 1)
    if action not in actions:
        raise ValueError(f"there is no operation {action!r}: there are {', '.join(sorted(actions))}")
    if not isinstance(times, int) or isinstance(times, bool) or not 1 <= times <= MOST_TIMES:
        raise ValueError(f"times is a whole number from 1 to {MOST_TIMES}")
    return Planned(fault_of(entry["fault"]), action, times)


def _folded(word: str) -> str:
    return word.replace("-", "").replace("_", "").lower()
