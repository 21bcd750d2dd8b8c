"""What the README says is said by the code too."""

import re
from pathlib import Path

import pytest

from oncetask.alibaba.instances import ACTION
from oncetask.errors import Code
from oncetask.models import Status
from oncetask.routing.routes import Route, load_routes
from oncetask.settings import Settings
from tests.answers import ROWS
from tests.project.test_floors import FLOORS

ROOT = Path(__file__).resolve().parents[2]
README = ROOT / "README.md"
ANSWERS = re.compile(r"(?<=<!-- answers: written by tests/project/test_readme.py, from tests/answers.py -->\n).*?(?=<!-- /answers -->)", re.DOTALL)  # fmt: skip  # noqa: E501


def answers_table() -> str:
    """The table of answers, a line for every one that the contract tells apart."""
    lines: dict[str, str] = {}
    for row in ROWS:
        code = f" `{row.code}`" if row.code in set(Code) else ""
        asks = "goes on" if row.asks_may_go_on else "asks for no more"
        lines.setdefault(row.says, f"| {row.says} | `{row.status}`{code} | {row.kind or ''} | {asks} |")
    head = "| Security Center's answer | the event is | who must act | this invocation |\n|---|---|---|---|\n"
    return head + "\n".join(lines.values()) + "\n"


def test_the_table_of_answers_is_the_one_that_the_tests_run() -> None:
    """Run this module as a program to write it anew."""
    shown = ANSWERS.search(README.read_text(encoding="utf-8"))

    assert shown is not None
    assert shown[0] == answers_table()


@pytest.mark.parametrize("status", Status)
def test_every_status_is_explained(status: Status) -> None:
    """In the table of statuses."""
    assert f"\n| `{status}` |" in README.read_text(encoding="utf-8")


@pytest.mark.parametrize("key", [name for name in Route.model_fields if name != "name"])
def test_every_key_of_a_route_is_explained(key: str) -> None:
    """In the table of keys."""
    text = README.read_text(encoding="utf-8")
    table = text.split("## Routes")[1].split("## Timers")[0]

    assert f"`{key}`" in table


@pytest.mark.parametrize("field", Settings.model_fields.values(), ids=lambda field: str(field.alias))
def test_every_setting_of_ours_is_explained(field: object) -> None:
    """In the table of settings; AWS's own variables are AWS's to explain."""
    variable = str(getattr(field, "alias", ""))
    table = README.read_text(encoding="utf-8").split("## Settings")[1].split("\n## ")[0]

    assert variable.startswith("AWS_") or variable in table or f"`_{variable.rsplit('_', 1)[1]}`" in table


def test_the_routes_shown_are_routes(tmp_path: Path) -> None:
    """The TOML of the README loads as it stands."""
    blocks = re.findall(r"```toml\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    path = tmp_path / "routes.toml"
    path.write_text("\n".join(blocks), encoding="utf-8")

    routes = load_routes(path, ("ASSETS_COLLECTION", "CLIENT_PROBLEM_CHECK"))

    assert set(routes) == {"nightly-assets", "agent-offline"}


def test_every_target_of_the_makefile_that_is_named_exists() -> None:
    """`make run` and all the others."""
    text = README.read_text(encoding="utf-8")
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")

    named = set(re.findall(r"`make ([a-z]+)", text)) | set(re.findall(r"^make ([a-z]+)", text, re.MULTILINE))

    assert named
    assert {name for name in named if f"\n{name}:" not in makefile} == set()


def test_every_file_that_is_linked_exists() -> None:
    """Links inside the repository."""
    links = re.findall(r"\]\((?!https?://|#)([^)#]+)", README.read_text(encoding="utf-8"))

    assert [link for link in links if not (ROOT / link).exists()] == []


def test_the_table_of_senders_is_their_pages() -> None:
    """Row by row; only the links lead further."""
    page = (ROOT / "docs" / "senders.md").read_text(encoding="utf-8")
    start = page.index("| sender |")
    table = page[start : page.index("\n\n", start)].replace("](#", "](docs/senders.md#")

    assert table in README.read_text(encoding="utf-8")


def test_the_picture_of_the_inside_is_the_floors() -> None:
    """From the top down, the rooms that the floors test holds."""
    picture = README.read_text(encoding="utf-8").split("## Inside\n\n")[1].split("\n\n")[0]
    shown = [re.split(r" {2,}", line.strip())[0].split(" · ") for line in picture.splitlines()]

    assert [set(floor) for floor in shown] == [set(floor.split()) for floor in FLOORS]


def test_the_ram_policy_names_every_operation_by_both_prefixes() -> None:
    """The API page and the vendor's own tools name the actions differently."""
    text = README.read_text(encoding="utf-8")
    door = (ROOT / "src/oncetask/alibaba/security_center.py").read_text(encoding="utf-8")
    operations = set(re.findall(r'"((?:Generate|Describe|Get)\w*OnceTask\w*)"', door))

    assert len(operations) == 4
    for operation in operations:
        assert f'"yundun-aegis:{operation}", "yundun-sas:{operation}"' in text


def test_the_list_of_hosts_is_named_as_needed_only_for_hosts() -> None:
    """By both prefixes, beside the policy that everybody needs."""
    text = README.read_text(encoding="utf-8")
    policy, beside = text.split("## The RAM policy\n")[1].split("\n## ")[0].rsplit("```", 1)

    assert ACTION not in policy
    assert all(f'"{prefix}:{ACTION}"' in beside for prefix in ("yundun-aegis", "yundun-sas"))


if __name__ == "__main__":
    written = ANSWERS.sub(lambda _: answers_table(), README.read_text(encoding="utf-8"))
    README.write_text(written, encoding="utf-8")
