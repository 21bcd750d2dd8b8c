"""`oncetask ledger`: what an operator sees of a ledger, and the ways out of what nobody else can decide."""

import json
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from local import ledger_queries, operator
from local.emulator import (
    ACCESS_KEY_ID,
    ACCESS_KEY_SECRET,
    CapReached,
    Emulator,
    ResetAfter,
    ResetBefore,
    Throttle,
)
from local.errors import CommandError
from local.ledger_queries import Filter
from local.operator import Decision, OperatorError, Wanted
from oncetask.app import App
from oncetask.ledger.ledger import Ledger
from oncetask.ledger.records import Event, Lane, call_key, event_key, task_key
from oncetask.ledger.sqlite import SqlStore
from oncetask.models import Status
from oncetask.submit.report import Limits
from tests.clocks import NOW_S, FakeClock
from tests.command.programs import ran_here
from tests.conftest import MakeApp
from tests.functional.sweeps import CHECK, World, error_code

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
    """`run(*arguments)`: `oncetask ledger` on the world's ledger, its output a pipe's."""

    def run(
        *arguments: str, ledger: str | None = None, operator: str = ""
    ) -> subprocess.CompletedProcess[str]:
        environment = {
            "ONCETASK_LEDGER": f"sqlite://{tmp_path}/ledger.sqlite" if ledger is None else ledger,
            "ONCETASK_OPERATOR": operator,
            "ONCETASK_ROUTES": f"{tmp_path}/routes.toml",
            "ONCETASK_ENDPOINT": emulator.url,
            "ALIBABA_CLOUD_ACCESS_KEY_ID": ACCESS_KEY_ID,
            "ALIBABA_CLOUD_ACCESS_KEY_SECRET": ACCESS_KEY_SECRET,
        }
        return ran_here("ledger", *arguments, more=environment)

    return run


@pytest.fixture
def ambiguous(world: World) -> World:
    """Two events of one call; two strangers' tasks may be its own."""
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

# -- reading --------------------------------------------------------------------------------------


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


def test_list_chooses_by_age(run: Run, world: World) -> None:
    """Received longer ago than that."""
    world.record(world.draft("a", received_s=1_000_000_000.0), world.draft("b"))

    found = document(run("list", "--json", "--older-than", "1d"))

    assert [result["event_id"] for result in found["results"]] == [ID]


def test_summary_counts_all_that_is_open_however_much(run: Run, world: World) -> None:
    """More than any window that a sweep reads."""
    world.record(*(world.draft(f"e{number}") for number in range(2500)))

    found = document(run("--json"))

    assert found["waiting"] == 2500
    [group] = found["by"]
    assert (group["route"], group["status"], group["count"]) == ("agents", "pending", 2500)
    assert found["slots"] == {"in_use": 0, "of": 10}


@pytest.mark.parametrize(
    "number", [3_000, pytest.param(100_000, marks=[pytest.mark.slow, pytest.mark.timeout(600)])]
)
def test_summary_and_list_are_exact_and_soon_there(number: int, world: World) -> None:
    """A millisecond an event, whatever else there is; oldest first, each once."""
    store = SqlStore()
    world.app.ledger = Ledger(store, world.clock)
    world.record(world.draft("e0"))
    row = store.get("event/webhook:agents:e0")
    assert row is not None
    for index in range(1, number):  # what `record` writes, without its reckoning
        event_id, received_s = f"webhook:agents:e{index}", int(NOW_S) - index
        body = row.body.replace("webhook:agents:e0", event_id).replace(str(int(NOW_S)), str(received_s), 1)
        due = f"{received_s * 1000:014d}|{received_s * 1000:014d}.00000"
        store.put(
            row._replace(key=event_key(event_id), version=str(index), due=due, body=body), replacing=None
        )
    began_s = time.monotonic()

    found = ledger_queries.summary(world.app)
    oldest = list(ledger_queries.events(world.app, Filter(limit=3)))
    counted = sum(1 for _ in ledger_queries.events(world.app, Filter(code=None, route="agents")))

    assert time.monotonic() - began_s < 3 * number / 1000 + 1
    assert (found["waiting"], counted) == (number, number)
    assert [event.event_id for event in oldest] == [f"webhook:agents:e{number - n}" for n in (1, 2, 3)]


