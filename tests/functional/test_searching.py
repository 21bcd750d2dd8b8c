"""Searching for lost calls' tasks, sweep by sweep, on one clock with the emulator."""

import json
from collections.abc import Callable, Iterator
from itertools import pairwise

import pytest

from local.emulator import (
    CapReached,
    Emulator,
    NoTaskId,
    Refuse,
    ResetAfter,
    ResetBefore,
    Silence,
    Throttle,
    Unreadable,
)
from oncetask.ledger.ledger import Ledger
from oncetask.ledger.records import Call, Lane, Served
from oncetask.models import Status
from tests.clocks import NOW_S, FakeClock
from tests.conftest import MakeApp
from tests.functional.sweeps import CHECK, SCAN, HookedStore, World, error_code, one
from tests.open_records import lanes, running, watched

BOTH_KINDS = pytest.mark.parametrize("task_type", [CHECK, SCAN])
SEARCHES = (5, 25, 60, 90)
AGAIN = (*SEARCHES, 60)
"""Pauses that lead to each of the four searches."""
type MakeWorld = Callable[..., World]


@pytest.fixture
def clock() -> FakeClock:
    """The one clock."""
    return FakeClock()


@pytest.fixture
def emulator(clock: FakeClock) -> Iterator[Emulator]:
    """A Security Center on that clock, whose tasks run for an hour."""
    with Emulator(clock=clock.now_s) as running:
        running.behaviour.task_duration_s = 3600
        yield running


@pytest.fixture
def make_world(make_app: MakeApp, clock: FakeClock, emulator: Emulator) -> MakeWorld:
    """`make_world(**environment)`: a world on the test's clock and emulator."""
    return lambda **environment: World(make_app("", clock=clock, **environment), clock, emulator)


@pytest.fixture
def world(make_world: MakeWorld) -> World:
    """The usual one."""
    return make_world()


def lose(world: World, *faults: object, task_type: str = CHECK) -> None:
    """The event `a` is asked for at NOW_S, and its answer lost."""
    world.emulator.script(*(faults or (ResetBefore(),)))  # type: ignore[arg-type]
    world.record(world.draft("a", task_type=task_type))
    world.sweep()


def queries(world: World) -> int:
    """How often the service was asked for its tasks."""
    return len(world.calls("DescribeOnceTask")) + len(world.calls("GetLastOnceTaskInfo"))


# -- found ----------------------------------------------------------------------------------------


@BOTH_KINDS
@pytest.mark.parametrize(
    "fault",
    [ResetAfter(), NoTaskId(task_made=True), Unreadable(task_made=True), Refuse(500, "X", task_made=True)],
)
def test_a_task_whose_answer_was_lost_is_found(world: World, fault: object, task_type: str) -> None:
    """`created` with the task's id and without a response; nothing is asked again."""
    lose(world, fault, task_type=task_type)

    report = world.sweep_after(5)

    result = one(report.results)
    assert (result.status, result.task_id) == (Status.CREATED, world.emulator.tasks[0].task_id)
    assert (result.response, result.error, result.attempts, result.shared_by) == (None, None, 1, 1)
    assert (report.adopted, report.asked_again, len(world.calls())) == (1, 0, 1)
    assert lanes(world.ledger) == []


def test_silence_is_searched_for(make_world: MakeWorld) -> None:
    """The read time-out ends the call, and the task that was made is found."""
    world = make_world(ONCETASK_READ_TIMEOUT_MS="150")
    lose(world, Silence(task_made=True))

    world.sweep_after(5)

    assert world.statuses("a") == [Status.CREATED]


@pytest.mark.parametrize("skew_s", [-4.9, 4.9])
def test_the_services_clock_may_be_another(world: World, skew_s: float) -> None:
    """Whole seconds of a clock that is some seconds ahead or behind."""
    world.emulator.behaviour.clock_skew_s = skew_s
    world.clock.advance(0.9)

    lose(world, ResetAfter())
    world.sweep_after(5)

    assert world.statuses("a") == [Status.CREATED]


