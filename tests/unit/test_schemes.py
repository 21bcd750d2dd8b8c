"""What `oncetask.webhooks.schemes` promises: who is believed, who is not, and that nothing makes it raise."""

import base64
import hashlib
import hmac
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Self

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from pydantic import ValidationError

from oncetask.webhooks.schemes import scheme_of, verify
from oncetask.webhooks.verification import Scheme, Verdict

NOW_S = 1_795_500_000.9
SENT_AT_S = 1_795_500_000
BODY = '{"text":"blåbær"}'.encode()
SECRET = b"first secret"
OLDER = b"older secret"
KEY = b"0123456789abcdef01234567"
WHSEC = b"whsec_" + base64.b64encode(KEY)


def of_name(name: str, **keys: object) -> Scheme:
    """A scheme as a routes file would give it."""
    secrets = {} if name == "none" else {"secrets": ["env:A"]}
    return scheme_of({"scheme": name, **secrets, **keys})


@dataclass(frozen=True)
class Delivery:
    """One delivery and the route that it comes to."""

    scheme: Scheme
    headers: Mapping[str, str | list[str]] = field(default_factory=dict)
    query: Mapping[str, list[str]] = field(default_factory=dict)
    body: bytes = BODY
    secrets: tuple[bytes, ...] = (SECRET,)
    now_s: float = NOW_S

    def verdict(self) -> Verdict:
        """What `verify` says of it."""
        headers = {n: [v] if isinstance(v, str) else v for n, v in self.headers.items()}
        return verify(
            self.scheme,
            secrets=self.secrets,
            headers=headers,
            query=self.query,
            body=self.body,
            now_s=self.now_s,
        )

    def but(self, **headers: str | list[str]) -> Self:
        """The same with other headers; an empty list takes a header away."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return replace(self, headers={**self.headers, **named})


def mac(content: bytes, *, key: bytes = SECRET, algorithm: str = "sha256") -> bytes:
    """The HMAC that a sender makes."""
    return hmac.new(key, content, algorithm).digest()


def standard_webhooks(
    *, family: str = "webhook", id_: str = "msg_1", sent_at: str = str(SENT_AT_S)
) -> Delivery:
    """A delivery as Standard Webhooks 1.0.0 says."""
    proof = mac(f"{id_}.{sent_at}.".encode() + BODY, key=KEY)
    headers = {
        f"{family}-id": id_,
        f"{family}-timestamp": sent_at,
        f"{family}-signature": "v1," + base64.b64encode(proof).decode(),
    }
    return Delivery(of_name("standard-webhooks"), headers, secrets=(WHSEC,))


def github() -> Delivery:
    """A delivery as GitHub makes it."""
    headers = {"x-hub-signature-256": "sha256=" + mac(BODY).hex(), "x-github-delivery": "72d3-1"}
    return Delivery(of_name("github"), headers)


def grafana() -> Delivery:
    """A delivery as Grafana makes it without a timestamp header."""
    return Delivery(of_name("grafana"), {"x-grafana-alerting-signature": mac(BODY).hex()})


def grafana_timed(*, sent_at: str = str(SENT_AT_S)) -> Delivery:
    """A delivery as Grafana makes it with a timestamp header."""
    headers = {
        "x-grafana-alerting-signature": mac(f"{sent_at}:".encode() + BODY).hex(),
        "x-sent-at": sent_at,
    }
    return Delivery(of_name("grafana", timestamp_header="X-Sent-At"), headers)


def slack(*, sent_at: str = str(SENT_AT_S)) -> Delivery:
    """A delivery as Slack makes it."""
    headers = {
        "x-slack-signature": "v0=" + mac(f"v0:{sent_at}:".encode() + BODY).hex(),
        "x-slack-request-timestamp": sent_at,
    }
    return Delivery(of_name("slack"), headers)


def hmac_plain() -> Delivery:
    """A delivery of a sender that signs its body alone."""
    scheme = of_name("hmac", header="X-Sig", prefix="sha256=")
    return Delivery(scheme, {"x-sig": "sha256=" + mac(BODY).hex()})


def hmac_full(*, sent_at: str = str(SENT_AT_S), id_: str = "evt-1") -> Delivery:
    """A delivery of a sender that signs id, time and body, with the other choices throughout."""
    scheme = of_name(
        "hmac",
        header="X-Sig",
        algorithm="sha512",
        encoding="base64",
        timestamp_header="X-Time",
        id_header="X-Id",
        signed="v9|{id}|{timestamp}|{body}|end",
    )
    signed = f"v9|{id_}|{sent_at}|".encode() + BODY + b"|end"
    proof = base64.b64encode(mac(signed, algorithm="sha512")).decode()
    return Delivery(scheme, {"x-sig": proof, "x-time": sent_at, "x-id": id_})


def hmac_unsigned_id() -> Delivery:
    """A delivery of a sender whose id stands beside the signature."""
    scheme = of_name("hmac", header="X-Sig", id_header="X-Id")
    return Delivery(scheme, {"x-sig": mac(BODY).hex(), "x-id": "evt-1"})


def bearer() -> Delivery:
    """A delivery that shows a bearer token."""
    headers = {"authorization": "Bearer " + SECRET.decode(), "idempotency-key": "k-1"}
    return Delivery(of_name("bearer"), headers)


def basic() -> Delivery:
    """A delivery that shows user and password, not all ASCII."""
    secret = "grafana:pässword:1".encode()
    headers = {
        "authorization": "Basic " + base64.b64encode(secret).decode(),
        "idempotency-key": "k-1",
    }
    return Delivery(of_name("basic"), headers, secrets=(secret,))


def token_parameter() -> Delivery:
    """A delivery whose URL holds the secret."""
    return Delivery(of_name("token", parameter="key"), query={"key": [SECRET.decode()]})


def token_header() -> Delivery:
    """A delivery with a header that is the secret."""
    return Delivery(of_name("token", header="X-Token"), {"x-token": SECRET.decode()})


def nothing() -> Delivery:
    """A delivery that anybody could have sent."""
    return Delivery(of_name("none"), {"idempotency-key": "k-1"}, secrets=())


GOOD: dict[str, tuple[Callable[[], Delivery], str | None]] = {
    "standard-webhooks": (standard_webhooks, "msg_1"),
    "svix": (lambda: standard_webhooks(family="svix"), "msg_1"),
    "github": (github, "72d3-1"),
    "grafana": (grafana, None),
    "grafana-timed": (grafana_timed, None),
    "slack": (slack, None),
    "hmac": (hmac_plain, None),
    "hmac-full": (hmac_full, "evt-1"),
    "hmac-unsigned-id": (hmac_unsigned_id, "evt-1"),
    "bearer": (bearer, "k-1"),
    "basic": (basic, "k-1"),
    "token-parameter": (token_parameter, None),
    "token-header": (token_header, None),
    "none": (nothing, "k-1"),
}
every_good = pytest.mark.parametrize("name", GOOD)
every_verifying = pytest.mark.parametrize("name", [name for name in GOOD if name != "none"])
every_timed = pytest.mark.parametrize(
    ("made", "time_header"),
    [
        (standard_webhooks, "webhook-timestamp"),
        (grafana_timed, "x-sent-at"),
        (slack, "x-slack-request-timestamp"),
        (hmac_full, "x-time"),
    ],
)
# The headers that prove a delivery, by the name of a good one.
PROOFS = {
    "standard-webhooks": "webhook-signature",
    "svix": "svix-signature",
    "github": "x-hub-signature-256",
    "grafana": "x-grafana-alerting-signature",
    "grafana-timed": "x-grafana-alerting-signature",
    "slack": "x-slack-signature",
    "hmac": "x-sig",
    "hmac-full": "x-sig",
    "hmac-unsigned-id": "x-sig",
    "bearer": "authorization",
    "basic": "authorization",
    "token-header": "x-token",
}
every_proof = pytest.mark.parametrize(("name", "header"), PROOFS.items())


def refused(reason: str) -> Verdict:
    """The verdict on a stranger."""
    return Verdict(verified=False, reason=reason)


# --- who is believed


@every_good
def test_a_good_delivery_is_verified_and_gives_its_id(name: str) -> None:
    """Each scheme accepts what its sender sends, and names the delivery as the contract says."""
    made, delivery_id = GOOD[name]

    verdict = made().verdict()

    assert (verdict.verified, verdict.delivery_id, verdict.reason) == (True, delivery_id, None)


@every_verifying
def test_any_secret_of_the_list_verifies(name: str) -> None:
    """Secrets can be rotated: a delivery holds under each, wherever it stands; "" is none."""
    good = GOOD[name][0]()
    others = (b"whsec_" + base64.b64encode(OLDER), OLDER, b"not base64 !", b"")

    verdicts = [
        replace(good, secrets=secrets).verdict() for secrets in (good.secrets + others, others + good.secrets)
    ]

    assert [verdict.verified for verdict in verdicts] == [True, True]


@pytest.mark.parametrize("name", ["github", "grafana", "grafana-timed", "slack", "hmac"])
def test_hex_may_come_in_capitals(name: str) -> None:
    """A hex signature says the same in either case."""
    good = GOOD[name][0]()
    text = str(good.headers[PROOFS[name]])
    prefix, found, digits = text.rpartition("=")

    verdict = replace(good, headers={**good.headers, PROOFS[name]: prefix + found + digits.upper()})

    assert verdict.verdict().verified


@pytest.mark.parametrize("word", ["bearer", "BEARER", "Bearer "])
def test_the_authorization_scheme_is_read_as_http_reads_it(word: str) -> None:
    """The scheme's word has no case, and more than one space may follow it."""
    delivery = bearer().but(authorization=f"{word} {SECRET.decode()}")

    assert delivery.verdict().verified


