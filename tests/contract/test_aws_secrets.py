"""Secrets of AWS Secrets Manager and of the Parameter Store, on a moto that checks who may read them."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import pytest

from local import aws_servers as stores
from local.aws_servers import REGION, WallClock
from local.emulator import ACCESS_KEY_ID, ACCESS_KEY_SECRET, Emulator
from local.events import json_delivery
from local.tools import python_tool
from oncetask.app import App
from oncetask.aws.client import AwsService
from oncetask.aws.secrets import access_key, webhook_parameter, webhook_secret
from oncetask.aws.sigv4 import AwsKeys
from oncetask.cached import RETRY_S
from oncetask.clock import Clock, Deadline
from oncetask.credentials import Keys
from oncetask.errors import CredentialsUnavailable, SecretUnavailable
from oncetask.handlers import sweep, timer, webhook
from oncetask.models import Result, Status
from oncetask.webhooks.secrets import FRESH_S, GOOD_S
from tests.clocks import FakeClock
from tests.conftest import MakeApp
from tests.contract.scripted_aws import HangsUp, Says, error, ok, scripted
from tests.installed import installed

READS = ("secretsmanager:GetSecretValue", "ssm:GetParameter")
WRITES = (
    "secretsmanager:CreateSecret",
    "secretsmanager:PutSecretValue",
    "secretsmanager:DeleteSecret",
    "ssm:PutParameter",
)
TIMER = '[routes.nightly]\ntrigger = "timer"\ntask_type = "IMAGE_SCAN"\n'
HOOK = """
[routes.{name}]
trigger = "webhook"
task_type = "IMAGE_SCAN"
submit = "sweep"
verify = {{scheme = "bearer", secrets = ["{reference}"]}}
"""


@dataclass
class Vault:
    """Both stores behind one URL: what an operator does there, and the function's keys."""

    url: str
    operator: AwsKeys
    function: AwsKeys
    stranger: AwsKeys
    names: int = 0

    def new_name(self) -> str:
        """One that no other test uses."""
        self.names += 1
        return f"oncetask/{self.names}"

    def service(self, name: str, keys: AwsKeys | None = None) -> AwsService:
        """A connection, with the function's keys unless others are given."""
        return AwsService(
            name,
            region=REGION,
            keys=keys or self.function,
            clock=WallClock(),
            endpoint_url=self.url,
            read_timeout_s=30,
        )

    def create_secret(self, **content: str) -> str:
        """A new secret's name."""
        name = self.new_name()
        self._write("secretsmanager.CreateSecret", {"Name": name, **content})
        return name

    def rotate_secret(self, name: str, text: str) -> None:
        """The secret's next version."""
        self._write("secretsmanager.PutSecretValue", {"SecretId": name, "SecretString": text})

    def put_parameter(self, text: str, name: str | None = None) -> str:
        """The parameter's next version: its name."""
        path = name or f"/{self.new_name()}"
        document = {"Name": path, "Value": text, "Type": "SecureString", "Overwrite": name is not None}
        self._write("AmazonSSM.PutParameter", document)
        return path

    def environment(self, **more: str) -> dict[str, str]:
        """The variables of a function that reads here."""
        return {
            "AWS_REGION": REGION,
            "AWS_ACCESS_KEY_ID": self.function.access_key_id,
            "AWS_SECRET_ACCESS_KEY": self.function.secret_access_key,
            "AWS_ENDPOINT_URL": self.url,
            **more,
        }

    def _write(self, target: str, document: dict[str, Any]) -> None:
        service = self.service("ssm" if "SSM" in target else "secretsmanager", self.operator)
        try:
            service.call(target, {"ClientRequestToken": self.new_name().rjust(32, "0"), **document})
        finally:
            service.close()


