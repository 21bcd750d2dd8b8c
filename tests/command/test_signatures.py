"""What `send` signs is what a route verifies."""

from typing import Any
from urllib.parse import parse_qs, urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from local.signatures import signed
from oncetask.webhooks.schemes import SCHEMES, scheme_of, verify

NOW_S = 1_800_000_000.0
SECRETS = ["env:A"]
WHSEC = b"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"

TABLES: list[dict[str, Any]] = [
    {"scheme": "standard-webhooks"},
    {"scheme": "github"},
    {"scheme": "grafana"},
    {"scheme": "grafana", "timestamp_header": "X-Time"},
    {"scheme": "slack"},
    {"scheme": "hmac", "header": "X-Signature"},
    {
        "scheme": "hmac",
        "header": "X-Signature",
        "prefix": "sha512=",
        "algorithm": "sha512",
        "encoding": "base64",
        "timestamp_header": "X-Time",
        "id_header": "X-Id",
        "signed": "{id}.{timestamp}.{body}",
    },
    {
        "scheme": "hmac",
        "header": "X-Signature",
        "fields": {"time": "t", "signature": "v1"},
        "timestamp_format": "milliseconds",
        "signed": "{timestamp}.{body}",
    },
    {
        "scheme": "hmac",
        "header": "X-Signature",
        "separator": " ",
        "timestamp_header": "X-Time",
        "timestamp_format": "rfc3339",
        "id_header": ["X-Source", "X-Id"],
        "signed": "{timestamp}.{id}.{body}",
    },
    {"scheme": "slack", "id_header": "X-Id"},
    {"scheme": "bearer"},
    {"scheme": "bearer", "id_header": ["ce-source", "ce-id"]},
    {"scheme": "basic"},
    {"scheme": "token", "header": "X-Token"},
    {"scheme": "token", "parameter": "token"},
]


def test_each_scheme_is_among_these() -> None:
    """Who adds one is reminded that `send` must sign by it."""
    assert {table["scheme"] for table in TABLES} | {"none"} == set(SCHEMES)


@pytest.mark.parametrize("table", TABLES, ids=str)
@given(body=st.binary(max_size=200))
def test_what_is_signed_is_verified_whatever_the_body(table: dict[str, Any], body: bytes) -> None:
    """By every scheme, with its id where it has one; with another secret it is refused."""
    secret = WHSEC if table["scheme"] == "standard-webhooks" else b"user:a-long-password"
    scheme = scheme_of({**table, "secrets": SECRETS})
    proof = signed(scheme, secret, body, now_s=NOW_S, delivery_id=None)

    def verdict(known: bytes) -> Any:  # noqa: ANN401
        return verify(
            scheme,
            secrets=[known],
            headers={name.lower(): (value,) for name, value in proof.headers.items()},
            query={name: tuple(values) for name, values in parse_qs(urlencode(proof.query)).items()},
            body=body,
            now_s=NOW_S,
        )

    assert verdict(secret).verified
    assert verdict(secret).delivery_id == proof.delivery_id
    assert not verdict(b"whsec_d3Jvbmd3cm9uZw==").verified


def test_a_given_id_is_the_deliverys() -> None:
    """So that a replay is a duplicate."""
    scheme = scheme_of({"scheme": "bearer", "secrets": SECRETS})

    proof = signed(scheme, b"secret", b"{}", now_s=NOW_S, delivery_id="again")

    assert (proof.headers["idempotency-key"], proof.delivery_id) == ("again", "again")
