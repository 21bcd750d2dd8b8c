"""The sweep from end to end on one clock with the emulator, and what several
sweeps, damaged records and a failing ledger do to it.
"""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from local.emulator import (
    CanCreateFalse,
    CapReached,
    Emulator,
    Refuse,
    ResetAfter,
    ResetBefore,
    Slow,
    Throttle,
)
from oncetask.app import SystemClock
from oncetask.clock import Deadline
from oncetask.errors import LedgerUnavailable
from oncetask.handlers import sweep
from oncetask.ledger.ledger import Ledger
from oncetask.ledger.records import FORMAT, Lease, event_key, lane_key, task_key
from oncetask.ledger.sqlite import SqlStore
from oncetask.models import Status, results_document
from oncetask.submit.report import Limits, Report
from oncetask.sweep.context import SweepReport
from tests.answers import ROWS
from tests.answers import Row as AnswerRow
from tests.clocks import NOW_S, FakeClock
from tests.conftest import MakeApp
from tests.functional.sweeps import CHECK, SCAN, HookedStore, World, error_code, failing_at, one
from tests.open_records import lanes, running

ROOT = Path(__file__).resolve().parents[2]
DAY_S = 86_400
each_row = pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
type MakeWorld = Callable[..., World]


@pytest.fixture
def clock() -> FakeClock:
    """The one clock."""
    return FakeClock()


@pytest.fixture
def emulator(clock: FakeClock) -> Iterator[Emulator]:
    """A Security Center on that clock."""
    with Emulator(clock=clock.now_s) as running:
        yield running


@pytest.fixture
def make_world(make_app: MakeApp, clock: FakeClock, emulator: Emulator) -> MakeWorld:
    """`make_world(**environment)`: a world on the test's clock and emulator."""
    return lambda **environment: World(make_app("", clock=clock, **environment), clock, emulator)


@pytest.fixture(params=["memory", "sqlite"])
def world(request: pytest.FixtureRequest, make_world: MakeWorld, tmp_path: Path) -> World:
    """The usual one, over both of SQLite's ledgers."""
    ledger = {"memory": "memory://", "sqlite": f"sqlite://{tmp_path}/ledger.sqlite"}[request.param]
    return make_world(ONCETASK_LEDGER=ledger)


@pytest.fixture
def memory(make_world: MakeWorld) -> World:
    """The usual one in memory alone, where the store makes no difference."""
    return make_world()


def hooked(world: World) -> HookedStore:
    """The world's ledger is this store from now on."""
    store = HookedStore()
    world.app.ledger = Ledger(store, world.clock)
    return store


# -- what waits -----------------------------------------------------------------------------------


def test_waiting_events_become_as_few_tasks_as_there_can_be(world: World) -> None:
    """250 events of one route and 100 targets a task are three tasks, in order of arrival."""
    world.record(*(world.draft(str(n), targets=f"inet-{n}", order=n) for n in range(250)))

    report = world.sweep()

    assert [len(targets) for targets in world.targets()] == [100, 100, 50]
    assert [target for task in world.targets() for target in task] == [f"inet-{n}" for n in range(250)]
    assert [result.status for result in report.results] == [Status.CREATED] * 250
    assert [result.shared_by for result in report.results] == [100] * 200 + [50] * 50
    assert report.events_per_task == pytest.approx(250 / 3)


def test_an_events_request_is_its_own(world: World) -> None:
    """Not its group's: each result shows what its sender asked for."""
    world.record(world.draft("a", targets="inet-1"), world.draft("b", targets="inet-2,inet-1"))

    results = world.sweep().results

    assert [result.request and result.request.param["uuids"] for result in results] == [
        "inet-1",
        "inet-2,inet-1",
    ]
    assert world.targets() == [("inet-1", "inet-2")]


def test_every_other_event_is_a_task_of_its_own(world: World) -> None:
    """Events without targets, and those of `now` routes that were left, share with nobody."""
    world.emulator.script(CapReached())
    world.record(world.draft("first", submit="now"), world.draft("second", submit="now", order=1))
    world.clock.advance(1)
    world.record(world.draft("third", targets=None), world.draft("fourth", targets=None))

    world.sweep()

    assert [task.targets for task in world.emulator.tasks] == [("inet-1",), ("inet-1",), (), ()]


