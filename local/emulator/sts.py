"""Keyless access, played whole: an AWS account that vouches for a role, and a RAM role that trusts it.

    Federation   both ends, and what an operator sets up at them: attributes, to be changed at any time
    AwsAccount   its STS (GetWebIdentityToken) and its issuer's published keys, on a port of its own

AssumeRoleWithOIDC joins the emulator that it is given; the keys that it lends are good there.
"""

import base64
import hashlib
import hmac
import json
import re
import secrets
import socket
import time
import urllib.request
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import cache
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qsl
from xml.sax.saxutils import escape

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import (
    RSAPrivateKey,
    RSAPublicNumbers,
    generate_private_key,
)
from cryptography.hazmat.primitives.hashes import SHA256

from .answers import Answer, ApiError, Reply
from .calls import Call
from .listener import Listener
from .server import Emulator
from .wire import Malformed, Request, read_request, written

AWS_KEY_ID = "AKIAEMULATOR"
AWS_SECRET = "aws-emulator-secret"  # noqa: S105 - made up
AWS_SESSION_TOKEN = "aws-emulator-session-token"  # noqa: S105 - likewise
AWS_REGION = "eu-central-1"
AWS_ROLE_ARN = "arn:aws:iam::123456789012:role/oncetask"
AUDIENCE = "oncetask"
ROLE_ARN = "acs:ram::1234567890123456:role/oncetask"
PROVIDER_ARN = "acs:ram::1234567890123456:oidc-provider/aws"

TOKEN_LIFE_S = 300
SKEW_S = 15 * 60
_AUTHORIZATION = re.compile(
    r"AWS4-HMAC-SHA256 Credential=(?P<key_id>[^/]+)/(?P<scope>(?P<day>\d{8})/[a-z0-9-]+/sts/aws4_request), *"
    r"SignedHeaders=(?P<names>[^,]+), *Signature=(?P<hex>[0-9a-f]{64})"
)


class AwsAccount:
    """One AWS account at `url`, listening from its making until `close`."""

    def __init__(self, clock: Callable[[], float], key: RSAPrivateKey) -> None:
        self.federation_is_on = True
        self.allowed_audiences = {AUDIENCE}
        self.role_arn = AWS_ROLE_ARN
        self.keys = {AWS_KEY_ID: (AWS_SECRET, AWS_SESSION_TOKEN)}
        self.calls = 0
        self.issued: list[str] = []
        self._clock = clock
        self._key = key
        self._listener = Listener(0, self._serve)
        self.up()

    @property
    def url(self) -> str:
        """Its STS and, as the issuer, what it publishes."""
        return f"http://127.0.0.1:{self._listener.port}"

    def up(self) -> None:
        """Listens again, on the same port."""
        self._listener.up()

    def down(self) -> None:
        """Connects are refused, until `up`."""
        self._listener.down()

    def close(self) -> None:
        """Down for good."""
        self._listener.close()

    def token(self, audience: str) -> str:
        """A new token for the role, good for five minutes."""
        now_s = int(self._clock())
        claims = {"iss": self.url, "sub": self.role_arn, "aud": audience, "jti": secrets.token_hex(8)}
        self.issued.append(signed_token(self._key, claims | {"iat": now_s, "exp": now_s + TOKEN_LIFE_S}))
        return self.issued[-1]

    def _serve(self, connection: socket.socket) -> None:
        with connection.makefile("rb") as stream:
            try:
                while request := read_request(stream):
                    connection.sendall(written(self._reply(request), closes=request.closes))
                    if request.closes:
                        return
            except Malformed:
                return

    def _reply(self, request: Request) -> Reply:
        if request.method == "GET":
            return self._published(request.path)
        self.calls += 1
        as_json = request.headers.get("accept") == "application/json"
        try:
            verify_sigv4(request, self.keys, self._clock())
            fields = self._vouched(dict(parse_qsl(request.body.decode())))
        except ApiError as error:
            return _aws_error(error, as_json=as_json)
        return _aws_answer(fields, as_json=as_json)

    def _published(self, path: str) -> Reply:
        documents = {
            "/.well-known/openid-configuration": {
                "issuer": self.url,
                "jwks_uri": f"{self.url}/.well-known/jwks.json",
            },
            "/.well-known/jwks.json": {"keys": [_jwk(self._key)]},
        }
        if path not in documents:
            return Reply(404, b"{}")
        return Reply(200, json.dumps(documents[path]).encode())

    def _vouched(self, parameters: Mapping[str, str]) -> dict[str, str]:
        action, audience = parameters.get("Action"), parameters.get("Audience.member.1", "")
        if (action, parameters.get("Version")) != ("GetWebIdentityToken", "2011-06-15"):
            raise ApiError(400, "InvalidAction", f"Could not find operation {action}")
        if audience not in self.allowed_audiences:
            message = f"User: {self.role_arn} is not authorized to perform: sts:GetWebIdentityToken"
            raise ApiError(403, "AccessDenied", message)
        if not self.federation_is_on:
            message = "The outbound web identity federation feature is not enabled for this account."
            raise ApiError(403, "OutboundWebIdentityFederationDisabled", message)
        if parameters.get("SigningAlgorithm") != "RS256":
            raise ApiError(400, "ValidationError", "The emulator signs with RS256 alone.")
        ends_at = datetime.fromtimestamp(self._clock() + TOKEN_LIFE_S, UTC)
        return {"WebIdentityToken": self.token(audience), "Expiration": f"{ends_at:%Y-%m-%dT%H:%M:%SZ}"}


