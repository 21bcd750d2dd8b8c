"""What every ledger promises, whatever keeps its rows: memory, a SQLite file, or DynamoDB (two of them)."""

import itertools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import pytest

from oncetask.errors import Code, DamagedRecord, Kind, RecordTooLarge
from oncetask.ledger import dynamodb, sqlite
from oncetask.ledger.ledger import NOT_OURS, Ledger
from oncetask.ledger.records import (
    KEPT_S,
    LEASE_KEY,
    MOST_HAPPENINGS,
    ROUTES_KEY,
    Call,
    Event,
    Lane,
    LostCall,
    Served,
    TaskRecord,
    call_key,
    event_key,
    lane_key,
    task_key,
)
from oncetask.ledger.rows import Read
from oncetask.ledger.store import Row, Store
from oncetask.models import Answer, ErrorInfo, Outcome, Status, TaskRequest, Trigger
from tests.clocks import NOW_S, FakeClock
from tests.open_records import lanes, running, waiting, watched

REQUEST = TaskRequest(
    task_type="CLIENT_PROBLEM_CHECK",
    task_name="check",
    param={"mode": 1, "problemType": "offline", "uuids": "inet-1"},
    source="oncetask",
)
EXPIRED = ErrorInfo(kind=Kind.OPERATOR, code=Code.EXPIRED, message="waited too long")
LOST = ErrorInfo(kind=Kind.OPERATOR, code=Code.OUTCOME_UNKNOWN, message="nobody knows")
ROW = Row(key="event/a", version="1", queue="event/r", due="2026", expires_s=None, body="{}")
NEWER = '{"format": 3}'


def event(event_id: str = "webhook:r:1", **fields: Any) -> Event:  # noqa: ANN401 - any field of an event
    """An event that was just accepted."""
    given = {
        "instance": "first",
        "status": Status.PENDING,
        "trigger": Trigger.WEBHOOK,
        "route": "r",
        "request": REQUEST,
        "submit": "now",
        "order": 0,
        "received_s": NOW_S,
        "due_s": NOW_S,
        "give_up_s": NOW_S + 604_800,
        "keep_s": 600,
    }
    return Event(event_id=event_id, **(given | fields))


def call(call_id: str = "call-1", **fields: Any) -> Call:  # noqa: ANN401 - any field of a call
    """A call that is about to be sent."""
    given = {
        "request": REQUEST,
        "events": (Served("webhook:r:1", "first", 0),),
        "sent_s": NOW_S,
        "first_sent_s": NOW_S,
    }
    return Call(call_id=call_id, **(given | fields))


def lane(call_id: str = "call-1", **fields: Any) -> Lane:  # noqa: ANN401 - any field of a lane
    """The lane of the one task type, with that call in it."""
    given = {"task_type": REQUEST.task_type, "call": call(call_id), "claim_ends_s": NOW_S + 12}
    return Lane(**(given | fields))


def lost_call(call_id: str = "call-1", **fields: Any) -> LostCall:  # noqa: ANN401 - any field of one
    """A call that was searched for in vain."""
    given = {"call": call(call_id), "why": "in-vain", "closed_s": NOW_S, "needed_until_s": NOW_S + 60}
    return LostCall(**(given | fields))


def task(task_id: str = "task-1", call_id: str = "call-1", **fields: Any) -> TaskRecord:  # noqa: ANN401 - its fields
    """A task that an answer named."""
    given = {"task_type": REQUEST.task_type, "task_name": "check", "since_s": NOW_S}
    return TaskRecord(task_id=task_id, call_id=call_id, **(given | fields))


def overwritten(store: Store, key: str, body: str) -> Row:
    """The row of that key, with another body."""
    row = store.get(key)
    assert row is not None
    other = row._replace(version="overwritten", body=body)
    assert store.put(other, replacing=row.version)
    return other


def at_once[T](work: Callable[[int], T], workers: int = 8) -> list[T]:
    """What that many threads give, each called with its number."""
    with ThreadPoolExecutor(workers) as threads:
        return list(threads.map(work, range(workers)))


# -- rows: what a store promises --------------------------------------------------------------


def test_a_row_is_read_as_it_was_written(store: Store) -> None:
    """Every field comes back, whether it is there or not."""
    rows = [ROW, Row("event/b", "2", None, None, 1_900_000_000, "[1]")]

    written = [store.put(row, replacing=None) for row in rows]

    assert written == [True, True]
    assert [store.get(row.key) for row in rows] == rows


def test_a_key_without_a_row_is_none(store: Store) -> None:
    """Nothing was written, nothing is found."""
    assert store.get("event/a") is None


def test_a_row_is_not_put_where_one_is(store: Store) -> None:
    """Of two first writes of a key the second is refused and changes nothing."""
    store.put(ROW, replacing=None)

    written = store.put(ROW._replace(version="2", body="other"), replacing=None)

    assert not written
    assert store.get(ROW.key) == ROW


