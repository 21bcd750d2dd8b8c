"""Every event document under `events/` comes to what the document beside it says (`local.cases`).

A document without its counterpart fails here, and so does one of a folder that nobody handles.
"""

import json
from pathlib import Path

import pytest

from local.cases import EVENTS, EXPECTED, Case, documents, expectation_of
from local.emulator import Emulator
from local.expectations import differences, outcome_of


@pytest.mark.parametrize("path", documents(), ids=lambda path: str(path.relative_to(EVENTS)))
def test_an_event_document_comes_to_what_stands_beside_it(path: Path, emulator: Emulator) -> None:
    """Through the real handler, against the emulator."""
    case = Case.at(path)

    outcome = outcome_of(case, case.run(emulator), emulator)

    assert outcome.differences == []


def test_what_differs_is_told_with_its_place() -> None:
    """A wrong text, a missing key, another length; `*` is any text, and what nobody expects is none."""
    expected = {"a": 1, "b": {"c": "*"}, "d": [1, 2], "e": None}

    assert list(differences(expected, {"a": 1, "b": {"c": "x"}, "d": [1, 2], "e": None, "more": 1})) == []
    assert list(differences(expected, {"a": 2, "b": {"c": ""}, "d": [1], "e": 3})) == [
        "a: expected 1, found 2",
        'b.c: expected "*", found ""',
        "d: expected [1, 2], found [1]",
        "e: expected null, found 3",
    ]
    assert list(differences({"e": None}, {})) == ["e: expected null, found nothing"]


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