def test_show_prints_the_event_and_its_call(run: Run, ambiguous: World) -> None:
    """The candidates are what an operator needs to decide."""
    found = document(run("show", ID, "--json"))

    call = found["call"]
    assert found["results"] == [ambiguous.event("a").result().document()]
    assert set(call["candidates"]) == {task.task_id for task in ambiguous.emulator.tasks}
    assert call["state"] == "left to the operator"
    assert call["event_ids"] == [ID, "webhook:agents:b"]
    assert [one["what"].split(",")[0] for one in found["timeline"]][:2] == ["recorded", "sent"]


def test_show_prints_a_call_that_is_still_searched_for(run: Run, world: World) -> None:
    """It stands in its type's lane."""
    world.emulator.script(ResetBefore())
    world.record(world.draft("a"))
    world.sweep()

    found = document(run("show", ID, "--json"))

    assert found["call"]["state"] == "searched for"


def test_show_says_what_came_of_each_host(run: Run, world: World) -> None:
    """That some failed stands beside the state; each host's id has its line, and its codes follow."""
    world.emulator.behaviour.failing_hosts = {"inet-b"}
    world.record(world.draft("a", targets="inet-a,inet-b"))
    world.sweep()
    world.emulator.finish(str(world.event("a").task_id))
    world.sweep_after(60)

    printed = run("show", ID)

    lines = [line.strip() for line in printed.stdout.splitlines()]
    assert "SUCCESS, 1 of 2 hosts failed" in lines[0]
    assert lines[lines.index("inet-b") + 2].startswith("1003: ")
    assert "inet-a" in lines


def test_the_timeline_is_in_the_order_of_time(run: Run, world: World) -> None:
    """A task ends before a sweep has seen it."""
    world.record(world.draft("a"))
    world.sweep()
    world.emulator.finish(str(world.event("a").task_id))
    world.sweep_after(60)

    found = document(run("show", ID, "--json"))["timeline"]

    assert [one["at"] for one in found] == sorted(one["at"] for one in found)
    assert [one["what"] for one in found] == ["recorded", "created", "its task ended: SUCCESS", "finished"]


@pytest.mark.usefixtures("ambiguous")
def test_the_timeline_says_who_did_what_and_why(run: Run) -> None:
    """On the event itself: who reads it later, by any command, sees it."""
    run("give-up", ID, "--reason", "the host is gone", operator="ada")

    found = document(run("show", ID, "--json"))
    shown = run("show", ID).stdout

    [last] = [one for one in found["timeline"] if one["by"]]
    assert (last["what"], last["code"], last["by"], last["reason"]) == (
        "failed",
        "OutcomeUnknown",
        "ada",
        "the host is gone",
    )
    assert "by ada  the host is gone" in shown


@pytest.mark.parametrize("action", ["retry", "adopt", "give-up"])
def test_each_change_is_recorded_with_who_and_why(action: str, run: Run, ambiguous: World) -> None:
    """Of a whole call's events each one."""
    task = [ambiguous.emulator.tasks[0].task_id] if action == "adopt" else []

    done = run(action, ID, *task, "--reason", "seen in the console", operator="ada")

    assert done.returncode == 0, done.stderr
    row = ambiguous.ledger.store.get(event_key(ID))
    assert row is not None
    happened = Event.model_validate_json(row.body).history[-1]
    assert (happened.by, happened.reason) == ("ada", "seen in the console")


@pytest.mark.usefixtures("ambiguous")
@pytest.mark.parametrize("action", ["give-up", "retry", "adopt"])
def test_each_change_is_logged_in_a_line_of_its_own(action: str, run: Run) -> None:
    """JSON on stderr, where a pipe or a file takes it: when, who, why, what, and how the event stands."""
    task = ["0a", "--force"] if action == "adopt" else []

    done = run(action, ID, *task, "--reason", "seen in the console", operator="ada")

    lines = [json.loads(one) for one in done.stderr.splitlines()]
    [line] = [line for line in lines if line["event_id"] == ID]
    assert line["timestamp"].endswith("Z")
    assert (line["operator"], line["reason"], line["action"]) == ("ada", "seen in the console", action)
    assert (line["event_id"], line["message"]) == (ID, "changed by an operator")
    assert line["status"] == {"give-up": "failed", "retry": "pending", "adopt": "created"}[action]


@pytest.mark.usefixtures("ambiguous")
def test_what_was_not_changed_is_not_logged(run: Run) -> None:
    """Neither a refusal nor a look at what would be changed."""
    assert "changed by" not in run("give-up", ID, "--dry-run").stderr
    assert "changed by" not in run("adopt", ID, "no-candidate").stderr