def test_a_row_replaces_the_version_that_it_names(store: Store) -> None:
    """A write that names the stored version replaces the whole row: what it leaves out is gone."""
    store.put(ROW._replace(expires_s=1_900_000_000), replacing=None)
    newer = Row(ROW.key, "2", None, None, None, "newer")

    written = store.put(newer, replacing="1")

    assert written
    assert store.get(ROW.key) == newer


@pytest.mark.parametrize("there", [True, False], ids=["another version", "no row"])
def test_a_write_that_names_a_stale_version_is_refused(store: Store, *, there: bool) -> None:
    """Somebody changed or deleted the row in between: nothing is written."""
    if there:
        store.put(ROW, replacing=None)

    written = store.put(ROW._replace(version="3", body="late"), replacing="2")

    assert not written
    assert store.get(ROW.key) == (ROW if there else None)


def test_of_eight_first_writes_at_once_one_holds(store: Store) -> None:
    """Put-if-absent has one winner, and the row is the winner's."""
    written = at_once(lambda n: store.put(ROW._replace(version=f"v{n}"), replacing=None))

    stored = store.get(ROW.key)
    assert sorted(written) == [False] * 7 + [True]
    assert stored is not None
    assert stored.version == f"v{written.index(True)}"


def test_a_row_is_deleted_by_its_version_alone(store: Store) -> None:
    """A stale delete does nothing; the right one takes the row away, once."""
    store.put(ROW, replacing=None)

    deleted = [store.delete(ROW.key, version=version) for version in ("0", "1", "1")]

    assert deleted == [False, True, False]
    assert store.get(ROW.key) is None
    assert list(store.queued("event/r")) == []


def test_many_rows_come_in_the_order_of_the_keys(store: Store) -> None:
    """More keys than one read takes, some without a row, one twice: the rows there are, in that order."""
    for n in range(0, 230, 2):
        store.put(ROW._replace(key=f"event/{n}"), replacing=None)
    keys = [f"event/{n}" for n in reversed(range(230))]

    rows = store.get_many([*keys, "event/4"])

    assert [row.key for row in rows] == [*keys[1::2], "event/4"]
    assert store.get_many([]) == []


def test_large_bodies_are_kept_and_read_together(store: Store) -> None:
    """Fifty-six bodies of 300,000 bytes are more than DynamoDB gives in one answer (16 MB); all come."""
    keys = [f"event/{n}" for n in range(56)]
    for key in keys:
        store.put(ROW._replace(key=key, queue=None, due=None, body=key[-1] * 300_000), replacing=None)

    rows = store.get_many(keys)

    assert [row.key for row in rows] == keys
    assert all(row.body == row.key[-1] * 300_000 for row in rows)


@pytest.mark.parametrize("text", ["räksmörgås/東京 🐙", "a'\"\\b\n|#:,;%", "x" * 512, "\x00\x7f"])
def test_any_text_is_a_key_and_a_body(store: Store, text: str) -> None:
    """Keys and bodies are kept letter by letter, and are found in the index."""
    row = ROW._replace(key=f"event/{text}", body=text)

    store.put(row, replacing=None)

    assert store.get(row.key) == row
    assert store.get_many([row.key]) == [row]
    assert list(store.queued("event/r")) == [("2026", row.key)]


def test_a_queue_is_listed_by_due_and_apart_from_others(store: Store) -> None:
    """Sorted by `due`, then by key, whatever the order of writing; other queues and closed rows left out."""
    dues = {"d": "3", "c": "1", "b": "2", "a": "2", "f": "2"}
    for name, due in dues.items():
        store.put(ROW._replace(key=f"event/{name}", due=due), replacing=None)
    store.put(ROW._replace(key="event/e", queue=None, due=None), replacing=None)
    store.put(ROW._replace(key="event/z", queue="event/other", due="0"), replacing=None)

    listed = list(store.queued("event/r"))

    assert listed == [("1", "event/c"), *(("2", f"event/{name}") for name in "abf"), ("3", "event/d")]
    assert list(store.queued("event/other")) == [("0", "event/z")]
    assert list(store.queued("event")) == []


def test_a_closed_row_leaves_its_queue_and_a_changed_one_moves(store: Store) -> None:
    """The index follows every write: closed, due later, in another queue."""
    for name in "abcd":
        store.put(ROW._replace(key=f"event/{name}", due=name), replacing=None)

    store.put(Row("event/a", "2", None, None, 1_900_000_000, ""), replacing="1")
    store.put(Row("event/b", "2", "event/r", "z", None, ""), replacing="1")
    store.put(Row("event/d", "2", "event/other", "d", None, ""), replacing="1")

    assert list(store.queued("event/r")) == [("c", "event/c"), ("z", "event/b")]
    assert list(store.queued("event/other")) == [("d", "event/d")]


