"""A real Alertmanager, configured as docs/senders.md says, fires real alerts at `oncetask serve`.

Whatever Security Center is up to, the sender hears 2xx (by its own count of failed requests), and the
alert becomes a task once that is over.
"""

import os
import re
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from local.emulator import ACCESS_KEY_ID, ACCESS_KEY_SECRET, Emulator, Refuse, host
from local.tools import PROJECT, NotInstallable
from tests.e2e.alertmanager import Alertmanager, Server, alertmanager, installed, server

DOCS = PROJECT / "docs"
TOKEN = "a-token-for-one-test"
SOON_S = 10
"""For what comes at once, or with a repeat: `group_interval` and `repeat_interval` are a second."""
BACKED_OFF_S = 15 + 15
"""The longest first backoff, an operator's, and then the sweep, on a slow machine."""

pytestmark = pytest.mark.timeout(180)


def uuid_of(number: int) -> str:
    """What Security Center calls the host whose address ends so."""
    return f"inet-{number:04}"


@dataclass(frozen=True)
class Scene:
    """An Alertmanager, the server that it notifies, and Security Center behind that."""

    alertmanager: Alertmanager
    server: Server
    emulator: Emulator

    def result(self, number: int, status: str, limit_s: float = SOON_S) -> dict[str, Any]:
        """The first result of that status for the alert of that host, waited for."""
        names = {f"10.0.0.{number}:9100", uuid_of(number)}
        return self.server.result(
            limit_s,
            lambda found: found["status"] == status and found["request"]["Param"]["uuids"] in names,
        )

    def wait_for_a_failed_notification(self) -> None:
        """Until Alertmanager has heard something else than 2xx. Raises TimeoutError."""
        ends_s = time.monotonic() + SOON_S
        while self.alertmanager.failed_requests() == 0:
            if time.monotonic() > ends_s:
                raise TimeoutError("no notification has failed")
            time.sleep(0.05)

    def tasks_for(self, number: int) -> list[str]:
        """The ids of the tasks that were made for the host."""
        return [task.task_id for task in self.emulator.tasks if uuid_of(number) in task.targets]


@pytest.fixture(scope="module")
def program() -> str:
    """Alertmanager's."""
    try:
        return installed()
    except NotInstallable as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(f"cannot be installed here: {error}")