@contextmanager
def running_vault() -> Iterator[Vault]:
    """Moto on a free port; its checks are on after nine calls, which make three users."""
    program = installed(lambda: python_tool("moto")) / "moto_server"
    port = stores.free_port()
    url = f"http://127.0.0.1:{port}"
    command = [str(program), "-H", "127.0.0.1", "-p", str(port)]
    with stores.running(command, port, INITIAL_NO_AUTH_ACTION_COUNT="9"):
        operator, function, stranger = (
            stores.new_user(url, "operator", stores.allow(*WRITES)),
            stores.new_user(url, "function", stores.allow(*READS)),
            stores.new_user(url, "stranger", stores.allow("dynamodb:GetItem")),
        )
        vault = Vault(url, operator, function, stranger)
        # Moto loads each service at its first call, and takes longer for that than a function waits.
        webhook_secret(vault.service("secretsmanager"), vault.create_secret(SecretString="any"))
        webhook_parameter(vault.service("ssm"), vault.put_parameter("any"))
        yield vault


@pytest.fixture(scope="module")
def vault() -> Iterator[Vault]:
    """The stores, one moto for this file."""
    with running_vault() as running:
        yield running


@pytest.fixture
def clock() -> FakeClock:
    """A clock that begins now: the signatures are of today."""
    return FakeClock(WallClock().now_s())


# -- the access key -------------------------------------------------------------------------------


def key_document(secret: str = ACCESS_KEY_SECRET, **more: str) -> str:
    """An access key as the secret's text."""
    names = {"ALIBABA_CLOUD_ACCESS_KEY_ID": ACCESS_KEY_ID, "ALIBABA_CLOUD_ACCESS_KEY_SECRET": secret}
    return json.dumps(names | more)


def tick(app: App, hour: int = 5) -> Result:
    """The result of one timer event."""
    event = {
        "route": "nightly",
        "schedule": "arn:aws:scheduler:eu-central-1:123456789012:schedule/default/nightly",
        "scheduled_time": f"2026-11-24T{hour:02}:00:00Z",
    }
    [result] = timer.handle(app, event, Deadline.after(30, app.clock)).results
    return result


def timer_app(make_app: MakeApp, vault: Vault, clock: Clock, secret_id: str) -> App:
    """A function whose access key is that secret."""
    return make_app(
        TIMER, clock=clock, **vault.environment(ONCETASK_CREDENTIALS=f"secretsmanager:{secret_id}")
    )


def test_a_timer_event_makes_a_task_with_the_secrets_key(
    make_app: MakeApp, vault: Vault, clock: FakeClock
) -> None:
    """The function's role may read one secret, and needs no other."""
    secret_id = vault.create_secret(SecretString=key_document())

    result = tick(timer_app(make_app, vault, clock, secret_id))

    assert (result.status, result.error) == (Status.CREATED, None)


def test_a_rotated_key_takes_effect_without_a_deployment(
    make_app: MakeApp, vault: Vault, clock: FakeClock, emulator: Emulator
) -> None:
    """Within five minutes; what the old one could not make waits for it."""
    secret_id = vault.create_secret(SecretString=key_document())
    app = timer_app(make_app, vault, clock, secret_id)
    first = tick(app, 5)
    vault.rotate_secret(secret_id, key_document("rotated-secret"))
    emulator.credentials[ACCESS_KEY_ID] = ("rotated-secret", None)

    before = tick(app, 6)
    clock.advance(FRESH_S)
    sweep.handle(app, Deadline.after(30, clock))

    assert before.error is not None
    assert (first.status, before.error.code) == (Status.CREATED, "SignatureDoesNotMatch")
    assert tick(app, 6).status is Status.DUPLICATE


def test_a_secret_may_hold_temporary_keys(vault: Vault) -> None:
    """With their token."""
    secret_id = vault.create_secret(SecretString=key_document(ALIBABA_CLOUD_SECURITY_TOKEN="t"))

    keys = access_key(vault.service("secretsmanager"), secret_id)

    assert keys == Keys(ACCESS_KEY_ID, ACCESS_KEY_SECRET, "t")


