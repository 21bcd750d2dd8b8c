"""A payload as its sender would deliver it: what each scheme of `verify` wants to see, made with the secret.

The other side of `webhooks.schemes`; a test holds that whatever is signed here is verified there.
"""

import base64
import hmac
import secrets
from typing import NamedTuple

from oncetask.webhooks.schemes import (
    Basic,
    Bearer,
    GitHub,
    Grafana,
    Hmac,
    Nothing,
    Scheme,
    Slack,
    StandardWebhooks,
    Token,
)


class Signed(NamedTuple):
    """What a delivery brings beside its body; `delivery_id` None where the scheme has no place for one."""

    headers: dict[str, str]
    query: dict[str, str]
    delivery_id: str | None = None


def signed(  # noqa: C901, PLR0911 - one branch for each scheme
    scheme: Scheme, secret: bytes, body: bytes, *, now_s: float, delivery_id: str | None
) -> Signed:
    """The body's proof by that scheme. `delivery_id` None: a new one, where the scheme has one."""
    new_id = delivery_id or f"msg_{secrets.token_hex(12)}"
    at = str(int(now_s))
    match scheme:
        case StandardWebhooks():
            return _standard(secret, body, at, new_id)
        case GitHub():
            headers = {"X-Hub-Signature-256": f"sha256={_hex(secret, body)}", "X-GitHub-Delivery": new_id}
            return Signed(headers, {}, new_id)
        case Grafana():
            return _grafana(scheme, secret, body, at)
        case Slack():
            signature = f"v0={_hex(secret, b'v0:%b:%b' % (at.encode(), body))}"
            return Signed({"X-Slack-Signature": signature, "X-Slack-Request-Timestamp": at}, {})
        case Hmac():
            return _hmac(scheme, secret, body, at, new_id)
        case Bearer():
            return Signed({"Authorization": f"Bearer {_text(secret)}"} | _key(delivery_id), {}, delivery_id)
        case Basic():
            shown = base64.b64encode(secret).decode()
            return Signed({"Authorization": f"Basic {shown}"} | _key(delivery_id), {}, delivery_id)
        case Token(header=str(header)):
            return Signed({header: _text(secret)}, {})
        case Token(parameter=str(parameter)):
            return Signed({}, {parameter: _text(secret)})
        case Nothing():
            return Signed(_key(delivery_id), {}, delivery_id)
    raise NotImplementedError(scheme.scheme)


def _standard(secret: bytes, body: bytes, at: str, delivery_id: str) -> Signed:
    text = secret.removeprefix(b"whsec_")
    key = base64.b64decode(text + b"=" * (-len(text) % 4))
    signature = hmac.digest(key, b".".join((delivery_id.encode(), at.encode(), body)), "sha256")
    headers = {
        "webhook-id": delivery_id,
        "webhook-timestamp": at,
        "webhook-signature": f"v1,{base64.b64encode(signature).decode()}",
    }
    return Signed(headers, {}, delivery_id)


def _grafana(scheme: Grafana, secret: bytes, body: bytes, at: str) -> Signed:
    if not scheme.timestamp_header:
        return Signed({"X-Grafana-Alerting-Signature": _hex(secret, body)}, {})
    signature = _hex(secret, b"%b:%b" % (at.encode(), body))
    return Signed({"X-Grafana-Alerting-Signature": signature, scheme.timestamp_header: at}, {})


def _hmac(scheme: Hmac, secret: bytes, body: bytes, at: str, delivery_id: str) -> Signed:
    before, _, after = (
        part.replace(b"{id}", delivery_id.encode()).replace(b"{timestamp}", at.encode())
        for part in scheme.signed.encode().partition(b"{body}")
    )
    digest = hmac.digest(secret, before + body + after, scheme.algorithm)
    shown = digest.hex() if scheme.encoding == "hex" else base64.b64encode(digest).decode()
    headers = {scheme.header: f"{scheme.prefix}{shown}"}
    if scheme.timestamp_header:
        headers[scheme.timestamp_header] = at
    if scheme.id_header:
        headers[scheme.id_header] = delivery_id
    return Signed(headers, {}, delivery_id if scheme.id_header else None)


def _hex(secret: bytes, text: bytes) -> str:
    return hmac.digest(secret, text, "sha256").hex()


def _text(secret: bytes) -> str:
    return secret.decode("utf-8", "surrogateescape")


def _key(delivery_id: str | None) -> dict[str, str]:
    return {"Idempotency-Key": delivery_id} if delivery_id else {}
