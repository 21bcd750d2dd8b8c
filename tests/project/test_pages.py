"""What the pages say is said by the code too."""

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from oncetask.alibaba.instances import ACTION
from oncetask.errors import Code
from oncetask.models import TASK_TYPES, Result, Status
from oncetask.routing.routes import Route, load_routes
from oncetask.settings import Settings
from oncetask.webhooks.verification import Scheme
from tests import shipped
from tests.project import pages
from tests.project.pages import (
    CONTRIBUTING,
    DOCS,
    PAGES,
    PROJECT,
    README,
    RESULTS,
    first_cells,
    read,
    section,
)
from tests.project.test_floors import FLOORS
from tests.project.test_template import METRICS

README_LINES = 130
ROUTES, SETTINGS = DOCS / "routes.md", DOCS / "settings.md"
AWAY_FROM_PLAIN = re.compile(
    r"\bwhoever\b|\banew\b|\bbe had\b|\bcomes? again\b|\bcame again\b", re.IGNORECASE
)
"""Words that readers whose first language is another stumble over."""

each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(PROJECT)))
each_picture = pytest.mark.parametrize("path", pages.PICTURES, ids=lambda path: path.stem)


# -- each page ------------------------------------------------------------------------------------


def test_the_readme_is_a_face_and_no_manual() -> None:
    """One screen or three; the rest stands in the pages that it links."""
    assert len(read(README).splitlines()) <= README_LINES


def test_the_readme_leads_to_every_page() -> None:
    """At most one click away; bench.md is a part of performance.md."""
    linked = {(PROJECT / link).resolve() for link in re.findall(r"\]\(([^)#:]+)", read(README))}

    assert set(PAGES) - {README, DOCS / "bench.md"} - linked == set()


@each_page
def test_every_link_leads_somewhere(page: Path) -> None:
    """Files, and headings in them."""
    for target in re.findall(r"\]\((?!https?:)([^)]+)\)", read(page)):
        name, _, anchor = target.partition("#")
        linked = (page.parent / name).resolve() if name else page
        assert linked.exists(), target
        headings = re.findall(r"^#+ (.+)$", read(linked), re.MULTILINE) if anchor else []
        assert not anchor or anchor in map(pages.slug, headings), target


@each_page
def test_every_target_of_the_makefile_that_is_named_exists(page: Path) -> None:
    """`make run` and all the others."""
    makefile = read(PROJECT / "Makefile")

    named = set(re.findall(r"(?:`|^ *)make ([a-z]+)", read(page), re.MULTILINE))

    assert {name for name in named if f"\n{name}:" not in makefile} == set()


@each_page
def test_the_prose_is_plain(page: Path) -> None:
    """For readers whose first language it is not."""
    assert AWAY_FROM_PLAIN.findall(read(page)) == []


def test_the_makefiles_help_is_plain() -> None:
    """The same."""
    helps = re.findall(r"## (.*)", read(PROJECT / "Makefile"))

    assert helps
    assert [text for text in helps if AWAY_FROM_PLAIN.search(text)] == []


# -- what is made from the code -------------------------------------------------------------------


def test_the_table_of_answers_is_the_one_that_the_tests_run() -> None:
    """`make pages` writes it again."""
    assert pages.answers_shown() == pages.answers_table()


@each_picture
def test_the_pictures_are_what_their_programs_draw(path: Path) -> None:
    """`make pages` draws them again; look at them then."""
    assert read(path) == pages.PICTURES[path]()


@each_picture
def test_a_picture_loads_nothing_from_elsewhere(path: Path) -> None:
    """No fonts, no images, no scripts."""
    drawn = read(path).replace('xmlns="http://www.w3.org/2000/svg"', "")

    assert re.findall(r"https?:|url\((?!#)|<script|<image|@import", drawn) == []


def test_the_readme_shows_the_pictures() -> None:
    """Both of them."""
    for path in pages.PICTURES:
        assert f"({path.relative_to(PROJECT)})" in read(README)


# -- results --------------------------------------------------------------------------------------


def test_every_status_is_explained() -> None:
    """In the order in which an event may meet them."""
    assert first_cells(section(RESULTS, "Statuses")) == list(Status)


def test_every_code_is_explained() -> None:
    """Each once."""
    assert sorted(first_cells(section(RESULTS, "Errors"))) == sorted(Code)


def test_every_field_of_a_result_is_explained() -> None:
    """In the result's own order."""
    shown = re.findall(r"^\| `(\w+)` \|", section(RESULTS, "Results"), re.MULTILINE)

    assert shown == list(Result.model_fields)


def test_every_metric_is_explained() -> None:
    """The counts and the gauges, each once."""
    assert sorted(first_cells(section(RESULTS, "Metrics"))) == sorted(METRICS)


# -- routes ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", [name for name in Route.model_fields if name != "name"])
def test_every_key_of_a_route_is_explained(key: str) -> None:
    """In the table of keys, in a row of its own."""
    assert f"\n| `{key}` |" in section(ROUTES, "Keys")


