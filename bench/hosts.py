"""`python -m bench.hosts`: one tick selects 4,000 hosts, which become forty tasks, on SQLite and on DynamoDB.

Through the real timer and sweep handlers, on an injected clock, against the emulator.
"""

import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench import storm
from bench.figures import Row, show
from local import aws_servers as stores
from local.clocks import FakeClock
from local.emulator import Emulator, host
from local.tools import NotInstallable
from oncetask.app import App
from oncetask.handlers import sweep, timer
from oncetask.models import Status
from oncetask.submit.resolution import MOST_WRITTEN

HOSTS = 4_000
TASKS = HOSTS // 100
MOST_LIST_CALLS = 50
MEMORY_GOAL_MB = 150
LIST = "DescribeCloudCenterInstances"
CREATE = "GenerateOnceTask"
ROUTES = f"""
[routes.all]
trigger = "timer"
task_type = "CLIENT_PROBLEM_CHECK"
param = {{mode = 1, problemType = "offline"}}
hosts = {{where = {{clientStatus = "offline"}}, most = {HOSTS}}}
"""
TICK = {
    "schedule": "arn:aws:scheduler:eu-central-1:111122223333:schedule/default/all",
    "scheduled_time": "2026-11-24T05:00:00Z",
    "route": "all",
}
TICKED = f"timer:all:{TICK['scheduled_time']}"
"""The tick's event."""


@dataclass(frozen=True, slots=True)
class Selection:
    """What one selection came to. Times are real seconds, the emulator's included."""

    finished: int
    tasks: int
    asked_twice: int
    calls: Counter[str]
    sweeps: int
    took_s: float

    @property
    def keeps_promise(self) -> bool:
        """Every host finished and in one task, as few tasks as can be, the list read once."""
        few_calls = self.calls[LIST] <= MOST_LIST_CALLS and self.calls[CREATE] <= 2 * TASKS
        return (self.finished, self.tasks, self.asked_twice) == (HOSTS, TASKS, 0) and few_calls

    def row(self, ledger: str) -> Row:
        """Of the table of `make bench`."""
        measured = (
            f"{self.tasks} tasks, {self.calls[LIST]} list calls, {self.calls[CREATE]} requests for tasks,"
            f" {self.sweeps} sweeps, {self.took_s:.1f} s"
        )
        goal = f"{TASKS} tasks, <= {MOST_LIST_CALLS} list calls"
        return Row(f"{HOSTS:,} selected hosts, {ledger}", measured, "", goal, self.keeps_promise)


def selection_rows() -> Iterator[Row]:
    """A selection of 4,000 hosts: tasks, calls, time and memory."""
    yield on_sqlite().row("SQLite file")
    try:
        yield on_dynamodb().row("DynamoDB (dynalite)")
    except NotInstallable as error:
        yield Row(f"{HOSTS:,} selected hosts, DynamoDB", f"not measured: {error}")
    if storm.STATUS.is_file():
        peak_mb = peak_of_a_sweep_mb()
        name = f"peak memory of a sweep that selects {HOSTS:,} hosts"
        yield Row(name, f"{peak_mb:.0f} MB", "", f"<= {MEMORY_GOAL_MB} MB", peak_mb <= MEMORY_GOAL_MB)


def on_sqlite() -> Selection:
    """On a new SQLite file."""
    with tempfile.TemporaryDirectory() as folder, _world(f"sqlite://{folder}/ledger.sqlite") as world:
        return _run(*world)


def on_dynamodb() -> Selection:
    """On DynamoDB, as dynalite has it. Raises NotInstallable."""
    with stores.dynalite() as dynalite:
        dynalite.store(FakeClock(time.time())).close()
        keys: Mapping[str, str] = {
            "AWS_REGION": stores.REGION,
            "AWS_ENDPOINT_URL_DYNAMODB": dynalite.url,
            "AWS_ACCESS_KEY_ID": dynalite.keys.access_key_id,
            "AWS_SECRET_ACCESS_KEY": dynalite.keys.secret_access_key,
        }
        with _world(f"dynamodb://{stores.TABLE}", **keys) as world:
            return _run(*world)


def peak_of_a_sweep_mb() -> float:
    """The most memory of a fresh process that makes the selecting sweep. Raises RuntimeError: it did not."""
    with tempfile.TemporaryDirectory() as folder:
        ledger = f"sqlite://{folder}/ledger.sqlite"
        with _world(ledger) as (app, _, emulator):
            timer.handle(app, TICK, app.deadline(60_000))
            process = subprocess.run(
                [sys.executable, "-m", "bench.storm", "--one-sweep"],
                env=os.environ | storm.variables_of(Path(folder), emulator, ledger) | _routes(Path(folder)),
                capture_output=True,
                text=True,
                check=True,
            )
            written = sum(1 for _ in app.ledger.events(f"{TICKED}/{each.uuid}" for each in emulator.hosts))
    if written != MOST_WRITTEN:
        raise RuntimeError(f"the sweep wrote the events of {written} hosts")
    return float(process.stdout.split(storm.PEAK)[1].split()[0]) / 1024


@contextmanager
def _world(ledger: str, **environment: str) -> Iterator[tuple[App, FakeClock, Emulator]]:
    """As the storm's, with as many hosts that are offline and a tenth more that are not."""
    with (
        tempfile.TemporaryDirectory() as folder,
        storm.world(ledger, **_routes(Path(folder)), **environment) as (app, clock, emulator),
    ):
        emulator.hosts[:] = [
            host(f"inet-{number:08d}", ClientStatus="online" if number % 11 == 10 else "offline")  # noqa: PLR2004
            for number in range(HOSTS * 11 // 10)
        ]
        yield app, clock, emulator


def _routes(folder: Path) -> dict[str, str]:
    file = folder / "selection.toml"
    file.write_text(ROUTES, encoding="utf-8")
    return {"ONCETASK_ROUTES": str(file)}


def _run(app: App, clock: FakeClock, emulator: Emulator) -> Selection:
    """A tick, then sweeps until nothing is open any more."""
    began_s = time.perf_counter()
    timer.handle(app, TICK, app.deadline(60_000))
    sweeps = 0
    while sweeps < storm.MOST_SWEEPS:
        sweeps += 1
        gauges = sweep.handle(app, app.deadline(60_000)).gauges
        if gauges.waiting == gauges.running == 0:
            break
        clock.advance(storm.SWEEP_EVERY_S)
    took_s = time.perf_counter() - began_s
    named = Counter(target for task in emulator.tasks for target in task.targets)
    ids = [f"{TICKED}/{each.uuid}" for each in emulator.hosts]
    return Selection(
        finished=sum(event.status is Status.FINISHED for event in app.ledger.events(ids)),
        tasks=len(emulator.tasks),
        asked_twice=sum(count > 1 for count in named.values()),
        calls=Counter(call.action for call in emulator.calls),
        sweeps=sweeps,
        took_s=took_s,
    )


def main() -> None:
    """Print the rows; status 1 where one broke the promise."""
    rows = list(selection_rows())
    show(rows)
    sys.exit(any(row.met is False for row in rows))


if __name__ == "__main__":
    main()