def test_a_task_that_is_shown_late_is_found_at_a_later_search(world: World) -> None:
    """Lists lag: until the last search the call waits."""
    world.emulator.behaviour.list_lag_s = 100
    lose(world, ResetAfter())

    early = [world.sweep_after(pause_s).adopted for pause_s in SEARCHES[:3]]
    last = world.sweep_after(SEARCHES[3])

    assert (early, last.adopted, len(world.calls())) == ([0, 0, 0], 1, 1)


def test_a_groups_task_is_found_for_all_its_events(world: World) -> None:
    """One lost answer, three events, one task."""
    world.emulator.script(ResetAfter())
    world.record(*(world.draft(name, targets=f"inet-{name}") for name in "abc"))
    world.sweep()

    report = world.sweep_after(5)

    assert [(result.status, result.shared_by) for result in report.results] == [(Status.CREATED, 3)] * 3
    assert world.targets() == [("inet-a", "inet-b", "inet-c")]


# -- the moments ----------------------------------------------------------------------------------


@BOTH_KINDS
def test_searches_come_5_30_90_and_180_seconds_after_the_sending(world: World, task_type: str) -> None:
    """However often the sweep comes; once more before the event is sent again, and then from there, for the
    earlier call's task, too.
    """
    lose(world, ResetBefore(), ResetBefore(), task_type=task_type)
    searched_at: list[float] = []

    for _ in range(250):
        before = queries(world)
        world.sweep_after(1)
        searched_at += [world.clock.now_s() - NOW_S] * (queries(world) - before)

    assert searched_at == [5, 30, 90, 180, 240, 245, 245]
    assert len(world.calls()) == 2


def test_the_last_search_is_the_settings(make_world: MakeWorld) -> None:
    """Searches beyond ONCETASK_LOOK_S are left out."""
    world = make_world(ONCETASK_LOOK_S="60")
    lose(world)

    before = [world.sweep_after(pause_s).asked_again for pause_s in (5, 25, 30, 59)]
    last = world.sweep_after(1)

    assert (before, last.asked_again, queries(world)) == ([0, 0, 0, 0], 1, 4)


@BOTH_KINDS
def test_a_search_that_fails_is_none(world: World, task_type: str) -> None:
    """Each sweep makes it again, and nothing is put off by it."""
    lose(world, ResetAfter(), task_type=task_type)
    action = "DescribeOnceTask" if task_type == CHECK else "GetLastOnceTaskInfo"
    world.emulator.script(Refuse(500, "ServerError"), ResetBefore(), Throttle(), Unreadable(), action=action)

    reports = [world.sweep_after(pause_s) for pause_s in (200, 50, 50, 50)]
    after = world.sweep_after(1)

    assert [len(report.failed_queries) for report in reports] == [1] * 4
    assert [report.results for report in reports] == [[]] * 4
    assert (after.adopted, len(world.calls())) == (1, 1)


def test_where_no_search_succeeds_it_is_the_operators(world: World) -> None:
    """By twice ONCETASK_LOOK_S after the sending; its lane is free then."""
    lose(world, ResetAfter())
    world.emulator.script(*[Refuse(500, "ServerError")] * 9, action="DescribeOnceTask")

    before = world.sweep_after(359).results
    after = world.sweep_after(1)

    assert (before, error_code(one(after.results))) == ([], "Ambiguous")
    assert (lanes(world.ledger), len(world.calls())) == ([], 1)


# -- asked again ----------------------------------------------------------------------------------


@BOTH_KINDS
def test_what_is_not_found_is_sent_again(world: World, task_type: str) -> None:
    """A minute after the last search, and not before; both sendings count."""
    lose(world, task_type=task_type)

    reports = [world.sweep_after(pause_s) for pause_s in (*SEARCHES, 59, 1)]

    assert [report.asked_again for report in reports] == [0, 0, 0, 0, 0, 1]
    assert [report.events_per_task for report in reports] == [0, 0, 0, 0, 0, 1]
    assert (one(reports[-1].results).status, one(reports[-1].results).attempts) == (Status.CREATED, 2)
    assert (len(world.emulator.tasks), lanes(world.ledger)) == (1, [])


