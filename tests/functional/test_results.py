"""Results handed on: from the stream's rows to a bus or a queue, through the real function's parts."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oncetask.app import ResultsApp, results_app_of
from oncetask.aws.events import MOST_CALL_BYTES, MOST_MESSAGE_BYTES, plain_id
from oncetask.clock import Deadline
from oncetask.errors import Kind, SettingsError
from oncetask.handlers.outbox import GIVE_UP_S, Report, hand_on
from oncetask.handlers.telemetry import emit_handed_on
from oncetask.ledger.store import Row
from oncetask.models import ErrorInfo, Finish, Status
from tests.clocks import NOW_S, FakeClock
from tests.project.test_imports import PROJECT
from tests.receiver import DEAD_LETTERS, QUEUE, REGION, Fault, Receiver, receiving
from tests.stream import DONE, an_event, batch, first_failure, record, row_of

BUS = "eventbridge:results"
FIFO = f"sqs:{QUEUE}"
CREATED = an_event().moved(NOW_S, {"status": Status.CREATED, "task_id": "t", "settled_s": NOW_S})
THROTTLED = Fault("ThrottlingException")
each_destination = pytest.mark.parametrize("results", [BUS, FIFO], ids=["bus", "queue"])


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """EventBridge and SQS."""
    with receiving() as running:
        yield running


@pytest.fixture
def clock() -> FakeClock:
    """The function's clock."""
    return FakeClock()


def handed(app: ResultsApp, event: object, seconds: float = 60) -> Report:
    """One invocation that has so many seconds."""
    return hand_on(app, event, Deadline.after(seconds, app.clock))


def inserted(*names: str) -> dict[str, Any]:
    """A batch in which these events are new."""
    return batch(*(record(n, row_of(an_event(name))) for n, name in enumerate(names)))


# -- what leaves ----------------------------------------------------------------------------------


@each_destination
def test_a_new_result_leaves_as_it_is(results: str, receiver: Receiver, clock: FakeClock) -> None:
    """The whole RESULT, and nothing else."""
    report = handed(receiver.app(results, clock), batch(record(1, row_of(CREATED))))

    assert report.answer() == DONE
    assert receiver.results == [CREATED.result().document()]
    assert report.handed_on == 1


def test_a_bus_is_told_where_it_comes_from(receiver: Receiver, clock: FakeClock) -> None:
    """Source and detail-type are what rules match; the call is signed for EventBridge."""
    handed(receiver.app(BUS, clock), inserted("a"))

    [entry] = receiver.bus
    assert entry.keys() == {"Source", "DetailType", "Detail", "EventBusName"}
    assert (entry["Source"], entry["DetailType"]) == ("oncetask", "oncetask result")
    assert entry["EventBusName"] == "results"
    assert f"/{REGION}/events/aws4_request" in receiver.headers[0]["authorization"]
    assert receiver.headers[0]["content-type"] == "application/x-amz-json-1.1"


def test_a_bus_of_another_region_is_asked_there(receiver: Receiver, clock: FakeClock) -> None:
    """Its ARN says where it is."""
    arn = "arn:aws:events:us-west-2:123456789012:event-bus/results"
    handed(receiver.app(f"eventbridge:{arn}", clock), inserted("a"))

    assert receiver.bus[0]["EventBusName"] == arn
    assert "/us-west-2/events/aws4_request" in receiver.headers[0]["authorization"]


def test_a_queue_is_told_group_and_deduplication(receiver: Receiver, clock: FakeClock) -> None:
    """The event's id; the call is signed for the region in the queue's URL, whatever the function's own."""
    handed(receiver.app(FIFO, clock, AWS_REGION="us-east-1"), inserted("webhook:r:1"))

    [message] = receiver.queues[QUEUE]
    assert message["MessageGroupId"] == "webhook:r:1"
    assert message["MessageDeduplicationId"] == "webhook:r:1#1"
    assert f"/{REGION}/sqs/aws4_request" in receiver.headers[0]["authorization"]
    assert receiver.headers[0]["content-type"] == "application/x-amz-json-1.0"


@pytest.mark.parametrize("text", ["x" * 129, "webhook:r:a b", "webhook:r:é", ""])
def test_an_id_that_a_queue_does_not_take_is_hashed(text: str) -> None:
    """SHA-256 in hex; the longest and oddest that it takes stay."""
    assert len(plain_id(text)) == 64
    assert plain_id("!~" * 64) == "!~" * 64


