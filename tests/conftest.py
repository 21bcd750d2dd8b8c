"""What several kinds of tests share: an emulator, and apps made from text."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from local.emulator import ACCESS_KEY_ID, ACCESS_KEY_SECRET, Emulator
from oncetask.app import App
from oncetask.clock import Clock
from oncetask.settings import Settings

type MakeApp = Callable[..., App]


settings.register_profile("machine of any speed", deadline=None)
settings.load_profile("machine of any speed")

SOAKED = "test_soak.py"
"""Ten seconds of the long book-keeping, for every change."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Other people's programs, and the long book-keeping, are `slow`: for `make check`, not `make test`."""
    for item in items:
        if item.path.parent.name in {"e2e", "model"} and item.path.name != SOAKED:
            item.add_marker(pytest.mark.slow)


@pytest.fixture
def emulator() -> Iterator[Emulator]:
    """A Security Center of the test's own."""
    with Emulator() as running:
        yield running


@pytest.fixture
def make_app(emulator: Emulator, tmp_path: Path) -> Iterator[MakeApp]:
    """`make_app(routes_toml, *, clock=None, **environment)`: an app that asks the test's emulator."""

    def make(routes: str = "", *, clock: Clock | None = None, **environment: str) -> App:
        path = tmp_path / "routes.toml"
        path.write_text(routes, encoding="utf-8")
        environment = {
            "ONCETASK_ENDPOINT": emulator.url,
            "ONCETASK_ROUTES": str(path),
            "ALIBABA_CLOUD_ACCESS_KEY_ID": ACCESS_KEY_ID,
            "ALIBABA_CLOUD_ACCESS_KEY_SECRET": ACCESS_KEY_SECRET,
            **environment,
        }
        app = App(Settings.from_environment(environment), environment=environment, clock=clock)
        made.append(app)
        return app

    made: list[App] = []
    yield make
    for app in made:
        app.close()
