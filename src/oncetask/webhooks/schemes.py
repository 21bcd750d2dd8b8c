"""Whether a delivery comes from its sender: headers, query and raw body in, a verdict out.

A scheme is a route's `verify` table, checked at start. Bearer, basic and token show a secret, `hmac` with all
its choices signs, of which three senders are a row each, and Standard Webhooks, whose two families of
headers are none. Nothing here reads a clock, a secret store or the environment, and no stranger's bytes make
it raise.
"""

import base64
import binascii
import re
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Annotated, Final, Literal, NamedTuple, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import InitErrorDetails

from oncetask.webhooks.verification import (
    Evidence,
    HeaderName,
    HeaderNames,
    Identified,
    RefusedError,
    Scheme,
    TimestampFormat,
    Tolerance,
    Verdict,
    confirm,
    digest_of,
    match,
    only,
    raw,
)

SHORTEST_KEY_BYTES: Final = 8
"""A shorter key of an HMAC can be guessed from one delivery."""


# -- schemes that show a secret ------------------------------------------------------------------


class Bearer(Identified):
    """`Authorization: Bearer SECRET` (RFC 6750)."""

    scheme: Literal["bearer"]

    @property
    def possible_handshakes(self) -> frozenset[str]:
        return frozenset({"slack", "cloudevents"})

    def check(self, evidence: Evidence) -> Verdict:
        """Whether the secret is shown."""
        match(evidence.keys, evidence.credentials("bearer"))
        return Verdict(verified=True, delivery_id=self.id_of(evidence))


class Basic(Identified):
    """`Authorization: Basic` (RFC 7617); a secret is `user:password`."""

    scheme: Literal["basic"]

    @property
    def possible_handshakes(self) -> frozenset[str]:
        return frozenset({"slack", "cloudevents"})

    def key_of(self, secret: bytes) -> bytes | None:
        return secret if b":" in secret else None

    def check(self, evidence: Evidence) -> Verdict:
        """Whether the secret is shown, compared as it travels."""
        given = evidence.credentials("basic")
        if not _is_user_and_password(given):
            raise RefusedError("no-credentials")
        match([base64.b64encode(key) for key in evidence.keys], given)
        return Verdict(verified=True, delivery_id=self.id_of(evidence))


def _is_user_and_password(credentials: bytes) -> bool:
    try:
        return b":" in base64.b64decode(credentials, validate=True)
    except binascii.Error:
        return False


class Token(Identified):
    """A query parameter or a header that equals a secret; URLs end in access logs."""

    scheme: Literal["token"]
    parameter: Annotated[str, Field(min_length=1)] | None = None
    header: HeaderName | None = None

    @property
    def possible_handshakes(self) -> frozenset[str]:
        return frozenset({"slack", "event-grid", "cloudevents"})

    @model_validator(mode="after")
    def _stands_in_one_place(self) -> Self:
        if (self.parameter is None) == (self.header is None):
            raise ValueError("token needs either parameter or header")
        return self

    def check(self, evidence: Evidence) -> Verdict:
        """Whether the secret is shown in its place."""
        place, name = (evidence.headers, self.header) if self.header else (evidence.query, self.parameter)
        match(evidence.keys, raw(only(place.get(name or "", ()), "no-credentials")))
        return Verdict(verified=True, delivery_id=self.id_of(evidence))


class Nothing(Identified):
    """No verification: everybody who knows the URL is believed. Only when written out."""

    scheme: Literal["none"]
    secrets: tuple[()] = ()

    def check(self, evidence: Evidence) -> Verdict:
        """Always."""
        return Verdict(verified=True, delivery_id=self.id_of(evidence))


# -- schemes that sign ---------------------------------------------------------------------------

_PLACEHOLDER: Final = re.compile(r"(\{[^{}]*\}|[{}])")

type Characters = Annotated[str, Field(min_length=1)]


