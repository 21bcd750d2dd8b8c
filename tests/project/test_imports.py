"""What importing the code, and refusing a stranger, does to a process: little."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

PROJECT = Path(__file__).resolve().parents[2]
MODULES = sorted(
    ".".join(path.relative_to(PROJECT / "src").with_suffix("").parts).removesuffix(".__init__")
    for path in (PROJECT / "src" / "oncetask").rglob("*.py")
)

BLOCK_BOTO3 = """
import sys
from importlib.abc import MetaPathFinder

class NoBoto3(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"boto3", "botocore"}:
            raise ImportError(f"{name} is neither declared, bundled nor imported")

sys.meta_path.insert(0, NoBoto3())
"""

LOOK_ROUND = """
import importlib, json, logging, sys, threading
for name in json.loads(sys.argv[1]):
    importlib.import_module(name)
loggers = [logging.getLogger(), *map(logging.getLogger, logging.root.manager.loggerDict)]
print(json.dumps({
    "handlers": sorted({type(handler).__name__ for logger in loggers for handler in logger.handlers}),
    "threads": [thread.name for thread in threading.enumerate()],
    "modules": sorted({name.partition(".")[0] for name in sys.modules}),
}))
"""

REFUSE = """
import contextlib, io, json, sys
from oncetask.handlers import webhook

with contextlib.redirect_stdout(io.StringIO()):
    answer = webhook.handler({
        "httpMethod": "POST",
        "path": "/webhooks/check-host",
        "headers": {"webhook-id": "a", "webhook-timestamp": "1", "webhook-signature": "v1,AAAA"},
        "body": "{}",
    }, None)
print(json.dumps([answer["statusCode"], sorted({name.partition(".")[0] for name in sys.modules})]))
"""

A_REFUSED_DELIVERY_LOADS = {
    "oncetask",
    "aws_lambda_powertools",
    *("jmespath", "ply"),
    *("pydantic", "pydantic_core", "annotated_types", "typing_extensions", "typing_inspection"),
}
"""Neither Tea nor any of what it brings (requests, aiohttp, cryptography, …): that is half a second."""


RESULTS = {
    "ONCETASK_RESULTS": "eventbridge:results",
    "ONCETASK_DEAD_LETTERS": "https://sqs.eu-central-1.amazonaws.com/123456789012/dead.fifo",
    "AWS_REGION": "eu-central-1",
    "AWS_ACCESS_KEY_ID": "AKIAEXAMPLE",
    "AWS_SECRET_ACCESS_KEY": "made-up",
}
"""What the results function does not start without."""


def printed_by(program: str, *arguments: str) -> Any:  # noqa: ANN401 - JSON
    """The JSON that the program prints in a process of its own, with no more settings than a start needs."""
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        env={
            "PYTHONPATH": str(PROJECT / "src"),
            "PATH": os.environ["PATH"],
            "CHECK_HOST_SECRET": "whsec_AAAA",
            **RESULTS,
        },
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def seen() -> dict[str, list[str]]:
    """A process that has imported every module, where boto3 cannot be."""
    found: dict[str, list[str]] = printed_by(BLOCK_BOTO3 + LOOK_ROUND, json.dumps(MODULES))
    return found


def test_every_module_is_imported_where_boto3_cannot_be(seen: dict[str, list[str]]) -> None:
    """Powertools' utilities that need it are not used, and nobody tries whether it is there."""
    assert not {"boto3", "botocore"} & set(seen["modules"])


def test_importing_everything_adds_no_log_handler(seen: dict[str, list[str]]) -> None:
    """Tea's stream handlers are taken away: our log is ours alone."""
    assert set(seen["handlers"]) <= {"NullHandler"}


def test_importing_everything_starts_no_thread(seen: dict[str, list[str]]) -> None:
    """A thread would not live through a snapshot, nor a frozen function."""
    assert seen["threads"] == ["MainThread"]


def test_importing_everything_imports_tea(seen: dict[str, list[str]]) -> None:
    """So that the tests above have looked at what they speak of."""
    assert {"Tea", "darabonba", "oncetask"} <= set(seen["modules"])


def test_a_refused_delivery_loads_little() -> None:
    """A stranger costs no more than that."""
    status, names = printed_by(REFUSE)

    loaded = set(names) - set(sys.stdlib_module_names) - {"__main__"}
    assert status == 401
    assert {name for name in loaded if not name.startswith("_")} <= A_REFUSED_DELIVERY_LOADS


def test_boto_is_left_alone_where_the_runtime_has_it(tmp_path: Path) -> None:
    """AWS's runtime has both on its path; nothing here, Powertools included, may load them."""
    for name in ("boto3", "botocore"):
        (tmp_path / f"{name}.py").write_text("", encoding="utf-8")
    script = (
        "import sys; from oncetask.handlers import results, sweep, timer, webhook\n"
        "for module in (results, sweep, timer, webhook): module.handler({}, None)\n"
        "sys.exit(bool({'boto3', 'botocore'} & sys.modules.keys()))"
    )
    path = os.pathsep.join([str(PROJECT / "src"), str(tmp_path)])

    done = subprocess.run(
        [sys.executable, "-c", script],
        env=os.environ | RESULTS | {"PYTHONPATH": path},
        stdout=subprocess.DEVNULL,
        check=False,
    )

    assert done.returncode == 0
