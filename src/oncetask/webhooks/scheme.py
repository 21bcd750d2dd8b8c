"""What every `verify` table may say, and what every scheme answers."""

import re
from typing import Annotated, Final, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints

from oncetask.webhooks.proofs import Evidence, Verdict

SHORTEST_KEY_BYTES: Final = 8
"""A shorter key of an HMAC can be guessed from one delivery."""

_REFERENCE: Final = re.compile(r"env:[A-Za-z_][A-Za-z0-9_]*|secretsmanager:[^#\s]+(#.+)?|ssm:\S+|file:.+")


def _reference(text: str) -> str:
    if _REFERENCE.fullmatch(text) is None:
        # The secret itself may stand here by mistake: the error must not repeat it.
        raise ValueError(
            "a secret is named by env:NAME, secretsmanager:ID, secretsmanager:ID#JSON_KEY, "
            "ssm:NAME or file:PATH"
        )
    return text


def _listed(value: object) -> object:
    return (value,) if isinstance(value, str) else value


type SecretReference = Annotated[str, AfterValidator(_reference)]
type HeaderName = Annotated[  # a token of RFC 9110, lower case as `verify` gets its headers
    str, StringConstraints(pattern=r"^[A-Za-z0-9!#$%&'*+.^_`|~-]+$", to_lower=True)
]
type HeaderNames = Annotated[tuple[HeaderName, ...], BeforeValidator(_listed), Field(min_length=1)]
type Tolerance = Annotated[int, Field(gt=0, strict=True)]
type Handshake = Literal["slack", "zoom", "event-grid", "cloudevents"]


class Scheme(BaseModel):
    """What every `verify` table says, and how deliveries are checked by it."""

    # A model around these must hide its inputs too: pydantic's outermost model decides.
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True, defer_build=True)

    scheme: str
    secrets: Annotated[tuple[SecretReference, ...], Field(min_length=1)]
    handshake: Handshake | None = None

    @property
    def possible_handshakes(self) -> frozenset[str]:
        """The handshakes whose senders may verify so."""
        return frozenset()

    @property
    def signed_time_s(self) -> int | None:
        """How old or ahead a delivery's signed time may be; None where the scheme signs no time."""
        return None

    @property
    def gives_ids(self) -> bool:
        """Whether its deliveries may have ids of their own."""
        return True

    @property
    def replayable_under_another_id(self) -> bool:
        """Whether signed bytes that were seen may hold under an id that their sender never gave."""
        return False

    def key_of(self, secret: bytes) -> bytes | None:
        """The key that a secret is; None where it cannot be one of this scheme."""
        return secret or None

    def check(self, evidence: Evidence) -> Verdict:
        """Whether something in the delivery proves its sender. Raises RefusedError."""
        raise NotImplementedError


class Identified(Scheme):
    """A scheme whose senders may say an id in headers that they choose, or in `Idempotency-Key`."""

    id_header: HeaderNames = ()

    def id_of(self, evidence: Evidence) -> str | None:
        """The delivery's id, where it has a usable one."""
        return evidence.id(self.id_header) or evidence.id(("idempotency-key",))
