"""Keyless access, step by step and end to end, against an AWS account and a RAM role of the emulator's."""

import json
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar
from urllib.parse import urlencode

import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key

from local.aws_servers import WallClock
from local.emulator import Emulator, Refuse, ResetBefore, Silence, Unreadable
from local.emulator.answers import accepted
from local.emulator.faults import Operation, Outcome
from local.emulator.sts import AUDIENCE, AWS_ROLE_ARN, Federation, account_key, signed_token
from local.tools import PROJECT, python_tool
from oncetask.alibaba import sts as alibaba_sts
from oncetask.alibaba.security_center import Endpoint
from oncetask.alibaba.sts import AlibabaSts, default_endpoint
from oncetask.app import App, SystemClock
from oncetask.aws import identity
from oncetask.clock import Deadline
from oncetask.credentials import Keys
from oncetask.errors import CredentialsUnavailable, Kind
from oncetask.handlers import sweep, timer
from oncetask.models import Result, Status
from tests.clocks import FakeClock
from tests.conftest import MakeApp
from tests.contract.scripted_aws import Says, Step, scripted
from tests.installed import installed
from tests.loopback import answering_by_tls, listening, self_signed, tunnel_proxy

ROUTES = """
[routes.nightly]
trigger = "timer"
task_type = "ASSETS_COLLECTION"
param = {items = "PORT_SNAPSHOT"}
"""
ASSUME = "AssumeRoleWithOIDC"
LIFE_S = 3600


@pytest.fixture
def clock() -> FakeClock:
    """The time here and there."""
    return FakeClock()


@pytest.fixture
def federation(emulator: Emulator, clock: FakeClock) -> Iterator[Federation]:
    """An AWS account, and a RAM role that trusts it."""
    with Federation(emulator, clock=clock.now_s) as running:
        yield running


@pytest.fixture
def app(make_app: MakeApp, federation: Federation, clock: FakeClock) -> App:
    """A function that works keyless."""
    return make_app(ROUTES, clock=clock, **federation.environment())


def tick(app: App, hour: int = 5) -> Result:
    """The result of one timer event."""
    event = {
        "route": "nightly",
        "schedule": "arn:aws:scheduler:eu-central-1:123456789012:schedule/default/nightly",
        "scheduled_time": f"2026-11-24T{hour:02}:00:00Z",
    }
    [result] = timer.handle(app, event, Deadline.after(30, app.clock)).results
    return result


def actions(emulator: Emulator) -> list[str]:
    """What the emulator was asked, in order."""
    return [call.action for call in emulator.calls]


def test_a_timer_event_makes_a_task_without_a_stored_key(
    app: App, emulator: Emulator, federation: Federation
) -> None:
    """Two calls bring the keys, one to each cloud, and the task is asked for with what was lent."""
    result = tick(app)

    assert (result.status, result.error) == (Status.CREATED, None)
    assert (federation.aws.calls, actions(emulator)) == (1, [ASSUME, "GenerateOnceTask"])
    assert emulator.calls[-1].headers["x-acs-security-token"] == federation.lent[0][2]


def test_nothing_is_fetched_before_a_task_is_asked_for(
    app: App, emulator: Emulator, federation: Federation
) -> None:
    """A sweep with nothing to do makes no call at all."""
    sweep.handle(app, Deadline.after(30, app.clock))

    assert (federation.aws.calls, emulator.calls) == (0, [])


def test_lent_keys_serve_later_invocations(app: App, emulator: Emulator, federation: Federation) -> None:
    """Until five minutes before their end."""
    tick(app, 5)
    app.clock.sleep(LIFE_S - 301)

    tick(app, 6)

    assert (federation.aws.calls, actions(emulator).count(ASSUME)) == (1, 1)


def test_lent_keys_are_replaced_before_they_end(app: App, emulator: Emulator, federation: Federation) -> None:
    """By the invocation that asks then, with one pair of calls."""
    tick(app, 5)
    app.clock.sleep(LIFE_S - 300)

    result = tick(app, 6)

    assert (result.status, federation.aws.calls, actions(emulator).count(ASSUME)) == (Status.CREATED, 2, 2)
    assert emulator.calls[-1].headers["x-acs-accesskey-id"] == federation.lent[1][0]