@every_good
def test_a_signature_digest_is_there_exactly_where_an_id_can_be_exchanged(name: str) -> None:
    """The ledger gets what it needs to see a replay under another id, and never the signature."""
    good = GOOD[name][0]()

    verdict = good.verdict()

    assert (verdict.signature_digest is not None) == good.scheme.replayable_under_another_id
    assert good.scheme.replayable_under_another_id == (name in {"github", "hmac-unsigned-id"})


@pytest.mark.parametrize("header", [{"x_github_delivery": "other"}, {"x_github_delivery": []}])
def test_the_digest_is_the_same_under_another_id_and_under_none(
    header: dict[str, str | list[str]],
) -> None:
    """A sender who exchanges or drops an unsigned id still shows the same digest of what is signed."""
    replayed = github().but(**header).verdict()

    assert replayed.verified
    assert replayed.signature_digest == hashlib.sha256(BODY).hexdigest()
    assert replayed.delivery_id != github().verdict().delivery_id


def test_the_digest_does_not_change_with_the_case_of_the_hex() -> None:
    """A signature written in capitals is no other signature."""
    capitals = github().but(x_hub_signature_256="sha256=" + mac(BODY).hex().upper())

    assert capitals.verdict() == github().verdict()


def test_a_signed_text_cut_in_another_way_shows_the_same_digest() -> None:
    """Where the id stands last, moving bytes between it and the body makes no second delivery."""
    scheme = of_name("hmac", header="X-Sig", id_header="X-Id", signed="{body}.{id}")
    headers = {"x-sig": mac(b"a.b.m1").hex(), "x-id": "m1"}
    first = Delivery(scheme, headers, body=b"a.b")

    cut = replace(first.but(x_id="b.m1"), body=b"a")

    assert cut.verdict().verified
    assert cut.verdict().signature_digest == first.verdict().signature_digest


