"""A sender's payload at a route: the delivery that AWS would hand over for it, kept in a file, sent again."""

import base64
import hashlib
import json
import os
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlencode

from local.documents import UnreadableDocument, read_bytes, read_event
from local.errors import CommandError
from local.events import function_url
from local.signatures import Signed, signed
from local.text import nearest
from oncetask.app import App
from oncetask.models import Trigger
from oncetask.routing.routes import Route, Routes

JSON_TYPE = "application/json"
FORM_TYPE = "application/x-www-form-urlencoded"


class Payload(NamedTuple):
    """What a sender sends: the body as it is, and how it says that it is to be read."""

    body: bytes
    content_type: str
    delivery_id: str | None = None


def payload_in(
    path: Path, route: Route, content_type: str | None = None, delivery_id: str | None = None
) -> Payload:
    """The file's bytes as the route reads them. Raises UnreadableDocument.

    A JSON file for a route that reads JSON from a form's field is put into that field.
    """
    body = read_bytes(path)
    kind, _, field = route.media.partition(":")
    if field and _is_json(body):
        body = urlencode({field: body}).encode()
    return Payload(body, content_type or (JSON_TYPE if kind == "json" else FORM_TYPE), delivery_id)


def _is_json(body: bytes) -> bool:
    try:
        json.loads(body)
    except (ValueError, RecursionError):
        return False
    return True


def route_named(routes: Routes, name: str) -> Route:
    """The route. Raises CommandError, which names the nearest one."""
    route = routes.get(name)
    if route is None:
        hint = nearest(name, routes) or f"; there are {', '.join(routes) or 'none'}"
        raise CommandError(f"there is no route {name}{hint}")
    return route


def webhook_route(routes: Routes, name: str) -> Route:
    """The same, of a webhook. Raises CommandError."""
    route = route_named(routes, name)
    if route.trigger is not Trigger.WEBHOOK:
        webhooks = ", ".join(r.name for r in routes.values() if r.trigger is Trigger.WEBHOOK)
        raise CommandError(
            f"the route {name} is a timer's, no sender delivers to it; webhooks: {webhooks or 'none'}"
        )
    return route


def proof(app: App, route: Route, payload: Payload) -> Signed:
    """The payload signed as its sender would. Raises SecretUnavailable: there is no secret here to do it."""
    assert route.verify is not None  # noqa: S101 - every webhook's route has it, checked at start
    scheme = route.verify
    values = app.secret_values.find(scheme.secrets, scheme.key_of).values if scheme.secrets else (b"",)
    now_s = app.clock.now_s()
    return signed(scheme, values[0], payload.body, now_s=now_s, delivery_id=payload.delivery_id)


def unprovable(app: App, route: Route, payload: Payload) -> Signed:
    """Signed with a key that nobody has: well formed, so that what is told is what a missing secret tells."""
    assert route.verify is not None  # noqa: S101 - likewise
    secret = b"nobody:0" if route.verify.scheme == "basic" else b"0" * 32
    now_s = app.clock.now_s()
    return signed(route.verify, secret, payload.body, now_s=now_s, delivery_id=payload.delivery_id)


def http_event(route: str, payload: Payload, with_proof: Signed) -> dict[str, Any]:
    """The delivery as a function URL hands it over."""
    headers = {"content-type": payload.content_type}
    headers |= {name.lower(): value for name, value in with_proof.headers.items()}
    return function_url(f"/webhooks/{route}", payload.body, headers, query=urlencode(with_proof.query))


# -- kept deliveries ------------------------------------------------------------------------------


def keep(folder: Path, route: str, payload: Payload) -> Path:
    """Write a delivery down for `send --replay`: without its signature, which is made again then.

    Only its owner can read the file: a payload may hold what should not be seen. Raises CommandError.
    """
    document = {
        "route": route,
        "content_type": payload.content_type,
        "delivery_id": payload.delivery_id,
        "kept_at": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "body": base64.b64encode(payload.body).decode(),
    }
    name = re.sub(r"[^a-z0-9-]", "", route)[:64] or "unnamed"
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S%f")
    path = folder / f"{stamp}-{name}-{hashlib.sha256(payload.body).hexdigest()[:8]}.json"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            json.dump(document, file, indent=1)
    except OSError as error:
        raise CommandError(f"--save could not write to {folder}: {error.strerror}") from None
    return path


def kept(path: Path) -> tuple[str, Payload]:
    """The route and the payload of a kept delivery. Raises UnreadableDocument."""
    document = read_event(path)
    try:
        body = base64.b64decode(document["body"], validate=True)
        return document["route"], Payload(body, document["content_type"], document["delivery_id"])
    except (KeyError, TypeError, ValueError):
        raise UnreadableDocument(f"{path} must be a delivery that `serve --save` kept: it is none") from None
