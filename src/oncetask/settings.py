"""What the environment says, checked once. A wrong value is named by its variable and never shown."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    model_validator,
)

from oncetask.errors import SettingsError
from oncetask.proxies import is_loopback

_CHINA = "tds.cn-shanghai.aliyuncs.com"
_ELSEWHERE = "tds.ap-southeast-1.aliyuncs.com"

REGION_HOSTS: Mapping[str, str] = {
    **dict.fromkeys(
        (
            *("cn-qingdao", "cn-beijing", "cn-zhangjiakou", "cn-huhehaote", "cn-wulanchabu"),
            *("cn-hangzhou", "cn-shanghai", "cn-nanjing", "cn-fuzhou", "cn-shenzhen", "cn-heyuan"),
            *("cn-guangzhou", "cn-chengdu", "cn-hongkong", "cn-beijing-finance-1"),
            *("cn-hangzhou-finance", "cn-shanghai-finance-1", "cn-shenzhen-finance-1"),
            *("cn-heyuan-acdr-1", "cn-north-2-gov-1", "cn-qingdao-acdr-ut-1", "cn-shanghai-mybk"),
            *("cn-wuhan-lr", "cn-zhengzhou-jva"),
        ),
        _CHINA,
    ),
    **dict.fromkeys(
        (
            *("ap-southeast-1", "ap-southeast-2", "ap-southeast-3", "ap-southeast-5"),
            *("ap-southeast-6", "ap-southeast-7", "ap-northeast-1", "ap-northeast-2", "ap-south-1"),
            *("eu-central-1", "eu-west-1", "us-east-1", "us-west-1", "me-east-1", "me-central-1"),
        ),
        _ELSEWHERE,
    ),
}
"""Region id to host (endpoint map of alibabacloud-sas20181203 10.3.2). Tea itself would turn an
unknown region into a host that does not exist."""

_HOST = re.compile(r"[A-Za-z0-9._-]+|[0-9A-Fa-f:.]+")
_LEDGER = re.compile(r"memory://|sqlite:///.+|dynamodb://[A-Za-z0-9_.-]{3,255}")
_CREDENTIALS = re.compile(r"env|keyless|secretsmanager:\S+")
_BUS = re.compile(
    r"[A-Za-z0-9._/-]{1,256}|arn:[a-z-]+:events:[a-z0-9-]+:\d{12}:event-bus/[A-Za-z0-9._/-]{1,256}"
)
_HEADER_VALUE = re.compile(r"[!-~]+")
_NAME = re.compile(r"[A-Za-z0-9_.-]{1,128}")
_LINE = re.compile(r"[^\x00-\x1f\ud800-\udfff]{1,1024}")
DEFAULT_ROUTES = Path(__file__).resolve().parent.parent / "routes.toml"


def _split_at_commas(value: object) -> object:
    """A comma-separated variable as a tuple of its trimmed, non-empty parts."""
    return tuple(part.strip() for part in str(value).split(",") if part.strip())


def endpoint_url(value: str) -> str:
    """`https://host[:port]` of a host, host:port or URL; `http` only towards loopback, where it is the
    default. Raises ValueError.
    """
    given = urlsplit(value if "://" in value else f"//{value}")
    host, port = given.hostname or "", given.port
    if _HOST.fullmatch(host) is None or value != value.strip():
        raise ValueError("there is no host in it")
    if given.path.strip("/") or given.query or given.fragment or given.username is not None:
        raise ValueError("only scheme, host and port are used")
    scheme = given.scheme or ("http" if is_loopback(host) else "https")
    if scheme != "https" and not (scheme == "http" and is_loopback(host)):
        raise ValueError("plain http would show the requests to everybody on their way")
    shown = f"[{host}]" if ":" in host else host
    return f"{scheme}://{shown}" if port is None else f"{scheme}://{shown}:{port}"


def _known_region(value: str) -> str:
    if value not in REGION_HOSTS:
        raise ValueError("Security Center has no such region")
    return value


def _matching(pattern: re.Pattern[str]) -> AfterValidator:
    def matching(value: str) -> str:
        if pattern.fullmatch(value) is None:
            raise ValueError("it has another form")
        return value

    return AfterValidator(matching)


def _queue_url(value: str) -> str:
    """A queue's URL, whose host may be asked as an endpoint may. Raises ValueError."""
    given = urlsplit(value)
    endpoint_url(f"{given.scheme}://{given.netloc}")
    if not given.path.strip("/") or given.query or given.fragment or value != value.strip():
        raise ValueError("it names no queue")
    return value


def _results(value: str) -> str:
    kind, _, place = value.partition(":")
    if kind == "sqs":
        if not _queue_url(place).endswith(".fifo"):
            raise ValueError("results leave in order, so the queue is a FIFO queue")
    elif kind != "eventbridge" or _BUS.fullmatch(place) is None:
        raise ValueError("it has another form")
    return value


