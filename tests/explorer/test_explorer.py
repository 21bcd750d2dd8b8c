"""Whatever one process meets, wherever it dies or stops: healed, every law holds."""

from itertools import islice
from pathlib import Path

import pytest

from tests.explorer.explorer import Failure, failure, random_schedules, single_deviations
from tests.explorer.planted import PLANTED, Planted
from tests.explorer.scenarios import SCENARIOS
from tests.explorer.scheduler import Schedule, parsed

SRC = Path(__file__).parents[2] / "src"
EVERY = 40
"""Before each commit one in so many schedules is tried; `make check` tries all."""
RANDOM = 600

FOUND = {
    "a sender that is frozen while it reckons its deadline sends nothing after its claim": (
        "a_delivery_and_a_later_sweep",
        "delivery@19=freeze",
    ),
    "given up while its sender is dead and unnoticed, an event is in doubt, not expired": (
        "given_up_while_it_is_searched_for",
        "delivery@24=die",
    ),
    "a task that an earlier call made stays that call's where the sweep that found it dies": (
        "a_task_shows_before_it_is_sent_again",
        "sweep-b@31=die",
    ),
    "a second task is noticed also where the sweep dies that sent again": (
        "a_task_shows_after_it_was_sent_again",
        "sweep-b@41=die",
    ),
    "both tasks are told of where the first shows while the second's answer is lost": (
        "a_task_shows_after_it_was_sent_again",
        "sweep-b@36=unheard",
    ),
}
"""What was broken once, the last by a first mending. Points move with the code: all are tried, too."""


def broken(scenario: str, schedules: list[Schedule]) -> list[Failure]:
    """Those under which a law does not hold."""
    return [found for one in schedules if (found := failure(scenario, one)) is not None]


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_every_law_holds_under_some_deviations(scenario: str) -> None:
    offset = list(SCENARIOS).index(scenario)
    assert not broken(scenario, [(), *single_deviations(scenario)[offset::EVERY]])


@pytest.mark.slow
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_every_law_holds_under_each_single_deviation(scenario: str) -> None:
    assert not broken(scenario, single_deviations(scenario))


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
def test_every_law_holds_under_several_deviations(seed: int) -> None:
    assert not [found for one in islice(random_schedules(seed), RANDOM) if (found := failure(*one))]


@pytest.mark.parametrize("what", FOUND)
def test_what_was_broken_once_holds(what: str) -> None:
    scenario, schedule = FOUND[what]
    assert not broken(scenario, [parsed(schedule)])


@pytest.mark.parametrize("bug", PLANTED, ids=lambda bug: bug.name)
def test_each_planted_bug_can_still_be_planted(bug: Planted) -> None:
    assert (SRC / bug.path).read_text(encoding="utf-8").count(bug.right) == 1
