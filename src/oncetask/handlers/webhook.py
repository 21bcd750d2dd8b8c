"""One verified HTTP delivery becomes its route's requests.

Checked in this order, so that a stranger costs little and learns nothing: method, size, verification
(an unknown route looks like a failed one), media type, body, number of items; then everything is
recorded, and only then is anything asked.
"""

import hashlib
import json
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, NamedTuple

from oncetask.app import App, remaining_ms, start
from oncetask.clock import Deadline
from oncetask.errors import Code, Kind, LedgerUnavailable, Rejection, SecretUnavailable, Unavailable
from oncetask.handlers.telemetry import emit, emit_refusal
from oncetask.models import ErrorInfo, Result, Status, Trigger, rejection, results_document, told_to_others
from oncetask.routing.routes import Origin, Route, events_of_route
from oncetask.webhooks.body import parse
from oncetask.webhooks.http import Delivery, Reply
from oncetask.webhooks.schemes import Scheme, Verdict, verify

if TYPE_CHECKING:  # a stranger costs little: neither is imported before there is something to record
    from oncetask.ledger.records import Event
    from oncetask.submit.submit import Report

BODY_BYTES = 256 * 1024
ITEMS = 500
LAST_ASK_S = 2.0
"""No ask begins later than this after the delivery came: the shortest deadline of a sender is 3 s."""
RETRY_AFTER_S = 30

_app = start()


def handler(event: Any, context: Any) -> dict[str, Any]:  # noqa: ANN401 - AWS hands over any JSON
    """AWS's entry: the answer in the event's own format, always."""
    return answer(_app, event, _app.deadline(remaining_ms(context)))


def answer(app: App, event: object, deadline: Deadline) -> dict[str, Any]:
    """The delivery handled, logged and counted: the answer in the event's own format."""
    outcome = handle(app, event, deadline)
    if isinstance(outcome, Refusal):
        emit_refusal(outcome.error, app.settings, route=outcome.route, reason=outcome.reason)
    else:
        emit(outcome.report, app.settings)
    return outcome.reply().answer_to(event)


def handle(app: App, event: object, deadline: Deadline) -> "Accepted | Refusal":
    """What becomes of a delivery; nothing is raised that a sender, the ledger or a secret can cause."""
    last_ask = Deadline.after(LAST_ASK_S, app.clock)
    route: Route | None = None
    try:
        delivery = Delivery.of(event)
        route = webhook_route(app, delivery)
        request = understood(app, delivery, route)
        drafts = _drafts(app, request)
        report = app.submitter.submit(drafts, deadline=deadline, last_ask=last_ask)
    except (Rejection, LedgerUnavailable, SecretUnavailable) as error:
        return Refusal.of(error, route)
    return Accepted(report, knows_only_200=request.scheme.scheme == "slack")


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
    knows_only_200: bool

    def reply(self) -> Reply:
        """What the sender is told."""
        documents = [told_to_others(result.document()) for result in self.report.results]
        for document in documents:
            document["error"] = _for_sender(document["error"])
        status = HTTPStatus.OK if self.knows_only_200 else _status_of(self.report.results)
        return Reply(status, _json(results_document(documents)))


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
        raise Rejection(Code.BODY_TOO_LARGE, f"the body has over {BODY_BYTES} bytes")
    if route is None or route.verify is None:
        raise Unverified("no-route")
    verdict = _verdict(app, delivery, route.verify, body)
    if delivery.body is None:
        raise Rejection(Code.BODY_UNREADABLE, "the body cannot be decoded")
    payload = parse(delivery.header("content-type"), body)
    return VerifiedDelivery(route, route.verify, verdict, payload, body)


def _verdict(app: App, delivery: Delivery, scheme: Scheme, body: bytes) -> Verdict:
    """Raises Unverified; but SecretUnavailable where a secret that cannot be had might have verified it."""
    found = app.secret_values.find(scheme.secrets)
    verdict = verify(
        scheme,
        secrets=found.values,
        headers=delivery.headers,
        query=delivery.query,
        body=body,
        now_s=app.clock.now_s(),
    )
    if not verdict.verified:
        raise found.missing or Unverified(verdict.reason or "refused")
    return verdict


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
        return events_of_route(route, request.payload, origin, most_items=ITEMS)
    except Rejection as error:
        if error.code is Code.TOO_MANY_ITEMS:
            raise
        event_id = origin.bounded(origin.base_id)
        return [rejection(error, trigger=Trigger.WEBHOOK, route=route.name, event_id=event_id, now_s=now_s)]


def _drafts(app: App, request: VerifiedDelivery) -> "list[Event | Result]":
    """Under the delivery's own id; under an earlier one, where its signature came with that before and
    does not cover the id. Raises Rejection TooManyItems, LedgerUnavailable.
    """
    now_s = app.clock.now_s()
    drafts = drafts_of(request, request.delivery_id, now_s)
    route, digest = request.route, request.verdict.signature_digest
    if digest is None or route.id is not None or all(isinstance(draft, Result) for draft in drafts):
        return drafts
    first_id = app.ledger.first_delivery(route.name, digest, request.delivery_id, route.remembered_s())
    return drafts if first_id == request.delivery_id else drafts_of(request, first_id, now_s)