def _sendable(value: SecretStr) -> SecretStr:
    """A stray newline at a secret's end would otherwise fail at every call, and only there."""
    if _HEADER_VALUE.fullmatch(value.get_secret_value()) is None:
        raise ValueError("a header cannot carry it")
    return value


EndpointUrl = Annotated[str, AfterValidator(endpoint_url)]
Line = Annotated[str, _matching(_LINE)]
KeyId = Annotated[str, _matching(_HEADER_VALUE)]
Secret = Annotated[SecretStr, AfterValidator(_sendable)]
Names = tuple[Annotated[str, _matching(_NAME)], ...]
Milliseconds = Annotated[int, Field(ge=1, le=900_000)]
_AN_ENDPOINT = "a host, host:port or URL; plain http only towards loopback"
_NO_SPACES = "without spaces or line ends"
_MILLISECONDS = "a whole number of milliseconds from 1 to 900000"


class AwsSettings(BaseModel):
    """What every function reads: the variables of AWS and of Powertools, under their own names.

    Each description says what a value must be. Empty variables count as absent.
    """

    model_config = ConfigDict(
        frozen=True, extra="ignore", populate_by_name=True, hide_input_in_errors=True, defer_build=True
    )

    aws_region: Annotated[str, _matching(_NAME)] | None = Field(
        None,
        alias="AWS_REGION",
        description="the AWS region; a dynamodb ledger, secretsmanager, keyless and the results need it",
    )
    aws_access_key_id: str | None = Field(None, alias="AWS_ACCESS_KEY_ID", description="an AWS access key id")
    aws_secret_access_key: SecretStr | None = Field(
        None, alias="AWS_SECRET_ACCESS_KEY", description="that key's secret"
    )
    aws_session_token: SecretStr | None = Field(
        None, alias="AWS_SESSION_TOKEN", description="the token of temporary keys"
    )
    aws_endpoint: EndpointUrl | None = Field(None, alias="AWS_ENDPOINT_URL", description=_AN_ENDPOINT)
    service: Line = Field("oncetask", alias="POWERTOOLS_SERVICE_NAME", description="a name")
    metrics_namespace: Line = Field("OnceTask", alias="POWERTOOLS_METRICS_NAMESPACE", description="a name")
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"] = Field(
        "INFO",
        alias="POWERTOOLS_LOG_LEVEL",
        description="DEBUG, INFO, WARNING, ERROR or CRITICAL",
    )

    @model_validator(mode="before")
    @classmethod
    def _as_typed(cls, given: dict[str, Any]) -> dict[str, Any]:
        """Without what is empty; lists are split at commas; the level's case is free."""
        found = {name: value for name, value in given.items() if value != ""}
        for name in ("ONCETASK_CAP_CODES", "ONCETASK_EXTRA_TASK_TYPES"):
            if name in found:
                found[name] = _split_at_commas(found[name])
        if "POWERTOOLS_LOG_LEVEL" in found:
            found["POWERTOOLS_LOG_LEVEL"] = str(found["POWERTOOLS_LOG_LEVEL"]).upper()
        return found

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Self:
        """The checked settings. Raises SettingsError: one line naming a variable and what it should be."""
        try:
            settings = cls.model_validate(dict(environment))
        except ValidationError as error:
            variable = str(error.errors(include_input=False)[0]["loc"][0])
            raise SettingsError(cls._must_be(variable)) from None
        settings._check_what_depends()
        return settings

    def _check_what_depends(self) -> None:
        """What one variable asks of another. Raises SettingsError."""

    @classmethod
    def _must_be(cls, variable: str) -> str:
        descriptions = {field.alias: field.description for field in cls.model_fields.values()}
        return f"{variable} must be {descriptions[variable]}"