def test_a_long_queue_is_listed_in_order_and_lazily(store: Store) -> None:
    """More rows than a page of any store; what is written behind the point that was reached is listed too."""
    rows = max(dynamodb.PAGE_ROWS, sqlite.PAGE_ROWS) + 10
    for n in reversed(range(rows)):
        store.put(ROW._replace(key=f"event/{n}", due=f"{n:05d}"), replacing=None)

    listing = store.queued("event/r")
    first = list(itertools.islice(listing, 10))
    store.put(ROW._replace(key="event/late", due="99999"), replacing=None)
    rest = list(listing)

    assert [*first, *rest] == [*((f"{n:05d}", f"event/{n}") for n in range(rows)), ("99999", "event/late")]


def test_the_first_of_a_queue_are_its_first_however_few_are_wanted(store: Store) -> None:
    """`most` makes the read smaller and changes nothing of what comes, also where many are due at once."""
    rows = 75
    for n in reversed(range(rows)):
        store.put(ROW._replace(key=f"event/{n:05d}", due=f"{n // 10:05d}"), replacing=None)

    for most in (1, 2, 3, rows - 5, rows + 50):
        first = list(itertools.islice(store.queued("event/r", most), most))
        assert [due for due, _ in first] == [f"{n // 10:05d}" for n in range(min(most, rows))]
        assert all(int(key.removeprefix("event/")) // 10 == int(due) for due, key in first)
        assert len({key for _, key in first}) == len(first)


def test_forgetting_what_has_expired_takes_nothing_else(store: Store) -> None:
    """Rows without an expiry, or with a later one, stay."""
    rows = [ROW._replace(key=f"event/{at}", expires_s=at) for at in (1_800_000_001, None)]
    for row in rows:
        store.put(row, replacing=None)

    store.forget_expired(1_800_000_000.9)

    assert [store.get(row.key) for row in rows] == rows


# -- events: what the ledger promises ---------------------------------------------------------


def test_an_event_is_recorded_once(ledger: Ledger) -> None:
    """A bound id gives the first event, as it was recorded, and keeps it."""
    first = ledger.record(event(order=1))

    second = ledger.record(event(order=2))

    assert first == (event(order=1), True)
    assert second == (event(order=1), False)
    assert ledger.event("webhook:r:1") == event(order=1)


def test_eight_deliveries_at_once_record_one_event(ledger: Ledger) -> None:
    """One is told that the event is its own; all are told of the same event."""
    recorded = at_once(lambda n: ledger.record(event(order=n)))

    assert sorted(mine for _, mine in recorded) == [False] * 7 + [True]
    assert len({found.order for found, _ in recorded}) == 1


@pytest.mark.parametrize(
    "end",
    [
        {"status": Status.REJECTED, "settled_s": NOW_S},
        {"status": Status.IGNORED, "settled_s": NOW_S},
        {"status": Status.FAILED, "settled_s": NOW_S, "error": EXPIRED},
    ],
    ids=lambda end: str(end["status"]),
)
def test_an_id_whose_event_surely_made_no_task_is_free_again(ledger: Ledger, end: dict[str, Any]) -> None:
    """Rejected, ignored and expired events let a later one take their id."""
    ledger.record(event(**end))

    recorded = ledger.record(event(order=7))

    assert recorded == (event(order=7, sequence=2), True)
    assert ledger.event("webhook:r:1") == recorded[0]


@pytest.mark.parametrize(
    "state",
    [
        {"status": Status.UNKNOWN},
        {"status": Status.CREATED, "task_id": "t", "settled_s": NOW_S},
        {"status": Status.FINISHED, "task_id": "t", "settled_s": NOW_S},
        {"status": Status.FAILED, "settled_s": NOW_S, "error": LOST},
    ],
    ids=lambda state: str(state["status"]),
)
def test_an_id_whose_event_may_have_made_a_task_stays_bound(ledger: Ledger, state: dict[str, Any]) -> None:
    """Open, created and finished events, and those whose outcome nobody knows, keep their id."""
    ledger.record(event(**state))

    assert ledger.record(event(order=7)) == (event(**state), False)


def test_an_expired_event_counts_as_absent(ledger: Ledger, ledger_clock: FakeClock) -> None:
    """From `keep_s` after its end it is neither found nor in the way, deleted or not."""
    ledger.record(event(status=Status.FINISHED, task_id="t", settled_s=NOW_S))

    ledger_clock.advance(599)
    before = ledger.event("webhook:r:1")
    ledger_clock.advance(1)

    assert before is not None
    assert ledger.event("webhook:r:1") is None
    assert ledger.events(["webhook:r:1"]) == []
    assert ledger.change_event("webhook:r:1", lambda found: found.model_copy()) is None
    assert ledger.record(event(order=7)) == (event(order=7, sequence=2), True)


def test_a_waiting_event_never_expires(ledger: Ledger, ledger_clock: FakeClock) -> None:
    """However late it is."""
    ledger.record(event())

    ledger_clock.advance(400 * 86_400)

    assert ledger.event("webhook:r:1") == event()


def test_changes_are_not_lost_under_contention(ledger: Ledger) -> None:
    """Eight threads change one event twice each: all sixteen changes are there."""
    ledger.record(event())

    def change_twice(_: int) -> None:
        for _ in range(2):
            ledger.change_event(
                "webhook:r:1", lambda found: found.model_copy(update={"attempts": found.attempts + 1})
            )

    at_once(change_twice)

    changed = ledger.event("webhook:r:1")
    assert changed is not None
    assert changed.attempts == 16


def test_a_change_starts_from_what_others_wrote_meanwhile(ledger: Ledger, ledger_clock: FakeClock) -> None:
    """Whatever this process remembers of the record, and whether or not it would have changed that."""
    other = Ledger(ledger.store, ledger_clock)
    ledger.record(event())
    other.change_event("webhook:r:1", lambda found: found.model_copy(update={"attempts": 7}))

    added = ledger.change_event(
        "webhook:r:1", lambda found: found.model_copy(update={"attempts": found.attempts + 1})
    )
    other.change_event("webhook:r:1", lambda found: found.model_copy(update={"failures": 3}))
    left = ledger.change_event("webhook:r:1", lambda found: found)

    assert added == event(attempts=8)
    assert left == event(attempts=8, failures=3)


def test_what_is_gone_is_not_remembered(ledger: Ledger) -> None:
    """Not even as something to be changed."""
    ledger.record(event())
    row = ledger.store.get(event_key("webhook:r:1"))
    assert row is not None
    ledger.store.delete(row.key, version=row.version)

    changed = ledger.change_event("webhook:r:1", lambda found: found.model_copy(update={"attempts": 1}))

    assert changed is None
    assert ledger.event("webhook:r:1") is None


def test_a_change_that_changes_nothing_writes_nothing(ledger: Ledger) -> None:
    """The version stays, and the event is given back."""
    ledger.record(event())
    before = ledger.store.get(event_key("webhook:r:1"))

    changed = ledger.change_event("webhook:r:1", lambda found: found)

    assert changed == event()
    assert ledger.store.get(event_key("webhook:r:1")) == before


def test_a_routes_events_are_listed_by_when_they_are_due(ledger: Ledger) -> None:
    """Then by age and by order within the delivery; settled ones and other routes' are left out."""
    ledger.record(event("late", received_s=NOW_S + 1))
    ledger.record(event("put-off", due_s=NOW_S + 30.5))
    ledger.record(event("second", order=1))
    ledger.record(event("first", order=0))
    ledger.record(event("ends-first", due_s=NOW_S + 99, give_up_s=NOW_S - 1))
    ledger.record(event("settled", status=Status.CREATED, task_id="t", settled_s=NOW_S))
    ledger.record(event("other", route="s"))
    ledger.record(event("inline", route=None))

    listed = list(ledger.waiting("event/r"))

    assert [found.event_id for found in listed] == ["ends-first", "first", "second", "late", "put-off"]
    assert [found.due_s for found in listed] == [NOW_S - 1, NOW_S, NOW_S, NOW_S, NOW_S + 30.5]
    assert [found.received_s for found in listed] == [NOW_S, NOW_S, NOW_S, NOW_S + 1, NOW_S]
    assert [found.event_id for found in ledger.waiting("event/s")] == ["other"]
    assert [found.event_id for found in ledger.waiting("event/.inline")] == ["inline"]


def test_an_event_that_is_put_off_goes_to_the_end_of_its_queue(ledger: Ledger) -> None:
    """By its due time alone, whatever its age."""
    for name, received_s in (("older", NOW_S - 60), ("newer", NOW_S)):
        ledger.record(event(name, received_s=received_s))

    ledger.change_event("older", lambda found: found.model_copy(update={"due_s": NOW_S + 1}))

    assert [found.event_id for found in ledger.waiting("event/r")] == ["newer", "older"]


def test_something_is_due_where_the_first_of_a_route_is(ledger: Ledger, ledger_clock: FakeClock) -> None:
    """What waits for its backoff does not count, nor do other routes' events."""
    ledger.record(event("later", due_s=NOW_S + 30))
    ledger.record(event("other", route="s"))

    before = [ledger.something_is_due(route) for route in ("r", "s", None)]
    ledger_clock.advance(30)

    assert before == [False, True, False]
    assert ledger.something_is_due("r")


def test_every_queue_that_ever_had_an_event_is_known(ledger: Ledger, ledger_clock: FakeClock) -> None:
    """Also by a route that the file no longer has, and by any process that recorded there."""
    ledger.record(event("a", route="r"))
    Ledger(ledger.store, ledger_clock).record(event("b", route="s"))
    Ledger(ledger.store, ledger_clock).record(event("c", route="r"))
    ledger.record(event("d", route=None))

    assert ledger.taken(()).queues == ("event/r", "event/s", "event/.inline")


def test_eight_new_routes_at_once_are_all_known(ledger: Ledger, ledger_clock: FakeClock) -> None:
    """Each from a process of its own."""
    at_once(lambda n: Ledger(ledger.store, ledger_clock).record(event(f"e{n}", route=f"r{n}")))

    assert sorted(ledger.taken(()).queues) == [f"event/r{n}" for n in range(8)]


@pytest.mark.parametrize("body", ["{", "[]", '{"format": 2, "queues": 7}'])
def test_damaged_names_of_queues_stop_no_event(ledger: Ledger, ledger_clock: FakeClock, body: str) -> None:
    """The next process that records something writes them again."""
    ledger.record(event("a"))
    overwritten(ledger.store, ROUTES_KEY, body)

    assert ledger.taken(()).queues == ()
    assert Ledger(ledger.store, ledger_clock).record(event("b"))[1]
    assert ledger.taken(()).queues == ("event/r",)


def test_a_record_over_200_kb_is_refused(ledger: Ledger) -> None:
    """Before anything is written; what is there stays as it is."""
    large = REQUEST.model_copy(update={"param": {"a": "x" * 200_000}})
    fits = REQUEST.model_copy(update={"param": {"a": "x" * 199_000}})
    ledger.record(event("there"))

    with pytest.raises(RecordTooLarge):
        ledger.record(event("new", request=large))
    with pytest.raises(RecordTooLarge):
        ledger.change_event("there", lambda found: found.model_copy(update={"request": large}))

    assert ledger.event("new") is None
    assert ledger.event("there") == event("there")
    assert ledger.record(event("fits", request=fits))[1]
    assert ledger.event("fits") == event("fits", request=fits)


# -- results of an id -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("end", "later_s"),
    [
        ({"status": Status.REJECTED, "settled_s": NOW_S}, 0),
        ({"status": Status.FINISHED, "task_id": "t", "settled_s": NOW_S}, 601),
    ],
    ids=["freed", "expired"],
)
def test_results_of_an_id_are_counted_on(
    ledger: Ledger, ledger_clock: FakeClock, end: dict[str, Any], later_s: float
) -> None:
    """Where an id is back while its record is still there, its results go on; else they begin with one."""
    first, _ = ledger.record(event())
    ledger.change_event("webhook:r:1", lambda found: found.moved(NOW_S, end))
    ledger_clock.advance(later_s)

    again, is_new = ledger.record(event(instance="second"))

    assert (first.sequence, again.sequence, is_new) == (1, 3, True)
    assert ledger.event("webhook:r:1") == event(instance="second", sequence=3)


