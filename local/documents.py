"""Event documents: what AWS would hand over, one JSON file each."""

import json
from pathlib import Path
from typing import Any

from local.errors import CommandError
from local.text import nearest


class UnreadableDocument(CommandError):  # noqa: N818 - named for what it is
    """A file that holds no event."""


def read_event(path: Path) -> Any:  # noqa: ANN401 - any JSON may be handed over
    """The event in a file. Raises UnreadableDocument."""
    try:
        return json.loads(read_bytes(path))
    except (ValueError, RecursionError) as error:
        at = f" (line {error.lineno})" if isinstance(error, json.JSONDecodeError) else ""
        raise UnreadableDocument(f"{path} must hold one JSON document: it is none{at}") from None


def read_bytes(path: Path) -> bytes:
    """A file's content. Raises UnreadableDocument."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise UnreadableDocument(f"there is no file {path}{_like(path)}") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or type(error).__name__
        raise UnreadableDocument(f"{path} could not be read: {reason}") from None


def _like(path: Path) -> str:
    """The nearest name beside it."""
    try:
        return nearest(path.name, (other.name for other in path.parent.iterdir()))
    except OSError:
        return ""
