"""Everybody's turn, and an end to everything: what one event, sender, route or answer does keeps no other
event waiting, and each event ends in its time.
"""

import time
from collections.abc import Callable, Iterator, Sequence

import pytest

from local.emulator import CapReached, Emulator, Refuse, ResetAfter, ResetBefore, Slow
from local.emulator.answers import Answer, ApiError
from local.operator import OperatorError, give_up, retry
from oncetask.app import App
from oncetask.clock import Deadline
from oncetask.errors import Code, Kind
from oncetask.handlers import webhook
from oncetask.ledger.ledger import Ledger
from oncetask.ledger.records import Call, Event, Served, lane_key
from oncetask.ledger.rows import MOST_RECORD_BYTES
from oncetask.ledger.sqlite import SqlStore
from oncetask.ledger.store import Row
from oncetask.models import Answer as Answered
from oncetask.models import ErrorInfo, Outcome, Status
from oncetask.submit.grouping import groups, merged_request
from oncetask.submit.report import Limits, Report
from oncetask.submit.settlement import AMBIGUOUS, Settlement
from oncetask.sweep.queue import given_up
from tests.clocks import FakeClock
from tests.conftest import MakeApp
from tests.functional.sweeps import CHECK, SCAN, World, error_code
from tests.hostile.fuzz import ROUTES, SECRETS, Sent, http_api, sign

MINUTE_S, HOUR_S, DAY_S = 60, 3_600, 86_400
LOOK_S = 180


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
def world(make_app: MakeApp, clock: FakeClock, emulator: Emulator) -> World:
    """The usual one in memory."""
    return World(make_app("", clock=clock), clock, emulator)


def test_everything_ends_in_two_sweeps_also_where_an_answer_ends_the_asking(world: World) -> None:
    """Nothing is asked where no connection comes about, and yet each route gives up what is past its end."""
    names = [f"n{number}" for number in range(8)]
    now_s = world.clock.now_s()
    world.emulator.down()
    for name in ("lasting", "longer", "longest"):
        world.record(alone(world, name, route=name, give_up_s=now_s + DAY_S))
    for name in names:
        world.record(alone(world, name, route=f"r-{name}", give_up_s=now_s + HOUR_S))

    world.sweep_after(HOUR_S, MINUTE_S)

    assert world.statuses(*names) == [Status.FAILED] * len(names)


def alone(world: World, name: str, **fields: object) -> Event:
    """An event that shares no task with others."""
    return world.draft(name, targets=f"inet-{name}", max_targets=1, **fields)


def put(world: World, events: Sequence[Event]) -> None:
    """These stand in the ledger as they are."""
    for event in events:
        world.ledger.record(event)


# -- an end to everything -------------------------------------------------------------------------


