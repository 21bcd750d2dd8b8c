"""Each command in a pipe: what it does, and the one line that bad input gets."""

import http.client
import json
import socket
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from tests.command.programs import Running, ran, ran_here, running

SECRETS = {
    "CHECK_HOST_SECRET": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
    "AGENT_OFFLINE_TOKEN": "a-token-of-agents",
}
ROUTES = """
[routes.check-host]
trigger = "webhook"
task_type = "CLIENT_PROBLEM_CHECK"
targets = "data.uuid"
param = {mode = 1}
param_from = {problemType = "data.problem"}
verify = {scheme = "standard-webhooks", secrets = ["env:CHECK_HOST_SECRET"]}

[routes.offline]
trigger = "webhook"
task_type = "CLIENT_PROBLEM_CHECK"
id = "name"
targets = "uuid"
submit = "sweep"
param = {mode = 1, problemType = "offline"}
verify = {scheme = "none"}

[routes.often]
trigger = "timer"
task_type = "IMAGE_SCAN"
schedule = "at(SOON)"
timezone = "Asia/Singapore"
"""
HOSTILE = "disk[/dev/sda1]$(touch x)\u202e"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder that is not the checkout, with routes, payloads and files that are none."""
    soon = datetime.now(ZoneInfo("Asia/Singapore")) + timedelta(seconds=10)
    (tmp_path / "routes.toml").write_text(ROUTES.replace("SOON", f"{soon:%Y-%m-%dT%H:%M:%S}"))
    (tmp_path / "good.json").write_text('{"data": {"uuid": "inet-1", "problem": "offline"}}')
    (tmp_path / "empty.json").write_text('{"data": {"host": "inet-1"}}')
    (tmp_path / "hostile.json").write_text(json.dumps({"name": HOSTILE, "uuid": "inet-2"}))
    (tmp_path / "no.json").write_text("{")
    return tmp_path


# -- one line -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["rum"], "did you mean run?"),
        (["run", "gone.json"], "there is no file gone.json"),
        (["run", "god.json"], "did you mean good.json?"),
        (["run", "no.json"], "must hold one JSON document"),
        (["run", "."], "could not be read"),
        (["run", "--live", "good.json"], "ONCETASK_LEDGER must name a ledger that lasts"),
        (["run", "--routes", "gone.toml", "good.json"], "there is none at gone.toml"),
        (["explain", "chek-host", "good.json"], "did you mean check-host?"),
        (["explain", "nothing"], "there is no file nothing"),
        (["send", "often", "good.json"], "is a timer's"),
        (["send", "check-host", "good.json"], "env:CHECK_HOST_SECRET is not set"),
        (["send", "offline", "good.json", "--to", "http://127.0.0.1:9"], "did not answer"),
        (["send", "offline", "good.json", "--to", "http://example.com"], "plain http"),
        (["send", "--replay", "good.json"], "`serve --save` kept"),
        (["serve", "--port", "70000"], "0<=x<=65535"),
        (["serve", "--ledger", "redis://x"], "ONCETASK_LEDGER must be"),
        (["serve", "--live"], "ONCETASK_LEDGER must name a ledger that lasts"),
        (["console"], "ONCETASK_LEDGER must name a ledger that lasts"),
        (["ledger"], "ONCETASK_LEDGER must name a ledger that lasts"),
        (["emulator", "--fail", "cap-reach"], "did you mean cap-reached?"),
        (["routes", "chek"], "did you mean check?"),
        (["run", "--liv"], "--live"),
    ],
)
def test_bad_input_gets_one_line_and_a_status(arguments: list[str], says: str, folder: Path) -> None:
    """What is wrong and what would be right; nothing on stdout, no traceback."""
    printed = ran_here(*arguments, cwd=folder, more={"ONCETASK_ROUTES": str(folder / "routes.toml")})

    assert printed.returncode in {1, 2}
    assert printed.stdout == ""
    assert says in printed.stderr
    assert len(printed.stderr.splitlines()) == 1


def test_a_port_that_is_in_use_is_told() -> None:
    """By every command that listens."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        for command in ("serve", "emulator"):
            printed = ran(command, "--port", port)
            assert (printed.returncode, printed.stdout) == (1, "")
            assert (
                printed.stderr
                == f"oncetask: port {port} is in use: end what listens there, or choose another with --port\n"
            )