def test_a_move_that_tells_nothing_new_is_no_result(ledger: Ledger) -> None:
    """It stands in the history all the same, of which the last twenty are kept."""
    ledger.record(event())

    for n in range(30):
        ledger.change_event("webhook:r:1", partial(Event.moved, at_s=NOW_S + n, update={"due_s": NOW_S + n}))

    moved = ledger.event("webhook:r:1")
    assert moved is not None
    assert moved.sequence == 1
    assert [one.at_s for one in moved.history] == [NOW_S + n for n in range(30)][-MOST_HAPPENINGS:]


# -- lanes --------------------------------------------------------------------------------------


def test_a_lane_has_one_holder(ledger: Ledger) -> None:
    """Of eight that take it at once one gets it, its call with it; it is free once that one releases it."""
    taken = at_once(lambda n: ledger.take_lane(lane(f"call-{n}")))

    holders = [kept for kept in taken if kept]
    assert len(holders) == 1
    assert lanes(ledger) == holders
    ledger.release_lane(holders[0])
    assert lanes(ledger) == []
    assert ledger.take_lane(lane("next")) is not None


def test_lanes_of_other_types_are_free(ledger: Ledger) -> None:
    """Each type has its own, and only those asked for are listed."""
    first, second = (ledger.take_lane(lane(task_type=name)) for name in ("IMAGE_SCAN", "VUL_CHECK_TASK"))

    assert ledger.taken(["VUL_CHECK_TASK", "CLIENT_DEV_OPS"]).lanes == [second]
    assert ledger.lane("IMAGE_SCAN") == first
    assert ledger.lane("CLIENT_DEV_OPS") is None


