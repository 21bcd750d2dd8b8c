"""`events/result.schema.json` says what a result is: kept true here, and held by every sample result.

`python -m tests.project.test_result_schema` writes it again, on standard output.
"""

import json
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from oncetask.errors import Code, Kind, Rejection
from oncetask.models import (
    ErrorInfo,
    Finish,
    HostOutcome,
    Result,
    Status,
    TaskRequest,
    TaskResponse,
    Trigger,
    ignored,
    rejection,
)
from tests.clocks import NOW_S

PROJECT = Path(__file__).resolve().parents[2]
FILE = PROJECT / "events" / "result.schema.json"
EXPECTATIONS = sorted((PROJECT / "events").rglob("*.expected.json"))
TYPES: dict[str, type | tuple[type, ...]] = {
    "object": dict,
    "array": list,
    "string": str,
    "boolean": bool,
    "integer": int,
    "number": (int, float),
    "null": type(None),
}


@cache
def schema() -> dict[str, Any]:
    """The JSON Schema of one result, as it is returned, answered, logged and printed."""
    made = Result.model_json_schema(by_alias=True, mode="serialization")
    # The one thing that the model does not know: senders are not told what others must act on.
    made["$defs"]["ErrorInfo"]["properties"]["message"] = {
        "anyOf": [{"type": "string"}, {"type": "null"}],
        "description": "null in a webhook's answer unless `kind` is `sender`",
        "title": "Message",
    }
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **made}


def text() -> str:
    """The file's content."""
    return json.dumps(schema(), indent=2, ensure_ascii=False) + "\n"


def mistakes(value: Any, part: dict[str, Any], *, complete: bool, at: str = "result") -> Iterator[str]:  # noqa: ANN401
    """Where a value differs from its part of the schema, by the keywords that pydantic uses here.

    `complete`: keys that are required must be there; a sample tells only what it is about.
    """
    if "$ref" in part:
        part = schema()["$defs"][part["$ref"].rpartition("/")[2]]
    if "anyOf" in part:
        found = [list(mistakes(value, choice, complete=complete, at=at)) for choice in part["anyOf"]]
        yield from min(found, key=len)
        return
    kind = part.get("type")
    if kind and not _is_a(value, kind):
        yield f"{at}: {value!r} is no {kind}"
    if "enum" in part and value not in part["enum"]:
        yield f"{at}: {value!r} is none of {part['enum']}"
    if isinstance(value, dict) and kind == "object":
        yield from _mistakes_in_object(value, part, complete=complete, at=at)


def _is_a(value: object, kind: str) -> bool:
    return isinstance(value, TYPES[kind]) and not (isinstance(value, bool) and kind in {"integer", "number"})


def _mistakes_in_object(
    value: dict[str, Any], part: dict[str, Any], *, complete: bool, at: str
) -> Iterator[str]:
    known = part.get("properties", {})
    if complete:
        yield from (f"{at}: {key} is missing" for key in part.get("required", []) if key not in value)
    for key, inner in value.items():
        if key in known:
            yield from mistakes(inner, known[key], complete=complete, at=f"{at}.{key}")
        elif part.get("additionalProperties") is False:
            yield f"{at}: there is no {key}"


def sample(**update: object) -> dict[str, Any]:
    """A result's document with every field filled in."""
    request = TaskRequest(task_type="IMAGE_SCAN", task_name="n", param={"a": [1]}, source="oncetask")
    full = Result(
        event_id="webhook:r:1",
        status=Status.FINISHED,
        trigger=Trigger.WEBHOOK,
        route="r",
        request=request,
        task_id="t",
        response=TaskResponse.model_validate({"TaskId": "t", "CanCreate": True, "CollectTime": 1}),
        shared_by=2,
        attempts=1,
        error=ErrorInfo(kind=Kind.REMOTE, code="X", message="m", http_status=400, request_id="q"),
        finish=Finish(
            state="FAIL",
            ok=False,
            finished_at="2026-11-24T05:00:00.000Z",
            success_count=1,
            fail_count=1,
            total_count=2,
            hosts=(
                HostOutcome(uuid="inet-1", problem="offline", dispatch="manual", codes=("1003: run it",)),
            ),
        ),
        received_at="2026-11-24T05:00:00.000Z",
        settled_at="2026-11-24T05:00:00.000Z",
    )
    return full.document() | update


REJECTED = rejection(
    Rejection(Code.NO_TARGETS, "none"), trigger=Trigger.TIMER, route=None, event_id=None, now_s=NOW_S
)
IGNORED = ignored(trigger=Trigger.WEBHOOK, route="r", event_id="webhook:r:1", now_s=NOW_S)


def test_the_schema_beside_the_samples_is_the_models() -> None:
    """To be written again with `python -m tests.project.test_result_schema` where the model changes."""
    assert FILE.read_text(encoding="utf-8") == text()


def test_the_schema_names_the_contracts_fields() -> None:
    """All of them are always there, and no others."""
    fields = [
        *("event_id", "status", "trigger", "route", "request", "task_id", "response", "shared_by"),
        *("attempts", "sequence", "hosts_missing", "error", "finish", "received_at", "settled_at"),
    ]

    assert list(schema()["properties"]) == schema()["required"] == fields
    assert schema()["additionalProperties"] is False
    assert schema()["$defs"]["Status"]["enum"] == [
        *("created", "duplicate", "pending", "unknown", "ignored"),
        *("rejected", "failed", "expanded", "finished"),
    ]


@pytest.mark.parametrize("document", [sample(), REJECTED.document(), IGNORED.document()])
def test_a_result_is_valid_by_the_schema(document: dict[str, Any]) -> None:
    """Full, or with as much null as there can be."""
    assert list(mistakes(document, schema(), complete=True)) == []


@pytest.mark.parametrize(
    "update",
    [
        {"status": "done"},
        {"event_id": 7},
        {"attempts": True},
        {"more": 1},
        {"error": {"kind": "sender"}},
        {"finish": {"state": "OK", "finished_at": "t"}},
        {"request": {"TaskType": "T", "TaskName": "n", "Param": "{}", "Source": "s"}},
    ],
)
def test_what_is_no_result_is_not_valid(update: dict[str, object]) -> None:
    """The check sees each sort of mistake."""
    assert list(mistakes(sample(**update), schema(), complete=True))


@pytest.mark.parametrize("path", EXPECTATIONS, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_every_sample_result_is_valid_by_the_schema(path: Path) -> None:
    """The documents under `events/` show nothing that is not so."""
    expected = json.loads(path.read_text(encoding="utf-8"))["expected"]
    results = expected.get("body", expected).get("results", [])

    assert [mistake for result in results for mistake in mistakes(result, schema(), complete=False)] == []


if __name__ == "__main__":
    sys.stdout.write(text())