def test_the_oldest_is_asked_first(world: World) -> None:
    """By age, over all task types; within a delivery by its order."""
    names = ["old", "middle", "new"]
    for name, task_type in zip(names, [SCAN, CHECK, SCAN], strict=True):
        fields = {"task_type": task_type, "max_targets": 1}
        world.record(
            *(world.draft(f"{name}/{n}", targets=f"{name}-{n}", order=n, **fields) for n in range(2))
        )
        world.clock.advance(1)

    world.sweep()

    assert world.targets() == [(f"{name}-{n}",) for name in names for n in range(2)]


def test_a_now_event_behind_older_ones_is_the_sweeps(world: World) -> None:
    """Nobody overtakes: what came while others of its type waited is asked for after them."""
    world.record(world.draft("old", targets="inet-old"))
    world.clock.advance(1)
    report = world.record(world.draft("new", targets="inet-new", submit="now"))

    world.sweep()

    assert (report.results[0].status, report.results[0].error) == (Status.PENDING, None)
    assert world.targets() == [("inet-old",), ("inet-new",)]


def test_a_sweep_reads_2000_due_events_of_a_route(memory: World) -> None:
    """And says what is left; its gauges are exact beyond that."""
    memory.record(*(memory.draft(str(n), order=n) for n in range(2003)))

    before = memory.app.sweeper.gauges().waiting
    report = memory.sweep()

    assert (before, len(report.results), report.gauges.waiting) == (2003, 2000, 3)
    assert one(memory.sweep().results[:1]).event_id == "webhook:agents:2000"


def test_an_event_that_is_not_due_waits(world: World) -> None:
    """A backoff is waited for, even by the operator's hand on the sweep."""
    world.emulator.script(Throttle(retry_after_ms=90_000))
    world.record(world.draft("a"))
    world.sweep()

    early, late = world.sweep_after(89), world.sweep_after(1)

    assert (early.results, one(late.results).status) == ([], Status.CREATED)


# -- answers as the sweep meets them --------------------------------------------------------------


@each_row
def test_an_answer_becomes_what_the_contract_says(
    row: AnswerRow, emulator: Emulator, make_world: MakeWorld
) -> None:
    """Result and record are the row's; the type's lane is kept exactly while its task is searched for."""
    world = make_world(**row.arrange(emulator))
    world.record(world.draft("a"))

    result = one(world.sweep().results)

    error = result.error
    assert (result.status, error and error.code, error and error.kind) == (row.status, row.code, row.kind)
    assert (result, result.attempts) == (world.event("a").result(), 1)
    assert bool(lanes(world.ledger)) == (row.status is Status.UNKNOWN)
    assert len(world.calls()) == row.calls


@each_row
def test_an_answer_says_whether_the_sweep_asks_on(
    row: AnswerRow, emulator: Emulator, make_world: MakeWorld
) -> None:
    """An answer to one type's request keeps another waiting only where nothing at all is asked any more."""
    world = make_world(**row.arrange(emulator))
    world.record(world.draft("a"), world.draft("b", task_type=SCAN, order=1))

    world.sweep()

    asks_on = row.ends != "everything"
    asked = world.event("b").attempts == 1 or (row.calls == 0 and row.ends == "type")
    assert (asked, len(world.calls())) == (asks_on, row.calls + (asks_on and row.calls > 0))


def test_a_task_with_can_create_false_is_the_types_last_of_the_sweep(world: World) -> None:
    """It is created, and the next one of its type waits for the next sweep."""
    world.emulator.script(CanCreateFalse())
    world.record(world.draft("a"), world.draft("b", max_targets=1, targets="inet-2", order=1))

    world.sweep()
    before = world.statuses("a", "b")
    world.sweep()

    assert (before, world.statuses("a", "b")) == (
        [Status.CREATED, Status.PENDING],
        [Status.CREATED, Status.CREATED],
    )


def test_the_cap_lets_as_many_through_as_slots_come_free(world: World) -> None:
    """Fifteen tasks: nine or ten now, the rest when the first have ended; none is lost."""
    names = [str(n) for n in range(15)]
    world.record(*(world.draft(name, targets=f"inet-{name}", max_targets=1) for name in names))

    first = world.sweep()
    second = world.sweep_after(60)

    assert [result.status for result in first.results].count(Status.CREATED) == 10
    assert (first.gauges.waiting, first.gauges.running) == (5, 10)
    assert (second.gauges.waiting, second.gauges.running) == (0, 5)


# -- refused groups -------------------------------------------------------------------------------


@pytest.fixture
def poisoned(memory: World) -> World:
    """Eight events, the sixth with a target that makes the service refuse the whole request."""
    memory.emulator.behaviour.poison = {"inet-5"}
    memory.record(*(memory.draft(str(n), targets=f"inet-{n}", order=n) for n in range(8)))
    return memory


