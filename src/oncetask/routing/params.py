"""What the Param of a task type must hold, as far as its shape is public; all others are any JSON object."""

from collections.abc import Callable, Collection, Mapping
from typing import Any, NamedTuple


class Need(NamedTuple):
    """What must stand at a key, and how that is said."""

    holds: Callable[[object], bool]
    words: str


INTEGER = Need(lambda value: isinstance(value, int) and not isinstance(value, bool), "an integer")
TEXT = Need(lambda value: isinstance(value, str) and bool(value.strip()), "a text that is not empty")
NEEDS: Mapping[str, Mapping[str, Need]] = {
    "CLIENT_PROBLEM_CHECK": {"mode": INTEGER, "problemType": TEXT, "uuids": TEXT},
    "ASSETS_COLLECTION": {"items": TEXT},
}


class Lack(NamedTuple):
    """The first key of a Param at which something else stands than must, and what must."""

    key: str
    words: str


def lack_of(task_type: str, param: Mapping[str, Any], given: Collection[str] = ()) -> Lack | None:
    """None where the Param is complete; what is `given` will be there by the time that it is sent."""
    for key, need in NEEDS.get(task_type, {}).items():
        if key not in given and not need.holds(param.get(key)):
            return Lack(key, need.words)
    return None