@pytest.mark.parametrize(
    "content",
    [
        "no json",
        "[]",
        "{}",
        '{"ALIBABA_CLOUD_ACCESS_KEY_ID": "id"}',
        '{"ALIBABA_CLOUD_ACCESS_KEY_ID": 1, "ALIBABA_CLOUD_ACCESS_KEY_SECRET": "s"}',
        "[" * 100_000,
    ],
    ids=["text", "list", "empty", "half", "number", "deep"],
)
def test_a_secret_that_is_no_access_key_says_what_it_must_be(content: str) -> None:
    """Named by the secret's id, and without anything of its content."""
    with (
        scripted(ok({"SecretString": content})) as script,
        pytest.raises(CredentialsUnavailable, match="the secret s-1 must be a JSON object") as raised,
    ):
        access_key(script.service(WallClock(), "secretsmanager"), "s-1")

    assert raised.value.code == "CredentialsUnavailable"


@pytest.mark.parametrize("binary", ["a", 5])
def test_an_access_key_in_a_form_that_cannot_be_read_is_unavailable(binary: object) -> None:
    """Binary that is no Base64, say."""
    with (
        scripted(ok({"SecretBinary": binary})) as script,
        pytest.raises(CredentialsUnavailable, match="the secret s-1 came in a form"),
    ):
        access_key(script.service(WallClock(), "secretsmanager"), "s-1")


def test_a_missing_permission_names_the_action(make_app: MakeApp, vault: Vault, clock: FakeClock) -> None:
    """The event waits, and the operator learns what to allow."""
    secret_id = vault.create_secret(SecretString=key_document())
    weak = replace(vault, function=vault.stranger)

    result = tick(timer_app(make_app, weak, clock, secret_id))

    assert result.error is not None
    assert (result.status, result.error.code[:12]) == (Status.PENDING, "AccessDenied")
    assert "allow the function's role secretsmanager:GetSecretValue" in result.error.message


def test_a_missing_secret_keeps_the_services_code(vault: Vault) -> None:
    """ResourceNotFoundException; the text names the secret."""
    with pytest.raises(CredentialsUnavailable, match="the secret nowhere cannot be read") as raised:
        access_key(vault.service("secretsmanager"), "nowhere")

    assert raised.value.code == "ResourceNotFoundException"


def test_a_key_outlives_a_store_that_is_down(make_app: MakeApp, clock: FakeClock) -> None:
    """For an hour after it was read; then the event waits."""
    with scripted(ok({"SecretString": key_document()}), HangsUp(), HangsUp()) as script:
        vault = Vault(script.url, *[AwsKeys("k", "s")] * 3)
        app = timer_app(make_app, vault, clock, "s-1")
        first = tick(app, 5)
        clock.advance(GOOD_S - 1)

        while_good = tick(app, 6)
        clock.advance(1)
        afterwards = tick(app, 7)

    assert (first.status, while_good.status) == (Status.CREATED, Status.CREATED)
    assert afterwards.error is not None
    assert (afterwards.status, afterwards.error.code) == (Status.PENDING, "CredentialsUnavailable")


# -- webhook secrets ------------------------------------------------------------------------------


def deliver(app: App, route: str, secret: str) -> int:
    """The HTTP status of a delivery that shows the secret."""
    event = json_delivery(route, "{}", {"authorization": f"Bearer {secret}"})
    outcome = webhook.handle(app, event, Deadline.after(29, app.clock))
    status: int = outcome.reply().answer_to(event)["statusCode"]
    return status


def hook_app(make_app: MakeApp, vault: Vault, clock: Clock, **references: str) -> App:
    """A function with these routes, each verified by that secret."""
    routes = "".join(HOOK.format(name=name, reference=reference) for name, reference in references.items())
    return make_app(routes, clock=clock, **vault.environment())


def test_a_whole_secret_verifies(make_app: MakeApp, vault: Vault, clock: FakeClock) -> None:
    """`secretsmanager:ID` is the secret's text."""
    name = vault.create_secret(SecretString="hook-secret")
    app = hook_app(make_app, vault, clock, hook=f"secretsmanager:{name}")

    assert [deliver(app, "hook", secret) for secret in ("hook-secret", "another")] == [202, 401]


