"""How senders ask whether a URL is ours, and what each wants to hear. Only verified deliveries come here.

Sources: Slack's Events API (`url_verification`), Zoom's webhook validation, Azure Event Grid's endpoint
validation, and the CloudEvents HTTP webhook specification 1.0 (`OPTIONS`).
"""

import hmac
import re
from collections.abc import Callable, Mapping
from typing import Any, Final

_CHALLENGE_CHARS: Final = 1024
_PLAIN_TOKEN: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
_HOST: Final = re.compile(
    r"(?=.{1,253}$)[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?(\.[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?)*"
)


def answer_to(handshake: str | None, payload: object, key: bytes | None) -> dict[str, str] | None:
    """What the sender wants to hear; None where the payload is no such question."""
    answer = _ANSWERS.get(handshake or "")
    return answer(payload, key) if answer is not None else None


def allowed_origin(asked: str | None) -> Mapping[str, str] | None:
    """The headers that let an origin deliver CloudEvents; None where it is no host's name."""
    if asked is None or _HOST.fullmatch(asked) is None:
        return None
    return {"webhook-allowed-origin": asked, "webhook-allowed-rate": "*"}


def _slack(payload: object, _key: bytes | None) -> dict[str, str] | None:
    challenge = _at(payload, "challenge")
    if _at(payload, "type") != "url_verification" or not isinstance(challenge, str):
        return None
    return {"challenge": challenge} if len(challenge) <= _CHALLENGE_CHARS else None


def _zoom(payload: object, key: bytes | None) -> dict[str, str] | None:
    token = _at(_at(payload, "payload"), "plainToken")
    if _at(payload, "event") != "endpoint.url_validation" or not isinstance(token, str) or key is None:
        return None
    # Whatever else were signed here, a sender could have us sign what somebody else believes.
    if _PLAIN_TOKEN.fullmatch(token) is None:
        return None
    return {"plainToken": token, "encryptedToken": hmac.digest(key, token.encode(), "sha256").hex()}


def _event_grid(payload: object, _key: bytes | None) -> dict[str, str] | None:
    event = payload[0] if isinstance(payload, list) and len(payload) == 1 else payload
    code = _at(_at(event, "data"), "validationCode")
    if _at(event, "eventType") != "Microsoft.EventGrid.SubscriptionValidationEvent":
        return None
    return {"validationResponse": code} if isinstance(code, str) and len(code) <= _CHALLENGE_CHARS else None


def _at(value: object, key: str) -> Any:  # noqa: ANN401 - JSON data
    return value.get(key) if isinstance(value, dict) else None


_ANSWERS: Final[Mapping[str, Callable[[object, bytes | None], dict[str, str] | None]]] = {
    "slack": _slack,
    "zoom": _zoom,
    "event-grid": _event_grid,
}
