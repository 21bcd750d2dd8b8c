"""Whether a delivery comes from its sender: headers, query and raw body in, a verdict out.

Read downwards: the verdict, what can be asked of any delivery, one class a scheme (what its
`verify` table may say, then its check), and `verify`. Nothing here reads a clock, a secret store
or the environment, and no stranger's bytes make it raise.
"""

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar, Final, Literal, NamedTuple, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    model_validator,
)

_ENCODINGS: Final[Mapping[str, Callable[[bytes], bytes]]] = {
    "hex": binascii.hexlify,
    "base64": base64.b64encode,
}
_PLACEHOLDER: Final = re.compile(r"(\{[^{}]*\}|[{}])")
_REFERENCE: Final = re.compile(r"env:[A-Za-z_][A-Za-z0-9_]*|secretsmanager:[^#\s]+(#.+)?|ssm:\S+|file:.+")
_SURROGATE: Final = re.compile(r"[\ud800-\udfff]")
# No leading zero, which could be borrowed from a neighbour in the signed text, and no more digits
# than any clock has: `int` refuses thousands of them.
_WHOLE_SECONDS: Final = re.compile(r"[1-9][0-9]{0,14}")


class Verdict(NamedTuple):
    """What `verify` found.

    `delivery_id` is never empty; None means that the sender gave none, or none usable.
    `signature_digest`, the hex SHA-256 of the signature that held, is there exactly where the
    scheme is `replayable_under_another_id`, also without a delivery id. `reason` says in one
    constant word why a delivery was refused; it is for our own eyes.
    """

    verified: bool
    delivery_id: str | None = None
    signature_digest: str | None = None
    reason: str | None = None


class _RefusedError(Exception):
    """Carries one constant word; never leaves this module."""


@dataclass(frozen=True, slots=True, repr=False)
class _Delivery:
    secrets: Sequence[bytes]
    headers: Mapping[str, Sequence[str]]
    query: Mapping[str, Sequence[str]]
    body: bytes
    now_s: float

    def header(self, name: str, missing: str) -> str:
        return _only(self.headers.get(name, ()), missing)

    def id(self, name: str) -> str | None:
        """The header's one value, where there is one that UTF-8 can keep."""
        values = self.headers.get(name, ())
        return values[0] or None if len(values) == 1 and not _SURROGATE.search(values[0]) else None

    def time(self, name: str, tolerance_s: int) -> bytes:
        """The header's whole seconds as they were signed, neither old nor ahead."""
        text = self.header(name, "bad-timestamp")
        if _WHOLE_SECONDS.fullmatch(text) is None:
            raise _RefusedError("bad-timestamp")
        if abs(int(self.now_s) - int(text)) > tolerance_s:
            raise _RefusedError("stale")
        return _raw(text)

    def signature(self, name: str, prefix: str = "") -> bytes:
        text = self.header(name, "no-signature")
        if not text.startswith(prefix):
            raise _RefusedError("no-signature")
        return _raw(text.removeprefix(prefix))

    def credentials(self, scheme: str) -> bytes:
        word, _, rest = self.header("authorization", "no-credentials").partition(" ")
        if word.lower() != scheme:
            raise _RefusedError("no-credentials")
        return _raw(rest.lstrip(" "))


def _only(values: Sequence[str], missing: str) -> str:
    """The one value; of several, nobody knows which one somebody else has checked."""
    if len(values) != 1 or not values[0]:
        raise _RefusedError(missing)
    return values[0]


def _raw(text: str) -> bytes:
    """UTF-8; a lone surrogate becomes bytes that no UTF-8 text holds, instead of an error."""
    return text.encode("utf-8", "surrogatepass")


def _confirm(
    keys: Sequence[bytes],
    signed: bytes,
    given: Sequence[bytes],
    *,
    algorithm: str = "sha256",
    encoding: str = "hex",
) -> bytes:
    """The signature that one of the keys makes and one of the given texts says.

    Ours is encoded and compared with the texts, in either case for hex: nothing of a stranger's
    is decoded, and what is not exactly it is refused.
    """
    texts = [text.lower() for text in given] if encoding == "hex" else given
    ours = [hmac.digest(key, signed, algorithm) for key in keys]
    held = [one for one in ours if _among(texts, _ENCODINGS[encoding](one))]
    if not held:
        raise _RefusedError("mismatch" if keys else "no-secret")
    return held[0]


