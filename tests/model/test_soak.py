"""The soak's first seconds, for every change; minutes of it are `make soak`."""

import time

from tests.model.soak import Sums, play

SEED = 12
SECONDS = 10.0


def test_the_first_worlds_of_the_soak_keep_every_promise() -> None:
    """Worlds where everything goes wrong, and their books."""
    sums, began_s, number = Sums(), time.monotonic(), 0
    while time.monotonic() - began_s < SECONDS and not sums.broken:
        play(SEED, number, sums)
        number += 1
    assert sums.broken == [], f"python -m tests.model.soak --seed {SEED} --world {number - 1}"
