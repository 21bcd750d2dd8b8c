"""`make ledger`: what an operator sees of a ledger, and the ways out of what nobody else can decide."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from local import ledger
from local.emulator import ACCESS_KEY_ID, ACCESS_KEY_SECRET, CapReached, Emulator, ResetBefore, Throttle
from local.ledger import OperatorError
from oncetask.ledger.records import call_key
from oncetask.ledger.store import Row
from oncetask.models import Status
from tests.clocks import NOW_S, FakeClock
from tests.conftest import MakeApp
from tests.functional.sweeps import CHECK, World, error_code, one

ROOT = Path(__file__).resolve().parents[2]
ID = "webhook:agents:a"
type Run = Callable[..., subprocess.CompletedProcess[str]]


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
def world(make_app: MakeApp, clock: FakeClock, emulator: Emulator, tmp_path: Path) -> World:
    """A world on an SQLite file."""
    return World(
        make_app("", clock=clock, ONCETASK_LEDGER=f"sqlite://{tmp_path}/ledger.sqlite"), clock, emulator
    )


@pytest.fixture
def run(tmp_path: Path, emulator: Emulator) -> Run:
    """`run(*arguments)`: the command in a pipe, on the world's ledger."""

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        environment = {
            "PYTHONPATH": "src:.",
            "PATH": "/usr/bin:/bin",
            "ONCETASK_LEDGER": f"sqlite://{tmp_path}/ledger.sqlite",
            "ONCETASK_ROUTES": f"{tmp_path}/routes.toml",
            "ONCETASK_ENDPOINT": emulator.url,
            "ALIBABA_CLOUD_ACCESS_KEY_ID": ACCESS_KEY_ID,
            "ALIBABA_CLOUD_ACCESS_KEY_SECRET": ACCESS_KEY_SECRET,
        }
        command = [sys.executable, "-m", "local", "ledger", *arguments]
        return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)

    return run


@pytest.fixture
def ambiguous(world: World) -> World:
    """Two events of one ask; two strangers' tasks may be its own."""
    world.emulator.script(ResetBefore())
    world.record(world.draft("a", targets="inet-a"), world.draft("b", targets="inet-b"))
    world.sweep()
    world.emulator.add_foreign(CHECK)
    world.emulator.add_foreign(CHECK)
    world.sweep_after(5)
    assert error_code(world.event("a")) == "Ambiguous"
    return world


def lines(text: str) -> list[dict[str, Any]]:
    """JSON lines."""
    return [json.loads(line) for line in text.splitlines()]


# -- looking --------------------------------------------------------------------------------------


def test_list_prints_what_is_open_as_json(run: Run, world: World) -> None:
    """In a pipe: results, oldest first, with its reason; what has ended is not there."""
    world.emulator.script(CapReached())
    world.record(world.draft("a"))
    world.sweep()
    world.clock.advance(1)
    world.record(world.draft("b"))

    printed = run("list")

    [document] = lines(printed.stdout)
    assert document["counts"]["pending"] == 2
    assert [(r["event_id"], r["status"], r["error"] and r["error"]["code"]) for r in document["results"]] == [
        (ID, "pending", "OnceTaskLimitExceeded"),
        ("webhook:agents:b", "pending", None),
    ]
    assert (printed.returncode, printed.stderr) == (0, "")


def test_show_prints_the_event_and_its_ask(run: Run, ambiguous: World) -> None:
    """The candidates are what an operator needs to decide."""
    document, ask = lines(run("show", "--id", ID).stdout)

    assert document["results"] == [ambiguous.event("a").result().document()]
    assert set(ask["ask"]["candidates"]) == {task.task_id for task in ambiguous.emulator.tasks}
    assert (ask["ask"]["state"], ask["ask"]["sendings"]) == ("left to the operator", 1)
    assert ask["ask"]["event_ids"] == [ID, "webhook:agents:b"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["show"], "ID="),
        (["show", "--id", "nobody"], "no event"),
        (["adopt", "--id", ID], "TASK="),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(
    arguments: list[str], says: str, run: Run, ambiguous: World
) -> None:
    """And nothing is changed."""
    printed = run(*arguments)

    assert (printed.returncode, printed.stdout) == (1, "")
    assert says in printed.stderr
    assert len(printed.stderr.splitlines()) == 1
    assert error_code(ambiguous.event("a")) == "Ambiguous"


def test_retry_prints_the_result_of_what_it_changed(run: Run, ambiguous: World) -> None:
    """A result like any other."""
    [document] = lines(run("retry", "--id", ID).stdout)

    [result] = document["results"]
    assert (result["event_id"], result["status"], result["error"]) == (ID, "pending", None)
    assert ambiguous.statuses("a") == [Status.PENDING]


# -- ways out -------------------------------------------------------------------------------------


