"""docs/senders.md, docs/senders.toml and events/senders say the same, and it is what the code does."""

import re
import tomllib
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from local.cases import Case, documents
from local.emulator import SAMPLE, Emulator, read_hosts
from local.explain import explain
from local.tools import PROJECT
from oncetask.errors import Rejection
from oncetask.handlers import sweep, webhook
from oncetask.models import TASK_TYPES, Trigger, compact_json
from oncetask.routing.expressions import Expression
from oncetask.routing.routes import load_routes
from oncetask.webhooks.body import parse
from oncetask.webhooks.http import Delivery

PAGE = PROJECT / "docs" / "senders.md"
ROUTES = PROJECT / "docs" / "senders.toml"
DOCUMENTS = [path for path in documents() if path.parent.name == "senders"]

REPLAYED = "github-replayed-under-another-id"
"""Which id came first is in the ledger, at which `explain` does not look."""

every_document = pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.stem)
every_document_but_a_replayed_one = pytest.mark.parametrize(
    "path", [path for path in DOCUMENTS if path.stem != REPLAYED], ids=lambda path: path.stem
)


@dataclass(frozen=True)
class Row:
    """What a section says of a document."""

    document: Path
    status: int
    results: list[str]


@dataclass(frozen=True)
class Section:
    """One sender's part of the page."""

    title: str
    text: str

    def blocks(self, language: str) -> list[str]:
        """Its code blocks in that language."""
        return re.findall(rf"^```{language}\n(.*?)^```$", self.text, re.DOTALL | re.MULTILINE)

    def routes(self) -> dict[str, Any]:
        """The tables of its TOML blocks."""
        return {
            name: table
            for block in self.blocks("toml")
            for name, table in tomllib.loads(block)["routes"].items()
        }

    def rows(self) -> list[Row]:
        """Its table of documents."""
        found = re.findall(r"^\| \[[^|]+\]\((\S+)\) \| (\d+) \| (.+) \|$", self.text, re.MULTILINE)
        return [
            Row((PAGE.parent / link).resolve(), int(status), re.findall(r"`(\w+)`", results))
            for link, status, results in found
        ]


def page() -> str:
    """The page's text."""
    return PAGE.read_text(encoding="utf-8")


def sections() -> list[Section]:
    """The page's senders, in its order."""
    parts = re.split(r"^## (.+)$", page(), flags=re.MULTILINE)
    return [Section(title, text) for title, text in zip(parts[1::2], parts[2::2], strict=True)]


def slug(title: str) -> str:
    """The route of a section, and the anchor that leads to it."""
    return title.lower().replace(" ", "-")


def expected(path: Path) -> dict[str, Any]:
    """The HTTP answer that stands beside a document."""
    answer: dict[str, Any] = Case.at(path).told["expected"]
    return answer


def explained(path: Path, emulator: Emulator) -> list[tuple[str, str]]:
    """What `oncetask explain` says of a document, at its moment and with its secrets."""
    case = Case.at(path)
    return list(explain(case.app(emulator.url), case.event))


# -- the page and the routes ----------------------------------------------------------------------


def test_the_sample_routes_load() -> None:
    """As the process would load them at start; all of them are webhooks."""
    routes = load_routes(ROUTES, TASK_TYPES)

    assert {route.trigger for route in routes.values()} == {Trigger.WEBHOOK}


def test_every_toml_block_of_the_page_is_a_piece_of_the_sample_routes() -> None:
    """To the letter, so that a reader finds there what was read here."""
    file = ROUTES.read_text(encoding="utf-8")
    blocks = [block for section in sections() for block in section.blocks("toml")]

    assert [block for block in blocks if block not in file] == []
    assert page().count("```toml") == len(blocks)


def test_the_page_shows_every_sample_route_once_and_whole() -> None:
    """A section a route, which has its name."""
    shown = {slug(section.title): section.routes() for section in sections()}

    assert shown == {
        name: {name: table}
        for name, table in tomllib.loads(ROUTES.read_text(encoding="utf-8"))["routes"].items()
    }


def test_the_table_at_the_top_has_every_section_and_its_scheme() -> None:
    """So that a reader who compares senders misses none."""
    rows = re.findall(r"^\| \[[^|]+\]\(#(\S+)\) \| `([\w-]+)`", page(), re.MULTILINE)

    assert rows == [
        (slug(section.title), section.routes()[slug(section.title)]["verify"]["scheme"])
        for section in sections()
    ]


def test_every_link_to_a_file_of_the_project_leads_there() -> None:
    """A renamed file leaves no dead link."""
    links = re.findall(r"\]\((?!https?://|#)([^)]+)\)", page())

    assert [link for link in links if not (PAGE.parent / link.partition("#")[0]).exists()] == []


