"""stub"""

from pathlib import Path


def main(event: Path | None, *, live: bool) -> None:
    """Stub."""
