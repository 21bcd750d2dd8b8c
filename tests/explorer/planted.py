"""`python -m tests.explorer.planted`: each bug in a copy of the source, and when the explorer caught it.

Printed as the rows of docs/testing.md's table. Status 1: one was not caught.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
SECONDS = "300"


class Planted(NamedTuple):
    """A bug: this text of a file of src, written wrong. `name` says what is then done wrong."""

    name: str
    path: str
    right: str
    wrong: str


PLANTED = (
    Planted(
        "claim: a frozen sender sends after its claim has ended",
        "oncetask/submit/call.py",
        "if lane.call is None or is_late or not self.has_time(ends):",
        "ends = limits.deadline\n        if lane.call is None or is_late or not self.has_time(ends):",
    ),
    Planted(
        "claim: a sweep takes over a call that is in flight",
        "oncetask/sweep/recover.py",
        "if lane.record.claim_ends_s > context.now_s():",
        "if lane.record.claim_ends_s > context.now_s() + 60:",
    ),
    Planted(
        "lane: one that is taken is taken all the same",
        "oncetask/ledger/ledger.py",
        "kept, is_new = self._rows.put_if_free(lane_key(lane.task_type), lane)",
        "kept, is_new = self._rows.put_if_free(lane_key(lane.task_type), lane, lambda _: True)",
    ),
    Planted(
        "lane: released before the answer is settled",
        "oncetask/submit/call.py",
        "            stand = self.settle(call, answer, events, report)\n            # An unanswered",
        "            if answer.outcome is not Outcome.LOST:\n"
        "                self.ledger.release_lane(answered)\n"
        "            stand = self.settle(call, answer, events, report)\n            # An unanswered",
    ),
    Planted(
        "call: events are not read again under the lane",
        "oncetask/submit/call.py",
        "if event == as_read[event.event_id]]",
        "if as_read[event.event_id]]",
    ),
    Planted(
        "settle: an answer is applied to a later event under the same id",
        "oncetask/submit/settlement.py",
        "if served is None or served.instance != event.instance:",
        "if served is None:",
    ),
    Planted(
        "settle: a sweep does not settle what a dead sender was answered",
        "oncetask/sweep/recover.py",
        "        _settle(context, call, call.answer)\n",
        "        pass\n",
    ),
    Planted(
        "settle: no record of a new task is made",
        "oncetask/submit/call.py",
        "            self.claim_task(call, answer.task_id)\n",
        "            pass\n",
    ),
    Planted(
        "search: another call's task is a candidate",
        "oncetask/sweep/matching.py",
        "if record is None and could_be(call, task):",
        "if could_be(call, task):",
    ),
    Planted(
        "search: no look before events are sent again",
        "oncetask/sweep/turns.py",
        "    if _is_found(context, lost):",
        "    if not lost and _is_found(context, lost):",
    ),
    Planted(
        "search: events are sent again, and an earlier task that shows later is not watched for",
        "oncetask/sweep/turns.py",
        "        watch_from_now(context, one.call.call_id)\n",
        "        pass\n",
    ),
    Planted(
        "search: operations on hosts are sent again",
        "oncetask/submit/settlement.py",
        "if call.request.task_type == RUNS_ON_HOSTS or len(losses)",
        "if len(losses)",
    ),
    Planted(
        "group: a refused group is asked for whole again",
        "oncetask/submit/grouping.py",
        "event.target_key, event.part, event.lost_calls",
        "event.target_key, event.lost_calls",
    ),
    Planted(
        "group: one task's targets are not all of its events'",
        "oncetask/submit/grouping.py",
        "dict.fromkeys(target for event in events for",
        "dict.fromkeys(target for event in events[:2] for",
    ),
    Planted(
        "queue: a lagging index is believed",
        "oncetask/sweep/queue.py",
        "event.waits and event_queue(event.route) == queue.queue and",
        "event_queue(event.route) == queue.queue and",
    ),
    Planted(
        "give-up: the call that the lane still holds is not asked about",
        "oncetask/sweep/queue.py",
        "event.status is Status.UNKNOWN or is_served",
        "event.status is Status.UNKNOWN",
    ),
    Planted(
        "give-up: an event is ended that has changed since it was read",
        "oncetask/sweep/queue.py",
        "lambda kept: failed if kept == event else kept",
        "lambda kept: failed",
    ),
)


def caught(bug: Planted) -> tuple[str, float]:
    """What the explorer says of the bug, empty if nothing, and after how many seconds."""
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "src"
        shutil.copytree(ROOT / "src", source, ignore=shutil.ignore_patterns("__pycache__"))
        path = source / bug.path
        path.write_text(path.read_text(encoding="utf-8").replace(bug.right, bug.wrong), encoding="utf-8")
        began_s = time.monotonic()
        command = [sys.executable, "-m", "tests.explorer.explorer", "--seconds", SECONDS, "--seed", "1"]
        environment = os.environ | {"PYTHONPATH": f"{source}:{ROOT}"}
        told = subprocess.run(
            [*command, "--most-broken", "1"],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
    lines = [line for line in told.stdout.splitlines() if "BROKEN" in line or "--schedule" in line]
    return " ".join(lines), time.monotonic() - began_s


def main() -> None:
    """Plant them one at a time; with an argument, those whose names hold it."""
    uncaught = 0
    for bug in (bug for bug in PLANTED if sys.argv[-1] in bug.name or len(sys.argv) == 1):
        why, seconds = caught(bug)
        uncaught += not why
        print(f"| {bug.name} | {seconds:.0f} s | {why or 'NOT CAUGHT'} |", flush=True)
    sys.exit(bool(uncaught))


if __name__ == "__main__":
    main()
