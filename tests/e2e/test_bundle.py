"""What `make build` leaves runs on AWS Lambda: each function, under AWS's own runtime client and emulator.

The bundle is built for this machine here, by the same rule and from the same lock as for AWS Lambda.
"""

import contextlib
import json
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from operator import attrgetter
from pathlib import Path
from typing import Any

import pytest
from standardwebhooks import Webhook

from bench.bundle import MB, Bundle, bundles, content_digest
from local.emulator import ACCESS_KEY_ID, ACCESS_KEY_SECRET, Emulator
from local.emulator.sts import Federation
from local.events import json_delivery
from local.tools import PROJECT
from tests.contract.test_aws_secrets import running_vault
from tests.e2e.rie import FunctionError, Launcher, Sandbox

FUNCTIONS = {
    "TimerFunction": "timer",
    "WebhookFunction": "webhook",
    "SweepFunction": "sweep",
    "ResultsFunction": "results",
}
TOKEN = "a-token-of-alertmanager"
SECRET = "whsec_" + "c2VjcmV0IG9mIGNoZWNrLWhvc3Q="

type Start = Callable[..., contextlib.AbstractContextManager[Sandbox]]


@pytest.fixture(scope="session")
def measured(built: Path) -> list[Bundle]:
    """The functions' sizes."""
    return bundles(built)


@pytest.fixture
def start(launcher: Launcher, built: Path, emulator: Emulator, tmp_path: Path) -> Start:
    """What starts a function by its name, in a sandbox of its own.

    It asks the test's emulator, and shares a ledger with the others unless another is given. `more`
    variables overrule its own.
    """

    @contextlib.contextmanager
    def starting(
        name: str, *, folder: Path | None = None, ledger: str = "", more: Mapping[str, str] | None = None
    ) -> Iterator[Sandbox]:
        (function,) = [function for function, handler in FUNCTIONS.items() if handler == name]
        environment = {
            "ONCETASK_REGION": "ap-southeast-1",
            "ONCETASK_ENDPOINT": emulator.url,
            "ONCETASK_LEDGER": ledger or f"sqlite://{tmp_path / 'ledger.sqlite'}",
            "ALIBABA_CLOUD_ACCESS_KEY_ID": ACCESS_KEY_ID,
            "ALIBABA_CLOUD_ACCESS_KEY_SECRET": ACCESS_KEY_SECRET,
            "AGENT_OFFLINE_TOKEN": TOKEN,
            "CHECK_HOST_SECRET": SECRET,
            **(more or {}),
        }
        with launcher.running(
            folder or built / function,
            f"oncetask.handlers.{name}.handler",
            tmp_path / f"{name}.log",
            environment,
        ) as sandbox:
            yield sandbox

    return starting


def test_the_timer_makes_a_task_and_remembers_it(start: Start, emulator: Emulator) -> None:
    """Cold and warm; the tick again is a duplicate, and another one goes over the same connection."""
    with start("timer") as sandbox:
        first = sandbox.invoke(tick(hour=1))
        again = sandbox.invoke(tick(hour=1))
        other = sandbox.invoke(tick(hour=2))

        assert statuses(first) == ["created"]
        assert statuses(again) == ["duplicate"]
        assert statuses(other) == ["created"]
        assert again["results"][0]["task_id"] == first["results"][0]["task_id"]
        assert [task.type for task in emulator.tasks] == ["ASSETS_COLLECTION"] * 2
        assert emulator.connections == 1


def test_the_timer_works_without_a_stored_key(start: Start, emulator: Emulator) -> None:
    """Keyless: the function's role is vouched for once, and its lent keys serve the second tick, too."""
    no_keys = {"ALIBABA_CLOUD_ACCESS_KEY_ID": "", "ALIBABA_CLOUD_ACCESS_KEY_SECRET": ""}
    with (
        Federation(emulator) as federation,
        start("timer", more=federation.environment() | no_keys) as sandbox,
    ):
        first = sandbox.invoke(tick(hour=1))
        second = sandbox.invoke(tick(hour=2))

        assert statuses(first) + statuses(second) == ["created", "created"]
        assert len(federation.aws.issued) == len(federation.lent) == 1


