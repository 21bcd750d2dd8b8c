"""`oncetask explain`: what would become of a payload or an event, and why; nothing is sent or recorded."""

from collections.abc import Iterator, Mapping
from contextlib import closing
from datetime import UTC, datetime
from http import HTTPStatus
from pathlib import Path
from typing import Any

from local.cases import Case, expectation_of
from local.deliveries import Payload, http_event, payload_in, proof, route_named, unprovable
from local.documents import read_event
from local.environments import told
from local.errors import CommandError
from local.screen import Screen
from local.text import json_text
from oncetask.app import App, app_of
from oncetask.errors import Code, Rejection, SecretUnavailable
from oncetask.handlers import timer, webhook
from oncetask.ledger.records import Event
from oncetask.models import Result, Status, Trigger
from oncetask.routing.events import HEADERS_KEY
from oncetask.routing.expressions import Expression
from oncetask.routing.hosts import criteria_of, name_of
from oncetask.routing.routes import Route
from oncetask.submit.grouping import targets_of
from oncetask.webhooks.body import parse
from oncetask.webhooks.handshakes import answer_to
from oncetask.webhooks.http import Delivery
from oncetask.webhooks.verification import Verdict

NOWHERE = "http://127.0.0.1:9"
"""Nothing is sent."""
SHOWN_CHARACTERS = 400
"""As much of a value as helps to recognise it."""

type Line = tuple[str, str]


def main(
    route_or_event: str,
    payload: Path | None,
    *,
    content_type: str | None,
    routes: Path | None,
    as_json: bool,
) -> None:
    """Print the explanation of a payload at a route, or of one event document."""
    if payload is None:
        event = Path(route_or_event)
        if not event.is_file() and "." not in event.name and "/" not in route_or_event:
            raise CommandError(
                f"explain wants ROUTE and PAYLOAD, or EVENT: there is no file {route_or_event}"
            )
        lines = _of_document(event, routes)
    else:
        lines = _of_payload(route_or_event, payload, content_type, routes)
    _show(Screen(), lines, as_json=as_json)


def _show(screen: Screen, lines: list[Line], *, as_json: bool) -> None:
    if as_json:
        screen.document(
            {"results": [], "counts": {}, "explanation": [{"name": n, "text": t} for n, t in lines]}
        )
        return
    for name, text in lines:
        if name in _ID_LINES:
            screen.pairs([(name, "")])
            screen.ids(text)
        else:
            screen.pairs([(name, text)])


_ID_LINES = frozenset({"event", "duplicate", "ignored", "rejected"})


def _of_document(path: Path, routes: Path | None) -> list[Line]:
    """A sample event at its own moment and with its own routes; any other by what the environment says."""
    event = read_event(path)
    app = (
        Case.at(path).app(NOWHERE)
        if expectation_of(path).is_file() and routes is None
        else app_of(told(routes))
    )
    with closing(app):
        return list(explain(app, event))


def _of_payload(name: str, path: Path, content_type: str | None, routes: Path | None) -> list[Line]:
    with closing(app_of(told(routes))) as app:
        route = route_named(app.routes, name)
        if route.trigger is Trigger.TIMER:
            return list(_explain_tick(app, _tick(app, route, read_event(path))))
        payload = payload_in(path, route, content_type)
        return list(_explain_payload(app, route, payload))


