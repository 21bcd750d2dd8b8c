"""How often the ledger is written and read on each path, as docs/deploy.md reckons its costs from it."""

import math
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import pytest

from local.emulator import Emulator
from local.tools import PROJECT
from oncetask.ledger.dynamodb import _item
from oncetask.ledger.ledger import Ledger
from oncetask.ledger.sqlite import SqlStore
from oncetask.ledger.store import Row
from oncetask.models import Status
from tests.clocks import FakeClock
from tests.conftest import MakeApp
from tests.functional.sweeps import World

WRITE_UNIT_BYTES = 1024
READ_UNIT_BYTES = 4096
TIMES = "\N{MULTIPLICATION SIGN}"


@dataclass
class Count:
    """Calls of the store, and what DynamoDB would bill for them."""

    writes: int = 0
    write_units: int = 0
    reads: int = 0
    read_units: float = 0.0

    @property
    def calls(self) -> int:
        """Requests to DynamoDB."""
        return self.writes + self.reads


class CountingStore(SqlStore):
    """A store in memory that counts as DynamoDB bills: an on-demand table with a keys-only index."""

    def __init__(self) -> None:
        super().__init__()
        self.count = Count()

    def get(self, key: str) -> Row | None:
        row = super().get(key)
        self._read([row] if row else [])
        return row

    def get_many(self, keys: Sequence[str]) -> list[Row]:
        """Billed for each row, however many come at once."""
        rows = [row for key in keys if (row := SqlStore.get(self, key))]
        if keys:
            self._read(rows)
        return rows

    def put(self, row: Row, *, replacing: str | None) -> bool:
        before = super().get(row.key)
        done = super().put(row, replacing=replacing)
        self._write(before, row if done else before)
        return done

    def delete(self, key: str, *, version: str) -> bool:
        before = super().get(key)
        done = super().delete(key, version=version)
        self._write(before, None if done else before)
        return done

    def queued(self, queue: str, most: int | None = None) -> Iterator[tuple[str, str]]:
        """One Query, eventually consistent."""
        self.count.reads += 1
        self.count.read_units += 0.5
        return super().queued(queue, most)

    def _read(self, rows: Sequence[Row]) -> None:
        self.count.reads += 1
        self.count.read_units += max(1, sum(math.ceil(_bytes(row) / READ_UNIT_BYTES) for row in rows))

    def _write(self, before: Row | None, after: Row | None) -> None:
        """One for each KB of the larger one; one for the entry that leaves the index, one for the new one."""
        self.count.writes += 1
        larger_bytes = max(_bytes(row) for row in (before, after) if row) if before or after else 1
        self.count.write_units += math.ceil(larger_bytes / WRITE_UNIT_BYTES)
        marks = [row.due if row else None for row in (before, after)]
        if marks[0] != marks[1]:
            self.count.write_units += sum(mark is not None for mark in marks)


def _bytes(row: Row) -> int:
    """The item's size: names and values."""
    return sum(len(name) + len(next(iter(value.values())).encode()) for name, value in _item(row).items())


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
def store() -> CountingStore:
    """What counts."""
    return CountingStore()


def ten_routes() -> str:
    """A routes file; the events of these tests are of the first."""
    names = ["agents", *(f"timer-{n}" for n in range(9))]
    return "".join(f'[routes.{name}]\ntrigger = "timer"\ntask_type = "IMAGE_SCAN"\n' for name in names)


@pytest.fixture
def world(make_app: MakeApp, clock: FakeClock, emulator: Emulator, store: CountingStore) -> World:
    """One with ten routes on that store, in a process that has seen an event of its route end."""
    app = make_app(ten_routes(), clock=clock)
    app.ledger = Ledger(store, clock)
    world = World(app, clock, emulator)
    world.record(world.draft("before"))
    world.sweep_after(0, 200, 200)
    return world


def counted(store: CountingStore, act: Callable[[], object]) -> Count:
    """What the store counts while that is done."""
    store.count = Count()
    act()
    return replace(store.count)


