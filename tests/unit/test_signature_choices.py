"""What scheme `hmac` promises of its choices: lists, pairs, keys and times as senders really send them."""

import base64
import hmac

import pytest
from pydantic import ValidationError

from oncetask.webhooks.schemes import scheme_of, verify
from oncetask.webhooks.verification import Scheme, Verdict

NOW_S = 1_795_500_000.25
"""2026-11-24T06:00:00.25Z."""
SECRET = b"first secret"
BODY = b'{"a":1}'


def hmac_scheme(**keys: object) -> Scheme:
    """A scheme `hmac` whose signature stands in `x-sig`."""
    return scheme_of({"scheme": "hmac", "header": "X-Sig", "secrets": ["env:A"], **keys})


def mac(signed: bytes, key: bytes = SECRET) -> str:
    """The signature in hex."""
    return hmac.digest(key, signed, "sha256").hex()


def told(scheme: Scheme, headers: dict[str, str], *, secret: bytes = SECRET, body: bytes = BODY) -> Verdict:
    """The verdict on a delivery with these headers, each sent once."""
    return verify(
        scheme,
        secrets=[secret],
        headers={name: [value] for name, value in headers.items()},
        query={},
        body=body,
        now_s=NOW_S,
    )


# --- several signatures


@pytest.mark.parametrize("listed", ["v1={good},v1={bad}", "v1={bad}, v1={good}", "v0=x,v1={good}"])
def test_one_signature_of_a_list_is_enough(listed: str) -> None:
    """A sender that rotates its secret signs with both; other versions are passed over."""
    scheme = hmac_scheme(separator=",", prefix="v1=")
    text = listed.format(good=mac(BODY), bad="0" * 64)

    assert told(scheme, {"x-sig": text}).verified


def test_without_a_separator_a_list_is_no_signature() -> None:
    """Nothing is split that the route does not name."""
    assert told(hmac_scheme(), {"x-sig": f"{mac(BODY)},{mac(BODY)}"}).reason == "no-signature"


PAIRS = {"fields": {"time": "t", "signature": "v1"}, "signed": "{timestamp}.{body}"}


def signed_pair(at: str = "1795500000") -> str:
    """What Stripe-like senders put under `v1`."""
    return mac(f"{at}.".encode() + BODY)


@pytest.mark.parametrize(
    "text",
    ["t=1795500000,v1={good}", "t=1795500000, v1={good} ,v0=x", "v1={zeros},t=1795500000,v1={good}"],
)
def test_pairs_hold_time_and_signatures(text: str) -> None:
    """In any order, with others between them, and with several signatures."""
    filled = text.format(good=signed_pair(), zeros="0" * 64)

    assert told(hmac_scheme(**PAIRS), {"x-sig": filled}).verified


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("t=1795500000,t=1795500000,v1={good}", "bad-timestamp"),
        ("v1={good}", "bad-timestamp"),
        ("t=1795499699,v1={good}", "stale"),
        ("t=1795500000,v2={good}", "no-signature"),
        ("t=1795500000,{good}", "no-signature"),
        ("t=1795500001,v1={good}", "mismatch"),
    ],
)
def test_pairs_that_lack_or_repeat_something_are_refused(text: str, reason: str) -> None:
    """A second time above all: nobody knows which one somebody else has checked."""
    filled = text.format(good=signed_pair())

    assert told(hmac_scheme(**PAIRS), {"x-sig": filled}).reason == reason


def test_pairs_are_split_where_the_route_says() -> None:
    """Some senders put a semicolon between them."""
    scheme = hmac_scheme(**PAIRS, between=";")

    assert told(scheme, {"x-sig": f"t=1795500000;v1={signed_pair()}"}).verified


def test_a_time_in_pairs_counts_as_signed() -> None:
    """As one in a header of its own does."""
    assert hmac_scheme(**PAIRS).signed_time_s == 300


# --- keys


@pytest.mark.parametrize(
    ("key", "secret"),
    [("base64", base64.b64encode(b"\xff" * 16)), ("hex", b"FF" * 16), ("hex", b"ff" * 16)],
)
def test_a_key_may_be_written_in_base64_or_hex(key: str, secret: bytes) -> None:
    """The sender signs with the bytes that its text stands for."""
    proof = mac(BODY, b"\xff" * 16)

    assert told(hmac_scheme(key=key), {"x-sig": proof}, secret=secret).verified


@pytest.mark.parametrize(
    ("key", "secret"),
    [
        ("text", b"1234567"),
        ("base64", b"!!!!"),
        ("base64", base64.b64encode(b"1234567")),
        ("hex", b"f" * 17),
        ("hex", b"zz" * 9),
    ],
)
def test_what_cannot_be_the_key_is_no_secret(key: str, secret: bytes) -> None:
    """Too short, or not what it is said to be."""
    assert told(hmac_scheme(key=key), {"x-sig": "0" * 64}, secret=secret).reason == "no-secret"


