"""`make bench`: what things cost on this machine, beside what they are meant to cost."""

import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from alibabacloud_tea_openapi.client import Client
from alibabacloud_tea_openapi.utils_models import Config, OpenApiRequest, Params
from darabonba.runtime import RuntimeOptions

from bench import hosts, startup, storm, turns
from bench.figures import Row, show, write
from local.clocks import FakeClock
from local.emulator import ACCESS_KEY_ID, ACCESS_KEY_SECRET, Behaviour, Emulator
from local.text import nearest, visible
from oncetask.ledger.ledger import Ledger
from oncetask.ledger.records import Event
from oncetask.ledger.sqlite import SqlStore
from oncetask.models import Status, TaskRequest, Trigger

FEW, MANY = 1_000, 10_000
ROUNDS = 7
CALLS_PER_ROUND = 50
DISTANT_CALLS_PER_ROUND = 5


def main() -> None:
    """Measure all, or what is named; print the table, and write the page of all. Status 1: a missed goal."""
    wanted = " ".join(sys.argv[1:]).split()
    measures = chosen(wanted)
    rows = [row for measure in measures for row in _told(measure)]
    show(rows)
    if not wanted:
        write(rows, machine=startup.machine())
    sys.exit(any(row.met is False for row in rows))


def chosen(words: Sequence[str]) -> list[Callable[[], Iterator[Row]]]:
    """The measures of those names; all where there is none. Ends the program where a name is none of ours."""
    known = {measure.__name__: measure for measure in MEASURES}
    unknown = next((word for word in words if word not in known), None)
    if unknown is not None:
        hint = nearest(unknown, known)
        sys.exit(f"there is no measure {visible(unknown)}{hint}; there are {', '.join(known)}")
    return [measure for name, measure in known.items() if not words or name in words]


def _told(measure: Callable[[], Iterator[Row]]) -> Iterator[Row]:
    first_line = (measure.__doc__ or "").split(".")[0]
    print(f"measuring: {first_line} …", file=sys.stderr, flush=True)
    yield from measure()


# -- the storm ------------------------------------------------------------------------------------


def storm_rows() -> Iterator[Row]:
    """The storm: the cost of an event from its delivery to `finished`, with many and with few waiting."""
    few = min((storm.on_sqlite(FEW) for _ in range(3)), key=lambda done: done.cpu_s)
    many = storm.on_sqlite(MANY)
    for done in (few, many):
        yield Row(
            f"an event of {done.events:,}, SQLite file, processor's time",
            f"{done.cpu_per_event_ms:.2f} ms ({done.per_event_ms:.2f} ms passed)",
        )
    ratio = many.cpu_per_event_ms / few.cpu_per_event_ms
    name, goal = "cost of an event of 10,000 : of 1,000", 1.3
    yield Row(name, "", f"{ratio:.2f}", f"<= {goal}", ratio <= goal)
    yield Row(
        f"{MANY:,} deliveries: tasks, most at once, finished",
        f"{many.tasks}, {many.most_running}, {many.finished:,}",
        "",
        f"100, <= 10, {MANY:,}",
        many.keeps_promise,
    )


def memory_rows() -> Iterator[Row]:
    """The peak memory of a fresh process's sweep."""
    if not storm.STATUS.is_file():
        yield Row("peak memory of a sweep with 10,000 waiting", "needs Linux", goal="<= 150 MB")
        return
    peak_mb, goal_mb = storm.peak_of_a_sweep_mb(MANY), 150
    name = "peak memory of a sweep with 10,000 waiting"
    yield Row(name, f"{peak_mb:.0f} MB", "", f"<= {goal_mb} MB", peak_mb <= goal_mb)


# -- recording ------------------------------------------------------------------------------------


def recording_rows() -> Iterator[Row]:
    """Recording one event, beside one bare call of the official client."""
    record_ms, call_ms = _record_ms(), _bare_call_ms()
    ratio = record_ms / call_ms
    yield Row("a bare Tea call on loopback", f"{call_ms:.2f} ms")
    yield Row("recording one event : that call", f"{record_ms:.2f} ms", f"{ratio:.2f}", "<= 1", ratio <= 1)


