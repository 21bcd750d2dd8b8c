"""Two laws of liveness: everything ends in time, and nobody's turn is taken by another's trouble."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping

from oncetask.models import Result, Status
from oncetask.sweep.context import SweepReport
from tests.model.books import Body, brief, require, waits

SWEEPS_TO_END = 2
ENDED_A_SWEEP = 2000


class Ends:
    """How many sweeps have met each event since it should have ended."""

    def __init__(self, look_s: float) -> None:
        self._look_s = look_s
        self._sweeps: Counter[str] = Counter()

    def swept(self, events: Iterable[Body], began_s: float) -> None:
        """One sweep that nothing disturbed has ended. Raises Violation."""
        late = [event for event in events if event["give_up_s"] + self._look_s <= began_s]
        left = [event for event in late if waits(event)]
        most = SWEEPS_TO_END + math.floor(len(late) / ENDED_A_SWEEP)
        for event in left:
            self._sweeps[event["instance"]] += 1
            met = self._sweeps[event["instance"]]
            require(met < most, "every event has ended by expire_s, the look and two sweeps", brief(event))


def left_behind(
    report: SweepReport, events: Mapping[str, Body], lanes: Iterable[str], began_s: float
) -> None:
    """Every event that was due is asked for, but where an answer ended the asking or closed its type, or the
    type's lane is taken. Raises Violation.
    """
    if any(_ends_asking(result) for result in report.results):
        return
    closed = set(lanes)
    for result in report.results:
        if result.request is not None and _closes_type(result):
            closed.add(result.request.task_type)
    left = [
        event
        for event in events.values()
        if waits(event)
        and min(event["due_s"], event["give_up_s"]) <= began_s
        and event["request"]["TaskType"] not in closed
    ]
    require(not left, "an event that is due is asked for in the next sweep", *map(brief, left))


def _ends_asking(result: Result) -> bool:
    """Throttling and no connection."""
    code = result.error.code if result.error else ""
    return result.status is Status.PENDING and (code == "NotConnected" or code.startswith("Throttling"))


def _closes_type(result: Result) -> bool:
    if result.response is not None and result.response.can_create is False:
        return True
    return result.status in {Status.PENDING, Status.UNKNOWN} and result.error is not None