@pytest.mark.parametrize(
    "command",
    [
        *(
            [name]
            for name in (
                "run",
                "explain",
                "send",
                "routes",
                "serve",
                "emulator",
                "console",
                "doctor",
                "ledger",
            )
        ),
        ["routes", "check"],
        *(["ledger", name] for name in ("summary", "list", "show", "retry", "adopt", "give-up")),
    ],
    ids=" ".join,
)
def test_every_command_has_help(command: list[str]) -> None:
    """That says how it is called."""
    printed = ran_here(*command, "--help")

    assert (printed.returncode, printed.stderr) == (0, "")
    assert printed.stdout.startswith(f"Usage: oncetask {' '.join(command)}")


def test_a_folder_of_our_name_where_one_stands_is_not_ours(folder: Path) -> None:
    """The command works from any folder."""
    (folder / "local").mkdir()
    (folder / "local" / "__init__.py").write_text("raise SystemExit(7)")

    assert ran("--help", cwd=folder).returncode == 0


# -- run ------------------------------------------------------------------------------------------


def test_run_compares_every_sample_and_says_what_to_try_next() -> None:
    """The main job, by itself."""
    printed = ran("run")

    assert (printed.returncode, printed.stderr) == (0, "")
    assert "events came to what is expected of them" in printed.stdout
    assert "./oncetask" in printed.stdout


def test_run_is_red_where_an_event_comes_to_something_else(folder: Path) -> None:
    """And says in which place."""
    event = {"route": "often", "scheduled_time": "2026-11-24T05:00:00Z"}
    event["schedule"] = "arn:aws:scheduler:eu-central-1:123456789012:schedule/default/often"
    (folder / "e.json").write_text(json.dumps(event))
    expected = {"routes": str(folder / "routes.toml"), "asked": 1, "tasks": 1}
    (folder / "e.expected.json").write_text(json.dumps(expected | {"expected": {"counts": {"created": 2}}}))

    printed = ran("run", "e.json", cwd=folder)

    assert printed.returncode == 1
    assert "counts.created: expected 2, found 1" in printed.stdout


def test_run_without_an_expectation_is_red_where_an_event_is_rejected(folder: Path) -> None:
    """And one JSON document says the rest."""
    (folder / "e.json").write_text('{"route": "gone"}')

    printed = ran("run", "--routes", "routes.toml", "--json", "e.json", cwd=folder)

    assert printed.returncode == 1
    assert json.loads(printed.stdout)["counts"]["rejected"] == 1


# -- explain --------------------------------------------------------------------------------------


def explained(folder: Path, *arguments: str) -> list[tuple[str, str]]:
    """Names and texts of an explanation, whose status is 0 whatever is told."""
    printed = ran("explain", "--routes", "routes.toml", "--json", *arguments, cwd=folder, more=SECRETS)
    assert (printed.returncode, printed.stderr) == (0, "")
    return [(one["name"], one["text"]) for one in json.loads(printed.stdout)["explanation"]]


def test_explain_says_where_each_field_came_from(folder: Path) -> None:
    """And what the sender would be told."""
    said = dict(explained(folder, "check-host", "good.json"))

    assert said["verification"] == "standard-webhooks: passed"
    assert said["targets"] == 'data.uuid  →  "inet-1"'
    assert said["Param.uuids"] == '"inet-1"  from targets: data.uuid'
    assert said["Param.problemType"] == '"offline"  from param_from.problemType: data.problem'
    assert said["Param.mode"] == "1  from the routes file: param.mode"
    assert said["TaskName"] == '"CLIENT_PROBLEM_CHECK"  from task_type, since task_name is not set'
    assert said["told"].startswith("201 Created")