def test_the_timer_works_with_a_key_from_secrets_manager(start: Start, emulator: Emulator) -> None:
    """The access key is a secret of AWS's, read by the function's own role."""
    key = {
        "ALIBABA_CLOUD_ACCESS_KEY_ID": ACCESS_KEY_ID,
        "ALIBABA_CLOUD_ACCESS_KEY_SECRET": ACCESS_KEY_SECRET,
    }
    with running_vault() as vault:
        secret_id = vault.create_secret(SecretString=json.dumps(key))
        mode = {"ONCETASK_CREDENTIALS": f"secretsmanager:{secret_id}"} | dict.fromkeys(key, "")
        with start("timer", more=vault.environment(**mode)) as sandbox:
            answer = sandbox.invoke(tick(hour=1))

            assert statuses(answer) == ["created"]
            assert len(emulator.tasks) == 1


def test_a_tick_that_is_none_is_rejected(start: Start, emulator: Emulator) -> None:
    """A placeholder that was not filled in is an answer, not a crash, and asks nothing."""
    with start("timer") as sandbox:
        answer = sandbox.invoke(tick(hour=1) | {"schedule": "<aws.scheduler.schedule-arn>"})

        assert statuses(answer) == ["rejected"]
        assert answer["results"][0]["error"]["code"] == "EventNotUnderstood"
        assert emulator.calls == []


def test_the_webhook_answers_a_signed_delivery(start: Start, emulator: Emulator) -> None:
    """201, 200 for the same again, 401 for a stranger, and 201 for another over the same connection."""
    delivery = check_host("msg-1", "inet-1")
    stranger = check_host("msg-2", "inet-1", secret="whsec_" + "YSBzdHJhbmdlcg==")
    with asked_by_a_cold_start(start, delivery) as sandbox:
        assert sandbox.invoke(delivery)["statusCode"] == 200
        assert sandbox.invoke(stranger)["statusCode"] == 401
        assert sandbox.invoke(check_host("msg-3", "inet-3"))["statusCode"] == 201
        assert [task.targets for task in emulator.tasks] == [("inet-1",), ("inet-3",)]
        assert emulator.connections == 1


@contextlib.contextmanager
def asked_by_a_cold_start(start: Start, delivery: Mapping[str, Any]) -> Iterator[Sandbox]:
    """A sandbox whose first delivery was answered 201. A cold start on a busy machine may take all the time
    in which a webhook may ask: then it is 202, nothing was asked, and another one tries.
    """
    for _ in range(3):
        with start("webhook") as sandbox:
            if sandbox.invoke(delivery)["statusCode"] == 201:
                yield sandbox
                return
    raise AssertionError("three cold starts took two seconds each")


def test_the_webhook_answers_what_is_no_delivery(start: Start) -> None:
    """Whatever comes is a verdict."""
    with start("webhook") as sandbox:
        for event in ({}, [], "text", None, 1):
            assert sandbox.invoke(event)["statusCode"] == 400


def test_the_sweep_submits_what_the_webhook_recorded(start: Start, emulator: Emulator) -> None:
    """Two functions, one ledger: 202 for two alerts, then one task for both; the next sweep follows it."""
    with start("webhook") as webhook:
        answer = webhook.invoke(agent_offline("inet-1", "inet-2"))
        assert answer["statusCode"] == 202
        assert emulator.tasks == []

    with start("sweep") as sweep:
        first = sweep.invoke({})
        second = sweep.invoke("any event starts a sweep")

    assert statuses(first) == ["created", "created"]
    assert (first["waiting"], first["running"]) == (0, 1)
    assert statuses(second) == []
    assert second["running"] == 1
    assert [task.targets for task in emulator.tasks] == [("inet-1", "inet-2")]


