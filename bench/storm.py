"""`python -m bench.storm`: ten thousand deliveries for one route become a hundred tasks, ten at a time.

Through the real webhook and sweep handlers, on an injected clock, against the emulator: on a SQLite file
and, where dynalite is installed, on DynamoDB.
"""

import argparse
import json
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
from typing import Any

from local import aws_servers as stores
from local.clocks import FakeClock
from local.emulator import ACCESS_KEY_ID, ACCESS_KEY_SECRET, Emulator, Task
from local.events import json_delivery
from local.tools import NotInstallable
from oncetask.app import App
from oncetask.handlers import sweep, webhook
from oncetask.models import Status
from oncetask.settings import Settings

ROUTES = """
[routes.storm]
trigger = "webhook"
id = "id"
task_type = "CLIENT_PROBLEM_CHECK"
targets = "host"
submit = "sweep"
param = {mode = 1, problemType = "offline"}
verify = {scheme = "bearer", secrets = ["env:STORM_TOKEN"]}
"""
TOKEN = "storm-token"  # noqa: S105 - made up
SWEEP_EVERY_S = 60.0
INVOCATION_S = 60.0
TARGETS_PER_TASK = 100
CAP = 10
MOST_SWEEPS = 200
PEAK = "VmHWM:"
"""What Linux calls the most memory that a process ever held."""
STATUS = Path("/proc/self/status")


