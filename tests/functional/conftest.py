"""A world of one clock, one Security Center and one ledger."""

from collections.abc import Callable, Iterator

import pytest

from local.emulator import Emulator
from tests.clocks import FakeClock
from tests.conftest import MakeApp
from tests.functional.sweeps import World

type MakeWorld = Callable[..., World]


@pytest.fixture
def make_world(make_app: MakeApp) -> Iterator[MakeWorld]:
    """`make_world(routes, **environment)`: worlds on one clock, with one Security Center."""
    clock = FakeClock()
    with Emulator(clock=clock.now_s) as emulator:

        def made(routes: str = "", **environment: str) -> World:
            app = make_app(routes, clock=clock, ONCETASK_ENDPOINT=emulator.url, **environment)
            return World(app, clock, emulator)

        yield made


@pytest.fixture
def memory(make_world: MakeWorld) -> World:
    """The usual one in memory alone, where the store makes no difference."""
    return make_world()
