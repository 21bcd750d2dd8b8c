"""docs/recipes.md: its blocks are templates that AWS would take, and its rules match what leaves.

`python -m tests.project.test_recipes` writes `events/bus.schema.json` again, on standard output.
"""

import json
import re
import sys
from collections.abc import Iterator
from functools import cache
from typing import Any

import pytest

from local.tools import PROJECT, python_tool
from oncetask.aws.events import DETAIL_TYPE, SOURCE
from oncetask.models import Result
from tests.installed import installed
from tests.project.template_expansion import Gates, gates
from tests.project.test_result_schema import sample
from tests.project.test_runbook import blocks, loaded

RECIPES = PROJECT / "docs" / "recipes.md"
FILE = PROJECT / "events" / "bus.schema.json"


def rules() -> dict[str, dict[str, Any]]:
    """The patterns of the page's rules, by the rules' names."""
    resources = [item for block in blocks(RECIPES, "yaml") for item in loaded(block).items()]
    made = {
        name: resource["Properties"]
        for name, resource in resources
        if resource["Type"] == "AWS::Events::Rule"
    }
    return {name: properties["EventPattern"] for name, properties in made.items()}


def matches(pattern: Any, value: Any) -> bool:  # noqa: ANN401 - JSON
    """Whether an event matches, by that part of EventBridge's rules that the page uses."""
    if isinstance(pattern, dict):
        return isinstance(value, dict) and all(matches(part, value.get(key)) for key, part in pattern.items())
    return value in pattern


def bus_event(**update: object) -> dict[str, Any]:
    """A result as it stands on the bus."""
    return {"source": SOURCE, "detail-type": DETAIL_TYPE, "detail": sample(**update)}


@cache
def schema() -> dict[str, Any]:
    """The event of the bus by JSON Schema Draft 4, the only draft that EventBridge's registry takes."""
    made = json.loads(json.dumps(Result.model_json_schema(by_alias=True, mode="serialization")))
    definitions = made.pop("$defs")
    whole = {
        "$schema": "http://json-schema.org/draft-04/schema#",
        "title": DETAIL_TYPE,
        "type": "object",
        "required": ["source", "detail-type", "detail"],
        "properties": {
            "source": {"enum": [SOURCE]},
            "detail-type": {"enum": [DETAIL_TYPE]},
            "detail": made,
        },
        "definitions": definitions,
    }
    return dict(_as_draft_4(whole))


def _as_draft_4(part: Any) -> Any:  # noqa: ANN401 - JSON
    if isinstance(part, list):
        return [_as_draft_4(one) for one in part]
    if not isinstance(part, dict):
        return part.replace("#/$defs/", "#/definitions/") if isinstance(part, str) else part
    made = {key: _as_draft_4(value) for key, value in part.items() if key != "default"}
    if "const" in made and not isinstance(made["const"], dict):
        made["enum"] = [made.pop("const")]
    return made


def text() -> str:
    """The schema file's content."""
    return json.dumps(schema(), indent=2, ensure_ascii=False) + "\n"


@pytest.fixture(scope="module")
def linters() -> Iterator[Gates]:
    """The gates."""
    installed(lambda: python_tool("sam"))
    with gates() as running:
        yield running


@pytest.mark.slow
def test_every_block_is_a_part_of_a_template(linters: Gates) -> None:
    """All of them together are one that cfn-lint finds nothing in."""
    resources = "\n".join(re.sub("^", "  ", block, flags=re.MULTILINE) for block in blocks(RECIPES, "yaml"))
    template = f"AWSTemplateFormatVersion: '2010-09-09'\nResources:\n{resources}\n"

    found, stack = linters.judge(template, lints_source=True)

    assert found == []
    assert {"Bus", "Failures", "PagerDutyEvents", "Findings", "Wakes"} <= stack.expansion["Resources"].keys()


def test_the_rules_match_what_they_are_for() -> None:
    """A failed task is a mail, an operator's error is a page; neither is anything else's."""
    failed = bus_event(finish={"state": "FAIL", "finished_at": "t"}, error=None)
    succeeded = bus_event(finish={"state": "SUCCESS", "finished_at": "t"}, error=None)
    refused = bus_event(status="pending", finish=None, error={"kind": "operator", "code": "NoPermission"})
    mail, page = rules()["MailOfFailures"], rules()["PageForWhatOnlyYouCanMend"]

    assert [matches(mail, event) for event in (failed, succeeded, refused)] == [True, False, False]
    assert [matches(page, event) for event in (failed, succeeded, refused)] == [False, False, True]


def test_what_a_target_is_told_is_there() -> None:
    """Every path that a rule's text names leads to a field of the result."""
    for path in re.findall(
        r"\$(?:\.states\.input)?\.(detail(?:\.\w+)+)", RECIPES.read_text(encoding="utf-8")
    ):
        found: Any = bus_event()
        for part in path.split("."):
            assert part in found, path
            found = found[part]


def test_the_registrys_schema_is_the_results() -> None:
    """To be written again with `python -m tests.project.test_recipes` where the model changes."""
    assert FILE.read_text(encoding="utf-8") == text()
    assert "$defs" not in text()
    assert '"const"' not in text()


if __name__ == "__main__":
    sys.stdout.write(text())
