"""What senders' own libraries sign is accepted as it is; what they would refuse is refused."""

import base64
import json
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import gidgetlab.sansio
import pytest
from cloudevents.core.bindings.http import HTTPMessage, to_binary_event, to_structured_event
from cloudevents.core.v1.event import CloudEvent
from slack_sdk.signature import SignatureVerifier
from standardwebhooks import Webhook

from local.cases import Case, documents
from local.emulator import Emulator
from local.events import json_delivery
from local.expectations import outcome_of
from local.tools import PROJECT
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
    """Status and document that the sender gets from an HTTP API."""
    event = json_delivery(route, body, headers)
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


def node_libraries(node_tools: Path, wanted: Sequence[Mapping[str, object]]) -> list[Any]:
    """What Node libraries make of them: signatures, or whether they verify."""
    done = subprocess.run(
        ["node", HERE / "node_signing_driver.mjs", node_tools],  # noqa: S607
        input=json.dumps(wanted),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    made: list[Any] = json.loads(done.stdout)
    return made


def github_signatures(node_tools: Path, bodies: list[str]) -> list[str]:
    """What GitHub's own library makes of the bodies."""
    library = {"library": "@octokit/webhooks-methods", "secret": GITHUB_SECRET}
    return node_libraries(node_tools, [library | {"body": body} for body in bodies])


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


# -- the documents of docs/senders.md, signed by their senders' libraries --------------------------

SENT_S = 1795496400
"""When the documents were signed."""
SIGNED: Mapping[str, tuple[str, str]] = {
    "github": ("@octokit/webhooks-methods", "x-hub-signature-256"),
    "slack": ("slack-sdk", "x-slack-signature"),
    "standard-webhooks": ("standardwebhooks", "webhook-signature"),
    "stripe-like": ("stripe", "stripe-signature"),
}
"""By the route: the library, and the header that it makes."""
SVIX = ("svix", "svix-signature")


def documents_of(*routes: str) -> list[Path]:
    """The documents that are sent to them."""
    found = (path for path in documents() if path.parent.name == "senders")
    return [path for path in found if Case.at(path).event["pathParameters"]["route"] in routes]


each_signed_document = pytest.mark.parametrize("path", documents_of(*SIGNED), ids=lambda path: path.stem)


def body_of(event: Mapping[str, Any]) -> str:
    """The body as it was sent."""
    return base64.b64decode(event["body"]).decode() if event["isBase64Encoded"] else str(event["body"])


def signed_by_library(case: Case, node_tools: Path) -> dict[str, str]:
    """The header that the sender's own library makes for the document."""
    event, (secret,) = case.event, case.told["environment"].values()
    route, body = event["pathParameters"]["route"], body_of(event)
    library, header = SVIX if SVIX[1] in event["headers"] else SIGNED[route]
    id_ = event["headers"].get(header.replace("signature", "id"), "")
    sent_s = int(event["headers"].get(header.replace("signature", "timestamp"), SENT_S))
    if library == "slack-sdk":
        made = SignatureVerifier(secret).generate_signature(timestamp=str(SENT_S), body=body)
        return {header: made or ""}
    if library == "standardwebhooks":
        return {header: Webhook(secret).sign(id_, datetime.fromtimestamp(sent_s, UTC), body)}
    wanted = {"library": library, "secret": secret, "body": body, "id": id_, "sent_s": sent_s}
    return {header: node_libraries(node_tools, [wanted])[0]}


def with_headers(case: Case, headers: Mapping[str, str]) -> Case:
    """The same delivery with other headers."""
    return replace(case, event=case.event | {"headers": case.event["headers"] | headers})


def with_body(case: Case, body: bytes) -> Case:
    """The same delivery with another body."""
    return replace(
        case, event=case.event | {"body": base64.b64encode(body).decode(), "isBase64Encoded": True}
    )


@each_signed_document
def test_a_senders_document_signed_by_its_library_comes_to_the_same(
    path: Path, emulator: Emulator, node_tools: Path
) -> None:
    """To what stands beside the document."""
    case = Case.at(path)
    signed = with_headers(case, signed_by_library(case, node_tools))

    assert outcome_of(signed, signed.run(emulator), emulator).differences == []


@each_signed_document
def test_a_senders_document_with_one_bit_changed_is_refused(
    path: Path, emulator: Emulator, node_tools: Path
) -> None:
    """Of its body, and of what its library has signed; but a hexadecimal digit is the same in both cases."""
    case = Case.at(path)
    signature = signed_by_library(case, node_tools)
    signed = with_headers(case, signature)
    ((header, value),) = signature.items()
    others = [text for text in with_one_bit_changed(value) if not is_same_hex(text, value)]
    changed = [with_headers(case, {header: text}) for text in others]
    changed += [with_body(signed, body) for body in bodies_with_one_bit_changed(body_of(case.event).encode())]

    with closing(case.app(emulator.url)) as app:
        let_in = [each for each in changed if status_of(app, each) != 401]

    assert changed
    assert let_in == []


def status_of(app: App, case: Case) -> int:
    """What the delivery is answered."""
    return int(webhook.handle(app, case.event, Deadline.after(30, app.clock)).reply().status)


def with_one_bit_changed(text: str) -> Iterator[str]:
    """Every text that differs from an ASCII text in one bit."""
    for at, char in enumerate(text):
        for bit in range(7):
            yield text[:at] + chr(ord(char) ^ 1 << bit) + text[at + 1 :]


def is_same_hex(text: str, value: str) -> bool:
    """Whether it is the other with a digit's case changed: the same bytes."""
    at = next(at for at, char in enumerate(text) if char != value[at])
    return text[at].lower() == value[at].lower() and value[at].lower() in "abcdef" and "v1," not in value


def bodies_with_one_bit_changed(body: bytes) -> Iterator[bytes]:
    """Two hundred of them, over the whole of it."""
    for at in range(0, len(body), max(1, len(body) // 200)):
        yield body[:at] + bytes([body[at] ^ 1 << at % 8]) + body[at + 1 :]


# -- senders whose libraries only verify -----------------------------------------------------------


def let_in_by_sentrys_library(case: Case, node_tools: Path, bodies: Sequence[bytes]) -> list[bool]:
    """Whether the bodies are, with the document's headers. There is no library of Sentry's own; this one
    writes the JSON again before it verifies, and knows no tolerance of ours.
    """
    (secret,) = case.told["environment"].values()
    asked = {"library": "@hookflo/tern", "secret": secret, "headers": case.event["headers"]}
    return [
        bool(one) for one in node_libraries(node_tools, [asked | {"body": each.decode()} for each in bodies])
    ]


@pytest.mark.parametrize("path", documents_of("sentry"), ids=lambda path: path.stem)
def test_sentrys_documents_are_let_in_as_a_library_lets_them_in(
    path: Path, emulator: Emulator, node_tools: Path
) -> None:
    """The document by both; with one bit of its text changed, by neither."""
    case = Case.at(path)
    body = body_of(case.event).encode()
    changed = [each for each in bodies_with_one_bit_changed(body) if is_text(each)]

    by_library = let_in_by_sentrys_library(case, node_tools, [body, *changed])
    with closing(case.app(emulator.url)) as app:
        by_us = [status_of(app, with_body(case, each)) != 401 for each in (body, *changed)]

    assert by_us == by_library == [True] + [False] * len(changed)


def is_text(body: bytes) -> bool:
    """Whether it is UTF-8, which is all that the library takes."""
    try:
        body.decode()
    except UnicodeDecodeError:
        return False
    return True


def gitlabs_library_lets_in(case: Case) -> bool:
    """gidgetlab, the library for GitLab's webhooks in Python: a token is all that it checks."""
    (secret,) = case.told["environment"].values()
    try:
        gidgetlab.sansio.Event.from_http(case.event["headers"], body_of(case.event).encode(), secret=secret)
    except gidgetlab.ValidationFailure:
        return False
    return True


@pytest.mark.parametrize("path", documents_of("gitlab"), ids=lambda path: path.stem)
def test_gitlabs_documents_are_let_in_as_its_library_lets_them_in(path: Path, emulator: Emulator) -> None:
    """The document by both; with one bit of its token changed, by neither."""
    case = Case.at(path)
    tokens = with_one_bit_changed(case.event["headers"]["x-gitlab-token"])
    changed = [with_headers(case, {"x-gitlab-token": token}) for token in tokens]

    by_library = [gitlabs_library_lets_in(each) for each in (case, *changed)]
    with closing(case.app(emulator.url)) as app:
        by_us = [status_of(app, each) != 401 for each in (case, *changed)]

    assert by_us == by_library == [True] + [False] * len(changed)


# -- CloudEvents, which signs nothing ---------------------------------------------------------------

TOKEN_OF = {"cloudevents": "CLOUDEVENTS_TOKEN", "cloudevents-binary": "CLOUDEVENTS_BINARY_TOKEN"}


def cloud_event(id_: str) -> CloudEvent:
    """An event of the official library."""
    attributes = {
        "id": id_,
        "source": "/hosts/watch",
        "type": "com.example.agent.offline",
        "specversion": "1.0",
        "datacontenttype": "application/json",
    }
    return CloudEvent(attributes, {"instance": "i-0004"})


@pytest.mark.parametrize(
    ("route", "made_by"), [("cloudevents", to_structured_event), ("cloudevents-binary", to_binary_event)]
)
def test_what_the_cloudevents_library_sends_is_known_by_source_and_id(
    make_app: MakeApp, route: str, made_by: Callable[[CloudEvent], HTTPMessage]
) -> None:
    """Structured and binary, by the routes of docs/senders.toml; two events of equal data are two."""
    name = TOKEN_OF[route]
    app = make_app((PROJECT / "docs" / "senders.toml").read_text(encoding="utf-8"), **{name: "made-up-token"})
    bearer = {"authorization": "Bearer made-up-token"}
    found = []
    for id_ in ("A1", "A2", "A1"):
        message = made_by(cloud_event(id_))
        headers = {key.lower(): value for key, value in message.headers.items()}
        status, document = delivered(app, route, message.body.decode(), headers | bearer)
        found.append((status, document["results"][0]["event_id"]))

    assert found == [(202, f"webhook:{route}:/hosts/watch/{id_}") for id_ in ("A1", "A2", "A1")]


@pytest.mark.parametrize("route", TOKEN_OF)
def test_a_token_with_one_bit_changed_is_refused(make_app: MakeApp, route: str) -> None:
    """The token is all that vouches for a CloudEvent."""
    app = make_app(
        (PROJECT / "docs" / "senders.toml").read_text(encoding="utf-8"), **{TOKEN_OF[route]: "made-up-token"}
    )
    message = to_binary_event(cloud_event("A1"))

    statuses = {
        delivered(app, route, message.body.decode(), {"authorization": f"Bearer {token}"})[0]
        for token in with_one_bit_changed("made-up-token")
    }

    assert statuses == {401}
