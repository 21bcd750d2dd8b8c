"""Inputs that public reports show, each a kind that once went wrong; and the handshakes of senders."""

import base64
import hmac
import json
from collections.abc import Mapping
from typing import Any

import pytest

from oncetask.app import App
from oncetask.clock import Deadline
from oncetask.handlers import webhook
from tests.clocks import FakeClock
from tests.conftest import MakeApp
from tests.functional.test_webhook import NOW_S
from tests.hostile.fuzz import Sent, http_api, mac

SECRET = "a-secret-of-some-length"
WHSEC = "v1,whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"

ROUTES = """
[routes.github]
trigger = "webhook"
media = "form:payload"
headers = ["X-GitHub-Event"]
when = "deployment_status.state == 'success' && \\"@headers\\".\\"x-github-event\\" == 'deployment_status'"
task_type = "ASSETS_COLLECTION"
param = {items = "PORT_SNAPSHOT"}
verify = {scheme = "github", secrets = ["env:S"]}

[routes.plain]
trigger = "webhook"
when = "status == 'firing'"
task_type = "CLIENT_PROBLEM_CHECK"
targets = "uuid"
param = {mode = 1, problemType = "offline"}
verify = {scheme = "bearer", secrets = ["env:S"]}

[routes.supabase]
trigger = "webhook"
task_type = "ASSETS_COLLECTION"
param = {items = "PORT_SNAPSHOT"}
verify = {scheme = "standard-webhooks", secrets = ["env:WHSEC"]}

[routes.pagerduty]
trigger = "webhook"
id = "event.id"
task_type = "ASSETS_COLLECTION"
param = {items = "PORT_SNAPSHOT"}
[routes.pagerduty.verify]
scheme = "hmac"
header = "x-pagerduty-signature"
prefix = "v1="
separator = ","
secrets = ["env:S"]

[routes.sns]
trigger = "webhook"
id = "MessageId"
task_type = "CLIENT_PROBLEM_CHECK"
targets = "parse_json(Message).uuid"
param = {mode = 1, problemType = "offline"}
verify = {scheme = "token", parameter = "token", secrets = ["env:S"]}

[routes.eventgrid]
trigger = "webhook"
each = "@"
id = "id"
task_type = "ASSETS_COLLECTION"
param = {items = "PORT_SNAPSHOT"}
verify = {scheme = "token", parameter = "token", secrets = ["env:S"], handshake = "event-grid"}

[routes.slack]
trigger = "webhook"
when = "type == 'event_callback'"
task_type = "ASSETS_COLLECTION"
param = {items = "PORT_SNAPSHOT"}
verify = {scheme = "slack", secrets = ["env:S"]}

[routes.zoom]
trigger = "webhook"
task_type = "ASSETS_COLLECTION"
param = {items = "PORT_SNAPSHOT"}
[routes.zoom.verify]
scheme = "hmac"
header = "x-zm-signature"
prefix = "v0="
timestamp_header = "x-zm-request-timestamp"
signed = "v0:{timestamp}:{body}"
secrets = ["env:OLD", "env:S"]
handshake = "zoom"

[routes.ce]
trigger = "webhook"
task_type = "CLIENT_PROBLEM_CHECK"
targets = "uuid"
param = {mode = 1, problemType = "offline"}
[routes.ce.verify]
scheme = "bearer"
secrets = ["env:S"]
id_header = ["ce-source", "ce-id"]
handshake = "cloudevents"

[routes.unset]
trigger = "webhook"
task_type = "ASSETS_COLLECTION"
param = {items = "PORT_SNAPSHOT"}
verify = {scheme = "github", secrets = ["env:SHORT"]}
"""

BEARER = {"authorization": f"Bearer {SECRET}"}
JSON = {"content-type": "application/json"}
FORM = {"content-type": "application/x-www-form-urlencoded"}


