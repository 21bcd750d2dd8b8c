"""Other people's programs, where tests need them."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from local.tools import NotInstallable


def installed(install: Callable[[], Path]) -> Path:
    """Where the tool is; skips the test where it is missing, except in CI, where it fails."""
    try:
        return install()
    except NotInstallable as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(f"cannot be installed here: {error}")
