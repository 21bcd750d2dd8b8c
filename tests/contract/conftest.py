"""The four ledgers, one after the other, and the two DynamoDBs behind two of them."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from local import aws_servers as stores
from local.tools import node_modules, python_tool
from oncetask.ledger.ledger import Ledger
from oncetask.ledger.store import Store
from tests.clocks import FakeClock
from tests.installed import installed


@pytest.fixture(scope="session")
def dynalite() -> Iterator[stores.DynamoDb]:
    """Dynalite, one for each worker."""
    installed(node_modules)
    with stores.dynalite() as running:
        yield running


@pytest.fixture(scope="session")
def moto() -> Iterator[stores.DynamoDb]:
    """Moto with its checks on, one for each worker."""
    installed(lambda: python_tool("moto"))
    with stores.moto() as running:
        yield running


@pytest.fixture
def ledger_clock() -> FakeClock:
    """The ledger's clock."""
    return FakeClock()


@pytest.fixture(params=["memory", "sqlite", "dynalite", pytest.param("moto", marks=pytest.mark.slow)])
def store(request: pytest.FixtureRequest, tmp_path: Path, ledger_clock: FakeClock) -> Iterator[Store]:
    """An empty store of every kind."""
    made: Store
    if request.param == "memory":
        made = stores.memory()
    elif request.param == "sqlite":
        made = stores.sqlite_file(tmp_path)
    else:
        server: stores.DynamoDb = request.getfixturevalue(request.param)
        made = server.store(ledger_clock)
    yield made
    made.close()


@pytest.fixture
def ledger(store: Store, ledger_clock: FakeClock) -> Ledger:
    """The rules on an empty store of every kind."""
    return Ledger(store, ledger_clock)
