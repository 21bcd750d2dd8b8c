"""Faults by their words: what an operator plans over HTTP, or for every call on the command line."""

import json
from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any, NamedTuple

from .faults import (
    Behave,
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
from .hosts import CRITERIA

GENERATE = "GenerateOnceTask"
MOST_TIMES = 10_000
_KEYS = {"fault", "action", "times"}
_FOR_EVER_S = 1e9


def _list(**changes: object) -> Behave:
    return Behave("DescribeCloudCenterInstances", tuple(changes.items()))


def _end(**changes: object) -> Behave:
    return Behave("DescribeOnceTask", tuple(changes.items()))


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
    "hosts-fail": (_end(all_hosts_fail=True), "every host of an ended task has failed"),
    "details-late": (_end(details_lag_s=_FOR_EVER_S), "an ended task tells of no host yet"),
    "details-empty": (_end(details="empty"), "an ended task's DetailData is an empty text"),
    "details-absent": (_end(details="absent"), "an ended task has no DetailData"),
    "details-odd": (_end(details="odd"), "an ended task's DetailData is no JSON"),
    "hosts-match-parts": (_list(criteria_match="parts"), "10.0.0.5 finds 10.0.0.51, too"),
    "hosts-match-exactly": (_list(criteria_match="exact"), "a criterion finds whole names alone"),
    "hosts-drop-criteria": (_list(dropped_criteria={*CRITERIA}), "no criterion is known: every host comes"),
    "hosts-lag": (_list(no_hosts_yet=True), "the list shows no host yet"),
    "hosts-repeat": (_list(repeated_rows=1), "the last row of a page comes again on the next"),
}
"""Each with what it does, for `--help` and for a wrong word."""


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


def struck_by(fault: Fault) -> str:
    """The operation whose calls it strikes, unless another is named."""
    return fault.action if isinstance(fault, Behave) else GENERATE


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
    fault, times = fault_of(entry["fault"]), entry.get("times", 1)
    action = entry.get("action", struck_by(fault))
    if action not in actions:
        raise ValueError(f"there is no operation {action!r}: there are {', '.join(sorted(actions))}")
    if not isinstance(times, int) or isinstance(times, bool) or not 1 <= times <= MOST_TIMES:
        raise ValueError(f"times is a whole number from 1 to {MOST_TIMES}")
    return Planned(fault, action, times)


def _folded(word: str) -> str:
    return word.replace("-", "").replace("_", "").lower()
