"""What a delivery shows while it is verified, what every scheme says and answers, and the comparisons that
tell nobody how near they came.

Nothing here decodes what a stranger sent: ours is encoded and compared. No stranger's bytes raise
anything but `RefusedError`, which never leaves `verify`.
"""

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Annotated, Final, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints

type TimestampFormat = Literal["seconds", "milliseconds", "rfc3339"]

_ENCODINGS: Final[Mapping[str, Callable[[bytes], bytes]]] = {
    "hex": binascii.hexlify,
    "base64": base64.b64encode,
}
_SHAPES: Final = {
    "hex": re.compile(rb"[0-9a-f]+"),
    "base64": re.compile(rb"[A-Za-z0-9+/]+={0,2}"),
}
_SURROGATE: Final = re.compile(r"[\ud800-\udfff]")
# No leading zero, which could be borrowed from a neighbour in the signed text, and no more digits
# than any clock has: `int` refuses thousands of them.
_WHOLE_NUMBER: Final = re.compile(r"[1-9][0-9]{0,14}")
_RFC3339: Final = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,9})?([Zz]|[+-][0-9]{2}:[0-9]{2})"
)
_REFERENCE: Final = re.compile(r"env:[A-Za-z_][A-Za-z0-9_]*|secretsmanager:[^#\s]+(#.+)?|ssm:\S+|file:.+")


@dataclass(frozen=True, slots=True)
class Verdict:
    """What `verify` found.

    `delivery_id` is never empty; None means that the sender gave none, or none usable.
    `signature_digest`, the hex SHA-256 of the signed bytes, is there exactly where the scheme is
    `replayable_under_another_id`, also without a delivery id. `reason` says in one constant word why
    a delivery was refused; it is for our own eyes. `key` is the one that held, for a handshake alone.
    """

    verified: bool
    delivery_id: str | None = None
    signature_digest: str | None = None
    reason: str | None = None
    key: bytes | None = field(default=None, repr=False, compare=False)

    @property
    def is_well_formed(self) -> bool:
        """Whether another secret might have verified it."""
        return self.verified or self.reason in {"mismatch", "no-secret"}


class RefusedError(Exception):
    """Carries one constant word."""


@dataclass(frozen=True, slots=True, repr=False)
class Evidence:
    """One delivery, the keys that may vouch for it, and the moment."""

    keys: Sequence[bytes]
    headers: Mapping[str, Sequence[str]]
    query: Mapping[str, Sequence[str]]
    body: bytes
    now_s: float

    def header(self, name: str, missing: str) -> str:
        """The header's one value. Raises RefusedError."""
        return only(self.headers.get(name, ()), missing)

    def id(self, names: Sequence[str]) -> str | None:
        """The headers' values joined by `/`, where each came once and UTF-8 can keep it."""
        found = [self.headers.get(name, ()) for name in names]
        if not found or not all(len(values) == 1 and values[0] for values in found):
            return None
        joined = "/".join(values[0] for values in found)
        return None if _SURROGATE.search(joined) else joined

    def credentials(self, scheme: str) -> bytes:
        """What follows the scheme's word in `Authorization`. Raises RefusedError."""
        word, _, rest = self.header("authorization", "no-credentials").partition(" ")
        if word.lower() != scheme or not rest.strip(" "):
            raise RefusedError("no-credentials")
        return raw(rest.lstrip(" "))

    def time(self, text: str, written: TimestampFormat, tolerance_s: int) -> bytes:
        """The time as it was signed, neither old nor ahead. Raises RefusedError."""
        sent_at_s = _seconds(text, written)
        # A whole second of the sender's is compared with a whole one of ours.
        now_s = int(self.now_s) if written == "seconds" else self.now_s
        if abs(now_s - sent_at_s) > tolerance_s:
            raise RefusedError("stale")
        return raw(text)


def _seconds(text: str, written: TimestampFormat) -> float:
    if written == "rfc3339":
        return _seconds_of_rfc3339(text)
    if _WHOLE_NUMBER.fullmatch(text) is None:
        raise RefusedError("bad-timestamp")
    return int(text) / 1000 if written == "milliseconds" else int(text)


def _seconds_of_rfc3339(text: str) -> float:
    if _RFC3339.fullmatch(text) is None:
        raise RefusedError("bad-timestamp")
    try:
        return datetime.fromisoformat(text.upper()).timestamp()
    except (ValueError, OverflowError):
        raise RefusedError("bad-timestamp") from None


def only(values: Sequence[str], missing: str) -> str:
    """The one value; of several, nobody knows which one somebody else has checked. Raises RefusedError."""
    if len(values) != 1 or not values[0]:
        raise RefusedError(missing)
    return values[0]


def raw(text: str) -> bytes:
    """UTF-8; a lone surrogate becomes bytes that no UTF-8 text holds, instead of an error."""
    return text.encode("utf-8", "surrogatepass")


def confirm(
    keys: Sequence[bytes],
    signed: bytes,
    given: Sequence[bytes],
    *,
    algorithm: str = "sha256",
    encoding: str = "hex",
) -> bytes:
    """The key that makes one of the given signatures of the signed bytes. Raises RefusedError.

    Hex counts in either case. What cannot be a signature of that algorithm is refused first,
    whatever the keys are.
    """
    texts = [text.lower() for text in given] if encoding == "hex" else given
    length = len(_ENCODINGS[encoding](bytes(hashlib.new(algorithm).digest_size)))
    if not any(len(text) == length and _SHAPES[encoding].fullmatch(text) for text in texts):
        raise RefusedError("no-signature")
    ours = [(_ENCODINGS[encoding](hmac.digest(key, signed, algorithm)), key) for key in keys]
    held = [key for one, key in ours if among(texts, one)]
    if not held:
        raise RefusedError("mismatch" if keys else "no-secret")
    return held[0]


def match(expected: Sequence[bytes], given: bytes) -> None:
    """Raises RefusedError unless one of them is what was given."""
    if not among(expected, given):
        raise RefusedError("mismatch" if expected else "no-secret")


def among(candidates: Sequence[bytes], wanted: bytes) -> bool:
    """Whether one of them is it, in a time that does not tell which, or how nearly."""
    return sum(hmac.compare_digest(candidate, wanted) for candidate in candidates) > 0


def digest_of(signed: bytes) -> str:
    """What tells the same signed bytes again, whichever signature they bring."""
    return hashlib.sha256(signed).hexdigest()


# -- what every scheme is ------------------------------------------------------------------------


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
