"""What every ledger promises, whatever keeps its rows: memory, a SQLite file, or DynamoDB (two of them)."""

import itertools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from oncetask.errors import Code, DamagedRecord, Kind
from oncetask.ledger.ledger import Ledger, Read
from oncetask.ledger.records import Ask, Event, Place, event_key
from oncetask.ledger.store import Row, Store
from oncetask.models import Answer, ErrorInfo, Outcome, Status, TaskRequest, Trigger
from tests.clocks import NOW_S, FakeClock

REQUEST = TaskRequest(
    task_type="CLIENT_PROBLEM_CHECK",
    task_name="check",
    param={"mode": 1, "problemType": "offline", "uuids": "inet-1"},
    source="oncetask",
)
EXPIRED = ErrorInfo(kind=Kind.OPERATOR, code=Code.EXPIRED, message="waited too long")
LOST = ErrorInfo(kind=Kind.OPERATOR, code=Code.OUTCOME_UNKNOWN, message="nobody knows")
ROW = Row(key="event/a", version="1", open="2026", expires_s=None, body="{}")


def event(event_id: str = "webhook:r:1", **fields: Any) -> Event:  # noqa: ANN401 - any field of an event
    """An event that was just accepted."""
    given = {
        "status": Status.PENDING,
        "trigger": Trigger.WEBHOOK,
        "route": "r",
        "item_sha256": None,
        "request": REQUEST,
        "submit": "now",
        "order": 0,
        "received_s": NOW_S,
        "due_s": NOW_S,
        "give_up_s": NOW_S + 604_800,
        "keep_s": 600,
    }
    return Event(event_id=event_id, **(given | fields))


def ask(ask_id: str = "ask-1", **fields: Any) -> Ask:  # noqa: ANN401 - any field of an ask
    """An ask that was just sent."""
    given = {
        "request": REQUEST,
        "event_ids": ("webhook:r:1",),
        "attempts_before": (0,),
        "first_sent_s": NOW_S,
        "last_sent_s": NOW_S,
        "claim": "claim-1",
        "claim_ends_s": NOW_S + 12,
    }
    return Ask(ask_id=ask_id, **(given | fields))


def place(ask_id: str = "ask-1", claim_ends_s: float = NOW_S + 12) -> Place:
    """The place of the one task type, for that ask."""
    return Place(task_type=REQUEST.task_type, ask_id=ask_id, claim_ends_s=claim_ends_s)


def at_once[T](work: Callable[[int], T], workers: int = 8) -> list[T]:
    """What that many threads give, each called with its number."""
    with ThreadPoolExecutor(workers) as threads:
        return list(threads.map(work, range(workers)))


# -- rows: what a store promises --------------------------------------------------------------


def test_a_row_is_read_as_it_was_written(store: Store) -> None:
    """Every field comes back, whether it is there or not."""
    rows = [ROW, Row(key="event/b", version="2", open=None, expires_s=1_900_000_000, body="[1]")]

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
    newer = Row(key=ROW.key, version="2", open=None, expires_s=None, body="newer")

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
    assert list(store.open_keys("event")) == []


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
        store.put(ROW._replace(key=key, open=None, body=key[-1] * 300_000), replacing=None)

    rows = store.get_many(keys)

    assert [row.key for row in rows] == keys
    assert all(row.body == row.key[-1] * 300_000 for row in rows)


@pytest.mark.parametrize("text", ["räksmörgås/東京 🐙", "a'\"\\b\n|#:,;%", "x" * 512, "\x00\x7f"])
def test_any_text_is_a_key_and_a_body(store: Store, text: str) -> None:
    """Keys and bodies are kept letter by letter, and are found in the index."""
    row = Row(key=f"event/{text}", version="1", open="2026", expires_s=None, body=text)

    store.put(row, replacing=None)

    assert store.get(row.key) == row
    assert store.get_many([row.key]) == [row]
    assert list(store.open_keys("event")) == [("2026", row.key)]


def test_open_rows_are_listed_oldest_first_and_by_kind(store: Store) -> None:
    """Sorted by `open`, then by key, whatever the order of writing; other kinds and closed rows left out."""
    opens = {"d": "3", "c": "1", "b": "2", "a": "2", "e": None, "f": "2"}
    for name, mark in opens.items():
        store.put(ROW._replace(key=f"event/{name}", open=mark), replacing=None)
    store.put(ROW._replace(key="ask/z", open="0"), replacing=None)

    listed = list(store.open_keys("event"))

    assert listed == [("1", "event/c"), *(("2", f"event/{name}") for name in "abf"), ("3", "event/d")]
    assert list(store.open_keys("ask")) == [("0", "ask/z")]
    assert list(store.open_keys("place")) == []