def _tick(app: App, route: Route, payload: object) -> dict[str, Any]:
    """The payload as an input of the route's schedule, at this moment."""
    if not isinstance(payload, dict):
        raise CommandError("a tick's payload is a JSON object: the further keys of the schedule's input")
    at = datetime.fromtimestamp(app.clock.now_s(), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    arn = f"arn:aws:scheduler:local:000000000000:schedule/default/{route.name}"
    return {"schedule": arn, "scheduled_time": at, **payload, "route": route.name}


def _explain_payload(app: App, route: Route, payload: Payload) -> Iterator[Line]:
    try:
        signed = proof(app, route, payload)
    except SecretUnavailable as error:
        signed = unprovable(app, route, payload)
        yield "signed", f"not: {error}"
    else:
        scheme = route.verify.scheme if route.verify else "none"
        yield "signed", f"as its sender would, by {scheme}" if scheme != "none" else "not: the scheme is none"
    yield from explain(app, http_event(route.name, payload, signed))


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
        yield "rejected", "(no id)"
        yield "", f"{error.code}: {error.message}"
        return
    route = app.routes.get(tick.route or "")
    yield "schedule", f"{tick.schedule} at {tick.scheduled_time}"
    yield "route", tick.route or f"none: the event holds {len(tick.tasks or [])} tasks itself"
    if route is not None:
        yield from _explain_expressions(route, tick.payload)
    yield from _explain_drafts(timer.drafts_of(app, event), route, tick.payload)


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
        yield _told(webhook.Refusal.of(error, route))
        yield "", "what follows is what the delivery would do if it were verified"
        yield from _explain_unverified(route, delivery)
        return
    except Rejection as error:
        yield "refused", f"{error.code}: {error.message}"
        yield _told(webhook.Refusal.of(error, route))
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
    headers = {name: delivery.header(name) for name in route.headers}
    yield from _explain_request(
        webhook.VerifiedDelivery(route, route.verify, verdict, payload, body, headers)
    )


def _explain_request(request: webhook.VerifiedDelivery) -> Iterator[Line]:
    route = request.route
    source = (
        "the delivery's own" if request.verdict.delivery_id else "the body's SHA-256: the sender gave none"
    )
    yield "delivery id", f"{request.delivery_id} ({source})"
    if answer_to(request.scheme.handshake, request.payload, request.verdict.key) is not None:
        yield "handshake", f"{request.scheme.handshake}: answered in the sender's own form; it makes no event"
        return
    yield from _explain_expressions(route, request.payload, request.headers)
    try:
        drafts = webhook.drafts_of(request, request.delivery_id, 0.0)
    except Rejection as error:
        yield "refused", f"{error.code}: {error.message}"
        if request.verdict.verified:
            yield _told(webhook.Refusal.of(error, route))
        return
    yield from _explain_drafts(drafts, route, request.payload)
    if request.verdict.verified:
        yield "told", _told_of(drafts, knows_only_200=request.scheme.scheme == "slack")


def _told(refusal: webhook.Refusal) -> Line:
    reply = refusal.reply()
    return "told", f"{int(reply.status)} {reply.status.phrase}: {refusal.error.code}"


def _told_of(drafts: list[Event | Result], *, knows_only_200: bool) -> str:
    """The answer to a first delivery, as far as it does not depend on Security Center."""
    events = [draft for draft in drafts if isinstance(draft, Event)]
    if knows_only_200:
        return "200 OK: Slack knows no other success"
    if any(event.submit == "sweep" for event in events):
        return "202 Accepted: recorded, the next sweep takes it from here"
    if events:
        return "201 Created once Security Center gives a task, 202 Accepted where it has to wait"
    if any(isinstance(draft, Result) and draft.status is Status.REJECTED for draft in drafts):
        return _phrase(HTTPStatus.UNPROCESSABLE_ENTITY)
    return _phrase(HTTPStatus.OK)


def _phrase(status: HTTPStatus) -> str:
    return f"{int(status)} {status.phrase}"


# -- what the expressions find --------------------------------------------------------------------


def _explain_expressions(
    route: Route, payload: object, headers: Mapping[str, str | None] | None = None
) -> Iterator[Line]:
    """What each expression of the route finds, on the payload and then on each item; `when` sees headers."""
    if route.when is not None:
        seen = {**payload, HEADERS_KEY: dict(headers)} if headers and isinstance(payload, dict) else payload
        yield "when", _found(route.when, seen)
        if _value(route.when, seen) is not True:
            yield "", "the route acts only where that is exactly true"
            return
    items: object = [payload]
    if route.each is not None:
        items = _value(route.each, payload)
        if not isinstance(items, list):
            yield "each", _found(route.each, payload)
            return
        yield "each", f"{route.each.text}  →  {len(items)} items"
    for index, item in enumerate(items if isinstance(items, list) else []):
        yield from _explain_item(route, index if route.each else None, item)


def _explain_item(route: Route, index: int | None, item: object) -> Iterator[Line]:
    of_item = "" if index is None else f"item {index}: "
    for key in ("id", "targets"):
        expression = getattr(route, key)
        if expression is not None:
            yield key, f"{of_item}{_found(expression, item)}"
    if route.targets is not None and not _value(route.targets, item):
        yield "", f"the item has {_keys_of(item)}"
    for key, expression in route.param_from.items():
        yield f"param.{key}", f"{of_item}{_found(expression, item)}"
        if _value(expression, item) is None:
            yield "left out", f"{of_item}param.{key}, because {expression.text} gives null"


def _found(expression: Expression, value: object) -> str:
    try:
        return f"{expression.text}  →  {_short(expression.search(value))}"
    except Rejection as error:
        return f"{expression.text}  →  fails: {error}"


def _value(expression: Expression, value: object) -> object:
    try:
        return expression.search(value)
    except Rejection:
        return None


def _keys_of(item: object) -> str:
    if isinstance(item, dict):
        return f"the keys {', '.join(map(str, item)) or '(none)'}"
    return f"no keys: it is {_short(item)}"


def _short(value: object) -> str:
    text = json_text(value)
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]}… ({len(text)} characters)"