class Fields(BaseModel):
    """The names of the pairs in a signature's header, such as `t` and `v1` in `t=…,v1=…`."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True, defer_build=True)

    time: Characters | None = None
    signature: Characters


class Sender(NamedTuple):
    """One sender as a row of `hmac`: what is always so, what is so where it sends a time, and which keys
    its table may say beside those of every scheme.
    """

    always: Mapping[str, object]
    timed: Mapping[str, object] = {}
    may: frozenset[str] = frozenset()
    handshakes: frozenset[str] = frozenset()

    def filled_in(self, table: Mapping[str, object]) -> Mapping[str, object]:
        """The table with the sender's choices. Raises ValidationError: it says a key that is none of its."""
        strange = sorted(table.keys() - self.may - Scheme.model_fields.keys())
        if strange:
            errors = [InitErrorDetails(type="extra_forbidden", loc=(key,), input=None) for key in strange]
            raise ValidationError.from_exception_data("Hmac", errors, hide_input=True)
        timed = self.timed if "timestamp_header" in table else {}
        return {**self.always, **timed, **table}


SENDERS: Final[Mapping[str, Sender]] = {
    "github": Sender(
        {"header": "x-hub-signature-256", "prefix": "sha256=", "id_header": "x-github-delivery"}
    ),
    "grafana": Sender(
        {"header": "x-grafana-alerting-signature"},
        timed={"signed": "{timestamp}:{body}"},
        may=frozenset({"id_header", "timestamp_header", "tolerance_s"}),
    ),
    "slack": Sender(
        {
            "header": "x-slack-signature",
            "prefix": "v0=",
            "timestamp_header": "x-slack-request-timestamp",
            "signed": "v0:{timestamp}:{body}",
            "handshake": "slack",
        },
        may=frozenset({"id_header", "tolerance_s"}),
        handshakes=frozenset({"slack"}),
    ),
}


