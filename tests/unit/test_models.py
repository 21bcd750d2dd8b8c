"""What `oncetask.models` promises: the shapes that the outside sees, and the requests that travel."""

import json
from datetime import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from oncetask.errors import Code, Kind, Rejection
from oncetask.models import (
    TASK_TYPES,
    Answer,
    ErrorInfo,
    Finish,
    HostOutcome,
    Outcome,
    Result,
    Status,
    TaskRequest,
    TaskResponse,
    Trigger,
    compact_json,
    ignored,
    instant,
    rejection,
    results_document,
    told_to_others,
)

NOW_S = 1_795_500_000.1234
REQUEST = TaskRequest(
    task_type="CLIENT_PROBLEM_CHECK",
    task_name="offline",
    param={"mode": 1, "uuids": "inet-1,inet-2", "note": "blåbær"},
    source="oncetask",
)

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)
requests = st.fixed_dictionaries(
    {
        "TaskType": st.sampled_from(TASK_TYPES),
        "TaskName": texts,
        "Param": st.dictionaries(texts, json_values, max_size=4),
        "Source": texts,
    }
).map(TaskRequest.model_validate)


def test_there_are_ten_task_types() -> None:
    """Those of the published API; newer ones come by ONCETASK_EXTRA_TASK_TYPES."""
    assert len(set(TASK_TYPES)) == 10


def test_a_result_has_exactly_the_documented_keys() -> None:
    """In the documented order, null where there is nothing."""
    result = ignored(trigger=Trigger.TIMER, route="nightly", event_id="timer:nightly:T", now_s=NOW_S)

    assert list(result.document()) == [
        *("event_id", "status", "trigger", "route", "request", "task_id", "response", "shared_by"),
        *("attempts", "sequence", "hosts_missing", "error", "finish", "received_at", "settled_at"),
    ]


def test_a_finish_has_exactly_the_documented_keys() -> None:
    """And so has each of its hosts."""
    document = finished().document()

    assert list(document["finish"]) == [
        *("state", "ok", "finished_at", "success_count", "fail_count", "total_count"),
        *("hosts", "hosts_left_out"),
    ]
    assert list(document["finish"]["hosts"][0]) == [
        *("uuid", "problem", "dispatch", "codes", "causes", "report_url"),
    ]


def finished() -> Result:
    """A result whose task has ended, with a host's log to be downloaded."""
    host = HostOutcome(uuid="inet-1", codes=("1003: run it",), report_url="https://logs.example.com/1")
    finish = Finish(state="SUCCESS", ok=None, finished_at=instant(NOW_S), hosts=(host,))
    result = ignored(trigger=Trigger.TIMER, route="nightly", event_id="timer:nightly:T", now_s=NOW_S)
    return result.model_copy(update={"status": Status.FINISHED, "finish": finish})


def test_a_report_url_is_told_to_nobody_else() -> None:
    """It may be a capability: no log line and no sender has it, and nothing else is missing there."""
    whole = finished().document()
    told = told_to_others(whole)

    assert whole["finish"]["hosts"][0].pop("report_url") == "https://logs.example.com/1"
    assert told["finish"]["hosts"][0].pop("report_url") is None
    assert told == whole


def test_a_rejected_result_says_who_must_act() -> None:
    """The sender; and no task was asked for."""
    result = rejection(
        Rejection(Code.BAD_TARGET, "a target is odd"),
        trigger=Trigger.WEBHOOK,
        route="offline",
        event_id="webhook:offline:1",
        now_s=NOW_S,
        request=REQUEST,
    ).document()

    assert result["status"] == "rejected"
    assert result["error"] == {
        "kind": "sender",
        "code": "BadTarget",
        "message": "a target is odd",
        "http_status": None,
        "request_id": None,
    }
    assert (result["task_id"], result["attempts"], result["shared_by"]) == (None, 0, 0)
    assert result["received_at"] == result["settled_at"] == "2026-11-24T06:00:00.123Z"


def test_a_request_is_shown_with_param_as_an_object() -> None:
    """And under the API's own names."""
    assert REQUEST.model_dump(mode="json", by_alias=True) == {
        "TaskType": "CLIENT_PROBLEM_CHECK",
        "TaskName": "offline",
        "Param": {"mode": 1, "uuids": "inet-1,inet-2", "note": "blåbær"},
        "Source": "oncetask",
    }


def test_on_the_wire_are_four_parameters_with_param_as_compact_json_text() -> None:
    """Without spaces, and non-ASCII as it is."""
    assert list(REQUEST.query()) == ["TaskType", "TaskName", "Param", "Source"]
    assert REQUEST.query()["Param"] == '{"mode":1,"uuids":"inet-1,inet-2","note":"blåbær"}'


@given(requests)
def test_a_kept_request_is_the_one_that_was_accepted(request: TaskRequest) -> None:
    """The ledger's JSON gives back what went in, so that a sweep asks for the same."""
    kept = TaskRequest.model_validate_json(request.model_dump_json(by_alias=True))

    assert kept == request
    assert kept.query() == request.query()


