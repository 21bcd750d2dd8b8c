"""The bundle of `make build`, for this machine instead of AWS Lambda's arm64."""

import fcntl
import hashlib
import os
import platform
import subprocess
from pathlib import Path

from local.tools import PROJECT, TOOLS

PLACE = TOOLS / "bundle"
BUILD = PLACE / "build"


def built_here() -> Path:
    """The folder with a folder for each function, and the built template; built again if sources changed."""
    PLACE.mkdir(parents=True, exist_ok=True)
    stamp, digest = PLACE / "sources", _sources_digest()
    with (PLACE / "lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        if not stamp.is_file() or stamp.read_text() != digest:
            _make_build()
            stamp.write_text(digest)
    return BUILD


def _sources_digest() -> str:
    """What the bundle is made of, and the rules that make it."""
    sources = [path for path in (PROJECT / "src").rglob("*") if path.is_file()]
    sources += [PROJECT / name for name in ("Makefile", "template.yml", "samconfig.toml")]
    whole = hashlib.sha256()
    for path in sorted(sources):
        if "__pycache__" not in path.parts:
            whole.update(f"{path.relative_to(PROJECT)}\0".encode() + path.read_bytes())
    return whole.hexdigest()


def _make_build() -> None:
    """`make build` as on a command line of its own, though it may be make that runs the tests."""
    options = [f"BUNDLE_PLATFORM={platform.machine()}-manylinux2014", f"BUILD_DIR={BUILD}"]
    done = subprocess.run(
        ["make", "build", *options],  # noqa: S607 - from PATH, wherever it is
        cwd=PROJECT,
        env={name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
