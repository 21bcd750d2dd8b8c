"""The design's floors hold: a module imports only from below, and every vendor has one home."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

SRC = Path(__file__).resolve().parents[2] / "src"

FLOORS: tuple[frozenset[str], ...] = tuple(
    frozenset(floor.split())
    for floor in (
        "errors later",
        "models clock tea",
        "ledgers verify payloads sigv4 settings kept bodies",
        "routes settling looking credentials secret_values aws ledgers.sql answers",
        "coalesce ledgers.dynamodb aws_secrets keyless security_center",
        "submit alibaba_sts",
        "sweep",
        "wiring",
        "handlers.fronts handlers.telemetry",
        "handlers.timer handlers.webhook handlers.sweep",
    )
)
"""From the ground up. `oncetask` itself is empty, and nobody imports anything from `oncetask.handlers`."""

HOMES = {
    "Tea": {"tea"},
    "darabonba": {"tea"},
    "alibabacloud_tea_openapi": {"tea"},
    "alibabacloud_credentials": {"tea"},
    "requests": {"tea"},
    "urllib3": {"tea"},
    "jmespath": {"routes"},
    "aws_lambda_powertools": {"handlers.telemetry"},
    "sqlite3": {"ledgers.sql"},
    "tomllib": {"routes"},
    "os": {"wiring"},
    "time": {"wiring"},
}
"""What only these modules import; nobody imports what stands in `NOWHERE`."""

NOWHERE = ("boto3", "botocore", "local", "tests", "random", "logging")
MAY_ALSO = {("logging", "tea"), ("time", "ledgers.sql"), ("random", "ledgers.dynamodb")}
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
EMPTY = {"", "handlers"}


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


def floor_of(name: str) -> int:
    """Which floor a module is on."""
    return next(number for number, floor in enumerate(FLOORS) if name in floor)


def used(tree: ast.Module) -> set[str]:
    """Every `name.attribute` that it mentions."""
    return {
        f"{node.value.id}.{node.attr}"
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)
    }


def test_every_module_has_one_floor() -> None:
    """No more and no fewer than there are."""
    placed = [name for floor in FLOORS for name in floor]

    assert sorted(placed) == sorted(set(MODULES) - EMPTY)


@pytest.mark.parametrize("name", sorted(set(MODULES) - EMPTY))
def test_a_module_imports_only_from_lower_floors(name: str) -> None:
    """What is imported for types alone included."""
    below = frozenset[str]().union(*FLOORS[: floor_of(name)])
    wanted = {found for target in imported(MODULES[name]) if (found := own(target)) is not None}

    assert wanted - EMPTY <= below


@pytest.mark.parametrize("name", sorted(MODULES))
def test_every_vendor_has_one_home(name: str) -> None:
    """So that it can be replaced there; and what nobody may import, nobody does."""
    tops = {target.partition(".")[0] for target in imported(MODULES[name])}

    strays = {top for top in tops if top in NOWHERE or name not in HOMES.get(top, {name})}
    strays |= {top for top in tops if top.startswith("alibabacloud_") and top not in HOMES}
    assert {top for top in strays if (top, name) not in MAY_ALSO} == set()


@pytest.mark.parametrize("name", sorted(set(MODULES) - {"wiring"}))
def test_only_wiring_reads_the_environment_and_the_clock(name: str) -> None:
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