def test_every_result_is_one_json_line_of_the_log(start: Start) -> None:
    """Beside it only metrics, and what AWS's own programs say."""
    with start("timer") as sandbox:
        answer = sandbox.invoke(tick(hour=1))
        logged = sandbox.logged()

    results = [line["result"] for line in logged if line.get("message") == "result"]
    metrics = [line for line in logged if "_aws" in line]
    assert results == answer["results"]
    assert metrics[0]["Created"] == [1.0]
    assert metrics[0]["_aws"]["CloudWatchMetrics"][0]["Namespace"] == "OnceTask"


def test_a_wrong_setting_stops_the_start_with_its_name(
    launcher: Launcher, built: Path, tmp_path: Path
) -> None:
    """One line in the log says which variable it is, and what it should be."""
    wrong = {"ONCETASK_LEDGER": "mysql://secret-host"}
    log_file = tmp_path / "timer.log"

    with (
        launcher.running(
            built / "TimerFunction", "oncetask.handlers.timer.handler", log_file, wrong
        ) as sandbox,
        pytest.raises(FunctionError),
    ):
        sandbox.invoke(tick(hour=1))

    log = log_file.read_text()
    assert "oncetask cannot start: ONCETASK_LEDGER must be" in log
    assert "secret-host" not in log


def test_boto3_cannot_be_imported_there(launcher: Launcher, built: Path) -> None:
    """Neither from the bundle nor from the runtime client's environment."""
    modules = ("boto3", "botocore", "awslambdaric")
    script = f"import importlib.util as u; print([name for name in {modules} if u.find_spec(name)])"

    for function in FUNCTIONS:
        done = subprocess.run(
            [launcher.python, "-c", script], cwd=built / function, capture_output=True, text=True, check=True
        )
        assert done.stdout.strip() == "['awslambdaric']"


def test_the_bundle_holds_what_src_and_its_lock_say(built: Path, measured: list[Bundle]) -> None:
    """Nothing of tests, emulator or tools, every source compiled by content, and four times the same."""
    folder = built / "TimerFunction"

    assert [bundle.name for bundle in measured] == sorted(FUNCTIONS)
    assert len({bundle.digest for bundle in measured}) == 1
    assert measured[0].unzipped_bytes < 250_000_000  # AWS Lambda's limit
    assert _names_beside_the_lock(folder) == {"oncetask", "routes.toml"}
    for source in folder.rglob("*.py"):
        assert _pyc_flags(source) == 0b01  # by content, and not looked at again


def test_the_bundle_does_not_depend_on_where_it_is_built(built: Path) -> None:
    """No file names the project's folder, and no package claims a script that had named it."""
    folder = built / "TimerFunction"
    claimed = [line.split(",")[0] for record in _records(folder) for line in record]

    assert [name for name in claimed if name.startswith("bin/")] == []
    assert [path for path in folder.rglob("*") if path.is_file() and _names_project(path)] == []


def test_running_changes_nothing_in_the_bundle(start: Start, built: Path) -> None:
    """It lies in a read-only folder on AWS Lambda."""
    before = content_digest(built / "TimerFunction")

    with start("timer") as sandbox:
        sandbox.invoke(tick(hour=1))

    assert content_digest(built / "TimerFunction") == before


