"""What `oncetask.settings` promises: every variable checked once, named where it is wrong, never shown."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from oncetask.errors import SettingsError
from oncetask.settings import DEFAULT_ROUTES, REGION_HOSTS, Settings, endpoint_url

KEYLESS = {
    "ONCETASK_CREDENTIALS": "keyless",
    "AWS_REGION": "eu-central-1",
    "ALIBABA_CLOUD_ROLE_ARN": "acs:ram::1:role/oncetask",
    "ALIBABA_CLOUD_OIDC_PROVIDER_ARN": "acs:ram::1:oidc-provider/aws",
    "ONCETASK_OIDC_AUDIENCE": "oncetask",
}


def settings(**environment: str) -> Settings:
    """The settings of an environment that says only this."""
    return Settings.from_environment(environment)


def refusal(environment: dict[str, str]) -> str:
    """What the operator is told of a wrong environment."""
    with pytest.raises(SettingsError) as refused:
        Settings.from_environment(environment)
    return str(refused.value)


def test_an_empty_environment_gives_the_documented_defaults() -> None:
    """Nothing but the ledger in AWS, and keys, has to be set."""
    found = settings()

    assert found.region == "ap-southeast-1"
    assert found.endpoint is None
    assert found.routes == DEFAULT_ROUTES
    assert found.ledger == "memory://"
    assert found.credentials == "env"
    assert (found.connect_timeout_ms, found.read_timeout_ms, found.look_s) == (2000, 5000, 180)
    assert found.cap_codes == found.extra_task_types == ()
    assert (found.service, found.metrics_namespace, found.log_level) == ("oncetask", "OnceTask", "INFO")


def test_the_default_routes_file_lies_beside_the_packages_folder() -> None:
    """In the bundle as in the source tree."""
    assert Path(__file__).resolve().parents[2] / "src" / "routes.toml" == DEFAULT_ROUTES


@pytest.mark.parametrize(
    ("variable", "value", "field", "expected"),
    [
        ("ONCETASK_REGION", "cn-shanghai", "region", "cn-shanghai"),
        ("ONCETASK_ROUTES", "/x/r.toml", "routes", Path("/x/r.toml")),
        ("ONCETASK_LEDGER", "sqlite:////x/ledger", "ledger", "sqlite:////x/ledger"),
        ("ONCETASK_LEDGER", "sqlite:///x/ledger", "ledger", "sqlite:///x/ledger"),
        ("ONCETASK_CONNECT_TIMEOUT_MS", "1", "connect_timeout_ms", 1),
        ("ONCETASK_READ_TIMEOUT_MS", "900000", "read_timeout_ms", 900_000),
        ("ONCETASK_LOOK_S", "5", "look_s", 5),
        ("ONCETASK_CAP_CODES", " TaskBusy, ,Too.Many,", "cap_codes", ("TaskBusy", "Too.Many")),
        ("ONCETASK_CAP_CODES", ",", "cap_codes", ()),
        ("ONCETASK_EXTRA_TASK_TYPES", "NEW_SCAN", "extra_task_types", ("NEW_SCAN",)),
        ("POWERTOOLS_LOG_LEVEL", "debug", "log_level", "DEBUG"),
        ("POWERTOOLS_SERVICE_NAME", "mine", "service", "mine"),
        ("POWERTOOLS_METRICS_NAMESPACE", "Mine", "metrics_namespace", "Mine"),
        ("AWS_ENDPOINT_URL_SSM", "http://localhost:4566/", "ssm_endpoint", "http://localhost:4566"),
    ],
)
def test_a_right_value_is_taken(variable: str, value: str, field: str, expected: object) -> None:
    """Each variable sets its own field."""
    assert getattr(settings(**{variable: value}), field) == expected


def test_an_empty_variable_counts_as_absent() -> None:
    """Templates and shells cannot always leave one out."""
    assert settings(ONCETASK_REGION="", ONCETASK_LOOK_S="").region == "ap-southeast-1"


WRONG = [
    ("ONCETASK_REGION", "atlantis-1"),
    ("ONCETASK_ENDPOINT", "ftp://atlantis.example"),
    ("ONCETASK_ENDPOINT", "http://atlantis.example"),
    ("ONCETASK_LEDGER", "sqlite://relative/atlantis"),
    ("ONCETASK_LEDGER", "postgres://atlantis"),
    ("ONCETASK_LEDGER", "dynamodb://"),
    ("ONCETASK_LEDGER", "memory://atlantis"),
    ("ONCETASK_CREDENTIALS", "secretsmanager:"),
    ("ONCETASK_CREDENTIALS", "atlantis"),
    ("ALIBABA_CLOUD_ACCESS_KEY_ID", "atlantis\n"),
    ("ALIBABA_CLOUD_ACCESS_KEY_SECRET", "atlantis\n"),
    ("ALIBABA_CLOUD_SECURITY_TOKEN", "atlantis é"),
    ("ONCETASK_CONNECT_TIMEOUT_MS", "0"),
    ("ONCETASK_CONNECT_TIMEOUT_MS", "atlantis"),
    ("ONCETASK_READ_TIMEOUT_MS", "-77123"),
    ("ONCETASK_READ_TIMEOUT_MS", "1.5e77"),
    ("ONCETASK_LOOK_S", "4"),
    ("ONCETASK_CAP_CODES", "Right, at lantis"),
    ("ONCETASK_EXTRA_TASK_TYPES", "AT|LANTIS"),
    ("AWS_REGION", "atlantis/1"),
    ("AWS_ENDPOINT_URL", "http://atlantis.example"),
    ("AWS_ENDPOINT_URL_DYNAMODB", "http://10.0.0.77"),
    ("AWS_ENDPOINT_URL_STS", "https://user:atlantis@host"),
    ("AWS_ENDPOINT_URL_SECRETS_MANAGER", "https://host/atlantis"),
    ("AWS_ENDPOINT_URL_SSM", "https://host:777777"),
    ("ONCETASK_ALIBABA_STS_ENDPOINT", "atlantis host"),
    ("POWERTOOLS_LOG_LEVEL", "ATLANTIS"),
    ("POWERTOOLS_SERVICE_NAME", "\udcff"),
    ("POWERTOOLS_METRICS_NAMESPACE", "At\nlantis"),
]


@pytest.mark.parametrize(("variable", "value"), WRONG)
def test_a_wrong_value_is_refused_by_one_line_that_names_the_variable_and_not_the_value(
    variable: str, value: str
) -> None:
    """A log of a failed start holds no secret."""
    line = refusal({variable: value})

    assert line.startswith(f"{variable} must be ")
    assert "\n" not in line
    assert "lantis" not in line
    assert "77" not in line


@pytest.mark.parametrize(
    ("missing", "environment"),
    [
        ("ONCETASK_LEDGER", {"AWS_LAMBDA_FUNCTION_NAME": "timer"}),
        ("ONCETASK_LEDGER", {"AWS_LAMBDA_FUNCTION_NAME": "timer", "ONCETASK_LEDGER": ""}),
        ("AWS_REGION", {"ONCETASK_LEDGER": "dynamodb://oncetask"}),
        ("AWS_REGION", {"ONCETASK_CREDENTIALS": "secretsmanager:oncetask/key"}),
        *((name, KEYLESS | {name: ""}) for name in KEYLESS if name != "ONCETASK_CREDENTIALS"),
    ],
)
def test_what_another_setting_needs_is_missed_by_its_name(missing: str, environment: dict[str, str]) -> None:
    """At start, and not at the first event."""
    assert refusal(environment).startswith(f"{missing} must be ")


def test_a_complete_keyless_environment_is_accepted() -> None:
    """Its STS endpoint is optional."""
    found = settings(**KEYLESS)

    assert found.credentials == "keyless"
    assert found.alibaba_sts_endpoint is None


@pytest.mark.parametrize("ledger", ["memory://", "sqlite:////mnt/ledger", "dynamodb://oncetask"])
def test_in_lambda_any_ledger_will_do_once_it_is_written_out(ledger: str) -> None:
    """Even `memory://`: then somebody has decided so."""
    found = settings(AWS_LAMBDA_FUNCTION_NAME="timer", ONCETASK_LEDGER=ledger, AWS_REGION="eu-west-1")

    assert found.ledger == ledger


@pytest.mark.parametrize(
    ("given", "url"),
    [
        ("tds.cn-shanghai.aliyuncs.com", "https://tds.cn-shanghai.aliyuncs.com"),
        ("tds.cn-shanghai.aliyuncs.com:8443", "https://tds.cn-shanghai.aliyuncs.com:8443"),
        ("https://tds.cn-shanghai.aliyuncs.com/", "https://tds.cn-shanghai.aliyuncs.com"),
        ("HTTPS://Host.example", "https://host.example"),
        ("localhost:18080", "http://localhost:18080"),
        ("127.0.0.1:18080", "http://127.0.0.1:18080"),
        ("127.8.8.8", "http://127.8.8.8"),
        ("http://[::1]:18080", "http://[::1]:18080"),
        ("https://127.0.0.1:18443", "https://127.0.0.1:18443"),
        ("host.example:", "https://host.example"),
    ],
)
def test_an_endpoint_is_a_host_a_host_with_port_or_a_url(given: str, url: str) -> None:
    """TLS everywhere but on this machine."""
    assert endpoint_url(given) == url


@pytest.mark.parametrize(
    "given",
    [
        *("http://host.example", "http://10.0.0.1", "http://127.0.0.1.example", "http://[::2]"),
        *("", " ", "https://", "//", "ho st", " host", "host/path", "host?q", "host#f", "a@host", "@host"),
        *("host:port", "host:99999", "ftp://localhost", "https://[::1", "https://a,b"),
    ],
)
def test_what_is_no_endpoint_is_a_value_error(given: str) -> None:
    """Among it plain http towards anything but loopback."""
    with pytest.raises(ValueError):  # noqa: PT011 - pydantic's protocol is ValueError alone
        endpoint_url(given)


def test_every_region_leads_to_one_of_the_two_hosts() -> None:
    """A region without a host would become a name that does not exist."""
    assert set(REGION_HOSTS.values()) == {"tds.cn-shanghai.aliyuncs.com", "tds.ap-southeast-1.aliyuncs.com"}


def test_secrets_are_not_shown_by_the_settings_themselves() -> None:
    """Printed by mistake, they are stars."""
    secrets = {
        "ALIBABA_CLOUD_ACCESS_KEY_SECRET": "atlantis1",
        "ALIBABA_CLOUD_SECURITY_TOKEN": "atlantis2",
        "AWS_SECRET_ACCESS_KEY": "atlantis3",
        "AWS_SESSION_TOKEN": "atlantis4",
    }

    assert "atlantis" not in repr(settings(**secrets))


def test_even_the_models_own_error_hides_the_value() -> None:
    """For settings that are made in another way."""
    given: dict[str, Any] = {"ONCETASK_REGION": "atlantis-1"}

    with pytest.raises(ValidationError) as refused:
        Settings.model_validate(given)

    assert "atlantis" not in str(refused.value)


def test_every_variable_says_what_it_should_be() -> None:
    """The one line at start is made of these."""
    assert [name for name, field in Settings.model_fields.items() if not field.description] == []