type Cost = tuple[int, int, float]
"""Writes, write units, read units."""


def paths(world: World, store: CountingStore) -> dict[str, Cost]:
    """The cost of every path that docs/deploy.md reckons with; a sweep's without its own."""
    hundred = [world.draft(str(n), targets=f"inet-{n:08d}", order=n) for n in range(100)]
    sweep = counted(store, world.sweep)
    recorded = counted(store, lambda: world.record(world.draft("recorded")))
    world.sweep_after(0, 200, 200)
    at_once = counted(store, lambda: world.record(world.draft("now", submit="now")))
    followed = counted(store, world.sweep)
    ended = counted(store, lambda: world.sweep_after(200))
    world.record(*hundred)
    asked = counted(store, world.sweep)
    all_ended = counted(store, lambda: world.sweep_after(200))
    assert {*world.statuses("recorded", "now", *map(str, range(100)))} == {Status.FINISHED}
    return {
        "a sweep with nothing to do": (sweep.writes, sweep.write_units, sweep.read_units),
        "an event is recorded for the sweep": (recorded.writes, recorded.write_units, recorded.read_units),
        "an event is recorded and asked for at once": (
            at_once.writes,
            at_once.write_units,
            at_once.read_units,
        ),
        "a sweep follows a task that runs": _beyond(followed, sweep),
        "the task of one event ends": _beyond(ended, sweep),
        "100 events are asked for as one task": _beyond(asked, sweep),
        "the task of 100 events ends": _beyond(all_ended, sweep),
    }


def _beyond(count: Count, sweep: Count) -> Cost:
    return (
        count.writes - sweep.writes,
        count.write_units - sweep.write_units,
        count.read_units - sweep.read_units,
    )


def page() -> str:
    """docs/deploy.md."""
    return (PROJECT / "docs" / "deploy.md").read_text(encoding="utf-8")


def shown_paths() -> dict[str, Cost]:
    """The page's table of counts."""
    table = page().split("<!-- counts:")[1].split("<!-- /counts -->")[0]
    row = r"^\| ([^|:]+?)(?::[^|]*)? \| (\d+) \| (\d+) \| ([\d.]+) \|$"
    rows = re.findall(row, table, re.MULTILINE)
    return {name: (int(writes), int(units), float(read)) for name, writes, units, read in rows}


def bill() -> list[list[str]]:
    """The cells of the page's bill: a name and three months."""
    table = page().split("| a month |")[1].split("\n\n")[0]
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines()[2:]]


def number(text: str) -> float:
    """`$0.20/M`, `43,200` and the like."""
    value = float(text.removesuffix("/M").removeprefix("$").replace(",", ""))
    return value / 1e6 if text.endswith("/M") else value


def factors(row: str) -> list[float]:
    """The quantities of one row of the bill, zero where a cell is empty."""
    [cells] = [cells for name, *cells in bill() if name == row]
    return [number(cell.split(f" {TIMES} ")[0]) if cell else 0.0 for cell in cells]


# -- requests, in a warm process -------------------------------------------------------------------


def test_a_sweep_with_nothing_to_do_and_ten_routes_is_14_calls(world: World, store: CountingStore) -> None:
    """At most 15: the lease twice, the lanes, what runs, and each route's queue."""
    assert counted(store, world.sweep).calls == 14


def test_an_event_that_is_asked_for_at_once_is_8_calls(world: World, store: CountingStore) -> None:
    """At most 10, from its delivery to `created`."""
    count = counted(store, lambda: world.record(world.draft("a", submit="now")))

    assert world.statuses("a") == [Status.CREATED]
    assert count.calls == 8


@pytest.mark.parametrize("submit", ["now", "sweep"])
def test_a_duplicate_is_2_calls(submit: str, world: World, store: CountingStore) -> None:
    """At most 2, before its task, while that runs, and after its end."""
    draft = world.draft("a", submit=submit)
    world.record(draft)

    for _ in range(3):
        assert counted(store, lambda: world.record(draft)).calls == 2
        world.sweep_after(200)


