"""The design's floors hold: a module imports only from below, and every vendor has one home."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

SRC = Path(__file__).resolve().parents[2] / "src"

FLOORS = (
    "handlers",
    "app",
    "sweep",
    "submit",
    "routing",
    "ledger",
    "alibaba aws",
    "webhooks credentials",
    "cached",
    "models settings",
    "proxies",
    "clock errors",
)
"""From the top down: folders, and the modules that stand beside them. `oncetask` itself is empty, and nobody
imports anything from `oncetask.handlers`."""

HOMES = {
    "Tea": {"alibaba.tea"},
    "darabonba": {"alibaba.tea"},
    "alibabacloud_tea_openapi": {"alibaba.tea"},
    "alibabacloud_credentials": {"alibaba.tea"},
    "certifi": {"alibaba.tea"},
    "requests": {"alibaba.tea"},
    "urllib3": {"alibaba.tea"},
    "jmespath": {"routing.expressions"},
    "aws_lambda_powertools": {"handlers.telemetry"},
    "sqlite3": {"ledger.sqlite"},
    "tomllib": {"routing.routes"},
    "os": {"app"},
    "time": {"app"},
}
"""What only these modules import; nobody imports what stands in `NOWHERE`."""

NOWHERE = ("boto3", "botocore", "local", "bench", "tests", "random", "logging")
MAY_ALSO = {("logging", "alibaba.tea"), ("time", "ledger.sqlite"), ("random", "ledger.dynamodb")}
"""Tea's loggers are tamed where Tea is; SQLite's switch to WAL waits for other processes' switches; a test
gives DynamoDB's waits a `Random` of its own.
"""

ENVIRONMENT_AND_CLOCK = {
    "os.environ",
    "os.getenv",
    "time.time",
    "time.monotonic",
    "datetime.now",
    "date.today",
}


def modules() -> dict[str, ast.Module]:
    """Every module below `oncetask`, by its name without that."""
    found = {}
    for path in sorted((SRC / "oncetask").rglob("*.py")):
        name = ".".join(path.relative_to(SRC / "oncetask").with_suffix("").parts).removesuffix("__init__")
        found[name.rstrip(".")] = ast.parse(path.read_text(encoding="utf-8"))
    return found


MODULES = modules()
FLOOR_OF = {room: number for number, floor in enumerate(reversed(FLOORS)) for room in floor.split()}
"""Room to floor, counted from the ground."""


def imported(tree: ast.Module) -> Iterator[str]:
    """Dotted names of all that it imports, wherever in it and for whatever purpose."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports name their module in full"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def own(name: str) -> str | None:
    """The module of ours that an imported name stands in; None where it is none of ours."""
    if name.partition(".")[0] != "oncetask":
        return None
    inner = name.removeprefix("oncetask").lstrip(".")
    while inner and inner not in MODULES:
        inner = inner.rpartition(".")[0]
    return inner


def room_of(name: str) -> str:
    """The folder that a module stands in, or the module itself where it stands in none."""
    return name.partition(".")[0]


def used(tree: ast.Module) -> set[str]:
    """Every `name.attribute` that it mentions."""
    return {
        f"{node.value.id}.{node.attr}"
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)
    }


def wanted_by(name: str) -> set[str]:
    """The modules of ours that a module imports, for types alone included."""
    return {found for target in imported(MODULES[name]) if (found := own(target))}


def test_every_room_has_one_floor() -> None:
    """No more and no fewer than there are."""
    assert sorted(FLOOR_OF) == sorted({room_of(name) for name in MODULES} - {""})


@pytest.mark.parametrize("name", sorted(set(MODULES) - {""}))
def test_a_room_imports_only_from_lower_floors(name: str) -> None:
    """What is imported for types alone included."""
    others = {room_of(found) for found in wanted_by(name)} - {room_of(name)}

    assert {room for room in others if FLOOR_OF[room] >= FLOOR_OF[room_of(name)]} == set()


def test_no_modules_import_each_other_in_a_circle() -> None:
    """Inside a folder, too."""
    left = {name: wanted_by(name) - {name} for name in MODULES}
    while free := {name for name, wanted in left.items() if not wanted & left.keys()}:
        left = {name: wanted for name, wanted in left.items() if name not in free}

    assert left == {}


@pytest.mark.parametrize("name", sorted(MODULES))
def test_every_vendor_has_one_home(name: str) -> None:
    """So that it can be replaced there; and what nobody may import, nobody does."""
    tops = {target.partition(".")[0] for target in imported(MODULES[name])}

    strays = {top for top in tops if top in NOWHERE or name not in HOMES.get(top, {name})}
    strays |= {top for top in tops if top.startswith("alibabacloud_") and top not in HOMES}
    assert {top for top in strays if (top, name) not in MAY_ALSO} == set()


@pytest.mark.parametrize("name", sorted(set(MODULES) - {"app"}))
def test_only_the_app_reads_the_environment_and_the_clock(name: str) -> None:
    """Everything else is given both."""
    assert used(MODULES[name]) & ENVIRONMENT_AND_CLOCK == set()


@pytest.mark.parametrize("name", sorted(name for name in MODULES if not name.startswith("handlers")))
def test_below_the_handlers_nobody_prints(name: str) -> None:
    """Lower floors return or raise; log lines and metrics are the handlers'."""
    calls = {
        node.func.id
        for node in ast.walk(MODULES[name])
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }

    assert "print" not in calls
