"""AWS's own examples, and what botocore makes of our two kinds of requests."""

from datetime import UTC, datetime

import pytest

from oncetask.aws.sigv4 import AwsKeys, sign

KEYS = AwsKeys("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY")
EXAMPLE_TOKEN = (
    "AQoDYXdzEPT//////////wEXAMPLEtc764bNrC9SAPBSM22wDOk4x4HIZ8j4FZTwdQWLWsKWHGBuFqwAeMicRXmxfpSPfIeoIYRqTflf"
    "KD8YUuwthAx7mSEI/qkPpKPi/kMcGdQrmGdeehM4IC1NtBmUpp2wUE8phUZampKsburEDy0KPkyQDYwT7WZ0wq5VSXDvp75YU9HFvlRd"
    "8Tx6q6fE8YQcHNVXAkiY9q6d+xo0rKwT38xVqr7ZD0u0iPPkUL64lIZbqBAz+scqKmlzm8FDrypNC9Yjc8fPOLn9FX9KSYvKTr4rvx3i"
    "SIlTJabIQwj2ICCR/oLxBA=="
)


def with_token(token: str | None) -> AwsKeys:
    """The keys, temporary where there is a token."""
    return AwsKeys(KEYS.access_key_id, KEYS.secret_access_key, token)


@pytest.mark.parametrize(
    ("method", "target", "headers", "body", "token", "signature"),
    [
        pytest.param(
            *("GET", "/", {}, b"", None),
            "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31",
            id="get-vanilla",
        ),
        pytest.param(
            *("POST", "/", {}, b"", None),
            "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b",
            id="post-vanilla",
        ),
        pytest.param(
            *("GET", "/?Param1=value1", {}, b"", None),
            "a67d582fa61cc504c4bae71f336f98b97f1ea3c7a6bfe1b6e45aec72011b9aeb",
            id="get-vanilla-empty-query-key",
        ),
        pytest.param(
            *("GET", "/?Param2=value2&Param1=value1", {}, b"", None),
            "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500",
            id="get-vanilla-query-order-key-case",
        ),
        pytest.param(
            *("GET", "/", {"My-Header1": " value1", "My-Header2": ' "a   b   c"'}, b"", None),
            "acc3ed3afb60bb290fc8d2dd0098b9911fcaa05412b367055dee359757a9c736",
            id="get-header-value-trim",
        ),
        pytest.param(
            *("POST", "/", {"My-Header1": "value1"}, b"", None),
            "c5410059b04c1ee005303aed430f6e6645f61f4dc9e1461ec8f8916fdf18852c",
            id="post-header-key-sort",
        ),
        pytest.param(
            *("POST", "/", {"Content-Type": "application/x-www-form-urlencoded"}, b"Param1=value1", None),
            "ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a",
            id="post-x-www-form-urlencoded",
        ),
        pytest.param(
            *("POST", "/", {}, b"", EXAMPLE_TOKEN),
            "85d96828115b5dc0cfc3bd16ad9e210dd772bbebba041836c64533a82be05ead",
            id="post-sts-header-before",
        ),
    ],
)
def test_requests_of_awss_own_test_suite_are_signed_alike(  # noqa: PLR0913 - one column each
    *, method: str, target: str, headers: dict[str, str], body: bytes, token: str | None, signature: str
) -> None:
    """The published suite's requests get the published signatures."""
    now_s = datetime(2015, 8, 30, 12, 36, tzinfo=UTC).timestamp()
    url = f"https://example.amazonaws.com{target}"

    sent = sign(
        method,
        url,
        headers,
        body,
        service="service",
        region="us-east-1",
        keys=with_token(token),
        now_s=now_s,
    )

    assert sent["authorization"].endswith(f"Signature={signature}")
    assert sent["x-amz-date"] == "20150830T123600Z"
    assert sent["host"] == "example.amazonaws.com"


DYNAMODB = (
    "dynamodb",
    {"Content-Type": "application/x-amz-json-1.0", "X-Amz-Target": "DynamoDB_20120810.GetItem"},
    b'{"TableName":"oncetask"}',
)
STS = (
    "sts",
    {"Content-Type": "application/x-www-form-urlencoded", "Accept": "application/json"},
    b"Action=GetCallerIdentity&Version=2011-06-15",
)


@pytest.mark.parametrize(
    ("service", "headers", "body", "token", "names", "signature"),
    [
        pytest.param(
            *DYNAMODB,
            None,
            "content-type;host;x-amz-date;x-amz-target",
            "a08b7866b6e9b31a487a822a2e9245766881d43a72871bd96b9c10172abc0087",
            id="dynamodb",
        ),
        pytest.param(
            *DYNAMODB,
            "FwoGZXIvYXdzEXAMPLE//token==",
            "content-type;host;x-amz-date;x-amz-security-token;x-amz-target",
            "2e3edbca881b576079df39c726bfd5337a579ba405fefbc08aee9682ccde0d5b",
            id="dynamodb, temporary keys",
        ),
        pytest.param(
            *STS,
            None,
            "accept;content-type;host;x-amz-date",
            "39fc7e011977f1cecac712d78665e7905cc542fee6fe9b63c41b1040ac6e0a0f",
            id="sts",
        ),
        pytest.param(
            *STS,
            "FwoGZXIvYXdzEXAMPLE//token==",
            "accept;content-type;host;x-amz-date;x-amz-security-token",
            "fab2ba78a2290f66b186181d3f9f5aaae447b1d9e023d84d23b4a7c79f4227ec",
            id="sts, temporary keys",
        ),
    ],
)
def test_our_requests_are_signed_as_botocore_signs_them(  # noqa: PLR0913 - one column each
    *, service: str, headers: dict[str, str], body: bytes, token: str | None, names: str, signature: str
) -> None:
    """The whole header equals what botocore 1.44.5 made of the same request at the same moment."""
    sent = sign(
        "POST",
        f"https://{service}.eu-central-1.amazonaws.com/",
        headers,
        body,
        service=service,
        region="eu-central-1",
        keys=with_token(token),
        now_s=datetime(2026, 11, 24, 5, 0, tzinfo=UTC).timestamp(),
    )

    assert sent["authorization"] == (
        f"AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20261124/eu-central-1/{service}/aws4_request,"
        f" SignedHeaders={names}, Signature={signature}"
    )
    assert sent.get("x-amz-security-token") == token


def test_keys_show_their_id_alone() -> None:
    """Printed or logged by mistake, they give neither secret nor token away."""
    shown = repr(with_token(EXAMPLE_TOKEN))

    assert shown == "AwsKeys(access_key_id='AKIDEXAMPLE')"
