"""Many deliveries at once: as few tasks as can be, never more than the cap allows, and nothing left over."""

import pytest

from bench import storm


@pytest.mark.slow
def test_a_storm_of_deliveries_becomes_as_few_tasks_as_their_targets_need() -> None:
    """A thousand deliveries for one route are ten tasks of a hundred targets, and every event finishes."""
    done = storm.on_sqlite(1000)

    assert (done.tasks, done.finished) == (10, 1000)


@pytest.mark.slow
def test_a_storm_never_has_more_than_ten_tasks_running() -> None:
    """More waits than the ten slots take: the rest is asked for by later sweeps, as slots come free."""
    with storm.world("memory://") as (app, clock, emulator):
        done = storm.run(app, clock, emulator, 1500)

    assert (done.tasks, done.most_running, done.finished) == (15, 10, 1500)
    assert done.keeps_promise
