"""Whose a task is: the window, the exactly-one rule, and what hides; tables and laws."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oncetask.ledger.records import Call, Served, TaskRecord
from oncetask.models import Task, TaskRequest
from oncetask.sweep.matching import (
    Found,
    Judgement,
    NothingYet,
    Shown,
    Unclear,
    is_last_search,
    judge,
    judge_later,
    search_is_due,
)
from tests.clocks import NOW_S

READ_TIMEOUT_S = 5.0
FIRST_S, LAST_S = NOW_S, NOW_S + 180


def call(first_s: float = FIRST_S, last_s: float = LAST_S, **fields: object) -> Call:
    """A call that was sent last, after an earlier one of its event that was sent first."""
    made = Call(
        call_id="ours",
        request=TaskRequest(
            task_type="CLIENT_PROBLEM_CHECK",
            task_name="name",
            param={"uuids": "t1, t2,t3"},
            source="oncetask",
        ),
        events=(Served("e", "first", 0),),
        sent_s=last_s,
        first_sent_s=first_s,
    )
    return made.model_copy(update=fields)


def task(task_id: str = "x", started_s: float | None = FIRST_S, **fields: object) -> Task:
    """A task of which nothing is shown but what the fields say."""
    return Task(task_id, "CLIENT_PROBLEM_CHECK", started_s=started_s, **fields)  # type: ignore[arg-type]


def record(call_id: str, since_s: float = FIRST_S + 1, *, is_candidate: bool = False) -> TaskRecord:
    """Whose a task is."""
    return TaskRecord(
        task_id="x",
        call_id=call_id,
        task_type="CLIENT_PROBLEM_CHECK",
        task_name="name",
        since_s=since_s,
        is_candidate=is_candidate,
    )


def judged(
    *seen: Task, records: dict[str, TaskRecord] | None = None, is_all: bool = True, of: Call | None = None
) -> Judgement:
    """What is made of the tasks seen."""
    return judge(of or call(), Shown(seen, is_all), (records or {}).get, read_timeout_s=READ_TIMEOUT_S)


# -- the window -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("started_s", "verdict"),
    [
        (FIRST_S - 5.001, NothingYet()),
        (FIRST_S - 5, Found("x")),
        (FIRST_S, Found("x")),
        (LAST_S, Found("x")),
        (LAST_S + 5 + READ_TIMEOUT_S, Found("x")),
        (LAST_S + 5 + READ_TIMEOUT_S + 0.001, Unclear(("x",))),
        (LAST_S + 99_999, Unclear(("x",))),
        (None, Unclear(("x",))),
    ],
)
def test_the_window_is_from_before_the_first_to_after_the_last_sending(
    started_s: float | None, verdict: Judgement
) -> None:
    """5 s before the first sending, 5 s and the read time-out after the last; later is only perhaps ours."""
    assert judged(task(started_s=started_s)) == verdict


@pytest.mark.parametrize(
    ("shown", "is_ours"),
    [
        ({}, True),
        ({"name": "name", "source": "oncetask", "targets": frozenset({"t1", "t2", "t3"})}, True),
        ({"targets": frozenset({"t2"})}, True),
        ({"name": "", "source": ""}, True),
        ({"name": "another"}, False),
        ({"source": "another"}, False),
        ({"targets": frozenset({"t1", "t4"})}, False),
    ],
)
def test_what_is_shown_must_not_differ(shown: dict[str, object], *, is_ours: bool) -> None:
    """Name, Source and targets tell a stranger where they are shown; where they are not, nobody is told."""
    assert judged(task(**shown)) == (Found("x") if is_ours else NothingYet())


def test_targets_tell_nothing_where_the_request_names_none() -> None:
    """A task over all servers shows servers of which the request said nothing."""
    whole = call().request.model_copy(update={"param": {"items": "PORT_SNAPSHOT"}})

    assert judged(task(targets=frozenset({"t9"})), of=call(request=whole)) == Found("x")


# -- exactly one ----------------------------------------------------------------------------------


def test_two_in_the_window_are_unclear() -> None:
    """Nobody can tell which of two is ours; both are held."""
    assert judged(task("x"), task("y")) == Unclear(("x", "y"))


def test_one_in_the_window_is_ours_whatever_came_later() -> None:
    """A later task cannot be the answer where there is one in time."""
    assert judged(task("late", LAST_S + 60), task("x")) == Found("x")


def test_a_task_that_is_this_calls_already_is_found() -> None:
    """A death between noting a task's record and the call's answer is mended by the next search."""
    late = task("x", LAST_S + 999, name="another")

    assert judged(task("y"), task("z"), late, records={"x": record("ours")}) == Found("x")


def test_another_calls_task_is_no_candidate() -> None:
    """What a call of this ledger has is never taken for another's."""
    assert judged(task("x"), task("y"), records={"x": record("other")}) == Found("y")


# -- where only the last is shown -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("last", "records", "verdict"),
    [
        (task(), {}, Found("x")),
        (task(started_s=FIRST_S - 6), {}, NothingYet()),
        (task(name="another"), {}, Unclear(())),
        (task(name="another", started_s=FIRST_S - 6), {}, NothingYet()),
        (task(started_s=None, source="another"), {}, Unclear(())),
        (task(), {"x": record("other")}, Unclear(())),
        (task(), {"x": record("other", since_s=FIRST_S - 0.001)}, NothingYet()),
        (task(), {"x": record("other", since_s=FIRST_S)}, Unclear(())),
        (task(started_s=FIRST_S - 60), {"x": record("other")}, NothingYet()),
        (task(started_s=LAST_S + 60), {}, Unclear(("x",))),
    ],
)
def test_the_last_task_may_hide_ours(last: Task, records: dict[str, TaskRecord], verdict: Judgement) -> None:
    """Unclear, unless it began before our first sending, or its own call was answered before that."""
    assert judged(last, records=records, is_all=False) == verdict