@dataclass(frozen=True, slots=True)
class Storm:
    """What one storm came to. Times are real seconds; `cpu_s` is the process's own, emulator included."""

    events: int
    finished: int
    tasks: int
    most_running: int
    sweeps: int
    delivering_s: float
    sweeping_s: float
    cpu_s: float

    @property
    def per_event_ms(self) -> float:
        """From the delivery to `finished`."""
        return (self.delivering_s + self.sweeping_s) * 1000 / self.events

    @property
    def cpu_per_event_ms(self) -> float:
        """The same in the processor's time, which a busy machine does not change."""
        return self.cpu_s * 1000 / self.events

    @property
    def keeps_promise(self) -> bool:
        """Every event finished, as few tasks as can be, never more than the cap at once."""
        fewest = -(-self.events // TARGETS_PER_TASK)
        return self.finished == self.events and self.tasks == fewest and self.most_running <= CAP

    def line(self, ledger: str) -> str:
        """In one line."""
        return (
            f"{ledger}: {self.events} events, {self.finished} finished, {self.tasks} tasks,"
            f" at most {self.most_running} running, {self.sweeps} sweeps;"
            f" delivering {self.delivering_s:.1f} s, sweeping {self.sweeping_s:.1f} s,"
            f" {self.per_event_ms:.2f} ms an event, {self.cpu_per_event_ms:.2f} ms of them at work"
        )


def run(app: App, clock: FakeClock, emulator: Emulator, events: int) -> Storm:
    """Deliver, then sweep until nothing is open any more."""
    app.security_center.has_time(app.deadline(None))  # imports Tea
    began_s, began_cpu_s = time.perf_counter(), time.process_time()
    for number in range(events):
        deliver(app, number)
    delivered_s = time.perf_counter()
    sweeps = _sweep_until_all_is_over(app, clock)
    ended_s, ended_cpu_s = time.perf_counter(), time.process_time()
    statuses = _statuses(app, events)
    return Storm(
        events=events,
        finished=statuses[Status.FINISHED],
        tasks=len(emulator.tasks),
        most_running=most_running(emulator.tasks),
        sweeps=sweeps,
        delivering_s=delivered_s - began_s,
        sweeping_s=ended_s - delivered_s,
        cpu_s=ended_cpu_s - began_cpu_s,
    )


def deliver(app: App, number: int, *, status: int = 202) -> None:
    """One alert of one host of its own; raises RuntimeError unless it is answered so: 202, it waits."""
    body = json.dumps({"id": f"alert-{number}", "host": f"inet-{number:08d}"})
    event = json_delivery("storm", body, {"authorization": f"Bearer {TOKEN}"})
    outcome = webhook.handle(app, event, app.deadline(int(INVOCATION_S * 1000)))
    if outcome.reply().status != status:
        raise RuntimeError(f"a delivery was not accepted: {outcome}")


def _sweep_until_all_is_over(app: App, clock: FakeClock) -> int:
    for sweeps in range(1, MOST_SWEEPS + 1):
        gauges = sweep.handle(app, app.deadline(int(INVOCATION_S * 1000))).gauges
        if gauges.waiting == gauges.running == 0:
            return sweeps
        clock.advance(SWEEP_EVERY_S)
    return MOST_SWEEPS


def _statuses(app: App, events: int) -> Counter[Status]:
    ids = (f"webhook:storm:alert-{number}" for number in range(events))
    return Counter(event.status for event in app.ledger.events(ids))


def most_running(tasks: list[Task]) -> int:
    """How many ran at once, at most."""
    moves = sorted([(task.ends_s, -1) for task in tasks] + [(task.created_s, 1) for task in tasks])
    most = running = 0
    for _, change in moves:
        running += change
        most = max(most, running)
    return most


# -- worlds ---------------------------------------------------------------------------------------


@contextmanager
def world(ledger: str, **environment: str) -> Iterator[tuple[App, FakeClock, Emulator]]:
    """An app on that ledger, the clock that it shares with an emulator, and that emulator."""
    clock = FakeClock(time.time())
    with Emulator(clock=clock.now_s) as emulator, tempfile.TemporaryDirectory() as folder:
        variables = variables_of(Path(folder), emulator, ledger) | environment
        app = App(Settings.from_environment(variables), environment=variables, clock=clock)
        try:
            yield app, clock, emulator
        finally:
            app.ledger.store.close()


def variables_of(folder: Path, emulator: Emulator, ledger: str) -> dict[str, str]:
    """The environment of a process that shares the ledger and the emulator."""
    routes = folder / "routes.toml"
    routes.write_text(ROUTES, encoding="utf-8")
    return {
        "ONCETASK_ENDPOINT": emulator.url,
        "ONCETASK_ROUTES": str(routes),
        "ONCETASK_LEDGER": ledger,
        "STORM_TOKEN": TOKEN,
        "ALIBABA_CLOUD_ACCESS_KEY_ID": ACCESS_KEY_ID,
        "ALIBABA_CLOUD_ACCESS_KEY_SECRET": ACCESS_KEY_SECRET,
    }


def on_sqlite(events: int) -> Storm:
    """A storm on a new SQLite file."""
    with (
        tempfile.TemporaryDirectory() as folder,
        world(f"sqlite://{folder}/ledger.sqlite") as (app, clock, emulator),
    ):
        return run(app, clock, emulator, events)


def on_dynamodb(events: int) -> Storm:
    """A storm on DynamoDB, as dynalite has it. Raises NotInstallable."""
    with stores.dynalite() as dynalite:
        dynalite.store(FakeClock(time.time())).close()
        keys: Mapping[str, str] = {
            "AWS_REGION": stores.REGION,
            "AWS_ENDPOINT_URL_DYNAMODB": dynalite.url,
            "AWS_ACCESS_KEY_ID": dynalite.keys.access_key_id,
            "AWS_SECRET_ACCESS_KEY": dynalite.keys.secret_access_key,
        }
        with world(f"dynamodb://{stores.TABLE}", **keys) as (app, clock, emulator):
            return run(app, clock, emulator, events)


# -- memory ---------------------------------------------------------------------------------------


def peak_of_a_sweep_mb(waiting: int) -> float:
    """The most memory that a fresh process ever held which made one sweep with so many events waiting."""
    with tempfile.TemporaryDirectory() as folder:
        ledger = f"sqlite://{folder}/ledger.sqlite"
        with world(ledger) as (app, _, emulator):
            for number in range(waiting):
                deliver(app, number)
            process = subprocess.run(
                [sys.executable, "-m", "bench.storm", "--one-sweep"],
                env=os.environ | variables_of(Path(folder), emulator, ledger),
                capture_output=True,
                text=True,
                check=True,
            )
            made = len(emulator.tasks)
    if made != min(CAP, -(-waiting // TARGETS_PER_TASK)):
        raise RuntimeError(f"the sweep made {made} tasks")
    return float(process.stdout.split(PEAK)[1].split()[0]) / 1024


def _one_sweep() -> None:
    """A sweep by the environment's settings, as AWS starts it; then what the process held at most."""
    sweep.handler({}, None)
    print(next(line for line in STATUS.read_text().splitlines() if line.startswith(PEAK)))


# -- command line ---------------------------------------------------------------------------------


def main() -> None:
    """Print what each storm came to; status 1 where one broke the promise."""
    parser = argparse.ArgumentParser(prog="python -m bench.storm")
    parser.add_argument("--events", type=int, default=10_000)
    parser.add_argument("--ledger", choices=["sqlite", "dynamodb", "both"], default="both")
    parser.add_argument("--one-sweep", action="store_true", help="one sweep by the environment's settings")
    arguments = parser.parse_args()
    if arguments.one_sweep:
        _one_sweep()
        return
    storms = list(_storms(arguments.ledger, arguments.events))
    sys.exit(not all(storm.keeps_promise for storm in storms))


def _storms(ledger: str, events: int) -> Iterator[Storm]:
    kinds: dict[str, Any] = {"sqlite": on_sqlite, "dynamodb": on_dynamodb}
    for name, on_ledger in kinds.items():
        if ledger not in {name, "both"}:
            continue
        try:
            storm = on_ledger(events)
        except NotInstallable as error:
            print(f"{name}: is not available here: {error}")
            continue
        print(storm.line(name), flush=True)
        yield storm


if __name__ == "__main__":
    main()
