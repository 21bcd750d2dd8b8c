"""Whether a delivery comes from its sender: headers, query and raw body in, a verdict out.

The schemes that show a secret stand here, those that sign in `signatures`. Nothing here reads a clock,
a secret store or the environment, and no stranger's bytes make it raise.
"""

import base64
import binascii
from collections.abc import Mapping, Sequence
from typing import Annotated, Final, Literal, Self

from pydantic import Field, model_validator

from oncetask.webhooks.proofs import Evidence, RefusedError, Verdict, match, only, raw
from oncetask.webhooks.scheme import HeaderName, Identified, Scheme
from oncetask.webhooks.signatures import SENDERS, Hmac, StandardWebhooks


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

    Its message never holds the table's values. A discriminated union of pydantic's would build all nine
    at every start.
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