def test_one_key_of_a_secret_verifies(make_app: MakeApp, vault: Vault, clock: FakeClock) -> None:
    """`secretsmanager:ID#JSON_KEY`; one secret serves many routes."""
    name = vault.create_secret(SecretString='{"a": "secret-a", "b": "secret-b"}')
    app = hook_app(make_app, vault, clock, a=f"secretsmanager:{name}#a", b=f"secretsmanager:{name}#b")

    statuses = [deliver(app, *shown) for shown in (("a", "secret-a"), ("b", "secret-b"), ("b", "secret-a"))]

    assert statuses == [202, 202, 401]


def test_a_parameter_verifies(make_app: MakeApp, vault: Vault, clock: FakeClock) -> None:
    """`ssm:NAME`, decrypted."""
    name = vault.put_parameter("hook-secret")
    app = hook_app(make_app, vault, clock, hook=f"ssm:{name}")

    assert [deliver(app, "hook", secret) for secret in ("hook-secret", "another")] == [202, 401]


def test_a_binary_secret_is_its_bytes(vault: Vault) -> None:
    """Secrets Manager gives them in Base64."""
    name = vault.create_secret(SecretBinary="aGlkZGVu")

    assert webhook_secret(vault.service("secretsmanager"), name) == (b"hidden",)


def test_a_rotation_of_a_secret_takes_both_until_the_next(
    make_app: MakeApp, vault: Vault, clock: FakeClock
) -> None:
    """The previous version stays good beside the current one; what was before that does not."""
    name = vault.create_secret(SecretString="first")
    app = hook_app(make_app, vault, clock, hook=f"secretsmanager:{name}")
    deliver(app, "hook", "first")
    vault.rotate_secret(name, "second")
    clock.advance(FRESH_S)
    after_one = [deliver(app, "hook", secret) for secret in ("first", "second")]
    vault.rotate_secret(name, "third")
    clock.advance(FRESH_S)

    after_two = [deliver(app, "hook", secret) for secret in ("first", "second", "third")]

    assert (after_one, after_two) == ([202, 202], [401, 202, 202])


def test_a_rotation_of_a_parameter_takes_both_until_the_next(
    make_app: MakeApp, vault: Vault, clock: FakeClock
) -> None:
    """The version before the current one stays good."""
    name = vault.put_parameter("first")
    app = hook_app(make_app, vault, clock, hook=f"ssm:{name}")
    deliver(app, "hook", "first")
    vault.put_parameter("second", name)
    clock.advance(FRESH_S)
    after_one = [deliver(app, "hook", secret) for secret in ("first", "second")]
    vault.put_parameter("third", name)
    clock.advance(FRESH_S)

    after_two = [deliver(app, "hook", secret) for secret in ("first", "second", "third")]

    assert (after_one, after_two) == ([202, 202], [401, 202, 202])


def test_a_pinned_version_of_a_parameter_is_that_one_alone(vault: Vault) -> None:
    """`ssm:NAME:2`, also behind an ARN."""
    name = vault.put_parameter("first")
    vault.put_parameter("second", name)
    arn = f"arn:aws:ssm:{REGION}:123456789012:parameter{name}"

    read = [webhook_parameter(vault.service("ssm"), f"{place}:2") for place in (name, arn)]

    assert read == [(b"second",)] * 2
    assert webhook_parameter(vault.service("ssm"), arn) == (b"second", b"first")


def test_a_previous_version_without_the_key_is_left_out(vault: Vault) -> None:
    """Another form of the secret before is no mistake of now."""
    name = vault.create_secret(SecretString="plain")
    vault.rotate_secret(name, '{"key": "value"}')

    assert webhook_secret(vault.service("secretsmanager"), f"{name}#key") == (b"value",)