def test_keys_that_are_still_valid_outlive_a_failing_sts(app: App, federation: Federation) -> None:
    """A failing refresh costs nothing before the keys' real end."""
    tick(app, 5)
    federation.aws.down()
    app.clock.sleep(LIFE_S - 60)

    while_valid = tick(app, 6)
    app.clock.sleep(60)
    after_their_end = tick(app, 7)

    assert while_valid.status is Status.CREATED
    assert after_their_end.error is not None
    assert (after_their_end.status, after_their_end.error.code) == (Status.PENDING, "CredentialsUnavailable")


def test_keys_that_the_service_refuses_are_renewed_once(
    app: App, emulator: Emulator, federation: Federation
) -> None:
    """The same invocation asks once more, with fresh ones."""
    tick(app, 5)
    federation.expire_keys()

    result = tick(app, 6)

    assert result.status is Status.CREATED
    assert actions(emulator)[2:] == ["GenerateOnceTask", ASSUME, "GenerateOnceTask"]


@dataclass(frozen=True)
class Takes:
    """The usual answer, after so many seconds of the test's clock."""

    clock: FakeClock
    seconds: float
    arrives: ClassVar[bool] = True

    def strike(self, operation: Operation) -> Outcome:
        answer = operation.run()
        self.clock.advance(self.seconds)
        return accepted(answer)


def _aws_down(federation: Federation, _: Emulator) -> None:
    federation.aws.down()


def _federation_off(federation: Federation, _: Emulator) -> None:
    federation.aws.federation_is_on = False


def _not_allowed(federation: Federation, _: Emulator) -> None:
    federation.aws.allowed_audiences.clear()


def _unknown_key(federation: Federation, _: Emulator) -> None:
    federation.aws.keys.clear()


def _other_root(federation: Federation, _: Emulator) -> None:
    federation.issuer_root = "fingerprint-of-root-2"


def _other_client_id(federation: Federation, _: Emulator) -> None:
    federation.client_ids.clear()


def _not_trusted(federation: Federation, _: Emulator) -> None:
    federation.trusted_subjects.clear()


def _assume(fault: object) -> Callable[[Federation, Emulator], None]:
    return lambda _, emulator: emulator.script(fault, action=ASSUME)  # type: ignore[arg-type]


TOKEN_REFUSED = "AuthenticationFail.OIDCToken"
FAILURES = {
    "AWS STS down": (_aws_down, "CredentialsUnavailable", "sts at 127"),
    "federation off": (
        _federation_off,
        "OutboundWebIdentityFederationDisabled",
        "aws iam enable-outbound-web-identity-federation",
    ),
    "no permission at AWS": (
        _not_allowed,
        "AccessDenied",
        "allow the function's role sts:GetWebIdentityToken",
    ),
    "unknown AWS key": (_unknown_key, "InvalidClientTokenId", "AWS STS GetWebIdentityToken failed"),
    "another root": (_other_root, f"{TOKEN_REFUSED}.PublicKeyFingerprintMismatch", "add that root's finger"),
    "another client id": (_other_client_id, f"{TOKEN_REFUSED}.AudienceNotMatch", "ONCETASK_OIDC_AUDIENCE"),
    "not trusted": (_not_trusted, "AuthenticationFail.NoPermission", "trust policy"),
    "token expired": (
        _assume(Refuse(401, f"{TOKEN_REFUSED}.Expired")),
        f"{TOKEN_REFUSED}.Expired",
        "came too late",
    ),
    "no such role": (
        _assume(Refuse(404, "EntityNotExist.Role")),
        "EntityNotExist.Role",
        "check ALIBABA_CLOUD_ROLE_ARN",
    ),
    "a code that nobody knows": (
        _assume(Refuse(400, "Strange", "as it is.")),
        "Strange",
        "Strange: as it is",
    ),
    "throttled": (_assume(Refuse(503, "Throttling")), "Throttling", "AssumeRoleWithOIDC failed"),
    "Alibaba Cloud STS hangs up": (
        _assume(ResetBefore()),
        "CredentialsUnavailable",
        "AssumeRoleWithOIDC gave",
    ),
    "unreadable": (_assume(Unreadable()), "CredentialsUnavailable", "AssumeRoleWithOIDC gave no answer"),
    "an answer without keys": (
        _assume(Unreadable(200, "{}")),
        "CredentialsUnavailable",
        "answered without keys",
    ),
    "keys without an end": (
        _assume(
            Unreadable(
                200,
                '{"Credentials": {"AccessKeyId": "k", "AccessKeySecret": "s", "SecurityToken": "t"}}',
            )
        ),
        "CredentialsUnavailable",
        "without saying when they end",
    ),
    "a list": (_assume(Unreadable(200, "[]")), "CredentialsUnavailable", "answered without keys"),
}


