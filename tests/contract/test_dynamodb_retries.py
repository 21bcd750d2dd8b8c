"""How the DynamoDB ledger bears a service that throttles, fails, hangs up or refuses."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from random import Random

import pytest

from local.aws_servers import free_port
from oncetask.errors import LedgerUnavailable
from oncetask.ledger.dynamodb import LIMIT_S, PASSING, TRIES, DynamoDbStore
from oncetask.ledger.store import Row
from tests.clocks import FakeClock
from tests.contract.scripted_aws import HangsUp, IsSilent, Says, Script, Step, error, ok, scripted

ROW = Row(key="event/a", version="mine", queue=None, due=None, expires_s=None, body="{}")
REFUSED = error("ConditionalCheckFailedException", message="The conditional request failed")
FAILED = error("InternalServerError", 500)
THROTTLED = error("ThrottlingException")


def found(version: str = "mine") -> Says:
    """GetItem's answer: a row of that version."""
    row = {"key": {"S": ROW.key}, "version": {"S": version}, "body": {"S": "{}"}}
    return ok({"Item": row})


class Slowest(Random):
    """Full jitter at its longest."""

    def random(self) -> float:
        """The largest number below one."""
        return 1 - 2**-53


@contextmanager
def dynamodb(*steps: Step, read_timeout_s: float = 5.0) -> Iterator[tuple[DynamoDbStore, Script, FakeClock]]:
    """A store whose service follows the script."""
    with scripted(*steps) as script:
        clock = FakeClock()
        store = DynamoDbStore(
            script.service(clock, read_timeout_s=read_timeout_s), "events", clock, Slowest()
        )
        yield store, script, clock


@pytest.mark.parametrize("code", sorted(PASSING))
def test_what_passes_is_tried_again_after_a_wait(code: str) -> None:
    """A throttled write is repeated, later each time, and holds."""
    with dynamodb(error(code), error(code), ok()) as (store, script, clock):
        written = store.put(ROW, replacing=None)

    assert written
    assert script.asked == ["PutItem"] * 3
    assert clock.elapsed_s() == pytest.approx(0.05 + 0.1)


def test_a_throttled_write_that_is_then_refused_was_never_ours() -> None:
    """Throttling leaves no doubt, so nothing is read: the row is another's."""
    with dynamodb(THROTTLED, REFUSED) as (store, script, _):
        written = store.put(ROW, replacing=None)

    assert not written
    assert script.asked == ["PutItem", "PutItem"]


@pytest.mark.parametrize(
    "doubt",
    [FAILED, Says(502, b"<html>Bad Gateway</html>"), Says(200, b"<html>"), HangsUp(), IsSilent()],
    ids=["500", "502 without a code", "200 unreadable", "hung up", "silent"],
)
def test_a_write_that_was_applied_without_an_answer_has_succeeded(doubt: Step) -> None:
    """Repeated, it is refused because its own version is there already."""
    with dynamodb(doubt, REFUSED, found("mine"), read_timeout_s=0.2) as (store, script, _):
        written = store.put(ROW, replacing=None)

    assert written
    assert script.asked == ["PutItem", "PutItem", "GetItem"]
    assert b'"ConsistentRead":true' in script.bodies[2]


@pytest.mark.parametrize("there", [found("another's"), ok()], ids=["another's", "no row"])
def test_a_write_in_doubt_that_meets_another_version_is_refused(there: Says) -> None:
    """What is there is not what was written."""
    with dynamodb(FAILED, REFUSED, there) as (store, _, _):
        written = store.put(ROW, replacing="before")

    assert not written


@pytest.mark.parametrize(
    ("there", "deleted"), [(ok(), True), (found("mine"), False)], ids=["gone", "still there"]
)
def test_a_delete_in_doubt_has_succeeded_if_the_row_is_gone(there: Says, *, deleted: bool) -> None:
    """Repeated, it finds nothing to delete; a row that is there was not deleted."""
    with dynamodb(FAILED, REFUSED, there) as (store, script, _):
        result = store.delete(ROW.key, version="old")

    assert result is deleted
    assert script.asked == ["DeleteItem", "DeleteItem", "GetItem"]