def test_a_secret_without_the_key_is_unavailable(vault: Vault) -> None:
    """The text names secret and key, and nothing of its content."""
    name = vault.create_secret(SecretString='{"other": "hidden"}')

    with pytest.raises(SecretUnavailable, match=f"{name} is no JSON object with a text under key") as raised:
        webhook_secret(vault.service("secretsmanager"), f"{name}#key")

    assert "hidden" not in str(raised.value)


def test_a_secret_that_cannot_be_had_closes_its_own_route_alone(
    make_app: MakeApp, vault: Vault, clock: FakeClock
) -> None:
    """503 there, whatever is shown; the others go on."""
    name = vault.create_secret(SecretString="hook-secret")
    app = hook_app(
        make_app,
        vault,
        clock,
        gone="secretsmanager:nowhere",
        missing="ssm:/nowhere",
        sound=f"secretsmanager:{name}",
    )

    statuses = [deliver(app, route, "hook-secret") for route in ("gone", "missing", "sound")]

    assert statuses == [503, 503, 202]


@pytest.mark.parametrize(
    ("read", "action"),
    [
        (lambda vault, keys: webhook_secret(vault.service("secretsmanager", keys), "any"), READS[0]),
        (lambda vault, keys: webhook_parameter(vault.service("ssm", keys), "any"), READS[1]),
    ],
    ids=["secret", "parameter"],
)
def test_a_missing_permission_to_read_a_webhooks_secret_names_the_action(
    vault: Vault, read: Callable[[Vault, AwsKeys], object], action: str
) -> None:
    """The operator learns what to allow."""
    with pytest.raises(SecretUnavailable, match=f"allow the function's role {action}") as raised:
        read(vault, vault.stranger)

    assert raised.value.code == "SecretUnavailable"


@pytest.mark.parametrize("answer", [error("InternalServiceError", 500), Says(200, b"[]"), HangsUp()])
def test_a_previous_version_that_cannot_be_had_is_no_absent_one(answer: Says | HangsUp) -> None:
    """Its senders would be refused for good; the delivery is to be retried instead."""
    with scripted(ok({"SecretString": "current"}), answer) as script, pytest.raises(SecretUnavailable):
        webhook_secret(script.service(WallClock(), "secretsmanager"), "s-1")


@pytest.mark.parametrize("answer", [{}, {"Parameter": None}, {"Parameter": {"Value": "v", "Version": "x"}}])
def test_an_answer_of_another_form_is_unavailable(answer: dict[str, Any]) -> None:
    """Nothing is guessed."""
    with scripted(ok(answer)) as script, pytest.raises(SecretUnavailable, match="cannot be read"):
        webhook_parameter(script.service(WallClock(), "ssm"), "p-1")


def test_a_secret_outlives_a_store_that_is_down(make_app: MakeApp, clock: FakeClock) -> None:
    """For an hour. Meanwhile another secret might be the new one, so its sender is to retry."""
    none = error("ResourceNotFoundException")
    steps = (ok({"SecretString": "current"}), none, HangsUp(), HangsUp(), HangsUp())
    with scripted(*steps) as script:
        vault = Vault(script.url, *[AwsKeys("k", "s")] * 3)
        app = hook_app(make_app, vault, clock, hook="secretsmanager:s-1")
        fresh = [deliver(app, "hook", secret) for secret in ("current", "another")]
        clock.advance(FRESH_S)
        old = [deliver(app, "hook", secret) for secret in ("current", "another")]
        clock.advance(RETRY_S)
        older = deliver(app, "hook", "current")
        clock.advance(GOOD_S)

        ended = deliver(app, "hook", "current")

    assert (fresh, old, older, ended) == ([202, 401], [202, 503], 202, 503)


def test_without_a_region_the_variable_is_named(make_app: MakeApp, clock: FakeClock) -> None:
    """A route's secret needs one; the settings cannot know that before they meet the routes."""
    app = make_app(HOOK.format(name="hook", reference="ssm:any"), clock=clock)

    with pytest.raises(SecretUnavailable, match="AWS_REGION is not set"):
        app.secret_values.find(("ssm:any",))