@pytest.mark.parametrize("failure", FAILURES)
def test_a_failing_step_is_named_and_the_event_waits(
    failure: str, app: App, emulator: Emulator, federation: Federation
) -> None:
    """With the service's own code, and with what to do; nothing is asked, and the operator must act."""
    arrange, code, words = FAILURES[failure]
    arrange(federation, emulator)

    result = tick(app)

    assert result.error is not None
    assert (result.status, result.error.kind, result.error.code) == (Status.PENDING, Kind.OPERATOR, code)
    assert words in result.error.message
    assert "GenerateOnceTask" not in actions(emulator)


def test_a_waiting_event_goes_through_once_the_trouble_is_mended(app: App, federation: Federation) -> None:
    """By the sweep, without anybody's help."""
    federation.aws.federation_is_on = False
    tick(app)
    federation.aws.federation_is_on = True
    app.clock.sleep(20)

    [result] = sweep.handle(app, Deadline.after(30, app.clock)).results

    assert result.status is Status.CREATED


def test_keys_are_at_hand_before_an_ask_is_recorded_as_sent(
    app: App, emulator: Emulator, clock: FakeClock
) -> None:
    """However long they take, the call keeps to its claim and to the invocation's end."""
    emulator.script(Takes(clock, seconds=40), action=ASSUME)

    result = tick(app)

    assert (result.status, result.error) == (Status.PENDING, None)
    assert actions(emulator) == [ASSUME]


def test_keys_are_lent_through_the_proxy_of_the_environment(
    make_app: MakeApp, federation: Federation, clock: FakeClock, tmp_path: Path
) -> None:
    """By whom STS does not prove itself, none are; AWS STS, on loopback here, is asked without a proxy."""
    serve = answering_by_tls(self_signed(tmp_path), b"{}")

    with listening(serve) as url, tunnel_proxy(url) as proxy:
        environment = {**federation.environment(), "ONCETASK_ALIBABA_STS_ENDPOINT": "sts.invalid"}
        app = make_app(ROUTES, clock=clock, HTTPS_PROXY=proxy.url, HTTP_PROXY=proxy.url, **environment)
        result = tick(app)

    assert (result.error and result.error.code) == "CredentialsUnavailable"
    assert proxy.places == ["sts.invalid:443"]


def test_silence_of_alibaba_sts_ends_with_its_read_timeout(app: App, emulator: Emulator) -> None:
    """After three seconds, however long Security Center's own time-outs are."""
    emulator.script(Silence(task_made=False), action=ASSUME)

    began_s = time.monotonic()
    result = tick(app)

    assert result.error is not None
    assert result.error.code == "CredentialsUnavailable"
    assert 3 <= time.monotonic() - began_s < 5


