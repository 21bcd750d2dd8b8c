"""Deaths: real processes killed at the worst moments, senders that come back late, and a ledger that fails
once Security Center has answered. Nothing is lost, and nothing is made twice where anybody could know.
"""

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from local.emulator import CapReached, Emulator, Fault, Refuse, ResetBefore, Silence, Slow, Throttle
from oncetask.errors import LedgerUnavailable
from oncetask.ledger.ledger import Ledger
from oncetask.ledger.records import Event
from oncetask.models import Status
from oncetask.submit.report import Report
from tests.clocks import FakeClock
from tests.conftest import MakeApp
from tests.functional.sweeps import HookedStore, World, error_code, failing_at, one
from tests.open_records import lanes

ROOT = Path(__file__).resolve().parents[2]
type MakeWorld = Callable[..., World]


@pytest.fixture
def clock() -> FakeClock:
    """The survivors' clock: it begins now, as the dying process's own."""
    return FakeClock(time.time())


@pytest.fixture
def emulator(clock: FakeClock) -> Iterator[Emulator]:
    """A Security Center on that clock."""
    with Emulator(clock=clock.now_s) as running:
        yield running


@pytest.fixture
def make_world(make_app: MakeApp, clock: FakeClock, emulator: Emulator) -> MakeWorld:
    """`make_world(**environment)`: a world on the test's clock and emulator."""
    return lambda **environment: World(make_app("", clock=clock, **environment), clock, emulator)


# -- processes that are killed --------------------------------------------------------------------


def killed(world: World, path: Path, when: str, **told: object) -> None:
    """A process that did its work up to that moment, and then was killed with SIGKILL."""
    driver = str(Path(__file__).with_name("death_driver.py"))
    options = {"ledger": path, "endpoint": world.emulator.url, "hold": when} | told
    arguments = [f"--{name}={value}" for name, value in options.items()]
    with subprocess.Popen(
        [sys.executable, driver, *arguments],
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={"PYTHONPATH": "src:.", "PATH": "/usr/bin:/bin"},
    ) as process:
        try:
            if when == "never":
                wait_for_a_call(world)
            else:
                assert process.stdout is not None
                assert process.stdout.readline() == "HELD\n"
        finally:
            process.kill()


def wait_for_a_call(world: World) -> None:
    """Until somebody has asked."""
    ends_s = time.monotonic() + 20
    while not world.calls():
        assert time.monotonic() < ends_s
        time.sleep(0.005)


WRITES = {"records": 1, "lease": 101, "lane": 102, "answer": 103, "task": 104, "settled": 105}
"""Which write of the driver with 100 events of a `sweep` route is which; the first names its queue."""


@pytest.mark.parametrize(
    ("when", "write", "faults"),
    [
        pytest.param("before", WRITES["lease"], [], id="after the record"),
        pytest.param("before", WRITES["lane"], [], id="lane not taken"),
        pytest.param("never", 0, [Slow(30)], id="while asking, task made"),
        pytest.param("never", 0, [Silence(task_made=False)], id="while asking, no task made"),
        pytest.param("before", WRITES["answer"], [], id="answered, answer not written"),
        pytest.param("after", WRITES["answer"], [], id="answer on the lane, nothing settled"),
        pytest.param("before", WRITES["settled"] + 50, [], id="halfway through settling a hundred"),
        pytest.param("after", WRITES["settled"] + 99, [], id="all settled, lane not released"),
    ],
)
def test_a_killed_sweep_leaves_nothing_lost_and_nothing_double(
    when: str, write: int, faults: list[Fault], make_world: MakeWorld, tmp_path: Path
) -> None:
    """Wherever it dies, the next sweeps bring all hundred events to their task's end."""
    path = tmp_path / "ledger.sqlite"
    world = make_world(ONCETASK_LEDGER=f"sqlite://{path}")
    world.emulator.script(*faults)

    killed(world, path, when, write=write, events=100, submit="sweep")
    report = world.quiet()

    halved = any(isinstance(fault, Silence) for fault in faults)  # what was asked for in vain comes in halves
    assert [len(targets) for targets in world.targets()] == ([50, 50] if halved else [100])
    assert world.statuses(*(str(n) for n in range(100))) == [Status.FINISHED] * 100
    assert (report.second_tasks, lanes(world.ledger)) == (0, [])


@pytest.mark.parametrize(
    ("when", "write", "faults"),
    [
        pytest.param("before", 2, [], id="recorded, lane not taken"),
        pytest.param("never", 0, [Slow(30)], id="while asking, task made"),
        pytest.param("before", 5, [], id="answered, not settled"),
    ],
)
def test_a_killed_handlers_event_is_the_sweeps(
    when: str, write: int, faults: list[Fault], make_world: MakeWorld, tmp_path: Path
) -> None:
    """A `now` event whose own handler died is finished by sweeps, its task made once."""
    path = tmp_path / "ledger.sqlite"
    world = make_world(ONCETASK_LEDGER=f"sqlite://{path}")
    world.emulator.script(*faults)

    killed(world, path, when, write=write, events=1, submit="now")
    calls = len(world.calls())
    world.sweep()
    asked_early = len(world.calls()) - calls
    world.quiet()

    assert asked_early == 0
    assert (world.targets(), world.statuses("0")) == ([("inet-0",)], [Status.FINISHED])


# -- a delivery that is struck at any of its writes ------------------------------------------------


def struck_delivery(world: World, drafts: list[Event], store: HookedStore, number: int, blow: str) -> Report:
    """A delivery that dies, fails or is frozen before its n-th write, and what its sender is told."""

    def strike(puts: int) -> None:
        if puts != number:
            return
        if blow == "dies":
            raise SystemExit
        if blow == "fails":
            raise LedgerUnavailable("out of reach")
        store.before_put = lambda _: None
        world.sweep_after(70, 60)

    store.before_put = strike
    try:
        return world.record(*drafts)
    except (SystemExit, LedgerUnavailable):
        store.before_put = lambda _: None
        return world.record(*drafts)  # the sender retries
    finally:
        store.before_put = lambda _: None