@pytest.fixture(scope="module")
def scene(program: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """One for all tests, each of which fires an alert of its own."""
    folder = tmp_path_factory.mktemp("alertmanager")
    with ExitStack() as stack:
        yield made_scene(stack, program, folder, ledger=folder / "ledger.sqlite")


def made_scene(stack: ExitStack, program: str, folder: Path, *, ledger: Path) -> Scene:
    """The page's sample route, but asked at once, and the page's own configuration, but in a hurry."""
    emulator = stack.enter_context(Emulator())
    emulator.hosts[:] = [host(uuid_of(number), IntranetIp=f"10.0.0.{number}") for number in range(1, 10)]
    routes = (DOCS / "senders.toml").read_text(encoding="utf-8")
    (folder / "routes.toml").write_text(re.sub(r'submit( *)= "sweep"', r'submit\1= "now"', routes))
    environment = {
        "ALERTMANAGER_TOKEN": TOKEN,
        "ALIBABA_CLOUD_ACCESS_KEY_ID": ACCESS_KEY_ID,
        "ALIBABA_CLOUD_ACCESS_KEY_SECRET": ACCESS_KEY_SECRET,
        "ONCETASK_ENDPOINT": emulator.url,
        "ONCETASK_LEDGER": f"sqlite://{ledger}",
        "ONCETASK_ROUTES": str(folder / "routes.toml"),
    }
    running = stack.enter_context(server(environment, folder / "server.log"))
    (folder / "alertmanager.yml").write_text(configuration(running.url, folder))
    sender = stack.enter_context(alertmanager(program, folder / "alertmanager.yml"))
    return Scene(sender, running, emulator)


def configuration(url: str, folder: Path) -> str:
    """The page's, with a test's address, secret and times."""
    page = (DOCS / "senders.md").read_text(encoding="utf-8")
    block = re.search(r"```yaml\n(.*?alertmanager.*?)```", page, re.DOTALL)
    assert block is not None
    document = yaml.safe_load(block[1])
    webhook = document["receivers"][0]["webhook_configs"][0]
    token = folder / "token"
    token.write_text(TOKEN)
    webhook["url"] = re.sub("https://[^/]+", url, webhook["url"])
    webhook["http_config"]["authorization"]["credentials_file"] = str(token)
    document["route"] |= {"group_wait": "100ms", "group_interval": "1s", "repeat_interval": "1s"}
    text: str = yaml.safe_dump(document)
    return text


def test_an_alert_becomes_one_task_and_its_repeats_are_duplicates(scene: Scene) -> None:
    """The first notification asks; the next ones are told the same task."""
    scene.alertmanager.fire("AgentOffline", instance="10.0.0.1:9100")

    created = scene.result(1, "created")
    duplicate = scene.result(1, "duplicate")

    assert created["event_id"].startswith("webhook:alertmanager:")
    assert duplicate["task_id"] == created["task_id"]
    assert scene.tasks_for(1) == [created["task_id"]]
    assert scene.alertmanager.failed_requests() == 0


def test_an_alerts_own_instance_ends_in_what_came_of_that_host(scene: Scene) -> None:
    """From `instance`, as Prometheus says it, to a finished task whose result says how the host fared."""
    scene.emulator.behaviour.failing_hosts = {uuid_of(7)}
    scene.alertmanager.fire("AgentOfflineToTheEnd", instance="10.0.0.7:9100")
    created = scene.result(7, "created")
    scene.emulator.finish(created["task_id"])

    finish = scene.result(7, "finished")["finish"]

    assert created["request"]["Param"]["uuids"] == uuid_of(7)
    assert (finish["state"], finish["ok"]) == ("SUCCESS", False)
    [outcome] = finish["hosts"]
    assert outcome["uuid"] == uuid_of(7)
    assert outcome["codes"][0].startswith("1003")


def test_an_alert_that_meets_the_full_cap_becomes_a_task_once_a_slot_is_free(scene: Scene) -> None:
    """Alertmanager would drop it on 429; it never hears of the cap."""
    scene.emulator.behaviour.cap = 0
    scene.alertmanager.fire("AgentOfflineAtTheCap", instance="10.0.0.2:9100")

    pending = scene.result(2, "pending")
    scene.emulator.behaviour.cap = 100
    created = scene.result(2, "created")

    assert pending["error"]["code"] == "OnceTaskLimitExceeded"
    assert scene.tasks_for(2) == [created["task_id"]]
    assert scene.alertmanager.failed_requests() == 0


def test_an_alert_that_comes_while_security_center_is_down_becomes_a_task_once_it_is_up(scene: Scene) -> None:
    """What cannot be asked now is recorded, and that is what the sender is told."""
    scene.emulator.down()
    scene.alertmanager.fire("AgentOfflineInAnOutage", instance="10.0.0.3:9100")

    pending = scene.result(3, "pending")
    scene.emulator.up()
    created = scene.result(3, "created", BACKED_OFF_S)

    assert pending["error"]["code"] == "NotConnected"
    assert scene.tasks_for(3) == [created["task_id"]]
    assert scene.alertmanager.failed_requests() == 0


def test_an_alert_that_comes_without_permission_becomes_a_task_once_that_is_granted(scene: Scene) -> None:
    """An operator's mistake is not the sender's trouble."""
    scene.emulator.script(Refuse(403, "NoPermission"))
    scene.alertmanager.fire("AgentOfflineWithoutPermission", instance="10.0.0.4:9100")

    pending = scene.result(4, "pending")
    created = scene.result(4, "created", BACKED_OFF_S)

    assert (pending["error"]["code"], pending["error"]["kind"]) == ("NoPermission", "operator")
    assert scene.tasks_for(4) == [created["task_id"]]
    assert scene.alertmanager.failed_requests() == 0


def test_an_alert_that_comes_while_the_ledger_cannot_be_had_comes_again(program: str, tmp_path: Path) -> None:
    """503: nothing was recorded, so the sender must try again, and does."""
    ledger = tmp_path / "not-there-yet" / "ledger.sqlite"
    with ExitStack() as stack:
        scene = made_scene(stack, program, tmp_path, ledger=ledger)
        scene.alertmanager.fire("AgentOfflineWithoutLedger", instance="10.0.0.5:9100")
        scene.wait_for_a_failed_notification()
        ledger.parent.mkdir()

        created = scene.result(5, "created")

        assert scene.tasks_for(5) == [created["task_id"]]


def test_an_alert_that_was_refused_comes_with_its_groups_next_notification(
    program: str, tmp_path: Path
) -> None:
    """401 is not retried; but while the alert fires and none has succeeded, its group is sent again."""
    with ExitStack() as stack:
        scene = made_scene(stack, program, tmp_path, ledger=tmp_path / "ledger.sqlite")
        (tmp_path / "token").write_text("another-token")
        scene.alertmanager.fire("AgentOfflineWithAnotherToken", instance="10.0.0.6:9100")
        scene.wait_for_a_failed_notification()
        (tmp_path / "token").write_text(TOKEN)

        created = scene.result(6, "created")

        assert scene.tasks_for(6) == [created["task_id"]]
