"""Every event document under `events/` comes to what the document beside it says (`local.cases`).

A document without its counterpart fails here, and so does one of a folder that nobody handles.
"""

import json
from pathlib import Path
from typing import Any

import pytest

from local.cases import EVENTS, EXPECTED, Case, Handled, documents, expectation_of
from local.emulator import Emulator
from oncetask.handlers.sweep import swept_document
from oncetask.handlers.webhook import Accepted, Answered, Refusal
from oncetask.models import results_document
from oncetask.sweep.context import SweepReport


def answer_of(case: Case, handled: Handled) -> dict[str, Any]:
    """What the function gives back, as JSON data; an HTTP answer's body is read, too."""
    if isinstance(handled, Accepted | Answered | Refusal):
        answer = handled.reply().answer_to(case.event)
        return answer | {"body": json.loads(answer["body"])}
    shown = [result.document() for result in handled.results]
    return swept_document(handled, shown) if isinstance(handled, SweepReport) else results_document(shown)


def matched(expected: Any, found: Any) -> Any:  # noqa: ANN401 - JSON
    """What was found, without what nobody expects: equal to `expected` exactly where all of it is there."""
    if expected == "*":
        return "*" if isinstance(found, str) and found else found
    if isinstance(expected, dict) and isinstance(found, dict):
        return {key: matched(value, found[key]) for key, value in expected.items() if key in found}
    if isinstance(expected, list) and isinstance(found, list) and len(expected) == len(found):
        return [matched(*pair) for pair in zip(expected, found, strict=True)]
    return found


@pytest.mark.parametrize("path", documents(), ids=lambda path: str(path.relative_to(EVENTS)))
def test_an_event_document_comes_to_what_stands_beside_it(path: Path, emulator: Emulator) -> None:
    """Through the real handler, against the emulator."""
    case = Case.at(path)

    found = answer_of(case, case.run(emulator))

    assert matched(case.told["expected"], found) == case.told["expected"]
    assert sum(call.action == "GenerateOnceTask" for call in emulator.calls) == case.told["asked"]
    assert len(emulator.tasks) == case.told["tasks"]


def test_every_expectation_belongs_to_an_event_document() -> None:
    """A renamed document leaves none behind, and none lies where nothing runs it."""
    expectations = set(EVENTS.rglob(f"*{EXPECTED}"))

    assert expectations == {expectation_of(path) for path in documents()}
    others = {path for path in EVENTS.rglob("*.json") if not path.name.endswith((EXPECTED, ".schema.json"))}
    assert others == set(documents())


def test_the_sample_timer_events_reach_every_status_and_code_that_a_timer_can() -> None:
    """So that none is promised which nothing shows."""
    results = [
        result
        for path in (EVENTS / "timer").glob(f"*{EXPECTED}")
        for result in json.loads(path.read_text(encoding="utf-8"))["expected"]["results"]
    ]
    codes = {result["error"]["code"] for result in results if result["error"]}

    assert {result["status"] for result in results} == {
        *("created", "duplicate", "pending", "unknown", "ignored", "rejected")
    }
    assert codes >= {
        *("EventNotUnderstood", "ExpressionFailed", "NoEventId", "NoTargets", "BadTarget", "TooManyTargets"),
        *("RequestTooLarge", "BadParam", "TaskTypeNotAllowed", "EventIdReused", "CapReached"),
        *("NotConnected", "CredentialsUnavailable", "NoAnswer", "AnswerUnreadable"),
    }