def _match(expected: Sequence[bytes], given: bytes) -> None:
    if not _among(expected, given):
        raise _RefusedError("mismatch" if expected else "no-secret")


def _among(candidates: Sequence[bytes], wanted: bytes) -> bool:
    """Whether one of them is it, in a time that does not tell which, or how nearly."""
    return sum(hmac.compare_digest(candidate, wanted) for candidate in candidates) > 0


def _reference(text: str) -> str:
    if _REFERENCE.fullmatch(text) is None:
        # The secret itself may stand here by mistake: the error must not repeat it.
        raise ValueError(
            "a secret is named by env:NAME, secretsmanager:ID, secretsmanager:ID#JSON_KEY, "
            "ssm:NAME or file:PATH"
        )
    return text


type SecretReference = Annotated[str, AfterValidator(_reference)]
type HeaderName = Annotated[  # a token of RFC 9110, lower case as `verify` gets its headers
    str, StringConstraints(pattern=r"^[A-Za-z0-9!#$%&'*+.^_`|~-]+$", to_lower=True)
]


type Tolerance = Annotated[int, Field(gt=0, strict=True)]


class Scheme(BaseModel):
    """What every `verify` table says, and how deliveries are checked by it."""

    # A model around these must hide its inputs too: pydantic's outermost model decides.
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True, defer_build=True)

    scheme: str
    secrets: Annotated[tuple[SecretReference, ...], Field(min_length=1)]

    fit_for_host_operations: ClassVar[bool] = True
    """Whether its deliveries may ask for CLIENT_DEV_OPS, which runs operations on hosts."""

    @property
    def replayable_under_another_id(self) -> bool:
        """Whether a signature that was seen may hold under an id that its sender never gave."""
        return False

    def check(self, delivery: _Delivery) -> Verdict:
        """Whether something in the delivery proves its sender. Raises _RefusedError."""
        raise NotImplementedError


class _PerhapsTimed(Scheme):
    tolerance_s: Tolerance = 300
    timestamp_header: HeaderName | None = None

    @model_validator(mode="after")
    def _tolerance_has_a_timestamp(self) -> Self:
        if self.timestamp_header is None and "tolerance_s" in self.model_fields_set:
            raise ValueError("tolerance_s bounds nothing without timestamp_header")
        return self


class StandardWebhooks(Scheme):
    """Standard Webhooks 1.0.0, symmetric (v1), in `webhook-*` or `svix-*` headers."""

    scheme: Literal["standard-webhooks"]
    tolerance_s: Tolerance = 300

    def check(self, delivery: _Delivery) -> Verdict:
        """Whether one family holds in itself; id and time of the other are not looked at."""
        try:
            return self._check_family("webhook", delivery)
        except _RefusedError:
            if "svix-signature" not in delivery.headers:
                raise
        return self._check_family("svix", delivery)

    def _check_family(self, family: str, delivery: _Delivery) -> Verdict:
        items = delivery.header(f"{family}-signature", "no-signature").split(" ")
        sent_at = delivery.time(f"{family}-timestamp", self.tolerance_s)
        delivery_id = delivery.id(f"{family}-id")
        # A dot in an id would let the same signed text be cut into another id, time and body; the
        # specification warns of it. Without one, the first two dots can only be the separators.
        if delivery_id is None or "." in delivery_id:
            raise _RefusedError("bad-id")
        _confirm(
            [key for secret in delivery.secrets if (key := _key_of_whsec(secret))],
            b".".join((_raw(delivery_id), sent_at, delivery.body)),
            [_raw(item.removeprefix("v1,")) for item in items if item.startswith("v1,")],
            encoding="base64",
        )
        return Verdict(verified=True, delivery_id=delivery_id)