def test_explain_shows_what_found_nothing_and_which_keys_there_are(folder: Path) -> None:
    """`→ null`, and NoTargets names the item's keys."""
    said = explained(folder, "check-host", "empty.json")

    assert ("targets", "data.uuid  →  null") in said
    assert ("", "the item has the keys data") in said
    assert any("NoTargets" in text for _, text in said)
    assert dict(said)["told"].startswith("422")


def test_explain_of_a_secret_that_is_not_there_says_so(folder: Path) -> None:
    """And goes on."""
    printed = ran("explain", "--routes", "routes.toml", "check-host", "good.json", cwd=folder)

    assert printed.returncode == 0
    assert "503 Service Unavailable" in printed.stdout
    assert "inet-1" in printed.stdout


# -- serve, send, emulator ------------------------------------------------------------------------


@pytest.fixture
def served(folder: Path) -> Iterator[tuple[Running, str]]:
    """`oncetask serve` on a free port, and its URL."""
    arguments = ("serve", "--port", "0", "--routes", "routes.toml", "--save", "kept", "--sweep-every", "1s")
    with running(*arguments, cwd=folder, more=SECRETS) as server:
        url = server.until(r"serves at (http://127\.0\.0\.1:\d+)$")[1]
        server.until("Ctrl-C ends it")
        yield server, url


def asked(
    url: str, method: str, path: str, body: str = "", headers: dict[str, str] | None = None
) -> tuple[int, Any]:
    """Status and text of a request."""
    connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=10)
    try:
        connection.request(method, path, body, headers or {})
        response = connection.getresponse()
        return response.status, response.read().decode()
    finally:
        connection.close()


def test_serve_says_what_it_has_and_a_line_a_delivery(served: tuple[Running, str], folder: Path) -> None:
    """Created, refused and hostile ones; a replay is a duplicate."""
    server, url = served
    start = server.printed(within_s=0.1)

    def send(*arguments: str) -> int:
        return ran(
            "send", "--routes", "routes.toml", "--to", url, *arguments, cwd=folder, more=SECRETS
        ).returncode

    statuses = [
        send("check-host", "good.json"),
        send("check-host", "empty.json"),
        send("offline", "hostile.json"),
    ]
    first = min((folder / "kept").iterdir())
    statuses.append(send("--replay", str(first)))
    refused = asked(url, "POST", "/webhooks/check-host", "{}")

    server.until(r"201 POST  check-host  1 created")
    server.until(r"422 POST  check-host  1 rejected; NoTargets")
    server.until(r"202 POST  offline  1 pending")
    server.until(r"200 POST  check-host  1 duplicate")
    server.until(r"401 POST  check-host  Unverified: no-signature")
    server.until(r"^\d\d:\d\d:\d\d  created    offline")
    printed = server.printed(within_s=0.1)
    assert statuses == [0, 1, 0, 0]
    assert refused[0] == 401
    assert "webhook:offline:disk[/dev/sda1]$(touch x)\\u202e" in [
        line.strip() for line in printed.splitlines()
    ]
    assert not {"\x1b", "\x07", "\u202e"} & set(printed)
    for word in (
        "check-host",
        "standard-webhooks",
        "set",
        "Asia/Singapore",
        "memory://",
        "emulator",
    ):
        assert word in start
    assert "whsec_" not in printed
    assert oct(first.stat().st_mode & 0o777) == "0o600"
    assert "webhook-signature" not in first.read_text()


def test_the_page_and_the_emulators_switches_are_this_machines_alone(served: tuple[Running, str]) -> None:
    """A stranger's name or page gets 403; webhooks answer any `Host`."""
    _, url = served
    faults = '[{"fault": "cap-reached"}]'

    for path in ("/", "/page.json", "/event.json?id=x", "/page.js"):
        assert asked(url, "GET", path)[0] in {200, 404}
        assert asked(url, "GET", path, headers={"Host": "rebound.example"})[0] == 403
        assert asked(url, "GET", path, headers={"Origin": "https://stranger.example"})[0] == 403
    assert asked(url, "POST", "/_emulator/faults", faults, {"Origin": "null"})[0] == 403
    assert asked(url, "POST", "/_emulator/faults", faults, {"Host": "rebound.example:80"})[0] == 403
    assert asked(url, "POST", "/_emulator/faults", faults) == (200, '{"planned":1}')
    assert asked(url, "POST", "/webhooks/offline", "{}", {"Host": "hooks.example"})[0] == 415