# -- what would be asked --------------------------------------------------------------------------


def _explain_drafts(drafts: list[Event | Result], route: Route | None, payload: object) -> Iterator[Line]:
    seen: set[str] = set()
    for draft in drafts:
        if isinstance(draft, Result):
            yield from _explain_result(draft, payload)
        elif draft.event_id in seen:
            yield "duplicate", draft.event_id
        else:
            yield "event", draft.event_id
            yield from _explain_event(draft, route)
        seen.add(draft.event_id or "")


def _explain_result(result: Result, payload: object) -> Iterator[Line]:
    why = f"{result.error.code}: {result.error.message}" if result.error else "when or each gives nothing"
    yield result.status, result.event_id or "(no id)"
    yield "", why
    if result.error and result.error.code == Code.NO_TARGETS and isinstance(payload, dict):
        yield "", f"the payload has {_keys_of(payload)}"


def _explain_event(event: Event, route: Route | None) -> Iterator[Line]:
    how = "at once" if event.submit == "now" else "by the next sweep"
    together = ", together with others of its route" if event.coalesces else ""
    yield "would be asked", f"{how}{together}: {event.request.line_bytes()} bytes"
    yield from _explain_hosts(event)
    request = event.request.model_dump(by_alias=True)
    yield "request", json_text(request)
    for field in ("TaskType", "TaskName", "Source"):
        yield field, f"{_short(request[field])}  from {_source_of(field, route)}"
    for key, value in request["Param"].items():
        yield f"Param.{key}", f"{_short(value)}  from {_source_of_param(key, route)}"


def _explain_hosts(event: Event) -> Iterator[Line]:
    """By which criteria its hosts would be looked up; one line a name."""
    rule = event.hosts
    if rule is None:
        return
    if rule.selects:
        yield (
            "hosts",
            f"would be selected: every host for which {_criteria(rule.where)}; over {rule.most}, none",
        )
        return
    for target in targets_of(event):
        asked = criteria_of(rule.by, name_of(target, rule.by), rule.where)
        yield "hosts", f"{_short(target)} would be looked up: the host for which {_criteria(asked)}"
    yield "", f"a host that is not found is waited for {rule.wait_s:g} s; nothing was looked up now"


def _criteria(criteria: Mapping[str, str]) -> str:
    return " and ".join(f"{name} is {json_text(value)}" for name, value in sorted(criteria.items()))


_KEYS = {"TaskType": "task_type", "TaskName": "task_name", "Source": "source"}


def _source_of(field: str, route: Route | None) -> str:
    if route is None or route.direct:
        return "the item itself, or its default"
    if _KEYS[field] in route.model_fields_set:
        return f"the routes file: {_KEYS[field]}"
    return "task_type, since task_name is not set" if field == "TaskName" else "the default"


def _source_of_param(key: str, route: Route | None) -> str:
    if route is None or route.direct:
        return "the item itself"
    if route.targets is not None and key == route.target_key:
        return f"targets: {route.targets.text}"
    if key in route.param_from:
        return f"param_from.{key}: {route.param_from[key].text}"
    return f"the routes file: param.{key}"