def test_a_reason_that_is_too_long_to_be_kept_is_refused(run: Run, ambiguous: World) -> None:
    """It would make records grow without an end."""
    done = run("give-up", ID, "--reason", "x" * 201)

    assert (done.returncode, "--reason may have 200 characters" in done.stderr) == (1, True)
    assert ambiguous.statuses("a") == [Status.UNKNOWN]


def test_events_that_have_ended_are_listed_by_their_state(run: Run, world: World) -> None:
    """While they are kept; oldest first, and no others."""
    for name in "ab":
        world.record(world.draft(name, targets=None))
        world.clock.advance(1)
    world.sweep()
    world.record(world.draft("c"))

    def ids(*options: str) -> list[str]:
        return [result["event_id"] for result in document(run("list", "--json", *options))["results"]]

    assert ids("--state", "created") == [ID, "webhook:agents:b"]
    assert ids("--state", "created", "--limit", "1") == [ID]
    assert ids("--state", "created", "--route", "others") == []
    assert ids("--state", "pending") == ["webhook:agents:c"]
    assert ids("--state", "finished") == []


# -- damaged records ------------------------------------------------------------------------------


def damage(world: World, key: str, body: str = "{") -> None:
    """Somebody's hand in the store."""
    row = world.ledger.store.get(key)
    assert row is not None
    assert world.ledger.store.put(row._replace(version="damaged", body=body), replacing=row.version)


@pytest.mark.parametrize("is_met", [False, True])
def test_a_damaged_record_is_in_summary_and_list(run: Run, world: World, *, is_met: bool) -> None:
    """Before a sweep has met it, and after it was set aside."""
    world.record(world.draft("a", due_s=0), world.draft("b"))
    damage(world, event_key(ID))
    if is_met:
        world.sweep()

    summary, listed = document(run("--json")), document(run("list", "--json"))

    assert summary["damaged"] == [event_key(ID)]
    assert (ID, "RecordDamaged") in [
        (one["event_id"], (one["error"] or {}).get("code")) for one in listed["results"]
    ]


def test_damaged_records_of_every_kind_are_found_by_their_code(run: Run, world: World) -> None:
    """Also one that was closed, and so stands in no list of what is open."""
    world.record(world.draft("a"))
    world.sweep()
    damage(world, event_key(ID))
    damage(world, task_key(world.emulator.tasks[0].task_id))

    found = document(run("list", "--code", "RecordDamaged", "--json"))

    assert sorted(one["event_id"] for one in found["results"]) == sorted(
        [ID, task_key(world.emulator.tasks[0].task_id)]
    )


def test_show_of_a_damaged_record_prints_what_is_in_it_and_what_to_do(run: Run, world: World) -> None:
    """As text: what stands there may be anybody's."""
    world.record(world.draft("a"))
    damage(world, event_key(ID), "{[red]\x1b]52;c;eA==\x07\u202e")

    shown, as_json = run("show", ID), run("show", ID, "--json")

    assert "{[red]\\u001b]52;c;eA==\\u0007\\u202e" in shown.stdout
    assert "give-up ID --yes" in shown.stdout
    assert not {"\x1b", "\x07", "\u202e"} & set(shown.stdout + as_json.stdout)
    assert document(as_json)["damaged"]["text"] == "{[red]\x1b]52;c;eA==\x07\u202e"
    assert document(as_json)["results"][0]["error"]["code"] == "RecordDamaged"


def test_a_damaged_record_is_removed_by_a_consenting_hand_alone(run: Run, world: World) -> None:
    """Its id is free then; without consent, and by a retry, it stays."""
    world.record(world.draft("a"))
    damage(world, event_key(ID))

    refused = [run("give-up", ID), run("retry", ID, "--yes"), run("give-up", ID, "--dry-run")]
    before = world.ledger.store.get(event_key(ID))
    removed = run("give-up", ID, "--yes", "--json")

    assert [one.returncode for one in refused] == [1, 1, 0]
    assert before is not None
    assert document(removed)["removed"] == [ID]
    assert world.ledger.store.get(event_key(ID)) is None


def test_a_newer_versions_record_is_shown_and_never_removed(run: Run, world: World) -> None:
    """The version that wrote it still needs it."""
    world.record(world.draft("a"))
    damage(world, event_key(ID), '{"format": 3}')

    shown, refused = run("show", ID), run("give-up", ID, "--yes")

    assert "newer version" in shown.stdout
    assert (refused.returncode, "newer version" in refused.stderr) == (1, True)
    assert world.ledger.store.get(event_key(ID)) is not None


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