class Hmac(Scheme):
    """Any sender that puts an HMAC of its body, perhaps with id and time, into a header."""

    scheme: Literal["hmac", "github", "grafana", "slack"]
    header: HeaderName
    algorithm: Literal["sha256", "sha512"] = "sha256"
    encoding: Literal["hex", "base64"] = "hex"
    prefix: str = ""
    separator: Characters | None = None
    fields_: Annotated[Fields | None, Field(alias="fields")] = None
    between: Characters = ","
    key: Literal["text", "base64", "hex"] = "text"
    id_header: HeaderNames = ()
    timestamp_header: HeaderName | None = None
    timestamp_format: TimestampFormat = "seconds"
    tolerance_s: Tolerance = 300
    signed: str = "{body}"

    @property
    def possible_handshakes(self) -> frozenset[str]:
        sender = SENDERS.get(self.scheme)
        return sender.handshakes if sender else frozenset({"slack", "zoom"})

    @property
    def _is_timed(self) -> bool:
        return self.timestamp_header is not None or (
            self.fields_ is not None and self.fields_.time is not None
        )

    @property
    def signed_time_s(self) -> int | None:
        return self.tolerance_s if self._is_timed else None

    @property
    def gives_ids(self) -> bool:
        return bool(self.id_header)

    @property
    def replayable_under_another_id(self) -> bool:
        """Unless the id is signed, and is what a known text ends: else the same signed text can be cut
        into another id and body, as by `{body}.{id}`.
        """
        is_cut_in_one_way = self._parts[1] == "{id}" and self._parts[2] != ""
        return bool(self.id_header) and not is_cut_in_one_way

    @cached_property
    def _parts(self) -> tuple[str, ...]:
        """Texts and placeholders by turns, a text first and last."""
        return tuple(_PLACEHOLDER.split(self.signed))

    @model_validator(mode="after")
    def _places_fit_together(self) -> Self:
        if self.fields_ is not None and self.separator is not None:
            raise ValueError("separator: fields already hold several signatures")
        if "between" in self.model_fields_set and self.fields_ is None:
            raise ValueError("between: it splits fields, and there are none")
        if self.fields_ is not None and self.fields_.time is not None and self.timestamp_header is not None:
            raise ValueError("timestamp_header: the time already stands in fields")
        for name in ("tolerance_s", "timestamp_format"):
            if name in self.model_fields_set and not self._is_timed:
                raise ValueError(f"{name} bounds nothing without timestamp_header or a time in fields")
        return self

    @model_validator(mode="after")
    def _signed_holds_what_there_is(self) -> Self:
        found = self._parts[1::2]
        must = {"{body}"} | ({"{timestamp}"} if self._is_timed else set())
        may = must | ({"{id}"} if self.id_header else set())
        if len(found) != len(set(found)) or not must <= set(found) <= may:
            raise ValueError(
                "signed holds {body} once, {timestamp} once where (and only where) "
                "a time is sent, {id} at most once and only where id_header is set, "
                "and no other braces"
            )
        if not all(self._parts[2:-1:2]):
            raise ValueError("signed: at least one character stands between two placeholders")
        return self

    def key_of(self, secret: bytes) -> bytes | None:
        if self.key == "text":
            return _long_enough(secret)
        try:
            decoded = base64.b64decode(secret, validate=True) if self.key == "base64" else _unhex(secret)
        except ValueError:
            return None
        return _long_enough(decoded)

    def check(self, evidence: Evidence) -> Verdict:
        """Whether the filled template is signed; a signed id must be there."""
        signatures, sent_at = self._signatures_and_time(evidence)
        values = {"{body}": evidence.body}
        if sent_at is not None:
            values["{timestamp}"] = evidence.time(sent_at, self.timestamp_format, self.tolerance_s)
        delivery_id = evidence.id(self.id_header)
        if "{id}" in self._parts:
            values["{id}"] = raw(self._signed_id(delivery_id))
        signed = b"".join(values.get(part, raw(part)) for part in self._parts)
        key = confirm(evidence.keys, signed, signatures, algorithm=self.algorithm, encoding=self.encoding)
        digest = digest_of(signed) if self.replayable_under_another_id else None
        return Verdict(verified=True, delivery_id=delivery_id, signature_digest=digest, key=key)

    def _signed_id(self, delivery_id: str | None) -> str:
        """The id, unless it holds the text that ends it. Raises RefusedError."""
        behind = self._parts[self._parts.index("{id}") + 1]
        if delivery_id is None or (behind and behind in delivery_id):
            raise RefusedError("bad-id")
        return delivery_id

    def _signatures_and_time(self, evidence: Evidence) -> tuple[list[bytes], str | None]:
        """What the headers hold. Raises RefusedError."""
        text = evidence.header(self.header, "no-signature")
        if self.fields_ is not None:
            given, times = self._pairs(text, self.fields_)
            if self.fields_.time is not None:
                if len(times) != 1:
                    raise RefusedError("bad-timestamp")
                return self._without_prefix(given), times[0]
        else:
            given = (
                [text] if self.separator is None else [one.strip(" ") for one in text.split(self.separator)]
            )
        sent_at = evidence.header(self.timestamp_header, "bad-timestamp") if self.timestamp_header else None
        return self._without_prefix(given), sent_at

    def _pairs(self, text: str, fields: Fields) -> tuple[list[str], list[str]]:
        """The values under the signature's name and under the time's. Raises RefusedError."""
        pairs = [part.strip(" ").partition("=") for part in text.split(self.between)]
        if not all(equals for _, equals, _ in pairs):
            raise RefusedError("no-signature")
        signatures = [value for name, _, value in pairs if name == fields.signature]
        return signatures, [value for name, _, value in pairs if name == fields.time]

    def _without_prefix(self, given: list[str]) -> list[bytes]:
        texts = [raw(one.removeprefix(self.prefix)) for one in given if one.startswith(self.prefix)]
        if not texts:
            raise RefusedError("no-signature")
        return texts