def test_every_key_of_a_scheme_is_explained() -> None:
    """In the table of `verify`, in a row of its own."""
    table = section(ROUTES, "`verify`")

    for scheme in schemes_below(Scheme):
        for name, field in scheme.model_fields.items():
            assert f"\n| `{field.alias or name}` |" in table, (scheme, name)


def test_every_scheme_is_explained() -> None:
    """By the word that stands in the routes file."""
    table = section(ROUTES, "`verify`").split("| key of")[0]

    for scheme in schemes_below(Scheme):
        for word in getattr(scheme.model_fields["scheme"].annotation, "__args__", ()):
            assert f"\n| `{word}` |" in table, word


def schemes_below(kind: type[Scheme]) -> Iterator[type[Scheme]]:
    """Every class of schemes, whatever its level."""
    for scheme in kind.__subclasses__():
        yield scheme
        yield from schemes_below(scheme)


@pytest.mark.parametrize("task_type", TASK_TYPES)
def test_every_task_type_is_named(task_type: str) -> None:
    """Where the keys are."""
    assert f"`{task_type}`" in section(ROUTES, "Keys")


def test_the_routes_shown_are_routes(tmp_path: Path) -> None:
    """The TOML of the page loads as it stands."""
    path = tmp_path / "routes.toml"
    path.write_text("\n".join(toml_blocks(ROUTES)), encoding="utf-8")

    routes = load_routes(path, ("ASSETS_COLLECTION", "CLIENT_PROBLEM_CHECK"))

    assert set(routes) == {"nightly-assets", "agent-offline", "by-address", "offline-agents"}


def test_the_readmes_route_is_the_one_that_ships() -> None:
    """So that its webhook is answered."""
    [block] = toml_blocks(README)
    shipped.routes()
    ships = tomllib.loads(read(shipped.PLACE))["routes"]

    [(name, table)] = tomllib.loads(block)["routes"].items()

    assert table == ships[name]


def toml_blocks(page: Path) -> list[str]:
    """Its routes."""
    return re.findall(r"```toml\n(.*?)```", read(page), re.DOTALL)


def test_the_table_of_senders_stands_once() -> None:
    """In their own page, to which the README leads."""
    assert [page.name for page in PAGES if "\n| sender |" in read(page)] == ["senders.md"]


# -- settings -------------------------------------------------------------------------------------


@pytest.mark.parametrize("field", Settings.model_fields.values(), ids=lambda field: str(field.alias))
def test_every_setting_of_ours_is_explained(field: object) -> None:
    """In the table of settings; AWS's own variables are AWS's to explain, but for its endpoints."""
    variable = str(getattr(field, "alias", ""))
    is_awss = variable.startswith("AWS_") and "ENDPOINT" not in variable

    assert is_awss or f"`{variable}`" in section(SETTINGS, "Variables")


@pytest.mark.parametrize("page", [SETTINGS, DOCS / "keyless.md"], ids=lambda page: page.stem)
def test_the_ram_policy_names_every_operation_by_both_prefixes(page: Path) -> None:
    """The API page and the vendor's own tools name the actions differently."""
    door = read(PROJECT / "src/oncetask/alibaba/security_center.py")
    operations = set(re.findall(r'"((?:Generate|Describe|Get)\w*OnceTask\w*)"', door))

    assert len(operations) == 4
    for operation in operations:
        assert f'"yundun-aegis:{operation}", "yundun-sas:{operation}"' in read(page)


@pytest.mark.parametrize("page", [SETTINGS, DOCS / "keyless.md"], ids=lambda page: page.stem)
def test_the_list_of_hosts_is_named_as_needed_only_for_hosts(page: Path) -> None:
    """By both prefixes, beside the policy that everybody needs."""
    [policy] = re.findall(r'"Action": \[(.*?)\]', read(page), re.DOTALL)

    assert ACTION not in policy
    assert all(f'"{prefix}:{ACTION}"' in read(page) for prefix in ("yundun-aegis", "yundun-sas"))


# -- the inside -----------------------------------------------------------------------------------


def test_each_death_of_the_protocol_is_one_that_a_test_dies() -> None:
    """And each of the tests stands beside the step at which it kills."""
    deaths = read(PROJECT / "tests" / "functional" / "test_deaths.py")

    named = re.findall(r"\[`([^`]+)`\](?!\()", read(DOCS / "protocol.md"))

    assert set(named) == set(re.findall(r'id="([^"]+)"', deaths))


def test_the_picture_of_the_inside_is_the_floors() -> None:
    """From the top down, the rooms that the floors test holds."""
    [picture] = re.findall(r"(?:^ {4}\S.*\n)+", section(CONTRIBUTING, "Where things are"), re.MULTILINE)
    shown = [re.split(r" {2,}", line.strip())[0].split(" · ") for line in picture.splitlines()]

    assert [set(floor) for floor in shown] == [set(floor.split()) for floor in FLOORS]