def test_a_ledger_that_is_not_there_is_not_made(run: Run, tmp_path: Path) -> None:
    """A mistyped name would look healthy: nothing waits in a new file."""
    printed = run("list", ledger=f"sqlite://{tmp_path}/mistyped.sqlite")

    assert (printed.returncode, printed.stdout) == (1, "")
    assert f"there is no ledger at {tmp_path}/mistyped.sqlite" in printed.stderr
    assert not (tmp_path / "mistyped.sqlite").exists()


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


def test_retry_lets_the_next_sweep_send(ambiguous: World) -> None:
    """The operator knows that no task was made; the other event is still to be decided."""
    result = operator.retry(ambiguous.app, ID)
    ambiguous.sweep()

    assert (result.status, result.error) == (Status.PENDING, None)
    assert ambiguous.statuses("a", "b") == [Status.CREATED, Status.UNKNOWN]
    assert ambiguous.event("a").attempts == 2


def test_retry_ends_a_backoff(world: World) -> None:
    """What was mended need not wait for its turn."""
    world.emulator.script(Throttle(retry_after_ms=600_000))
    world.record(world.draft("a"))
    world.sweep()

    operator.retry(world.app, ID)
    world.sweep()

    assert world.statuses("a") == [Status.CREATED]


def test_adopt_gives_the_task_to_the_whole_call(ambiguous: World) -> None:
    """Both events are created by it, and followed to its end, once its hosts were waited for in vain."""
    task_id = ambiguous.emulator.tasks[1].task_id

    results = operator.adopt(ambiguous.app, ID, task_id)
    ambiguous.sweep_after(*(60,) * 4)

    assert [(result.status, result.task_id, result.shared_by) for result in results] == [
        (Status.CREATED, task_id, 2)
    ] * 2
    assert ambiguous.statuses("a", "b") == [Status.FINISHED] * 2


def test_adopt_again_after_a_death_does_the_rest(ambiguous: World) -> None:
    """The call has the task, and one event does not know yet: the same command once more."""
    task_id = ambiguous.emulator.tasks[0].task_id
    before = ambiguous.event("b")
    operator.adopt(ambiguous.app, ID, task_id)
    ambiguous.ledger.change_event(before.event_id, lambda _: before)

    operator.adopt(ambiguous.app, before.event_id, task_id)

    assert ambiguous.statuses("a", "b") == [Status.CREATED] * 2


def test_there_is_one_kind_of_refusal() -> None:
    """The command prints it as one line."""
    assert issubclass(OperatorError, CommandError)


def test_another_events_task_cannot_be_adopted(ambiguous: World) -> None:
    """A task of this ledger serves its own events alone."""
    ambiguous.record(ambiguous.draft("c"))
    ambiguous.sweep()

    with pytest.raises(OperatorError, match="another event"):
        operator.adopt(ambiguous.app, ID, str(ambiguous.event("c").task_id))


def test_give_up_says_that_nobody_knows(ambiguous: World) -> None:
    """`OutcomeUnknown`: a task may have been made, and the id stays bound."""
    result = operator.give_up(ambiguous.app, ID)

    assert (result.status, error_code(result)) == (Status.FAILED, "OutcomeUnknown")
    assert ambiguous.statuses("a", "b") == [Status.FAILED, Status.UNKNOWN]


def test_give_up_of_what_was_never_made_says_so(world: World) -> None:
    """`Expired`: surely no task was made, and the id is free."""
    world.record(world.draft("a"))

    result = operator.give_up(world.app, ID)

    assert (error_code(result), world.event("a").frees_its_id) == ("Expired", True)


def test_a_retry_waits_until_the_search_has_ended(world: World) -> None:
    """The task may be found yet: asking again would make a second one. Giving up and adopting may be done."""
    world.emulator.script(ResetBefore())
    world.record(world.draft("a"))
    world.sweep()
    world.clock.advance(10)

    with pytest.raises(OperatorError, match="searched for"):
        operator.retry(world.app, ID)

    assert operator.give_up(world.app, ID).status is Status.FAILED


def decide(app: App, action: str) -> object:
    """The action on the first event."""
    if action == "adopt":
        return operator.adopt(app, ID, "0a")
    return operator.retry(app, ID) if action == "retry" else operator.give_up(app, ID)