@pytest.mark.parametrize(
    "change",
    [
        record(1, row_of(an_event(attempts=1, due_s=NOW_S + 9), "v2"), row_of(an_event())),
        record(1, None, row_of(an_event())),
        record(1, Row("task/t", "v1", None, None, None, "{}")),
        record(
            1,
            Row("event/x", "v2", None, None, None, "broken"),
            Row("event/x", "v1", "event/r", "0", None, "broken"),
        ),
    ],
    ids=["another attempt", "deleted", "no event", "damaged before"],
)
def test_what_is_no_new_result_does_not_leave(
    change: dict[str, Any], receiver: Receiver, clock: FakeClock
) -> None:
    """Times and counters make no result, nor do other rows."""
    report = handed(receiver.app(BUS, clock), batch(change))

    assert report == Report()
    assert receiver.headers == []


@pytest.mark.parametrize(
    "fields",
    [
        {"status": Status.UNKNOWN},
        {"error": ErrorInfo(kind=Kind.REMOTE, code="CapReached", message="m")},
        {"task_id": "t"},
        {"finish": Finish(state="SUCCESS", ok=True, finished_at="2026-11-24T05:00:00.000Z")},
    ],
    ids=lambda fields: next(iter(fields)),
)
def test_what_makes_a_result_new_leaves(
    fields: dict[str, object], receiver: Receiver, clock: FakeClock
) -> None:
    """Status, code, task and end."""
    before = an_event()
    after = before.moved(NOW_S, fields)
    handed(receiver.app(BUS, clock), batch(record(1, row_of(after), row_of(before))))

    assert [result["sequence"] for result in receiver.results] == [2]


def test_an_id_that_comes_again_goes_on_counting(receiver: Receiver, clock: FakeClock) -> None:
    """The same result of another event under that id is a new one, and no queue takes it for a repetition."""
    rejected = an_event(status=Status.REJECTED, settled_s=NOW_S)
    again = rejected.model_copy(update={"sequence": 2, "instance": "again"})
    changes = record(1, row_of(rejected)), record(2, row_of(again, "v2"), row_of(rejected))
    handed(receiver.app(FIFO, clock), batch(*changes))

    ids = [message["MessageDeduplicationId"] for message in receiver.queues[QUEUE]]
    assert ids == ["webhook:r:1#1", "webhook:r:1#2"]
    assert [result["sequence"] for result in receiver.results] == [1, 2]


@pytest.mark.parametrize("event", [None, [], {}, {"Records": []}])
def test_what_is_no_stream_is_nothing_to_do(event: object, receiver: Receiver, clock: FakeClock) -> None:
    """Somebody tries the function by hand."""
    assert handed(receiver.app(BUS, clock), event).answer() == DONE


# -- as many at a time as there may be -------------------------------------------------------------


def test_ten_entries_and_no_more_are_a_call(receiver: Receiver, clock: FakeClock) -> None:
    """In the stream's order."""
    names = [f"e{n}" for n in range(25)]
    handed(receiver.app(BUS, clock), inserted(*names))

    assert [len(call) for call in receiver.calls] == [10, 10, 5]
    assert [result["event_id"] for result in receiver.results] == names


def test_a_call_is_within_a_megabyte(receiver: Receiver, clock: FakeClock) -> None:
    """Large results share calls as far as they fit."""
    request = an_event().request.model_copy(update={"param": {"a": "x" * 190_000}})
    events = [an_event(f"e{n}", request=request) for n in range(8)]
    handed(receiver.app(BUS, clock), batch(*(record(n, row_of(e)) for n, e in enumerate(events))))

    assert len(receiver.results) == 8
    assert all(len(json.dumps(call)) <= MOST_CALL_BYTES for call in receiver.calls)
    assert len(receiver.calls) == 2


def test_two_results_of_one_event_are_never_in_one_call(receiver: Receiver, clock: FakeClock) -> None:
    """So that the earlier one, where it fails alone, is not overtaken."""
    first, second = row_of(an_event()), row_of(CREATED.model_copy(update={"sequence": 2}), "v2")
    handed(receiver.app(BUS, clock), batch(record(1, first), record(2, second, first)))

    assert [len(call) for call in receiver.calls] == [1, 1]
    assert [result["status"] for result in receiver.results] == ["pending", "created"]


# -- what is not taken ----------------------------------------------------------------------------


def test_an_entry_that_fails_alone_is_where_the_stream_begins_again(
    receiver: Receiver, clock: FakeClock
) -> None:
    """What came before it is done, and nothing behind its call is tried."""
    receiver.faults.extend([None, None, THROTTLED])
    report = handed(receiver.app(BUS, clock), inserted(*(f"e{n}" for n in range(15))))

    assert report.answer() == first_failure(2)
    assert report.handed_on == 2
    assert len(receiver.calls) == 1
    assert receiver.dead_letters == []


