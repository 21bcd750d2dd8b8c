"""From a secret's reference to its values: read at a route's first delivery, kept, and read again in time."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from oncetask.cached import Cached, Dated
from oncetask.clock import Clock
from oncetask.errors import SecretUnavailable, Unavailable

FRESH_S = 300.0
"""A rotation takes effect within so many seconds."""
GOOD_S = 3600.0
"""What was read is used for so long where it cannot be read again."""

FAILURE_S = 30.0
"""What could not be read, or was empty, is not read again for so long: strangers must not cause calls."""
TELL_AGAIN_S = 60.0
"""How often a route's secrets are counted as an operator's error, at most."""

type Read = Callable[[str], tuple[bytes, ...]]
"""From what stands behind the reference's colon to the values that are good: the current one, and where
there is one the previous. Raises SecretUnavailable."""


type KeyOf = Callable[[bytes], bytes | None]
"""From a value to the key that it is; None where it cannot be one."""


def _any_key(value: bytes) -> bytes | None:
    return value or None


@dataclass(frozen=True, slots=True)
class Found:
    """The values that can be keys; why another, perhaps a newer, could not be read just now; and which
    references are at fault, in words for the operator.
    """

    values: tuple[bytes, ...] = field(repr=False)
    missing: Unavailable | None = None
    faults: tuple[str, ...] = ()


class SecretValues:
    """Reads references by their kind, and keeps what was read."""

    def __init__(self, readers: Mapping[str, Read], clock: Clock) -> None:
        self._readers = readers
        self._clock = clock
        self._kept: dict[str, Cached[tuple[bytes, ...]]] = {}
        self._told_at_s: dict[str, float] = {}

    def find(self, references: tuple[str, ...], key_of: KeyOf = _any_key) -> Found:
        """What stands behind the references and can be a key. Raises SecretUnavailable where nothing can."""
        found = [self._found(reference, key_of) for reference in references]
        values = tuple(value for one in found for value in one.values)
        faults = tuple(fault for one in found for fault in one.faults)
        missing = next((one.missing for one in found if one.missing), None)
        if references and not values:
            raise missing or SecretUnavailable("; ".join(faults))
        return Found(values, missing, faults)

    def is_to_be_told(self, route: str) -> bool:
        """Whether the operator is to hear of the route's secrets now: once a minute at most."""
        now_s = self._clock.now_s()
        if now_s - self._told_at_s.get(route, -TELL_AGAIN_S) < TELL_AGAIN_S:
            return False
        self._told_at_s[route] = now_s
        return True

    def _found(self, reference: str, key_of: KeyOf) -> Found:
        kept = self._kept_value(reference)
        try:
            values = kept.get()
        except SecretUnavailable as error:
            return Found((), error, (error.message,))
        usable = tuple(value for value in values if key_of(value) is not None)
        why = "is no key of this scheme" if values else "is not set or empty"
        faults = () if usable else (f"the secret {reference} {why}",)
        return Found(usable, kept.failure, faults)

    def _kept_value(self, reference: str) -> Cached[tuple[bytes, ...]]:
        return self._kept.setdefault(
            reference, Cached(lambda: self._read(reference), self._clock, failure_s=FAILURE_S)
        )

    def _read(self, reference: str) -> Dated[tuple[bytes, ...]]:
        kind, _, name = reference.partition(":")
        read = (value.strip(b"\r\n") for value in self._readers[kind](name))
        values = tuple(value for value in read if value)
        now_s = self._clock.now_s()
        if not values:
            return Dated(values, now_s + FAILURE_S, now_s + FAILURE_S)
        return Dated(values, now_s + FRESH_S, now_s + GOOD_S)


def environment_reader(environment: Mapping[str, str]) -> Read:
    """Reads `env:NAME`; a variable that is not set is an empty one, and so no secret."""
    return lambda name: (environment.get(name, "").encode(errors="surrogateescape"),)


def read_file(path: str) -> tuple[bytes, ...]:
    """Reads `file:PATH`."""
    try:
        return (Path(path).read_bytes(),)
    except (OSError, ValueError) as error:  # ValueError: a path with a null character
        raise SecretUnavailable(f"the secret file:{path} cannot be read ({type(error).__name__})") from None