# --- ids


@pytest.mark.parametrize("made", [bearer, basic, nothing])
@pytest.mark.parametrize("values", [[], [""], ["a", "b"], ["a", "a"], ["\ud800"]])
def test_an_unusable_idempotency_key_is_none(made: Callable[[], Delivery], values: list[str]) -> None:
    """A missing, empty, repeated or unwritable key takes nothing from a verified delivery."""
    verdict = made().but(idempotency_key=values).verdict()

    assert verdict == Verdict(verified=True)


@pytest.mark.parametrize("values", [[], [""], ["a", "b"], ["\udfff"]])
@pytest.mark.parametrize("made", [github, hmac_unsigned_id])
def test_an_unusable_unsigned_id_is_none(made: Callable[[], Delivery], values: list[str]) -> None:
    """The body's signature holds without an id beside it."""
    verdict = made().but(x_github_delivery=values, x_id=values).verdict()

    assert (verdict.verified, verdict.delivery_id) == (True, None)


@pytest.mark.parametrize("values", [[], [""], ["evt-1", "evt-1"], ["\ud800"]])
def test_an_unusable_signed_id_is_refused(values: list[str]) -> None:
    """An id that the signature covers must be there, once."""
    assert hmac_full().but(x_id=values).verdict() == refused("bad-id")
    assert standard_webhooks().but(webhook_id=values).verdict() == refused("bad-id")


