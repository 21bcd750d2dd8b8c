"""The runbook's game day: each row's faults bring about what the row says, and the metric of its alarm."""

import json
import re
from collections.abc import Callable
from contextlib import closing
from typing import Any

import pytest

from local.emulator import ACCESS_KEY_ID, ACCESS_KEY_SECRET, Emulator
from local.events import json_delivery
from local.inventories import inventory
from local.tools import PROJECT
from oncetask.app import App
from oncetask.handlers import sweep, webhook
from oncetask.settings import Settings
from tests.clocks import FakeClock

ROW = re.compile(r"^\| (\w+Alarm) \| `(\[.*?\])` \| `(\w+)` \| (?:`(\w+)`)? ?\|", re.MULTILINE)
ROWS = ROW.findall((PROJECT / "docs" / "runbook.md").read_text(encoding="utf-8"))
METRIC_OF: dict[str, Callable[[dict[str, Any]], object]] = {
    "OperatorErrorAlarm": lambda line: line.get("OperatorError"),
    "OldestWaitingAlarm": lambda line: (line.get("OldestWaitingSeconds") or [0])[0] >= 60,
    "SecondTaskAlarm": lambda line: line.get("Unknown"),
    "TaskFailedAlarm": lambda line: line.get("TaskFailed"),
}
"""What the alarm looks at; of a second task the beginning, which is all that the row brings about."""
ALERT = {
    "status": "firing",
    "alerts": [
        {
            "status": "firing",
            "fingerprint": "1",
            "startsAt": "2026-11-24T05:00:00Z",
            "labels": {"instance": "10.0.0.5:9100"},
        }
    ],
}
TOKEN = "a-token-of-your-own"


def seen(app: App, clock: FakeClock) -> None:
    """The alert, and sweeps for two minutes."""
    event = json_delivery("agent-offline", json.dumps(ALERT), {"authorization": f"Bearer {TOKEN}"})
    webhook.answer(app, event, app.deadline(29_000))
    for _ in range(3):
        sweep.answer(app, app.deadline(60_000))
        clock.advance(60)


@pytest.mark.parametrize("row", ROWS, ids=[row[0] for row in ROWS])
def test_the_faults_of_a_row_bring_about_what_it_says(
    row: tuple[str, str, str, str],
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The status and the code of a result, and the alarm's metric."""
    alarm, faults, status, code = row
    clock = FakeClock()
    with Emulator(clock=clock.now_s) as emulator:
        emulator.hosts[:] = inventory()
        emulator.plan(faults.encode())
        environment = {
            "ONCETASK_ENDPOINT": emulator.url,
            "AGENT_OFFLINE_TOKEN": TOKEN,
            "ALIBABA_CLOUD_ACCESS_KEY_ID": ACCESS_KEY_ID,
            "ALIBABA_CLOUD_ACCESS_KEY_SECRET": ACCESS_KEY_SECRET,
        }
        with closing(
            App(Settings.from_environment(environment), environment=environment, clock=clock)
        ) as app:
            seen(app, clock)

    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    results = [vars(record)["result"] for record in caplog.records if record.message == "result"]
    told = {(result["status"], (result["error"] or {}).get("code", "")) for result in results}
    assert (status, code) in told
    assert any(METRIC_OF[alarm](line) for line in lines)


def test_there_are_rows() -> None:
    """The table is read as it is written."""
    assert {row[0] for row in ROWS} == set(METRIC_OF)
