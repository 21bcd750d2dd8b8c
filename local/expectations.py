"""What an event came to, and whether that is what stands beside its document."""

import json
from collections.abc import Iterator
from typing import Any, NamedTuple

from local.cases import Case, Handled
from local.emulator import Emulator
from oncetask.handlers.sweep import swept_document
from oncetask.handlers.webhook import Accepted, Answered, Refusal
from oncetask.models import results_document
from oncetask.sweep.context import SweepReport


class Outcome(NamedTuple):
    """One event's answer, and each thing in which it differs from what was expected."""

    answer: dict[str, Any]
    differences: list[str]


def outcome_of(case: Case, handled: Handled, emulator: Emulator) -> Outcome:
    """The answer, held against the case's document and against what reached the emulator."""
    answer = answer_of(case, handled)
    found: list[str] = list(differences(case.told["expected"], answer))
    counted = {
        "asked": sum(call.action == "GenerateOnceTask" for call in emulator.calls),
        "tasks": len(emulator.tasks),
    }
    found += differences({name: case.told[name] for name in counted if name in case.told}, counted)
    return Outcome(answer, found)


def answer_of(case: Case, handled: Handled) -> dict[str, Any]:
    """What the function gives back, as JSON data; an HTTP answer's body is read, too."""
    if isinstance(handled, Accepted | Answered | Refusal):
        answer = handled.reply().answer_to(case.event)
        return answer | {"body": json.loads(answer["body"])}
    shown = [result.document() for result in handled.results]
    return swept_document(handled, shown) if isinstance(handled, SweepReport) else results_document(shown)


def differences(expected: Any, found: Any, place: str = "") -> Iterator[str]:  # noqa: ANN401 - JSON
    """`place: expected …, found …` for each part of the expected that is not there; `*` is any text."""
    if isinstance(expected, dict) and isinstance(found, dict):
        for key, value in expected.items():
            inner = f"{place}.{key}" if place else key
            if key in found:
                yield from differences(value, found[key], inner)
            else:
                yield f"{inner}: expected {json.dumps(value)}, found nothing"
    elif isinstance(expected, list) and isinstance(found, list) and len(expected) == len(found):
        for index, (one, other) in enumerate(zip(expected, found, strict=True)):
            yield from differences(one, other, f"{place}[{index}]")
    elif expected != found and not (expected == "*" and isinstance(found, str) and found):
        yield f"{place}: expected {json.dumps(expected)}, found {json.dumps(found)}"
