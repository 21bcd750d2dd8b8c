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
SLOW_FOLDERS = {"e2e", "model"}
ON_MOTO = {"test_iam.py", "test_aws_secrets.py"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Other people's programs (moto among them) and the long book-keeping are `slow`: for `make check`, not
    for `make test`. So are, by marks of their own, eight processes at once, storms, every write struck in
    turn, and what waits for real seconds.
    """
    for item in items:
        in_slow_folder = item.path.parent.name in SLOW_FOLDERS and item.path.name != SOAKED
        on_moto = item.path.name in ON_MOTO or "moto" in getattr(item, "fixturenames", ())
        if in_slow_folder or on_moto:
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