def test_a_last_search_in_vain_gives_the_lane_back(world: World) -> None:
    """The event waits at the end of its queue, and nobody of its type waits for it."""
    lose(world)
    world.record(world.draft("b", max_targets=1, targets="inet-2"))

    world.sweep_after(*SEARCHES)

    assert world.statuses("a", "b") == [Status.UNKNOWN, Status.CREATED]


def test_each_time_in_vain_it_waits_longer_and_the_fifth_is_the_operators(world: World) -> None:
    """1, 5 and 30 minutes and 2 hours; sent five times in all."""
    world.emulator.script(*[ResetBefore()] * 6)
    world.record(world.draft("a"))
    sent_at: list[float] = []

    for _ in range(300):
        calls = len(world.calls())
        world.sweep()
        sent_at += [world.clock.now_s() - NOW_S] * (len(world.calls()) - calls)
        world.clock.advance(60)

    waits_s = [after - before for before, after in pairwise(sent_at)]
    assert waits_s == [240, 480, 1980, 7380]
    assert error_code(world.event("a")) == "Ambiguous"
    assert lanes(world.ledger) == []


def test_a_group_that_is_lost_again_and_again_comes_in_halves(world: World) -> None:
    """Two halves, then quarters, then each event alone: the poisonous one keeps nobody else from a task."""
    world.emulator.behaviour.cap = 99
    world.emulator.script(*[ResetBefore()] * 7)
    world.record(*(world.draft(str(n), targets=f"inet-{n}", order=n) for n in range(8)))

    for _ in range(60):
        world.sweep_after(60)

    sizes = [len(json.loads(call.parameters["Param"])["uuids"].split(",")) for call in world.calls()]
    assert sizes[:7] == [8, 4, 4, 2, 2, 2, 2]
    assert set(sizes[7:]) == {1}
    assert len({target for task in world.targets() for target in task}) == 8


def test_a_call_again_knows_the_first_sending(world: World) -> None:
    """So that a task of either sending is searched for in one window."""
    lose(world, ResetBefore(), ResetBefore())
    first = world.call_of("a").call

    world.sweep_after(*AGAIN)

    call = lanes(world.ledger)[0].record.call
    assert call is not None
    assert (call.first_sent_s, call.sent_s, call.earlier) == (NOW_S, NOW_S + 240, (first.call_id,))
    assert world.statuses("a") == [Status.UNKNOWN]


def test_what_runs_on_hosts_is_never_sent_twice(world: World) -> None:
    """CLIENT_DEV_OPS: nothing found up to the last search is for the operator."""
    lose(world, task_type="CLIENT_DEV_OPS")

    report = world.sweep_after(*SEARCHES)

    assert (one(report.results).status, error_code(one(report.results))) == (Status.UNKNOWN, "Ambiguous")
    world.sweep_after(*SEARCHES)
    assert len(world.calls()) == 1


def test_while_it_is_searched_for_nothing_else_of_the_type_is_asked(world: World) -> None:
    """At most one call of a type is unresolved; other types go on."""
    lose(world)
    world.record(world.draft("b"), world.draft("c", task_type=SCAN))

    world.sweep()

    assert world.statuses("a", "b", "c") == [Status.UNKNOWN, Status.PENDING, Status.CREATED]


def test_after_an_answer_that_ends_the_asking_nothing_is_asked_again_in_that_sweep(world: World) -> None:
    """Two events to be sent again, and the first one is throttled: the other waits."""
    world.emulator.script(ResetBefore(), ResetBefore())
    world.record(world.draft("a"), world.draft("b", task_type=SCAN, order=1))
    world.sweep_after(0, *SEARCHES)
    world.emulator.script(Throttle())

    report = world.sweep_after(60)

    assert (report.asked_again, len(world.calls())) == (1, 3)
    assert world.sweep_after(60).asked_again == 2


def test_a_repeated_call_that_meets_the_cap_waits_as_any_other(world: World) -> None:
    """`pending`, its lane released; but should it be given up, nobody can say that no task was made."""
    lose(world)
    world.emulator.script(CapReached())

    world.sweep_after(*AGAIN)

    event = world.event("a")
    assert (event.status, event.attempts, event.may_have_run) == (Status.PENDING, 2, True)
    assert lanes(world.ledger) == []