def test_a_named_targets_event_is_asked_alone(poisoned: World) -> None:
    """It alone is rejected, in the same sweep; the rest is one task."""
    report = poisoned.sweep()

    statuses = {result.event_id: result.status for result in report.results}
    assert statuses.pop("webhook:agents:5") is Status.REJECTED
    assert set(statuses.values()) == {Status.CREATED}
    assert poisoned.targets() == [tuple(f"inet-{n}" for n in range(8) if n != 5)]


def test_an_unnamed_one_is_found_by_halving(poisoned: World) -> None:
    """One halving a sweep; accepted halves are tasks of their own, who is refused alone is rejected."""
    poisoned.emulator.behaviour.poison_named = False

    calls = [len(poisoned.sweep().create_latencies_ms) for _ in range(3)]

    halves = [("inet-0", "inet-1", "inet-2", "inet-3"), ("inet-4",), ("inet-6", "inet-7")]
    assert sorted(poisoned.targets()) == halves
    assert poisoned.statuses("5") == [Status.REJECTED]
    assert calls == [3, 4, 0]
    assert {poisoned.event(name).attempts for name in "01234567"} == {2, 3, 4}


def test_halving_stops_at_the_cap(poisoned: World) -> None:
    """What is left waits in its halves for the next sweep."""
    poisoned.emulator.behaviour.poison_named = False
    poisoned.emulator.script(None, CapReached())

    first = poisoned.sweep()
    calls = len(poisoned.calls())
    poisoned.quiet()

    assert (calls, {result.status for result in first.results}) == (2, {Status.PENDING})
    assert sorted(poisoned.targets()) == [
        ("inet-0", "inet-1", "inet-2", "inet-3"),
        ("inet-4",),
        ("inet-6", "inet-7"),
    ]
    assert poisoned.statuses("5") == [Status.REJECTED]


def test_all_poisoned_are_all_rejected(poisoned: World) -> None:
    """No event of a refused group is lost, and no task is made."""
    poisoned.emulator.behaviour.poison = {f"inet-{n}" for n in range(8)}

    poisoned.quiet()

    assert poisoned.statuses(*"01234567") == [Status.REJECTED] * 8
    assert (poisoned.emulator.tasks, lanes(poisoned.ledger)) == ([], [])


# -- following ------------------------------------------------------------------------------------


@pytest.mark.parametrize("task_type", [CHECK, SCAN])
def test_a_task_that_has_ended_finishes_its_events(world: World, task_type: str) -> None:
    """Once, with the service's end time where it tells one; nothing is left open."""
    world.record(*(world.draft(name, targets=f"inet-{name}", task_type=task_type) for name in "ab"))
    world.sweep_after(0, 20)

    report = world.sweep_after(11)

    finish = report.results[0].finish
    assert [result.status for result in report.results] == [Status.FINISHED] * 2
    assert finish is not None
    assert finish.state == "SUCCESS"
    assert finish.finished_at == (
        "2027-01-15T08:00:30.000Z" if task_type == CHECK else "2027-01-15T08:00:31.000Z"
    )
    assert (report.gauges.running, running(world.ledger), world.sweep().results) == (0, [], [])


@pytest.mark.parametrize(("end", "state"), [("FAIL", "FAIL"), ("TIMEOUT", "TIMEOUT")])
@pytest.mark.parametrize("describe_id", ["both", "TaskId", "RootTaskId"])
def test_how_it_ended_is_told(memory: World, end: str, state: str, describe_id: str) -> None:
    """By whichever of its two ids DescribeOnceTask shows the task."""
    memory.emulator.behaviour.describe_id = describe_id  # type: ignore[assignment]
    memory.record(memory.draft("a"))
    memory.sweep()
    memory.emulator.finish(memory.event("a").task_id or "", end)  # type: ignore[arg-type]

    memory.sweep_after(1)

    finish = memory.event("a").finish
    assert (finish and finish.state, memory.statuses("a")) == (state, [Status.FINISHED])


@pytest.mark.parametrize("task_type", [CHECK, SCAN])
def test_a_task_that_never_ends_is_lost_after_a_day(memory: World, task_type: str) -> None:
    """86,400 s after its creation, and not a second before."""
    memory.emulator.behaviour.task_end = "NEVER"
    memory.record(memory.draft("a", task_type=task_type))
    memory.sweep()

    memory.sweep_after(DAY_S - 1)
    before = memory.statuses("a")
    report = memory.sweep_after(1)

    finish = one(report.results).finish
    assert (before, finish and finish.state) == ([Status.CREATED], "LOST")