def test_a_taken_lane_does_not_free_itself(ledger: Ledger, ledger_clock: FakeClock) -> None:
    """What was perhaps sent must be settled or searched for first, however long that takes."""
    held = ledger.take_lane(lane("died"))

    ledger_clock.advance(86_400)

    assert ledger.take_lane(lane("other")) is None
    assert lanes(ledger) == [held]


def test_a_lane_is_changed_and_released_by_who_read_it_last(ledger: Ledger) -> None:
    """A process that comes back after its lane was taken over neither writes to it nor frees it."""
    asleep = ledger.take_lane(lane())
    assert asleep is not None
    taken_over = ledger.change_lane(asleep, holder="another", claim_ends_s=NOW_S + 99)

    late = ledger.change_lane(asleep, call=call(answer=Answer(outcome=Outcome.CREATED, task_id="t")))
    ledger.release_lane(asleep)

    assert late is None
    assert lanes(ledger) == [taken_over]


def test_a_call_is_its_lanes_and_keeps_its_answer(ledger: Ledger) -> None:
    """What is written on the call is read by the next sweep as it was written."""
    answer = Answer(outcome=Outcome.CREATED, task_id="t")
    taken = ledger.take_lane(lane())
    assert taken is not None

    answered = ledger.change_lane(taken, call=call(answer=answer, retry_s=None))

    assert lanes(ledger) == [answered]
    assert answered is not None
    assert answered.record.call == call(answer=answer)
    assert not answered.record.is_unresolved


