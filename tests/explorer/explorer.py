"""`python -m tests.explorer.explorer`: schedules without end, or one of them again.

--seconds 600 --seed 1                 every single deviation, then random schedules
--scenario NAME --schedule TEXT        that one, with its story
"""

import argparse
import random
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from typing import NamedTuple

from tests.explorer import laws
from tests.explorer.scenarios import SCENARIOS
from tests.explorer.scheduler import Deviation, Point, Schedule, parsed
from tests.explorer.world import World
from tests.progress import Progress

MOST_DEVIATIONS = 4


class Failure(NamedTuple):
    """A schedule under which a law broke, and which."""

    scenario: str
    schedule: Schedule
    why: str

    def __str__(self) -> str:
        schedule = ",".join(map(str, self.schedule))
        replay = f"python -m tests.explorer.explorer --scenario {self.scenario} --schedule {schedule or "''"}"
        return f"{self.why}\n  {replay}"


def play(scenario: str, schedule: Schedule = ()) -> World:
    """The scenario under that schedule, healed. Raises Broken, and whatever the code should not raise."""
    world = World(schedule)
    SCENARIOS[scenario](world)
    world.run()
    laws.check(world)
    return world


def failure(scenario: str, schedule: Schedule) -> Failure | None:
    """What breaks under that schedule; None: nothing does."""
    try:
        play(scenario, schedule)
    except Exception as error:  # noqa: BLE001 - whatever the code raised is told with its schedule
        return Failure(scenario, schedule, f"{type(error).__name__}: {error}")
    return None


def points(scenario: str) -> list[Point]:
    """Every point that its actors pass where nothing goes otherwise."""
    return play(scenario).scheduler.trace


def single_deviations(scenario: str) -> list[Schedule]:
    """A schedule for each thing that may happen at each point."""
    return [(one,) for point in points(scenario) for one in point.deviations()]


def random_schedules(seed: int) -> Iterator[tuple[str, Schedule]]:
    """Two to MOST_DEVIATIONS deviations, without end. After the first, an actor's points may be others than
    usual: a fault that cannot be there does nothing.
    """
    draw = random.Random(seed)  # noqa: S311 - to be repeated, not to be secret
    usual = {scenario: points(scenario) for scenario in SCENARIOS}
    while True:
        scenario = draw.choice(list(SCENARIOS))
        chosen = draw.sample(usual[scenario], draw.randint(2, MOST_DEVIATIONS))
        yield scenario, tuple(_any_deviation(point, draw) for point in chosen)


def _any_deviation(point: Point, draw: random.Random) -> Deviation:
    return draw.choice(list(point.deviations()))


def main() -> None:
    """Explore until the time is over, or play the one schedule that was named. Status 1: a law broke."""
    parser = argparse.ArgumentParser(prog="python -m tests.explorer.explorer")
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--scenario", choices=SCENARIOS)
    parser.add_argument("--schedule", default="")
    parser.add_argument("--most-broken", type=int, default=5, help="stop after so many broken schedules")
    arguments = parser.parse_args()
    if arguments.scenario:
        sys.exit(not _told(arguments.scenario, parsed(arguments.schedule)))
    sys.exit(not _explored(arguments.seconds, arguments.seed, arguments.most_broken))


def _told(scenario: str, schedule: Schedule) -> bool:
    """Whether the laws hold; what happened is printed."""
    world = World(schedule)
    SCENARIOS[scenario](world)
    try:
        world.run()
        laws.check(world)
    finally:
        for point in world.scheduler.trace:
            happens = [one.what for one in schedule if one[:2] == point[:2]]
            print(f"{point.actor:10} {point.number:4} {point.operation:9} {point.what}", *happens)
    return True


def _explored(seconds: float, seed: int, most_broken: int) -> bool:
    began_s = time.monotonic()
    tried, broken = 0, 0
    with closing(Progress()) as progress:
        for scenario, schedule in _all_schedules(seed):
            if time.monotonic() - began_s >= seconds or broken >= most_broken:
                break
            tried += 1
            found = failure(scenario, schedule)
            if found is not None:
                broken += 1
                print(f"BROKEN  {found}", flush=True)
            passed = f"{time.monotonic() - began_s:.0f} of {seconds:.0f} s"
            progress.tell(f"{passed}: {tried} schedules, {broken} broken; {scenario}")
    took_s = time.monotonic() - began_s
    print(f"{len(SCENARIOS)} scenarios, {tried} schedules in {took_s:.0f} s, seed {seed}: {broken} broken")
    return not broken


def _all_schedules(seed: int) -> Iterator[tuple[str, Schedule]]:
    for scenario in SCENARIOS:
        yield scenario, ()
        for schedule in single_deviations(scenario):
            yield scenario, schedule
    yield from random_schedules(seed)


if __name__ == "__main__":
    main()
