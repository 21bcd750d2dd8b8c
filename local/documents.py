"""Event documents: what AWS would hand over, one JSON file each."""

import json
from pathlib import Path
from typing import Any

from oncetask.errors import OnceTaskError


class UnreadableDocument(OnceTaskError):  # noqa: N818 - named for what it is
    """A file that holds no event."""


def read_event(path: Path) -> Any:  # noqa: ANN401 - any JSON may be handed over
    """The event in a file. Raises UnreadableDocument."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UnreadableDocument(f"{path} holds no event: {type(error).__name__}") from None


def routes_beside(path: Path) -> dict[str, str]:
    """The setting for the routes file that lies beside the event or above it, in `events/`; else none."""
    for folder in path.resolve().parents:
        if (folder / "routes.toml").is_file():
            return {"ONCETASK_ROUTES": str(folder / "routes.toml")}
        if folder.name == "events":
            break
    return {}