def test_the_token_travels_in_the_body_alone(app: App, emulator: Emulator, federation: Federation) -> None:
    """URLs and headers end in logs; and nothing signs a call that the token itself vouches for."""
    tick(app)

    call = emulator.calls[0]
    assert call.query_bytes == len("Format=json")
    assert "authorization" not in call.headers
    assert call.parameters["OIDCToken"] not in str(call.headers)
    assert call.parameters["RoleArn"] == federation.environment()["ALIBABA_CLOUD_ROLE_ARN"]


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (
            Says(403, b"<ErrorResponse><Error><Code>AccessDenied</Code></Error></ErrorResponse>"),
            "AccessDenied",
        ),
        (Says(403, b'{"Error": {"Code": "ExpiredToken", "Message": "m"}}'), "ExpiredToken"),
        (
            Says(403, b'{"Error": {"Code": "OutboundWebIdentityFederationDisabledException"}}'),
            "OutboundWebIdentityFederationDisabledException",
        ),
        (Says(502, b"<html></html>"), "CredentialsUnavailable"),
        (Says(200, b"{}"), "CredentialsUnavailable"),
        (Says(200, b'{"GetWebIdentityTokenResponse": []}'), "CredentialsUnavailable"),
    ],
)
def test_what_aws_sts_answers_instead_of_a_token_is_understood(
    make_app: MakeApp, federation: Federation, answer: Step, code: str
) -> None:
    """Errors in JSON and in XML keep their code; what has none is ours."""
    with scripted(answer) as script:
        environment = federation.environment() | {"AWS_ENDPOINT_URL_STS": script.url}

        result = tick(make_app(ROUTES, **environment))

    assert result.error is not None
    assert (result.status, result.error.code) == (Status.PENDING, code)


def test_without_aws_credentials_the_variable_is_named(make_app: MakeApp, federation: Federation) -> None:
    """On a machine that is no AWS Lambda, say."""
    environment = federation.environment() | {"AWS_ACCESS_KEY_ID": ""}

    result = tick(make_app(ROUTES, **environment))

    assert result.error is not None
    assert "AWS_ACCESS_KEY_ID is not set" in result.error.message


@pytest.mark.parametrize(
    ("region", "url"),
    [
        ("cn-hangzhou", "https://sts.cn-shanghai.aliyuncs.com"),
        ("eu-central-1", "https://sts.ap-southeast-1.aliyuncs.com"),
    ],
)
def test_alibaba_sts_is_asked_beside_security_center(region: str, url: str) -> None:
    """In the region of the host that serves the setting's region."""
    assert default_endpoint(region) == url


def test_every_code_with_an_advice_is_in_the_guide() -> None:
    """A reader who meets one finds it in docs/keyless.md, with what to do."""
    guide = (PROJECT / "docs" / "keyless.md").read_text(encoding="utf-8")

    assert [code for code in (*identity.ADVICE, *alibaba_sts.ADVICE) if f"`{code}`" not in guide] == []


# -- the emulator's own promises ------------------------------------------------------------------


def forged(federation: Federation, *, claims: dict[str, object], **options: str) -> str:
    """A token by the account's own key, with claims of the test's."""
    now_s = int(federation.clock())
    sound = {
        "iss": federation.aws.url,
        "sub": AWS_ROLE_ARN,
        "aud": AUDIENCE,
        "iat": now_s,
        "exp": now_s + 300,
    }
    return signed_token(account_key(), sound | claims, **options)


def assume(emulator: Emulator, federation: Federation, token: str) -> Keys | str:
    """The keys, or the code of the refusal."""
    given = federation.environment()
    sts = AlibabaSts(
        Endpoint(emulator.url.removeprefix("http://"), tls=False),
        role_arn=given["ALIBABA_CLOUD_ROLE_ARN"],
        provider_arn=given["ALIBABA_CLOUD_OIDC_PROVIDER_ARN"],
        clock=SystemClock(),
    )
    try:
        return sts.assume_role(token)[0]
    except CredentialsUnavailable as error:
        return str(error.code)


@pytest.mark.parametrize(
    ("claims", "options", "why"),
    [
        ({"exp": 0}, {}, "Expired"),
        ({"aud": "another"}, {}, "AudienceNotMatch"),
        ({"iss": "https://another.invalid"}, {}, "Invalid"),
        ({}, {"algorithm": "HS256"}, "Invalid"),
        ({}, {"algorithm": "none"}, "Invalid"),
    ],
)
def test_a_token_that_does_not_fit_is_refused(
    emulator: Emulator, federation: Federation, claims: dict[str, object], options: dict[str, str], why: str
) -> None:
    """Expiry, audience, issuer and algorithm are checked, and a sound one passes."""
    assert isinstance(assume(emulator, federation, forged(federation, claims={})), Keys)

    assert (
        assume(emulator, federation, forged(federation, claims=claims, **options)) == f"{TOKEN_REFUSED}.{why}"
    )