@given(requests)
def test_a_request_says_the_same_on_the_wire_and_in_its_result(request: TaskRequest) -> None:
    """Param's text is the JSON of the object that is shown."""
    shown = request.model_dump(mode="json", by_alias=True)

    assert json.loads(request.query()["Param"]) == shown["Param"]


@given(requests)
def test_a_longer_param_makes_a_longer_request_line(request: TaskRequest) -> None:
    """So halving a group always brings it nearer to the bound."""
    longer = request.model_copy(update={"param": request.param | {"another key": "x"}})

    assert longer.line_bytes() >= request.line_bytes()


def test_a_request_line_is_counted_in_bytes_as_encoded() -> None:
    """A letter outside ASCII counts its percent signs too."""
    plain = REQUEST.model_copy(update={"task_name": "a"})
    accented = REQUEST.model_copy(update={"task_name": "é"})

    assert accented.line_bytes() - plain.line_bytes() == len("%C3%A9") - 1


@pytest.mark.parametrize("value", [float("nan"), float("inf"), [-float("inf")]])
def test_what_json_has_no_number_for_has_no_json_text(value: object) -> None:
    """Python would write NaN, which nobody else reads."""
    with pytest.raises(ValueError, match="JSON compliant"):
        compact_json(value)


@pytest.mark.parametrize(
    ("at_s", "text"),
    [
        (0, "1970-01-01T00:00:00.000Z"),
        (1_795_500_000.1234, "2026-11-24T06:00:00.123Z"),
        (1_795_500_000.9996, "2026-11-24T06:00:00.999Z"),
    ],
)
def test_an_instant_is_utc_with_milliseconds(at_s: float, text: str) -> None:
    """ISO 8601, ending in Z."""
    assert instant(at_s) == text


@given(st.integers(0, 4_000_000_000_000))
def test_instants_sort_as_their_moments_do(at_ms: int) -> None:
    """As text, too: all have one width."""
    assert instant(at_ms / 1000) <= instant((at_ms + 1) / 1000)
    assert datetime.fromisoformat(instant(at_ms / 1000)).timestamp() == pytest.approx(at_ms / 1000, abs=0.002)


def test_counts_hold_every_status_zeros_included() -> None:
    """So that a reader need not know which may be missing."""
    document = results_document([{"status": "created"}, {"status": "created"}, {"status": "rejected"}])

    assert list(document["counts"]) == [status.value for status in Status]
    assert document["counts"]["created"] == 2
    assert document["counts"]["rejected"] == 1
    assert sum(document["counts"].values()) == 3


@pytest.mark.parametrize(
    "body",
    [
        {"RequestId": "r", "TaskId": "t", "CanCreate": True, "TotalCount": 1, "CollectTime": 1670307567000},
        {"TaskId": "t", "TotalCount": "1", "FinishCount": "0", "CollectTime": "1670307567000"},
        {"TaskId": "t", "LastTask": 7, "Unheard": "of"},
        {},
    ],
)
def test_a_response_is_taken_as_it_comes(body: dict[str, object]) -> None:
    """The published types contradict the published examples; what is new is let pass."""
    response = TaskResponse.model_validate(body)

    assert response.task_id == body.get("TaskId")
    assert len(response.model_dump(by_alias=True)) == 7


@pytest.mark.parametrize(
    ("answer", "closes_type", "ends_asking"),
    [
        (Answer(outcome=Outcome.CREATED, task_id="t"), False, False),
        (Answer(outcome=Outcome.CREATED, task_id="t", response=TaskResponse(can_create=True)), False, False),
        (Answer(outcome=Outcome.CREATED, task_id="t", response=TaskResponse()), False, False),
        (Answer(outcome=Outcome.CREATED, task_id="t", response=TaskResponse(can_create=False)), True, False),
        (Answer(outcome=Outcome.REFUSED), False, False),
        (Answer(outcome=Outcome.UNLISTED), False, False),
        (Answer(outcome=Outcome.LOST), False, False),
        (Answer(outcome=Outcome.CAP_REACHED), True, False),
        (Answer(outcome=Outcome.OPERATOR), True, False),
        (Answer(outcome=Outcome.THROTTLED), False, True),
        (Answer(outcome=Outcome.NOT_CONNECTED), False, True),
    ],
)
def test_an_answer_says_whether_more_may_be_asked_for(
    answer: Answer,
    closes_type: bool,  # noqa: FBT001
    ends_asking: bool,  # noqa: FBT001
) -> None:
    """The cap and the operator stand in one type's way; throttling and no connection in everybody's."""
    assert (answer.closes_type, answer.ends_asking) == (closes_type, ends_asking)


def test_what_we_write_holds_nothing_unknown_and_never_changes() -> None:
    """Frozen, and closed."""
    error = ErrorInfo(kind=Kind.REMOTE, code="CapReached", message="full")

    with pytest.raises(ValidationError, match="frozen"):
        error.code = "Other"  # type: ignore[misc]
    with pytest.raises(ValidationError, match="Extra inputs"):
        ErrorInfo.model_validate({"kind": "remote", "code": "c", "message": "m", "hint": "h"})
