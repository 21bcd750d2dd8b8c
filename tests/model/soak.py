"""`python -m tests.model.soak --seconds 600 --seed 1`: worlds where everything goes wrong, and their books.

Each world has its own emulator, ledger and clock, and is drawn from the seed and its number alone;
`--world N` plays that one again and tells its story. Status 1: some promise was broken.
"""

import argparse
import random
import sys
import time
import traceback
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field

from tests.model import books, steps
from tests.model.books import Violation
from tests.model.world import World
from tests.progress import Progress

STEPS = (5, 70)
"""Fewest and most steps of a world, before it is healed."""


TOLD_CHARS = 900
"""Of why a world is broken."""


class Seeded:
    """Choices by a seed."""

    def __init__(self, seed: int, world: int) -> None:
        self._random = random.Random(f"{seed}/{world}")  # noqa: S311 - to be repeated, not to be secret

    def one_of[T](self, options: Sequence[T]) -> T:
        return self._random.choice(options)

    def whole(self, least: int, most: int) -> int:
        return self._random.randint(least, most)


@dataclass(slots=True)
class Sums:
    """The books of all worlds together."""

    worlds: int = 0
    steps: int = 0
    comings: int = 0
    sweeps: int = 0
    events: Counter[str] = field(default_factory=Counter)
    tasks: Counter[str] = field(default_factory=Counter)
    limits: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    broken: list[tuple[int, str]] = field(default_factory=list)

    def take_in(self, world: World) -> None:
        """A world that was played to its end."""
        self.worlds += 1
        self.comings += world.comings
        self.sweeps += world.sweeps
        self.limits += world.limits
        self.faults += world.counts
        for event in world.events.values():
            self.events["accepted"] += 1
            self.events[_line_of(event)] += 1
        owners = world.owners
        for task in world.emulator.tasks:
            owned = "owned" if task.task_id in owners else "not owned"
            self.tasks[f"{'foreign' if task.foreign else 'ours'}, {owned}"] += 1
        self.tasks["counted as SecondTask"] += world.second_tasks


def main() -> None:
    """Play worlds until the time is over, or the one world that was named."""
    arguments = _arguments()
    if arguments.world is not None:
        sys.exit(not _told(arguments.seed, arguments.world))
    sums = Sums()
    began_s = time.monotonic()
    number = 0
    with closing(Progress()) as progress:
        while time.monotonic() - began_s < arguments.seconds and len(sums.broken) < arguments.most_broken:
            play(arguments.seed, number, sums)
            number += 1
            passed = f"{time.monotonic() - began_s:.0f} of {arguments.seconds:.0f} s"
            faults, broken = sums.faults.total(), len(sums.broken)
            progress.tell(f"{passed}: {number} worlds, {faults} faults, {broken} broken")
    _print(sums, time.monotonic() - began_s)
    for world, why in sums.broken:
        print(f"\nBROKEN  python -m tests.model.soak --seed {arguments.seed} --world {world}\n  {why}")
    sys.exit(bool(sums.broken))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.model.soak")
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--world", type=int, help="play this one alone, and tell its story")
    parser.add_argument("--most-broken", type=int, default=5, help="stop after so many broken worlds")
    return parser.parse_args()


def play(seed: int, number: int, sums: Sums) -> None:
    """One world, from its first step to its books, into the sums."""
    draw = Seeded(seed, number)
    with World(steps.temper(draw)) as world:
        try:
            for _ in range(draw.whole(*STEPS)):
                steps.any_step(world, draw)
                sums.steps += 1
            world.heal()
            world.audit()
        except Violation as violation:
            sums.broken.append((number, str(violation)[:TOLD_CHARS]))
        except Exception:  # noqa: BLE001 - whatever the code raised, its world is named
            sums.broken.append((number, traceback.format_exc()[-TOLD_CHARS:]))
        sums.take_in(world)


def _told(seed: int, number: int) -> bool:
    """Whether the one world keeps every promise; its story is printed."""
    draw = Seeded(seed, number)
    with World(steps.temper(draw)) as world:
        try:
            for _ in range(draw.whole(*STEPS)):
                steps.any_step(world, draw)
            world.heal()
            world.audit()
        except Violation as violation:
            print(*world.story, f"\nBROKEN: {violation}", sep="\n")
            return False
        print(world.temper, *world.story, f"\nkept; limits: {dict(world.limits)}", sep="\n")
    return True


def _line_of(event: books.Body) -> str:
    """The status; with its code where it is not one of the two good ends."""
    code = books.code(event)
    return f"{event['status']} {code}" if code else str(event["status"])


def _print(sums: Sums, seconds: float) -> None:
    faults = sums.faults.total()
    print(f"{sums.worlds} worlds, {sums.steps} steps, {sums.comings} ticks and deliveries in {seconds:.0f} s")
    print(f"{sums.sweeps} sweeps, those of healing among them")
    print(f"{faults} faults, {faults / seconds:.0f} a second; broken worlds: {len(sums.broken)}")
    for title, counts in (
        ("events", sums.events),
        ("tasks", sums.tasks),
        ("named limits", sums.limits),
        ("faults", sums.faults),
    ):
        print(f"\n{title}")
        for name, count in counts.most_common():
            print(f"{count:8}  {name}")


if __name__ == "__main__":
    main()