@pytest.mark.parametrize(("after_s", "statuses"), [(60, [Status.CREATED]), (DAY_S, [Status.FINISHED])])
@pytest.mark.parametrize("fault", [Refuse(500, "ServerError"), ResetBefore(), Throttle()], ids=repr)
def test_a_failing_follow_call_changes_nothing_before_the_day_is_over(
    memory: World, fault: object, after_s: int, statuses: list[Status]
) -> None:
    """Then the task is lost, whatever a query says or fails to say."""
    memory.record(memory.draft("a"))
    memory.sweep()
    memory.emulator.script(*[fault] * 3, action="DescribeOnceTask")  # type: ignore[list-item]

    memory.sweep_after(after_s)

    assert memory.statuses("a") == statuses
    memory.emulator.forget()


def test_a_task_that_the_service_refuses_to_know_is_lost_after_a_day(memory: World) -> None:
    """A refusal that patience does not mend changes nothing, until the day is over."""
    memory.record(memory.draft("a"))
    memory.sweep()
    memory.emulator.script(*[Refuse(404, "TaskNotFound")] * 2, action="DescribeOnceTask")

    early, late = memory.sweep_after(60), memory.sweep_after(DAY_S)

    finish = one(late.results).finish
    assert (early.results, finish and finish.state) == ([], "LOST")


def test_a_service_slow_to_show_does_not_hold_up_what_waits(memory: World) -> None:
    """Following takes half of the time at most; then what waits is asked for."""
    memory.emulator.behaviour.task_end = "NEVER"
    memory.record(*(memory.draft(str(n), targets=f"inet-{n}", max_targets=1) for n in range(9)))
    memory.sweep()
    slow = SlowToShow(memory)
    memory.record(memory.draft("waits"))

    memory.sweep()

    assert (slow.shown, memory.statuses("waits")) == (5, [Status.CREATED])


class SlowToShow:
    """From now on DescribeOnceTask takes six seconds of the world's clock."""

    def __init__(self, world: World) -> None:
        self.shown = 0
        self._world = world
        world.emulator.add_operation("2018-12-03", "DescribeOnceTask", self._show)

    def _show(self, _: object) -> dict[str, object]:
        self.shown += 1
        self._world.clock.advance(6)
        ids = (task.task_id for task in self._world.emulator.tasks)
        entries = [{"TaskId": task_id, "TaskType": CHECK, "TaskStatus": 1} for task_id in ids]
        return {"PageInfo": {"TotalCount": len(entries)}, "TaskManageResponseList": entries}


# -- waiting too long -----------------------------------------------------------------------------


def test_an_event_that_waited_too_long_is_given_up(world: World) -> None:
    """`Expired`, since surely nothing was made; its id is free again."""
    world.emulator.script(CapReached())
    world.record(world.draft("a", give_up_s=NOW_S + 100))
    world.sweep()

    report = world.sweep_after(100)

    result = one(report.results)
    assert (result.status, error_code(result), result.attempts) == (Status.FAILED, "Expired", 1)
    assert (world.emulator.tasks, world.event("a").frees_its_id) == ([], True)


def test_what_was_asked_and_never_accounted_for_is_given_up_as_that(world: World) -> None:
    """`OutcomeUnknown`: the first sending was lost, the second met the cap, and then its time was over."""
    world.emulator.script(ResetBefore(), CapReached())
    world.record(world.draft("a", give_up_s=NOW_S + 200))
    world.sweep_after(0, 5, 25, 60, 90)

    report = world.sweep_after(60)

    assert error_code(one(report.results)) == "OutcomeUnknown"
    assert not world.event("a").frees_its_id


def test_giving_up_comes_before_searching(world: World) -> None:
    """An event past its end is given up, although its task might still be found; its lane is free then."""
    world.emulator.behaviour.list_lag_s = 170
    world.emulator.script(ResetAfter())
    world.record(world.draft("a", give_up_s=NOW_S + 10))

    report = world.sweep_after(0, 10)

    assert error_code(one(report.results)) == "OutcomeUnknown"
    assert lanes(world.ledger) == []


def test_an_event_whose_searches_fail_is_given_up_and_holds_nobody_up(world: World) -> None:
    """`OutcomeUnknown`; then nobody waits for its call any more, and the lane is released."""
    world.emulator.script(ResetBefore())
    world.emulator.script(*[Refuse(403, "NoPermission")] * 9, action="DescribeOnceTask")
    world.record(world.draft("a", give_up_s=NOW_S + 100))
    world.record(world.draft("b", max_targets=1, targets="inet-2", order=1))

    before = world.sweep_after(0, 90)
    report = world.sweep_after(10)

    assert before.results == []
    assert [error_code(result) for result in report.results] == ["OutcomeUnknown", None]
    assert world.statuses("b") == [Status.CREATED]