def test_every_yaml_block_can_be_read_and_calls_its_section_s_route() -> None:
    """What is to be pasted is whole."""
    blocks = [(slug(section.title), block) for section in sections() for block in section.blocks("yaml")]

    assert [isinstance(yaml.safe_load(block), dict) for _, block in blocks] == [True] * len(blocks)
    assert all(f"https://HOST/webhooks/{name}\n" in block for name, block in blocks)


# -- the page and the documents -------------------------------------------------------------------


def test_every_document_has_its_row_in_the_section_of_its_route() -> None:
    """None lies about that nobody explains."""
    routes_of_rows = {row.document: slug(section.title) for section in sections() for row in section.rows()}

    assert routes_of_rows == {path: Case.at(path).event["pathParameters"]["route"] for path in DOCUMENTS}


def test_every_row_says_what_its_document_comes_to() -> None:
    """HTTP status and results; that the document does come to them is held where all documents run."""
    rows = [row for section in sections() for row in section.rows()]

    assert rows == [
        Row(
            row.document,
            expected(row.document)["statusCode"],
            [result["status"] for result in expected(row.document)["body"]["results"]],
        )
        for row in rows
    ]


WAITING = [
    path
    for path in DOCUMENTS
    if any(result["status"] == "pending" for result in expected(path)["body"]["results"])
]


@pytest.mark.parametrize("path", WAITING, ids=lambda path: path.stem)
def test_what_waits_is_created_by_the_next_sweep(path: Path, emulator: Emulator) -> None:
    """Where a document names hosts in another way than Security Center, the emulator's list knows them."""
    emulator.hosts[:] = read_hosts(SAMPLE)
    case = Case.at(path)

    with closing(case.app(emulator.url)) as app:
        for event in (*case.before, case.event):
            webhook.handle(app, event, app.deadline(30_000))
        swept = sweep.handle(app, app.deadline(30_000))

    assert {str(result.status) for result in swept.results} == {"created"}
    for result in swept.results:
        uuids = result.request.param.get("uuids", "inet-") if result.request else ""
        assert all(uuid.startswith("inet-") for uuid in str(uuids).split(","))


# -- explain --------------------------------------------------------------------------------------


@every_document
def test_explain_says_that_the_delivery_is_verified_for_its_route(path: Path, emulator: Emulator) -> None:
    """The documents are signed as their senders sign."""
    route = expected(path)["body"]["results"][0]["route"]
    scheme = load_routes(ROUTES, TASK_TYPES)[route].verify

    said = dict(explained(path, emulator))

    assert said["route"] == f"{route}: the path's last segment"
    assert scheme is not None
    assert said["verification"] == f"{scheme.scheme}: passed"


@every_document_but_a_replayed_one
def test_explain_says_the_ids_and_requests_that_the_delivery_comes_to(path: Path, emulator: Emulator) -> None:
    """What is `ignored` or `rejected` is told with its id; the rest with its request, too, but where another
    item stands under the id, which the sender is not shown.
    """
    results = expected(path)["body"]["results"]
    ends = {"ignored", "rejected"}

    said = explained(path, emulator)

    assert [text.split("  ")[0] for name, text in said if name in {"event", *ends}] == [
        result["event_id"] for result in results
    ]
    assert [name for name, _ in said if name in ends] == [
        result["status"] for result in results if result["status"] in ends
    ]
    requests = [text for name, text in said if name == "request"]
    told = [result["request"] for result in results if result["status"] not in ends]
    assert len(requests) == len(told)
    assert [text for text, request in zip(requests, told, strict=True) if request is not None] == [
        compact_json(request) for request in told if request is not None
    ]


# -- what the page says of CloudMonitor -----------------------------------------------------------


@pytest.fixture
def callback() -> Any:  # noqa: ANN401 - JSON data
    """The form that CloudMonitor posts, as expressions see it."""
    (path,) = (path for path in DOCUMENTS if path.stem == "cloudmonitor-alert")
    delivery = Delivery.of(Case.at(path).event)
    route = load_routes(ROUTES, TASK_TYPES)[delivery.route or ""]
    return parse(delivery.body or b"", delivery.headers, route.media)


def test_no_expression_takes_cloudmonitors_dimensions_apart(callback: Any) -> None:  # noqa: ANN401
    """They are a text that is no JSON, and JMESPath has no function that reads one."""
    assert callback["dimensions"].startswith("{userId=")
    assert Expression("dimensions.instanceId").search(callback) is None
    with pytest.raises(Rejection):
        Expression("parse_json(dimensions)").search(callback)
    for missing in ("from_json", "split", "replace", "regex_match"):
        with pytest.raises(ValueError, match="no function"):
            Expression(f"{missing}(dimensions)")


def test_no_field_of_cloudmonitor_names_a_host_as_security_center_does(callback: Any) -> None:  # noqa: ANN401
    """Neither an `inet-` id nor a GUID of a host: `transId` is the delivery's own."""
    named = {name for name, value in callback.items() if re.search(r"inet-|[0-9a-f]{8}-[0-9a-f]{4}-", value)}

    assert named == {"transId"}
