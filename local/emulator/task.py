"""One task, as the service keeps it."""

import json
from dataclasses import dataclass

_MAX_INIT_S = 3.0


@dataclass(slots=True)
class Task:
    """One task; its times are the injected clock's, unskewed, in epoch seconds."""

    task_id: str
    type: str
    name: str
    source: str
    param: str
    created_s: float
    visible_s: float
    ends_s: float
    end_state: str
    foreign: bool = False
    created_by_call: int | None = None

    @property
    def targets(self) -> tuple[str, ...]:
        """The uuids in its Param."""
        return targets_of(self.param)

    def state(self, now_s: float) -> str:
        """INIT, START, or how it ended."""
        if now_s >= self.ends_s:
            return self.end_state
        init_s = min((self.ends_s - self.created_s) / 10, _MAX_INIT_S)
        return "INIT" if now_s < self.created_s + init_s else "START"


def targets_of(param: str) -> tuple[str, ...]:
    """The comma-separated uuids of a Param; empty where there are none."""
    uuids = (object_of(param) or {}).get("uuids")
    return tuple(uuids.split(",")) if isinstance(uuids, str) and uuids else ()


def object_of(text: str) -> dict[str, object] | None:
    """The JSON object that a text holds; None where it holds none."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None