# -- another's task -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("started_s", "code", "found"),
    [(-6, None, 0), (-5, None, 1), (10, None, 1), (11, "Ambiguous", 0), (29, "Ambiguous", 0)],
)
def test_a_strangers_task_is_judged_by_when_it_started(
    world: World, started_s: int, code: str | None, found: int
) -> None:
    """From 5 s before the sending to 10 s after it, it is taken for ours; later, nobody can tell."""
    lose(world)
    world.clock.advance(30)
    world.emulator.add_foreign(CHECK, source="oncetask", started_s=NOW_S + started_s)

    report = world.sweep()

    assert (report.adopted, [error_code(result) for result in report.results]) == (
        found,
        [code] if found or code else [],
    )


@pytest.mark.parametrize("shown", [{"name": "another", "source": "oncetask"}, {"source": "console"}])
def test_a_strangers_task_that_differs_is_not_ours(world: World, shown: dict[str, str]) -> None:
    """Another name or another Source: it is passed over, and its event is sent again in the end."""
    lose(world)
    world.emulator.add_foreign(CHECK, **shown)

    report = world.sweep_after(*AGAIN)

    assert (report.adopted, report.asked_again) == (0, 1)


def test_what_the_service_does_not_show_tells_nothing(world: World) -> None:
    """Neither name, Source nor targets: time alone finds the task."""
    behaviour = world.emulator.behaviour
    behaviour.keeps_source = behaviour.shows_name = behaviour.shows_targets = False
    lose(world, ResetAfter())

    assert world.sweep_after(5).adopted == 1


def test_shown_targets_tell_a_stranger(world: World) -> None:
    """A task for another host is not the one that was asked for."""
    lose(world)
    other = world.draft("other", targets="inet-9").request.query()
    world.app.security_center.generate(
        world.draft("other", targets="inet-9").request, world.app.deadline(None)
    )

    report = world.sweep_after(5)

    assert other["Param"] in {task.param for task in world.emulator.tasks}
    assert (report.adopted, world.statuses("a")) == (0, [Status.UNKNOWN])


def test_a_stranger_that_tells_nothing_is_taken_for_ours(world: World) -> None:
    """The limit that the README names: same type, same seconds, nothing shown."""
    lose(world)
    stranger = world.emulator.add_foreign(CHECK)

    world.sweep_after(5)

    assert world.event("a").task_id == stranger.task_id


def test_our_own_other_tasks_are_not_taken(world: World) -> None:
    """What this ledger's calls made before is nobody else's."""
    world.record(world.draft("before"))
    world.sweep()
    lose(world, ResetBefore())

    report = world.sweep_after(*AGAIN)

    assert (report.adopted, report.asked_again, len(world.emulator.tasks)) == (0, 1, 2)


def test_a_call_that_was_repeated_does_not_take_the_next_ones_lost_task(world: World) -> None:
    """Watching for a late task of its own waits while another call of the type is searched for."""
    lose(world, ResetBefore(), Throttle(retry_after_ms=3_600_000))
    world.sweep_after(*AGAIN)
    world.emulator.script(ResetAfter())
    world.record(world.draft("b"))
    world.sweep()

    reports = [world.sweep_after(pause_s) for pause_s in (5, 60)]

    assert [report.second_tasks for report in reports] == [0, 0]
    assert (world.statuses("b"), len(world.emulator.tasks)) == ([Status.CREATED], 1)


# -- where only the last task is shown ------------------------------------------------------------


def test_a_last_task_of_a_stranger_may_hide_ours(world: World) -> None:
    """Started since, and no way to see behind it: for the operator."""
    lose(world, ResetAfter(), task_type=SCAN)
    world.clock.advance(12)
    world.emulator.add_foreign(SCAN)

    world.sweep()

    assert error_code(world.event("a")) == "Ambiguous"