# -- calls without an answer, and tasks -----------------------------------------------------------


def test_a_lost_call_is_kept_once(ledger: Ledger) -> None:
    """Done again after a death, it is what the first one wrote."""
    ledger.keep_lost_call(lost_call())
    ledger.keep_lost_call(lost_call(closed_s=NOW_S + 9))

    assert ledger.lost_calls(["call-1", "call-2"]).records == [lost_call()]


def test_a_lost_call_is_remembered_long_after_its_events_have_ended(
    ledger: Ledger, ledger_clock: FakeClock
) -> None:
    """Its task may show late, and must be known as ours."""
    ledger.keep_lost_call(lost_call())

    ledger_clock.advance(60 + KEPT_S - 1)
    before = ledger.lost_calls(["call-1"]).records
    ledger_clock.advance(1)

    assert before == [lost_call()]
    assert ledger.lost_calls(["call-1"]).records == []


def test_a_watched_call_is_among_what_runs_while_it_is_watched(ledger: Ledger) -> None:
    """From when its events were sent again until nobody searches for its task any more."""
    ledger.keep_lost_call(lost_call())
    before = watched(ledger)
    ledger.change_lost_call("call-1", lambda kept: kept.model_copy(update={"watched_until_s": NOW_S + 9}))
    while_watched = watched(ledger)
    ledger.change_lost_call("call-1", lambda kept: kept.model_copy(update={"watched_until_s": None}))

    assert (before, while_watched, watched(ledger)) == ([], [lost_call(watched_until_s=NOW_S + 9)], [])


def test_a_task_belongs_to_the_first_call_that_claims_it(ledger: Ledger) -> None:
    """Of eight that claim it at once one gets it, and all are told of that one."""
    records = at_once(lambda n: ledger.claim_task(task(call_id=f"call-{n}")))

    assert len({record.call_id for record in records}) == 1
    assert ledger.task("task-1") == records[0]
    assert ledger.task("task-2") is None


def test_a_candidate_is_held_from_other_candidates_and_from_no_answer(ledger: Ledger) -> None:
    """What is only perhaps a call's belongs to the call whose answer names it, and then for good."""
    claimed = [
        ledger.claim_task(task(call_id="one", is_candidate=True)).call_id,
        ledger.claim_task(task(call_id="two", is_candidate=True)).call_id,
        ledger.claim_task(task(call_id="three")).call_id,
        ledger.claim_task(task(call_id="four")).call_id,
        ledger.claim_task(task(call_id="five", is_candidate=True)).call_id,
    ]

    assert claimed == ["one", "one", "three", "three", "three"]


def test_running_tasks_are_listed_oldest_first_until_they_have_ended(
    ledger: Ledger, ledger_clock: FakeClock
) -> None:
    """Candidates are followed by nobody; one that has ended stays known for a week."""
    ledger.claim_task(task("newer", since_s=NOW_S + 1))
    ledger.claim_task(task("older"))
    ledger.claim_task(task("ended"))
    ledger.claim_task(task("candidate", is_candidate=True))
    ledger.change_task("ended", lambda kept: kept.model_copy(update={"ended_s": NOW_S}))

    assert [found.task_id for found in running(ledger)] == ["older", "newer"]
    assert ledger.task("ended") == task("ended", ended_s=NOW_S)
    ledger_clock.advance(KEPT_S)
    assert ledger.task("ended") is None
    assert [found.task_id for found in running(ledger)] == ["older", "newer"]


# -- the sweep's lease ------------------------------------------------------------------------


def test_one_sweep_has_the_lease(ledger: Ledger, ledger_clock: FakeClock) -> None:
    """Of eight processes that take it at once one gets it; it is free once that one releases it."""
    processes = [Ledger(ledger.store, ledger_clock) for _ in range(8)]
    taken = at_once(lambda n: processes[n].take_lease(NOW_S + 55))

    holders = [lease for lease in taken if lease]
    assert len(holders) == 1
    ledger.release_lease(holders[0])
    assert ledger.take_lease(NOW_S + 55) is not None


