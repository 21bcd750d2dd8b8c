"""Signature V3 (ACS3-HMAC-SHA256), verified as Alibaba Cloud's gateway does it (api-facts 5.1)."""

import hashlib
import hmac
import re
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import quote

from .answers import ApiError
from .wire import Request

ALGORITHM = "ACS3-HMAC-SHA256"
SKEW_S = 15 * 60
NONCE_KEPT_S = 30 * 60
"""A stamp may lie 15 minutes ahead, and is then good for 15 more: no replay outlives this."""

type Credentials = Mapping[str, tuple[str, str | None]]
"""Access key id to its secret and, for temporary ones, the security token that belongs to them."""

_AUTHORIZATION = re.compile(
    ALGORITHM
    + r" Credential=(?P<access_key_id>[^,]+), *SignedHeaders=(?P<names>[^,]+)"
    + r", *Signature=(?P<hex>[0-9a-f]{64})"
)
_REQUIRED = {
    "x-acs-action": "MissingAction",
    "x-acs-version": "MissingVersion",
    "x-acs-date": "MissingTimestamp",
    "x-acs-signature-nonce": "MissingSignatureNonce",
}


@dataclass(frozen=True, slots=True)
class Authorization:
    """The Authorization header's three parts."""

    access_key_id: str
    signed_headers: tuple[str, ...]
    signature: str


def verify(
    request: Request,
    credentials: Credentials,
    *,
    now_s: float,
    expired_tokens: AbstractSet[str] = frozenset(),
) -> str:
    """The request's nonce, still to be used up in Nonces; raises ApiError unless all is right."""
    _require_headers(request)
    given = _authorization(request)
    if given.access_key_id not in credentials:
        raise ApiError(404, "InvalidAccessKeyId.NotFound", "Specified access key is not found.")
    secret, token = credentials[given.access_key_id]
    _check_stamp(request.headers["x-acs-date"], now_s)
    expected = signature(secret, canonical_request(request, given.signed_headers))
    if not hmac.compare_digest(expected, given.signature):
        message = "Specified signature does not match our calculation."
        raise ApiError(400, "SignatureDoesNotMatch", message)
    _check_token(request.headers.get("x-acs-security-token"), token, expired_tokens)
    return request.headers["x-acs-signature-nonce"]


def canonical_request(request: Request, signed_headers: tuple[str, ...]) -> str:
    """What is signed: exactly the headers the client says it signed, the query, the body's hash."""
    query = "&".join(f"{_quoted(k)}={_quoted(v)}" for k, v in sorted(request.query_pairs))
    headers = "".join(f"{name}:{request.headers.get(name, '')}\n" for name in signed_headers)
    body_hash = hashlib.sha256(request.body).hexdigest()
    names = ";".join(signed_headers)
    return f"{request.method}\n{request.path}\n{query}\n{headers}\n{names}\n{body_hash}"


def signature(secret: str, canonical: str) -> str:
    """The lower-case hexadecimal signature of a canonical request."""
    to_sign = f"{ALGORITHM}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
    return hmac.new(secret.encode(), to_sign.encode(), hashlib.sha256).hexdigest()


class Nonces:
    """Nonces seen in the last 30 minutes; memory is bounded by what arrives in that time."""

    def __init__(self) -> None:
        self._seen_s: dict[str, float] = {}

    def use(self, nonce: str, now_s: float) -> None:
        """Takes the nonce; raises SignatureNonceUsed if it was taken before."""
        self._prune(now_s)
        if nonce in self._seen_s:
            message = "Specified signature nonce was used already."
            raise ApiError(400, "SignatureNonceUsed", message)
        self._seen_s[nonce] = now_s

    def _prune(self, now_s: float) -> None:
        while self._seen_s:
            oldest = next(iter(self._seen_s))
            if self._seen_s[oldest] > now_s - NONCE_KEPT_S:
                return
            del self._seen_s[oldest]


def _quoted(text: str) -> str:
    return quote(text, safe="~")


def _require_headers(request: Request) -> None:
    for name, code in _REQUIRED.items():
        if not request.headers.get(name):
            raise ApiError(400, code, f"{name} is mandatory for this action.")


def _authorization(request: Request) -> Authorization:
    match = _AUTHORIZATION.fullmatch(request.headers.get("authorization", ""))
    if match is None:
        raise _incomplete("The Authorization header does not conform to the standard.")
    names = tuple(match["names"].split(";"))
    unsigned = {"host", *(n for n in request.headers if n.startswith("x-acs-"))} - {*names}
    if unsigned:
        raise _incomplete(f"Not signed: {', '.join(sorted(unsigned))}.")
    return Authorization(match["access_key_id"], names, match["hex"])


def _incomplete(message: str) -> ApiError:
    return ApiError(400, "IncompleteSignature", message)


def _check_stamp(stamp: str, now_s: float) -> None:
    try:
        stamp_s = datetime.strptime(stamp, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC).timestamp()
    except ValueError:
        message = "Specified time stamp is not well formatted."
        raise ApiError(400, "InvalidTimeStamp.Format", message) from None
    if abs(now_s - stamp_s) > SKEW_S:
        message = "Specified time stamp or date value is expired."
        raise ApiError(400, "InvalidTimeStamp.Expired", message)


def _check_token(given: str | None, expected: str | None, expired: AbstractSet[str]) -> None:
    if given in expired:
        message = "Specified SecurityToken is expired."
        raise ApiError(400, "InvalidSecurityToken.Expired", message)
    if given == expected:
        return
    if given is None:
        raise ApiError(400, "MissingSecurityToken", "SecurityToken is mandatory for this action.")
    raise ApiError(400, "InvalidSecurityToken.Malformed", "Specified SecurityToken is malformed.")