@pytest.fixture
def app(make_app: MakeApp) -> App:
    """An app with these routes."""
    secrets = {"S": SECRET, "OLD": "another-secret-that-was", "WHSEC": WHSEC, "SHORT": "seven77"}
    return make_app(ROUTES, clock=FakeClock(), **secrets)


def answer(app: App, sent: Sent) -> tuple[int, Mapping[str, str], Any]:
    """Status, headers and document that the sender gets."""
    told = webhook.handle(app, http_api(sent), Deadline.after(30, app.clock)).reply()
    return int(told.status), told.headers, json.loads(told.body or "null")


def one(app: App, sent: Sent) -> dict[str, Any]:
    """The one result of a delivery."""
    (result,) = answer(app, sent)[2]["results"]
    found: dict[str, Any] = result
    return found


def github(body: bytes, **headers: str) -> Sent:
    """A form as GitHub signs it."""
    proof = {"x-hub-signature-256": f"sha256={mac(SECRET, body).hex()}", "x-github-delivery": "d1"}
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Sent("github", body, {**FORM, **proof, **named})


GITHUB_FORM = b"payload=%7B%22deployment_status%22%3A%7B%22state%22%3A%22success%22%7D%7D"


def test_githubs_form_is_read_where_the_route_says_so(app: App) -> None:
    """Its default content type; the event's type stands in a header, null where it is not sent."""
    assert one(app, github(GITHUB_FORM))["status"] == "ignored"
    assert one(app, github(GITHUB_FORM, x_github_event="deployment_status"))["status"] == "created"


def test_a_signed_body_cannot_be_read_in_another_way(app: App) -> None:
    """JSON under a form's content type, as curl's `-d` sends it, is told what it looks like."""
    status, _, document = answer(
        app, Sent("plain", b'{"status":"firing","uuid":"inet-1"}', {**FORM, **BEARER})
    )

    assert status == 415
    assert "the body is JSON, the header says form" in document["error"]["message"]


def test_headers_stand_beside_an_object_alone(app: App) -> None:
    """A payload that is none is rejected."""
    result = one(app, github(b"payload=%5B%5D", x_github_event="deployment_status"))

    assert (result["status"], result["error"]["code"]) == ("rejected", "ExpressionFailed")


def test_a_lone_surrogate_stops_nothing(app: App) -> None:
    """It stands in a field that nobody uses."""
    body = rb'{"status":"firing","uuid":"inet-1","log":"caf\udce9 and a cut emoji \ud83d"}'

    assert one(app, Sent("plain", body, {**JSON, **BEARER}))["status"] == "created"


def test_a_secret_may_begin_with_its_version(app: App) -> None:
    """As one sender's page shows it, to be copied."""
    key = base64.b64decode(WHSEC.removeprefix("v1,whsec_"))
    proof = base64.b64encode(hmac.digest(key, f"m1.{int(NOW_S)}.".encode() + b"{}", "sha256")).decode()
    headers = {"webhook-id": "m1", "webhook-timestamp": str(int(NOW_S)), "webhook-signature": f"v1,{proof}"}

    assert one(app, Sent("supabase", b"{}", {**JSON, **headers}))["status"] == "created"


def test_pagerduty_signs_with_both_secrets_while_it_rotates(app: App) -> None:
    """One of its signatures is enough."""
    body = b'{"event":{"id":"01DFGH"}}'
    proofs = f"v1={'0' * 64},v1={mac(SECRET, body).hex()}"

    assert one(app, Sent("pagerduty", body, {**JSON, "x-pagerduty-signature": proofs}))["status"] == "created"


def test_sns_sends_json_as_text_and_json_inside_json(app: App) -> None:
    """Its content type is `text/plain`."""
    body = json.dumps({"MessageId": "22b80b92", "Message": '{"uuid": "inet-1"}'}).encode()
    sent = Sent("sns", body, {"content-type": "text/plain; charset=UTF-8"}, {"token": SECRET})

    assert one(app, sent)["request"]["Param"]["uuids"] == "inet-1"