def _key_of_whsec(secret: bytes) -> bytes:
    """The key in a Standard Webhooks secret; empty where it is no base64.

    Prefix and padding may be missing, as in the official libraries. Foreign characters are not
    skipped (Python's library alone does so): they would quietly make another key.
    """
    text = secret.removeprefix(b"whsec_")
    try:
        return base64.b64decode(text + b"=" * (-len(text) % 4), validate=True)
    except binascii.Error:
        return b""


class GitHub(Scheme):
    """`X-Hub-Signature-256` over the body alone, `X-GitHub-Delivery` unsigned beside it."""

    scheme: Literal["github"]

    @property
    def replayable_under_another_id(self) -> bool:
        """Always: the signature does not cover the id."""
        return True

    def check(self, delivery: _Delivery) -> Verdict:
        """Whether the body is signed; its digest tells a replay."""
        given = delivery.signature("x-hub-signature-256", "sha256=")
        held = _confirm(delivery.secrets, delivery.body, [given])
        digest = hashlib.sha256(held).hexdigest()
        return Verdict(verified=True, delivery_id=delivery.id("x-github-delivery"), signature_digest=digest)


class Grafana(_PerhapsTimed):
    """`X-Grafana-Alerting-Signature` over the body, or over `{timestamp}:{body}`."""

    scheme: Literal["grafana"]

    def check(self, delivery: _Delivery) -> Verdict:
        """Whether the body, and its time where one is configured, are signed."""
        given, signed = delivery.signature("x-grafana-alerting-signature"), delivery.body
        if self.timestamp_header:
            signed = b"%b:%b" % (delivery.time(self.timestamp_header, self.tolerance_s), signed)
        _confirm(delivery.secrets, signed, [given])
        return Verdict(verified=True)


class Slack(Scheme):
    """`X-Slack-Signature` v0 over `v0:{timestamp}:{body}`."""

    scheme: Literal["slack"]
    tolerance_s: Tolerance = 300

    def check(self, delivery: _Delivery) -> Verdict:
        """Whether the body and its time are signed."""
        given = delivery.signature("x-slack-signature", "v0=")
        sent_at = delivery.time("x-slack-request-timestamp", self.tolerance_s)
        _confirm(delivery.secrets, b"v0:%b:%b" % (sent_at, delivery.body), [given])
        return Verdict(verified=True)


class Hmac(_PerhapsTimed):
    """Any sender that puts an HMAC of its body, perhaps with id and time, into a header."""

    scheme: Literal["hmac"]
    header: HeaderName
    algorithm: Literal["sha256", "sha512"] = "sha256"
    encoding: Literal["hex", "base64"] = "hex"
    prefix: str = ""
    id_header: HeaderName | None = None
    signed: str = "{body}"

    @property
    def replayable_under_another_id(self) -> bool:
        """Even where `{id}` is signed: the same signed text can be cut into another id and body,
        by `{id}{body}`, or by `{id}.{body}` where ids hold dots.
        """
        return self.id_header is not None

    @model_validator(mode="after")
    def _signed_holds_what_there_is(self) -> Self:
        found = _PLACEHOLDER.findall(self.signed)
        must = {"{body}"} | ({"{timestamp}"} if self.timestamp_header else set())
        may = must | ({"{id}"} if self.id_header else set())
        if len(found) != len(set(found)) or not must <= set(found) <= may:
            raise ValueError(
                "signed holds {body} once, {timestamp} once where (and only where) "
                "timestamp_header is set, {id} at most once and only where id_header is set, "
                "and no other braces"
            )
        return self

    def check(self, delivery: _Delivery) -> Verdict:
        """Whether the filled template is signed; a signed id must be there."""
        given, fields = delivery.signature(self.header, self.prefix), {"{body}": delivery.body}
        if self.timestamp_header:
            fields["{timestamp}"] = delivery.time(self.timestamp_header, self.tolerance_s)
        delivery_id = delivery.id(self.id_header) if self.id_header else None
        if delivery_id is not None:
            fields["{id}"] = _raw(delivery_id)
        elif "{id}" in self.signed:
            raise _RefusedError("bad-id")
        signed = b"".join(fields.get(part, _raw(part)) for part in _PLACEHOLDER.split(self.signed))
        kind = {"algorithm": self.algorithm, "encoding": self.encoding}
        held = _confirm(delivery.secrets, signed, [given], **kind)
        digest = hashlib.sha256(held).hexdigest() if self.replayable_under_another_id else None
        return Verdict(verified=True, delivery_id=delivery_id, signature_digest=digest)