@each_destination
@pytest.mark.parametrize("code", ["ThrottlingException", "InternalFailure", "AccessDeniedException"])
def test_a_destination_that_refuses_now_is_asked_again(
    code: str, results: str, receiver: Receiver, clock: FakeClock
) -> None:
    """By the stream: throttled, broken, or not permitted yet."""
    receiver.faults.extend([Fault(code, 400)])
    report = handed(receiver.app(results, clock), inserted("a", "b"))

    assert report.answer() == first_failure(0)
    assert receiver.results == receiver.dead_letters == []


@each_destination
def test_a_destination_that_is_not_there_is_asked_again(results: str, clock: FakeClock) -> None:
    """And nothing raises."""
    with receiving() as receiver:
        app = receiver.app(results, clock)

    assert handed(app, inserted("a")).answer() == first_failure(0)


@pytest.mark.parametrize(
    ("results", "code"),
    [(BUS, "MalformedDetail"), (FIFO, "InvalidMessageContents"), (FIFO, "InvalidParameterValue")],
)
def test_what_is_refused_for_itself_is_a_dead_letter_at_once(
    results: str, code: str, receiver: Receiver, clock: FakeClock
) -> None:
    """The whole result, with the reason beside it; the others go on."""
    receiver.faults.extend([None, Fault(code)])
    report = handed(receiver.app(results, clock), inserted("a", "b", "c"))

    assert report.answer() == DONE
    assert [result["event_id"] for result in receiver.results] == ["a", "c"]
    assert receiver.dead_letters == [an_event("b").result().document()]
    [letter] = receiver.queues[DEAD_LETTERS]
    assert letter["MessageAttributes"]["ERROR_CODE"] == {"DataType": "String", "StringValue": code}
    assert letter["MessageGroupId"] == "b"


def test_the_one_that_is_too_large_for_its_call_is_found(receiver: Receiver, clock: FakeClock) -> None:
    """PutEvents refuses all of a call, and does not say whose fault it is."""
    too_large = Fault("ValidationException", 400)
    receiver.faults.extend([too_large, None, too_large, None])
    report = handed(receiver.app(BUS, clock), inserted("a", "b", "c"))

    assert report.answer() == DONE
    assert [result["event_id"] for result in receiver.results] == ["a", "c"]
    assert [letter["event_id"] for letter in receiver.dead_letters] == ["b"]


@each_destination
def test_what_is_over_every_limit_is_not_even_tried(
    results: str, receiver: Receiver, clock: FakeClock
) -> None:
    """It could not be kept as a dead letter either: the log has it, and it holds nobody up."""
    request = an_event().request.model_copy(update={"param": {"a": "x" * (MOST_MESSAGE_BYTES + 1)}})
    rows = [row_of(an_event("a", request=request)), row_of(an_event("b"))]
    report = handed(receiver.app(results, clock), batch(*(record(n, row) for n, row in enumerate(rows))))

    assert report.answer() == DONE
    assert [result["event_id"] for result in receiver.results] == ["b"]
    assert [refusal.code for _, refusal in report.dead_letters] == ["TooLarge"]


@each_destination
def test_after_twelve_hours_a_result_is_a_dead_letter(
    results: str, receiver: Receiver, clock: FakeClock
) -> None:
    """From the row's own time; a second before, it is still tried again."""
    app = receiver.app(results, clock)
    clock.advance(GIVE_UP_S - 1)
    receiver.faults.extend([Fault("InternalFailure", 500)])
    assert handed(app, inserted("a")).answer() == first_failure(0)

    clock.advance(1)
    receiver.faults.extend([Fault("InternalFailure", 500)])
    assert handed(app, inserted("a")).answer() == DONE

    assert receiver.results == []
    assert [letter["event_id"] for letter in receiver.dead_letters] == ["a"]


def test_dead_letters_that_are_not_taken_hold_the_stream(receiver: Receiver, clock: FakeClock) -> None:
    """Nothing is discarded."""
    receiver.faults.extend([Fault("MalformedDetail"), Fault("RequestThrottled")])
    report = handed(receiver.app(BUS, clock), inserted("a"))

    assert report.answer() == first_failure(0)
    assert report.refusal is not None
    assert report.refusal.code == "RequestThrottled"


