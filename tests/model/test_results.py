"""Every result of every event reaches its receiver, whatever the ledger's stream does on its way."""

import random
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import pytest

from oncetask.app import ResultsApp
from oncetask.clock import Deadline
from oncetask.handlers.outbox import hand_on
from oncetask.ledger.records import Event
from oncetask.ledger.store import Row
from tests.clocks import FakeClock
from tests.model import steps
from tests.model.seam import Change
from tests.model.soak import Seeded
from tests.model.world import World
from tests.receiver import QUEUE, Fault, Receiver, receiving
from tests.stream import batch, record

STEPS = 40
SHARDS = 4
MOST_RECORDS = 25
FAULTS = (Fault("ThrottlingException"), Fault("InternalFailure", 500))
"""None is the message's own, so that each is tried again."""


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """EventBridge and SQS."""
    with receiving() as running:
        yield running


@cache
def written_in_a_world(seed: int) -> list[Change]:
    """Every write of a world in which everything goes wrong, in order."""
    draw = Seeded(seed, world=0)
    with World(replace(steps.temper(draw), newer_versions=False)) as world:
        for _ in range(STEPS):
            steps.any_step(world, draw)
        world.heal()
        return world.seam.changes


@dataclass(slots=True)
class Shard:
    """A part of the stream: its records in order, and how far they are done."""

    records: list[dict[str, Any]]
    done: int = 0

    @property
    def is_done(self) -> bool:
        """Whether nothing is left."""
        return self.done >= len(self.records)

    def go_on(self, app: ResultsApp, chance: random.Random) -> None:
        """One batch; where the invocation was killed after its work, the same comes once more."""
        taken = self.records[self.done : self.done + chance.randint(1, MOST_RECORDS)]
        failures = hand_on(app, batch(*taken), Deadline.after(60, app.clock)).answer()["batchItemFailures"]
        numbers = [one["dynamodb"]["SequenceNumber"] for one in taken]
        if failures:
            self.done += numbers.index(failures[0]["itemIdentifier"])
        elif chance.random() > 0.2:
            self.done += len(taken)


def shards_of(changes: Sequence[Change], now_s: float) -> list[Shard]:
    """The stream of these writes: a key's are in one shard, and shards know nothing of each other."""
    shards = [Shard([]) for _ in range(SHARDS)]
    for number, change in enumerate(changes):
        if change.before is not None or change.after is not None:
            records = shards[zlib.crc32(change.key.encode()) % SHARDS].records
            records.append(record(number, change.after, change.before, at_s=now_s))
    return shards


def results_in(changes: Sequence[Change]) -> list[dict[str, Any]]:
    """What was new in each write of an event: a status, a code, a task, a request or an end."""
    found = []
    for change in changes:
        if change.key.startswith("event/") and change.after is not None:
            event, before = _event(change.after), change.before and _event(change.before)
            if before is None or event.told() != before.told() or event.instance != before.instance:
                found.append(event.result().document())
    return found


def _event(row: Row) -> Event:
    return Event.model_validate_json(row.body)


@pytest.mark.parametrize("results", ["eventbridge:results", f"sqs:{QUEUE}"], ids=["bus", "queue"])
@pytest.mark.parametrize("seed", range(3))
def test_every_result_arrives_in_order_and_none_is_invented(
    seed: int, results: str, receiver: Receiver
) -> None:
    """The stream repeats, shards overtake each other, calls fail: each comes, in its event's order."""
    clock, chance = FakeClock(), random.Random(seed)  # noqa: S311 - to be repeated, not to be secret
    changes = written_in_a_world(seed)
    app, shards = receiver.app(results, clock), shards_of(changes, clock.now_s())

    while left := [shard for shard in shards if not shard.is_done]:
        receiver.faults.clear()
        receiver.faults.extend(chance.choice((None, None, None, *FAULTS)) for _ in range(5))
        chance.choice(left).go_on(app, chance)

    written = results_in(changes)
    assert len(written) > STEPS / 2
    first_arrivals = _first_of_each(receiver.results)
    for event_id in {str(result["event_id"]) for result in written}:
        assert _of(first_arrivals, event_id) == _of(written, event_id)
    assert len(first_arrivals) == len(written)
    assert receiver.dead_letters == []


def _first_of_each(results: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    found: dict[tuple[object, object], dict[str, Any]] = {}
    for result in results:
        same = found.setdefault((result["event_id"], result["sequence"]), result)
        assert same == result  # what comes again is the same
    return list(found.values())


def _of(results: Sequence[dict[str, Any]], event_id: str) -> list[dict[str, Any]]:
    return [result for result in results if result["event_id"] == event_id]