class Bearer(Scheme):
    """`Authorization: Bearer SECRET` (RFC 6750)."""

    scheme: Literal["bearer"]

    def check(self, delivery: _Delivery) -> Verdict:
        """Whether the secret is shown."""
        _match(delivery.secrets, delivery.credentials("bearer"))
        return Verdict(verified=True, delivery_id=delivery.id("idempotency-key"))


class Basic(Scheme):
    """`Authorization: Basic` (RFC 7617); a secret is `user:password`."""

    scheme: Literal["basic"]

    def check(self, delivery: _Delivery) -> Verdict:
        """Whether the secret is shown, compared as it travels."""
        expected = [base64.b64encode(secret) for secret in delivery.secrets]
        _match(expected, delivery.credentials("basic"))
        return Verdict(verified=True, delivery_id=delivery.id("idempotency-key"))


class Token(Scheme):
    """A query parameter or a header that equals a secret; URLs end in access logs."""

    fit_for_host_operations = False
    scheme: Literal["token"]
    parameter: Annotated[str, Field(min_length=1)] | None = None
    header: HeaderName | None = None

    @model_validator(mode="after")
    def _stands_in_one_place(self) -> Self:
        if (self.parameter is None) == (self.header is None):
            raise ValueError("token needs either parameter or header")
        return self

    def check(self, delivery: _Delivery) -> Verdict:
        """Whether the secret is shown in its place."""
        place, name = (delivery.headers, self.header) if self.header else (delivery.query, self.parameter)
        _match(delivery.secrets, _raw(_only(place.get(name or "", ()), "no-credentials")))
        return Verdict(verified=True)


class Nothing(Scheme):
    """No verification: whoever knows the URL is believed. Only when written out."""

    fit_for_host_operations = False
    scheme: Literal["none"]
    secrets: tuple[()] = ()

    def check(self, delivery: _Delivery) -> Verdict:
        """Always."""
        return Verdict(verified=True, delivery_id=delivery.id("idempotency-key"))


_SCHEMES: Final[Mapping[object, type[Scheme]]] = {
    "standard-webhooks": StandardWebhooks,
    "github": GitHub,
    "grafana": Grafana,
    "slack": Slack,
    "hmac": Hmac,
    "bearer": Bearer,
    "basic": Basic,
    "token": Token,
    "none": Nothing,
}


def scheme_of(table: object) -> Scheme:
    """The scheme that a `verify` table describes. Raises ValueError, which pydantic's errors are, too.

    A discriminated union of pydantic's would build all nine at every start.
    """
    if not isinstance(table, dict):
        raise ValueError("must be a table")
    if "scheme" not in table:
        raise ValueError("scheme is missing")
    name = table["scheme"]
    kind = _SCHEMES.get(name) if isinstance(name, str) else None
    if kind is None:
        raise ValueError(f"scheme must be one of {', '.join(map(str, _SCHEMES))}")
    return kind.model_validate(table)


def verify(  # noqa: PLR0913 - all that a delivery and its moment are
    scheme: Scheme,
    *,
    secrets: Sequence[bytes],
    headers: Mapping[str, Sequence[str]],
    query: Mapping[str, Sequence[str]],
    body: bytes,
    now_s: float,
) -> Verdict:
    """A verdict for any texts and bytes whatsoever, never an exception.

    `secrets` are the values behind the scheme's references, each as good as the others; an empty
    one is no secret. Header names are lower case, with every value that came, in order.
    """
    usable = [secret for secret in secrets if secret]
    try:
        return scheme.check(_Delivery(usable, headers, query, body, now_s))
    except _RefusedError as refusal:
        return Verdict(verified=False, reason=str(refusal))