def test_retry_lets_the_next_sweep_ask(ambiguous: World) -> None:
    """The operator knows that no task was made; the other event is still to be decided."""
    result = one(ledger.changed(ambiguous.app, "retry", ID, None))
    ambiguous.sweep()

    assert (result.status, result.error) == (Status.PENDING, None)
    assert ambiguous.statuses("a", "b") == [Status.CREATED, Status.UNKNOWN]
    assert ambiguous.event("a").attempts == 2


def test_retry_ends_a_backoff(world: World) -> None:
    """What was mended need not wait for its turn."""
    world.emulator.script(Throttle(retry_after_ms=600_000))
    world.record(world.draft("a"))
    world.sweep()

    ledger.changed(world.app, "retry", ID, None)
    world.sweep()

    assert world.statuses("a") == [Status.CREATED]


def test_adopt_gives_the_task_to_the_whole_ask(ambiguous: World) -> None:
    """Both events are created by it, and followed to its end."""
    task_id = ambiguous.emulator.tasks[1].task_id

    results = ledger.changed(ambiguous.app, "adopt", ID, task_id)
    ambiguous.sweep_after(60)

    assert [(result.status, result.task_id, result.shared_by) for result in results] == [
        (Status.CREATED, task_id, 2)
    ] * 2
    assert ambiguous.statuses("a", "b") == [Status.FINISHED] * 2


def test_adopt_again_after_a_death_does_the_rest(ambiguous: World) -> None:
    """The ask has the task, and one event does not know yet: the same command once more."""
    task_id = ambiguous.emulator.tasks[0].task_id
    before = ambiguous.event("b")
    ledger.changed(ambiguous.app, "adopt", ID, task_id)
    ambiguous.ledger.change_event(before.event_id, lambda _: before)

    ledger.changed(ambiguous.app, "adopt", before.event_id, task_id)

    assert ambiguous.statuses("a", "b") == [Status.CREATED] * 2


def test_another_events_task_cannot_be_adopted(ambiguous: World) -> None:
    """A task of this ledger serves its own events alone."""
    ambiguous.record(ambiguous.draft("c"))
    ambiguous.sweep()

    with pytest.raises(OperatorError, match="another event"):
        ledger.changed(ambiguous.app, "adopt", ID, ambiguous.event("c").task_id)


def test_give_up_says_that_nobody_knows(ambiguous: World) -> None:
    """`OutcomeUnknown`: a task may have been made, and the id stays bound."""
    result = one(ledger.changed(ambiguous.app, "give-up", ID, None))

    assert (result.status, error_code(result)) == (Status.FAILED, "OutcomeUnknown")
    assert ambiguous.statuses("a", "b") == [Status.FAILED, Status.UNKNOWN]


def test_give_up_of_what_was_never_made_says_so(world: World) -> None:
    """`Expired`: surely no task was made, and the id is free."""
    world.record(world.draft("a"))

    result = one(ledger.changed(world.app, "give-up", ID, None))

    assert (error_code(result), world.event("a").frees_its_id) == ("Expired", True)


@pytest.mark.parametrize("action", ["retry", "adopt", "give-up"])
def test_nothing_is_decided_while_it_is_looked_for(action: str, world: World) -> None:
    """A call may be out, or its task be found: the sweep comes first."""
    world.emulator.script(ResetBefore())
    world.record(world.draft("a"))
    world.sweep()

    with pytest.raises(OperatorError, match="looked for"):
        ledger.changed(world.app, action, ID, "0a")


@pytest.mark.parametrize("action", ["retry", "adopt", "give-up"])
def test_what_is_settled_stays_as_it_is(action: str, world: World) -> None:
    """There is nothing to decide about a task that is there."""
    world.record(world.draft("a"))
    world.sweep()

    with pytest.raises(OperatorError, match="created"):
        ledger.changed(world.app, action, ID, "0a")


def test_a_pending_event_adopts_nothing(world: World) -> None:
    """No asking for it is in doubt."""
    world.record(world.draft("a"))

    with pytest.raises(OperatorError, match="in doubt"):
        ledger.changed(world.app, "adopt", ID, "0a")


@pytest.mark.parametrize(("action", "status"), [("retry", Status.PENDING), ("give-up", Status.FAILED)])
def test_an_event_whose_ask_is_damaged_has_its_ways_out(
    action: str, status: Status, ambiguous: World
) -> None:
    """The record that cannot be read is not needed for them."""
    key = call_key(ambiguous.event("a").ask_id or "")
    row = ambiguous.ledger.store.get(key)
    assert row is not None
    ambiguous.ledger.store.put(Row(key, "damaged", row.open, row.expires_s, "{}"), replacing=row.version)

    result = one(ledger.changed(ambiguous.app, action, ID, None))

    assert (result.status, ambiguous.clock.now_s()) == (status, NOW_S + 5)
