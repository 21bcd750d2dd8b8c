"""What becomes of events by the answer to their call: each transition, and the laws that hold for all."""

from collections import Counter
from collections.abc import Callable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oncetask.errors import Kind
from oncetask.ledger.records import Call, Event, Served
from oncetask.models import Answer, ErrorInfo, Outcome, Status, TaskRequest, TaskResponse, Trigger
from oncetask.submit.settlement import (
    BACKOFF_S,
    MOST_LOST_CALLS,
    WAITS_AFTER_LOSS_S,
    Jitter,
    Settlement,
    left_to_operator,
    retry_s,
    searched_in_vain,
)
from tests.clocks import NOW_S

KIND_OF = {
    Outcome.CAP_REACHED: Kind.REMOTE,
    Outcome.THROTTLED: Kind.REMOTE,
    Outcome.NOT_CONNECTED: Kind.REMOTE,
    Outcome.OPERATOR: Kind.OPERATOR,
    Outcome.UNLISTED: Kind.OPERATOR,
    Outcome.REFUSED: Kind.SENDER,
    Outcome.LOST: Kind.UNKNOWN,
}
BACKING_OFF = (Outcome.THROTTLED, Outcome.NOT_CONNECTED, Outcome.OPERATOR, Outcome.UNLISTED)


def longest(seconds: float) -> float:
    """Jitter that always waits the whole time."""
    return seconds


def request_for(targets: str) -> TaskRequest:
    """One event's request."""
    return TaskRequest(
        task_type="CLIENT_PROBLEM_CHECK",
        task_name="CLIENT_PROBLEM_CHECK",
        param={"mode": 1, "uuids": targets},
        source="oncetask",
    )


def event_of(name: str = "a", *, targets: str = "inet-1", **fields: object) -> Event:
    """A waiting event."""
    event = Event(
        event_id=f"webhook:agent-offline:{name}",
        status=Status.PENDING,
        trigger=Trigger.WEBHOOK,
        route="agent-offline",
        item_sha256=None,
        request=request_for(targets),
        submit="sweep",
        target_key="uuids",
        max_targets=100,
        order=0,
        received_s=NOW_S - 10,
        due_s=NOW_S - 10,
        give_up_s=NOW_S + 604_800,
        keep_s=604_800,
    )
    return event.model_copy(update=fields)


def call_for(*events: Event, call_id: str = "call-1") -> Call:
    """A call that serves these events."""
    return Call(
        call_id=call_id,
        request=events[0].request,
        events=tuple(Served.of(event) for event in events),
        sent_s=NOW_S - 1,
        first_sent_s=NOW_S - 1,
    )


def answer_of(
    outcome: Outcome, *, kind: Kind | None = None, message: str = "?", retry_after_ms: int | None = None
) -> Answer:
    """An answer with that outcome."""
    if outcome is Outcome.CREATED:
        return Answer(outcome=outcome, task_id="0a", response=TaskResponse(TaskId="0a"))
    error = ErrorInfo(kind=kind or KIND_OF[outcome], code=f"Code.{outcome}", message=message)
    return Answer(outcome=outcome, error=error, retry_after_ms=retry_after_ms)


def answered(call: Call, answer: Answer, events: Sequence[Event], jitter: Jitter = longest) -> Settlement:
    """The settlement of a call that was just answered so."""
    due_s = retry_s(answer, [event.failures for event in events], NOW_S, jitter)
    return Settlement.of(call.model_copy(update={"retry_s": due_s}), answer, events, NOW_S)


def settled(event: Event, answer: Answer, *, call: Call | None = None, jitter: Jitter = longest) -> Event:
    """The event after a call of its own was answered so."""
    return answered(call or call_for(event), answer, [event], jitter).apply(event)


# -- transitions ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("outcome", "status", "due_in_s", "failures"),
    [
        (Outcome.CREATED, Status.CREATED, None, 2),
        (Outcome.CAP_REACHED, Status.PENDING, 0, 0),
        (Outcome.THROTTLED, Status.PENDING, 20, 3),
        (Outcome.NOT_CONNECTED, Status.PENDING, 20, 3),
        (Outcome.OPERATOR, Status.PENDING, 60, 3),
        (Outcome.UNLISTED, Status.PENDING, 60, 3),
        (Outcome.REFUSED, Status.REJECTED, None, 2),
        (Outcome.LOST, Status.UNKNOWN, 604_800, 2),
    ],
)
def test_an_answer_moves_its_event(
    outcome: Outcome, status: Status, due_in_s: float | None, failures: int
) -> None:
    """Each outcome has its status, its wait, and its count of failures in a row, after two of them."""
    event = event_of(failures=2)

    after = settled(event, answer_of(outcome))

    assert (after.status, after.failures, after.attempts) == (status, failures, 1)
    assert after.due_s == (event.due_s if due_in_s is None else NOW_S + due_in_s)
    assert after.error == answer_of(outcome).error
    assert (after.settled_s == NOW_S) == (not after.waits)


