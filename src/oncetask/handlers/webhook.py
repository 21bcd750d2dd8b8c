"""One verified HTTP delivery becomes its route's requests.

Checked in this order, so that a stranger costs little and learns nothing: method, size, verification
(an unknown route looks like a failed one), media type, body, number of items; then everything is
recorded, and only then is anything asked.
"""

import hashlib
import json
from collections.abc import Mapping
from http import HTTPStatus
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

from oncetask.app import App, remaining_ms, start
from oncetask.clock import Deadline
from oncetask.errors import Code, Kind, Rejection, Unavailable
from oncetask.handlers.telemetry import emit, emit_handshake, emit_refusal, emit_secret_faults
from oncetask.models import ErrorInfo, Result, Status, Trigger, rejection, results_document, told_to_others
from oncetask.routing.events import Origin, events_of_route
from oncetask.routing.routes import Route
from oncetask.webhooks.body import parse
from oncetask.webhooks.handshakes import allowed_origin, answer_to
from oncetask.webhooks.http import Delivery, Reply
from oncetask.webhooks.schemes import verify
from oncetask.webhooks.verification import Scheme, Verdict

if TYPE_CHECKING:  # a stranger costs little: neither is imported before there is something to record
    from oncetask.ledger.records import Event
    from oncetask.submit.report import Report

BODY_BYTES = 256 * 1024
ITEMS = 500
LAST_CALL_S = 2.0
"""No call begins later than this after the delivery came: the shortest deadline of a sender is 3 s."""
RETRY_AFTER_S = 30

_app = start()


def handler(event: Any, context: Any) -> dict[str, Any]:  # noqa: ANN401 - AWS hands over any JSON
    """AWS's entry: the answer in the event's own format, always."""
    return answer(_app, event, _app.deadline(remaining_ms(context)))


def answer(app: App, event: object, deadline: Deadline) -> dict[str, Any]:
    """The delivery handled, logged and counted: the answer in the event's own format."""
    outcome = handle(app, event, deadline)
    _emit(app, outcome)
    return outcome.reply().answer_to(event)


def _emit(app: App, outcome: "Accepted | Answered | Refusal") -> None:
    if isinstance(outcome, Refusal):
        is_counted = outcome.error.code != Code.SECRET_UNAVAILABLE or _is_to_be_told(app, outcome.route)
        emit_refusal(
            outcome.error,
            app.settings,
            route=outcome.route,
            reason=outcome.reason,
            is_counted=is_counted,
        )
        return
    if outcome.secret_faults and _is_to_be_told(app, outcome.route):
        emit_secret_faults(outcome.secret_faults, app.settings, route=outcome.route)
    if isinstance(outcome, Answered):
        emit_handshake(app.settings, route=outcome.route, handshake=outcome.handshake)
    else:
        emit(outcome.report, app.settings)


def _is_to_be_told(app: App, route: str | None) -> bool:
    return app.secret_values.is_to_be_told(route or "")


def handle(app: App, event: object, deadline: Deadline) -> "Accepted | Answered | Refusal":
    """What becomes of a delivery; nothing is raised that a sender, the ledger or a secret can cause."""
    last_call = Deadline.after(LAST_CALL_S, app.clock)
    route: Route | None = None
    try:
        delivery = Delivery.of(event)
        route = webhook_route(app, delivery)
        if answered := _answered_options(app, delivery, route):
            return answered
        request = understood(app, delivery, route)
        if answered := _answered(request):
            return answered
        drafts = _drafts(app, request)
        report = app.submitter.submit(drafts, deadline=deadline, last_call=last_call, may_be_full=True)
    except (Rejection, Unavailable) as error:
        return Refusal.of(error, route)
    return Accepted(
        report, request.route.name, request.secret_faults, knows_only_200=request.scheme.scheme == "slack"
    )


# -- outcomes -------------------------------------------------------------------------------------


class Unverified(Rejection):
    """Nothing vouches for the delivery. `reason`, one constant word, is for our own log alone."""

    def __init__(self, reason: str) -> None:
        super().__init__(Code.UNVERIFIED, "the delivery could not be verified for a route of that name")
        self.reason = reason


class Refusal(NamedTuple):
    """A delivery that became no event. `route` is the one it named, where there is such a route."""

    error: ErrorInfo
    route: str | None
    reason: str

    @classmethod
    def of(cls, error: Rejection | Unavailable, route: Route | None) -> "Refusal":
        """What the error means; a failing service's own code stays in the words for our log."""
        if isinstance(error, Unavailable):
            info = ErrorInfo(kind=Kind.OPERATOR, code=error.default_code, message=error.message)
        else:
            info = ErrorInfo(kind=Kind.SENDER, code=error.code, message=error.message)
        reason = error.reason if isinstance(error, Unverified) else error.message
        return cls(info, route.name if route else None, reason)

    @property
    def status(self) -> HTTPStatus:
        """By the code alone; Slack, too, is told: nothing was accepted, and a 503 it delivers again."""
        return _STATUS_OF_CODE[self.error.code]

    def reply(self) -> Reply:
        """What the sender is told."""
        error = _for_sender(self.error.model_dump(mode="json"))
        return Reply(
            self.status,
            _json({"results": [], "counts": {}, "error": error}),
            _HEADERS_OF_STATUS.get(self.status, {}),
        )


