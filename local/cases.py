"""Event documents with what stands beside them: `make run` shows what they come to, tests hold it.

`events/FOLDER/NAME.json` is what AWS hands over. `NAME.expected.json` says how, and what is expected:

    routes            a file under `events/`
    environment       settings
    now               the clock
    before            documents of the folder, delivered earlier
    behaviour         the emulator's switches
    security_center   the emulator's faults, one a call; or "down"
    asked, tasks      calls that arrived and tasks that exist, in all
    expected          what must be in the answer; "*" is any text
"""

from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import local.emulator as security_center
from local.clocks import FakeClock
from local.documents import read_event
from local.emulator import ACCESS_KEY_ID, ACCESS_KEY_SECRET, Emulator, Fault
from local.emulator.sts import Federation
from local.errors import CommandError
from local.inventories import inventory
from oncetask.app import App
from oncetask.errors import Rejection
from oncetask.handlers import sweep, timer, webhook
from oncetask.settings import Settings
from oncetask.submit.report import Report
from oncetask.webhooks.http import Delivery

EVENTS = Path(__file__).resolve().parents[1] / "events"
EXPECTED = ".expected.json"
NOW = "2026-11-24T05:00:01Z"
INVOCATION_MS = 30_000


def documents() -> list[Path]:
    """Every event document, wherever under `events/` it lies."""
    known = (path for path in EVENTS.rglob("*.json") if path.parent != EVENTS)
    return sorted(path for path in known if not path.name.endswith(EXPECTED))


def expectation_of(path: Path) -> Path:
    """What stands, or should stand, beside an event document."""
    return path.with_name(path.stem + EXPECTED)


type Handled = Report | webhook.Accepted | webhook.Answered | webhook.Refusal


def _timer(app: App, event: object) -> Handled:
    return timer.handle(app, event, app.deadline(INVOCATION_MS))


def _webhook(app: App, event: object) -> Handled:
    return webhook.handle(app, event, app.deadline(INVOCATION_MS))


def _sweep(app: App, _event: object) -> Handled:
    return sweep.handle(app, app.deadline(INVOCATION_MS))


HANDLERS: Mapping[str, Callable[[App, object], Handled]] = {
    "timer": _timer,
    "webhook": _webhook,
    "senders": _webhook,
    "sweep": _sweep,
}
"""By the folder's name: the event through its real handler."""


def by_form(event: object) -> Callable[[App, object], Handled]:
    """A document that lies elsewhere says by its form what it is."""
    try:
        Delivery.of(event)
    except Rejection:
        return _timer
    return _webhook


@dataclass(frozen=True)
class Case:
    """One event document and what stands beside it."""

    folder: str
    event: Any
    before: list[Any]
    told: dict[str, Any]

    @classmethod
    def at(cls, path: Path) -> "Case":
        """The case of the event document at that path."""
        told = read_event(expectation_of(path))
        if not isinstance(told, dict) or "expected" not in told:
            raise CommandError(f"{expectation_of(path)} must hold an object with the key `expected`")
        before = [read_event(path.with_name(name)) for name in told.get("before", [])]
        return cls(path.parent.name, read_event(path), before, told)

    def clock(self) -> FakeClock:
        """One that stands at the case's moment."""
        return FakeClock(datetime.fromisoformat(self.told.get("now", NOW)).timestamp())

    def app(
        self, security_center_url: str, clock: FakeClock | None = None, more: Mapping[str, str] | None = None
    ) -> App:
        """An app as the case says, at its moment; `more` variables overrule its own."""
        environment = {
            "ONCETASK_ENDPOINT": security_center_url,
            **({"ONCETASK_ROUTES": str(EVENTS / self.told["routes"])} if "routes" in self.told else {}),
            "ALIBABA_CLOUD_ACCESS_KEY_ID": ACCESS_KEY_ID,
            "ALIBABA_CLOUD_ACCESS_KEY_SECRET": ACCESS_KEY_SECRET,
            **self.told.get("environment", {}),
            **(more or {}),
        }
        settings = Settings.from_environment(environment)
        return App(settings, environment=environment, clock=clock or self.clock())

    def run(self, emulator: Emulator) -> Handled:
        """What came before, then the event itself, the emulator behaving as the case says."""
        return self._run(self.app(emulator.url), emulator)

    def run_keyless(self, emulator: Emulator) -> Handled:
        """The same without any stored key: AWS vouches for the function, RAM lends it keys."""
        clock = self.clock()
        with Federation(emulator, clock=clock.now_s) as federation:
            return self._run(self.app(emulator.url, clock, federation.environment()), emulator)

    def _run(self, opened: App, emulator: Emulator) -> Handled:
        with closing(opened) as app:
            handle = HANDLERS.get(self.folder) or by_form(self.event)
            for event in self.before:
                handle(app, event)
            self._prepare(emulator)
            return handle(app, self.event)

    def _prepare(self, emulator: Emulator) -> None:
        emulator.hosts[:] = inventory()
        for name, value in self.told.get("behaviour", {}).items():
            setattr(emulator.behaviour, name, value)
        script = self.told.get("security_center", [])
        if script == "down":
            emulator.down()
        else:
            emulator.script(*(_fault(entry) for entry in script))


def _fault(entry: str | dict[str, dict[str, Any]]) -> Fault:
    """`"CapReached"`, or `{"Refuse": {"status": 403, "code": "NoPermission"}}`."""
    ((name, keys),) = ({entry: {}} if isinstance(entry, str) else entry).items()
    fault: Fault = getattr(security_center, name)(**keys)
    return fault