def test_a_lease_that_was_never_released_ends_by_itself(ledger: Ledger, ledger_clock: FakeClock) -> None:
    """Its holder died; if it comes back after all, it takes nothing from its successor."""
    dead = ledger.take_lease(NOW_S + 55)

    ledger_clock.advance(54)
    early = ledger.take_lease(NOW_S + 109)
    ledger_clock.advance(1)
    late = ledger.take_lease(NOW_S + 110)

    assert dead is not None
    assert early is None
    assert late is not None
    ledger.release_lease(dead, turns={"event/r": 1.0})
    assert ledger.take_lease(NOW_S + 110) is None
    assert ledger.lease().record.turns == {}


def test_a_sweep_tells_the_next_whose_turn_was_when(ledger: Ledger, ledger_clock: FakeClock) -> None:
    """Turns, full routes and the task that was followed last; also by a process that only reads."""
    lease = ledger.take_lease(NOW_S + 55)
    assert lease is not None
    tells = {"turns": {"event/r": NOW_S, "event/s": NOW_S - 9}, "full_routes": ("r",), "followed_to": "t"}

    ledger.release_lease(lease, **tells)

    other = Ledger(ledger.store, ledger_clock)
    later = other.take_lease(NOW_S + 99)
    assert later is not None
    assert later.record.model_dump(include=set(tells)) == tells
    assert [other.is_full(route) for route in ("r", "s")] == [True, False]


def test_a_process_learns_within_a_minute_that_a_route_is_full_no_longer(
    ledger: Ledger, ledger_clock: FakeClock
) -> None:
    """It asks the ledger once a minute."""
    lease = ledger.take_lease(NOW_S + 55)
    assert lease is not None
    ledger.release_lease(lease, full_routes=("r",))
    was_full = ledger.is_full("r")
    again = Ledger(ledger.store, ledger_clock).take_lease(NOW_S + 55)
    assert again is not None
    ledger.release_lease(again, full_routes=())

    ledger_clock.advance(60)

    assert was_full
    assert not ledger.is_full("r")


def test_a_damaged_lease_stops_no_sweep(ledger: Ledger, ledger_clock: FakeClock) -> None:
    """It is written as a new one: turns are forgotten, and nothing else."""
    lease = ledger.take_lease(NOW_S + 55)
    assert lease is not None
    overwritten(ledger.store, LEASE_KEY, "{")

    taken = Ledger(ledger.store, ledger_clock).take_lease(NOW_S + 55)

    assert taken is not None
    assert taken.record.turns == {}


# -- damage, newer versions and signed bytes ------------------------------------------------------


@pytest.mark.parametrize("body", ["", "{", '{"format": 2}', "[]", NEWER])
def test_a_damaged_record_is_named_and_stops_nothing_else(ledger: Ledger, body: str) -> None:
    """Reading it says which one it is; lists and other records go on."""
    ledger.record(event("good"))
    ledger.record(event("bad"))
    overwritten(ledger.store, event_key("bad"), body)

    with pytest.raises(DamagedRecord) as raised:
        ledger.event("bad")

    assert raised.value.key == "event/bad"
    assert ledger.events(["bad", "good"]) == [event("good")]
    assert ledger.read_events(["bad", "good"]) == Read([event("good")], ["event/bad"])
    assert [found.event_id for found in waiting(ledger)] == ["bad", "good"]
    assert ledger.event("good") == event("good")


def test_a_damaged_record_is_set_aside_once(ledger: Ledger) -> None:
    """It leaves its queue and stays as it is; who comes second is told so."""
    ledger.record(event("bad"))
    overwritten(ledger.store, event_key("bad"), "{")

    set_aside = [ledger.set_aside("event/bad"), ledger.set_aside("event/bad"), ledger.set_aside("event/no")]

    stored = ledger.store.get(event_key("bad"))
    assert set_aside == [True, False, False]
    assert waiting(ledger) == []
    assert stored is not None
    assert stored.body == "{"


def test_damaged_tasks_and_lost_calls_are_named_and_set_aside(ledger: Ledger) -> None:
    """The others that run are followed."""
    ledger.claim_task(task("good"))
    ledger.claim_task(task("bad"))
    ledger.keep_lost_call(lost_call("bad", watched_until_s=NOW_S + 9))
    for key in (task_key("bad"), call_key("bad")):
        overwritten(ledger.store, key, "{")

    tasks, calls = ledger.running()

    assert tasks == Read([task("good")], ["task/bad"])
    assert calls == Read([], ["call/bad"])
    assert [ledger.set_aside(key) for key in ("task/bad", "call/bad")] == [True, True]
    assert ledger.running() == (Read([task("good")], []), Read([], []))


