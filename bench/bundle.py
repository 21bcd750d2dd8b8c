"""What `make build` has built: sizes and a digest of each function's folder.

python -m bench.bundle .aws-sam/build
"""

import hashlib
import io
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path

MB = 1_000_000


@dataclass(frozen=True, slots=True)
class Bundle:
    """One function's folder. `digest` tells two contents apart, names and bytes, and nothing else."""

    name: str
    files: int
    unzipped_bytes: int
    zipped_bytes: int
    digest: str


def bundles(build: Path) -> list[Bundle]:
    """The functions under that folder, by name. Folders of the same content are zipped once."""
    zipped: dict[str, int] = {}
    found = []
    for folder in sorted(path for path in build.iterdir() if path.is_dir()):
        digest = content_digest(folder)
        if digest not in zipped:
            zipped[digest] = _zipped_bytes(folder)
        paths = _files(folder)
        size = sum(path.stat().st_size for path in paths)
        found.append(Bundle(folder.name, len(paths), size, zipped[digest], digest))
    return found


def content_digest(folder: Path) -> str:
    """SHA-256 over the names and bytes of its files."""
    whole = hashlib.sha256()
    for path in _files(folder):
        whole.update(f"{path.relative_to(folder)}\0{path.stat().st_size}\0".encode())
        whole.update(path.read_bytes())
    return whole.hexdigest()


def report(found: list[Bundle]) -> str:
    """The sizes as a table of fixed width."""
    lines = [f"{'function':<18}{'files':>7}{'unzipped MB':>13}{'zipped MB':>11}  content"]
    lines += [
        f"{bundle.name:<18}{bundle.files:>7}{bundle.unzipped_bytes / MB:>13.1f}"
        f"{bundle.zipped_bytes / MB:>11.1f}  {bundle.digest[:16]}"
        for bundle in found
    ]
    return "\n".join(lines)


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _zipped_bytes(folder: Path) -> int:
    """As large as what `sam deploy` sends."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in _files(folder):
            archive.write(path, path.relative_to(folder))
    return buffer.tell()


if __name__ == "__main__":
    print(report(bundles(Path(sys.argv[1]))))
