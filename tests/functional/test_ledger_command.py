"""`oncetask ledger`: what an operator sees of a ledger, and the ways out of what nobody else can decide."""

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
    """`run(*arguments)`: `oncetask ledger` in a pipe, on the world's ledger."""

    def run(
        *arguments: str, ledger: str | None = None, operator: str = ""
    ) -> subprocess.CompletedProcess[str]:
        environment = {
            "PYTHONPATH": "src:.",
            "PATH": "/usr/bin:/bin",
            "ONCETASK_LEDGER": f"sqlite://{tmp_path}/ledger.sqlite" if ledger is None else ledger,
            "ONCETASK_OPERATOR": operator,
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


def document(printed: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    """The one JSON document of `--json`."""
    found: dict[str, Any] = json.loads(printed.stdout)
    return found


HOSTILE = "disk[/dev/sda1]$(touch x)`id`'\"\x1b]52;c;eA==\x07\u202e"
"""An id as a sender may write it: rich's markup, a shell's words, a terminal's orders."""
SHOWN = "disk[/dev/sda1]$(touch x)`id`'\"\\u001b]52;c;eA==\\u0007\\u202e"

# -- looking --------------------------------------------------------------------------------------


def test_list_prints_what_is_open_as_json(run: Run, world: World) -> None:
    """Results, oldest first, each with its reason; what has ended is not there."""
    world.emulator.script(CapReached())
    world.record(world.draft("a"))
    world.sweep()
    world.clock.advance(1)
    world.record(world.draft("b"))

    printed = run("list", "--json")

    found = document(printed)
    assert found["counts"]["pending"] == 2
    assert [(r["event_id"], r["status"], r["error"] and r["error"]["code"]) for r in found["results"]] == [
        (ID, "pending", "OnceTaskLimitExceeded"),
        ("webhook:agents:b", "pending", None),
    ]
    assert (printed.returncode, printed.stderr) == (0, "")


def test_list_chooses_by_route_state_code_age_and_number(run: Run, world: World) -> None:
    """Each filter alone, exact."""
    world.emulator.script(CapReached())
    world.record(world.draft("a"))
    world.sweep()
    world.clock.advance(90)
    world.record(world.draft("b"))

    def ids(*options: str) -> list[str]:
        return [result["event_id"] for result in document(run("list", "--json", *options))["results"]]

    assert ids("--code", "OnceTaskLimitExceeded") == [ID]
    assert ids("--route", "agents") == [ID, "webhook:agents:b"]
    assert ids("--route", "others") == []
    assert ids("--state", "unknown") == []
    assert ids("--limit", "1") == [ID]


def test_summary_counts_all_that_is_open_however_much(run: Run, world: World) -> None:
    """More than any window that a sweep reads."""
    world.record(*(world.draft(f"e{number}") for number in range(2500)))

    found = document(run("--json"))

    assert found["waiting"] == 2500
    [group] = found["by"]
    assert (group["route"], group["status"], group["count"]) == ("agents", "pending", 2500)
    assert found["slots"] == {"in_use": 0, "of": 10}


def test_show_prints_the_event_and_its_ask(run: Run, ambiguous: World) -> None:
    """The candidates are what an operator needs to decide."""
    found = document(run("show", ID, "--json"))

    ask = found["ask"]
    assert found["results"] == [ambiguous.event("a").result().document()]
    assert set(ask["candidates"]) == {task.task_id for task in ambiguous.emulator.tasks}
    assert (ask["state"], ask["sendings"]) == ("left to the operator", 1)
    assert ask["event_ids"] == [ID, "webhook:agents:b"]
    assert [one["what"].split(",")[0] for one in found["timeline"]][:2] == ["recorded", "sent"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["show"], "'ID'"),
        (["show", "nobody"], "no event"),
        (["shwo", "nobody"], "did you mean show?"),
        (["retry"], "wants ID"),
        (["give-up", ID, "--state", "unknown"], "either ids or a filter"),
        (["retry", "--state", "unknown"], "--yes"),
        (["list", "--older-than", "soon"], "30s"),
        (["list", "--state", "pendin"], "did you mean pending?"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(
    arguments: list[str], says: str, run: Run, ambiguous: World
) -> None:
    """And nothing is changed."""
    printed = run(*arguments)

    assert printed.returncode in {1, 2}
    assert printed.stdout == ""
    assert says in printed.stderr
    assert len(printed.stderr.splitlines()) == 1
    assert error_code(ambiguous.event("a")) == "Ambiguous"


def test_a_ledger_that_nobody_else_can_see_is_refused(run: Run) -> None:
    """`memory://` would look like a ledger in which nothing waits."""
    printed = run("list", ledger="")

    assert (printed.returncode, printed.stdout) == (1, "")
    assert "ONCETASK_LEDGER" in printed.stderr


def test_what_a_sender_wrote_into_an_id_is_text_alone_on_its_line(run: Run, world: World) -> None:
    """No markup, no shell, no orders to the terminal; in JSON it reads back as it was."""
    world.record(world.draft(HOSTILE))

    printed, as_json = run("list"), run("list", "--json")
    shown = run("show", f"webhook:agents:{HOSTILE}", "--json")

    assert f"webhook:agents:{SHOWN}" in [line.strip() for line in printed.stdout.splitlines()]
    for text in (printed.stdout, as_json.stdout):
        assert not {"\x1b", "\x07", "\u202e"} & set(text)
    assert document(as_json)["results"][0]["event_id"] == f"webhook:agents:{HOSTILE}"
    assert document(shown)["results"][0]["event_id"] == f"webhook:agents:{HOSTILE}"
    assert not (ROOT / "x").exists()


# -- changing -------------------------------------------------------------------------------------


def test_retry_prints_the_result_of_what_it_changed(run: Run, ambiguous: World) -> None:
    """A result like any other, and who did it."""
    found = document(run("retry", ID, "--json", "--reason", "no task in the console", operator="ada"))

    [result] = found["results"]
    assert (result["event_id"], result["status"], result["error"]) == (ID, "pending", None)
    assert found["changed_by"] == {"operator": "ada", "reason": "no task in the console", "action": "retry"}
    assert ambiguous.statuses("a") == [Status.PENDING]


def test_many_are_shown_before_they_are_changed(run: Run, ambiguous: World) -> None:
    """`--dry-run` changes nothing, `--yes` all of them."""
    dry = run("give-up", "--code", "Ambiguous", "--dry-run", "--json")
    before = ambiguous.statuses("a", "b")

    done = run("give-up", "--code", "Ambiguous", "--yes", "--json")

    assert len(document(dry)["results"]) == 2
    assert before == [Status.UNKNOWN] * 2
    assert document(done)["counts"]["failed"] == 2
    assert document(run("list", "--json"))["results"] == []


def test_adopt_lists_the_candidates_and_takes_only_them_unless_forced(run: Run, ambiguous: World) -> None:
    """Shown with start, source and targets."""
    listed = document(run("adopt", ID, "--json"))
    stranger = run("adopt", ID, "0a")
    forced = run("adopt", ID, "0a", "--force", "--json")

    assert {one["task_id"] for one in listed["candidates"]} == {
        task.task_id for task in ambiguous.emulator.tasks
    }
    assert all(one["started_at"] for one in listed["candidates"])
    assert (stranger.returncode, "--force" in stranger.stderr) == (1, True)
    assert document(forced)["results"][0]["task_id"] == "0a"


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