def test_a_row_that_cannot_be_read_is_kept_and_holds_nobody_up(receiver: Receiver, clock: FakeClock) -> None:
    """Another version's, or damaged: the row as it is, so that nothing is lost."""
    newer = Row("event/b", "v1", None, None, None, '{"format": 9}')
    rows = [row_of(an_event("a")), newer, row_of(an_event("c"))]
    report = handed(receiver.app(BUS, clock), batch(*(record(n, row) for n, row in enumerate(rows))))

    assert report.answer() == DONE
    assert [result["event_id"] for result in receiver.results] == ["a", "c"]
    assert receiver.dead_letters == [
        {
            "key": "event/b",
            "row": {"key": {"S": "event/b"}, "version": {"S": "v1"}, "body": {"S": '{"format": 9}'}},
        }
    ]
    assert [change.key for change in report.damaged] == ["event/b"]


def test_a_batch_that_has_no_time_left_goes_on_in_the_next_invocation(
    receiver: Receiver, clock: FakeClock
) -> None:
    """Something leaves in every invocation, so that the stream comes forward."""
    app = receiver.app(FIFO, clock)

    assert handed(app, inserted("a", "b"), seconds=1).answer() == first_failure(1)
    assert [result["event_id"] for result in receiver.results] == ["a"]


# -- what is told ---------------------------------------------------------------------------------


def test_what_left_is_counted_and_what_did_not_is_logged(
    receiver: Receiver, clock: FakeClock, capsys: pytest.CaptureFixture[str]
) -> None:
    """Ids and codes; nothing of the results themselves, which were logged when they were made."""
    app = receiver.app(BUS, clock, POWERTOOLS_SERVICE_NAME="handed-on")
    receiver.faults.extend([None, Fault("MalformedDetail"), THROTTLED, None])

    emit_handed_on(handed(app, inserted("a", "b", "c")), app.settings)

    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    told = {line["message"]: (line["event_id"], line["code"]) for line in lines if "message" in line}
    assert told == {
        "dead letter": ("b", "MalformedDetail"),
        "not handed on yet": ("c", "ThrottlingException"),
    }
    assert [line["HandedOn"] for line in lines if "_aws" in line] == [[1.0]]


# -- the function itself --------------------------------------------------------------------------

INVOKE = """
import json, os, sys
told = os.fdopen(os.dup(1), "w")
os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
from oncetask.handlers.results import handler
answer = handler(json.loads(sys.argv[1]), None)
print(json.dumps([answer, sorted(sys.modules)]), file=told, flush=True)
"""


def invoked(environment: dict[str, str], event: object) -> subprocess.CompletedProcess[str]:
    """The function in a process of its own, in which nothing else is set."""
    return subprocess.run(
        [sys.executable, "-c", INVOKE, json.dumps(event)],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(PROJECT / "src"), **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


ENVIRONMENT = {
    "ONCETASK_RESULTS": BUS,
    "ONCETASK_DEAD_LETTERS": DEAD_LETTERS,
    "AWS_LAMBDA_FUNCTION_NAME": "results",
    "AWS_REGION": REGION,
    "AWS_ACCESS_KEY_ID": "AKIAEXAMPLE",
    "AWS_SECRET_ACCESS_KEY": "made-up",
}


def test_the_function_needs_no_routes_no_ledger_and_no_key(receiver: Receiver) -> None:
    """Its two settings and AWS's own are enough, and it does not load what it has no use for."""
    environment = ENVIRONMENT | {"AWS_ENDPOINT_URL": receiver.url, "ONCETASK_ROUTES": "/no/such/file"}

    done = invoked(environment, inserted("a"))

    assert done.returncode == 0, done.stderr
    answer, loaded = json.loads(done.stdout)
    assert answer == DONE
    assert {"Tea", "requests", "boto3", "oncetask.ledger.ledger", "oncetask.sweep"} & set(loaded) == set()
    assert [result["event_id"] for result in receiver.results] == ["a"]


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("ONCETASK_RESULTS", ""),
        ("ONCETASK_RESULTS", "sns:topic"),
        ("ONCETASK_RESULTS", "eventbridge:a bus"),
        ("ONCETASK_RESULTS", f"sqs:{QUEUE.removesuffix('.fifo')}"),
        ("ONCETASK_RESULTS", "sqs:http://sqs.example.com/1/q.fifo"),
        ("ONCETASK_DEAD_LETTERS", ""),
        ("ONCETASK_DEAD_LETTERS", "dead.fifo"),
        ("AWS_REGION", ""),
        ("AWS_ACCESS_KEY_ID", ""),
        ("AWS_ENDPOINT_URL_SQS", "http://example.com"),
        ("AWS_ENDPOINT_URL_EVENTBRIDGE", "http://example.com"),
    ],
)
def test_a_wrong_setting_is_named_and_not_shown(variable: str, value: str) -> None:
    """One line; the others are right."""
    with pytest.raises(SettingsError, match=rf"^{variable} must be [^\n]+$") as refused:
        results_app_of(ENVIRONMENT | {variable: value})

    assert not value or value not in str(refused.value)


