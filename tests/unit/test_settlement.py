"""What becomes of events by the answer on their ask: each transition, and the laws that hold for all."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oncetask.errors import Kind
from oncetask.ledger.records import Ask, Event
from oncetask.models import Answer, ErrorInfo, Outcome, Status, TaskRequest, TaskResponse, Trigger
from oncetask.submit.settlement import BACKOFF_S, Jitter, Settlement
from tests.clocks import NOW_S

KIND_OF = {
    Outcome.CAP_REACHED: Kind.REMOTE,
    Outcome.THROTTLED: Kind.REMOTE,
    Outcome.NOT_CONNECTED: Kind.REMOTE,
    Outcome.OPERATOR: Kind.OPERATOR,
    Outcome.REFUSED: Kind.SENDER,
    Outcome.LOST: Kind.UNKNOWN,
}
BACKING_OFF = (Outcome.THROTTLED, Outcome.NOT_CONNECTED, Outcome.OPERATOR)


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


def ask_for(*events: Event, ask_id: str = "ask-1", sendings: int = 1) -> Ask:
    """An ask that serves these events."""
    return Ask(
        ask_id=ask_id,
        request=events[0].request,
        event_ids=tuple(event.event_id for event in events),
        attempts_before=tuple(event.attempts for event in events),
        first_sent_s=NOW_S - 1,
        last_sent_s=NOW_S - 1,
        sendings=sendings,
        claim="claim",
        claim_ends_s=NOW_S + 12,
    )


def answer_of(
    outcome: Outcome, *, kind: Kind | None = None, message: str = "?", retry_after_ms: int | None = None
) -> Answer:
    """An answer with that outcome."""
    if outcome is Outcome.CREATED:
        return Answer(outcome=outcome, task_id="0a", response=TaskResponse(TaskId="0a"))
    error = ErrorInfo(kind=kind or KIND_OF[outcome], code=f"Code.{outcome}", message=message)
    return Answer(outcome=outcome, error=error, retry_after_ms=retry_after_ms)


def settled(event: Event, answer: Answer, *, ask: Ask | None = None, jitter: Jitter = longest) -> Event:
    """The event after an ask of its own was answered so."""
    return Settlement.of(ask or ask_for(event), answer, [event], NOW_S, jitter).apply(event)


# -- transitions ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("outcome", "status", "due_in_s", "failures"),
    [
        (Outcome.CREATED, Status.CREATED, None, 2),
        (Outcome.CAP_REACHED, Status.PENDING, 0, 0),
        (Outcome.THROTTLED, Status.PENDING, 20, 3),
        (Outcome.NOT_CONNECTED, Status.PENDING, 20, 3),
        (Outcome.OPERATOR, Status.PENDING, 60, 3),
        (Outcome.REFUSED, Status.REJECTED, None, 2),
        (Outcome.LOST, Status.UNKNOWN, None, 2),
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

    after = [Settlement.of(ask_for(*events), answer, events, NOW_S, longest).apply(e) for e in events]

    assert [(each.task_id, each.response, each.shared_by) for each in after] == [
        ("0a", answer.response, 2)
    ] * 2


def test_a_task_found_by_looking_leaves_no_error_and_no_response() -> None:
    """What was unknown is created, and says nothing of the lost answer any more."""
    event = event_of()
    ask = ask_for(event)
    lost = settled(event, answer_of(Outcome.LOST), ask=ask)

    found = settled(lost, Answer(outcome=Outcome.CREATED, task_id="0a"), ask=ask)

    assert (found.status, found.task_id, found.response) == (Status.CREATED, "0a", None)
    assert (found.error, found.attempts) == (None, 1)


@pytest.mark.parametrize("status", [s for s in Status if s not in {Status.PENDING, Status.UNKNOWN}])
@pytest.mark.parametrize("outcome", Outcome)
def test_an_event_that_no_longer_waits_is_left_alone(status: Status, outcome: Outcome) -> None:
    """A late answer changes nothing that has been decided."""
    event = event_of(status=status)

    assert settled(event, answer_of(outcome)) is event


def test_a_refused_certificate_waits_as_long_as_the_operator_takes() -> None:
    """Who must act decides how long the wait is, not how the connection failed."""
    answer = answer_of(Outcome.NOT_CONNECTED, kind=Kind.OPERATOR)

    assert settled(event_of(), answer).due_s == NOW_S + 15


def test_the_services_own_time_takes_the_place_of_backoff() -> None:
    """`x-acs-retry-after` is exact, however often it failed before."""
    answer = answer_of(Outcome.THROTTLED, retry_after_ms=1500)

    assert settled(event_of(failures=9), answer).due_s == NOW_S + 1.5


def test_an_event_that_took_a_refused_events_id_is_not_refused_with_it() -> None:
    """A refusal frees the id; what was corrected and sent again afterwards has not been asked for."""
    refused = event_of()
    ask = ask_for(refused)
    corrected = event_of(targets="inet-9", received_s=ask.last_sent_s + 0.1)

    assert settled(corrected, answer_of(Outcome.REFUSED), ask=ask) is corrected


# -- refused groups -------------------------------------------------------------------------------


def parted(targets: list[str], message: str = "?") -> list[list[str]]:
    """The targets by the part that they are asked with next, after the group was refused."""
    events = [event_of(str(n), targets=target) for n, target in enumerate(targets)]
    settlement = Settlement.of(
        ask_for(*events), answer_of(Outcome.REFUSED, message=message), events, NOW_S, longest
    )
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
    ask, answer = ask_for(*events), answer_of(Outcome.REFUSED)
    first = Settlement.of(ask, answer, events, NOW_S, longest)
    half_done = [first.apply(event) if n < 2 else event for n, event in enumerate(events)]

    second = Settlement.of(ask, answer, half_done, NOW_S + 60, longest)

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


@given(event=waiting, outcome=outcomes, sendings=st.integers(1, 5), group=st.booleans())
def test_applied_twice_is_applied_once(event: Event, outcome: Outcome, sendings: int, *, group: bool) -> None:
    """A second settling, at another time and with other luck, changes nothing more."""
    others = [event_of("b", targets="inet-2")] if group else []
    ask, answer = ask_for(event, *others, sendings=sendings), answer_of(outcome)

    once = Settlement.of(ask, answer, [event, *others], NOW_S, longest).apply(event)
    twice = Settlement.of(ask, answer, [once, *others], NOW_S + 99, lambda _: 0.0).apply(once)

    assert twice == once


@given(st.lists(st.tuples(st.integers(1, 3), st.integers(1, 4)), max_size=8))
def test_attempts_count_every_sending_once(asks: list[tuple[int, int]]) -> None:
    """Over asks that are lost, looked for, sent again and settled again, each sending counts once."""
    event, expected = event_of(), 0
    for number, (first_sendings, settlings) in enumerate(asks):
        before = event
        for more in range(2):
            ask = ask_for(before, ask_id=f"ask-{number}", sendings=first_sendings + more)
            for _ in range(settlings):
                event = settled(event, answer_of(Outcome.LOST), ask=ask)
        event = settled(event, answer_of(Outcome.CAP_REACHED), ask=ask)
        expected += first_sendings + 1

    assert event.attempts == expected


@pytest.mark.parametrize("outcome", Outcome)
@pytest.mark.parametrize("later", Outcome)
def test_a_settlement_that_comes_after_a_later_one_changes_nothing(outcome: Outcome, later: Outcome) -> None:
    """Whoever settles an older ask, or an older sending, late does not undo what came since."""
    older = ask_for(event_of())
    repeated = older.model_copy(update={"sendings": 2})
    lost = settled(event_of(), answer_of(Outcome.LOST), ask=older)
    of_repeated = settled(lost, answer_of(later), ask=repeated)
    pending = settled(event_of(), answer_of(Outcome.CAP_REACHED), ask=older)
    of_other = settled(pending, answer_of(later), ask=ask_for(pending, ask_id="later"))

    for event in (of_repeated, of_other):
        assert settled(event, answer_of(outcome), ask=older) == event


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
        event = settled(event, answer_of(outcome), ask=ask_for(event, ask_id=f"ask-{number}"))
        waited_s.append(event.due_s - NOW_S)

    assert waited_s == waits_s


def test_reaching_the_cap_starts_the_backoff_anew() -> None:
    """The service answered: what follows is a first failure again."""
    event = settled(event_of(failures=7), answer_of(Outcome.CAP_REACHED))

    after = settled(event, answer_of(Outcome.THROTTLED), ask=ask_for(event, ask_id="ask-2"))

    assert (event.due_s, after.due_s) == (NOW_S, NOW_S + 5)


@given(event=waiting, outcome=outcomes)
def test_settling_touches_nothing_else(event: Event, outcome: Outcome) -> None:
    """Id, request, item and age are the event's own, whatever is answered."""
    after = settled(event, answer_of(outcome))

    kept = {"event_id", "request", "item_sha256", "received_s", "give_up_s", "keep_s", "order", "route"}
    assert after.model_dump(include=kept) == event.model_dump(include=kept)
