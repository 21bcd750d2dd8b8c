"""What senders' own libraries sign is accepted as it is; what they would refuse is refused."""

import json
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from standardwebhooks import Webhook

from oncetask.app import App
from oncetask.clock import Deadline
from oncetask.handlers import webhook
from tests.conftest import MakeApp

HERE = Path(__file__).parent
WHSEC = "whsec_" + "c2FtcGxlLWtleS1vZi1jaGVjay1ob3N0"
GITHUB_SECRET = "It's a Secret to Everybody, blåbær"
TEXTS = ("plain", "blåbær, 日本語, \U0001f600", 'a "quoted" \\ slash', "\u2028\u0000\u00a0")
ROUTES = """
[routes.standard]
trigger = "webhook"
task_type = "IMAGE_SCAN"
param_from = {said = "said"}
verify = {scheme = "standard-webhooks", secrets = ["env:WHSEC"]}

[routes.github]
trigger = "webhook"
task_type = "IMAGE_SCAN"
param_from = {said = "said"}
verify = {scheme = "github", secrets = ["env:GITHUB_SECRET"]}
"""


@pytest.fixture
def app(make_app: MakeApp) -> App:
    """An app that knows the senders' secrets."""
    return make_app(ROUTES, WHSEC=WHSEC, GITHUB_SECRET=GITHUB_SECRET)


def bodies() -> list[str]:
    """A JSON body for each text, written as senders do: as UTF-8, not escaped."""
    return [json.dumps({"said": text}, ensure_ascii=False) for text in TEXTS]


def delivered(app: App, route: str, body: str, headers: dict[str, str]) -> tuple[int, dict[str, Any]]:
    """Status and document that the sender gets from a function URL."""
    event = {
        "version": "2.0",
        "rawPath": f"/webhooks/{route}",
        "headers": {"content-type": "application/json", **headers},
        "requestContext": {"http": {"method": "POST", "path": f"/webhooks/{route}"}},
        "body": body,
        "isBase64Encoded": False,
    }
    answer = webhook.handle(app, event, Deadline.after(30, app.clock)).reply().answer_to(event)
    return answer["statusCode"], json.loads(answer["body"])


def standard_headers(app: App, body: str, id_: str, *, old_s: float = 0) -> dict[str, str]:
    """What the Standard Webhooks library of the sender makes."""
    sent_at = datetime.fromtimestamp(app.clock.now_s() - old_s, UTC)
    return {
        "webhook-id": id_,
        "webhook-timestamp": str(int(sent_at.timestamp())),
        "webhook-signature": Webhook(WHSEC).sign(id_, sent_at, body),
    }


def github_signatures(node_tools: Path, bodies: list[str]) -> list[str]:
    """What GitHub's own library makes of the bodies."""
    done = subprocess.run(
        ["node", HERE / "octokit_signing_driver.mjs", node_tools, GITHUB_SECRET, *bodies],  # noqa: S607
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    signatures: list[str] = json.loads(done.stdout)
    return signatures


def test_what_the_standard_webhooks_library_signs_is_accepted(app: App) -> None:
    """Bodies that are not ASCII included; the text arrives as it was sent."""
    for number, body in enumerate(bodies()):
        status, document = delivered(app, "standard", body, standard_headers(app, body, f"msg_{number}"))

        (result,) = document["results"]
        assert (status, result["event_id"]) == (201, f"webhook:standard:msg_{number}")
        assert result["request"]["Param"] == {"said": TEXTS[number]}


def test_what_the_library_of_another_secret_signs_is_refused(app: App) -> None:
    """And so is what it has signed too long ago."""
    body = bodies()[1]
    foreign = standard_headers(app, body + " ", "msg_1")
    old = standard_headers(app, body, "msg_1", old_s=302)

    statuses = [delivered(app, "standard", body, headers)[0] for headers in (foreign, old)]

    assert statuses == [401, 401]


def test_what_githubs_library_signs_is_accepted(app: App, node_tools: Path) -> None:
    """Bodies and secrets that are not ASCII included; the text arrives as it was sent."""
    sent = [body for body, text in zip(bodies(), TEXTS, strict=True) if "\0" not in text]

    signatures = github_signatures(node_tools, sent)

    for number, (body, signature) in enumerate(zip(sent, signatures, strict=True)):
        headers = {"x-hub-signature-256": signature, "x-github-delivery": f"guid-{number}"}
        status, document = delivered(app, "github", body, headers)
        (result,) = document["results"]
        assert (status, result["event_id"]) == (201, f"webhook:github:guid-{number}")
        assert result["request"]["Param"] == {"said": TEXTS[number]}


def test_a_signature_of_githubs_library_is_for_its_body_alone(app: App, node_tools: Path) -> None:
    """Another body with the same signature is refused."""
    first, second, *_ = bodies()

    (signature, _) = github_signatures(node_tools, [first, second])

    assert delivered(app, "github", second, {"x-hub-signature-256": signature})[0] == 401