def test_an_ambiguous_event_is_given_up_in_the_end(memory: World) -> None:
    """The operator did not decide: `OutcomeUnknown`."""
    memory.emulator.script(ResetBefore())
    memory.record(memory.draft("a", task_type="CLIENT_DEV_OPS", give_up_s=NOW_S + 1000))
    memory.sweep_after(0, 180)

    report = memory.sweep_after(1000)

    assert error_code(one(report.results)) == "OutcomeUnknown"


def test_an_event_is_not_given_up_while_a_call_for_it_may_be_out(memory: World) -> None:
    """Its sender died, or is slow, at the very end of its time: only once its claim has ended."""
    store = hooked(memory)
    memory.record(memory.draft("a", give_up_s=NOW_S + 3))
    die_at(memory, store, store.puts + 2)  # lease, lane; asked, and dead before the answer was kept

    early, late = memory.sweep_after(4), memory.sweep_after(60)

    assert (early.results, error_code(one(late.results))) == ([], "OutcomeUnknown")


def test_a_now_event_past_its_end_is_given_up_although_its_handler_has_time(memory: World) -> None:
    """Under the lane; its handler finds it given up, and asks nothing."""
    event = memory.draft("a", submit="now", due_s=NOW_S + 35, give_up_s=NOW_S + 5)
    memory.ledger.record(event)

    report = memory.sweep_after(5)

    assert error_code(one(report.results)) == "Expired"
    assert memory.app.caller.call([event], Report(), Limits(Deadline.after(30, memory.clock))) is None


# -- lease and time -------------------------------------------------------------------------------


def test_a_sweep_that_finds_the_lease_taken_changes_nothing(world: World) -> None:
    """No results, and the gauges all the same."""
    world.record(world.draft("a"))
    world.clock.advance(7)
    world.ledger.take_lease(int(world.clock.now_s()) + 55)

    report = world.sweep()

    assert (report.results, world.emulator.calls, world.statuses("a")) == ([], [], [Status.PENDING])
    assert (report.gauges.waiting, report.gauges.running, report.gauges.oldest_waiting_s) == (1, 0, 7)


@pytest.mark.parametrize(("invocation_s", "lease_s"), [(300, 55), (60, 55), (20, 20), (3, 5)])
def test_the_lease_ends_five_seconds_after_the_sweep_must(
    memory: World, invocation_s: int, lease_s: int
) -> None:
    """A sweep that died keeps the next ones away for no longer than that."""
    store = hooked(memory)
    memory.record(memory.draft("a"))
    ends: list[int | None] = []
    store.before_put = lambda _: ends.append(expiry_of_lease(store))

    memory.sweep(invocation_s)

    assert [end for end in ends if end][:1] in ([], [NOW_S + lease_s])
    assert expiry_of_lease(store) is None


def expiry_of_lease(store: SqlStore) -> int | None:
    """When the lease ends; None where nobody has it."""
    row = store.get("lease/sweep")
    ends_s = Lease.model_validate_json(row.body).ends_s if row else 0
    return int(ends_s) or None


@pytest.mark.parametrize(("invocation_s", "longest_s"), [(300, 50), (40, 35)])
def test_a_sweep_ends_in_time(memory: World, invocation_s: int, longest_s: int) -> None:
    """The sooner of 50 s and the remaining time less 5 s, no call cut off; the rest is the next sweep's."""
    memory.emulator.behaviour.cap = 99
    store = hooked(memory)
    memory.record(*(memory.draft(str(n), targets=f"inet-{n}", max_targets=1) for n in range(30)))
    store.before_put = lambda _: memory.clock.advance(0.5)

    report = memory.sweep(invocation_s)
    took_s = memory.clock.elapsed_s()
    store.before_put = lambda _: None
    memory.sweep_after(60)

    assert longest_s - 8 < took_s <= longest_s + 1
    assert 0 < len(report.results) < 30
    assert len(memory.emulator.tasks) == 30


def test_an_invocation_without_time_asks_nothing(memory: World) -> None:
    """Nothing is sent that could not be written down."""
    memory.record(memory.draft("a"))

    memory.sweep(5.05)

    assert (memory.calls(), memory.statuses("a")) == ([], [Status.PENDING])