def test_a_refusal_at_the_first_try_is_final() -> None:
    """Nothing is in doubt, so nothing is read."""
    with dynamodb(REFUSED, REFUSED) as (store, script, clock):
        written, deleted = store.put(ROW, replacing=None), store.delete(ROW.key, version="1")

    assert not written
    assert not deleted
    assert script.asked == ["PutItem", "DeleteItem"]
    assert clock.elapsed_s() == 0


@pytest.mark.parametrize(
    "steps",
    [(replace(found(), then_closes=True), found()), (found(), HangsUp(), found())],
    ids=["closed before the next call", "closed by the next call"],
)
def test_an_idle_connection_that_was_closed_is_opened_anew_at_once(steps: tuple[Step, ...]) -> None:
    """The next call finds another connection and waits for nothing."""
    with dynamodb(*steps) as (store, script, clock):
        rows = [store.get(ROW.key), store.get(ROW.key)]

    assert rows == [ROW, ROW]
    assert script.connections[0] != script.connections[-1]
    assert clock.elapsed_s() == 0


def test_one_connection_serves_every_call() -> None:
    """Refusals and misses leave it open."""
    with dynamodb(ok(), REFUSED, THROTTLED, found()) as (store, script, _):
        store.get(ROW.key)
        store.put(ROW, replacing=None)
        store.get(ROW.key)

    assert len(set(script.connections)) == 1


def test_patience_ends() -> None:
    """After six tries the ledger is unavailable; the code is the service's last one."""
    with dynamodb(*[THROTTLED] * TRIES) as (store, _, clock), pytest.raises(LedgerUnavailable) as raised:
        store.put(ROW, replacing=None)

    assert raised.value.code == "ThrottlingException"
    assert clock.elapsed_s() == pytest.approx(0.05 + 0.1 + 0.2 + 0.4 + 0.8)


class TwoSecondsACall(FakeClock):
    """Every signing, and so every try, takes two seconds."""

    def now_s(self) -> float:
        """The wall clock, two seconds later each time."""
        self.advance(2)
        return super().now_s()


def test_patience_ends_sooner_where_every_try_is_slow() -> None:
    """No try begins more than five seconds after the first: of two-second tries there are three."""
    clock = TwoSecondsACall()

    with scripted(*[FAILED] * 3) as script, pytest.raises(LedgerUnavailable):
        DynamoDbStore(script.service(clock), "events", clock, Slowest()).get(ROW.key)

    assert script.asked == ["GetItem"] * 3


def test_an_unreachable_service_makes_the_ledger_unavailable_in_time() -> None:
    """Nobody listens: tried again, then given up within the limit, with a word on what to check."""
    clock = FakeClock()
    nobody = Script(f"http://127.0.0.1:{free_port()}", [])
    store = DynamoDbStore(nobody.service(clock), "events", clock, Slowest())

    with pytest.raises(LedgerUnavailable) as raised:
        store.get(ROW.key)

    assert raised.value.code == "LedgerUnavailable"
    assert "ConnectionRefusedError" in raised.value.message
    assert "AWS_ENDPOINT_URL_DYNAMODB" in raised.value.message
    assert 0 < clock.elapsed_s() <= LIMIT_S


