"""The webhook's answer is always a verdict: `python -m tests.hostile.fuzz --deliveries 100000`.

The tests run the same generators and the same law for a few seconds; this runs the hard bodies, then
others for as long as asked, and the law of haste, which means nothing in a process that is traced. It
prints what was answered, and ends with status 1 at the first event that breaks a law.
"""

import argparse
import base64
import contextlib
import hmac
import io
import itertools
import json
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from local import events
from local.emulator import ACCESS_KEY_ID, ACCESS_KEY_SECRET, Behaviour, Emulator
from oncetask.app import App
from oncetask.clock import Deadline
from oncetask.handlers import webhook
from oncetask.handlers.webhook import BODY_BYTES
from oncetask.settings import Settings
from tests.progress import Progress

BATCH = 1000
LONGEST_S = 0.25
LOG_LINE_CHARS = 600
INVOCATION_S = 30.0
STRANGER = "st\u00f8rre-fr\u00e6mmed"
"""A word that only senders say: what we print of a refused delivery never holds it."""

SECRETS = {
    "WHSEC": "whsec_" + base64.b64encode(b"fuzz-key-0123456789-abcdef").decode(),
    "HMAC_KEY": "fuzz-hmac-key-0123456789",
    "TOKEN": "fuzz-token-0123456789",
    "BASIC": "fuzz-user:fuzz-password-0123456789",
    "BASE64_KEY": base64.b64encode(b"fuzz-base64-key-0123456789").decode(),
    "HEX_KEY": b"fuzz-hexadecimal-key-0123456789".hex(),
}

OTHER_SECRETS = {
    "WHSEC": "whsec_" + base64.b64encode(b"another-key-0123456789-abc").decode(),
    "HMAC_KEY": "another-hmac-key",
    "TOKEN": "another-token",
    "BASIC": "another-user:another-password",
    "BASE64_KEY": base64.b64encode(b"another-base64-key-01234").decode(),
    "HEX_KEY": b"another-hexadecimal-key-0123".hex(),
}

ROUTES = """
[routes.standard]
trigger = "webhook"
task_type = "CLIENT_PROBLEM_CHECK"
targets = "data.uuid"
param = {mode = 1}
param_from = {problemType = "data.problem"}
verify = {scheme = "standard-webhooks", secrets = ["env:WHSEC"]}

[routes.github]
trigger = "webhook"
each = "items"
when = "action != 'closed'"
task_type = "IMAGE_SCAN"
param_from = {image = "image", any = "any"}
verify = {scheme = "github", secrets = ["env:HMAC_KEY"]}

[routes.grafana]
trigger = "webhook"
each = "alerts"
id = "join('/', [fingerprint, startsAt])"
task_type = "CLIENT_PROBLEM_CHECK"
targets = "labels.uuid"
submit = "sweep"
param = {mode = 1, problemType = "offline"}
verify = {scheme = "grafana", secrets = ["env:HMAC_KEY"]}

[routes.slack]
trigger = "webhook"
task_type = "IDC_PROBE_SCAN"
param_from = {text = "text", payload = "@"}
verify = {scheme = "slack", secrets = ["env:HMAC_KEY"]}

[routes.hmac]
trigger = "webhook"
direct = true
allow = ["ASSETS_COLLECTION", "VUL_CHECK_TASK"]
[routes.hmac.verify]
scheme = "hmac"
secrets = ["env:HMAC_KEY"]
header = "X-Sig"
algorithm = "sha512"
encoding = "base64"
timestamp_header = "X-Time"
id_header = "X-Id"
signed = "{id}.{timestamp}.{body}"

[routes.pairs]
trigger = "webhook"
media = "form"
task_type = "IDC_PROBE_SCAN"
param_from = {text = "text"}
[routes.pairs.verify]
scheme = "hmac"
secrets = ["env:HMAC_KEY"]
header = "X-Pairs"
fields = {time = "t", signature = "v1"}
signed = "{timestamp}.{body}"
handshake = "zoom"

[routes.bearer]
trigger = "webhook"
id = "id"
task_type = "AI_SECURITY_CHECK"
param_from = {value = "value"}
verify = {scheme = "bearer", secrets = ["env:TOKEN"]}

[routes.basic]
trigger = "webhook"
task_type = "ASSET_SECURITY_CHECK"
param_from = {value = "length(value)"}
verify = {scheme = "basic", secrets = ["env:BASIC"]}

[routes.token]
trigger = "webhook"
task_type = "ATTACK_SURFACE_SCAN"
verify = {scheme = "token", parameter = "token", secrets = ["env:TOKEN"]}

[routes.anyone]
trigger = "webhook"
task_type = "ASSET_EXPOSURE_SCAN"
param_from = {text = "text"}
verify = {scheme = "none"}

[routes.rotating]
trigger = "webhook"
id = "event.id"
task_type = "IDC_PROBE_SCAN"
param_from = {text = "event.text"}
submit = "sweep"
[routes.rotating.verify]
scheme = "hmac"
secrets = ["env:HMAC_KEY"]
header = "X-Rotating"
prefix = "v1="
separator = ","

[routes.keyed]
trigger = "webhook"
task_type = "IDC_PROBE_SCAN"
param_from = {inner = "parse_json(text)"}
[routes.keyed.verify]
scheme = "hmac"
secrets = ["env:BASE64_KEY"]
key = "base64"
encoding = "base64"
header = "X-Keyed"
timestamp_header = "X-Keyed-Time"
timestamp_format = "milliseconds"
id_header = ["X-Keyed-Source", "X-Keyed-Id"]
signed = "{timestamp}.{body}"

[routes.dated]
trigger = "webhook"
media = "form:payload"
headers = ["X-Kind"]
when = "\\"@headers\\".\\"x-kind\\" != 'other'"
task_type = "IDC_PROBE_SCAN"
param_from = {text = "text"}
[routes.dated.verify]
scheme = "hmac"
secrets = ["env:HEX_KEY"]
key = "hex"
header = "X-Dated"
timestamp_header = "X-Dated-Time"
timestamp_format = "rfc3339"
signed = "{timestamp}:{body}"

[routes.zoom]
trigger = "webhook"
when = "event != 'endpoint.url_validation'"
task_type = "IDC_PROBE_SCAN"
param_from = {text = "text"}
[routes.zoom.verify]
scheme = "hmac"
secrets = ["env:HMAC_KEY"]
header = "X-Zm-Signature"
prefix = "v0="
timestamp_header = "X-Zm-Request-Timestamp"
signed = "v0:{timestamp}:{body}"
handshake = "zoom"

[routes.event-grid]
trigger = "webhook"
each = "@"
task_type = "ATTACK_SURFACE_SCAN"
verify = {scheme = "token", header = "X-Grid-Key", secrets = ["env:TOKEN"], handshake = "event-grid"}

[routes.cloudevents]
trigger = "webhook"
headers = ["ce-type"]
task_type = "AI_SECURITY_CHECK"
param_from = {value = "value", type = "\\"@headers\\".\\"ce-type\\""}
[routes.cloudevents.verify]
scheme = "bearer"
secrets = ["env:TOKEN"]
id_header = ["ce-source", "ce-id"]
handshake = "cloudevents"

[routes.tick]
trigger = "timer"
task_type = "IMAGE_SCAN"
"""


