"""docs/task-types.md: every type has its section, its routes can be loaded, and they ask for what it says."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from local.tools import PROJECT
from oncetask.alibaba.instances import CRITERIA
from oncetask.ledger.records import Event
from oncetask.models import TASK_TYPES, Trigger
from oncetask.routing.events import Origin, events_of_route
from oncetask.routing.hosts import CRITERION_OF, HOST_TYPES
from oncetask.routing.routes import Route, load_routes

PAGE = (PROJECT / "docs" / "task-types.md").read_text(encoding="utf-8")
SECTIONS = dict(re.findall(r"^## (\S+)\n(.*?)(?=^## |\Z)", PAGE, re.DOTALL | re.MULTILINE))
NOW_S = 1_800_000_000.0

every_type = pytest.mark.parametrize("task_type", TASK_TYPES)


def blocks(text: str, language: str) -> list[str]:
    """The code blocks in that language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


def routes_of(task_type: str, folder: Path) -> dict[Trigger, Route]:
    """The section's two routes."""
    [text] = blocks(SECTIONS[task_type], "toml")
    path = folder / "routes.toml"
    path.write_text(text, encoding="utf-8")
    routes = {route.trigger: route for route in load_routes(path, TASK_TYPES).values()}
    assert {route.task_type for route in routes.values()} == {task_type}
    return routes


def asked(route: Route, payload: object) -> dict[str, Any]:
    """The Param of the one event that the payload becomes."""
    origin = Origin(route.trigger, f"{route.trigger}:{route.name}:x", route.name, NOW_S)
    [event] = events_of_route(route, payload, origin)
    assert isinstance(event, Event), event
    return event.request.param


def test_every_type_has_a_section_and_a_row() -> None:
    """In the order of the API's own list, or another."""
    rows = re.findall(r"^\| \[(\S+)\]\(#(\S+)\) \|", PAGE, re.MULTILINE)

    assert {*SECTIONS} == {*TASK_TYPES, "Hosts"}
    assert rows == [(name, name.lower()) for name in SECTIONS if name != "Hosts"]


@every_type
def test_a_timers_route_is_ready(task_type: str, tmp_path: Path) -> None:
    """A tick of its schedule becomes one event."""
    route = routes_of(task_type, tmp_path)[Trigger.TIMER]

    assert asked(route, {"schedule": "x", "scheduled_time": "t"}) == route.param


@every_type
def test_a_webhooks_route_asks_for_what_the_page_says(task_type: str, tmp_path: Path) -> None:
    """The page's one body becomes the section's Param, names still to be looked up."""
    [body] = blocks(SECTIONS["Hosts"], "json")
    [param] = blocks(SECTIONS[task_type], "json")

    assert asked(routes_of(task_type, tmp_path)[Trigger.WEBHOOK], json.loads(body)) == json.loads(param)


@every_type
def test_the_page_says_which_types_take_hosts(task_type: str, tmp_path: Path) -> None:
    """A route of them shows it, and the others' say none."""
    routes = routes_of(task_type, tmp_path).values()

    assert any(route.hosts for route in routes) is (task_type in HOST_TYPES)
    assert ("**Targets, hosts**: none" in SECTIONS[task_type]) is (task_type not in HOST_TYPES)


def test_the_page_names_every_way_to_name_a_host_and_every_criterion() -> None:
    """As the code knows them."""
    text = SECTIONS["Hosts"]
    listed = text[text.index("exactly: ") : text.index("Others, such as")]

    assert {*re.findall(r"`(\w+)`", listed)} == {*CRITERIA}
    assert all(f"`{by}`" in text and f"`{criterion}`" in text for by, criterion in CRITERION_OF.items())
