"""A world of one clock, one Security Center and one ledger."""

from collections.abc import Callable, Iterator

import pytest

from local.emulator import Emulator
from tests.clocks import FakeClock
from tests.conftest import MakeApp
from tests.functional.sweeps import World

type MakeWorld = Callable[..., World]


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
def make_world(make_app: MakeApp, clock: FakeClock, emulator: Emulator) -> MakeWorld:
    """`make_world(routes, **environment)`: a world on the test's clock and emulator."""
    return lambda routes="", **environment: World(
        make_app(routes, clock=clock, **environment), clock, emulator
    )


@pytest.fixture
def memory(make_world: MakeWorld) -> World:
    """The usual one in memory alone, where the store makes no difference."""
    return make_world()