class Settings(AwsSettings):
    """What the functions that make tasks, and the command line, read beside those."""

    region: Annotated[str, AfterValidator(_known_region)] = Field(
        "ap-southeast-1",
        alias="ONCETASK_REGION",
        description="a region id that Security Center knows, such as ap-southeast-1 or cn-shanghai",
    )
    endpoint: EndpointUrl | None = Field(None, alias="ONCETASK_ENDPOINT", description=_AN_ENDPOINT)
    routes: Path = Field(
        DEFAULT_ROUTES, alias="ONCETASK_ROUTES", description="the path of a readable TOML file in UTF-8"
    )
    ledger: Annotated[str, _matching(_LEDGER)] = Field(
        "memory://",
        alias="ONCETASK_LEDGER",
        description="memory://, sqlite:///ABSOLUTE/PATH or dynamodb://TABLE; in AWS Lambda it must be set",
    )
    credentials: Annotated[str, _matching(_CREDENTIALS)] = Field(
        "env",
        alias="ONCETASK_CREDENTIALS",
        description="env, secretsmanager:SECRET_ID or keyless",
    )
    access_key_id: KeyId | None = Field(
        None, alias="ALIBABA_CLOUD_ACCESS_KEY_ID", description="an access key id"
    )
    access_key_secret: Secret | None = Field(
        None, alias="ALIBABA_CLOUD_ACCESS_KEY_SECRET", description=f"the access key's secret, {_NO_SPACES}"
    )
    security_token: Secret | None = Field(
        None, alias="ALIBABA_CLOUD_SECURITY_TOKEN", description=f"the token of temporary keys, {_NO_SPACES}"
    )
    role_arn: Line | None = Field(
        None, alias="ALIBABA_CLOUD_ROLE_ARN", description="the RAM role to assume; keyless needs it"
    )
    oidc_provider_arn: Line | None = Field(
        None,
        alias="ALIBABA_CLOUD_OIDC_PROVIDER_ARN",
        description="the RAM OIDC provider that trusts this AWS account; keyless needs it",
    )
    oidc_audience: Line | None = Field(
        None,
        alias="ONCETASK_OIDC_AUDIENCE",
        description="the audience that the RAM OIDC provider lists; keyless needs it",
    )
    alibaba_sts_endpoint: EndpointUrl | None = Field(
        None, alias="ONCETASK_ALIBABA_STS_ENDPOINT", description=_AN_ENDPOINT
    )
    connect_timeout_ms: Milliseconds = Field(
        2000, alias="ONCETASK_CONNECT_TIMEOUT_MS", description=_MILLISECONDS
    )
    read_timeout_ms: Milliseconds = Field(5000, alias="ONCETASK_READ_TIMEOUT_MS", description=_MILLISECONDS)
    look_s: int = Field(
        180,
        alias="ONCETASK_LOOK_S",
        ge=5,
        le=604_800,
        description="a whole number of seconds from 5 to 604800",
    )
    cap_codes: Names = Field((), alias="ONCETASK_CAP_CODES", description="error codes separated by commas")
    extra_task_types: Names = Field(
        (), alias="ONCETASK_EXTRA_TASK_TYPES", description="task types separated by commas"
    )
    dynamodb_endpoint: EndpointUrl | None = Field(
        None, alias="AWS_ENDPOINT_URL_DYNAMODB", description=_AN_ENDPOINT
    )
    aws_sts_endpoint: EndpointUrl | None = Field(None, alias="AWS_ENDPOINT_URL_STS", description=_AN_ENDPOINT)
    secrets_manager_endpoint: EndpointUrl | None = Field(
        None, alias="AWS_ENDPOINT_URL_SECRETS_MANAGER", description=_AN_ENDPOINT
    )
    ssm_endpoint: EndpointUrl | None = Field(None, alias="AWS_ENDPOINT_URL_SSM", description=_AN_ENDPOINT)
    function_name: str | None = Field(None, alias="AWS_LAMBDA_FUNCTION_NAME", description="set by AWS Lambda")

    def _check_what_depends(self) -> None:
        """What one variable asks of another."""
        if self.function_name is not None and "ledger" not in self.model_fields_set:
            raise SettingsError(self._must_be("ONCETASK_LEDGER"))
        for variable, value in self._needed().items():
            if value is None:
                raise SettingsError(self._must_be(variable))

    def _needed(self) -> dict[str, str | None]:
        """The variables that the chosen ledger and credentials cannot do without."""
        needed: dict[str, str | None] = {}
        if self.ledger.startswith("dynamodb:") or self.credentials != "env":
            needed["AWS_REGION"] = self.aws_region
        if self.credentials == "keyless":
            needed["ALIBABA_CLOUD_ROLE_ARN"] = self.role_arn
            needed["ALIBABA_CLOUD_OIDC_PROVIDER_ARN"] = self.oidc_provider_arn
            needed["ONCETASK_OIDC_AUDIENCE"] = self.oidc_audience
        return needed


class ResultsSettings(AwsSettings):
    """What the results function reads beside those: nothing of routes, ledger or Security Center."""

    results: Annotated[str, AfterValidator(_results)] = Field(
        alias="ONCETASK_RESULTS",
        description="eventbridge:BUS (a name or ARN) or sqs:QUEUE_URL (a FIFO queue's)",
    )
    dead_letters: Annotated[str, AfterValidator(_queue_url)] = Field(
        alias="ONCETASK_DEAD_LETTERS", description="the URL of the queue for results that cannot be handed on"
    )
    eventbridge_endpoint: EndpointUrl | None = Field(
        None, alias="AWS_ENDPOINT_URL_EVENTBRIDGE", description=_AN_ENDPOINT
    )
    sqs_endpoint: EndpointUrl | None = Field(None, alias="AWS_ENDPOINT_URL_SQS", description=_AN_ENDPOINT)

    def _check_what_depends(self) -> None:
        """What signs a request: AWS Lambda sets all three."""
        signing = {
            "AWS_REGION": self.aws_region,
            "AWS_ACCESS_KEY_ID": self.aws_access_key_id,
            "AWS_SECRET_ACCESS_KEY": self.aws_secret_access_key,
        }
        for variable, value in signing.items():
            if value is None:
                raise SettingsError(self._must_be(variable))