def test_a_closed_row_leaves_the_index_and_a_changed_one_moves(store: Store) -> None:
    """The index follows every write."""
    for name in "abc":
        store.put(ROW._replace(key=f"event/{name}", open=name), replacing=None)

    store.put(Row("event/a", "2", None, 1_900_000_000, ""), replacing="1")
    store.put(Row("event/b", "2", "z", None, ""), replacing="1")

    assert list(store.open_keys("event")) == [("c", "event/c"), ("z", "event/b")]


def test_thousands_of_open_rows_are_listed_in_order_and_lazily(store: Store) -> None:
    """2,100 rows, more than any page; what is written behind the point that was reached is listed too."""
    for n in reversed(range(2100)):
        store.put(ROW._replace(key=f"event/{n}", open=f"{n:05d}"), replacing=None)

    listing = store.open_keys("event")
    first = list(itertools.islice(listing, 10))
    store.put(ROW._replace(key="event/late", open="99999"), replacing=None)
    rest = list(listing)

    assert [*first, *rest] == [*((f"{n:05d}", f"event/{n}") for n in range(2100)), ("99999", "event/late")]


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

    assert recorded == (event(order=7), True)
    assert ledger.event("webhook:r:1") == event(order=7)


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
    assert ledger.record(event(order=7)) == (event(order=7), True)


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


def test_waiting_events_are_listed_oldest_first(ledger: Ledger) -> None:
    """By age, then by order within the delivery; settled ones are left out."""
    ledger.record(event("late", received_s=NOW_S + 1))
    ledger.record(event("second", order=1, due_s=NOW_S + 30.5))
    ledger.record(event("first", order=0))
    ledger.record(event("settled", status=Status.CREATED, task_id="t", settled_s=NOW_S))

    waiting = list(ledger.waiting())

    assert [found.event_id for found in waiting] == ["first", "second", "late"]
    assert [found.received_s for found in waiting] == [NOW_S, NOW_S, NOW_S + 1]
    assert [found.due_s for found in waiting] == [NOW_S, NOW_S + 30.5, NOW_S]
    assert {found.task_type for found in waiting} == {REQUEST.task_type}
    assert [found.event_id for found in ledger.oldest_open_events(2).records] == ["first", "second"]


# -- places and asks --------------------------------------------------------------------------


def test_a_place_has_one_holder(ledger: Ledger) -> None:
    """Of eight that take it at once one gets it; it is free once that one gives it back."""
    taken = at_once(lambda n: ledger.take_place(place(f"ask-{n}")))

    holders = [kept for kept in taken if kept]
    assert len(holders) == 1
    assert ledger.places() == holders
    ledger.give_place_back(holders[0])
    assert ledger.places() == []
    assert ledger.take_place(place("next")) is not None


def test_a_place_whose_ask_was_never_recorded_is_free_after_its_claim(
    ledger: Ledger, ledger_clock: FakeClock
) -> None:
    """Its holder died before it asked; until its claim ends nobody can know."""
    ledger.take_place(place("died"))

    early = ledger.take_place(place("early"))
    ledger_clock.advance(12)
    late = ledger.take_place(place("late", claim_ends_s=NOW_S + 24))

    assert early is None
    assert late is not None
    assert [kept.record.ask_id for kept in ledger.places()] == ["late"]


def test_a_place_whose_ask_is_recorded_is_kept(ledger: Ledger, ledger_clock: FakeClock) -> None:
    """What was perhaps asked must be settled or looked for first, however long that takes."""
    ledger.take_place(place("ask-1"))
    ledger.record_ask(ask("ask-1"))

    ledger_clock.advance(86_400)

    assert ledger.take_place(place("other")) is None


def test_a_place_is_given_back_by_its_holder_alone(ledger: Ledger, ledger_clock: FakeClock) -> None:
    """A process that comes back after its place was taken over does not free it for a third."""
    dead = ledger.take_place(place("died"))
    ledger_clock.advance(12)
    ledger.take_place(place("late", claim_ends_s=NOW_S + 24))

    assert dead is not None
    ledger.give_place_back(dead)

    assert [kept.record.ask_id for kept in ledger.places()] == ["late"]