def test_a_standard_webhooks_id_with_a_dot_is_refused() -> None:
    """The same signed text cannot be cut into another id, time and body."""
    inner = f"{SENT_AT_S}.a=1"
    proof = "v1," + base64.b64encode(mac(f"m.{SENT_AT_S}.{inner}".encode(), key=KEY)).decode()
    genuine = replace(standard_webhooks().but(webhook_id="m", webhook_signature=proof), body=inner.encode())

    cut = replace(genuine.but(webhook_id=f"m.{SENT_AT_S}"), body=b"a=1")

    assert genuine.verdict().verified
    assert cut.verdict() == refused("bad-id")


@pytest.mark.parametrize("id_", ["ø", "a b", "x\x00y", "🐙", "a/b"])
def test_an_id_is_any_text(id_: str) -> None:
    """Ids are the sender's own words."""
    assert standard_webhooks(id_=id_).verdict().delivery_id == id_
    assert hmac_full(id_=id_).verdict().delivery_id == id_


# --- who is refused


@every_verifying
@pytest.mark.parametrize("secrets", [(), (b"",), (b"", b"")])
def test_without_a_secret_nobody_is_verified(name: str, secrets: tuple[bytes, ...]) -> None:
    """An empty secret is no secret: neither an empty token nor an HMAC by it holds."""
    delivery = replace(GOOD[name][0](), secrets=secrets)

    assert delivery.verdict() == refused("no-secret")


@every_verifying
def test_another_secret_does_not_verify(name: str) -> None:
    """A delivery made with another secret is a stranger's."""
    other = b"user:other" if name == "basic" else b"whsec_" + base64.b64encode(OLDER)
    delivery = replace(GOOD[name][0](), secrets=(other,))

    assert delivery.verdict() == refused("mismatch")


@every_proof
def test_a_proof_that_is_missing_empty_or_repeated_is_refused(name: str, header: str) -> None:
    """Exactly one proof is looked at, also where the same comes twice."""
    good = GOOD[name][0]()
    proof = str(good.headers[header])

    verdicts = [
        replace(good, headers={**good.headers, header: values}).verdict()
        for values in ([], [""], [proof, proof], [proof, "x"], [proof + "," + proof])
    ]

    assert not any(verdict.verified for verdict in verdicts)


@every_proof
@pytest.mark.parametrize(
    "rubbish",
    ["x", "=", "v1,", "v1", "v0=", "sha256=", "Bearer", "Basic", "Basic ====", "\ud800", "\x00"],
)
def test_rubbish_is_no_proof(name: str, header: str, rubbish: str) -> None:
    """What is no signature and no credential is refused like a wrong one."""
    good = GOOD[name][0]()

    assert not replace(good, headers={**good.headers, header: rubbish}).verdict().verified


@pytest.mark.parametrize("values", [[], [""], [SECRET.decode()] * 2, ["x"], ["\udc80"]])
def test_a_token_parameter_comes_once_and_is_the_secret(values: list[str]) -> None:
    """A repeated parameter is refused: somebody else may have checked the other one."""
    assert not replace(token_parameter(), query={"key": values}).verdict().verified