# -- deliveries that are sent as they should be ---------------------------------------------------


@dataclass(frozen=True, slots=True)
class Sent:
    """What a sender puts on the wire. `proofs` are the header values that nobody else may see."""

    route: str
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)
    query: Mapping[str, str] = field(default_factory=dict)
    method: str = "POST"
    prefix: str = ""
    proofs: tuple[str, ...] = ()

    @property
    def path(self) -> str:
        """Where it is sent."""
        return f"{self.prefix}/webhooks/{self.route}"

    def but(self, **headers: str | None) -> "Sent":
        """The same with other headers, `_` for `-`; None takes one away."""
        changed = {name.replace("_", "-"): value for name, value in headers.items()}
        merged = {**self.headers, **changed}
        return replace(self, headers={name: value for name, value in merged.items() if value is not None})


def mac(key: str, content: bytes, algorithm: str = "sha256") -> bytes:
    """An HMAC as senders make it."""
    return hmac.digest(key.encode(), content, algorithm)


def sign(sent: Sent, now_s: float, *, id_: str = "id-1", secrets: Mapping[str, str] = SECRETS) -> Sent:
    """The delivery with the proof that its route's scheme asks for."""
    made = _SIGNERS[sent.route](sent.body, str(int(now_s)), id_, secrets)
    proofs = tuple(value for name, value in made.items() if name in _PROOF_HEADERS)
    if sent.route == "token":
        return replace(sent, query={**sent.query, "token": secrets["TOKEN"]}, proofs=(secrets["TOKEN"],))
    return replace(sent, headers={**sent.headers, **made}, proofs=proofs)


type _Signer = Callable[[bytes, str, str, Mapping[str, str]], dict[str, str]]

_PROOF_HEADERS = frozenset(
    {
        *("webhook-signature", "x-hub-signature-256", "x-grafana-alerting-signature"),
        *("x-slack-signature", "x-sig", "x-pairs", "authorization", "x-rotating", "x-keyed"),
        *("x-dated", "x-zm-signature", "x-grid-key"),
    }
)


def _standard(body: bytes, sent_at: str, id_: str, secrets: Mapping[str, str]) -> dict[str, str]:
    key = base64.b64decode(secrets["WHSEC"].removeprefix("whsec_"))
    proof = hmac.digest(key, f"{id_}.{sent_at}.".encode() + body, "sha256")
    return {
        "webhook-id": id_,
        "webhook-timestamp": sent_at,
        "webhook-signature": "v1," + base64.b64encode(proof).decode(),
    }


def _github(body: bytes, _sent_at: str, id_: str, secrets: Mapping[str, str]) -> dict[str, str]:
    proof = mac(secrets["HMAC_KEY"], body).hex()
    return {"x-hub-signature-256": f"sha256={proof}", "x-github-delivery": id_}


def _grafana(body: bytes, _sent_at: str, _id: str, secrets: Mapping[str, str]) -> dict[str, str]:
    return {"x-grafana-alerting-signature": mac(secrets["HMAC_KEY"], body).hex()}


def _slack(body: bytes, sent_at: str, _id: str, secrets: Mapping[str, str]) -> dict[str, str]:
    proof = mac(secrets["HMAC_KEY"], f"v0:{sent_at}:".encode() + body).hex()
    return {"x-slack-signature": f"v0={proof}", "x-slack-request-timestamp": sent_at}