@pytest.mark.parametrize("action", ["retry", "adopt", "give-up"])
def test_who_finds_the_lane_taken_waits_five_seconds_and_says_so(action: str, ambiguous: World) -> None:
    """A call of the type is on its way; nothing is changed."""
    now_s = ambiguous.clock.now_s()
    before = ambiguous.event("a")
    assert ambiguous.ledger.take_lane(Lane(task_type=CHECK, claim_ends_s=now_s + 60))

    with pytest.raises(OperatorError, match="on its way"):
        decide(ambiguous.app, action)

    assert ambiguous.clock.now_s() - now_s == pytest.approx(5, abs=0.1)
    assert ambiguous.event("a") == before


def test_a_lane_that_is_released_meanwhile_is_taken(ambiguous: World) -> None:
    """The wait is worth it: a call takes a second or two."""
    clock = ambiguous.clock
    assert ambiguous.ledger.take_lane(Lane(task_type=CHECK, claim_ends_s=clock.now_s() + 3))

    assert operator.retry(ambiguous.app, ID).status is Status.PENDING


def test_a_taken_lane_is_waited_for_once_however_many_events(ambiguous: World) -> None:
    """Each of them says why it was not changed."""
    now_s = ambiguous.clock.now_s()
    assert ambiguous.ledger.take_lane(Lane(task_type=CHECK, claim_ends_s=now_s + 60))
    wanted = [Wanted(f"webhook:agents:{name}", CHECK) for name in "ab"]

    done = list(
        operator.each_changed(
            ambiguous.app, wanted, lambda lane, event: operator.ended(ambiguous.app, lane, event, Decision())
        )
    )

    assert [one.result for one in done] == [None, None]
    assert all("on its way" in str(one.why_not) for one in done)
    assert ambiguous.clock.now_s() - now_s < 6


@pytest.mark.parametrize("action", ["retry", "adopt", "give-up"])
def test_what_is_settled_stays_as_it_is(action: str, world: World) -> None:
    """There is nothing to decide about a task that is there."""
    world.record(world.draft("a"))
    world.sweep()

    with pytest.raises(OperatorError, match="created"):
        decide(world.app, action)


def test_a_pending_event_adopts_nothing(world: World) -> None:
    """No call for it is in doubt."""
    world.record(world.draft("a"))

    with pytest.raises(OperatorError, match="in doubt"):
        operator.adopt(world.app, ID, "0a")


@pytest.mark.parametrize(("action", "status"), [("retry", Status.PENDING), ("give-up", Status.FAILED)])
def test_an_event_whose_call_is_damaged_has_its_ways_out(
    action: str, status: Status, ambiguous: World
) -> None:
    """The record that cannot be read is not needed for them."""
    damage(ambiguous, call_key(ambiguous.event("a").call_id or ""))

    decide(ambiguous.app, action)

    assert ambiguous.statuses("a") == [status]


# -- what runs on hosts ---------------------------------------------------------------------------


def test_a_retry_of_what_runs_on_hosts_is_refused_while_its_task_may_be_there(world: World) -> None:
    """The task was made, and its answer was lost: it must not run twice, unless by force."""
    world.emulator.script(ResetAfter())
    world.record(world.draft("a", task_type="CLIENT_DEV_OPS", targets=None))
    world.sweep()
    world.emulator.add_foreign("CLIENT_DEV_OPS")
    world.sweep_after(5)
    assert error_code(world.event("a")) == "Ambiguous"

    with pytest.raises(OperatorError, match="must not run twice"):
        operator.retry(world.app, ID)
    world.quiet()

    assert len(world.calls()) == 1
    assert operator.retry(world.app, ID, force=True).status is Status.PENDING


def test_a_refused_retry_of_what_runs_on_hosts_leaves_the_answer_to_the_sweep(world: World) -> None:
    """Its call was answered, and its sender died: the lane is not free, and the task is the event's."""
    world.record(world.draft("a", task_type="CLIENT_DEV_OPS", targets=None))
    before = world.event("a")
    taken = world.app.caller.take([before], Limits(world.app.deadline(60_000), None, 0.0))
    assert taken is not None
    lane, _ = taken
    assert lane.record.call is not None
    answer = world.app.security_center.generate(lane.record.call.request, world.app.deadline(60_000))
    assert world.app.caller.note_answer(lane, answer, [0]) is not None

    with pytest.raises(OperatorError, match="on its way"):
        operator.retry(world.app, ID)
    world.sweep_after(60)

    assert world.event("a").task_id == answer.task_id
    assert len(world.calls()) == 1