def test_a_task_of_ours_from_before_hides_nothing(world: World) -> None:
    """Its own call was answered before this one's first sending, though in the same seconds."""
    world.record(world.draft("before", task_type=SCAN))
    world.sweep()
    world.clock.advance(1)
    lose(world, ResetBefore(), task_type=SCAN)

    report = world.sweep_after(*AGAIN)

    assert (report.asked_again, world.statuses("a")) == (1, [Status.CREATED])


def test_an_ambiguous_event_does_not_hold_later_ones_up(world: World) -> None:
    """Its type is asked for at once again: what is left to the operator is not waiting for its turn."""
    lose(world, ResetAfter())
    world.emulator.add_foreign(CHECK)
    world.sweep_after(5)

    report = world.record(world.draft("later", submit="now"))

    assert error_code(world.event("a")) == "Ambiguous"
    assert [result.status for result in report.results] == [Status.CREATED]


# -- ambiguous ------------------------------------------------------------------------------------


@pytest.fixture
def ambiguous(world: World) -> World:
    """The event `a` is Ambiguous between its own task and a stranger's."""
    lose(world, ResetAfter())
    world.emulator.add_foreign(CHECK)
    world.sweep_after(5)
    return world


def test_several_candidates_are_for_the_operator(ambiguous: World) -> None:
    """The event stays `unknown`, the candidates are written down, and it is searched for no more."""
    event, found = ambiguous.event("a"), ambiguous.call_of("a")

    assert (event.status, error_code(event)) == (Status.UNKNOWN, "Ambiguous")
    assert found.lost is not None
    assert set(found.lost.candidates) == {task.task_id for task in ambiguous.emulator.tasks}
    assert ambiguous.sweep_after(*SEARCHES).results == []
    assert len(ambiguous.calls()) == 1


def test_what_is_ambiguous_releases_the_lane(ambiguous: World) -> None:
    """Later calls of the type are not held up."""
    ambiguous.record(ambiguous.draft("b"))

    ambiguous.sweep()

    assert ambiguous.statuses("a", "b") == [Status.UNKNOWN, Status.CREATED]


def test_candidates_count_as_taken(ambiguous: World) -> None:
    """The next lost call takes neither of them for its own."""
    ambiguous.record(ambiguous.draft("b"))
    ambiguous.emulator.script(ResetBefore())
    ambiguous.sweep()

    report = ambiguous.sweep_after(*AGAIN)

    assert (report.adopted, report.asked_again, ambiguous.event("a").status) == (0, 1, Status.UNKNOWN)


def test_a_death_while_candidates_are_noted_adopts_none_of_them(
    make_world: MakeWorld, clock: FakeClock
) -> None:
    """At whichever write the sweep dies, the event ends Ambiguous with both candidates, and pending never."""
    for number in range(8):
        world = make_world()
        world.emulator.forget()
        store = HookedStore()
        world.app.ledger = Ledger(store, clock)
        lose(world, ResetAfter())
        world.emulator.add_foreign(CHECK)
        clock.advance(5)

        die_at(world, store, store.puts + number)
        world.sweep_after(70, 60, 60)

        assert (world.statuses("a"), error_code(world.event("a"))) == ([Status.UNKNOWN], "Ambiguous")
        lost = world.call_of("a").lost
        assert lost is not None
        assert len(lost.candidates) == 2
        assert lanes(world.ledger) == []


def die_at(world: World, store: HookedStore, number: int) -> None:
    """A sweep that dies before its n-th write, or ends before that."""

    def die(puts: int) -> None:
        if puts == number:
            raise SystemExit

    store.before_put = die
    try:
        world.sweep()
    except SystemExit:
        pass
    finally:
        store.before_put = lambda _: None


# -- claims ---------------------------------------------------------------------------------------