def median_ms(once: Callable[[], object], calls: int = CALLS_PER_ROUND) -> float:
    """The median of some rounds' means, in milliseconds of real time."""
    means = []
    for _ in range(ROUNDS):
        began_s = time.perf_counter()
        for _ in range(calls):
            once()
        means.append((time.perf_counter() - began_s) * 1000 / calls)
    return statistics.median(means)


def _record_ms() -> float:
    clock = FakeClock()
    with tempfile.TemporaryDirectory() as folder:
        ledger = Ledger(SqlStore(Path(folder) / "ledger.sqlite"), clock)
        numbers = iter(range(ROUNDS * CALLS_PER_ROUND))
        try:
            return median_ms(lambda: ledger.record(_event(next(numbers), clock.now_s())))
        finally:
            ledger.store.close()


def _event(number: int, now_s: float) -> Event:
    name = "CLIENT_PROBLEM_CHECK"
    param = {"mode": 1, "problemType": "offline", "uuids": f"inet-{number:08d}"}
    return Event(
        event_id=f"webhook:storm:alert-{number}",
        status=Status.PENDING,
        trigger=Trigger.WEBHOOK,
        route="storm",
        item_sha256=None,
        request=TaskRequest(task_type=name, task_name=name, param=param, source="oncetask"),
        submit="sweep",
        target_key="uuids",
        max_targets=100,
        order=0,
        received_s=now_s,
        due_s=now_s,
        give_up_s=now_s + 604_800,
        keep_s=604_800,
    )


def at_once_rows() -> Iterator[Row]:
    """A delivery that is asked for at once, beside one bare call, as far away as in AWS."""
    with tempfile.TemporaryDirectory() as folder, turns.distant_emulator() as emulator:
        app, deliver_once = turns.delivery_at_once(Path(folder), emulator)
        try:
            deliver_once()  # Tea is loaded, and the process warm
            delivery_ms = median_ms(deliver_once, calls=DISTANT_CALLS_PER_ROUND)
        finally:
            app.close()
    call_ms = _bare_call_ms(turns.distant_emulator, calls=DISTANT_CALLS_PER_ROUND)
    name = "a delivery asked for at once : a bare call (store 3 ms, Security Center 150 ms)"
    yield Row.at_most(name, f"{delivery_ms:.0f} ms : {call_ms:.0f} ms", delivery_ms / call_ms, 1.25)


def _near_emulator() -> Emulator:
    return Emulator(behaviour=Behaviour(cap=10**9))


def _bare_call_ms(
    make_emulator: Callable[[], Emulator] = _near_emulator, calls: int = CALLS_PER_ROUND
) -> float:
    """The official client alone, asking for a task as its own examples do."""
    with make_emulator() as emulator:
        client = Client(
            Config(
                access_key_id=ACCESS_KEY_ID,
                access_key_secret=ACCESS_KEY_SECRET,
                endpoint=emulator.url.removeprefix("http://"),
                protocol="HTTP",
            )
        )
        params = Params(
            action="GenerateOnceTask",
            version="2018-12-03",
            protocol="HTTP",
            pathname="/",
            method="POST",
            auth_type="AK",
            style="RPC",
            req_body_type="formData",
            body_type="json",
        )
        query = _event(1, 0).request.query()
        return median_ms(
            lambda: client.call_api(params, OpenApiRequest(query=query), RuntimeOptions()), calls=calls
        )


MEASURES: tuple[Callable[[], Iterator[Row]], ...] = (
    startup.start_rows,
    startup.warm_rows,
    startup.memory_of_events_rows,
    startup.bundle_rows,
    recording_rows,
    storm_rows,
    memory_rows,
    turns.hostile_rows,
    at_once_rows,
    hosts.selection_rows,
)
"""Each gives rows of the table; its docstring's first sentence is what it is said to measure."""


if __name__ == "__main__":
    main()
