"""What other people's signers make, `oncetask.webhooks.schemes` accepts."""

import base64
from datetime import UTC, datetime

import pytest
from standardwebhooks import Webhook

from oncetask.webhooks.schemes import Verdict, scheme_of, verify

SENT_AT_S = 1_795_500_000
KEY = b"0123456789abcdef0123456"  # its base64 needs padding
PLAIN = base64.b64encode(KEY).decode()
STANDARD_WEBHOOKS = scheme_of({"scheme": "standard-webhooks", "secrets": ["env:A"]})
every_form_of_secret = pytest.mark.parametrize("secret", ["whsec_" + PLAIN, PLAIN, PLAIN.strip("=")])
every_body = pytest.mark.parametrize(
    "body", ["", '{"a":1}', "a=1&b=2", '{"name":"Łódź 東京 🐙"}', "line\nline\r\n\x00", "1.2.3"]
)


def judged(secret: str, signature: str, body: str, *, now_s: float = SENT_AT_S) -> Verdict:
    """What `verify` says of a delivery with the library's signature."""
    headers = {
        "webhook-id": ["msg_2KWPBgLlAfxdpx2AI54pPJ85f4W"],
        "webhook-timestamp": [str(SENT_AT_S)],
        "webhook-signature": [signature],
    }
    return verify(
        STANDARD_WEBHOOKS,
        secrets=[secret.encode()],
        headers=headers,
        query={},
        body=body.encode(),
        now_s=now_s,
    )


def signed(secret: str, body: str) -> str:
    """The signature that the official library makes."""
    sent_at = datetime.fromtimestamp(SENT_AT_S, tz=UTC)
    return Webhook(secret).sign("msg_2KWPBgLlAfxdpx2AI54pPJ85f4W", sent_at, body)


@every_form_of_secret
@every_body
def test_what_the_official_library_signs_is_verified(secret: str, body: str) -> None:
    """Sender and receiver agree for every body, and for every form of one secret."""
    verdict = judged(secret, signed(secret, body), body)

    assert verdict == Verdict(verified=True, delivery_id="msg_2KWPBgLlAfxdpx2AI54pPJ85f4W")


@every_body
def test_what_the_official_library_signs_for_another_body_is_refused(body: str) -> None:
    """The library's signature holds for its own body alone."""
    verdict = judged(PLAIN, signed(PLAIN, body), body + " ")

    assert verdict == Verdict(verified=False, reason="mismatch")


def test_the_official_librarys_signature_grows_stale() -> None:
    """A good delivery that is sent again later is refused."""
    verdict = judged(PLAIN, signed(PLAIN, "{}"), "{}", now_s=SENT_AT_S + 301)

    assert verdict == Verdict(verified=False, reason="stale")


def test_the_specifications_list_of_signatures_is_verified() -> None:
    """During a rotation two signatures come in one header, and either secret verifies."""
    older = "whsec_" + base64.b64encode(KEY[::-1]).decode()
    both = f"{signed(older, '{}')} {signed(PLAIN, '{}')} v1a,AAAA"

    verdicts = [judged(secret, both, "{}") for secret in (older, PLAIN)]

    assert [verdict.verified for verdict in verdicts] == [True, True]