def test_a_call_that_may_still_be_out_is_not_searched_for(world: World) -> None:
    """Until its claim ends the call is its sender's alone; then it is lost, and its events `unknown`."""
    event = world.draft("a")
    world.ledger.record(event)
    ends_s = NOW_S + 21
    call = Call(
        call_id="out",
        request=event.request,
        events=(Served.of(event),),
        sent_s=NOW_S,
        first_sent_s=NOW_S,
    )
    world.ledger.take_lane(Lane(task_type=CHECK, call=call, claim_ends_s=ends_s))

    before = world.sweep_after(20)
    after = world.sweep_after(1)

    assert (before.results, world.calls(), queries(world)) == ([], [], 1)
    assert (one(after.results).status, error_code(one(after.results))) == (Status.UNKNOWN, "NoAnswer")


def test_a_lane_that_was_held_for_no_call_is_released_with_its_claim(world: World) -> None:
    """Its holder died while it ended or reopened events; the next sweep sends."""
    world.record(world.draft("a"))
    world.ledger.take_lane(Lane(task_type=CHECK, claim_ends_s=NOW_S + 21))

    world.sweep_after(20)
    before = world.statuses("a")
    world.sweep_after(1)

    assert (before, world.statuses("a")) == ([Status.PENDING], [Status.CREATED])


def test_a_call_that_died_after_its_last_answer_was_lost_is_settled_before_it_is_held(world: World) -> None:
    """Lost on the call, and dead before its event knew: the event is `unknown` all the same, sent no more."""
    store = HookedStore()
    world.app.ledger = Ledger(store, world.clock)
    world.emulator.script(ResetBefore())
    world.record(world.draft("a", task_type="CLIENT_DEV_OPS"))
    die_at(world, store, store.puts + 3)  # lease, lane, answer; not the event

    before = world.statuses("a")
    world.sweep_after(60, *SEARCHES)

    assert (before, world.statuses("a")) == ([Status.PENDING], [Status.UNKNOWN])
    assert (error_code(world.event("a")), len(world.calls())) == ("Ambiguous", 1)


# -- second tasks ---------------------------------------------------------------------------------


def test_a_task_that_shows_up_after_the_last_search_is_noticed(world: World) -> None:
    """The limit that the README names; counted once, and told with the event."""
    world.emulator.behaviour.list_lag_s = 260
    lose(world, ResetAfter())
    first = world.emulator.tasks[0].task_id

    asked_again = world.sweep_after(*AGAIN)
    noticed = world.sweep_after(30)
    after = world.sweep_after(200, 60)

    assert (asked_again.asked_again, asked_again.second_tasks) == (1, 0)
    assert (noticed.second_tasks, error_code(one(noticed.results))) == (1, "SecondTask")
    assert first in str(one(noticed.results).error)
    assert (after.second_tasks, len(world.emulator.tasks)) == (0, 2)


def test_the_second_sendings_own_task_is_no_second_one(world: World) -> None:
    """Both answers were lost and one task was made: it is found, and nothing else is told."""
    lose(world, ResetBefore(), ResetAfter())
    world.sweep_after(*AGAIN)

    report = world.sweep_after(5)

    assert (report.adopted, report.second_tasks, world.statuses("a")) == (1, 0, [Status.CREATED])
    assert world.sweep_after(60).second_tasks == 0


def test_of_both_sendings_tasks_one_is_found_and_one_noticed(world: World) -> None:
    """Both answers were lost and both made a task, shown late: the first is the event's, the second told."""
    world.emulator.behaviour.list_lag_s = 245
    lose(world, ResetAfter(), ResetAfter())

    found = world.sweep_after(*AGAIN, 5)
    noticed = world.sweep_after(240)

    first, second = (task.task_id for task in world.emulator.tasks)
    assert (found.adopted, found.second_tasks, world.event("a").task_id) == (1, 0, first)
    assert noticed.asked_again == 0
    assert (second in str(world.event("a").error)) == (noticed.second_tasks == 1)


def test_nothing_is_watched_for_after_an_hour(world: World) -> None:
    """A call whose events were sent again is closed in the end, whether or not a search works."""
    lose(world)
    world.sweep_after(*AGAIN)
    world.emulator.finish(world.event("a").task_id or "")
    world.sweep_after(60)
    world.emulator.script(*[Refuse(500, "ServerError")] * 3, action="DescribeOnceTask")

    world.sweep_after(3600)

    assert (running(world.ledger), watched(world.ledger)) == ([], [])