def test_a_lone_surrogate_stands_for_nothing_else() -> None:
    """Text that UTF-8 cannot hold equals no secret, whatever others would write in its place."""
    strange = replace(token_header(), headers={"x-token": "a\ud800"})

    for secret in (b"a?", b"a", b"a\xef\xbf\xbd"):
        assert replace(strange, secrets=(secret,)).verdict() == refused("mismatch")


def test_a_token_counts_only_in_its_own_place() -> None:
    """A header is no parameter, and a parameter is no header."""
    swapped = [
        replace(token_parameter(), headers={"key": SECRET.decode()}, query={}),
        replace(token_header(), headers={}, query={"x-token": [SECRET.decode()]}),
    ]

    assert [delivery.verdict() for delivery in swapped] == [refused("no-credentials")] * 2


def test_a_credential_of_another_authorization_scheme_is_refused() -> None:
    """A bearer secret is not taken as a Basic one, nor the other way round."""
    assert bearer().but(authorization="Basic first secret").verdict() == refused("no-credentials")
    assert basic().but(authorization="Bearer x").verdict() == refused("no-credentials")


@pytest.mark.parametrize("name", ["github", "slack", "hmac"])
def test_a_signature_without_its_prefix_is_refused(name: str) -> None:
    """The prefix is the version: bare hex, or another version, is not what was agreed."""
    good = GOOD[name][0]()
    digits = str(good.headers[PROOFS[name]]).rpartition("=")[2]

    for text in (digits, "v1=" + digits, "sha1=" + digits):
        delivery = replace(good, headers={**good.headers, PROOFS[name]: text})
        assert delivery.verdict() == refused("no-signature")


@pytest.mark.parametrize("change", [str.rstrip, str.__add__, str.swapcase])
def test_base64_has_one_spelling(change: Callable[..., str]) -> None:
    """An unpadded, overlong or otherwise respelled signature is not the one that was made."""
    good = hmac_full()
    proof = str(good.headers["x-sig"])

    other = change(proof, "=") if change is not str.swapcase else change(proof)

    assert not good.but(x_sig=other).verdict().verified


# --- time


@every_timed
@pytest.mark.parametrize("off_s", [-300, 300])
def test_300_seconds_old_or_ahead_is_fresh(
    made: Callable[..., Delivery], time_header: str, off_s: int
) -> None:
    """The tolerance holds at its edge, both ways."""
    delivery = made(sent_at=str(SENT_AT_S + off_s))

    assert time_header in delivery.headers
    assert delivery.verdict().verified


@every_timed
@pytest.mark.parametrize("off_s", [-301, 301])
def test_301_seconds_old_or_ahead_is_stale(
    made: Callable[..., Delivery], time_header: str, off_s: int
) -> None:
    """One second beyond the tolerance a good signature is refused, both ways."""
    delivery = made(sent_at=str(SENT_AT_S + off_s))

    assert time_header in delivery.headers
    assert delivery.verdict() == refused("stale")


def test_a_routes_own_tolerance_counts() -> None:
    """`tolerance_s` replaces the 300 seconds."""
    scheme = of_name("slack", tolerance_s=10)

    fresh = replace(slack(sent_at=str(SENT_AT_S - 10)), scheme=scheme)
    stale = replace(slack(sent_at=str(SENT_AT_S - 11)), scheme=scheme)

    assert fresh.verdict().verified
    assert stale.verdict() == refused("stale")


@every_timed
@pytest.mark.parametrize(
    "text",
    [
        "",
        "0",
        "now",
        "-1795500000",
        "+1795500000",
        " 1795500000",
        "1795500000 ",
        "1795500000\n",
        "1795500000.0",
        "1_795_500_000",
        "01795500000",
        "1.7955e9",
        "١٧٩٥٥٠٠٠٠٠",
        "179550000\uff10",
        "²",
        "nan",
        "\ud800",
        "9" * 10_000,
    ],
)
def test_a_time_that_is_no_whole_seconds_is_refused(
    made: Callable[..., Delivery], time_header: str, text: str
) -> None:
    """Only ASCII digits are a time, and only as many as a clock has."""
    good = made()

    delivery = replace(good, headers={**good.headers, time_header: text})

    assert delivery.verdict() == refused("bad-timestamp")