def _hmac(body: bytes, sent_at: str, id_: str, secrets: Mapping[str, str]) -> dict[str, str]:
    proof = mac(secrets["HMAC_KEY"], f"{id_}.{sent_at}.".encode() + body, "sha512")
    return {"x-sig": base64.b64encode(proof).decode(), "x-time": sent_at, "x-id": id_}


def _pairs(body: bytes, sent_at: str, _id: str, secrets: Mapping[str, str]) -> dict[str, str]:
    proof = mac(secrets["HMAC_KEY"], f"{sent_at}.".encode() + body).hex()
    return {"x-pairs": f"t={sent_at},v1={proof}"}


def _rotating(body: bytes, _sent_at: str, _id: str, secrets: Mapping[str, str]) -> dict[str, str]:
    earlier = mac("a-secret-that-was-rotated", body).hex()
    return {"x-rotating": f"v1={earlier},v1={mac(secrets['HMAC_KEY'], body).hex()}"}


def _keyed(body: bytes, sent_at: str, id_: str, secrets: Mapping[str, str]) -> dict[str, str]:
    sent_ms = f"{sent_at}000"
    proof = hmac.digest(base64.b64decode(secrets["BASE64_KEY"]), f"{sent_ms}.".encode() + body, "sha256")
    shown = base64.b64encode(proof).decode()
    return {"x-keyed": shown, "x-keyed-time": sent_ms, "x-keyed-source": "s", "x-keyed-id": id_}


def _dated(body: bytes, sent_at: str, _id: str, secrets: Mapping[str, str]) -> dict[str, str]:
    sent = datetime.fromtimestamp(int(sent_at), UTC).isoformat().replace("+00:00", "Z")
    proof = hmac.digest(bytes.fromhex(secrets["HEX_KEY"]), f"{sent}:".encode() + body, "sha256")
    return {"x-dated": proof.hex(), "x-dated-time": sent}


def _zoom(body: bytes, sent_at: str, _id: str, secrets: Mapping[str, str]) -> dict[str, str]:
    proof = mac(secrets["HMAC_KEY"], f"v0:{sent_at}:".encode() + body).hex()
    return {"x-zm-signature": f"v0={proof}", "x-zm-request-timestamp": sent_at}


def _event_grid(_body: bytes, _sent_at: str, _id: str, secrets: Mapping[str, str]) -> dict[str, str]:
    return {"x-grid-key": secrets["TOKEN"]}


def _cloudevents(_body: bytes, _sent_at: str, id_: str, secrets: Mapping[str, str]) -> dict[str, str]:
    return {"authorization": f"Bearer {secrets['TOKEN']}", "ce-source": "/a", "ce-id": id_, "ce-type": "t"}


def _bearer(_body: bytes, _sent_at: str, id_: str, secrets: Mapping[str, str]) -> dict[str, str]:
    return {"authorization": f"Bearer {secrets['TOKEN']}", "idempotency-key": id_}


def _basic(_body: bytes, _sent_at: str, id_: str, secrets: Mapping[str, str]) -> dict[str, str]:
    shown = base64.b64encode(secrets["BASIC"].encode()).decode()
    return {"authorization": f"Basic {shown}", "idempotency-key": id_}


def _token(_body: bytes, _sent_at: str, _id: str, _secrets: Mapping[str, str]) -> dict[str, str]:
    return {}


def _anyone(_body: bytes, _sent_at: str, id_: str, _secrets: Mapping[str, str]) -> dict[str, str]:
    return {"idempotency-key": id_}


_SIGNERS: dict[str, _Signer] = {
    "standard": _standard,
    "github": _github,
    "grafana": _grafana,
    "slack": _slack,
    "hmac": _hmac,
    "pairs": _pairs,
    "rotating": _rotating,
    "keyed": _keyed,
    "dated": _dated,
    "zoom": _zoom,
    "event-grid": _event_grid,
    "cloudevents": _cloudevents,
    "bearer": _bearer,
    "basic": _basic,
    "token": _token,
    "anyone": _anyone,
}

ROUTE_NAMES = tuple(_SIGNERS)
PROVEN = tuple(sorted({*ROUTE_NAMES} - {"anyone"}))
"""Whose deliveries can lack their proof."""
SIGNED_BY_TOKEN = frozenset({"bearer", "basic", "token", "anyone", "event-grid", "cloudevents"})
"""Whose proof, if any, covers nothing: any body, and any id, is as good as another."""
FORMS = frozenset({"pairs", "dated"})
TIMED = frozenset({"standard", "slack", "hmac", "pairs", "keyed", "dated", "zoom"})


# -- the fronts that hand them over ---------------------------------------------------------------


def _body_fields(sent: Sent, *, as_base64: bool) -> dict[str, Any]:
    """Fronts hand over what is no UTF-8 in base64, and some fronts everything."""
    try:
        text = sent.body.decode()
    except UnicodeDecodeError:
        as_base64 = True
    if as_base64:
        return {"body": base64.b64encode(sent.body).decode(), "isBase64Encoded": True}
    return {"body": text or None, "isBase64Encoded": False}


def http_api(sent: Sent, *, as_base64: bool = False) -> dict[str, Any]:
    """API Gateway HTTP API, payload format 2.0."""
    event = events.http_api(sent.path, "", sent.headers, method=sent.method, query=urlencode(sent.query))
    return event | _body_fields(sent, as_base64=as_base64)