def test_a_created_event_holds_its_task_and_how_many_share_it() -> None:
    """Task id and response are the answer's; the group's size is told to each of its events."""
    events = [event_of("a"), event_of("b", targets="inet-2")]
    answer = answer_of(Outcome.CREATED)

    after = [answered(call_for(*events), answer, events).apply(e) for e in events]

    assert [(each.task_id, each.response, each.shared_by) for each in after] == [
        ("0a", answer.response, 2)
    ] * 2


def test_a_task_found_by_a_search_leaves_no_error_and_no_response() -> None:
    """What was unknown is created, and says nothing of the lost answer any more."""
    event = event_of()
    call = call_for(event)
    unknown = settled(event, answer_of(Outcome.LOST), call=call)

    found = settled(unknown, Answer(outcome=Outcome.CREATED, task_id="0a"), call=call)

    assert (found.status, found.task_id, found.response) == (Status.CREATED, "0a", None)
    assert (found.error, found.attempts) == (None, 1)


@pytest.mark.parametrize("status", [s for s in Status if s not in {Status.PENDING, Status.UNKNOWN}])
@pytest.mark.parametrize("outcome", [one for one in Outcome if one is not Outcome.CREATED])
def test_an_event_that_no_longer_waits_is_left_alone(status: Status, outcome: Outcome) -> None:
    """A late answer without a task changes nothing that has been decided."""
    event = event_of(status=status)

    assert settled(event, answer_of(outcome)) is event


@pytest.mark.parametrize("status", [Status.CREATED, Status.FINISHED, Status.FAILED, Status.REJECTED])
def test_a_task_for_an_event_that_no_longer_waits_is_told_to_the_operator(status: Status) -> None:
    """It was made all the same: a second one, or one that came too late."""
    event = event_of(status=status, task_id=None if status is Status.FAILED else "other")

    after = settled(event, answer_of(Outcome.CREATED))

    assert after.error is not None
    assert (after.error.code, after.sequence) == ("SecondTask", 2)
    assert after.task_id == ("0a" if status is Status.FAILED else "other")


def test_a_refused_certificate_waits_as_long_as_the_operator_takes() -> None:
    """Who must act decides how long the wait is, not how the connection failed."""
    answer = answer_of(Outcome.NOT_CONNECTED, kind=Kind.OPERATOR)

    assert settled(event_of(), answer).due_s == NOW_S + 15


def test_the_services_own_time_takes_the_place_of_backoff() -> None:
    """`x-acs-retry-after` is exact, however often it failed before."""
    answer = answer_of(Outcome.THROTTLED, retry_after_ms=1500)

    assert settled(event_of(failures=9), answer).due_s == NOW_S + 1.5


@pytest.mark.parametrize("outcome", Outcome)
def test_another_event_under_the_same_id_is_left_alone(outcome: Outcome) -> None:
    """An answer is for the very event that its call was sent for, not for a later one of that id."""
    sent, later = event_of(), event_of(instance="later")

    assert settled(later, answer_of(outcome), call=call_for(sent)) is later


# -- calls searched for in vain -------------------------------------------------------------------


def lost(event: Event, number: int) -> tuple[Event, Call]:
    """The event after its n-th call gave no answer, and that call."""
    call = call_for(event, call_id=f"call-{number}")
    return settled(event, answer_of(Outcome.LOST), call=call), call


def test_an_event_waits_longer_after_each_loss_and_is_then_left_to_the_operator() -> None:
    """1, 5 and 30 minutes and 2 hours; the fifth loss is the last."""
    event, waits_s = event_of(), []
    for number in range(MOST_LOST_CALLS):
        event, call = lost(event, number)
        event = searched_in_vain(event, call, NOW_S)
        waits_s.append(event.due_s - NOW_S)

    assert tuple(waits_s[:-1]) == WAITS_AFTER_LOSS_S == (60, 300, 1800, 7200)
    assert event.is_ambiguous
    assert event.due_s == event.give_up_s
    assert len(event.lost_calls) == event.attempts == MOST_LOST_CALLS


def test_what_runs_on_hosts_is_never_sent_again() -> None:
    """One loss that was searched for in vain is enough."""
    operations = request_for("inet-1").model_copy(update={"task_type": "CLIENT_DEV_OPS"})
    event, call = lost(event_of(request=operations), 1)

    assert searched_in_vain(event, call, NOW_S).is_ambiguous


