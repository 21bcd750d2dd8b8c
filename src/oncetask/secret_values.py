"""From a secret's reference to its value: read at a route's first delivery, then kept in memory."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from oncetask.errors import SecretUnavailable

type Read = Callable[[str], bytes]
"""From what stands behind the reference's colon to the value. Raises SecretUnavailable."""


@dataclass(frozen=True, slots=True)
class Found:
    """The values that could be had, empty ones left out, and why another could not."""

    values: tuple[bytes, ...] = field(repr=False)
    missing: SecretUnavailable | None = None


@dataclass(frozen=True, slots=True)
class SecretValues:
    """Reads references by their kind; what could not be had, or was empty, is read anew next time."""

    readers: Mapping[str, Read]
    _kept: dict[str, bytes] = field(default_factory=dict, repr=False)

    def find(self, references: tuple[str, ...]) -> Found:
        """What stands behind the references. Raises SecretUnavailable where that is nothing at all."""
        values: list[bytes] = []
        missing: SecretUnavailable | None = None
        for reference in references:
            try:
                values.append(self._value(reference))
            except SecretUnavailable as error:
                missing = error
        found = tuple(value for value in values if value)
        if references and not found:
            raise missing or SecretUnavailable(f"the secret {references[0]} is not set or empty")
        return Found(found, missing)

    def _value(self, reference: str) -> bytes:
        if reference not in self._kept:
            kind, _, name = reference.partition(":")
            value = self.readers[kind](name)
            if not value:
                return b""
            self._kept[reference] = value
        return self._kept[reference]


def environment_reader(environment: Mapping[str, str]) -> Read:
    """Reads `env:NAME`; a variable that is not set is an empty one, and so no secret."""
    return lambda name: environment.get(name, "").encode(errors="surrogateescape")


def read_file(path: str) -> bytes:
    """Reads `file:PATH`; the line's end is not part of the secret."""
    try:
        return Path(path).read_bytes().rstrip(b"\r\n")
    except (OSError, ValueError) as error:  # ValueError: a path with a null character
        raise SecretUnavailable(f"the secret file:{path} cannot be read ({type(error).__name__})") from None