def function_url(sent: Sent) -> dict[str, Any]:
    """A Lambda function URL, whose body may be base64 whatever it is."""
    return http_api(sent, as_base64=True) | {"routeKey": "$default"}


def rest_api(sent: Sent) -> dict[str, Any]:
    """API Gateway REST API; its header names keep the sender's case."""
    titled = {name.title(): value for name, value in sent.headers.items()}
    return {
        "resource": "/webhooks/{route}",
        "path": sent.path,
        "httpMethod": sent.method,
        "headers": titled or None,
        "multiValueHeaders": {name: [value] for name, value in titled.items()} or None,
        "queryStringParameters": dict(sent.query) or None,
        "multiValueQueryStringParameters": {name: [value] for name, value in sent.query.items()} or None,
        "requestContext": {"stage": "prod", "httpMethod": sent.method},
        **_body_fields(sent, as_base64=False),
    }


def http_api_1(sent: Sent) -> dict[str, Any]:
    """API Gateway HTTP API, payload format 1.0."""
    return {"version": "1.0", **rest_api(sent)}


_TARGET_GROUP = "arn:aws:elasticloadbalancing:eu-central-1:123456789012:targetgroup/oncetask/1"


def alb(sent: Sent) -> dict[str, Any]:
    """An Application Load Balancer; query values stay as they were sent."""
    return {
        "requestContext": {"elb": {"targetGroupArn": _TARGET_GROUP}},
        "httpMethod": sent.method,
        "path": sent.path,
        "queryStringParameters": {quote(name): quote(value) for name, value in sent.query.items()},
        "headers": dict(sent.headers),
        **(_body_fields(sent, as_base64=False) | ({} if sent.body else {"body": ""})),
    }


def alb_multi(sent: Sent) -> dict[str, Any]:
    """The same with multi-value headers switched on: then there is no single form."""
    event = alb(sent)
    query = event.pop("queryStringParameters")
    headers = event.pop("headers")
    return event | {
        "multiValueQueryStringParameters": {name: [value] for name, value in query.items()},
        "multiValueHeaders": {name: [value] for name, value in headers.items()},
    }


type Front = Callable[[Sent], dict[str, Any]]

FRONTS: Mapping[str, Front] = {
    "http-api": http_api,
    "http-api-1.0": http_api_1,
    "function-url": function_url,
    "rest-api": rest_api,
    "alb": alb,
    "alb-multi": alb_multi,
}


# -- generators -----------------------------------------------------------------------------------

_ANY_TEXT = st.text(st.characters(), max_size=20)  # lone surrogates included
_SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(-(10**60), 10**60),
    st.floats(),
    _ANY_TEXT,
)


def any_json(*, leaves: int = 12) -> st.SearchStrategy[Any]:
    """JSON data of any shape; also NaN and lone surrogates, which Python's own parser lets through."""
    return st.recursive(
        _SCALARS,
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_ANY_TEXT, inner, max_size=4),
        max_leaves=leaves,
    )


FITTING_PAYLOADS: tuple[Any, ...] = (
    {"data": {"uuid": "inet-1,inet-2", "problem": "offline"}},
    {"action": "opened", "items": [{"image": "a"}, {"image": {"b": None}}, 3]},
    {"action": "closed", "items": []},
    {"alerts": [{"fingerprint": "f", "startsAt": "2026-11-24T05:00:00Z", "labels": {"uuid": "i-1"}}]},
    {"text": "scan now"},
    {"TaskType": "ASSETS_COLLECTION", "Param": {"items": "PORT_SNAPSHOT"}},
    {"TaskType": "VUL_CHECK_TASK", "Param": '{"a": 1}', "TaskName": "n", "Source": "s"},
    {"TaskType": "CLIENT_DEV_OPS", "Param": {}},
    {"id": 7, "value": [1, 2]},
    {"id": "x" * 600, "value": "y" * 9000},
    {"items": [{}] * 501},
    {"event": {"id": "e1", "text": "now"}},
    {"text": '{"a": [1]}'},
)

HANDSHAKES: Mapping[str, Any] = {
    "slack": {"type": "url_verification", "token": "t", "challenge": "3eZbrw1aB10FEMGZAZd4FyFQ"},
    "zoom": {"event": "endpoint.url_validation", "payload": {"plainToken": "qgg8vlvZRS6UYooatFL8Aw"}},
    "event-grid": [
        {
            "id": "1",
            "eventType": "Microsoft.EventGrid.SubscriptionValidationEvent",
            "data": {"validationCode": "512d38b6-c7b8-40c8-89fe-f46f9e9622b6"},
        }
    ],
}
"""By the route, and the sender's name: how it asks whether the URL is ours."""
ORIGIN = "eventemitter.example.com"