def test_an_event_that_is_recorded_for_the_sweep_is_one_call(world: World, store: CountingStore) -> None:
    """Exactly one."""
    assert counted(store, lambda: world.record(world.draft("a"))).calls == 1


def test_a_hundred_events_that_share_a_task_are_106_calls(world: World, store: CountingStore) -> None:
    """At most 110, from when they are recorded to `created`, beside the idle sweep's."""
    idle = counted(store, world.sweep).calls
    world.record(*(world.draft(str(n), targets=f"inet-{n:08d}", order=n) for n in range(100)))

    assert counted(store, world.sweep).calls - idle == 106
    assert len(world.emulator.tasks) == 2


def test_a_memory_of_signed_bytes_is_one_call_more(world: World, store: CountingStore) -> None:
    """Where the bytes are new, as with every delivery that is no repetition."""

    def remember() -> None:
        world.ledger.delivery_of_signed_bytes("agents", "digest", "id", world.clock.now_s() + 600, bool)

    assert counted(store, remember).calls == 1


# -- the page's figures ----------------------------------------------------------------------------


def test_the_ledger_is_used_as_often_as_the_page_says(world: World, store: CountingStore) -> None:
    """Conditional writes, and what DynamoDB bills for them and for reading, path by path."""
    found = paths(world, store)

    assert found == shown_paths()


def test_a_sweep_with_nothing_to_do_reads_as_the_page_says(world: World, store: CountingStore) -> None:
    """The lanes, what runs, and each route's queue."""
    count = counted(store, world.sweep)

    [shown] = re.findall(r"makes (\d+) reads, ([\d.]+) read units", re.sub(r"\s+", " ", page()))
    assert (str(count.reads), f"{count.read_units:g}") == shown


@pytest.mark.parametrize(("kind", "index", "follows"), [("write", 1, 5), ("read", 2, 5)])
def test_the_bill_multiplies_what_was_counted(kind: str, index: int, follows: int) -> None:
    """Sweeps, and events at once, whose task some sweeps follow, or by the hundred; seventy a task are a
    little dearer than that.
    """
    units = {name: cost[index] for name, cost in shown_paths().items()}
    sweeps = 43_200 * units["a sweep with nothing to do"]
    followed = follows * units["a sweep follows a task that runs"]
    at_once = units["an event is recorded and asked for at once"] + units["the task of one event ends"]
    together = units["100 events are asked for as one task"] + followed + units["the task of 100 events ends"]
    by_hundred = units["an event is recorded for the sweep"] + together / 100

    idle, thousand, hundred_thousand = factors(f"DynamoDB, {kind} units")

    assert (idle, thousand) == (sweeps, sweeps + 30_000 * (at_once + followed))
    assert 1 <= (hundred_thousand - sweeps) / (3_000_000 * by_hundred) <= 1.02


def test_the_bill_is_added_up_rightly() -> None:
    """Every product, and every column's sum."""
    *rows, total = bill()
    sums = [0.0, 0.0, 0.0]

    for _, *cells in rows:
        for column, cell in enumerate(cells):
            if cell:
                product, cost = cell.split(" = ")
                quantity, price = product.split(f" {TIMES} ")
                assert number(cost) == pytest.approx(number(quantity) * number(price), abs=0.00501), cell
                sums[column] += number(cost)

    assert [f"**${value:.2f}**" for value in sums] == total[1:]


def test_durations_are_multiplied_rightly() -> None:
    """Sweeps and deliveries, to what the bill has as GB-s."""
    line = r"\(([\d,]+) x ([\d.]+) s +\+ +([\d,]+) x ([\d.]+) s\) +x 0\.5 GB = +([\d,]+) GB-s"
    found = re.findall(line, page().replace(TIMES, "x"))
    reckoned = [[number(part) for part in parts] for parts in found]

    assert [(a * b + c * d) * 0.5 for a, b, c, d, _ in reckoned] == pytest.approx([e for *_, e in reckoned])
    assert [e for *_, e in reckoned] == factors("Lambda, GB-s (arm64)")