@every_timed
def test_a_time_that_is_missing_or_repeated_is_refused(
    made: Callable[..., Delivery], time_header: str
) -> None:
    """A scheme with a time needs exactly one."""
    good = made()

    for values in ([], [str(SENT_AT_S)] * 2):
        delivery = replace(good, headers={**good.headers, time_header: values})
        assert delivery.verdict() == refused("bad-timestamp")


# --- Standard Webhooks in particular


@pytest.mark.parametrize("place", ["{good} v1,AAAA v1a,BBBB", "v1a,x junk v1,AAAA  {good}"])
def test_one_good_signature_of_the_list_is_enough(place: str) -> None:
    """The signature header is a list, for rotation; other versions and junk are passed over."""
    good = standard_webhooks()

    listed = good.but(webhook_signature=place.format(good=good.headers["webhook-signature"]))

    assert listed.verdict().verified


@pytest.mark.parametrize("version", ["v1a,", "v2,", "V1,", "v1", ",", ""])
def test_a_good_signature_of_another_version_is_refused(version: str) -> None:
    """Only `v1` is verified as v1."""
    good = standard_webhooks()
    proof = str(good.headers["webhook-signature"]).removeprefix("v1,")

    assert not good.but(webhook_signature=version + proof).verdict().verified


def test_the_family_that_verified_gives_the_id() -> None:
    """Of two families `webhook-*` comes first, `svix-*` where the first one does not hold."""
    ours, theirs = standard_webhooks(id_="w"), standard_webhooks(family="svix", id_="s")
    both = replace(ours, headers={**ours.headers, **theirs.headers})

    assert both.verdict().delivery_id == "w"
    assert both.but(webhook_signature="v1,x").verdict().delivery_id == "s"
    assert both.but(svix_signature="v1,x").verdict().delivery_id == "w"


@pytest.mark.parametrize("part", ["id", "timestamp", "signature"])
def test_families_are_never_mixed(part: str) -> None:
    """A header of the other family does not stand in for a missing one."""
    good = standard_webhooks()
    value = good.headers[f"webhook-{part}"]

    mixed = replace(good, headers={**good.headers, f"webhook-{part}": [], f"svix-{part}": value}).verdict()

    assert not mixed.verified


@pytest.mark.parametrize(
    "secret", [WHSEC, base64.b64encode(KEY + b"1"), base64.b64encode(KEY + b"1").rstrip(b"=")]
)
def test_a_whsec_secret_comes_with_or_without_prefix_and_padding(secret: bytes) -> None:
    """Secrets are taken in every form that the official libraries take."""
    key = KEY if secret == WHSEC else KEY + b"1"
    proof = mac(f"msg_1.{SENT_AT_S}.".encode() + BODY, key=key)
    good = standard_webhooks().but(webhook_signature="v1," + base64.b64encode(proof).decode())

    assert replace(good, secrets=(secret,)).verdict().verified


@pytest.mark.parametrize("secret", [b"whsec_", WHSEC + b"!!!!", b"A", b"A-_A", b"\xff\x00", b"===="])
def test_a_whsec_secret_that_is_no_base64_is_no_secret(secret: bytes) -> None:
    """A mistyped secret never quietly becomes another key."""
    assert replace(standard_webhooks(), secrets=(secret,)).verdict() == refused("no-secret")


# --- laws

texts = st.text(st.characters(), max_size=40)  # surrogates and NUL included
header_values = st.lists(
    texts | st.sampled_from([str(SENT_AT_S), "v1,AAAA", "Bearer x", "Basic eA==", "9" * 5_000]),
    max_size=3,
)