HARD_BODIES: Mapping[str, bytes] = {
    "lists a hundred thousand deep": b"[" * 100_000 + b"]" * 100_000,
    "objects forty thousand deep": b'{"a":' * 40_000 + b"1" + b"}" * 40_000,
    "never closed": b'{"data":' * 30_000,
    "65 deep": b"[" * 65 + b"]" * 65,
    "an integer of 5,000 digits": b'{"id":' + b"9" * 5000 + b"}",
    "an integer of 4,000 digits": b'{"id":' + b"9" * 4000 + b',"value":[]}',
    "too large a float": b'{"id":1e999}',
    "NaN": b'{"id":NaN}',
    "minus infinity": b'{"id":-Infinity}',
    "a lone surrogate": rb'{"id":"\ud800","value":"\udfff"}',
    "a lone surrogate as a key": rb'{"\ud800":1}',
    "a null character": rb'{"id":"\u0000","value":"\u0000"}',
    "a key twice": b'{"id":1,"id":2,"value":"a"}',
    "a byte order mark": b'\xef\xbb\xbf{"id":"b","value":""}',
    "no UTF-8": b'{"id":"\xff\xfe"}',
    "UTF-16": '{"id":1}'.encode("utf-16"),
    "eighty thousand objects": b"[" + b"{}," * 80_000 + b"{}]",
    "thirty thousand objects of one": b"[" + b'{"":[]},' * 30_000 + b"{}]",
    "two thousand pillars": b"[" + (b"[" * 62 + b"]" * 62 + b",") * 2_000 + b"0]",
    "a long list of numbers": b'{"items":[' + b"1," * 130_000 + b"1]}",
    "many keys": b"{" + b",".join(b'"k%d":0' % n for n in range(20_000)) + b"}",
    "escapes only": b'{"text":"' + rb"\u0041" * 43_000 + b'"}',
    "a full body": b'{"text":"' + b"a" * (BODY_BYTES - 11) + b'"}',
    "a byte too much": b'{"text":"' + b"a" * (BODY_BYTES - 10) + b'"}',
    "a form": b"text=scan+now&a=%C3%A9&a=2",
    "a form of no UTF-8": b"text=%FF",
    "a form of many fields": b"&".join(b"f%d=1" % n for n in range(2000)),
    "nothing": b"",
}


_FITTING: Mapping[str, Callable[[int], Any]] = {
    "standard": lambda n: {"data": {"uuid": f"inet-{n}", "problem": "offline"}},
    "github": lambda n: {"action": "opened", "items": [{"image": n}, {"image": "b"}]},
    "grafana": lambda n: {"alerts": [{"fingerprint": "f", "startsAt": f"t{n}", "labels": {"uuid": "i-1"}}]},
    "slack": lambda n: {"text": f"scan {n}"},
    "hmac": lambda n: {"TaskType": "ASSETS_COLLECTION", "Param": {"items": f"PORT_SNAPSHOT,{n}"}},
    "pairs": lambda n: {"text": f"scan {n}"},
    "rotating": lambda n: {"event": {"id": f"e{n}", "text": "now"}},
    "keyed": lambda n: {"text": json.dumps({"a": n})},
    "dated": lambda n: {"payload": json.dumps({"text": n})},
    "zoom": lambda n: {"event": "meeting.started", "text": n},
    "event-grid": lambda n: [{"id": n}, {"id": "b"}],
    "cloudevents": lambda n: {"value": n},
    "bearer": lambda n: {"id": n, "value": [n]},
    "basic": lambda n: {"value": [n]},
    "token": lambda n: {"n": n},
    "anyone": lambda n: {"text": f"scan {n}"},
}
"""By the route: what it maps, another for each number."""


def fitting_bodies(route: str) -> st.SearchStrategy[bytes]:
    """Bodies that the route makes events of, or answers as a handshake."""
    encode: Callable[[Any], bytes] = (lambda form: urlencode(form).encode()) if route in FORMS else _encoded
    fitting = st.integers(0, 10**6).map(_FITTING[route]).map(encode)
    if route not in HANDSHAKES:
        return fitting
    return st.one_of(fitting, fitting, st.just(_encoded(HANDSHAKES[route])))


def bodies() -> st.SearchStrategy[bytes]:
    """Bodies of every sort."""
    fitting = st.sampled_from(FITTING_PAYLOADS)
    encoded = st.one_of(any_json(), fitting).map(_encoded)
    return st.one_of(
        encoded,
        encoded,
        st.sampled_from(sorted(HANDSHAKES)).map(lambda name: _encoded(HANDSHAKES[name])),
        fitting.map(lambda payload: urlencode({"payload": json.dumps(payload)}).encode()),
        st.sampled_from(sorted(HARD_BODIES.values())),
        st.binary(max_size=60),
        st.text(st.characters(codec="utf-8")).map(lambda text: urlencode({"text": text}).encode()),
    )


def _encoded(payload: object) -> bytes:
    return json.dumps(payload).encode()


CONTENT_TYPES = (
    *("application/json",) * 6,
    "application/json; charset=utf-8",
    "Application/CloudEvents+JSON",
    "application/x-www-form-urlencoded",
    "text/plain",
    "application/json,application/json",
    "",
    STRANGER,
)


@st.composite
def verified_sendings(draw: st.DrawFn, routes: Sequence[str] = ROUTE_NAMES) -> Sent:
    """Deliveries that a holder of the secret sends, whatever stands in them."""
    route = draw(st.sampled_from(routes))
    body = draw(fitting_bodies(route) if draw(st.booleans()) else bodies())
    content_type = draw(st.one_of(st.just(_content_type_of(route)), st.sampled_from(CONTENT_TYPES)))
    prefix = draw(st.sampled_from(("", "/prod", "/a/webhooks/b")))
    plain = Sent(route, body, {"content-type": content_type}, prefix=prefix)
    if route == "cloudevents" and draw(st.booleans()):
        plain = replace(plain, method="OPTIONS").but(webhook_request_origin=ORIGIN)
    id_ = draw(st.text(st.characters(codec="ascii", exclude_categories=["Cc"]), min_size=1, max_size=30))
    return sign(plain, time.time(), id_=id_.replace(".", "-"))


