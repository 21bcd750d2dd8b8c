"""What docs/routes.md says of hosts: its routes are run, against the dozen hosts of the emulator."""

import re
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from local.emulator import ACCESS_KEY_ID, ACCESS_KEY_SECRET, Emulator
from local.inventories import inventory
from local.tools import PROJECT
from oncetask.app import App
from oncetask.handlers import sweep, timer, webhook
from oncetask.models import Status
from oncetask.settings import Settings
from tests.clocks import FakeClock
from tests.functional.sweeps import World

PAGE = (PROJECT / "docs" / "routes.md").read_text(encoding="utf-8")
[HOSTS] = re.findall(r"^## Hosts\n(.*?)^## ", PAGE, re.DOTALL | re.MULTILINE)
TOKEN = "a-token-of-the-page"


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """With the routes of the section, and nothing else."""
    file = tmp_path / "routes.toml"
    file.write_text("\n".join(re.findall(r"^```toml\n(.*?)^```", HOSTS, re.DOTALL | re.MULTILINE)))
    clock = FakeClock()
    with Emulator(clock=clock.now_s) as emulator:
        emulator.hosts[:] = inventory()
        environment = {
            "ONCETASK_ENDPOINT": emulator.url,
            "ONCETASK_ROUTES": str(file),
            "ALIBABA_CLOUD_ACCESS_KEY_ID": ACCESS_KEY_ID,
            "ALIBABA_CLOUD_ACCESS_KEY_SECRET": ACCESS_KEY_SECRET,
            "BY_ADDRESS_TOKEN": TOKEN,
        }
        app = App(Settings.from_environment(environment), environment=environment, clock=clock)
        with closing(app):
            yield World(app, clock, emulator)


def test_the_pages_route_by_address_asks_for_the_host_that_has_it(world: World) -> None:
    """The body stands in the route's own comment; the port goes, and the VPC tells."""
    [body] = re.findall(r"^\[routes\.by-address\] +# (\{.*\})$", HOSTS, re.MULTILINE)
    path = "/webhooks/by-address"
    delivery = {
        "version": "2.0",
        "rawPath": path,
        "headers": {"content-type": "application/json", "authorization": f"Bearer {TOKEN}"},
        "requestContext": {"http": {"method": "POST", "path": path}},
        "body": body,
    }

    outcome = webhook.handle(world.app, delivery, world.app.deadline(20_000))
    sweep.handle(world.app, world.app.deadline(60_000))

    assert outcome.reply().status == 202
    assert world.targets() == [("inet-00000000-0000-4000-8000-000000000001",)]


def test_the_pages_selection_asks_for_each_offline_host_of_production(world: World) -> None:
    """One event for it, one for the host."""
    tick = {
        "route": "offline-agents",
        "schedule": "arn:aws:scheduler:ap-southeast-1:111122223333:schedule/default/offline-agents",
        "scheduled_time": "2026-11-24T03:00:00Z",
    }

    timer.handle(world.app, tick, world.app.deadline(20_000))
    first = [result.status for result in world.sweep().results]
    then = [result.status for result in world.sweep_after(60).results]

    assert (first, then) == ([Status.EXPANDED], [Status.CREATED])
    assert world.targets() == [("inet-00000000-0000-4000-8000-000000000003",)]
