"""Keys without a stored secret: AWS STS vouches for the function's role, Alibaba Cloud STS lends keys for it.

    GetWebIdentityToken ── a token, good for minutes ──→ AssumeRoleWithOIDC ──→ keys, good for an hour

Each step is one call, bounded by its own time-outs: 2 s to connect, 3 s to read. A failing step is named,
keeps the service's own code, and says what to do.
"""

from collections.abc import Callable
from datetime import datetime

from oncetask.aws.client import AwsError, AwsFailure, AwsService
from oncetask.cached import Dated
from oncetask.credentials import Keys
from oncetask.errors import Code, CredentialsUnavailable

VERSION = "2011-06-15"
STEP = "AWS STS GetWebIdentityToken"
FRESH_BEFORE_END_S = 300.0
"""Keys that end sooner are replaced, so that no call's keys end on its way."""

ADVICE = {
    "OutboundWebIdentityFederationDisabled": (
        "turn it on, once for the AWS account: aws iam enable-outbound-web-identity-federation"
    ),
    "AccessDenied": (
        "allow the function's role sts:GetWebIdentityToken with ONCETASK_OIDC_AUDIENCE as its audience"
    ),
    "ExpiredToken": "the function's own AWS credentials have expired",
}
"""What the operator can do, by the start of the code."""

type Assume = Callable[[str], tuple[Keys, str]]
"""From a token to keys and their end, ISO 8601. Raises CredentialsUnavailable."""


def keyless(sts: AwsService, *, audience: str, assume: Assume) -> Dated[Keys]:
    """Keys for about an hour. Raises CredentialsUnavailable."""
    keys, ends_at = assume(_identity_token(sts, audience))
    try:
        ends_s = datetime.fromisoformat(ends_at).timestamp()
    except ValueError:
        raise CredentialsUnavailable("Alibaba Cloud STS gave keys without saying when they end") from None
    return Dated(keys, ends_s - FRESH_BEFORE_END_S, ends_s)


def _identity_token(sts: AwsService, audience: str) -> str:
    parameters = {"Audience.member.1": audience, "SigningAlgorithm": "RS256"}
    try:
        answer = sts.query("GetWebIdentityToken", VERSION, parameters)
        return str(answer["GetWebIdentityTokenResponse"]["GetWebIdentityTokenResult"]["WebIdentityToken"])
    except AwsFailure as error:
        raise _refused(error) from None
    except (KeyError, TypeError):
        raise CredentialsUnavailable(f"{STEP} answered without a token") from None
    finally:
        sts.close()


def _refused(error: AwsFailure) -> CredentialsUnavailable:
    code = error.code if isinstance(error, AwsError) and error.code != Code.ANSWER_UNREADABLE else None
    advice = next((text for start, text in ADVICE.items() if (code or "").startswith(start)), None)
    told = f"{STEP} failed: {error}"
    return CredentialsUnavailable(f"{told.rstrip('.')}; {advice}" if advice else told, code=code)