class Accepted(NamedTuple):
    """A verified delivery and what became of its items.

    `knows_only_200`: the sender is Slack, which shows its user every other answer as a failure of
    the command that was given, although the event is recorded and accounted for.
    """

    report: "Report"
    route: str
    secret_faults: tuple[str, ...]
    knows_only_200: bool

    def reply(self) -> Reply:
        """What the sender is told."""
        documents = [told_to_others(result.document()) for result in self.report.results]
        for document in documents:
            document["error"] = _for_sender(document["error"])
        status = HTTPStatus.OK if self.knows_only_200 else _status_of(self.report.results)
        return Reply(status, _json(results_document(documents)))


class Answered(NamedTuple):
    """A verified handshake: no event, and the one answer that may hold a signature."""

    route: str
    handshake: str
    secret_faults: tuple[str, ...]
    body: str
    headers: Mapping[str, str] = MappingProxyType({})

    def reply(self) -> Reply:
        """What the sender is told, in its own form."""
        return Reply(HTTPStatus.OK, self.body, self.headers)


_STATUS_OF_CODE: dict[str, HTTPStatus] = {
    Code.EVENT_NOT_UNDERSTOOD: HTTPStatus.BAD_REQUEST,
    Code.METHOD: HTTPStatus.METHOD_NOT_ALLOWED,
    Code.BODY_TOO_LARGE: HTTPStatus.CONTENT_TOO_LARGE,
    Code.UNVERIFIED: HTTPStatus.UNAUTHORIZED,
    Code.SECRET_UNAVAILABLE: HTTPStatus.SERVICE_UNAVAILABLE,
    Code.MEDIA_TYPE: HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    Code.BODY_UNREADABLE: HTTPStatus.BAD_REQUEST,
    Code.TOO_MANY_ITEMS: HTTPStatus.CONTENT_TOO_LARGE,
    Code.LEDGER_UNAVAILABLE: HTTPStatus.SERVICE_UNAVAILABLE,
    Code.TOO_MANY_OPEN: HTTPStatus.SERVICE_UNAVAILABLE,
}

_HEADERS_OF_STATUS = {
    HTTPStatus.METHOD_NOT_ALLOWED: {"allow": "POST"},
    HTTPStatus.SERVICE_UNAVAILABLE: {"retry-after": str(RETRY_AFTER_S)},
}


def _status_of(results: list[Result]) -> HTTPStatus:
    """The status that tells the sender most: what is still open, then what was made, then what never will.

    An event that was given up (`failed`) is settled for its sender as a duplicate is: 200.
    """
    statuses = {result.status for result in results}
    if statuses & {Status.PENDING, Status.UNKNOWN}:
        return HTTPStatus.ACCEPTED
    if Status.CREATED in statuses:
        return HTTPStatus.CREATED
    return HTTPStatus.UNPROCESSABLE_CONTENT if Status.REJECTED in statuses else HTTPStatus.OK


def _for_sender(error: dict[str, Any] | None) -> dict[str, Any] | None:
    """What a sender may know of an error: the words only where the sender must act."""
    if error is None or error["kind"] == Kind.SENDER:
        return error
    return error | {"message": None, "http_status": None, "request_id": None}


def _json(document: dict[str, Any]) -> str:
    """ASCII alone, which every front carries unchanged."""
    return json.dumps(document, separators=(",", ":"), allow_nan=False)


# -- from delivery to drafts ----------------------------------------------------------------------


class VerifiedDelivery(NamedTuple):
    """A delivery that its route's scheme vouches for, and its payload."""

    route: Route
    scheme: Scheme
    verdict: Verdict
    payload: Any
    body: bytes
    headers: Mapping[str, str | None] = MappingProxyType({})
    secret_faults: tuple[str, ...] = ()

    @property
    def body_id(self) -> str:
        """What stands for the id of a delivery that has none."""
        return f"sha256-{hashlib.sha256(self.body).hexdigest()}"

    @property
    def delivery_id(self) -> str:
        """The sender's id, else the body's."""
        return self.verdict.delivery_id or self.body_id


def webhook_route(app: App, delivery: Delivery) -> Route | None:
    """The webhook's route that the path names; None where there is none."""
    route = app.routes.get(delivery.route or "")
    return route if route is not None and route.trigger is Trigger.WEBHOOK else None


