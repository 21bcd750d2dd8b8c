"""Where the access key for Security Center comes from. Values are read when asked for, never shown.

What fetches keys is imported where it is needed (`app`): here is neither HTTP nor Tea.
"""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Protocol

from oncetask.cached import Cached, Dated
from oncetask.clock import Clock
from oncetask.errors import CredentialsUnavailable

FAILURE_S = 5.0
"""Where no keys could be fetched, nobody tries again for so long: who prepares a call pays for the attempt,
and the call meets its failure at once."""


@dataclass(frozen=True, slots=True)
class Keys:
    """One set of keys; only the access key's id may be shown."""

    access_key_id: str
    access_key_secret: str = field(repr=False)
    security_token: str | None = field(default=None, repr=False)

    def hide(self, text: str) -> str:
        """The text with every value of these keys starred out."""
        for value in (self.access_key_id, self.access_key_secret, self.security_token):
            text = text.replace(value, "***") if value else text
        return text


class Credentials(Protocol):
    """A source of keys."""

    def keys(self) -> Keys:
        """Keys that are valid now. Raises CredentialsUnavailable."""

    @property
    def renewable(self) -> bool:
        """Whether there can be newer keys: then one sending may take a second call."""

    def renew(self) -> bool:
        """Forget what is cached, if there can be something newer: whether there can."""


class FixedKeys:
    """Keys that the environment gave at start; None where it gave none."""

    def __init__(self, given: Keys | None) -> None:
        self._given = given

    @property
    def renewable(self) -> bool:
        """The environment of a process never changes."""
        return False

    def keys(self) -> Keys:
        if self._given is None:
            raise CredentialsUnavailable(
                "there is no access key: set ALIBABA_CLOUD_ACCESS_KEY_ID and"
                " ALIBABA_CLOUD_ACCESS_KEY_SECRET, or another ONCETASK_CREDENTIALS"
            )
        return self._given

    def renew(self) -> bool:
        return False


class FetchedKeys:
    """Keys that another service gives, lent for a time or rotated there; fetched by the first who asks."""

    def __init__(self, fetch: Callable[[], Dated[Keys]], clock: Clock) -> None:
        """`fetch` raises CredentialsUnavailable."""
        self._kept = Cached(fetch, clock, failure_s=FAILURE_S)

    @property
    def renewable(self) -> bool:
        return True

    def keys(self) -> Keys:
        return self._kept.get()

    def renew(self) -> bool:
        """Fetched at once, so that the call that follows can be timed."""
        self._kept.forget()
        with suppress(CredentialsUnavailable):
            self._kept.get()
        return True
