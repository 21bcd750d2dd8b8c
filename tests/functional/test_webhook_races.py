"""One delivery and several processes at the same moment, and processes that die at the worst one."""

import contextlib
import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from local.emulator import ACCESS_KEY_ID, ACCESS_KEY_SECRET, Emulator
from oncetask.app import App
from oncetask.clock import Deadline
from oncetask.handlers import webhook
from oncetask.ledger.ledger import Ledger
from oncetask.ledger.records import Call, Event, Lane
from oncetask.ledger.sqlite import SqlStore
from oncetask.ledger.store import Row
from oncetask.models import Outcome, Status
from oncetask.settings import Settings
from oncetask.submit.call import CLAIM_SLACK_S
from tests.clocks import FakeClock
from tests.hostile.fuzz import ROUTES, SECRETS, Sent, http_api, sign
from tests.open_records import lanes, waiting

if TYPE_CHECKING:
    from multiprocessing.queues import Queue

PROCESSES = 8
ROUNDS = 4
INVOCATION_S = 30
LATER_S = 60
"""Every claim of the dead has ended by then."""
fresh = multiprocessing.get_context("spawn")

type Environment = Mapping[str, str]


def app_of(environment: Environment) -> App:
    """A process's app, on the machine's own clock."""
    return App(Settings.from_environment(environment), environment=environment)


def deliver(app: App, event: object) -> list[dict[str, Any]]:
    """The results that the sender gets."""
    outcome = webhook.handle(app, event, Deadline.after(INVOCATION_S, app.clock))
    assert isinstance(outcome, webhook.Accepted)
    return [result.document() for result in outcome.report.results]


@pytest.fixture
def ledger_path(tmp_path: Path) -> Path:
    """Where the processes' ledger is."""
    return tmp_path / "ledger.sqlite"


@pytest.fixture
def environment(emulator: Emulator, tmp_path: Path, ledger_path: Path) -> Environment:
    """What every process is told."""
    routes = tmp_path / "routes.toml"
    routes.write_text(ROUTES, encoding="utf-8")
    return {
        "ONCETASK_ENDPOINT": emulator.url,
        "ONCETASK_ROUTES": str(routes),
        "ONCETASK_LEDGER": f"sqlite://{ledger_path}",
        "ALIBABA_CLOUD_ACCESS_KEY_ID": ACCESS_KEY_ID,
        "ALIBABA_CLOUD_ACCESS_KEY_SECRET": ACCESS_KEY_SECRET,
        **SECRETS,
    }


def standard(id_: str) -> dict[str, Any]:
    """A delivery of one item."""
    body = b'{"data":{"uuid":"inet-1","problem":"offline"}}'
    return http_api(sign(Sent("standard", body, {"content-type": "application/json"}), time.time(), id_=id_))


def github(id_: str, number: int) -> dict[str, Any]:
    """A delivery of two items, whose signature does not cover its id."""
    body = b'{"items":[{"image":"a%d"},{"image":"b%d"}]}' % (number, number)
    return http_api(sign(Sent("github", body, {"content-type": "application/json"}), time.time(), id_=id_))


# -- at the same moment ---------------------------------------------------------------------------


def deliver_together(
    environment: Environment, events: list[Any], start: Barrier, found: "Queue[list[list[dict[str, Any]]]]"
) -> None:
    """In one process: every round's event at the same moment as the others."""
    app = app_of(environment)
    app.security_center.call_timeout_s()  # Tea is loaded before the race, not in it
    mine = []
    for event in events:
        start.wait()
        mine.append(deliver(app, event))
    app.ledger.store.close()
    found.put(mine)


def results_of_eight(environment: Environment, events_of: Callable[[int], list[Any]]) -> list[Any]:
    """Round by round, what each of eight processes was told."""
    start, found = fresh.Barrier(PROCESSES, timeout=60), fresh.Queue()
    processes = [
        fresh.Process(target=deliver_together, args=(environment, events_of(number), start, found))
        for number in range(PROCESSES)
    ]
    for process in processes:
        process.start()
    each = [found.get(timeout=60) for _ in processes]
    for process in processes:
        process.join(timeout=60)
    return list(zip(*each, strict=True))


