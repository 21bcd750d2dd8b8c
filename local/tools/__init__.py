"""Programs that only the tests use, each apart, so that none is importable beside the code.

A lock of hashes per tool: `local/tools/NAME.txt` for Python, `local/tools/node` for Node.
"""

import contextlib
import fcntl
import hashlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

HERE = Path(__file__).parent
PROJECT = HERE.parent.parent
TOOLS = PROJECT / ".tools"
INSTALL_LIMIT_S = 300


class NotInstallable(Exception):  # noqa: N818 - a word for the tool
    """The tool is missing and could not be installed; the text says what was tried and why not."""


def python_tool(name: str) -> Path:
    """The `bin` folder of the environment locked in `NAME.txt`, installed if need be."""
    place, lock = TOOLS / name, HERE / f"{name}.txt"
    with _up_to_date(place, lock) as outdated:
        if outdated:
            _uv("venv", "--quiet", "--clear", str(place))
            _uv("pip", "sync", "--quiet", "--require-hashes", "--python", str(place), str(lock))
    return place / "bin"


def node_modules() -> Path:
    """The `node_modules` folder locked in `node/package-lock.json`, installed if need be."""
    place, source = TOOLS / "node", HERE / "node"
    with _up_to_date(place, source / "package-lock.json") as outdated:
        if outdated:
            place.mkdir(parents=True, exist_ok=True)
            for manifest in ("package.json", "package-lock.json"):
                shutil.copy(source / manifest, place)
            _run(["npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts"], cwd=place)
    return place / "node_modules"


@contextlib.contextmanager
def _up_to_date(place: Path, lock: Path) -> Iterator[bool]:
    """Whether `place` must be installed again from `lock`; one process at a time is told so.

    The lock's digest is written down when the block ends without an error, and only then.
    """
    TOOLS.mkdir(exist_ok=True)
    digest = hashlib.sha256(lock.read_bytes()).hexdigest()
    stamp = TOOLS / f"{place.name}.installed"
    with (TOOLS / f"{place.name}.lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        outdated = not place.is_dir() or not stamp.is_file() or stamp.read_text() != digest
        yield outdated
        if outdated:
            stamp.write_text(digest)


def _uv(*arguments: str) -> None:
    # `.python-version` of the working directory chooses the interpreter.
    _run([str(TOOLS / "uv" / "bin" / "uv"), *arguments], cwd=PROJECT)


def _run(command: list[str], *, cwd: Path) -> None:
    shown = " ".join(Path(part).name for part in command[:3])
    try:
        done = subprocess.run(
            command,
            cwd=cwd,
            env=os.environ | {"UV_PYTHON": os.environ.get("UV_PYTHON", "python3.13")},
            capture_output=True,
            text=True,
            timeout=INSTALL_LIMIT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NotInstallable(f"{shown}: {error}") from error
    if done.returncode:
        raise NotInstallable(f"{shown}: {done.stderr.strip()[-500:]}")