@given(data=st.data(), body=st.binary(max_size=60), secrets=st.lists(st.binary(max_size=40)))
def test_whatever_comes_is_a_verdict_and_no_stranger_is_verified(
    data: st.DataObject, body: bytes, secrets: list[bytes]
) -> None:
    """Any headers, query, body and secrets give a verdict; none that is not signed is verified."""
    good = GOOD[data.draw(st.sampled_from([name for name in GOOD if "token" not in name]))][0]()
    headers = {name: data.draw(header_values) for name in good.headers}
    stranger = replace(good, headers=headers, query={"key": data.draw(header_values)}, body=body)

    verdicts = [stranger.verdict(), replace(stranger, secrets=tuple(secrets)).verdict()]

    assert all(isinstance(verdict, Verdict) for verdict in verdicts)
    assert verdicts[0].verified == (good.scheme.scheme == "none")


@given(values=header_values)
def test_a_token_is_verified_exactly_where_it_is_the_secret(values: list[str]) -> None:
    """No other text passes for a token, in a header or in the query."""
    expected = values == [SECRET.decode()]

    assert replace(token_header(), headers={"x-token": values}).verdict().verified == expected
    assert replace(token_parameter(), query={"key": values}).verdict().verified == expected


@given(
    name=st.sampled_from([name for name in PROOFS if name not in {"bearer", "basic", "token-header"}]),
    at=st.integers(0, len(BODY) - 1),
    flip=st.integers(1, 255),
)
def test_a_body_with_one_other_byte_is_refused(name: str, at: int, flip: int) -> None:
    """A signature holds for its body alone."""
    changed = bytearray(BODY)
    changed[at] ^= flip

    delivery = replace(GOOD[name][0](), body=bytes(changed))

    assert delivery.verdict() == refused("mismatch")


@given(
    place=st.sampled_from(
        [
            *PROOFS.items(),
            ("standard-webhooks", "webhook-id"),
            ("standard-webhooks", "webhook-timestamp"),
            ("svix", "svix-id"),
            ("svix", "svix-timestamp"),
            ("grafana-timed", "x-sent-at"),
            ("slack", "x-slack-request-timestamp"),
            ("hmac-full", "x-id"),
            ("hmac-full", "x-time"),
        ]
    ),
    at=st.integers(min_value=0),
    put=st.characters(),
)
def test_a_covered_header_with_one_other_character_is_refused(
    place: tuple[str, str], at: int, put: str
) -> None:
    """Signature, credential, signed id and signed time hold as they were sent, or not at all."""
    name, header = place
    good = GOOD[name][0]()
    text = str(good.headers[header])
    at %= len(text)
    assume(put.lower() != text[at].lower())  # hex and `Bearer` have no case

    delivery = replace(good, headers={**good.headers, header: text[:at] + put + text[at + 1 :]})

    assert not delivery.verdict().verified


# --- what a routes file may say


@pytest.mark.parametrize(
    "reference",
    [
        "env:A_1",
        "secretsmanager:prod/hook",
        "secretsmanager:arn:aws:secretsmanager:eu-west-1:1:secret:x-AbC#key",
        "ssm:/prod/hook",
        "file:/run/secrets/a b",
    ],
)
def test_a_secret_is_named_by_where_it_is(reference: str) -> None:
    """Every form of reference that the contract names is taken."""
    scheme = of_name("github", secrets=["env:A", reference])

    assert scheme.secrets == ("env:A", reference)


@pytest.mark.parametrize(
    "secrets",
    [
        ["hunter2"],
        ["env:"],
        ["env:hunter2 x"],
        ["ssm:"],
        ["file:"],
        ["secretsmanager:"],
        ["secretsmanager:hunter2#"],
        ["secretsmanager:#hunter2"],
        ["vault:hunter2"],
        ["env:A", "hunter2"],
        [],
        "hunter2",
        [7],
        None,
    ],
)
@pytest.mark.parametrize("name", ["standard-webhooks", "github", "bearer", "basic"])
def test_a_secret_that_is_no_reference_is_refused_unseen(name: str, secrets: object) -> None:
    """A secret written out by mistake is refused, in words that do not repeat it."""
    with pytest.raises(ValidationError) as caught:
        of_name(name, secrets=secrets)

    told = caught.value.errors(include_input=False, include_url=False)
    assert "hunter2" not in str(told)