def _content_type_of(route: str) -> str:
    return "application/x-www-form-urlencoded" if route in FORMS else "application/json"


@st.composite
def unverified_sendings(draw: st.DrawFn) -> Sent:
    """Deliveries with something wrong about their proof, their age, their bytes or their address."""
    sent = draw(verified_sendings(PROVEN))
    wrongs = [_stale, _forged, _tampered, _elsewhere, _bare]
    return draw(st.sampled_from(wrongs))(sent)


def _stale(sent: Sent) -> Sent:
    timed = replace(sent, route=sent.route if sent.route in TIMED else "slack", method="POST")
    return sign(timed, time.time() - 1000)


def _forged(sent: Sent) -> Sent:
    return sign(sent, time.time(), secrets=OTHER_SECRETS)


def _tampered(sent: Sent) -> Sent:
    signs_body = sent.route not in SIGNED_BY_TOKEN
    return replace(sent, body=sent.body + b" ") if signs_body else _bare(sent)


def _elsewhere(sent: Sent) -> Sent:
    names = ("tick", "nowhere", f"{sent.route}x", f"{sent.route}//", STRANGER, "")
    return replace(sent, route=names[len(sent.body) % len(names)])


def _bare(sent: Sent) -> Sent:
    return replace(sent, headers={"content-type": "application/json", "x-say": STRANGER}, query={})


_ODD_KEYS = st.sampled_from(
    (
        *("version", "rawPath", "path", "httpMethod", "headers", "multiValueHeaders", "body"),
        *("isBase64Encoded", "rawQueryString", "queryStringParameters"),
        *("multiValueQueryStringParameters", "requestContext"),
    )
)


@st.composite
def odd_events(draw: st.DrawFn) -> Any:  # noqa: ANN401 - that is the point
    """Events that no front makes: any JSON, or a forged delivery with parts of other types."""
    if draw(st.integers(0, 3)) == 0:
        return draw(any_json(leaves=30))
    event = FRONTS[draw(st.sampled_from(sorted(FRONTS)))](_forged(draw(verified_sendings(PROVEN))))
    for key in draw(st.lists(_ODD_KEYS, max_size=3)):
        event[key] = draw(any_json(leaves=6))
    if draw(st.booleans()):
        event["requestContext"] = {"http": draw(any_json(leaves=4)), "elb": draw(st.none())}
    return event


@dataclass(frozen=True, slots=True)
class Case:
    """One event, and the delivery behind it where its sender holds the secret."""

    event: Any
    verified: Sent | None


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Verified deliveries, unverified ones and rubbish, through every front."""
    front = FRONTS[draw(st.sampled_from(sorted(FRONTS)))]
    kind = draw(st.sampled_from(("verified", "verified", "unverified", "odd")))
    if kind == "verified":
        sent = draw(verified_sendings())
        return Case(front(sent), sent)
    if kind == "unverified":
        return Case(front(draw(unverified_sendings())), None)
    return Case(draw(odd_events()), None)


# -- what they come to ----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one delivery was answered, what was printed meanwhile, and how much of the processor it took."""

    answer: dict[str, Any]
    printed: str
    cpu_s: float

    @property
    def name(self) -> str:
        """Status and code, to be counted."""
        document = json.loads(self.answer["body"] or "{}")
        if "results" not in document:
            return f"{self.answer['statusCode']} handshake"
        codes = {(document.get("error") or {}).get("code")}
        codes |= {(result["error"] or {}).get("code") for result in document["results"]}
        return " ".join([str(self.answer["statusCode"]), *sorted(code for code in codes if code)])


class Target:
    """A webhook function of its own: memory, emulator, and what it prints."""

    _numbers = itertools.count()

    def __init__(self, emulator: Emulator, routes: Path) -> None:
        environment = {
            "ONCETASK_ENDPOINT": emulator.url,
            "ONCETASK_ROUTES": str(routes),
            "ALIBABA_CLOUD_ACCESS_KEY_ID": ACCESS_KEY_ID,
            "ALIBABA_CLOUD_ACCESS_KEY_SECRET": ACCESS_KEY_SECRET,
            # A logger keeps the stream that it was made for.
            "POWERTOOLS_SERVICE_NAME": f"fuzz-{next(self._numbers)}",
            **SECRETS,
        }
        self.app = App(Settings.from_environment(environment), environment=environment)
        self.emulator = emulator
        self._printed = io.StringIO()

    def deliver(self, event: object) -> Outcome:
        """Hand the event over as AWS does."""
        self._printed.seek(0)
        self._printed.truncate()
        with contextlib.redirect_stdout(self._printed):
            began_s = time.process_time()
            answer = webhook.answer(self.app, event, Deadline.after(INVOCATION_S, self.app.clock))
            cpu_s = time.process_time() - began_s
        return Outcome(answer, self._printed.getvalue(), cpu_s)


@contextlib.contextmanager
def target() -> Iterator[Target]:
    """A target whose first ask, which loads Tea, is behind it."""
    behaviour = Behaviour(cap=1_000_000)
    with Emulator(behaviour=behaviour) as emulator, tempfile.TemporaryDirectory() as folder:
        routes = Path(folder) / "routes.toml"
        routes.write_text(ROUTES, encoding="utf-8")
        made = Target(emulator, routes)
        first = Sent("slack", b'{"text":"warm"}', {"content-type": "application/json"})
        made.deliver(http_api(sign(first, time.time())))
        yield made
        made.app.ledger.store.close()


