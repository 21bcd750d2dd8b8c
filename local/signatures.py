"""A payload as its sender would deliver it: what each scheme of `verify` wants to see, made with the secret.

The other side of `webhooks.schemes`; a test holds that whatever is signed here is verified there.
"""

import base64
import hmac
import secrets
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import NamedTuple

from oncetask.webhooks.schemes import Basic, Bearer, Hmac, Nothing, StandardWebhooks, Token
from oncetask.webhooks.verification import Identified, Scheme

ENCODED = {"hex": bytes.hex, "base64": lambda digest: base64.b64encode(digest).decode()}


class Signed(NamedTuple):
    """What a delivery brings beside its body; `delivery_id` None where it has none."""

    headers: dict[str, str]
    query: dict[str, str]
    delivery_id: str | None = None


def signed(scheme: Scheme, secret: bytes, body: bytes, *, now_s: float, delivery_id: str | None) -> Signed:
    """The body's proof by that scheme. `delivery_id` None: a new one, where the scheme has one.

    Raises ValueError: the secret cannot be the scheme's key.
    """
    key = scheme.key_of(secret) if scheme.scheme != "none" else b""
    if key is None:
        raise ValueError("the secret is no key of this scheme")
    named = ids_by_header(scheme, delivery_id)
    if isinstance(scheme, StandardWebhooks):
        return _standard(key, body, now_s, named)
    if isinstance(scheme, Hmac):
        return _hmac(scheme, key, body, now_s, named)
    headers, query = _shown(scheme, key)
    return Signed(headers | named, query, _joined(named))


# -- ids ------------------------------------------------------------------------------------------


def id_headers(scheme: Scheme) -> tuple[str, ...]:
    """The headers in which the scheme's senders give a delivery's id."""
    if isinstance(scheme, StandardWebhooks):
        return ("webhook-id",)
    if isinstance(scheme, Hmac | Identified):
        return tuple(scheme.id_header)
    return ()


def ids_by_header(scheme: Scheme, delivery_id: str | None) -> dict[str, str]:
    """The id's part for each of those headers; a new one where none is given, and none without a header."""
    names = id_headers(scheme)
    if not names:
        optional = isinstance(scheme, Identified) and delivery_id is not None
        return {"idempotency-key": str(delivery_id)} if optional else {}
    parts = (delivery_id or secrets.token_hex(12)).rsplit("/", len(names) - 1)
    parts = ["oncetask"] * (len(names) - len(parts)) + parts
    return dict(zip(names, parts, strict=True))


def given_id(scheme: Scheme, headers: Mapping[str, str]) -> str | None:
    """The id that a delivery's headers give; names in lower case."""
    for names in (id_headers(scheme), ("svix-id",), ("idempotency-key",)):
        found = [headers.get(name, "") for name in names]
        if found and all(found):
            return "/".join(found)
    return None


def _joined(named: Mapping[str, str]) -> str | None:
    return "/".join(named.values()) or None


# -- proofs ---------------------------------------------------------------------------------------


def _standard(key: bytes, body: bytes, now_s: float, named: dict[str, str]) -> Signed:
    at = str(int(now_s))
    digest = hmac.digest(key, b".".join((named["webhook-id"].encode(), at.encode(), body)), "sha256")
    signature = f"v1,{base64.b64encode(digest).decode()}"
    return Signed({**named, "webhook-timestamp": at, "webhook-signature": signature}, {}, named["webhook-id"])


def _hmac(form: Hmac, key: bytes, body: bytes, now_s: float, named: dict[str, str]) -> Signed:
    at = _time(form, now_s)
    before, _, after = (
        part.replace(b"{id}", (_joined(named) or "").encode()).replace(b"{timestamp}", at.encode())
        for part in form.signed.encode().partition(b"{body}")
    )
    digest = hmac.digest(key, before + body + after, form.algorithm)
    signature = f"{form.prefix}{ENCODED[form.encoding](digest)}"
    headers = dict(named)
    if form.fields_ is not None:
        pairs = [f"{form.fields_.time}={at}"] if form.fields_.time else []
        signature = form.between.join([*pairs, f"{form.fields_.signature}={signature}"])
    if form.timestamp_header:
        headers[form.timestamp_header] = at
    return Signed({**headers, form.header: signature}, {}, _joined(named))


def _time(form: Hmac, now_s: float) -> str:
    match form.timestamp_format:
        case "milliseconds":
            return str(int(now_s * 1000))
        case "rfc3339":
            return datetime.fromtimestamp(int(now_s), UTC).isoformat().replace("+00:00", "Z")
    return str(int(now_s))


def _shown(scheme: Scheme, key: bytes) -> tuple[dict[str, str], dict[str, str]]:
    """Headers and query of a scheme that shows its secret."""
    text = key.decode("utf-8", "surrogateescape")
    match scheme:
        case Bearer():
            return {"authorization": f"Bearer {text}"}, {}
        case Basic():
            return {"authorization": f"Basic {base64.b64encode(key).decode()}"}, {}
        case Token(header=str(header)):
            return {header: text}, {}
        case Token(parameter=str(parameter)):
            return {}, {parameter: text}
        case Nothing():
            return {}, {}
    raise ValueError(f"nothing here signs by the scheme {scheme.scheme}")