def test_a_schemes_own_errors_show_no_values() -> None:
    """Also printed whole, the error of one scheme's table holds nothing of what stood there."""
    model = type(of_name("github"))

    with pytest.raises(ValidationError) as caught:
        model.model_validate({"scheme": "github", "secrets": ["hunter2"]})

    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    "table",
    [
        {},
        {"scheme": "md5"},
        {"scheme": "none", "secrets": ["env:A"]},
        {"scheme": "github"},
        {"scheme": "github", "secrets": ["env:A"], "tolerance_s": 300},
        {"scheme": "github", "secrets": ["env:A"], "header": "X-Sig"},
        {"scheme": "slack", "secrets": ["env:A"], "tolerance_s": 0},
        {"scheme": "slack", "secrets": ["env:A"], "tolerance_s": True},
        {"scheme": "slack", "secrets": ["env:A"], "tolerance_s": "300"},
        {"scheme": "grafana", "secrets": ["env:A"], "tolerance_s": 300},
        {"scheme": "grafana", "secrets": ["env:A"], "timestamp_header": ""},
        {"scheme": "grafana", "secrets": ["env:A"], "timestamp_header": "X Time"},
        {"scheme": "token", "secrets": ["env:A"]},
        {"scheme": "token", "secrets": ["env:A"], "parameter": ""},
        {"scheme": "token", "secrets": ["env:A"], "parameter": "k", "header": "X-K"},
        {"scheme": "hmac", "secrets": ["env:A"]},
        {"scheme": "hmac", "secrets": ["env:A"], "header": "X-Sig", "algorithm": "sha1"},
        {"scheme": "hmac", "secrets": ["env:A"], "header": "X-Sig", "encoding": "base32"},
        {"scheme": "hmac", "secrets": ["env:A"], "header": "X-Sig", "tolerance_s": 5},
    ],
)
def test_a_table_that_cannot_be_meant_is_refused(table: dict[str, object]) -> None:
    """Unknown schemes and keys, missing keys and keys without effect stop at the start."""
    with pytest.raises(ValueError, match=r"scheme (is missing|must be one of)|validation error"):
        scheme_of(table)


@pytest.mark.parametrize(
    ("signed", "keys"),
    [
        ("", {}),
        ("body", {}),
        ("{body}{body}", {}),
        ("{body}{", {}),
        ("{}{body}", {}),
        ("{{body}}", {}),
        ("{body}{url}", {}),
        ("{id}{body}", {}),
        ("{timestamp}{body}", {}),
        ("{body}", {"timestamp_header": "X-Time"}),
        ("{timestamp}", {"timestamp_header": "X-Time"}),
        ("{timestamp}{timestamp}{body}", {"timestamp_header": "X-Time"}),
        ("{id}{id}{body}", {"id_header": "X-Id"}),
    ],
)
def test_a_template_names_what_there_is_once(signed: str, keys: dict[str, Any]) -> None:
    """A template without the body, without its time, or with an unknown name is refused."""
    with pytest.raises(ValidationError, match="signed holds"):
        of_name("hmac", header="X-Sig", signed=signed, **keys)


def test_only_what_proves_its_sender_is_fit_for_host_operations() -> None:
    """Operations on hosts need a signed time: without one, what was once seen can be sent for ever."""
    fit = {name for name in GOOD if GOOD[name][0]().scheme.signed_time_s == 300}

    assert fit == {"standard-webhooks", "svix", "grafana-timed", "slack", "hmac-full"}


@pytest.mark.parametrize("key", ["scheme", "secrets"])
def test_a_scheme_cannot_be_changed(key: str) -> None:
    """What was checked at the start stays so."""
    scheme = of_name("github")

    with pytest.raises(ValidationError, match="frozen"):
        setattr(scheme, key, "none")