# --- times


@pytest.mark.parametrize(
    ("written", "text"),
    [
        ("milliseconds", "1795500000250"),
        ("milliseconds", "1795499700250"),
        ("rfc3339", "2026-11-24T06:00:00Z"),
        ("rfc3339", "2026-11-24T06:00:00.123456789Z"),
        ("rfc3339", "2026-11-24T08:00:00+02:00"),
    ],
)
def test_a_time_is_read_as_the_route_says(written: str, text: str) -> None:
    """And signed as it was sent."""
    scheme = hmac_scheme(timestamp_header="X-Time", timestamp_format=written, signed="{timestamp}.{body}")
    proof = mac(f"{text}.".encode() + BODY)

    assert told(scheme, {"x-sig": proof, "x-time": text}).verified


@pytest.mark.parametrize(
    ("written", "text", "reason"),
    [
        ("milliseconds", "1795500000", "stale"),
        ("milliseconds", "1795499700249", "stale"),
        ("milliseconds", "1795500000.25", "bad-timestamp"),
        ("rfc3339", "1795500000", "bad-timestamp"),
        ("rfc3339", "2026-11-24T06:00:00", "bad-timestamp"),
        ("rfc3339", "2026-13-24T06:00:00Z", "bad-timestamp"),
        ("rfc3339", "0001-01-01T00:00:00+23:59", "stale"),
        ("rfc3339", "\u0662026-11-24T06:00:00Z", "bad-timestamp"),
        ("rfc3339", "2026-11-24T05:54:59Z", "stale"),
    ],
)
def test_another_time_is_refused(written: str, text: str, reason: str) -> None:
    """Whatever the signature says."""
    scheme = hmac_scheme(timestamp_header="X-Time", timestamp_format=written, signed="{timestamp}.{body}")
    proof = mac(f"{text}.".encode() + BODY)

    assert told(scheme, {"x-sig": proof, "x-time": text}).reason == reason


# --- ids


def test_an_id_may_stand_in_several_headers() -> None:
    """Joined by a slash, as two attributes of a CloudEvent are unique together."""
    scheme = hmac_scheme(id_header=["ce-source", "Ce-Id"])

    both = told(scheme, {"x-sig": mac(BODY), "ce-source": "s", "ce-id": "1"})
    one = told(scheme, {"x-sig": mac(BODY), "ce-source": "s"})

    assert (both.delivery_id, one.delivery_id) == ("s/1", None)


def test_an_id_that_holds_the_text_behind_it_is_refused() -> None:
    """It could be cut into another id, time and body."""
    scheme = hmac_scheme(id_header="X-Id", signed="{id}.{body}")

    good = told(scheme, {"x-sig": mac(b"a." + BODY), "x-id": "a"})
    dotted = told(scheme, {"x-sig": mac(b"a.b." + BODY), "x-id": "a.b"})

    assert (good.delivery_id, good.signature_digest, dotted.reason) == ("a", None, "bad-id")


@pytest.mark.parametrize("scheme", ["bearer", "token", "none"])
def test_a_scheme_without_an_id_takes_the_named_header(scheme: str) -> None:
    """Else `Idempotency-Key`, where the named one is not there."""
    keys = {"bearer": {}, "token": {"header": "x-token"}, "none": {}}[scheme]
    secrets = {} if scheme == "none" else {"secrets": ["env:A"]}
    made = scheme_of({"scheme": scheme, "id_header": ["ce-id"], **secrets, **keys})
    headers = {"authorization": f"Bearer {SECRET.decode()}", "x-token": SECRET.decode()}

    named = told(made, headers | {"ce-id": "A1", "idempotency-key": "k"})
    other = told(made, headers | {"idempotency-key": "k"})

    assert (named.delivery_id, other.delivery_id) == ("A1", "k")


# --- the table


@pytest.mark.parametrize(
    "keys",
    [
        {"separator": ""},
        {"separator": ",", "fields": {"signature": "v1"}},
        {"between": ";"},
        {"fields": {"time": "t"}},
        {"fields": {"signature": "v1", "other": "x"}},
        {**PAIRS, "timestamp_header": "X-Time"},
        {"fields": {"signature": "v1"}, "signed": "{timestamp}.{body}"},
        {"timestamp_format": "rfc3339"},
        {"key": "utf-16"},
        {"id_header": []},
        {"id_header": "X-Id", "signed": "{id}{body}"},
        {"handshake": "event-grid"},
    ],
)
def test_choices_that_cannot_be_meant_are_refused(keys: dict[str, object]) -> None:
    """At start, each with its reason."""
    with pytest.raises((ValidationError, ValueError)):
        hmac_scheme(**keys)
