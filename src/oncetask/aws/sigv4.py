"""Sign one AWS request: Signature Version 4, in its `Authorization` header form, for every service but S3.

Source: https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html
"""

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import reduce
from urllib.parse import parse_qsl, quote, urlsplit

ALGORITHM = "AWS4-HMAC-SHA256"


@dataclass(frozen=True, slots=True)
class AwsKeys:
    """One set of AWS keys; only the access key's id may be shown. `session_token`: of temporary keys."""

    access_key_id: str
    secret_access_key: str = field(repr=False)
    session_token: str | None = field(default=None, repr=False)


def sign(  # noqa: PLR0913 - each is one part of what is signed
    method: str,
    url: str,
    headers: Mapping[str, str],
    body: bytes,
    *,
    service: str,
    region: str,
    keys: AwsKeys,
    now_s: float,
) -> dict[str, str]:
    """The headers to send: those given, Host, date and token, all lower case and signed, and the signature.

    `url` holds path and query as they travel; a path with `.` or `//` in it is not normalised.
    """
    parts, stamp = urlsplit(url), datetime.fromtimestamp(now_s, UTC).strftime("%Y%m%dT%H%M%SZ")
    sent = {name.lower(): " ".join(value.split()) for name, value in headers.items()}
    sent |= {"host": parts.netloc, "x-amz-date": stamp}
    if keys.session_token:
        sent["x-amz-security-token"] = keys.session_token
    names = ";".join(sorted(sent))
    canonical = "\n".join(
        (
            method,
            quote(parts.path or "/", safe="/-_.~"),
            _canonical_query(parts.query),
            *(f"{name}:{sent[name]}" for name in sorted(sent)),
            "",
            names,
            hashlib.sha256(body).hexdigest(),
        )
    )
    scope = (stamp[:8], region, service, "aws4_request")
    signed = "\n".join((ALGORITHM, stamp, "/".join(scope), hashlib.sha256(canonical.encode()).hexdigest()))
    key = reduce(_hmac, scope, f"AWS4{keys.secret_access_key}".encode())
    credential = "/".join((keys.access_key_id, *scope))
    sent["authorization"] = (
        f"{ALGORITHM} Credential={credential}, SignedHeaders={names}, Signature={_hmac(key, signed).hex()}"
    )
    return sent


def _canonical_query(query: str) -> str:
    pairs = [
        (quote(name, safe="-_.~"), quote(value, safe="-_.~"))
        for name, value in parse_qsl(query, keep_blank_values=True)
    ]
    return "&".join(f"{name}={value}" for name, value in sorted(pairs))


def _hmac(key: bytes, text: str) -> bytes:
    return hmac.digest(key, text.encode(), "sha256")