def test_an_idle_sweep_does_not_import_tea() -> None:
    """Every minute, mostly for nothing: it must stay cheap."""
    script = (
        "import sys; from oncetask.handlers import sweep; sweep.handler({}, None);"
        "print([name for name in sys.modules if name.split('.')[0] in {'Tea', 'darabonba'}])"
    )
    routes = ROOT / "src/routes.toml"
    environment = {"PYTHONPATH": "src", "ONCETASK_ROUTES": str(routes), "PATH": "/usr/bin:/bin"}

    ran = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    )

    assert ran.stdout.splitlines()[-1] == "[]"


# -- results --------------------------------------------------------------------------------------


def test_of_several_changes_of_an_event_only_the_last_is_told(memory: World) -> None:
    """Settled and finished in one sweep: one result, `finished`; asked twice, one result, the second's."""
    store = hooked(memory)
    memory.record(memory.draft("a"))
    die_at(memory, store, store.puts + 4)  # lease, lane, answer, task; not the event

    report = memory.sweep_after(100)

    assert [result.status for result in report.results] == [Status.FINISHED]
    assert running(memory.ledger) == []


def test_a_sweep_returns_a_thousand_results_and_counts_all(memory: World) -> None:
    """What AWS carries is bounded; the counts are complete."""
    memory.record(*(memory.draft(str(n), order=n) for n in range(1100)))

    document = sweep.answer(memory.app, memory.app.deadline(60_000))

    assert len(document["results"]) == 1000
    assert (document["counts"]["created"], document["waiting"], document["running"]) == (1100, 0, 3)


def test_a_sweep_returns_four_megabytes_at_most(memory: World) -> None:
    """However it is written as JSON."""
    memory.record(*(memory.draft(str(n), order=n) for n in range(3)))
    one_result = results_document([result.document() for result in memory.sweep().results])["results"][0]
    large = [one_result | {"event_id": "\u00e9" * 1000} for _ in range(1000)]

    document = sweep.swept_document(SweepReport(), large)

    size_bytes = len(json.dumps(document))
    assert 3_980_000 < size_bytes <= 4_000_000
    assert document["counts"]["created"] == 1000


def test_the_gauges_of_an_empty_ledger_are_zeros(world: World) -> None:
    """They are told all the same."""
    gauges = world.sweep().gauges

    assert (gauges.waiting, gauges.running, gauges.oldest_waiting_s) == (0, 0, 0)


# -- damage ---------------------------------------------------------------------------------------


def damage(world: World, key: str) -> None:
    """The record of that key cannot be read any more."""
    store = world.ledger.store
    row = store.get(key)
    assert row is not None
    assert store.put(row._replace(version="damaged", body='{"format": 2}'), replacing=row.version)


def test_a_damaged_event_is_told_once_and_stops_nothing(world: World) -> None:
    """The others are asked for; the next sweep says nothing of it."""
    world.record(*(world.draft(name, targets=f"inet-{name}") for name in "abc"))
    damage(world, event_key("webhook:agents:b"))

    report, next_report = world.sweep(), world.sweep()

    assert {result.event_id: error_code(result) for result in report.results} == {
        "webhook:agents:a": None,
        "webhook:agents:b": "RecordDamaged",
        "webhook:agents:c": None,
    }
    assert (report.damaged_keys, next_report.damaged_keys) == ([event_key("webhook:agents:b")], [])
    assert (report.gauges.waiting, next_report.results) == (0, [])


def test_a_damaged_lane_is_told_once_and_holds_nobody_up(world: World) -> None:
    """It is freed; its events stay as they are known, and are given up in the end."""
    world.emulator.script(ResetBefore())
    world.record(world.draft("a", give_up_s=NOW_S + 100))
    world.sweep()
    damage(world, lane_key(CHECK))
    world.record(world.draft("b", targets="inet-2"))

    report, next_report = world.sweep_after(5), world.sweep()
    statuses = world.statuses("a", "b")
    late = world.sweep_after(95)

    assert (report.damaged_keys, next_report.damaged_keys) == ([lane_key(CHECK)], [])
    assert statuses == [Status.UNKNOWN, Status.CREATED]
    assert "OutcomeUnknown" in {error_code(result) for result in late.results}


