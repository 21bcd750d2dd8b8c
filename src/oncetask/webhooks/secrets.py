"""From a secret's reference to its values: read at a route's first delivery, kept, and read anew in time."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from oncetask.cached import Cached, Dated
from oncetask.clock import Clock
from oncetask.errors import SecretUnavailable, Unavailable

FRESH_S = 300.0
"""A rotation takes effect within so many seconds."""
GOOD_S = 3600.0
"""What was read is used for so long where it cannot be read anew."""

type Read = Callable[[str], tuple[bytes, ...]]
"""From what stands behind the reference's colon to the values that are good: the current one, and where
there is one the previous. Raises SecretUnavailable."""


@dataclass(frozen=True, slots=True)
class Found:
    """The values that could be had, empty ones left out, and why another, perhaps a newer, could not."""

    values: tuple[bytes, ...] = field(repr=False)
    missing: Unavailable | None = None


class SecretValues:
    """Reads references by their kind; what could not be had, or was empty, is read anew next time."""

    def __init__(self, readers: Mapping[str, Read], clock: Clock) -> None:
        self._readers = readers
        self._clock = clock
        self._kept: dict[str, Cached[tuple[bytes, ...]]] = {}

    def find(self, references: tuple[str, ...]) -> Found:
        """What stands behind the references. Raises SecretUnavailable where that is nothing at all."""
        values: list[bytes] = []
        missing: Unavailable | None = None
        for reference in references:
            kept = self._kept_value(reference)
            try:
                values += kept.get()
            except SecretUnavailable as error:
                missing = error
            else:
                missing = kept.failure or missing
        if references and not values:
            raise missing or SecretUnavailable(f"the secret {references[0]} is not set or empty")
        return Found(tuple(values), missing)

    def _kept_value(self, reference: str) -> Cached[tuple[bytes, ...]]:
        return self._kept.setdefault(reference, Cached(lambda: self._read(reference), self._clock))

    def _read(self, reference: str) -> Dated[tuple[bytes, ...]]:
        kind, _, name = reference.partition(":")
        values = tuple(value for value in self._readers[kind](name) if value)
        now_s = self._clock.now_s()
        if not values:
            return Dated(values, now_s, now_s)
        return Dated(values, now_s + FRESH_S, now_s + GOOD_S)


def environment_reader(environment: Mapping[str, str]) -> Read:
    """Reads `env:NAME`; a variable that is not set is an empty one, and so no secret."""
    return lambda name: (environment.get(name, "").encode(errors="surrogateescape"),)


def read_file(path: str) -> tuple[bytes, ...]:
    """Reads `file:PATH`; the line's end is not part of the secret."""
    try:
        return (Path(path).read_bytes().rstrip(b"\r\n"),)
    except (OSError, ValueError) as error:  # ValueError: a path with a null character
        raise SecretUnavailable(f"the secret file:{path} cannot be read ({type(error).__name__})") from None
