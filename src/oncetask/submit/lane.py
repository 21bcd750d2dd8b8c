"""A task type's lane, held while its open events are ended or reopened.

Nobody sends anything for an event of the type meanwhile. A lane whose call is unresolved is taken over once
that call's claim has ended, and left as it was.
"""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import NamedTuple

from oncetask.clock import Clock, Deadline, patiently
from oncetask.errors import DamagedRecord, LedgerUnavailable
from oncetask.ledger.ledger import Ledger
from oncetask.ledger.records import Lane
from oncetask.ledger.rows import Kept

HELD_S = 20.0
"""How long a holder may work; one that was frozen for longer finds its lane taken over."""


class Held(NamedTuple):
    """A lane in our hands until then; `is_taken_over`: it has an unresolved call, whose claim had ended."""

    lane: Kept[Lane]
    ends: Deadline
    is_taken_over: bool

    def is_ours(self) -> bool:
        """Whether that is surely still so."""
        return self.ends.left_s() > 0


@contextmanager
def held(ledger: Ledger, clock: Clock, task_type: str, *, patience_s: float = 0.0) -> Iterator[Held | None]:
    """The type's lane inside the block; None where another has it, also after `patience_s`."""
    taken = patiently(
        clock,
        patience_s,
        lambda: _take_free(ledger, clock, task_type) or _take_over(ledger, clock, task_type),
    )
    try:
        yield taken
    finally:
        if taken is not None:
            with suppress(LedgerUnavailable, DamagedRecord):  # the claim ends by itself
                _release(ledger, clock, taken)


def _take_free(ledger: Ledger, clock: Clock, task_type: str) -> Held | None:
    ends = Deadline.after(HELD_S, clock)
    lane = ledger.take_lane(Lane(task_type=task_type, claim_ends_s=clock.now_s() + HELD_S))
    return None if lane is None else Held(lane, ends, is_taken_over=False)


def _take_over(ledger: Ledger, clock: Clock, task_type: str) -> Held | None:
    """An answered call is left to the sweep: its events are settled first."""
    try:
        lane = ledger.lane(task_type)
    except DamagedRecord:
        return None  # a newer version's, or the sweep mends it
    if lane is None or lane.record.claim_ends_s > clock.now_s():
        return None
    # Its events may not have been told yet: ended now, one of them would lose the task that it has.
    if lane.record.call is not None and lane.record.call.answer is not None:
        return None
    ends = Deadline.after(HELD_S, clock)
    fresh = Lane(task_type=task_type, claim_ends_s=clock.now_s() + HELD_S)
    ours = ledger.change_lane(lane, holder=fresh.holder, claim_ends_s=fresh.claim_ends_s)
    if ours is None:
        return None
    return Held(ours, ends, is_taken_over=ours.record.call is not None)


def _release(ledger: Ledger, clock: Clock, taken: Held) -> None:
    if not taken.is_taken_over:
        ledger.release_lane(taken.lane)
        return
    # The call in it is still searched for: its lane is no nearer to being free than before. Its sender may
    # have written an answer into it meanwhile.
    current: Kept[Lane] | None = taken.lane
    while current is not None and current.record.holder == taken.lane.record.holder:
        if ledger.change_lane(current, claim_ends_s=clock.now_s()) is not None:
            return
        current = ledger.lane(current.record.task_type)