def test_two_binary_cloudevents_of_equal_data_are_two_events(app: App) -> None:
    """Their ids stand in headers."""
    made = [
        one(app, Sent("ce", b'{"uuid":"inet-1"}', {**JSON, **BEARER, "ce-source": "/a", "ce-id": id_}))
        for id_ in ("A1", "A2")
    ]

    assert [result["event_id"] for result in made] == ["webhook:ce:/a/A1", "webhook:ce:/a/A2"]


# -- handshakes -----------------------------------------------------------------------------------


def timed(route: str, prefix: str, body: bytes) -> Sent:
    """A delivery as Slack and Zoom sign it."""
    proof = "v0=" + mac(SECRET, f"v0:{int(NOW_S)}:".encode() + body).hex()
    return Sent(
        route, body, {**JSON, f"{prefix}-signature": proof, f"{prefix}-request-timestamp": str(int(NOW_S))}
    )


def test_slack_is_told_its_challenge(app: App) -> None:
    """And no event is made."""
    sent = timed("slack", "x-slack", b'{"challenge":"3eZbrw1a","type":"url_verification"}')

    assert answer(app, sent)[::2] == (200, {"challenge": "3eZbrw1a"})


def test_zoom_is_told_its_token_signed_by_the_secret_that_verified(app: App) -> None:
    """Not by the first of the list."""
    sent = timed("zoom", "x-zm", b'{"event":"endpoint.url_validation","payload":{"plainToken":"qgg8-vlv_"}}')

    assert answer(app, sent)[::2] == (
        200,
        {"plainToken": "qgg8-vlv_", "encryptedToken": mac(SECRET, b"qgg8-vlv_").hex()},
    )


def test_nothing_but_a_plain_token_is_signed_for_zoom(app: App) -> None:
    """Else a sender could have a delivery to somebody else signed."""
    sent = timed("zoom", "x-zm", b'{"event":"endpoint.url_validation","payload":{"plainToken":"v0:1:{}"}}')

    assert "encryptedToken" not in answer(app, sent)[2]


def test_event_grid_is_told_its_code(app: App) -> None:
    """Where the route names the handshake."""
    event = {
        "id": "1",
        "data": {"validationCode": "512d38b6"},
        "eventType": "Microsoft.EventGrid.SubscriptionValidationEvent",
    }
    sent = Sent("eventgrid", json.dumps([event]).encode(), JSON, {"token": SECRET})

    assert answer(app, sent)[::2] == (200, {"validationResponse": "512d38b6"})


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({**BEARER, "webhook-request-origin": "eventemitter.example.com"}, 200),
        ({**BEARER, "webhook-request-origin": "a b\r\nx: y"}, 400),
        (BEARER, 400),
        ({"webhook-request-origin": "eventemitter.example.com"}, 401),
    ],
)
def test_an_origin_of_cloudevents_is_allowed_that_is_verified(
    app: App, headers: dict[str, str], status: int
) -> None:
    """It asks by OPTIONS."""
    told, answered, _ = answer(app, Sent("ce", b"", headers, method="OPTIONS"))

    assert told == status
    if status == 200:
        assert answered == {
            "webhook-allowed-origin": "eventemitter.example.com",
            "webhook-allowed-rate": "*",
        }


def test_options_are_no_way_to_a_route_without_that_handshake(app: App) -> None:
    """They are another method than POST."""
    assert answer(app, Sent("plain", b"", BEARER, method="OPTIONS"))[0] == 405


# -- secrets that can be no key -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("signature", "status"), [("sha256=" + "0" * 64, 503), ("sha256=zz", 401), ("0" * 64, 401), (None, 401)]
)
def test_a_secret_that_is_too_short_is_the_operators_fault(
    app: App, signature: str | None, status: int
) -> None:
    """But what is not well formed is a stranger's, whatever the secrets are."""
    headers = {} if signature is None else {"x-hub-signature-256": signature}

    assert answer(app, Sent("unset", b"{}", {**JSON, **headers}))[0] == status