def test_no_last_task_is_nothing() -> None:
    """The service says that there is none of that type."""
    assert judged(is_all=False) == NothingYet()


def test_a_call_that_holds_a_task_as_a_candidate_does_not_have_it() -> None:
    """Who holds it as perhaps its own can tell no better at the next search."""
    assert judged(task(), records={"x": record("ours", is_candidate=True)}) == NothingYet()


# -- long after -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seen", "verdict"),
    [
        ([], NothingYet()),
        ([task()], Found("x")),
        ([task(started_s=LAST_S + 60)], NothingYet()),
        ([task(name="another")], NothingYet()),
        ([task("x"), task("y")], Unclear(("x", "y"))),
        ([task(started_s=None)], NothingYet()),
    ],
)
def test_what_started_after_a_closed_call_is_anothers(seen: list[Task], verdict: Judgement) -> None:
    """And nothing hides behind a last task any more."""
    for is_all in (True, False):
        shown = Shown(seen, is_all)
        assert judge_later(call(), shown, lambda _: None, read_timeout_s=READ_TIMEOUT_S) == verdict


# -- when -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("look_s", "moments"),
    [(180, [5, 30, 90, 180]), (60, [5, 30, 60]), (5, [5]), (30, [5, 30]), (90, [5, 30, 90]), (20, [5, 20])],
)
def test_searches_come_at_their_moments(look_s: int, moments: list[int]) -> None:
    """5, 30, 90 and ONCETASK_LOOK_S seconds after the last sending; those beyond it are left out."""
    searched: list[int] = []
    lost = call()
    for after_s in range(300):
        now_s = LAST_S + after_s
        if search_is_due(lost, look_s=look_s, now_s=now_s):
            searched.append(after_s)
            lost = call(searched_s=now_s)

    assert searched == moments
    assert is_last_search(lost, look_s=look_s, now_s=LAST_S + look_s)
    assert not is_last_search(lost, look_s=look_s, now_s=LAST_S + look_s - 1)


def test_moments_that_passed_unused_are_one_search() -> None:
    """A sweep that comes late searches once for all of them, and then not before the next."""
    assert search_is_due(call(searched_s=LAST_S + 6), look_s=180, now_s=LAST_S + 95)
    assert not search_is_due(call(searched_s=LAST_S + 95), look_s=180, now_s=LAST_S + 179)


# -- laws -----------------------------------------------------------------------------------------

tasks = st.builds(
    task,
    task_id=st.sampled_from(["a", "b", "c", "d", "e"]),
    started_s=st.none() | st.integers(-20, 220).map(lambda s: FIRST_S + s),
    name=st.sampled_from([None, "name", "another"]),
    source=st.sampled_from([None, "oncetask", "another"]),
    targets=st.sampled_from([None, frozenset({"t1"}), frozenset({"t9"})]),
)
seens = st.lists(tasks, max_size=5, unique_by=lambda shown: shown.task_id)
all_records = st.dictionaries(
    st.sampled_from(["a", "b", "c", "d", "e"]),
    st.builds(record, st.sampled_from(["other", "another"]), st.integers(-20, 20).map(lambda s: FIRST_S + s)),
)


def in_window(shown: Task) -> bool:
    """Whether it could be the call's by its time and by all that is shown of it."""
    by_time = shown.started_s is not None and FIRST_S - 5 <= shown.started_s <= LAST_S + 10
    by_shown = shown.name != "another" and shown.source != "another" and shown.targets != frozenset({"t9"})
    return by_time and by_shown


@given(seens, all_records, st.booleans())
def test_a_task_of_another_call_is_never_adopted(
    seen: list[Task],
    records: dict[str, TaskRecord],
    is_all: bool,  # noqa: FBT001 - drawn
) -> None:
    """Neither as found nor as a candidate."""
    verdict = judged(*seen, records=records, is_all=is_all)

    named = {verdict.task_id} if isinstance(verdict, Found) else set(getattr(verdict, "candidates", ()))
    assert not named & records.keys()


@given(seens, all_records)
def test_found_is_the_only_one_in_the_window(seen: list[Task], records: dict[str, TaskRecord]) -> None:
    """Found exactly where one free task fits, never where two do."""
    fitting = [shown.task_id for shown in seen if in_window(shown) and shown.task_id not in records]

    verdict = judged(*seen, records=records)

    assert isinstance(verdict, Found) == (len(fitting) == 1)
    assert not isinstance(verdict, Found) or [verdict.task_id] == fitting


@given(seens, all_records, st.booleans())
def test_nothing_yet_means_that_nothing_could_be_ours(
    seen: list[Task],
    records: dict[str, TaskRecord],
    is_all: bool,  # noqa: FBT001 - drawn
) -> None:
    """Only then may the call be closed in vain."""
    if judged(*seen, records=records, is_all=is_all) == NothingYet():
        assert not any(in_window(shown) and shown.task_id not in records for shown in seen)


@given(seens, all_records)
def test_the_order_of_what_is_shown_makes_no_difference(
    seen: list[Task], records: dict[str, TaskRecord]
) -> None:
    """The same tasks in any order are judged alike."""
    forth, back = judged(*seen, records=records), judged(*reversed(seen), records=records)

    assert type(forth) is type(back)
    assert sorted(getattr(forth, "candidates", ())) == sorted(getattr(back, "candidates", ()))