@pytest.mark.parametrize(
    ("answer", "code", "says"),
    [
        (
            error("AccessDeniedException"),
            "AccessDeniedException",
            "allow dynamodb:PutItem on the table events",
        ),
        (
            error("ResourceNotFoundException"),
            "ResourceNotFoundException",
            "there is no table events in eu-central-1",
        ),
        (
            error("ValidationException", message="Item size has exceeded the maximum allowed size"),
            "ValidationException",
            "Item size has exceeded",
        ),
        (error("ExpiredTokenException", 400), "ExpiredTokenException", "refuses PutItem"),
    ],
)
def test_what_the_operator_must_mend_is_said_at_once(answer: Says, code: str, says: str) -> None:
    """No second try; the code is the service's, the text says what to do."""
    with dynamodb(answer) as (store, _, clock), pytest.raises(LedgerUnavailable, match=says) as raised:
        store.put(ROW, replacing=None)

    assert raised.value.code == code
    assert clock.elapsed_s() == 0


def test_a_missing_permission_on_the_index_names_the_index() -> None:
    """Query is asked of the index, not of the table."""
    with (
        dynamodb(error("AccessDeniedException")) as (store, _, _),
        pytest.raises(LedgerUnavailable, match="allow dynamodb:Query on the index open of the table events"),
    ):
        next(store.queued("event/r"))


def test_rows_that_an_answer_leaves_out_are_asked_for_again() -> None:
    """At once where there was progress, after a wait where there was none; order is the keys' order."""
    row = {"key": {"S": "event/b"}, "version": {"S": "mine"}, "body": {"S": "{}"}}
    left = {"events": {"Keys": [{"key": {"S": "event/a"}}], "ConsistentRead": True}}
    item_a = {**row, "key": {"S": "event/a"}}
    answers = (
        ok({"Responses": {"events": [row]}, "UnprocessedKeys": left}),
        ok({"Responses": {}, "UnprocessedKeys": left}),
        ok({"Responses": {"events": [item_a]}, "UnprocessedKeys": {}}),
    )

    with dynamodb(*answers) as (store, script, clock):
        rows = store.get_many(["event/a", "event/b"])

    assert [row.key for row in rows] == ["event/a", "event/b"]
    assert b"event/b" not in script.bodies[1]
    assert b'"ConsistentRead":true' in script.bodies[0]
    assert clock.elapsed_s() == pytest.approx(0.05)


def test_rows_that_never_come_make_the_ledger_unavailable() -> None:
    """A table that only ever puts off is throttled; the answer must not look like missing rows."""
    left = {"events": {"Keys": [{"key": {"S": "event/a"}}], "ConsistentRead": True}}
    nothing = ok({"Responses": {}, "UnprocessedKeys": left})

    with dynamodb(*[nothing] * TRIES) as (store, _, _), pytest.raises(LedgerUnavailable, match="throttled"):
        store.get_many(["event/a"])


def test_a_queues_next_page_is_read_only_when_needed() -> None:
    """One query begins the listing; the second comes after the first page's last row."""
    page = {
        "Items": [
            {"due": {"S": f"{n}"}, "key": {"S": f"event/{n}"}, "queue": {"S": "event/r"}} for n in (1, 2)
        ],
        "LastEvaluatedKey": {"due": {"S": "2"}},
    }

    with dynamodb(ok(page), ok({"Items": []})) as (store, script, _):
        listing = store.queued("event/r")
        first = [next(listing), next(listing)]
        asked_for_the_first = len(script.asked)
        rest = list(listing)

    assert [*first, *rest] == [("1", "event/1"), ("2", "event/2")]
    assert (asked_for_the_first, script.asked) == (1, ["Query", "Query"])
    assert b'"ExclusiveStartKey":{"due":{"S":"2"}}' in script.bodies[1]


def test_no_more_rows_are_read_than_are_wanted() -> None:
    """Whether something is due costs one row of the index, however long the queue is."""
    page = {
        "Items": [{"due": {"S": "1"}, "key": {"S": "event/1"}, "queue": {"S": "event/r"}}],
        "LastEvaluatedKey": {"due": {"S": "1"}},
    }

    with dynamodb(ok(page)) as (store, script, _):
        first = next(store.queued("event/r", 1))

    assert first == ("1", "event/1")
    assert b'"Limit":1' in script.bodies[0].replace(b" ", b"")
