"""The tools that end-to-end tests talk with."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from local.emulator import Emulator, host
from local.tools import NotInstallable, node_modules, python_tool
from tests.e2e.build import built_here
from tests.e2e.rie import Launcher
from tests.installed import installed


@pytest.fixture
def emulator() -> Iterator[Emulator]:
    """A Security Center of the test's own, whose hosts `inet-N` have the addresses 10.0.0.N."""
    with Emulator() as running:
        running.hosts[:] = [host(f"inet-{n}", IntranetIp=f"10.0.0.{n}") for n in range(1, 10)]
        yield running


@pytest.fixture(scope="session")
def launcher() -> Launcher:
    """AWS's runtime client and emulator."""
    try:
        return Launcher.installed()
    except NotInstallable as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(f"cannot be installed here: {error}")


@pytest.fixture(scope="session")
def built() -> Path:
    """The folder with a folder for each function, for this machine."""
    installed(lambda: python_tool("sam"))
    return built_here()


@pytest.fixture(scope="session")
def product_sdk() -> Path:
    """The `bin` folder of an environment with Alibaba Cloud's own Security Center SDK."""
    return _installed(lambda: python_tool("product-sdk"))


@pytest.fixture(scope="session")
def node_tools() -> Path:
    """The `node_modules` folder with Alibaba Cloud's Node client."""
    return _installed(node_modules)


def _installed(install: Callable[[], Path]) -> Path:
    try:
        return install()
    except NotInstallable as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(f"cannot be installed here: {error}")