@pytest.mark.slow
def test_one_delivery_at_eight_processes_makes_one_task(
    environment: Environment, emulator: Emulator, ledger_path: Path
) -> None:
    """One of them creates it; the others are told `pending` or `duplicate`, and ask nothing."""
    app_of(environment).ledger.store.close()
    events = [standard(f"id-{number}") for number in range(ROUNDS)]

    rounds = results_of_eight(environment, lambda _: events)

    for results in rounds:
        statuses = [result["status"] for [result] in results]
        assert statuses.count("created") == 1
        assert set(statuses) <= {"created", "pending", "duplicate"}
    assert len(emulator.tasks) == len(emulator.calls) == ROUNDS
    with contextlib.closing(SqlStore(ledger_path)) as store:
        ledger = Ledger(store, FakeClock(time.time()))
        assert list(waiting(ledger)) == []
        assert lanes(ledger) == []


@pytest.mark.slow
def test_one_signature_under_eight_ids_at_once_is_one_delivery(
    environment: Environment, emulator: Emulator
) -> None:
    """A delivery that is replayed under other ids, in many processes, makes none of its tasks twice."""
    app_of(environment).ledger.store.close()

    rounds = results_of_eight(environment, lambda mine: [github(f"id-{mine}", n) for n in range(ROUNDS)])

    for number, results in enumerate(rounds):
        assert len({result["event_id"] for items in results for result in items}) == 2
        images = [task.param for task in emulator.tasks if f'a{number}"' in task.param]
        assert len(images) <= 1
    created = [r for results in rounds for items in results for r in items if r["status"] == "created"]
    assert len(created) == len(emulator.tasks) == len(emulator.calls)


# -- death ----------------------------------------------------------------------------------------


class MortalStore(SqlStore):
    """A SQLite store whose process is killed right before the first write of a kind."""

    def __init__(self, path: Path, fatal: str) -> None:
        super().__init__(path)
        self._fatal = fatal

    def put(self, row: Row, *, replacing: str | None) -> bool:
        self._die_at("new" if replacing is None else "changed", row.key)
        return super().put(row, replacing=replacing)

    def delete(self, key: str, *, version: str) -> bool:
        self._die_at("deleted", key)
        return super().delete(key, version=version)

    def _die_at(self, step: str, key: str) -> None:
        if f"{step} {key.split('/', 1)[0]}" == self._fatal:
            os.kill(os.getpid(), signal.SIGKILL)


class MortalApp(App):
    """An app on such a store."""

    fatal = ""

    @cached_property
    def ledger(self) -> Ledger:
        path = Path(self.settings.ledger.removeprefix("sqlite://"))
        return Ledger(MortalStore(path, self.fatal), self.clock)


def deliver_and_die(environment: Environment, event: object, fatal: str) -> None:
    """In one process: never comes back."""
    app = MortalApp(Settings.from_environment(environment), environment=environment)
    app.fatal = fatal
    deliver(app, event)


def killed(environment: Environment, event: object, fatal: str) -> bool:
    """Deliver in a process that dies there; whether it did."""
    process = fresh.Process(target=deliver_and_die, args=(environment, event, fatal))
    process.start()
    process.join(timeout=60)
    return process.exitcode == -signal.SIGKILL


@dataclass(frozen=True)
class Left:
    """What a dead process has left in the ledger: its event, and the type's lane."""

    event: Event
    lane: Lane | None

    @property
    def call(self) -> Call:
        """The one that the lane holds."""
        assert self.lane is not None
        assert self.lane.call is not None
        return self.lane.call


@pytest.fixture
def left(ledger_path: Path) -> Iterator[Callable[[], Left]]:
    """What the ledger holds now."""
    stores: list[SqlStore] = []

    def read() -> Left:
        stores.append(SqlStore(ledger_path))
        ledger = Ledger(stores[-1], FakeClock(time.time()))
        event = ledger.event("webhook:standard:id-1")
        assert event is not None
        return Left(event, next((kept.record for kept in lanes(ledger)), None))

    yield read
    for store in stores:
        store.close()


