"""Alibaba Cloud STS: keys lent for another cloud's token. By a client of Tea's of its own."""

import re
from typing import Any

from oncetask.alibaba.answers import MESSAGE_CHARS, WORD_CHARS
from oncetask.alibaba.security_center import Endpoint
from oncetask.alibaba.session import Exchange, on_the_wire
from oncetask.alibaba.tea import (
    Client,
    Config,
    OpenApiRequest,
    Params,
    RuntimeOptions,
    TeaException,
)
from oncetask.clock import Clock, Deadline
from oncetask.credentials import Keys
from oncetask.errors import CredentialsUnavailable
from oncetask.settings import REGION_HOSTS

VERSION = "2015-04-01"
STEP = "Alibaba Cloud STS AssumeRoleWithOIDC"
CONNECT_TIMEOUT_MS = 2000
READ_TIMEOUT_MS = 3000
DURATION_S = 3600
"""What a role allows unless its MaxSessionDuration says otherwise."""

_CUT_TOKEN = re.compile(r"eyJ[\w.-]+")  # how each begins: {" in Base64
_TOKEN_REFUSED = "AuthenticationFail.OIDCToken"  # noqa: S105 - a code, not a token
_TRUST = (
    "the role's trust policy must allow this OIDC provider, with the token's issuer, audience and subject"
)
ADVICE = {
    f"{_TOKEN_REFUSED}.PublicKeyFingerprintMismatch": (
        "the issuer's TLS certificate has another root now: add that root's fingerprint to the OIDC provider"
    ),
    f"{_TOKEN_REFUSED}.HttpsUrlInvalid": (
        "RAM does not accept the issuer's TLS certificate: add its root's fingerprint to the OIDC provider"
    ),
    f"{_TOKEN_REFUSED}.AudienceNotMatch": "add ONCETASK_OIDC_AUDIENCE to the OIDC provider's client ids",
    f"{_TOKEN_REFUSED}.Expired": "the token came too late: it comes through with the next attempt",
    _TOKEN_REFUSED: "the OIDC provider must name the AWS account's own issuer URL",
    "AuthenticationFail.NoPermission": f"check ALIBABA_CLOUD_OIDC_PROVIDER_ARN; {_TRUST}",
    "NoPermission": _TRUST,
    "EntityNotExist.Role": "check ALIBABA_CLOUD_ROLE_ARN",
    "EntityNotExist": "check ALIBABA_CLOUD_OIDC_PROVIDER_ARN",
    "InvalidParameter": "check ALIBABA_CLOUD_ROLE_ARN and ALIBABA_CLOUD_OIDC_PROVIDER_ARN",
}
"""What the operator can do, by the start of the code; the first that fits (docs/keyless.md)."""


def default_endpoint(region: str) -> str:
    """STS beside the host of Security Center that serves the region.

    Both exist (STS's list of endpoints), and keys of either are good everywhere. Not every region of Security
    Center has an STS of its own, and the central sts.aliyuncs.com is in China, far from most.
    """
    return "https://sts" + REGION_HOSTS[region].removeprefix("tds")


class AlibabaSts:
    """Lends the keys of one role."""

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        role_arn: str,
        provider_arn: str,
        clock: Clock,
    ) -> None:
        self._clock = clock
        self._role_arn = role_arn
        self._provider_arn = provider_arn
        self._protocol = endpoint.protocol
        self._session = endpoint.session()
        self._client = Client(Config(endpoint=endpoint.host, protocol=self._protocol, user_agent="oncetask"))

    def assume_role(self, token: str) -> tuple[Keys, str]:
        """Keys, and when they end in ISO 8601. Raises CredentialsUnavailable, which holds no token."""
        ends = Deadline.after((CONNECT_TIMEOUT_MS + READ_TIMEOUT_MS) / 1000, self._clock)
        try:
            with on_the_wire(Exchange(self._session, ends.left_s)):
                reply = self._send(token)
        except TeaException as error:
            failure = _failure(error, token)
        else:
            return _keys(reply["body"])
        raise failure  # out of reach of what Tea raised: that holds the request, and so the token

    def _send(self, token: str) -> dict[str, Any]:
        """One unsigned call. The token travels in the body: URLs end in logs and in exceptions."""
        reply: dict[str, Any] = self._client.call_api(
            Params(
                action="AssumeRoleWithOIDC",
                version=VERSION,
                protocol=self._protocol,
                pathname="/",
                method="POST",
                auth_type="Anonymous",
                style="RPC",
                req_body_type="formData",
                body_type="json",
            ),
            OpenApiRequest(
                headers={"connection": "close"},  # the next call is the better part of an hour away
                body={
                    "OIDCProviderArn": self._provider_arn,
                    "RoleArn": self._role_arn,
                    "RoleSessionName": "oncetask",
                    "DurationSeconds": str(DURATION_S),
                    "OIDCToken": token,
                },
            ),
            RuntimeOptions(connect_timeout=CONNECT_TIMEOUT_MS, read_timeout=READ_TIMEOUT_MS),
        )
        return reply


def _keys(body: object) -> tuple[Keys, str]:
    given = body.get("Credentials") if isinstance(body, dict) else None
    found = given if isinstance(given, dict) else {}
    names = ("AccessKeyId", "AccessKeySecret", "SecurityToken", "Expiration")
    access_key_id, secret, token, ends_at = (str(found.get(name) or "") for name in names)
    if not (access_key_id and secret and token):
        raise CredentialsUnavailable(f"{STEP} answered without keys")
    return Keys(access_key_id, secret, token), ends_at


def _failure(error: TeaException, token: str) -> CredentialsUnavailable:
    body = getattr(error, "data", None)
    code = body.get("Code") if isinstance(body, dict) else None
    if not isinstance(body, dict) or not isinstance(code, str) or not code:
        return CredentialsUnavailable(f"{STEP} gave no answer that can be read")
    told = _without(token, str(body.get("Message") or ""))[:MESSAGE_CHARS]
    advice = next((text for start, text in ADVICE.items() if code.startswith(start)), None)
    text = f"{STEP} failed: {code[:WORD_CHARS]}: {told}"
    return CredentialsUnavailable(f"{text.rstrip('.')}; {advice}" if advice else text, code=code[:WORD_CHARS])


def _without(token: str, message: str) -> str:
    """The message without the token, whole, in parts or cut off."""
    for part in (token, *token.split(".")):
        message = message.replace(part, "***") if part else message
    return _CUT_TOKEN.sub("***", message)
