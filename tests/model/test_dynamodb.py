"""The books on DynamoDB: a few worlds, because each of their operations is a request."""

from collections.abc import Iterator

import pytest

from local import aws_servers
from local.tools import python_tool
from tests.installed import installed
from tests.model import steps
from tests.model.soak import Seeded
from tests.model.world import World

STEPS = 20


@pytest.fixture(scope="module")
def moto() -> Iterator[aws_servers.DynamoDb]:
    """Moto with its checks on."""
    installed(lambda: python_tool("moto"))
    with aws_servers.moto() as running:
        yield running


@pytest.mark.parametrize("seed", range(2))
def test_the_books_balance_on_dynamodb(seed: int, moto: aws_servers.DynamoDb) -> None:
    """As in memory, through the table's conditional writes and its index."""
    draw = Seeded(seed, world=0)
    with World(steps.temper(draw), made=moto.store) as world:
        for _ in range(STEPS):
            steps.any_step(world, draw)
        world.heal()
        world.audit()