# -- the law --------------------------------------------------------------------------------------

ANSWERED = {200, 201, 202, 400, 401, 405, 413, 415, 422}
"""No 5xx: the ledger and the secrets can be had."""
TOLD_TO_STRANGERS = {"EventNotUnderstood", "Method", "BodyTooLarge", "Unverified"}
"""What is checked up to the verification."""
KEPT_SECRET = (*SECRETS.values(), ACCESS_KEY_SECRET, base64.b64encode(SECRETS["BASIC"].encode()).decode())


class LawBroken(AssertionError):  # noqa: N818 - named for what it says
    """An outcome that no delivery may have."""


def judge(case: Case, outcome: Outcome) -> None:
    """Raise LawBroken unless the outcome is one that the contract allows for the case."""
    if _is_handshake(outcome):
        _judge_handshake(case, outcome)
        return
    document = _checked_document(outcome)
    lines = [json.loads(line) for line in outcome.printed.split("\n") if line]
    logged = [line for line in lines if "_aws" not in line]
    _hold(outcome.answer["statusCode"] in ANSWERED, "a status that only ledger or secret may cause")
    if case.verified is None:
        _hold(not document["results"], "an unverified delivery was accepted")
        _hold(document["error"]["code"] in TOLD_TO_STRANGERS, "an unverified delivery went on after 401")
    if document["results"]:
        _hold(_results_in(logged) == len(logged) == len(document["results"]), "one line a result")
    else:
        _hold([line["message"] for line in logged] == ["refused"], "one line for a refusal")
        _hold(len(json.dumps(logged[0])) <= LOG_LINE_CHARS, "a bounded line for a refusal")
        _hold(STRANGER not in outcome.printed, "a stranger's own words in the log")
    _hold_secrets(case, outcome)


def _is_handshake(outcome: Outcome) -> bool:
    return "results" not in json.loads(outcome.answer["body"] or "{}")


def _judge_handshake(case: Case, outcome: Outcome) -> None:
    """It is told to its own route's sender alone, exactly as that wants it, and makes no result."""
    _hold(case.verified is not None, "an unverified handshake was answered")
    assert case.verified is not None
    _hold(outcome.answer["statusCode"] == HTTPStatus.OK, "a handshake's answer is 200")
    told = json.loads(outcome.answer["body"] or "null")
    _hold(told == _wanted_by(case.verified), "a handshake's answer is what its sender wants to hear")
    lines = [json.loads(line)["message"] for line in outcome.printed.split("\n") if line]
    _hold(lines == ["handshake"], "one line for a handshake")
    _hold_secrets(case, outcome)


def _wanted_by(sent: Sent) -> Any:  # noqa: ANN401 - JSON data
    """Nothing for `OPTIONS`, which wants headers."""
    if sent.method == "OPTIONS":
        return None
    asked = json.loads(sent.body)
    if sent.route == "slack":
        return {"challenge": asked["challenge"]}
    if sent.route == "zoom":
        token = asked["payload"]["plainToken"]
        return {"plainToken": token, "encryptedToken": mac(SECRETS["HMAC_KEY"], token.encode()).hex()}
    if sent.route == "event-grid":
        return {"validationResponse": asked[0]["data"]["validationCode"]}
    return {"no handshake": sent.route}


@dataclass(frozen=True, slots=True)
class Unsigned:
    """Other values for all that no proof covers."""

    front: str
    content_type: str
    prefix: str
    query: str
    id_: str | None

    def of(self, sent: Sent) -> Any:  # noqa: ANN401 - AWS hands over any JSON
        """The delivery with them; what only a token vouches for keeps its id, which names the event."""
        changed = replace(sent, prefix=self.prefix, query={**sent.query, "any": self.query})
        changed = changed.but(content_type=self.content_type, x_say=STRANGER, user_agent=self.query)
        if sent.route not in SIGNED_BY_TOKEN:
            changed = changed.but(x_github_delivery=self.id_, idempotency_key=self.id_)
        if sent.route == "keyed":
            changed = changed.but(x_keyed_id=self.id_)
        return FRONTS[self.front](changed)


def unsigned() -> st.SearchStrategy[Unsigned]:
    """Content type, query, unsigned headers, path and front."""
    return st.builds(
        Unsigned,
        st.sampled_from(sorted(FRONTS)),
        st.sampled_from(CONTENT_TYPES),
        st.sampled_from(("", "/other", "/a/webhooks/b")),
        st.sampled_from(("", "thing", "a b&c")),
        st.sampled_from((None, "another-id")),
    )


def judge_again(target: Target, case: Case, outcome: Outcome, other: Unsigned) -> bool:
    """Deliver what was accepted once more, with all changed that is not signed; false where it was not.

    Raises LawBroken where that makes another task, event or request.
    """
    first = _accepted(outcome)
    if case.verified is None or not first:
        return False
    tasks = len(target.emulator.tasks)
    again = target.deliver(other.of(case.verified))
    judge(Case(None, case.verified), again)
    _hold(len(target.emulator.tasks) == tasks, "a second task, by what is not signed")
    ids = {result["event_id"] for result in first}
    requests = [result["request"] for result in first]
    for result in _accepted(again):
        _hold(result["status"] != "created", "a second event, by what is not signed")
        _hold(result["event_id"] in ids, "another event, by what is not signed")
        _hold(result["request"] in (None, *requests), "another request, by what is not signed")
    return True