def test_open_asks_are_those_in_flight_lost_or_running(ledger: Ledger) -> None:
    """Oldest first; an ask that made no task, or whose task has ended, is still known but not open."""
    created = Answer(outcome=Outcome.CREATED, task_id="t")
    ledger.record_ask(ask("running", first_sent_s=NOW_S + 1))
    ledger.record_ask(ask("refused"))
    ledger.record_ask(ask("in-flight"))

    ledger.change_ask("running", lambda found: found.model_copy(update={"answer": created}))
    ledger.change_ask("refused", lambda found: found.model_copy(update={"ended_s": NOW_S}))

    assert [found.ask_id for found in ledger.open_asks().records] == ["in-flight", "running"]
    assert ledger.ask("refused") is not None


def test_a_task_belongs_to_the_first_ask_that_claims_it(ledger: Ledger) -> None:
    """Of eight that claim it at once one gets it, and all are told of that one."""
    owners = at_once(lambda n: ledger.own_task("task-1", f"ask-{n}"))

    assert len({owner.ask_id for owner in owners}) == 1
    assert ledger.task_owner("task-1") == owners[0]
    assert ledger.task_owner("task-2") is None


# -- the sweep's lease ------------------------------------------------------------------------


def test_one_sweep_has_the_lease(ledger: Ledger) -> None:
    """Of eight that take it at once one gets it; it is free once that one gives it back."""
    taken = at_once(lambda _: ledger.take_lease(int(NOW_S) + 55))

    holders = [lease for lease in taken if lease]
    assert len(holders) == 1
    ledger.give_lease_back(holders[0])
    assert ledger.take_lease(int(NOW_S) + 55) is not None


def test_a_lease_that_was_never_given_back_ends_by_itself(ledger: Ledger, ledger_clock: FakeClock) -> None:
    """Its holder died; if it comes back after all, it takes nothing from its successor."""
    dead = ledger.take_lease(int(NOW_S) + 55)

    ledger_clock.advance(54)
    early = ledger.take_lease(int(NOW_S) + 109)
    ledger_clock.advance(1)
    late = ledger.take_lease(int(NOW_S) + 110)

    assert dead is not None
    assert early is None
    assert late is not None
    ledger.give_lease_back(dead)
    assert ledger.take_lease(int(NOW_S) + 110) is None


# -- damage and signatures --------------------------------------------------------------------


@pytest.mark.parametrize("body", ["", "{", '{"format": 2}', "[]"])
def test_a_damaged_record_is_named_and_stops_nothing_else(ledger: Ledger, body: str) -> None:
    """Reading it says which one it is; lists and other records go on."""
    ledger.record(event("good"))
    ledger.record(event("bad"))
    kept = ledger.store.get(event_key("bad"))

    assert kept is not None
    ledger.store.put(kept._replace(version="x", body=body), replacing=kept.version)

    with pytest.raises(DamagedRecord) as raised:
        ledger.event("bad")
    assert raised.value.key == "event/bad"
    assert ledger.events(["bad", "good"]) == [event("good")]
    assert [found.event_id for found in ledger.waiting()] == ["bad", "good"]
    assert ledger.oldest_open_events(10) == Read([event("good")], ["event/bad"])
    assert ledger.event("good") == event("good")


def test_a_damaged_record_is_set_aside_once(ledger: Ledger) -> None:
    """It leaves the lists and stays as it is; who comes second is told so."""
    ledger.record(event("bad"))
    kept = ledger.store.get(event_key("bad"))
    assert kept is not None
    ledger.store.put(kept._replace(version="x", body="{"), replacing=kept.version)

    set_aside = [ledger.set_aside("event/bad"), ledger.set_aside("event/bad"), ledger.set_aside("event/no")]

    stored = ledger.store.get(event_key("bad"))
    assert set_aside == [True, False, False]
    assert list(ledger.waiting()) == []
    assert stored is not None
    assert stored.body == "{"


def test_a_signature_stays_with_its_first_delivery(ledger: Ledger, ledger_clock: FakeClock) -> None:
    """Within `keep_s` the same signature leads to the first id; after that it is new."""
    first = ledger.first_delivery("r", "00ff", "one", keep_s=600)
    ledger_clock.advance(599)
    again = ledger.first_delivery("r", "00ff", "two", keep_s=600)
    ledger_clock.advance(1)
    later = ledger.first_delivery("r", "00ff", "three", keep_s=600)

    assert (first, again, later) == ("one", "one", "three")
    assert ledger.first_delivery("other", "00ff", "four", keep_s=600) == "four"