class Federation:
    """An AWS account, and a RAM role behind an OIDC provider in the emulator, which trusts it.

    The role's keys are good in the emulator until `expire_keys`.
    """

    def __init__(self, emulator: Emulator, *, clock: Callable[[], float] = time.time) -> None:
        self.aws = AwsAccount(clock, account_key())
        self.client_ids = {AUDIENCE}
        self.trusted_subjects = {AWS_ROLE_ARN}
        self.issuer_root = "fingerprint-of-root-1"
        self.fingerprints = {"fingerprint-of-root-1"}
        self.key_life_s = 3600
        self.lent: list[tuple[str, str, str]] = []
        self.clock = clock
        self._emulator = emulator
        emulator.add_operation("2015-04-01", "AssumeRoleWithOIDC", self._assume_role, signed=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """The AWS account is gone."""
        self.aws.close()

    def environment(self) -> dict[str, str]:
        """The variables of a function that works here keyless."""
        return {
            "ONCETASK_CREDENTIALS": "keyless",
            "ONCETASK_ENDPOINT": self._emulator.url,
            "ONCETASK_ALIBABA_STS_ENDPOINT": self._emulator.url,
            "ONCETASK_OIDC_AUDIENCE": AUDIENCE,
            "ALIBABA_CLOUD_ROLE_ARN": ROLE_ARN,
            "ALIBABA_CLOUD_OIDC_PROVIDER_ARN": PROVIDER_ARN,
            "AWS_REGION": AWS_REGION,
            "AWS_ACCESS_KEY_ID": AWS_KEY_ID,
            "AWS_SECRET_ACCESS_KEY": AWS_SECRET,
            "AWS_SESSION_TOKEN": AWS_SESSION_TOKEN,
            "AWS_ENDPOINT_URL_STS": self.aws.url,
        }

    def expire_keys(self) -> None:
        """What was lent so far is good no more."""
        self._emulator.expired_tokens.update(token for _, _, token in self.lent)

    def _assume_role(self, call: Call) -> Answer:
        parameters = call.parameters
        token = parameters.get("OIDCToken", "")
        if not token or call.query_bytes >= len(token):
            raise _token_refused("Invalid", "The OIDCToken can not empty.")  # in the URL, it is in every log
        if parameters.get("OIDCProviderArn") != PROVIDER_ARN:
            raise ApiError(401, "AuthenticationFail.NoPermission", "No such OIDC Provider registered.")
        claims = self._verified(token)
        if parameters.get("RoleArn") != ROLE_ARN:
            raise ApiError(404, "EntityNotExist.Role", "The role not exists.")
        if claims.get("sub") not in self.trusted_subjects:
            raise ApiError(401, "AuthenticationFail.NoPermission", "There is no permission")
        return self._lend(int(parameters.get("DurationSeconds", "3600")))

    def _verified(self, token: str) -> dict[str, Any]:
        """The claims of a token that the provider accepts, in the order that a stranger may learn of it."""
        if self.issuer_root not in self.fingerprints:
            message = "The https fingerprint of this discovery is invalid."
            raise _token_refused("PublicKeyFingerprintMismatch", message)
        claims = verified_token(token, self.aws.url)
        if claims.get("exp", 0) <= self.clock():
            raise _token_refused("Expired", "This JsonWebToken is expired.")
        if claims.get("aud") not in self.client_ids:
            raise _token_refused("AudienceNotMatch", "Invalid audience.")
        return claims

    def _lend(self, duration_s: int) -> Answer:
        key_id, secret, token = (f"STS.{secrets.token_hex(12)}", secrets.token_hex(20), secrets.token_hex(60))
        self.lent.append((key_id, secret, token))
        self._emulator.credentials[key_id] = (secret, token)
        ends_at = datetime.fromtimestamp(self.clock() + min(duration_s, self.key_life_s), UTC)
        return {
            "Credentials": {
                "AccessKeyId": key_id,
                "AccessKeySecret": secret,
                "SecurityToken": token,
                "Expiration": f"{ends_at:%Y-%m-%dT%H:%M:%SZ}",
            },
            "AssumedRoleUser": {
                "Arn": f"{ROLE_ARN}/oncetask",
                "AssumedRoleId": "33157794895460****:oncetask",
            },
        }


# -- tokens ---------------------------------------------------------------------------------------


@cache
def account_key() -> RSAPrivateKey:
    """The key pair of every account here: making one takes a tenth of a second."""
    return generate_private_key(65_537, 2048)


def signed_token(key: RSAPrivateKey, claims: Mapping[str, object], *, algorithm: str = "RS256") -> str:
    """A JSON Web Token that says so in its header, signed by RS256 in any case."""
    header = {"alg": algorithm, "kid": _kid(key), "typ": "JWT"}
    signed = ".".join(_base64url(json.dumps(part).encode()) for part in (header, claims))
    return f"{signed}.{_base64url(key.sign(signed.encode(), PKCS1v15(), SHA256()))}"


def verified_token(token: str, issuer: str) -> dict[str, Any]:
    """The claims, once the issuer's published keys have shown that it made the token. Raises ApiError."""
    try:
        header, claims, signature = (_decoded(part) for part in token.split("."))
        algorithm, kid = (json.loads(header)[name] for name in ("alg", "kid"))
        told: dict[str, Any] = json.loads(claims)
    except (ValueError, KeyError, TypeError):
        raise _token_refused("Invalid", "The Jwt content is invalid that cannot be recognized.") from None
    if algorithm != "RS256" or told.get("iss") != issuer:
        raise _token_refused("Invalid", "The Jwt content is invalid that cannot be recognized.")
    published = {jwk["kid"]: jwk for jwk in _fetched(_fetched_configuration(issuer)["jwks_uri"])["keys"]}
    try:
        modulus, exponent = (int.from_bytes(_decoded(published[kid][name])) for name in ("n", "e"))
        public = RSAPublicNumbers(exponent, modulus).public_key()
        public.verify(signature, token.rpartition(".")[0].encode(), PKCS1v15(), SHA256())
    except (KeyError, InvalidSignature):
        message = "OIDC token validate failed: invalid signature."
        raise _token_refused("InvalidSignature", message) from None
    return told


def _fetched_configuration(issuer: str) -> dict[str, Any]:
    return _fetched(f"{issuer}/.well-known/openid-configuration")


def _fetched(url: str) -> dict[str, Any]:
    with urllib.request.urlopen(url, timeout=2) as answer:  # noqa: S310 - our own loopback issuer
        document: dict[str, Any] = json.load(answer)
    return document


def _jwk(key: RSAPrivateKey) -> dict[str, str]:
    numbers = key.public_key().public_numbers()
    modulus, exponent = numbers.n.to_bytes(256), numbers.e.to_bytes(3)
    return {
        "kty": "RSA",
        "alg": "RS256",
        "use": "sig",
        "kid": _kid(key),
        "n": _base64url(modulus),
        "e": _base64url(exponent),
    }


def _kid(key: RSAPrivateKey) -> str:
    return hashlib.sha256(key.public_key().public_numbers().n.to_bytes(256)).hexdigest()[:16]


def _base64url(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


def _decoded(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def _token_refused(why: str, message: str) -> ApiError:
    return ApiError(401, f"AuthenticationFail.OIDCToken.{why}", message)


# -- AWS's own forms ------------------------------------------------------------------------------


def verify_sigv4(request: Request, keys: Mapping[str, tuple[str, str | None]], now_s: float) -> None:
    """Raises ApiError unless the request is signed by one of these keys, its body and token included.

    Rebuilt from what arrived, and not with the code that signs.
    """
    given = _AUTHORIZATION.fullmatch(request.headers.get("authorization", ""))
    if given is None:
        raise ApiError(403, "MissingAuthenticationToken", "Request is missing Authentication Token")
    secret, token = keys.get(given["key_id"], ("", None))
    if not secret or request.headers.get("x-amz-security-token") != token:
        message = "The security token included in the request is invalid."
        raise ApiError(403, "InvalidClientTokenId", message)
    stamp, names = request.headers.get("x-amz-date", ""), given["names"].split(";")
    required = {"host", *(name for name in request.headers if name.startswith("x-amz-"))}
    expected = _sigv4(request, secret, given["scope"], stamp, names)
    is_right = hmac.compare_digest(expected, given["hex"])
    if not is_right or required - {*names} or not _is_near(stamp, given["day"], now_s):
        message = "The request signature we calculated does not match the signature you provided."
        raise ApiError(403, "SignatureDoesNotMatch", message)


def _sigv4(request: Request, secret: str, scope: str, stamp: str, names: list[str]) -> str:
    headers = "".join(f"{name}:{request.headers.get(name, '')}\n" for name in names)
    body_hash = hashlib.sha256(request.body).hexdigest()
    canonical = (
        f"{request.method}\n{request.path}\n{request.query}\n{headers}\n{';'.join(names)}\n{body_hash}"
    )
    text = f"AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
    key = f"AWS4{secret}".encode()
    for part in scope.split("/"):
        key = hmac.digest(key, part.encode(), "sha256")
    return hmac.digest(key, text.encode(), "sha256").hex()


def _is_near(stamp: str, day: str, now_s: float) -> bool:
    try:
        stamp_s = datetime.strptime(stamp, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC).timestamp()
    except ValueError:
        return False
    return stamp.startswith(day) and abs(now_s - stamp_s) <= SKEW_S


def _aws_answer(fields: Mapping[str, str], *, as_json: bool) -> Reply:
    if as_json:
        answer = {"GetWebIdentityTokenResult": fields, "ResponseMetadata": {"RequestId": "emulator"}}
        return Reply(200, json.dumps({"GetWebIdentityTokenResponse": answer}).encode())
    inside = "".join(f"<{name}>{escape(value)}</{name}>" for name, value in fields.items())
    result = f"<GetWebIdentityTokenResult>{inside}</GetWebIdentityTokenResult>"
    return _xml(200, "GetWebIdentityTokenResponse", result)


def _aws_error(error: ApiError, *, as_json: bool) -> Reply:
    fields = {"Type": "Sender", "Code": error.code, "Message": error.message}
    if as_json:
        return Reply(error.status, json.dumps({"Error": fields, "RequestId": "emulator"}).encode())
    inside = "".join(f"<{name}>{escape(value)}</{name}>" for name, value in fields.items())
    return _xml(error.status, "ErrorResponse", f"<Error>{inside}</Error>")


def _xml(status: int, root: str, inside: str) -> Reply:
    namespace = "https://sts.amazonaws.com/doc/2011-06-15/"
    metadata = "<ResponseMetadata><RequestId>emulator</RequestId></ResponseMetadata>"
    document = f'<{root} xmlns="{namespace}">{inside}{metadata}</{root}>'
    return Reply(status, document.encode(), content_type="text/xml")