def _accepted(outcome: Outcome) -> list[dict[str, Any]]:
    document = json.loads(outcome.answer["body"] or "{}")
    open_or_made = {"created", "duplicate", "pending", "unknown"}
    return [result for result in document.get("results", ()) if result["status"] in open_or_made]


def judge_haste(outcome: Outcome) -> None:
    """Raise LawBroken where a delivery of one item took the processor for too long."""
    items = len(json.loads(outcome.answer["body"] or "{}").get("results", ()))
    _hold(items > 1 or outcome.cpu_s < LONGEST_S, f"it took {outcome.cpu_s:.3f} s")


def _results_in(logged: list[dict[str, Any]]) -> int:
    return sum(line["message"] == "result" for line in logged)


def _checked_document(outcome: Outcome) -> dict[str, Any]:
    answer = outcome.answer
    headers = "multiValueHeaders" if "multiValueHeaders" in answer else "headers"
    expected = {"statusCode", headers, "body", "isBase64Encoded"}
    _hold(set(answer) - {"statusDescription"} == expected, "an answer is status, headers and body")
    document: dict[str, Any] = json.loads(answer["body"])
    expected_keys = {"results", "counts"} | (set() if document["results"] else {"error"})
    _hold(set(document) == expected_keys, "the body is the document of results")
    return document


def _hold_secrets(case: Case, outcome: Outcome) -> None:
    given = _written(case.verified) if case.verified else ""
    proofs = case.verified.proofs if case.verified else ()
    said = json.dumps(outcome.answer, ensure_ascii=False) + outcome.printed
    for value in (*KEPT_SECRET, *proofs):
        _hold(value in given or value not in said, "a secret or a signature was said")


def _written(sent: Sent) -> str:
    """What the sender itself wrote, and may be told again: its body, and headers that prove nothing."""
    headers = (value for value in sent.headers.values() if not any(proof in value for proof in sent.proofs))
    return " ".join((sent.body.decode(errors="replace"), *headers))


def _hold(holds: bool, law: str) -> None:  # noqa: FBT001 - a law and whether it holds
    if not holds:
        raise LawBroken(law)


# -- the long run ---------------------------------------------------------------------------------


class Tally:
    """What was answered how often, and how long the slowest answer took."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.slowest_s = 0.0
        self.changed = 0

    def deliver(self, target: Target, case: Case, other: Unsigned) -> None:
        """One delivery, judged and counted; and what was accepted once more. Raises LawBroken."""
        outcome = target.deliver(case.event)
        judge(case, outcome)
        if outcome.cpu_s >= LONGEST_S:
            outcome = replace(outcome, cpu_s=_own_cpu_s(case))
        judge_haste(outcome)
        self.changed += judge_again(target, case, outcome, other)
        self.counts[("verified   " if case.verified else "unverified ") + outcome.name] += 1
        self.slowest_s = max(self.slowest_s, outcome.cpu_s)


def _own_cpu_s(case: Case) -> float:
    """The least of three tries by new targets: in a long run, the collection of all that the run has kept
    falls into some delivery or other, and not into the same one again.
    """
    tries = []
    for _ in range(3):
        with target() as fresh:
            tries.append(fresh.deliver(case.event).cpu_s)
    return min(tries)


_ELSEWHERE = Unsigned("alb-multi", "text/plain", "/other", "thing", "another-id")


def run(deliveries: int, first_seed: int) -> Tally:
    """Deliver every hard body by every route, and so many more. Raises LawBroken."""
    tally = Tally()
    with target() as fresh:
        for case in hard_cases():
            tally.deliver(fresh, case, _ELSEWHERE)
    with contextlib.closing(Progress()) as progress:
        for number, done in enumerate(range(0, deliveries, BATCH), start=first_seed):
            with target() as fresh:
                _run_batch(fresh, min(BATCH, deliveries - done), number, tally)
            progress.tell(f"{tally.counts.total()} of {deliveries} deliveries and the hard ones")
    return tally


def hard_cases() -> Iterator[Case]:
    """Every hard body, as JSON, by every route's scheme."""
    for body, route in itertools.product(HARD_BODIES.values(), _SIGNERS):
        sent = sign(Sent(route, body, {"content-type": "application/json"}), time.time())
        yield Case(http_api(sent), sent)


def _run_batch(fresh: Target, size: int, number: int, tally: Tally) -> None:
    @seed(number)
    @settings(
        max_examples=size,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(cases(), unsigned())
    def deliver(case: Case, other: Unsigned) -> None:
        tally.deliver(fresh, case, other)

    deliver()


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.hostile.fuzz", description=__doc__)
    parser.add_argument("--deliveries", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0, help="another one makes other deliveries")
    arguments = parser.parse_args()
    began_s = time.monotonic()
    tally = run(arguments.deliveries, arguments.seed)
    for name, count in sorted(tally.counts.items()):
        print(f"{count:9,} {name}")
    took_s = time.monotonic() - began_s
    print(f"{tally.changed:9,} accepted, and again with all changed that is not signed: no second task")
    print(f"{tally.counts.total():9,} deliveries in {took_s:.0f} s, no law broken;", end=" ")
    print(f"the slowest took {tally.slowest_s * 1000:.0f} ms of the processor")


if __name__ == "__main__":
    main()