def test_a_group_that_is_lost_is_asked_for_in_halves_and_then_one_by_one() -> None:
    """After two losses in halves of the group; the last two sendings of each event are its own."""
    for losses, parts in ((0, [2, 2]), (1, [2, 2]), (2, [1, 1, 1, 1])):
        events = [event_of(str(n), lost_calls=tuple(f"c{m}" for m in range(losses))) for n in range(4)]
        call = call_for(*events)
        settlement = answered(call, answer_of(Outcome.LOST), events)

        after = [searched_in_vain(settlement.apply(event), call, NOW_S) for event in events]

        assert sorted(Counter(event.part for event in after).values()) == parts


@pytest.mark.parametrize("change", [searched_in_vain, left_to_operator])
def test_closing_a_lost_call_twice_is_closing_it_once(change: Callable[[Event, Call, float], Event]) -> None:
    """Done again after a death, it changes nothing more; nor is anything else touched."""
    event, call = lost(event_of(), 1)
    once = change(event, call, NOW_S)

    assert once != event
    assert change(once, call, NOW_S + 99) is once
    for other in (
        event_of(),
        event_of(status=Status.CREATED),
        event.model_copy(update={"instance": "later"}),
    ):
        assert change(other, call, NOW_S) is other


# -- refused groups -------------------------------------------------------------------------------


def parted(targets: list[str], message: str = "?") -> list[list[str]]:
    """The targets by the part that they are asked with next, after the group was refused."""
    events = [event_of(str(n), targets=target) for n, target in enumerate(targets)]
    settlement = answered(call_for(*events), answer_of(Outcome.REFUSED, message=message), events)
    parts: dict[str | None, list[str]] = {}
    for event in events:
        after = settlement.apply(event)
        assert (after.status, after.error, after.due_s) == (Status.PENDING, None, NOW_S)
        parts.setdefault(after.part, []).append(event.request.param["uuids"])
    return list(parts.values())


@pytest.mark.parametrize(
    ("targets", "message", "parts"),
    [
        (["a", "b"], "?", [["a"], ["b"]]),
        (["a", "b", "c"], "?", [["a"], ["b", "c"]]),
        (["a", "b", "c", "d"], "?", [["a", "b"], ["c", "d"]]),
        (["a", "b", "c"], "uuid b is not valid", [["a", "c"], ["b"]]),
        (["inet-1", "inet-12", "inet-2"], "uuid inet-12.", [["inet-1", "inet-2"], ["inet-12"]]),
        (["inet-1", "inet-2", "x-inet-1"], "no 'x-inet-1'", [["inet-1", "inet-2"], ["x-inet-1"]]),
        (["a,b", "c", "d"], "Param uuid b", [["a,b"], ["c", "d"]]),
        (["a", "b", "c", "d"], "b and d are not valid", [["a", "b"], ["c", "d"]]),
        (["i.1", "i-1", "b", "c"], "uuid i.1", [["i.1"], ["i-1", "b", "c"]]),
    ],
)
def test_a_refused_group_is_parted(targets: list[str], message: str, parts: list[list[str]]) -> None:
    """The event whose target is named stands alone; without a name, or with several, it is halves."""
    assert sorted(parted(targets, message)) == sorted(parts)


@given(size=st.integers(2, 100))
def test_parts_partition_their_group_and_shrink(size: int) -> None:
    """Nothing is asked twice or left out, and after at most seven partings every event is alone."""
    targets = [f"inet-{n}" for n in range(size)]

    parts = parted(targets)

    assert sorted(target for part in parts for target in part) == sorted(targets)
    assert len(parts) == 2
    assert max(map(len, parts)) == (size + 1) // 2


@given(size=st.integers(2, 100), data=st.data())
def test_a_named_event_stands_alone(size: int, data: st.DataObject) -> None:
    """Wherever it stands in the group, the other events stay together."""
    named = data.draw(st.integers(0, size - 1))

    parts = parted([f"inet-{n}" for n in range(size)], f"The specified Param uuid inet-{named} is not valid.")

    assert [f"inet-{named}"] in parts
    assert sorted(map(len, parts)) == sorted([1, size - 1])


def test_a_second_reckoning_gives_the_same_parts() -> None:
    """A process that dies half-way through a group is finished by another in the same parts."""
    events = [event_of(str(n), targets=f"inet-{n}") for n in range(5)]
    call, answer = call_for(*events), answer_of(Outcome.REFUSED)
    first = answered(call, answer, events)
    half_done = [first.apply(event) if n < 2 else event for n, event in enumerate(events)]

    second = Settlement.of(call, answer, half_done, NOW_S + 60)

    assert [second.apply(e).part for e in half_done] == [first.apply(e).part for e in events]
    assert [second.apply(e) for e in half_done[:2]] == half_done[:2]