@pytest.mark.slow
@pytest.mark.parametrize("blow", ["dies", "fails", "is frozen"])
@pytest.mark.parametrize(
    "faults",
    [[], [CapReached()], [Throttle(), ResetBefore()], [ResetBefore()], [Refuse(400, "IllegalParam")]],
)
def test_whatever_write_a_delivery_is_struck_at_nothing_is_lost_and_nothing_made_twice(
    blow: str, faults: list[Fault], make_world: MakeWorld
) -> None:
    """Each of its two events comes to one task, or to its rejection; its sender is told of every event."""
    for number in range(14):
        world = make_world()
        world.emulator.forget()
        world.emulator.script(*faults)
        world.app.ledger = Ledger(store := HookedStore(), world.clock)
        drafts = [world.draft(name, targets=f"inet-{name}", submit="now") for name in "ab"]

        report = struck_delivery(world, drafts, store, number, blow)
        second_tasks = report.second_tasks + world.quiet().second_tasks

        rejected = [name for name in "ab" if world.statuses(name) == [Status.REJECTED]]
        assert len(report.results) == 2
        assert len(rejected) <= sum(isinstance(fault, Refuse) for fault in faults)
        assert sorted(world.targets()) == [(f"inet-{name}",) for name in "ab" if name not in rejected]
        assert all(world.statuses(name) == [Status.FINISHED] for name in "ab" if name not in rejected)
        assert (second_tasks, lanes(world.ledger)) == (0, [])


@pytest.mark.parametrize("write", [3, 4, 5])
def test_a_ledger_that_fails_after_the_answer_changes_nothing_in_what_is_told(
    write: int, make_world: MakeWorld
) -> None:
    """The sender hears of the task; sweeps put the record right, and no second task is made."""
    world = make_world()
    world.app.ledger = Ledger(store := HookedStore(), world.clock)
    store.before_put = failing_at(write)

    told = one(world.record(world.draft("a", submit="now")).results)
    store.before_put = lambda _: None
    world.quiet()

    assert (told.status, told.task_id) == (Status.CREATED, world.emulator.tasks[0].task_id)
    assert (world.event("a").task_id, world.statuses("a")) == (told.task_id, [Status.FINISHED])
    assert len(world.emulator.tasks) == 1


# -- senders that come back late -------------------------------------------------------------------


class FrozenClock(FakeClock):
    """A frozen process's clock: the day goes on, and none of its own time passes."""

    def __init__(self, day: FakeClock) -> None:
        super().__init__()
        self._day = day

    def now_s(self) -> float:
        return self._day.now_s()


class LateSender:
    """A delivery of one `now` event `a` whose call is still out, in a thread for a frozen process."""

    def __init__(self, world: World, sender: World, slow_s: float) -> None:
        sender.app.ledger = world.ledger
        sender.app.clock = sender.clock = FrozenClock(world.clock)
        world.emulator.script(Slow(slow_s))
        self._draft = sender.draft("a", submit="now")
        self._sender = sender
        self._reports: list[Report] = []
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        wait_for_a_call(world)

    def _run(self) -> None:
        self._reports.append(self._sender.record(self._draft))

    def report(self) -> Report:
        """What it says in the end."""
        self._thread.join(timeout=20)
        [report] = self._reports
        return report


def test_an_answer_after_the_claims_end_finds_the_same_task_adopted(make_world: MakeWorld) -> None:
    """The sweep took the call for lost and found its task; the late sender writes nothing, and agrees."""
    world = make_world()
    world.app.ledger = Ledger(HookedStore(), world.clock)
    late = LateSender(world, make_world(), slow_s=0.7)

    swept = world.sweep_after(40)
    report = late.report()

    assert (swept.adopted, report.second_tasks, len(world.emulator.tasks)) == (1, 0, 1)
    assert one(report.results) == world.event("a").result()


def test_an_answer_after_the_claims_end_is_taken_while_nobody_knows_better(make_world: MakeWorld) -> None:
    """The sweep found nothing yet; the late answer is the call's, and nothing is asked again."""
    world = make_world()
    world.emulator.behaviour.list_lag_s = 10_000
    world.app.ledger = Ledger(HookedStore(), world.clock)
    late = LateSender(world, make_world(), slow_s=0.7)

    lost = world.sweep_after(40)
    report = late.report()
    world.sweep_after(60, 60, 60, 60)

    assert (one(lost.results).status, one(report.results).status) == (Status.UNKNOWN, Status.CREATED)
    assert (len(world.emulator.tasks), lanes(world.ledger)) == (1, [])


def test_an_answer_after_the_events_were_asked_for_again_is_a_second_task(make_world: MakeWorld) -> None:
    """The README's limit: the service showed nothing for so long. It is counted once, and told."""
    world = make_world()
    world.emulator.behaviour.list_lag_s = 300
    world.app.ledger = Ledger(HookedStore(), world.clock)
    late = LateSender(world, make_world(), slow_s=1.5)

    swept = world.sweep_after(40, 60, 90, 60)
    report = late.report()
    later = world.sweep_after(200, 60)

    assert (swept.asked_again, report.second_tasks, later.second_tasks) == (1, 1, 0)
    assert (error_code(one(report.results)), error_code(world.event("a"))) == ("SecondTask", "SecondTask")
    assert len(world.emulator.tasks) == 2
    records = [world.ledger.task(task.task_id) for task in world.emulator.tasks]
    assert len({record.call_id for record in records if record}) == 2