def swept(environment: Environment) -> None:
    """A sweep, once every claim of the dead has ended."""
    clock = FakeClock(time.time() + LATER_S)
    app = App(Settings.from_environment(environment), environment=environment, clock=clock)
    app.sweeper.sweep(Deadline.after(50, clock))
    app.ledger.store.close()


def told_again(environment: Environment, event: object) -> str:
    """What the same delivery is told by a process that lives."""
    app = app_of(environment)
    (result,) = deliver(app, event)
    app.ledger.store.close()
    status: str = result["status"]
    return status


def test_a_process_that_dies_before_the_call_leaves_all_that_it_takes(
    environment: Environment, emulator: Emulator, left: Callable[[], Left]
) -> None:
    """The event is pending with its request, due when its process must have ended; nothing was asked,
    nor is it by another delivery. The sweep makes the one task.
    """
    began_s, event = time.time(), standard("id-1")

    assert killed(environment, event, "new lane")

    found = left()
    assert (found.event.status, found.lane) == (Status.PENDING, None)
    assert found.event.request.param == {"mode": 1, "uuids": "inet-1", "problemType": "offline"}
    assert found.event.received_s >= began_s
    assert 0 <= found.event.due_s - found.event.received_s - INVOCATION_S - CLAIM_SLACK_S + 0.5 < 1
    assert emulator.tasks == []

    again = told_again(environment, event)
    assert (again, emulator.calls) == ("pending", [])

    swept(environment)
    assert left().event.status is Status.CREATED
    assert len(emulator.tasks) == 1


def test_a_process_that_dies_before_the_answer_is_written_leaves_the_call(
    environment: Environment, emulator: Emulator, left: Callable[[], Left]
) -> None:
    """The type's lane holds it, with its request, its events and when it must have ended. Nobody asks again:
    the sweep finds the task.
    """
    event = standard("id-1")

    assert killed(environment, event, "changed lane")

    found = left()
    (task,) = emulator.tasks
    assert found.lane is not None
    assert (found.event.status, found.lane.is_unresolved, found.call.lost) == (Status.PENDING, True, None)
    assert found.call.request == found.event.request
    assert found.call.event_ids == (found.event.event_id,)
    assert found.lane.claim_ends_s >= found.call.sent_s + CLAIM_SLACK_S

    assert told_again(environment, event) == "pending"
    swept(environment)

    settled = left().event
    assert (settled.status, settled.task_id) == (Status.CREATED, task.task_id)
    assert [call.action for call in emulator.calls].count("GenerateOnceTask") == 1


@pytest.mark.parametrize("fatal", ["new task", "changed event"])
def test_a_process_that_dies_before_its_events_are_settled_leaves_the_answer(
    fatal: str, environment: Environment, emulator: Emulator, left: Callable[[], Left]
) -> None:
    """The answer stands on the call; the sweep settles the event with it, without asking anything."""
    event = standard("id-1")

    assert killed(environment, event, fatal)

    found = left()
    (task,) = emulator.tasks
    assert found.call.answer is not None
    assert (found.call.answer.outcome, found.call.answer.task_id) == (Outcome.CREATED, task.task_id)
    assert found.event.status is Status.PENDING

    assert told_again(environment, event) == "pending"
    swept(environment)

    settled = left()
    assert (settled.event.status, settled.event.task_id, settled.lane) == (
        Status.CREATED,
        task.task_id,
        None,
    )
    assert [call.action for call in emulator.calls].count("GenerateOnceTask") == 1


def test_a_process_that_dies_with_the_lane_in_its_hands_blocks_nobody_for_long(
    environment: Environment, emulator: Emulator, left: Callable[[], Left]
) -> None:
    """Its event is settled, so the same delivery is a duplicate; the sweep releases the lane."""
    event = standard("id-1")

    assert killed(environment, event, "deleted lane")

    found = left()
    assert (found.event.status, found.lane is not None) == (Status.CREATED, True)
    assert told_again(environment, event) == "duplicate"

    swept(environment)
    assert left().lane is None
    assert told_again(environment, standard("id-2")) == "created"
    assert len(emulator.tasks) == 2
