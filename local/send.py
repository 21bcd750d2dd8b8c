"""`oncetask send`: a payload delivered as its sender would, to `serve` or to a deployment."""

import http.client
import json
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlencode, urlsplit

from local import screen
from local.deliveries import Payload, kept, payload_in, proof, webhook_route
from local.environments import told
from local.errors import CommandError, NotDone
from local.screen import Screen
from oncetask.app import app_of
from oncetask.routing.routes import Route, Routes
from oncetask.settings import endpoint_url

TIMEOUT_S = 35.0
"""Longer than API Gateway lets a function work."""
MOST_ANSWER_BYTES = 8_000_000


class Given(NamedTuple):
    """What is sent: a payload for a route, or a delivery that was kept."""

    route: str | None
    payload: Path | None
    delivery_id: str | None
    content_type: str | None
    replay: Path | None


class Answer(NamedTuple):
    """What the other side said."""

    status: int
    document: Any


def main(given: Given, *, url: str, routes: Path | None, as_json: bool) -> None:
    """Send and print the answer. Raises NotDone where it is no 2xx, CommandError where nothing was sent."""
    with closing(app_of(told(routes))) as app:
        route, payload = _chosen(given, app.routes)
        signed = proof(app, route, payload)
    target = _target(url, route.name)
    query = f"{target.query}&{urlencode(signed.query)}".strip("&")
    answer = _post(
        target._replace(query=query), {"Content-Type": payload.content_type, **signed.headers}, payload.body
    )
    _show(Screen(), answer, as_json=as_json)
    if not 200 <= answer.status < 300:  # noqa: PLR2004 - HTTP's own
        raise NotDone


def _chosen(given: Given, routes: Routes) -> tuple[Route, Payload]:
    if given.replay is not None:
        if given.payload is not None:
            raise CommandError("--replay FILE holds the payload already: give no PAYLOAD beside it")
        name, payload = kept(given.replay)
        return webhook_route(routes, given.route or name), payload
    if given.route is None or given.payload is None:
        raise CommandError("send wants ROUTE and PAYLOAD, or --replay FILE")
    route = webhook_route(routes, given.route)
    return route, payload_in(given.payload, route, given.content_type, given.delivery_id)


def _target(url: str, route: str) -> Any:  # noqa: ANN401 - urlsplit's
    """The whole URL, of what stands before `/webhooks/` or of itself. Raises CommandError."""
    parts = urlsplit(url if "://" in url else f"http://{url}")
    try:
        endpoint_url(f"{parts.scheme}://{parts.netloc}")
    except ValueError as error:
        raise CommandError(f"--to must be an https URL, or http on this machine: {error}") from None
    path = parts.path.rstrip("/")
    before, marker, named = path.rpartition("/webhooks/")
    if marker and named != route:
        raise CommandError(f"--to ends in /webhooks/{named}, and the route is {route}")
    return parts._replace(path=f"{before if marker else path}/webhooks/{route}", fragment="")


def _post(target: Any, headers: dict[str, str], body: bytes) -> Answer:  # noqa: ANN401 - urlsplit's
    kind = http.client.HTTPSConnection if target.scheme == "https" else http.client.HTTPConnection
    connection = kind(target.hostname, target.port, timeout=TIMEOUT_S)
    place = f"{target.path}?{target.query}" if target.query else target.path
    try:
        with closing(connection):
            connection.request("POST", place, body, headers)
            response = connection.getresponse()
            return Answer(response.status, _document(response.read(MOST_ANSWER_BYTES)))
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "strerror", None) or type(error).__name__
        hint = "; is `oncetask serve` running?" if target.hostname in {"127.0.0.1", "localhost"} else ""
        raise CommandError(f"{target.scheme}://{target.netloc} did not answer: {reason}{hint}") from None


def _document(body: bytes) -> Any:  # noqa: ANN401 - JSON, or whatever else answered
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return {"results": [], "counts": {}, "body": body[:2000].decode("utf-8", "replace")}


def _show(shown: Screen, answer: Answer, *, as_json: bool) -> None:
    document = answer.document if isinstance(answer.document, dict) else {"body": answer.document}
    if as_json:
        shown.document({"results": [], "counts": {}, **document, "http_status": answer.status})
        return
    shown.line(f"{answer.status} {http.client.responses.get(answer.status, '')}", style="bold")
    if document.get("results"):
        screen.results(shown, document, as_json=False)
    if document.get("error"):
        error = document["error"]
        shown.line("refused", ": ".join(str(error[key]) for key in ("code", "message") if error.get(key)))
    if "body" in document:
        shown.line(document["body"])