def test_a_long_body_is_refused_and_not_kept(served: tuple[Running, str]) -> None:
    """However long it is."""
    _, url = served

    status, text = asked(url, "POST", "/webhooks/offline", "x" * 3_000_000)

    assert (status, json.loads(text)["error"]["code"]) == (413, "BodyTooLarge")


@pytest.mark.slow
def test_timers_fire_by_their_schedule(served: tuple[Running, str]) -> None:
    """At its own time, as Scheduler would."""
    server, _ = served

    server.until(r"tick  often  1 created")
    server.until(r"^ +timer:often:\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$")


@pytest.mark.slow
def test_the_sweep_survives_a_ledger_that_fails_and_says_so(folder: Path) -> None:
    """Once, and then that it works again."""
    ledger = folder / "ledger.sqlite"
    arguments = ("serve", "--port", "0", "--sweep-every", "1s", "--ledger", str(ledger))
    with running(*arguments, "--routes", "routes.toml", cwd=folder, more=SECRETS) as server:
        server.until("Ctrl-C ends it")
        server.printed(within_s=2)
        with closing(sqlite3.connect(ledger, isolation_level=None)) as another:
            another.execute("BEGIN EXCLUSIVE")
            server.until("the sweep failed, the next one tries again in 1 s")
            another.execute("ROLLBACK")

        server.until("the sweep works again")
        assert server.printed(within_s=0.1).count("the sweep failed") == 1


def test_the_emulator_prints_each_call_and_meets_what_is_planned() -> None:
    """Words that there are not are told which there are."""
    with running("emulator", "--port", "0", "--fail", "throttled") as emulator:
        url = emulator.until(r"emulator at (http://127\.0\.0\.1:\d+)$")[1]

        assert asked(url, "POST", "/_emulator/faults", '[{"fault": "slow", "times": 2}]') == (
            200,
            '{"planned":2}',
        )
        status, text = asked(url, "POST", "/_emulator/faults", '[{"fault": "cap-reached"}, {"fault": "no"}]')
        assert (status, "cap-reached, " in text) == (400, True)
        for wrong in (
            "{}",
            "[1]",
            "no",
            '[{"fault": "slow", "times": 0}]',
            '[{"fault": "slow", "action": "X"}]',
        ):
            assert asked(url, "POST", "/_emulator/faults", wrong)[0] == 400
        asked(url, "GET", "/?Action=DescribeOnceTask&Version=2018-12-03")

        emulator.until(r"\d\d:\d\d:\d\d  400  DescribeOnceTask")


# -- doctor ---------------------------------------------------------------------------------------


def test_doctor_tries_each_thing_and_says_what_to_do(folder: Path) -> None:
    """All of it, whatever one of them lacks."""
    with running("emulator", "--port", "0") as emulator:
        url = emulator.until(r"emulator at (http://127\.0\.0\.1:\d+)$")[1]
        good = {
            **SECRETS,
            "ONCETASK_ENDPOINT": url,
            "ONCETASK_LEDGER": f"sqlite://{folder}/ledger.sqlite",
            "ALIBABA_CLOUD_ACCESS_KEY_ID": "LTAIemulator",
            "ALIBABA_CLOUD_ACCESS_KEY_SECRET": "emulator-secret",
        }
        well = ran("doctor", "--routes", "routes.toml", cwd=folder, more=good)
        ill = ran("doctor", "--routes", "routes.toml", "--json", cwd=folder, more={"ONCETASK_ENDPOINT": url})

    assert (well.returncode, "wrong" in well.stdout) == (0, False)
    assert not (folder / "ledger.sqlite").exists()
    found = {one["what"]: one for one in json.loads(ill.stdout)["results"]}
    assert ill.returncode == 1
    assert found["secret of check-host"]["verdict"] == "wrong"
    assert found["secret of check-host"]["do"]
    assert found["keys"]["verdict"] == "wrong"
