"""`make explain`: which route an event takes and why, its ids, what would be asked; nothing is sent."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from local.cases import Case, expectation_of
from local.documents import read_event, routes_beside
from oncetask.app import App, app_of
from oncetask.errors import Rejection, SecretUnavailable
from oncetask.handlers import timer, webhook
from oncetask.ledger.records import Event
from oncetask.models import Result, compact_json
from oncetask.routing.routes import Route
from oncetask.webhooks.body import parse
from oncetask.webhooks.http import Delivery
from oncetask.webhooks.proofs import Verdict

NOWHERE = "http://127.0.0.1:9"
"""Nothing is sent."""

type Line = tuple[str, str]


def main(path: Path) -> None:
    """Print the explanation of one event document."""
    for name, text in explain(_app(path), read_event(path)):
        print(f"{name:>14}  {text}")


def _app(path: Path) -> App:
    """A sample event's own app; for any other event what the environment says."""
    if expectation_of(path).is_file():
        return Case.at(path).app(NOWHERE)
    return app_of(routes_beside(path) | dict(os.environ))


def explain(app: App, event: object) -> Iterator[Line]:
    """Lines of name and text, in the order in which things are decided."""
    try:
        delivery = Delivery.of(event)
    except Rejection:
        yield from _explain_tick(app, event)
    else:
        yield from _explain_delivery(app, delivery)


def _explain_tick(app: App, event: object) -> Iterator[Line]:
    yield "trigger", "timer: this is no HTTP event"
    try:
        tick = timer.Tick.of(event)
    except Rejection as error:
        yield "rejected", f"{error.code}: {error.message}"
        return
    route = app.routes.get(tick.route or "")
    yield "schedule", f"{tick.schedule} at {tick.scheduled_time}"
    yield "route", tick.route or f"none: the event holds {len(tick.tasks or [])} tasks itself"
    if route is not None:
        yield from _explain_route(route, tick.payload)
    yield from _explain_drafts(timer.drafts_of(app, event))


def _explain_delivery(app: App, delivery: Delivery) -> Iterator[Line]:
    yield "trigger", f"webhook: {delivery.method} {delivery.path}"
    route = webhook.webhook_route(app, delivery)
    if route is None or route.verify is None:
        yield "route", f"none: no webhook's route is called {delivery.route!r}; a stranger gets 401"
        return
    yield "route", f"{route.name}: the path's last segment"
    try:
        request = webhook.understood(app, delivery, route)
    except (webhook.Unverified, SecretUnavailable) as error:
        yield "verification", f"{route.verify.scheme}: failed ({getattr(error, 'reason', error)})"
        yield "", "what follows is what the delivery would do if it were verified"
        yield from _explain_unverified(route, delivery)
        return
    except Rejection as error:
        yield "refused", f"{error.code}: {error.message}"
        return
    yield "verification", f"{route.verify.scheme}: passed"
    yield from _explain_request(request)


def _explain_unverified(route: Route, delivery: Delivery) -> Iterator[Line]:
    body = delivery.body or b""
    try:
        payload = parse(body, delivery.headers, route.media)
    except Rejection as error:
        yield "refused", f"{error.code}: {error.message}"
        return
    verdict = Verdict(verified=False)
    assert route.verify is not None  # noqa: S101 - every webhook's route has it, checked at start
    yield from _explain_request(webhook.VerifiedDelivery(route, route.verify, verdict, payload, body))


def _explain_request(request: webhook.VerifiedDelivery) -> Iterator[Line]:
    route = request.route
    source = (
        "the delivery's own" if request.verdict.delivery_id else "the body's SHA-256: the sender gave none"
    )
    yield "delivery id", f"{request.delivery_id} ({source})"
    yield from _explain_route(route, request.payload)
    try:
        drafts = webhook.drafts_of(request, request.delivery_id, 0.0)
    except Rejection as error:
        yield "refused", f"{error.code}: {error.message}"
        return
    yield from _explain_drafts(drafts)


def _explain_route(route: Route, payload: object) -> Iterator[Line]:
    """What the route's expressions find, and what is left out by them."""
    try:
        if route.when is not None:
            yield "when", f"{route.when.text}  →  {compact_json(route.when.search(payload))}"
        items: Any = [payload]
        if route.each is not None:
            items = route.each.search(payload)
            yield "each", f"{route.each.text}  →  {len(items or [])} items"
        for index, item in enumerate(items or []):
            for key, expression in route.param_from.items():
                if expression.search(item) is None:
                    yield "left out", f"item {index}: param.{key}, because {expression.text} gives null"
    except (Rejection, TypeError) as error:
        yield "fails", str(error)


def _explain_drafts(drafts: list[Event | Result]) -> Iterator[Line]:
    seen: set[str] = set()
    for draft in drafts:
        if isinstance(draft, Result):
            why = (
                f"{draft.error.code}: {draft.error.message}" if draft.error else "when or each gives nothing"
            )
            yield draft.status, f"{draft.event_id or '(no id)'}  {why}"
        elif draft.event_id in seen:
            yield "duplicate", draft.event_id
        else:
            yield "event", draft.event_id
            yield from _explain_event(draft)
        seen.add(draft.event_id or "")


def _explain_event(event: Event) -> Iterator[Line]:
    how = "at once" if event.submit == "now" else "by the next sweep"
    together = ", together with others of its route" if event.coalesces else ""
    yield "would be asked", f"{how}{together}: {event.request.line_bytes()} bytes"
    yield "request", compact_json(event.request.model_dump(by_alias=True))