def test_compiled_functions_start_sooner(
    start: Start, built: Path, measured: list[Bundle], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A cold start with a call of Security Center, with and without the .pyc; the times are printed."""
    sources = tmp_path / "sources"
    shutil.copytree(built / "TimerFunction", sources, ignore=shutil.ignore_patterns("__pycache__"))
    with start("timer") as timer:
        timer.invoke(tick(hour=1))  # something for the sweep to follow
    cold_starts = {
        "timer": partial(start, "timer", ledger="memory://"),
        "webhook": partial(start, "webhook", ledger="memory://"),
        "sweep": partial(start, "sweep"),
    }
    events = {"timer": tick(hour=1), "webhook": check_host("msg-1", "inet-1"), "sweep": {}}
    starts = {
        name: (_first_call(cold, events[name]), _first_call(partial(cold, folder=sources), events[name]))
        for name, cold in cold_starts.items()
    }

    with capsys.disabled():
        print(_table_of_starts(starts, measured[0]))  # noqa: T201 - figures for the README
    for compiled, not_compiled in starts.values():
        assert compiled.cpu_s < not_compiled.cpu_s


# ---- events ----


def tick(*, hour: int) -> dict[str, Any]:
    """What the schedule of template.yml sends."""
    return {
        "route": "nightly-assets",
        "schedule": "arn:aws:scheduler:eu-central-1:123456789012:schedule/oncetask/nightly-assets",
        "scheduled_time": f"2026-11-24T{hour:02}:30:00Z",
    }


def check_host(message_id: str, uuid: str, *, secret: str = SECRET) -> dict[str, Any]:
    """A delivery to `check-host`, signed by the reference implementation of Standard Webhooks."""
    body = json.dumps({"data": {"uuid": uuid, "problem": "offline"}})
    now = datetime.now(UTC)
    return json_delivery(
        "check-host",
        body,
        {
            "webhook-id": message_id,
            "webhook-timestamp": str(int(now.timestamp())),
            "webhook-signature": Webhook(secret).sign(message_id, now, body),
        },
    )


def instance_of(uuid: str) -> str:
    """The address and port by which Prometheus knows the emulator's host `inet-N`."""
    return f"10.0.0.{uuid.removeprefix('inet-')}:9100"


def agent_offline(*uuids: str) -> dict[str, Any]:
    """What Alertmanager sends to `agent-offline`: one firing alert a host."""
    alerts = [
        {
            "status": "firing",
            "fingerprint": f"f-{uuid}",
            "startsAt": "2026-11-24T05:00:00Z",
            "labels": {"instance": instance_of(uuid)},
        }
        for uuid in uuids
    ]
    body = json.dumps({"version": "4", "status": "firing", "alerts": alerts})
    return json_delivery("agent-offline", body, {"authorization": f"Bearer {TOKEN}"})


def statuses(answer: dict[str, Any]) -> list[str]:
    """The statuses of the answer's results."""
    return [result["status"] for result in answer["results"]]


# ---- the build ----


def _names_beside_the_lock(folder: Path) -> set[str]:
    """What lies at the bundle's top that no installed package brought."""
    brought = {"__pycache__"}
    for record in _records(folder):
        brought |= {line.split(",")[0].split("/")[0] for line in record}
    return {path.name for path in folder.iterdir()} - brought


def _records(folder: Path) -> list[list[str]]:
    """What the installed packages say that they hold, a file a line."""
    return [record.read_text().splitlines() for record in folder.glob("*.dist-info/RECORD")]


def _names_project(path: Path) -> bool:
    return f"{PROJECT}/".encode() in path.read_bytes()


def _pyc_flags(source: Path) -> int:
    """The flags of a compiled file (PEP 552): bit 0, by hash; bit 1, the source is compared at import."""
    compiled = source.parent / "__pycache__" / f"{source.stem}.cpython-313.pyc"
    return int.from_bytes(compiled.read_bytes()[4:8], "little")


@dataclass(frozen=True)
class FirstCall:
    """What loading and starting a function and its first call took, on the clock and on the processor."""

    wall_s: float
    cpu_s: float


def _first_call(cold: Start, event: object) -> FirstCall:
    """The better of two."""
    calls = []
    for _ in range(2):
        with cold() as sandbox:
            began_s = time.monotonic()
            sandbox.invoke(event)
            calls.append(FirstCall(time.monotonic() - began_s, sandbox.cpu_s()))
    return min(calls, key=attrgetter("wall_s"))


def _table_of_starts(starts: dict[str, tuple[FirstCall, FirstCall]], bundle: Bundle) -> str:
    lines = [
        f"  {name:<8} {compiled.wall_s:.2f} s ({compiled.cpu_s:.2f} s processor) compiled,"
        f" {plain.wall_s:.2f} s ({plain.cpu_s:.2f} s) not"
        for name, (compiled, plain) in starts.items()
    ]
    size = f"  {bundle.unzipped_bytes / MB:.1f} MB unzipped, {bundle.zipped_bytes / MB:.1f} MB zipped"
    return "\n".join(["", "first call of a new sandbox:", *lines, size])