# -- laws -----------------------------------------------------------------------------------------

outcomes = st.sampled_from(Outcome)
waiting = st.builds(
    lambda status, failures, attempts: event_of(status=status, failures=failures, attempts=attempts),
    st.sampled_from([Status.PENDING, Status.UNKNOWN]),
    st.integers(0, 10_000),
    st.integers(0, 50),
)


@given(event=waiting, outcome=outcomes, group=st.booleans())
def test_applied_twice_is_applied_once(event: Event, outcome: Outcome, *, group: bool) -> None:
    """A second settling, at another time, changes nothing more."""
    others = [event_of("b", targets="inet-2")] if group else []
    answer = answer_of(outcome)
    settlement = answered(call_for(event, *others), answer, [event, *others])

    once = settlement.apply(event)
    twice = Settlement.of(settlement.call, answer, [once, *others], NOW_S + 99).apply(once)

    assert twice == once


@given(st.lists(st.tuples(outcomes.filter(lambda one: one is not Outcome.CREATED), st.integers(1, 3))))
def test_attempts_count_every_call_once(calls: list[tuple[Outcome, int]]) -> None:
    """However often each is settled."""
    event, expected = event_of(), 0
    for number, (outcome, settlings) in enumerate(calls):
        expected += event.waits
        call = call_for(event, call_id=f"call-{number}")
        for _ in range(settlings):
            event = settled(event, answer_of(outcome), call=call)

    assert event.attempts == expected


@pytest.mark.parametrize("outcome", [one for one in Outcome if one is not Outcome.CREATED])
@pytest.mark.parametrize("later", Outcome)
def test_a_settlement_that_comes_after_a_later_one_changes_nothing(outcome: Outcome, later: Outcome) -> None:
    """An older call that is settled late does not undo what came since."""
    older = call_for(event_of())
    pending = settled(event_of(), answer_of(Outcome.CAP_REACHED), call=older)
    event = settled(pending, answer_of(later), call=call_for(pending, call_id="later"))

    assert settled(event, answer_of(outcome), call=older) == event


@given(
    event=waiting.filter(lambda event: event.status is Status.PENDING),
    outcome=st.sampled_from(BACKING_OFF),
    luck=st.floats(0, 1),
)
def test_a_wait_is_within_its_bounds(event: Event, outcome: Outcome, luck: float) -> None:
    """From at once to the doubled first wait, and never beyond the longest."""
    first_s, longest_s = BACKOFF_S[KIND_OF[outcome]]

    after = settled(event, answer_of(outcome), jitter=lambda seconds: seconds * luck)

    bound_s = min(longest_s, first_s * 2**event.failures)
    assert 0 <= after.due_s - NOW_S <= bound_s


@pytest.mark.parametrize(
    ("outcome", "waits_s"),
    [
        (Outcome.THROTTLED, [5, 10, 20, 40, 80, 160, 300, 300]),
        (Outcome.NOT_CONNECTED, [5, 10, 20, 40, 80, 160, 300, 300]),
        (Outcome.OPERATOR, [15, 30, 60, 120, 240, 480, 900, 900]),
    ],
)
def test_waits_double_to_their_longest(outcome: Outcome, waits_s: list[float]) -> None:
    """One failure after another; the jitter chooses from nothing to the whole of it."""
    event, waited_s = event_of(), []

    for number in range(len(waits_s)):
        event = settled(event, answer_of(outcome), call=call_for(event, call_id=f"call-{number}"))
        waited_s.append(event.due_s - NOW_S)

    assert waited_s == waits_s


def test_reaching_the_cap_starts_the_backoff_anew() -> None:
    """The service answered: what follows is a first failure again."""
    event = settled(event_of(failures=7), answer_of(Outcome.CAP_REACHED))

    after = settled(event, answer_of(Outcome.THROTTLED), call=call_for(event, call_id="call-2"))

    assert (event.due_s, after.due_s) == (NOW_S, NOW_S + 5)


@given(event=waiting, outcome=outcomes)
def test_settling_touches_nothing_else(event: Event, outcome: Outcome) -> None:
    """Id, request, item and age are the event's own, whatever is answered."""
    after = settled(event, answer_of(outcome))

    kept = {"event_id", "request", "item_sha256", "received_s", "give_up_s", "keep_s", "order", "route"}
    assert after.model_dump(include=kept) == event.model_dump(include=kept)