class StandardWebhooks(Scheme):
    """Standard Webhooks 1.0.0, symmetric (v1), in `webhook-*` or `svix-*` headers."""

    scheme: Literal["standard-webhooks"]
    tolerance_s: Tolerance = 300

    @property
    def signed_time_s(self) -> int | None:
        return self.tolerance_s

    def key_of(self, secret: bytes) -> bytes | None:
        """The key in a Standard Webhooks secret; None where it is no base64.

        Prefixes and padding may be missing, as in the official libraries. Foreign characters are not
        skipped (Python's library alone does so): they would quietly make another key.
        """
        text = secret.removeprefix(b"v1,").removeprefix(b"whsec_")
        try:
            return _long_enough(base64.b64decode(text + b"=" * (-len(text) % 4), validate=True))
        except binascii.Error:
            return None

    def check(self, evidence: Evidence) -> Verdict:
        """Whether one family holds in itself; id and time of the other are not looked at."""
        try:
            return self._check_family("webhook", evidence)
        except RefusedError:
            if "svix-signature" not in evidence.headers:
                raise
        return self._check_family("svix", evidence)

    def _check_family(self, family: str, evidence: Evidence) -> Verdict:
        items = evidence.header(f"{family}-signature", "no-signature").split(" ")
        text = evidence.header(f"{family}-timestamp", "bad-timestamp")
        sent_at = evidence.time(text, "seconds", self.tolerance_s)
        delivery_id = evidence.id((f"{family}-id",))
        # A dot in an id would let the same signed text be cut into another id, time and body; the
        # specification warns of it. Without one, the first two dots can only be the separators.
        if delivery_id is None or "." in delivery_id:
            raise RefusedError("bad-id")
        confirm(
            evidence.keys,
            b".".join((raw(delivery_id), sent_at, evidence.body)),
            [raw(item.removeprefix("v1,")) for item in items if item.startswith("v1,")],
            encoding="base64",
        )
        return Verdict(verified=True, delivery_id=delivery_id)


def _long_enough(key: bytes) -> bytes | None:
    return key if len(key) >= SHORTEST_KEY_BYTES else None


def _unhex(secret: bytes) -> bytes:
    """Raises ValueError: for spaces, too, which `unhexlify` refuses and `fromhex` does not."""
    return binascii.unhexlify(secret)


# -- the table -----------------------------------------------------------------------------------


SCHEMES: Final[Mapping[object, type[Scheme]]] = {
    "standard-webhooks": StandardWebhooks,
    "hmac": Hmac,
    **dict.fromkeys(SENDERS, Hmac),
    "bearer": Bearer,
    "basic": Basic,
    "token": Token,
    "none": Nothing,
}


def keys_of(name: str | None) -> Sequence[str]:
    """What the table of a scheme may say; of one that is unknown, what every table may."""
    sender = SENDERS.get(name or "")
    if sender is not None:
        return [*Scheme.model_fields, *sorted(sender.may)]
    fields = SCHEMES.get(name, Scheme).model_fields
    return [field.alias or key for key, field in fields.items()]


def scheme_of(table: object) -> Scheme:
    """The scheme that a `verify` table describes. Raises ValueError, which pydantic's errors are, too.

    Its message never holds the table's values. A discriminated union of pydantic's would build all of
    them at every start.
    """
    if not isinstance(table, dict):
        raise ValueError("verify must be a table")
    if "scheme" not in table:
        raise ValueError("scheme is missing")
    name = table["scheme"]
    kind = SCHEMES.get(name) if isinstance(name, str) else None
    if kind is None:
        raise ValueError(f"scheme must be one of {', '.join(map(str, SCHEMES))}")
    sender = SENDERS.get(name)
    scheme = kind.model_validate(sender.filled_in(table) if sender else table)
    if scheme.handshake is not None and scheme.handshake not in scheme.possible_handshakes:
        raise ValueError(f"handshake: {scheme.handshake} does not go with scheme {scheme.scheme}")
    return scheme


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

    `secrets` are the values behind the scheme's references, each as good as the others; what cannot
    be the scheme's key is no secret. Header names are lower case, with every value that came, in order.
    """
    keys = [key for secret in secrets if (key := scheme.key_of(secret))]
    try:
        return scheme.check(Evidence(keys, headers, query, body, now_s))
    except RefusedError as refusal:
        return Verdict(verified=False, reason=str(refusal))