@pytest.mark.parametrize("fault", ["answered 500", "reset"])
def test_a_call_that_never_gets_a_usable_answer_ends_with_its_event(fault: str, world: World) -> None:
    """By its end, one search and two sweeps; others of its type have their tasks long before."""
    if fault == "reset":
        world.emulator.script(*[ResetBefore(), None, None] * 2)
    else:
        world.emulator.behaviour.failing["inet-bad"] = (500, "ServerError")
    world.record(alone(world, "bad", give_up_s=world.clock.now_s() + 20 * MINUTE_S))
    world.record(alone(world, "good", order=1))

    world.sweep_after(*[60] * 10)
    assert world.event("good").task_id is not None

    if fault == "answered 500":
        world.sweep_after(*[60] * (20 - 10 + LOOK_S // 60 + 2))
        assert world.statuses("bad") == [Status.FAILED]
        assert error_code(world.event("bad")) == Code.OUTCOME_UNKNOWN


def test_five_sendings_without_a_usable_answer_are_the_operators(world: World) -> None:
    """`Ambiguous`, and asked for no more; the operator may ask again, or give it up."""
    world.emulator.behaviour.failing["inet-a"] = (500, "ServerError")
    world.record(alone(world, "a"))

    world.sweep_after(*[300] * 12 * 10)
    assert error_code(world.event("a")) == Code.AMBIGUOUS
    assert len(world.calls()) == 5

    retry(world.app, "webhook:agents:a")
    world.sweep()
    assert len(world.calls()) == 6
    world.sweep_after(30)
    assert give_up(world.app, "webhook:agents:a").status is Status.FAILED


# -- whose turn it is -----------------------------------------------------------------------------


def test_forty_odd_refusals_hold_nobody_up(world: World) -> None:
    """Another route's event of the same type, and another type's, are asked for in the first sweep."""
    world.emulator.behaviour.failing |= {f"inet-{n}": (400, "PushTaskError") for n in range(40)}
    world.record(*(alone(world, str(n), order=n) for n in range(40)))
    world.clock.advance(1)
    world.record(alone(world, "same", route="other"), alone(world, "scan", route="third", task_type=SCAN))

    world.sweep()

    assert world.statuses("same", "scan") == [Status.CREATED] * 2
    assert len(world.calls()) == 12  # the tenth of them closes the type


def test_a_sender_whose_parameter_is_too_long_is_refused_and_the_next_is_asked(world: World) -> None:
    """`InvalidParameter.LengthExceed` holds `Exceed`, and is no cap all the same."""
    world.emulator.script(Refuse(400, "InvalidParameter.LengthExceed"))
    world.record(alone(world, "a"), alone(world, "b", order=1))

    world.sweep()

    assert world.statuses("a", "b") == [Status.REJECTED, Status.CREATED]


@pytest.mark.parametrize("code", ["-101", "-102", "InvalidParam", "missingParams", "HcIllegalParameter"])
def test_the_products_own_codes_for_a_senders_mistake_are_the_senders(code: str, world: World) -> None:
    """Only that event is rejected, and the sweep goes on."""
    world.emulator.script(Refuse(400, code))
    world.record(alone(world, "a"), alone(world, "b", order=1))

    world.sweep()

    assert world.statuses("a", "b") == [Status.REJECTED, Status.CREATED]


def test_the_products_own_code_for_a_full_cap_closes_its_type_alone(world: World) -> None:
    """`-110`: the event waits without backoff, another type is asked for."""
    world.emulator.script(Refuse(400, "-110"))
    world.record(alone(world, "a"), alone(world, "b", task_type=SCAN, order=1))

    world.sweep()
    assert world.statuses("a", "b") == [Status.PENDING, Status.CREATED]

    world.sweep_after(1)
    assert world.statuses("a") == [Status.CREATED]


def test_two_thousand_ambiguous_events_keep_nobody_waiting(world: World) -> None:
    """They stand where nobody reads, also those of the same route."""
    now_s = world.clock.now_s()
    held = {"status": Status.UNKNOWN, "error": AMBIGUOUS, "due_s": now_s + 7 * DAY_S}
    put(world, [alone(world, str(n), order=n, **held) for n in range(2_000)])
    world.clock.advance(1)
    world.record(alone(world, "same"), alone(world, "other", route="other", task_type=SCAN))

    world.sweep()

    assert world.statuses("same", "other") == [Status.CREATED] * 2


def test_four_thousand_due_events_of_a_route_keep_another_route_waiting_for_no_sweep(world: World) -> None:
    """Ten slots, and the other route's two events have theirs."""
    put(world, [alone(world, str(n), order=n) for n in range(4_000)])
    world.clock.advance(1)
    world.record(alone(world, "same", route="other"), alone(world, "scan", route="third", task_type=SCAN))

    world.sweep()

    assert world.statuses("same", "scan") == [Status.CREATED] * 2


def test_a_hundred_alerts_without_permission_for_half_an_hour_become_one_task(world: World) -> None:
    """A call's backoff is its events' own, so that they stay together."""
    world.emulator.behaviour.failing[CHECK] = (403, "NoPermission")
    world.record(*(world.draft(str(n), targets=f"inet-{n}", order=n) for n in range(100)))
    world.sweep_after(*[60] * 30)

    world.emulator.behaviour.failing.clear()
    world.sweep_after(*[60] * 16)

    assert [len(targets) for targets in world.targets()] == [100]


# -- bounded work ---------------------------------------------------------------------------------


class WeighingStore(SqlStore):
    """A store in memory that knows its longest row."""

    longest_bytes = 0

    def put(self, row: Row, *, replacing: str | None) -> bool:
        self.longest_bytes = max(self.longest_bytes, len(row.body.encode()))
        return super().put(row, replacing=replacing)


@pytest.mark.parametrize("character", ["x", '"', "\N{GREEK SMALL LETTER ALPHA}"])
def test_no_record_outgrows_its_bound_however_long_the_ids_are(character: str, world: World) -> None:
    """Two deliveries of 420 alerts of one host: every event has its task, in as many as that takes."""
    world.app.ledger = Ledger(store := WeighingStore(), world.clock)
    filler = character * (470 // len(character.encode()))
    names = [f"{filler}{n:04d}" for n in range(840)]
    for start in (0, 420):
        drafts = [world.draft(name, order=n) for n, name in enumerate(names[start : start + 420])]
        world.record(*drafts)

    world.sweep()

    assert set(world.statuses(*names)) == {Status.CREATED}
    assert store.longest_bytes <= MOST_RECORD_BYTES
    assert len(world.emulator.tasks) <= 8


def hostile_events(world: World) -> list[Event]:
    """2,000 events whose targets never fit together: 51 each, of which one is everybody's."""
    return [
        world.draft(
            str(n), targets=",".join(["inet-same", *(f"inet-{n}-{m}-{'x' * 40}" for m in range(50))]), order=n
        )
        for n in range(2_000)
    ]


def test_events_that_never_fit_together_are_grouped_within_a_second_of_a_processor(world: World) -> None:
    """2,000 of them: linear, whatever they hold."""
    events = hostile_events(world)

    began_s = time.process_time()
    made = groups(events)

    assert time.process_time() - began_s <= 1
    assert sum(len(group) for group in made) == 2_000


def test_a_refused_group_is_settled_within_a_second_of_a_processor(world: World) -> None:
    """The most that one task serves, each with a hundred targets, none of which the message names."""
    targets = [",".join(f"inet-{n}-{m}" for m in range(100)) for n in range(500)]
    events = [world.draft(str(n), targets=text, max_targets=100_000) for n, text in enumerate(targets)]
    now_s = world.clock.now_s()
    call = Call(
        call_id="call",
        request=merged_request(events),
        events=tuple(Served.of(event) for event in events),
        sent_s=now_s,
        first_sent_s=now_s,
    )
    error = ErrorInfo(kind=Kind.SENDER, code="InvalidParameter", message="inet " * 60)

    began_s = time.process_time()
    refused = Answered(outcome=Outcome.REFUSED, error=error)
    settlement = Settlement.of(call, refused, events, now_s)
    parts = {settlement.apply(event).part for event in events}

    assert time.process_time() - began_s <= 1
    assert len(parts) == 2


def test_a_refused_two_thousand_hold_up_nobody_else(world: World) -> None:
    """Others have their turn first, and each group is halved once a sweep."""
    world.emulator.behaviour.poison, world.emulator.behaviour.poison_named = {"inet-1"}, False
    put(world, [world.draft(str(n), targets="inet-1", order=n) for n in range(2_000)])
    world.clock.advance(1)
    world.record(alone(world, "same", route="other"), alone(world, "scan", route="third", task_type=SCAN))

    world.sweep()

    assert world.statuses("same", "scan") == [Status.CREATED] * 2
    assert len(world.calls()) <= 2 + 4 + 8
    assert [call.parameters["TaskType"] for call in world.calls()][:3].count(SCAN) == 1


# -- one event, one call --------------------------------------------------------------------------


@pytest.mark.parametrize("change", [give_up, retry])
def test_an_operator_changes_nothing_that_a_call_is_out_for(
    change: Callable[[App, str], object], world: World
) -> None:
    """The operator is told so; afterwards the event has its task, and there is nothing to decide."""
    world.record(alone(world, "a"))
    limits = Limits(Deadline.after(30, world.clock))
    lane, events = world.app.caller.take([world.event("a")], limits) or pytest.fail("the lane is free")

    with pytest.raises(OperatorError, match="on its way"):
        change(world.app, "webhook:agents:a")

    world.app.caller.send(lane, events, Report(), limits)
    assert world.statuses("a") == [Status.CREATED]
    with pytest.raises(OperatorError, match="created"):
        change(world.app, "webhook:agents:a")


def test_what_runs_on_hosts_and_has_its_task_is_not_asked_for_again(world: World) -> None:
    """Its answer was lost, its task adopted: there is nothing to decide any more."""
    world.emulator.script(Slow(0), Refuse(500, "ServerError", task_made=True))
    world.record(alone(world, "first", task_type="CLIENT_DEV_OPS"))
    world.sweep_after(0, 40, 10)

    with pytest.raises(OperatorError):
        retry(world.app, "webhook:agents:first")
    world.sweep_after(60)
    assert len(world.emulator.tasks) == 1


@pytest.mark.parametrize("fault", [None, Refuse(400, "InvalidParameter")], ids=["task", "refusal"])
def test_an_id_that_comes_back_does_not_get_its_predecessors_answer(
    fault: Refuse | None, world: World
) -> None:
    """The old call is answered while the id has another event: that one waits, and is asked for itself."""
    world.record(alone(world, "a"))
    limits = Limits(Deadline.after(9, world.clock))
    lane, events = world.app.caller.take([world.event("a")], limits) or pytest.fail("the lane is free")
    world.ledger.change_event(
        "webhook:agents:a", lambda kept: given_up(kept, Code.EXPIRED, world.clock.now_s())
    )
    world.record(alone(world, "a"))
    world.emulator.script(fault)

    world.app.caller.send(lane, events, Report(), limits)

    event = world.event("a")
    assert (event.status, event.task_id, event.attempts) == (Status.PENDING, None, 0)
    world.sweep()
    assert world.statuses("a") == [Status.CREATED]
    assert len(world.calls()) == 2


# -- what runs ------------------------------------------------------------------------------------


def slow_to_show(world: World, seconds: float) -> None:
    """Every follow query takes so long, and fails in the end."""

    def fail(_: object) -> Answer:
        world.clock.advance(seconds)
        raise ApiError(500, "ServerError", "slow")

    world.emulator.add_operation("2018-12-03", "DescribeOnceTask", fail)


def test_a_task_whose_follow_query_never_answers_is_lost_after_a_day(world: World) -> None:
    """Whatever the query says or fails to say."""
    world.record(alone(world, "a"))
    world.sweep()
    slow_to_show(world, 5)

    world.sweep_after(*[HOUR_S] * 24)

    finish = world.event("a").finish
    assert finish is not None
    assert finish.state == "LOST"


def test_four_slow_ones_do_not_keep_younger_ones_from_being_followed(world: World) -> None:
    """Those first that were followed longest ago: in two sweeps each of eight was."""
    world.record(*(alone(world, str(n), order=n) for n in range(8)))
    world.sweep()
    slow_to_show(world, 6)

    world.sweep_after(60, 60)

    asked = [call.parameters.get("TaskId") for call in world.calls("DescribeOnceTask")]
    assert {task.task_id for task in world.emulator.tasks} <= set(asked)


# -- replays --------------------------------------------------------------------------------------


def test_a_replay_under_another_id_is_a_duplicate_as_long_as_the_first_id_is_bound(
    make_app: MakeApp, clock: FakeClock, emulator: Emulator
) -> None:
    """The first waited for days before it had its task: what its id is bound for begins with its end."""
    app = make_app(ROUTES, clock=clock, **SECRETS)
    world = World(app, clock, emulator)
    emulator.script(*[CapReached()] * 6)
    body = b'{"items":[{"image":"a"}]}'
    signed = Sent("github", body, {"content-type": "application/json"})

    def delivered(id_: str) -> dict[str, object]:
        event = http_api(sign(signed, clock.now_s(), id_=id_))
        outcome = webhook.handle(app, event, Deadline.after(30, clock))
        assert isinstance(outcome, webhook.Accepted)
        [result] = outcome.report.results
        return result.document()

    first = delivered("first")
    world.sweep_after(*[DAY_S] * 6)
    again = delivered("first")
    clock.advance(3 * DAY_S)
    replayed = delivered("second")

    assert (first["status"], again["status"]) == ("pending", "duplicate")
    assert (replayed["status"], replayed["event_id"]) == ("duplicate", first["event_id"])
    assert len(emulator.tasks) == 1


# -- what a sweep that died, or a newer version, left behind ----------------------------------------


def test_an_event_that_was_given_up_is_told_of_the_task_that_a_dead_sweep_had_found(memory: World) -> None:
    """The sweep recorded whose the task is, and died; its event's time was over before another one came."""
    memory.emulator.script(ResetAfter())
    memory.record(memory.draft("a", give_up_s=memory.clock.now_s() + 100))
    memory.sweep()
    task_id = memory.emulator.tasks[0].task_id
    memory.app.caller.claim_task(memory.call_of("a").call, task_id)

    reports = [memory.sweep_after(pause_s) for pause_s in (101, 60, 60, 60)]

    event = memory.event("a")
    assert (event.status, event.task_id, error_code(event)) == (Status.FINISHED, task_id, "SecondTask")
    assert sum(report.second_tasks for report in reports) == 1


def test_an_event_whose_lane_a_newer_version_has_is_left_to_it_at_its_end(memory: World) -> None:
    """No sweep ends early because of a record; others of another type are asked for."""
    memory.record(
        memory.draft("a", give_up_s=memory.clock.now_s() + 10),
        memory.draft("b", task_type=SCAN, route="others", order=1),
    )
    newer = Row(lane_key(CHECK), "newer", None, None, None, '{"format": 3}')
    memory.ledger.store.put(newer, replacing=None)

    memory.sweep_after(60)

    assert memory.statuses("a", "b") == [Status.PENDING, Status.CREATED]