def test_a_damaged_record_of_a_task_is_told_once_and_its_task_taken(world: World) -> None:
    """Nobody takes the task for theirs: a lost call that may have made it waits for another attempt."""
    world.emulator.behaviour.task_duration_s = 3600
    world.record(world.draft("a"))
    world.sweep()
    key = task_key(world.event("a").task_id or "")
    damage(world, key)
    world.emulator.script(ResetBefore())
    world.record(world.draft("b", targets="inet-1"))
    world.sweep()

    reports = [world.sweep_after(pause_s) for pause_s in (5, 25, 60, 90, 60)]

    assert [report.damaged_keys for report in reports] == [[key], [], [], [], []]
    assert [report.asked_again for report in reports] == [0, 0, 0, 0, 1]
    assert world.event("a").task_id != world.event("b").task_id


@pytest.mark.parametrize("key", [event_key("webhook:agents:a"), lane_key(CHECK)])
def test_a_newer_versions_record_is_left_alone(world: World, key: str) -> None:
    """Old and new functions run side by side during a deployment: it is neither set aside nor freed."""
    world.emulator.script(ResetBefore())
    world.record(world.draft("a"))
    world.sweep()
    store = world.ledger.store
    row = store.get(key)
    assert row is not None
    newer = row._replace(version="newer", body='{"format": 3}')
    store.put(newer, replacing=row.version)

    world.sweep_after(60, 60)

    assert store.get(key) == newer


def as_newer(world: World, key: str) -> None:
    """A newer version of the code has the record."""
    store = world.ledger.store
    row = store.get(key)
    assert row is not None
    body = json.dumps(json.loads(row.body) | {"format": FORMAT + 1})
    assert store.put(row._replace(version="newer", body=body), replacing=row.version)


def as_ours(world: World, key: str) -> None:
    """It has this version's form again."""
    store = world.ledger.store
    row = store.get(key)
    assert row is not None
    body = json.dumps(json.loads(row.body) | {"format": FORMAT})
    assert store.put(row._replace(version="ours", body=body), replacing=row.version)


def test_a_lost_call_of_a_newer_versions_event_is_left_to_that_version(world: World) -> None:
    """Else its task would be nobody's, and the event never told."""
    world.emulator.script(ResetAfter())
    world.record(world.draft("a"))
    world.sweep()
    as_newer(world, "event/webhook:agents:a")

    report = world.sweep_after(400, 60)
    as_ours(world, "event/webhook:agents:a")
    world.sweep_after(60)

    assert report.newer_keys == ["event/webhook:agents:a"] * len(report.newer_keys)
    assert report.newer_keys
    assert world.event("a").task_id == world.emulator.tasks[0].task_id


def test_a_task_whose_event_is_a_newer_versions_is_followed_until_that_is_told(world: World) -> None:
    """Else the event would be `created` for ever."""
    world.record(world.draft("a"))
    world.sweep()
    as_newer(world, "event/webhook:agents:a")

    world.sweep_after(60, 60)
    as_ours(world, "event/webhook:agents:a")
    world.sweep_after(60)

    assert world.statuses("a") == [Status.FINISHED]


def test_a_task_that_only_a_newer_version_knows_ends_no_sweep(world: World) -> None:
    """Neither where its call is settled, nor where another's answer is searched for."""
    world.emulator.script(None, ResetBefore())
    world.record(world.draft("a"))
    world.sweep()
    as_newer(world, f"task/{world.emulator.tasks[0].task_id}")
    world.record(world.draft("b"))
    world.sweep()

    world.sweep_after(70, 60, 60)

    assert world.event("b").lost_calls
    assert world.emulator.tasks[0].task_id == world.event("a").task_id


# -- deaths, failures and rivals, at every write ---------------------------------------------------


def die_at(world: World, store: HookedStore, number: int) -> bool:
    """A sweep that dies before the store's n-th write; whether it did."""

    def die(puts: int) -> None:
        if puts == number:
            raise SystemExit

    store.before_put = die
    try:
        world.sweep()
    except SystemExit:
        return True
    finally:
        store.before_put = lambda _: None
    return False


def a_single_event(world: World) -> list[str]:
    """One event, one usual answer."""
    world.record(world.draft("a"))
    return ["a"]


def a_group(world: World) -> list[str]:
    """Five events of one task."""
    world.record(*(world.draft(name, targets=f"inet-{name}") for name in "abcde"))
    return list("abcde")


def a_poisoned_group(world: World) -> list[str]:
    """Five events, one of them refused, unnamed: halves of halves."""
    world.emulator.behaviour.poison = {"inet-d"}
    world.emulator.behaviour.poison_named = False
    return a_group(world)


def a_lost_answer(world: World) -> list[str]:
    """A task was made, and its task is being searched for."""
    world.emulator.script(ResetAfter())
    names = a_group(world)
    world.sweep()
    world.clock.advance(5)
    return names