def test_a_wrong_setting_stops_the_function_at_its_start() -> None:
    """Before the first batch."""
    done = invoked(ENVIRONMENT | {"ONCETASK_RESULTS": "sns:topic"}, {})

    assert done.returncode == 1
    assert done.stderr == (
        "oncetask cannot start: ONCETASK_RESULTS must be "
        "eventbridge:BUS (a name or ARN) or sqs:QUEUE_URL (a FIFO queue's)\n"
    )


# -- the law --------------------------------------------------------------------------------------

STATUSES = (Status.PENDING, Status.UNKNOWN, Status.CREATED, Status.FINISHED)
FAULTS = st.none() | st.sampled_from(
    [THROTTLED, Fault("InternalFailure", 500), Fault("ValidationException", 400), Fault("MalformedDetail")]
)


@pytest.fixture(scope="module")
def one_receiver() -> Iterator[Receiver]:
    """One for all examples."""
    with receiving() as running:
        yield running


@settings(deadline=None, max_examples=60)
@given(
    results=st.sampled_from([BUS, FIFO]),
    steps=st.lists(st.tuples(st.integers(0, 3), st.sampled_from(STATUSES)), max_size=40),
    faults=st.lists(FAULTS, max_size=12),
    sizes=st.lists(st.integers(1, 15), min_size=1, max_size=40),
    repeats=st.lists(st.booleans(), min_size=1, max_size=40),
)
def test_every_result_leaves_in_the_order_of_its_event_and_none_is_invented(  # noqa: PLR0913, PLR0917 - what is drawn
    one_receiver: Receiver,
    results: str,
    steps: list[tuple[int, Status]],
    faults: list[Fault | None],
    sizes: list[int],
    repeats: list[bool],
) -> None:
    """Behind two shards that come in any pace and repeat themselves, and a destination that fails."""
    one_receiver.forget()
    shards, told = _shards_of(steps)
    one_receiver.faults.extend(faults)
    app = one_receiver.app(results, FakeClock())

    pace = 0
    while any(shards):
        shard = shards[pace % 2] or shards[1 - pace % 2]
        event = batch(*shard[: sizes[pace % len(sizes)]])
        failed = handed(app, event).answer()["batchItemFailures"]
        number = failed[0]["itemIdentifier"] if failed else None
        done = [r["dynamodb"]["SequenceNumber"] for r in event["Records"]]
        if failed or not repeats[pace % len(repeats)] or pace > 200:  # else: AWS invokes with the same again
            del shard[: done.index(number) if number else len(done)]
        pace += 1
    app.close()

    letters = one_receiver.dead_letters
    for event_id, expected in told.items():
        of_event = [r["attempts"] for r in one_receiver.results if r["event_id"] == event_id]
        missing = {letter["attempts"] for letter in letters if letter["event_id"] == event_id}
        assert set(of_event) | missing == set(expected)
        # A fault that refused one for itself, once, let it in when its batch was repeated: behind the others.
        in_order = [number for number in _once(of_event) if number not in missing]
        assert in_order == [number for number in expected if number not in missing]
    assert {r["event_id"] for r in one_receiver.results} <= told.keys()


def _shards_of(steps: list[tuple[int, Status]]) -> tuple[list[list[dict[str, Any]]], dict[str, list[int]]]:
    """The stream that those changes of events make, and which of them tell a new result."""
    shards: list[list[dict[str, Any]]] = [[], []]
    events: dict[int, Any] = {}
    told: dict[str, list[int]] = {}
    for number, (name, status) in enumerate(steps):
        before = events.get(name)
        if before is None:
            after = an_event(f"e{name}", status=status, attempts=number)
        else:
            after = before.moved(NOW_S, {"status": status, "attempts": number})
        events[name] = after
        old = None if before is None else row_of(before, f"v{before.attempts}")
        shards[name % 2].append(record(number, row_of(after, f"v{number}"), old))
        if before is None or status is not before.status:
            told.setdefault(f"e{name}", []).append(number)
    return shards, told


def _once(numbers: list[int]) -> list[int]:
    """The order in which each was first seen."""
    return list(dict.fromkeys(numbers))