def test_a_damaged_lane_is_taken_by_nobody_until_it_is_dropped(ledger: Ledger) -> None:
    """Once; a lane that can be read is dropped by nobody."""
    ledger.take_lane(lane())
    key = lane_key(REQUEST.task_type)
    readable = ledger.drop_damaged_lane(key)
    overwritten(ledger.store, key, "{")

    assert not readable
    assert ledger.take_lane(lane("other")) is None
    assert ledger.taken([REQUEST.task_type]).damaged_keys == [key]
    assert [ledger.drop_damaged_lane(key), ledger.drop_damaged_lane(key)] == [True, False]
    assert ledger.take_lane(lane("other")) is not None


def test_a_newer_versions_records_are_left_as_they_are(ledger: Ledger, ledger_clock: FakeClock) -> None:
    """Named like damaged ones, but neither set aside, dropped nor written over: old and new functions run
    side by side during a deployment.
    """
    ledger.record(event("e"))
    ledger.take_lane(lane())
    ledger.claim_task(task("t"))
    ledger.keep_lost_call(lost_call("c", watched_until_s=NOW_S + 9))
    assert ledger.delivery_of_signed_bytes("r", "00ff", "one", NOW_S + 600, bool) == "one"
    keys = [event_key("e"), lane_key(REQUEST.task_type), task_key("t"), call_key("c"), "signed/r/00ff"]
    written = [overwritten(ledger.store, key, NEWER) for key in (*keys, ROUTES_KEY)]
    other = Ledger(ledger.store, ledger_clock)

    assert not any(other.set_aside(key) for key in keys)
    assert not other.drop_damaged_lane(lane_key(REQUEST.task_type))
    assert other.take_lane(lane("other")) is None
    for write in (
        lambda: other.record(event("e")),
        lambda: other.keep_lost_call(lost_call("c")),
    ):
        with pytest.raises(DamagedRecord):
            write()
    assert other.claim_task(task("t", "other")).call_id == NOT_OURS
    assert other.delivery_of_signed_bytes("r", "00ff", "two", NOW_S + 600, bool) == "two"
    assert all(other.is_newer(key) for key in keys)

    assert [ledger.store.get(row.key) for row in written] == written


def test_a_sweep_goes_on_beside_a_newer_versions_lease(ledger: Ledger, ledger_clock: FakeClock) -> None:
    """Without one of its own: a version that was rolled back must not stop all sweeps."""
    lease = ledger.take_lease(NOW_S + 9)
    assert lease is not None
    newer = overwritten(ledger.store, LEASE_KEY, NEWER)
    other = Ledger(ledger.store, ledger_clock)

    taken = other.take_lease(NOW_S + 60)
    assert taken is not None
    other.release_lease(taken, turns={"event/r": NOW_S})

    assert ledger.store.get(LEASE_KEY) == newer


def test_an_event_is_recorded_beside_a_newer_versions_names_of_queues(
    ledger: Ledger, ledger_clock: FakeClock
) -> None:
    """Nothing is lost during a deployment: each sweep knows the queues of its own routes file anyway."""
    ledger.record(event("a"))
    written = overwritten(ledger.store, ROUTES_KEY, NEWER)

    _, is_new = Ledger(ledger.store, ledger_clock).record(event("b"))

    assert is_new
    assert ledger.store.get(ROUTES_KEY) == written
    assert ledger.taken(()).queues == ()
    assert [found.event_id for found in ledger.waiting("event/r")] == ["a", "b"]


def delivered(
    ledger: Ledger, delivery_id: str, *bound: str, route: str = "r", ends_s: float = NOW_S + 1200
) -> str:
    """The delivery that signed bytes count for that come with this id, while those ids are bound."""
    return ledger.delivery_of_signed_bytes(route, "00ff", delivery_id, ends_s, lambda known: known in bound)


def test_signed_bytes_count_for_the_id_that_they_came_with_as_long_as_it_is_bound(
    ledger: Ledger, ledger_clock: FakeClock
) -> None:
    """A route's bytes are its own; once the id is bound no more, they count for the next one."""
    first = delivered(ledger, "one")
    ledger_clock.advance(61)

    again = delivered(ledger, "two", "one")
    freed = delivered(ledger, "three")

    assert (first, again, freed, delivered(ledger, "four", route="other")) == ("one", "one", "three", "four")


def test_signed_bytes_are_remembered_as_long_as_their_id_is_bound_anew(
    ledger: Ledger, ledger_clock: FakeClock
) -> None:
    """An id that came again once it was free: under another id the bytes are still its own."""
    delivered(ledger, "one", ends_s=NOW_S + 1200)
    ledger_clock.advance(1100)
    delivered(ledger, "one", ends_s=NOW_S + 10_000)
    ledger_clock.advance(4000)

    assert delivered(ledger, "two", "one") == "one"


def test_an_id_counts_as_bound_until_its_events_must_have_been_recorded(
    ledger: Ledger, ledger_clock: FakeClock
) -> None:
    """Two deliveries of the same bytes at one moment: the first one's events may still be on their way."""
    delivered(ledger, "one")
    ledger_clock.advance(59)

    assert delivered(ledger, "two") == "one"
