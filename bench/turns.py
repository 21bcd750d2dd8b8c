"""What hostile events and a delivery that is asked for at once cost."""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from bench import storm
from bench.figures import Row
from local.emulator import Behaviour, Emulator, Fault, Slow
from oncetask.app import App
from oncetask.ledger.ledger import Ledger
from oncetask.ledger.records import Event
from oncetask.ledger.sqlite import SqlStore
from oncetask.ledger.store import Row as StoredRow
from oncetask.models import Status, TaskRequest, Trigger
from oncetask.settings import Settings
from oncetask.submit.grouping import groups

HOSTILE_EVENTS = 2_000
TARGETS_EACH = 51
"""Two such events have too many targets for one task, and all share one target."""
STORE_CALL_S = 0.003
SECURITY_CENTER_S = 0.15
WEEK_S = 604_800


def hostile_event(number: int, now_s: float) -> Event:
    """One that fits together with no other, although it is alike."""
    name = "CLIENT_PROBLEM_CHECK"
    own = [f"inet-{number}-{target}-{'x' * 40}" for target in range(TARGETS_EACH - 1)]
    param = {"mode": 1, "problemType": "offline", "uuids": ",".join(["inet-same", *own])}
    return Event(
        event_id=f"webhook:storm:hostile-{number}",
        status=Status.PENDING,
        trigger=Trigger.WEBHOOK,
        route="storm",
        request=TaskRequest(task_type=name, task_name=name, param=param, source="oncetask"),
        submit="sweep",
        target_key="uuids",
        max_targets=100,
        order=0,
        received_s=now_s,
        due_s=now_s,
        give_up_s=now_s + WEEK_S,
        keep_s=WEEK_S,
    )


def grouping_s() -> float:
    """A processor's seconds for grouping them."""
    events = [hostile_event(number, 0.0) for number in range(HOSTILE_EVENTS)]
    began_s = time.process_time()
    groups(events)
    return time.process_time() - began_s


def peak_of_a_hostile_sweep_mb() -> float:
    """The most memory that a fresh process ever held which made one sweep of them."""
    with tempfile.TemporaryDirectory() as folder:
        ledger = f"sqlite://{folder}/ledger.sqlite"
        with storm.world(ledger) as (app, _, emulator):
            for number in range(HOSTILE_EVENTS):
                app.ledger.record(hostile_event(number, time.time()))
            process = subprocess.run(
                [sys.executable, "-m", "bench.storm", "--one-sweep"],
                env=os.environ | storm.variables_of(Path(folder), emulator, ledger),
                capture_output=True,
                text=True,
                check=True,
            )
    return float(process.stdout.split(storm.PEAK)[1].split()[0]) / 1024


class DistantStore(SqlStore):
    """A store in memory, each call of which takes as long as one of DynamoDB."""

    def get(self, key: str) -> StoredRow | None:
        time.sleep(STORE_CALL_S)
        return super().get(key)

    def get_many(self, keys: Sequence[str]) -> list[StoredRow]:
        time.sleep(STORE_CALL_S)
        return [row for key in keys if (row := SqlStore.get(self, key))]

    def put(self, row: StoredRow, *, replacing: str | None) -> bool:
        time.sleep(STORE_CALL_S)
        return super().put(row, replacing=replacing)

    def delete(self, key: str, *, version: str) -> bool:
        time.sleep(STORE_CALL_S)
        return super().delete(key, version=version)

    def queued(self, queue: str, most: int | None = None) -> Iterator[tuple[str, str]]:
        time.sleep(STORE_CALL_S)
        return super().queued(queue, most)


def distant_emulator() -> Emulator:
    """A Security Center, each call of which takes as long as one from another continent."""
    always: Fault = Slow(SECURITY_CENTER_S)
    return Emulator(behaviour=Behaviour(cap=10**9), always=always)


def delivery_at_once(folder: Path, emulator: Emulator) -> tuple[App, Callable[[], None]]:
    """An app on the distant store, and what delivers one event more and has it asked for at once."""
    variables = storm.variables_of(folder, emulator, "memory://")
    routes = folder / "at-once.toml"
    routes.write_text(storm.ROUTES.replace('submit = "sweep"\n', ""), encoding="utf-8")
    variables = variables | {"ONCETASK_ROUTES": str(routes)}
    app = App(Settings.from_environment(variables), environment=variables)
    app.ledger = Ledger(DistantStore(), app.clock)
    numbers = iter(range(10**6))
    return app, lambda: storm.deliver(app, next(numbers), status=201)


def hostile_rows() -> Iterator[Row]:
    """2,000 hostile due events: grouping them, and the peak memory of their sweep."""
    yield Row.at_most("2,000 hostile due events grouped, processor's time", "", grouping_s(), 1, " s")
    if storm.STATUS.is_file():
        peak_mb = peak_of_a_hostile_sweep_mb()
        yield Row.at_most("peak memory of a sweep of 2,000 hostile due events", "", peak_mb, 256, " MB")