def understood(app: App, delivery: Delivery, route: Route | None) -> VerifiedDelivery:
    """The delivery, verified and then parsed. Raises Rejection, SecretUnavailable."""
    if delivery.method != "POST":
        raise Rejection(Code.METHOD, "a webhook is delivered by POST")
    body = delivery.body or b""
    if len(body) > BODY_BYTES:
        raise _too_large()
    if route is None or route.verify is None:
        raise Unverified("no-route")
    verdict, faults = _verdict(app, delivery, route.verify)
    if delivery.body is None:
        raise Rejection(Code.BODY_UNREADABLE, "the body cannot be decoded")
    payload = parse(body, delivery.headers, route.media)
    headers = {name: delivery.header(name) for name in route.headers}
    return VerifiedDelivery(route, route.verify, verdict, payload, body, headers, faults)


def _answered_options(app: App, delivery: Delivery, route: Route | None) -> Answered | None:
    """The answer to an origin that asks whether it may deliver CloudEvents.

    Raises Rejection, SecretUnavailable.
    """
    if delivery.method != "OPTIONS" or route is None or route.verify is None:
        return None
    if route.verify.handshake != "cloudevents":
        return None
    if len(delivery.body or b"") > BODY_BYTES:
        raise _too_large()
    _, faults = _verdict(app, delivery, route.verify)
    headers = allowed_origin(delivery.header("webhook-request-origin"))
    if headers is None:
        raise Rejection(Code.EVENT_NOT_UNDERSTOOD, "WebHook-Request-Origin must be a host's name")
    return Answered(route.name, "cloudevents", faults, "", headers)


def _answered(request: VerifiedDelivery) -> Answered | None:
    handshake = request.scheme.handshake
    told = answer_to(handshake, request.payload, request.verdict.key)
    if handshake is None or told is None:
        return None
    return Answered(request.route.name, handshake, request.secret_faults, _json(told))


def _too_large() -> Rejection:
    return Rejection(Code.BODY_TOO_LARGE, f"the body has over {BODY_BYTES} bytes")


def _verdict(app: App, delivery: Delivery, scheme: Scheme) -> tuple[Verdict, tuple[str, ...]]:
    """The verdict that it holds, and which of the route's secrets are at fault.

    Raises Unverified; but SecretUnavailable where a secret that could not be read might have verified it.
    What is not well formed reads no secret.
    """

    def verdict_by(secrets: tuple[bytes, ...]) -> Verdict:
        return verify(
            scheme,
            secrets=secrets,
            headers=delivery.headers,
            query=delivery.query,
            body=delivery.body or b"",
            now_s=app.clock.now_s(),
        )

    shape = verdict_by(())
    if not shape.is_well_formed:
        raise Unverified(shape.reason or "refused")
    found = app.secret_values.find(scheme.secrets, scheme.key_of)
    verdict = verdict_by(found.values)
    if not verdict.verified:
        raise found.missing or Unverified(verdict.reason or "refused")
    return verdict, found.faults


def drafts_of(request: VerifiedDelivery, delivery_id: str, now_s: float) -> "list[Event | Result]":
    """What the delivery asks for under that id. Raises Rejection TooManyItems."""
    route = request.route
    origin = Origin(
        Trigger.WEBHOOK,
        f"webhook:{route.name}:{delivery_id}",
        route.name,
        now_s,
        by_body_hash=delivery_id == request.body_id,
    )
    try:
        return events_of_route(route, request.payload, origin, headers=request.headers, most_items=ITEMS)
    except Rejection as error:
        if error.code is Code.TOO_MANY_ITEMS:
            raise
        event_id = origin.bounded(origin.base_id)
        return [rejection(error, trigger=Trigger.WEBHOOK, route=route.name, event_id=event_id, now_s=now_s)]


def _drafts(app: App, request: VerifiedDelivery) -> "list[Event | Result]":
    """Under the delivery's own id; under an earlier one, where the same signed bytes came with that before,
    it is still bound, and they do not hold the id. Raises Rejection TooManyItems, LedgerUnavailable.
    """
    now_s = app.clock.now_s()
    drafts = drafts_of(request, request.delivery_id, now_s)
    route, digest = request.route, request.verdict.signature_digest
    if digest is None or route.id is not None or all(isinstance(draft, Result) for draft in drafts):
        return drafts

    def is_bound(earlier_id: str) -> bool:
        ids = [draft.event_id for draft in drafts_of(request, earlier_id, now_s)]
        events = app.ledger.events(event_id for event_id in ids if event_id is not None)
        return any(not event.frees_its_id for event in events)

    ends_s = now_s + app.settings.look_s + route.longest_bound_s()
    delivery_id = app.ledger.delivery_of_signed_bytes(
        route.name, digest, request.delivery_id, ends_s, is_bound
    )
    return drafts if delivery_id == request.delivery_id else drafts_of(request, delivery_id, now_s)
