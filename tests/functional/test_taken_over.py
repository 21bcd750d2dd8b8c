"""What others hold, or cannot be read: a late sender, a newer version and a damaged record stop nobody else,
and nothing is sent again that nobody could search for.
"""

from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from local.emulator import ResetBefore
from oncetask.ledger.ledger import Ledger
from oncetask.ledger.records import FORMAT, call_key
from oncetask.ledger.sqlite import SqlStore
from oncetask.ledger.store import Row
from oncetask.models import Status
from oncetask.submit.lane import Held, held
from tests.functional.conftest import MakeWorld
from tests.functional.sweeps import CHECK, SCAN, World, error_code

if TYPE_CHECKING:
    from collections.abc import Callable

NEWER = f'{{"format": {FORMAT + 1}}}'
DAMAGED = "{"
SEARCHED_IN_VAIN = (5, 25, 60, 90)
"""Pauses that lead to each of the four searches."""


class StruckStore(SqlStore):
    """Something happens once, just before a lane's record is written over."""

    def __init__(self) -> None:
        super().__init__()
        self.strike: Callable[[], None] | None = None

    def put(self, row: Row, *, replacing: str | None) -> bool:
        if row.key.startswith("lane/") and replacing is not None and self.strike is not None:
            strike, self.strike = self.strike, None
            strike()
        return super().put(row, replacing=replacing)


def test_a_sender_who_wakes_up_late_leaves_the_lane_to_who_holds_it(make_world: MakeWorld) -> None:
    """Its answer is written down and its event has the task; but until the holder is done, nobody sends."""
    world = make_world()
    world.emulator.behaviour.task_duration_s = 3600
    store = StruckStore()
    world.app.ledger = Ledger(store, world.clock)
    holders: list[Held] = []

    with ExitStack() as operator:

        def frozen_while_an_operator_takes_over() -> None:
            world.clock.advance(120)
            holder = operator.enter_context(held(world.ledger, world.clock, CHECK))
            assert holder is not None
            holders.append(holder)

        store.strike = frozen_while_an_operator_takes_over
        world.record(world.draft("a", submit="now"))
        world.record(world.draft("b", submit="now", targets="inet-2"))
        lane = world.ledger.lane(CHECK)
        world.sweep()

        assert lane is not None
        assert lane.record.holder == holders[0].lane.record.holder
        assert world.statuses("a", "b") == [Status.CREATED, Status.PENDING]
        assert len(world.emulator.tasks) == 1

    world.sweep_after(1)

    assert world.statuses("a", "b") == [Status.CREATED, Status.CREATED]


def lost(world: World) -> str:
    """The event `a` is asked for, and its answer lost; the call's id."""
    world.emulator.script(ResetBefore())
    world.record(world.draft("a"))
    world.sweep()
    lane = world.ledger.lane(CHECK)
    assert lane is not None
    assert lane.record.call is not None
    return lane.record.call.call_id


def write_over(world: World, call_id: str, body: str) -> None:
    """The lost call's record is what somebody else wrote."""
    row = world.ledger.store.get(call_key(call_id))
    version = row.version if row else None
    assert world.ledger.store.put(Row(call_key(call_id), "other", None, None, None, body), replacing=version)


def test_a_call_that_a_newer_version_has_closed_is_left_to_it_and_keeps_nobody_else_waiting(
    memory: World,
) -> None:
    """No sweep ends because of it: what is of another type is asked for; each sweep reports it."""
    call_id = lost(memory)
    write_over(memory, call_id, NEWER)
    memory.record(memory.draft("b", task_type=SCAN, route="others"))

    report = memory.sweep_after(30)

    assert memory.event("b").status is Status.CREATED
    assert report.newer_keys == [call_key(call_id)]
    assert memory.ledger.lane(CHECK) is not None
    assert len(memory.emulator.tasks) == 1


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [(NEWER, Status.UNKNOWN, "NoAnswer"), (DAMAGED, Status.UNKNOWN, "Ambiguous")],
)
def test_what_nobody_could_search_for_is_not_sent_again(
    body: str, status: Status, code: str, memory: World
) -> None:
    """A newer version's record is waited for; with a damaged one the operator decides."""
    call_id = lost(memory)
    memory.sweep_after(*SEARCHED_IN_VAIN)
    write_over(memory, call_id, body)
    sent = len(memory.calls())

    report = memory.sweep_after(600)

    assert (memory.event("a").status, error_code(memory.event("a"))) == (status, code)
    assert call_key(call_id) in (report.newer_keys + report.damaged_keys)
    assert len(memory.calls()) == sent


def test_a_second_item_under_an_items_own_id_learns_nothing_of_the_first(memory: World) -> None:
    """Neither its request nor the hosts that were not found for it."""
    draft = memory.draft("a", item_sha256="1", first_wins=True, hosts_missing=("10.9.9.9",))
    memory.record(draft)

    [told] = memory.record(draft.model_copy(update={"item_sha256": "2"})).results

    assert (told.request, list(told.hosts_missing)) == (None, [])


def test_what_comes_after_its_end_is_not_asked_for(memory: World) -> None:
    """A tick that came late: the sweep ends it."""
    memory.record(memory.draft("a", submit="now", give_up_s=memory.clock.now_s()))

    memory.sweep_after(60)

    assert (memory.event("a").status, error_code(memory.event("a"))) == (Status.FAILED, "Expired")
    assert memory.emulator.tasks == []