def a_lost_call(world: World) -> list[str]:
    """No task was made, and its event is about to be sent again."""
    world.emulator.script(ResetBefore())
    names = a_group(world)
    world.sweep_after(0, 5, 25, 60)
    world.clock.advance(90)
    return names


def an_ended_task(world: World) -> list[str]:
    """A task that is about to be seen to have ended."""
    names = a_group(world)
    world.sweep()
    world.clock.advance(40)
    return names


SCENES = [a_single_event, a_group, a_poisoned_group, a_lost_answer, a_lost_call, an_ended_task]
each_scene = pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.__name__)
type Scene = Callable[[World], list[str]]
type Blow = Callable[[World, HookedStore, int], bool]


def fail_at(world: World, store: HookedStore, number: int) -> bool:
    """A sweep whose ledger fails from the n-th write on; whether it raised."""
    store.before_put = failing_at(number)
    try:
        world.sweep()
    except LedgerUnavailable:
        return True
    finally:
        store.before_put = lambda _: None
    return False


def freeze_at(world: World, store: HookedStore, number: int) -> bool:
    """A sweep that is held up before the n-th write while another runs, long after its lease and claims."""
    frozen = False

    def freeze(puts: int) -> None:
        nonlocal frozen
        if puts == number and not frozen:
            frozen = True
            world.sweep_after(70, 60)

    store.before_put = freeze
    world.sweep()
    store.before_put = lambda _: None
    return frozen


def overlap_at(world: World, store: HookedStore, number: int) -> bool:
    """A second sweep at the n-th write of the first, whose lease somebody took away."""
    overlapped = False

    def overlap(puts: int) -> None:
        nonlocal overlapped
        row = store.get("lease/sweep")
        if puts >= number and not overlapped and row is not None:
            overlapped = True
            store.delete(row.key, version=row.version)
            world.sweep()

    store.before_put = overlap
    world.sweep()
    store.before_put = lambda _: None
    return overlapped


@pytest.mark.slow
@each_scene
@pytest.mark.parametrize("blow", [die_at, fail_at, freeze_at, overlap_at], ids=lambda blow: blow.__name__)
def test_whatever_write_a_sweep_is_struck_at_nothing_is_lost_and_nothing_made_twice(
    scene: Scene, blow: Blow, make_world: MakeWorld
) -> None:
    """Dead, without its ledger, frozen or overtaken: later sweeps put it right, each target in one task."""
    for number in range(60):
        world = make_world()
        world.emulator.forget()
        store = hooked(world)
        names = scene(world)

        struck = blow(world, store, store.puts + number)
        report = world.quiet()

        targets = [target for task in world.emulator.tasks for target in task.targets]
        rejected = {name for name in names if f"inet-{name}" in world.emulator.behaviour.poison}
        assert len(targets) == len(set(targets)) == len(names) - len(rejected)
        assert world.statuses(*names) == [
            Status.REJECTED if name in rejected else Status.FINISHED for name in names
        ]
        assert (report.second_tasks, lanes(world.ledger), running(world.ledger)) == (0, [], [])
        if not struck:
            return
    pytest.fail("a sweep of five events does not write sixty times")


def test_what_was_done_before_the_ledger_failed_is_logged(
    memory: World, caplog: pytest.LogCaptureFixture
) -> None:
    """The sweep raises; the results that it had are accounted for all the same, once."""
    store = hooked(memory)
    memory.record(memory.draft("a"), memory.draft("b", task_type=SCAN))
    store.before_put = failing_at(store.puts + 5)

    with pytest.raises(LedgerUnavailable):
        sweep.answer(memory.app, memory.app.deadline(60_000))

    results = [vars(record)["result"] for record in caplog.records if record.message == "result"]
    assert [(result["event_id"], result["status"]) for result in results] == [("webhook:agents:a", "created")]


@pytest.mark.parametrize("invocation_s", [12, 7.5])
def test_no_call_begins_so_late_that_its_answer_is_cut_off(make_app: MakeApp, invocation_s: float) -> None:
    """A short sweep of a slow service leaves the rest to the next, and makes no lost answers."""
    with Emulator() as slow:
        slow.script(*[Slow(0.6)] * 20)
        app = make_app(clock=SystemClock(), ONCETASK_ENDPOINT=slow.url)
        world = World(app, FakeClock(app.clock.now_s()), slow)
        world.record(*(world.draft(str(n), targets=f"inet-{n}", max_targets=1) for n in range(20)))

        report = sweep.handle(app, Deadline.after(invocation_s, app.clock))

    assert {result.status for result in report.results} == {Status.CREATED}
