"""The example routes that ship as `src/routes.toml`, which template.yml and the pages speak of."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from oncetask.models import TASK_TYPES
from oncetask.routing.routes import Route, load_routes

PLACE = Path(__file__).resolve().parents[1] / "src" / "routes.toml"
NAMES = {"nightly-assets", "agent-offline", "check-host"}


def routes() -> Mapping[str, Route]:
    """They; skips the test where somebody's own routes stand there: it says nothing of those."""
    found = load_routes(PLACE, TASK_TYPES)
    if set(found) != NAMES:
        pytest.skip("src/routes.toml holds other routes than the examples that this test is about")
    return found
