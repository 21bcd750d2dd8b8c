"""What an older state of the ledger asks twice, and what docs/runbook.md does about it."""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from local import operator
from local.emulator import CanCreateFalse, Emulator, ResetAfter
from oncetask.ledger.ledger import Ledger
from oncetask.ledger.records import event_key, lane_key
from oncetask.ledger.sqlite import SqlStore
from oncetask.models import Status
from tests.clocks import FakeClock
from tests.conftest import MakeApp
from tests.functional.sweeps import CHECK, World, error_code
from tests.open_records import waiting


@dataclass
class Restorable(World):
    """A world whose ledger is a file: it can be kept as it is now, and be brought back."""

    folder: Path = Path()

    def keep(self) -> None:
        """What point-in-time recovery does all the time."""
        self.ledger.store.close()
        shutil.copy(self.folder / "ledger", self.folder / "kept")
        self._open(self.folder / "ledger")

    def bring_back(self) -> None:
        """The kept ledger in place of the living one."""
        self.ledger.store.close()
        for path in self.folder.glob("ledger*"):
            path.unlink()
        shutil.copy(self.folder / "kept", self.folder / "ledger")
        self._open(self.folder / "ledger")

    def put_back(self, *keys: str) -> None:
        """Rows of the kept ledger, where the living one has none."""
        kept = SqlStore(self.folder / "kept")
        for row in kept.get_many(keys):
            assert self.ledger.store.put(row, replacing=None)
        kept.close()

    def lose(self, key: str) -> None:
        """The living ledger loses a row, by whatever hand."""
        row = self.ledger.store.get(key)
        assert row is not None
        assert self.ledger.store.delete(key, version=row.version)

    def _open(self, path: Path) -> None:
        self.app.ledger = Ledger(SqlStore(path), self.clock)
        for part in ("submitter", "sweeper", "caller"):
            self.app.__dict__.pop(part, None)


@pytest.fixture
def clock() -> FakeClock:
    """The one clock."""
    return FakeClock()


@pytest.fixture
def emulator(clock: FakeClock) -> Iterator[Emulator]:
    """A Security Center on that clock."""
    with Emulator(clock=clock.now_s) as running:
        yield running


@pytest.fixture
def world(make_app: MakeApp, clock: FakeClock, emulator: Emulator, tmp_path: Path) -> Restorable:
    """The usual one, with one event that waits."""
    app = make_app("", clock=clock, ONCETASK_LEDGER=f"sqlite://{tmp_path}/ledger")
    world = Restorable(app, clock, emulator, tmp_path)
    world.record(world.draft("a"))
    return world


def test_what_waited_then_would_be_asked_for_again(world: Restorable) -> None:
    """The reason why no older ledger may simply take the living one's stead."""
    world.keep()
    world.sweep()
    world.bring_back()

    world.sweep_after(60)

    assert len(world.emulator.tasks) == 2


def test_what_the_logs_tell_of_as_asked_is_given_up_before_the_first_sweep(world: Restorable) -> None:
    """Then nothing is asked twice, and what they do not tell of goes through."""
    world.emulator.script(CanCreateFalse())
    world.record(world.draft("b", targets=None))
    world.keep()
    told = [result.event_id for result in world.sweep().results]
    world.bring_back()

    for event_id in told:
        operator.give_up(world.app, str(event_id))
    world.sweep_after(60)

    assert told == ["webhook:agents:a"]
    assert world.statuses("a", "b") == [Status.FAILED, Status.CREATED]
    assert world.targets() == [("inet-1",), ()]


def test_what_was_searched_for_then_is_found_again(world: Restorable) -> None:
    """However long ago it was: a task that exists has had its time to be shown."""
    world.emulator.script(ResetAfter())
    world.sweep()
    world.keep()
    adopted = world.sweep_after(6).adopted
    world.bring_back()

    again = world.sweep_after(7200).adopted

    assert (adopted, again) == (1, 1)
    assert len(world.emulator.tasks) == 1
    assert world.statuses("a") == [Status.FINISHED]


def test_what_came_since_is_forgotten(world: Restorable) -> None:
    """It is asked for by nobody, and is new when it is delivered again."""
    world.keep()
    world.record(world.draft("b"))
    world.bring_back()

    again = world.record(world.draft("b"))

    assert [event.event_id for event in waiting(world.ledger)] == ["webhook:agents:a", "webhook:agents:b"]
    assert [result.status for result in again.results] == [Status.PENDING]


def test_rows_that_are_put_back_into_the_living_ledger_ask_nothing_twice(world: Restorable) -> None:
    """A settled event is a duplicate again; nothing that came later is forgotten."""
    world.sweep()
    world.keep()
    world.record(world.draft("b", targets="inet-2"))
    world.lose(event_key("webhook:agents:a"))

    world.put_back(event_key("webhook:agents:a"))
    again = world.record(world.draft("a"))
    world.sweep_after(60)

    assert [result.status for result in again.results] == [Status.DUPLICATE]
    assert world.targets() == [("inet-1",), ("inet-2",)]


def test_a_lost_call_is_put_back_with_its_lane(world: Restorable) -> None:
    """Then its task is found."""
    world.emulator.script(ResetAfter())
    world.sweep()
    world.keep()
    world.lose(lane_key(CHECK))

    world.put_back(lane_key(CHECK))
    world.sweep_after(6)

    assert world.statuses("a") == [Status.CREATED]
    assert len(world.emulator.tasks) == 1


def test_an_event_whose_lane_is_lost_is_asked_for_by_nobody(world: Restorable) -> None:
    """It stays in doubt until its end, or until an operator decides."""
    world.emulator.script(ResetAfter())
    world.sweep()
    world.lose(lane_key(CHECK))

    world.sweep_after(300)
    decided = operator.give_up(world.app, "webhook:agents:a")

    assert len(world.calls()) == 1
    assert (decided.status, error_code(decided)) == (Status.FAILED, "OutcomeUnknown")