def test_a_token_of_another_key_is_refused(emulator: Emulator, federation: Federation) -> None:
    """The signature is checked against the keys that the issuer publishes."""
    sound = forged(federation, claims={})
    signed = sound.rpartition(".")[0]
    stranger = signed_token(generate_private_key(65_537, 2048), {"iss": federation.aws.url})
    resigned = f"{signed}.{stranger.rpartition('.')[2]}"

    codes = {assume(emulator, federation, token) for token in (stranger, resigned)}

    assert codes == {f"{TOKEN_REFUSED}.InvalidSignature"}


def test_a_token_in_the_url_is_refused(emulator: Emulator, federation: Federation) -> None:
    """The emulator is stricter than the service: a client that leaks does not work here."""
    query = {"Action": ASSUME, "Version": "2015-04-01", "OIDCToken": federation.aws.token(AUDIENCE)}
    request = urllib.request.Request(f"{emulator.url}/?{urlencode(query)}", method="POST")  # noqa: S310

    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(request, timeout=5)  # noqa: S310 - our own server

    assert json.load(refused.value)["Code"] == f"{TOKEN_REFUSED}.Invalid"
    refused.value.close()


@pytest.mark.parametrize(
    ("variable", "code"),
    [
        ("AWS_SECRET_ACCESS_KEY", "SignatureDoesNotMatch"),
        ("AWS_SESSION_TOKEN", "InvalidClientTokenId"),
        ("AWS_ACCESS_KEY_ID", "InvalidClientTokenId"),
    ],
)
def test_aws_sts_refuses_who_cannot_sign(
    make_app: MakeApp, federation: Federation, clock: FakeClock, variable: str, code: str
) -> None:
    """Key, secret and session token are all checked."""
    environment = federation.environment() | {variable: "another"}

    result = tick(make_app(ROUTES, clock=clock, **environment))

    assert result.error is not None
    assert result.error.code == code


def test_aws_sts_refuses_a_signature_of_another_time(make_app: MakeApp, federation: Federation) -> None:
    """More than fifteen minutes off."""
    late = FakeClock()
    late.advance(16 * 60)

    result = tick(make_app(ROUTES, clock=late, **federation.environment()))

    assert result.error is not None
    assert result.error.code == "SignatureDoesNotMatch"


OFFICIAL_CLIENT = """
import json, sys
import botocore.session
environment = json.loads(sys.argv[1])
client = botocore.session.get_session().create_client(
    "sts",
    region_name=environment["AWS_REGION"],
    endpoint_url=environment["AWS_ENDPOINT_URL_STS"],
    aws_access_key_id=environment["AWS_ACCESS_KEY_ID"],
    aws_secret_access_key=environment["AWS_SECRET_ACCESS_KEY"],
    aws_session_token=environment["AWS_SESSION_TOKEN"],
)
answer = client.get_web_identity_token(Audience=[sys.argv[2]], SigningAlgorithm="RS256")
print(answer["WebIdentityToken"], answer["Expiration"].timestamp())
"""


def test_awss_own_client_gets_a_token_that_alibaba_sts_takes(emulator: Emulator) -> None:
    """The emulator's AWS STS speaks as botocore expects, in XML and with botocore's signature."""
    python = installed(lambda: python_tool("moto")) / "python"
    with Federation(emulator) as federation:
        arguments = [json.dumps(federation.environment()), AUDIENCE]
        done = subprocess.run(
            [str(python), "-c", OFFICIAL_CLIENT, *arguments],
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        )

        token, ends_s = done.stdout.split()

        assert isinstance(assume(emulator, federation, token), Keys)
        assert 250 < float(ends_s) - WallClock().now_s() <= 300
