"""The one place where settings become objects, and the only one that reads environment and clock."""

import os
import sys
import time
from collections.abc import Callable, Mapping
from functools import cache, cached_property
from pathlib import Path
from secrets import SystemRandom
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from oncetask.alibaba.lazy_imports import left_for_later, uncollected
from oncetask.cached import Dated
from oncetask.clock import Clock, Deadline
from oncetask.credentials import Credentials, FetchedKeys, FixedKeys, Keys
from oncetask.errors import (
    CredentialsUnavailable,
    LedgerUnavailable,
    SecretUnavailable,
    SettingsError,
    Unavailable,
)
from oncetask.models import TASK_TYPES, Trigger
from oncetask.proxies import Proxies
from oncetask.routing.routes import Routes, load_routes
from oncetask.settings import REGION_HOSTS, AwsSettings, ResultsSettings, Settings, endpoint_url
from oncetask.webhooks.secrets import FRESH_S, GOOD_S, SecretValues, environment_reader, read_file

if TYPE_CHECKING:  # each is imported where it is made: what a process does not need costs it nothing
    from oncetask.alibaba.security_center import SecurityCenter
    from oncetask.aws.client import AwsService
    from oncetask.aws.events import Destination, Queue
    from oncetask.aws.sigv4 import AwsKeys
    from oncetask.ledger.ledger import Ledger
    from oncetask.ledger.store import Store
    from oncetask.submit.call import Caller
    from oncetask.submit.submit import Submitter
    from oncetask.sweep.sweep import Sweeper

UNTIMED_S = 60.0
"""How long an invocation may take that nobody gave a deadline."""


class SystemClock:
    """The machine's own clock."""

    def now_s(self) -> float:
        return time.time()

    def elapsed_s(self) -> float:
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)


class App:
    """What a process needs, each part made at its first use and then kept."""

    def __init__(
        self, settings: Settings, *, environment: Mapping[str, str], clock: Clock | None = None
    ) -> None:
        """`environment` is where `env:` secrets and proxies are found. Raises SettingsError: a proxy or the
        routes file is wrong.
        """
        self.settings = settings
        self._environment = environment
        self.proxies = Proxies(environment)
        self.clock = clock or SystemClock()
        self.task_types = (*TASK_TYPES, *settings.extra_task_types)
        self.routes: Routes = load_routes(settings.routes, self.task_types)

    @cached_property
    def ledger(self) -> "Ledger":
        """The ledger that the settings name. Raises LedgerUnavailable, and tries again next time."""
        from oncetask.ledger.ledger import Ledger  # noqa: PLC0415 - a refused delivery needs none

        return Ledger(_store(self), self.clock)

    @cached_property
    def credentials(self) -> Credentials:
        """Where Security Center's keys come from."""
        kind, _, secret_id = self.settings.credentials.partition(":")
        if kind == "keyless":
            return FetchedKeys(lambda: _keyless(self), self.clock)
        if kind == "secretsmanager":
            return FetchedKeys(lambda: _access_key(self, secret_id), self.clock)
        return FixedKeys(_keys_of_environment(self.settings))

    @cached_property
    def secret_values(self) -> SecretValues:
        """The webhooks' secrets."""
        readers = {
            "env": environment_reader(self._environment),
            "file": read_file,
            "secretsmanager": lambda reference: _webhook_secret(self, reference),
            "ssm": lambda name: _webhook_parameter(self, name),
        }
        return SecretValues(readers, self.clock)

    @cached_property
    def security_center(self) -> "SecurityCenter":
        """The one client. Tea is imported here, and so not before somebody asks."""
        from oncetask.alibaba.security_center import Endpoint, SecurityCenter  # noqa: PLC0415

        settings = self.settings
        url = settings.endpoint or f"https://{REGION_HOSTS[settings.region]}"
        return SecurityCenter(
            endpoint=Endpoint.of(url, self.proxies),
            credentials=self.credentials,
            connect_timeout_ms=settings.connect_timeout_ms,
            read_timeout_ms=settings.read_timeout_ms,
            cap_codes=frozenset(settings.cap_codes),
        )

    @cached_property
    def caller(self) -> "Caller":
        """Calls over the ledger and the client."""
        from oncetask.submit.call import Caller  # noqa: PLC0415 - likewise

        return Caller(self.ledger, lambda: self.security_center, self.clock, jitter)

    @cached_property
    def submitter(self) -> "Submitter":
        """The path of what comes in."""
        from oncetask.submit.submit import Submitter  # noqa: PLC0415 - likewise

        return Submitter(self.caller)

    @cached_property
    def sweeper(self) -> "Sweeper":
        """The sweep."""
        from oncetask.ledger.records import event_queue  # noqa: PLC0415 - only the sweep
        from oncetask.sweep.context import Rules  # noqa: PLC0415
        from oncetask.sweep.sweep import Sweeper  # noqa: PLC0415

        rules = Rules(
            look_s=self.settings.look_s,
            read_timeout_s=self.settings.read_timeout_ms / 1000,
            task_types=self.task_types,
            queues=tuple(event_queue(name) for name in self.routes),
            max_open={
                event_queue(name): route.max_open
                for name, route in self.routes.items()
                if route.trigger is Trigger.WEBHOOK
            },
        )
        return Sweeper(self.caller, rules)

    def close(self) -> None:
        """Release what was opened."""
        if "ledger" in self.__dict__:
            self.ledger.store.close()

    def deadline(self, remaining_ms: int | None) -> Deadline:
        """When an invocation ends that has so many milliseconds left."""
        return _deadline(remaining_ms, self.clock)


class ResultsApp:
    """What the results function needs, each part made at its first use: no route, no ledger, no Tea."""

    def __init__(
        self, settings: ResultsSettings, *, environment: Mapping[str, str], clock: Clock | None = None
    ) -> None:
        """`environment` is where proxies are found. Nothing is opened yet. Raises SettingsError."""
        self.settings = settings
        self.proxies = Proxies(environment)
        self.clock = clock or SystemClock()

    @cached_property
    def destination(self) -> "Destination":
        """Where results go, as ONCETASK_RESULTS says."""
        from oncetask.aws.events import Bus  # noqa: PLC0415 - only the results function

        kind, _, place = self.settings.results.partition(":")
        if kind == "sqs":
            return self._queue(place)
        return Bus(self._service("events", place, self.settings.eventbridge_endpoint), place)

    @cached_property
    def dead_letters(self) -> "Queue":
        """The queue for what cannot be handed on."""
        return self._queue(self.settings.dead_letters)

    def close(self) -> None:
        """Release what was opened."""
        for service in self._services:
            service.close()

    @cached_property
    def _services(self) -> "list[AwsService]":
        return []

    def _queue(self, url: str) -> "Queue":
        from oncetask.aws.events import Queue  # noqa: PLC0415 - likewise

        there = urlsplit(url)
        own = endpoint_url(f"{there.scheme}://{there.netloc}")
        endpoint = self.settings.sqs_endpoint or self.settings.aws_endpoint or own
        return Queue(self._service("sqs", url, endpoint), url)

    def _service(self, name: str, place: str, endpoint: str | None) -> "AwsService":
        """The service in the region that the place names, else in the function's own."""
        from oncetask.aws.client import AwsService  # noqa: PLC0415 - likewise
        from oncetask.aws.events import region_of  # noqa: PLC0415

        settings = self.settings
        service = AwsService(
            name,
            region=region_of(place) or str(settings.aws_region),
            keys=_aws_keys(settings, CredentialsUnavailable),
            clock=self.clock,
            endpoint_url=endpoint or settings.aws_endpoint,
            proxies=self.proxies,
        )
        self._services.append(service)
        return service

    def deadline(self, remaining_ms: int | None) -> Deadline:
        """When an invocation ends that has so many milliseconds left."""
        return _deadline(remaining_ms, self.clock)


@cache
def start() -> App:
    """The process's app. A wrong setting ends the process with one line on stderr.

    pydantic would look through every installed package for plugins of its own, and the lock holds none: it is
    told so, and what it would look with is not loaded. What has been imported until here is no garbage:
    `handlers` stopped looking for any, and it begins here.
    """
    return _started(app_of)


@cache
def start_results() -> ResultsApp:
    """The same for the results function."""
    return _started(results_app_of)


def _started[A](made: Callable[[Mapping[str, str]], A]) -> A:
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    with uncollected(), left_for_later("importlib.metadata"):
        try:
            return made(os.environ)
        except SettingsError as error:
            sys.exit(f"oncetask cannot start: {error}")


def app_of(environment: Mapping[str, str]) -> App:
    """An app by these variables. Raises SettingsError."""
    return App(Settings.from_environment(environment), environment=environment)


def results_app_of(environment: Mapping[str, str]) -> ResultsApp:
    """A results function's app by these variables. Raises SettingsError."""
    return ResultsApp(ResultsSettings.from_environment(environment), environment=environment)


def _deadline(remaining_ms: int | None, clock: Clock) -> Deadline:
    return Deadline.after(UNTIMED_S if remaining_ms is None else remaining_ms / 1000, clock)


def remaining_ms(context: object) -> int | None:
    """What AWS's context says of the time left; None where there is no such context."""
    remaining = getattr(context, "get_remaining_time_in_millis", None)
    return int(remaining()) if callable(remaining) else None


def jitter(seconds: float) -> float:
    """A random wait up to that long; not from `random`, whose state restored snapshots share."""
    return SystemRandom().uniform(0, seconds)


def _store(app: App) -> "Store":
    scheme, _, place = app.settings.ledger.partition("://")
    if scheme == "dynamodb":
        return _dynamodb_store(app, place)
    from oncetask.ledger.sqlite import SqlStore  # noqa: PLC0415 - only who keeps the ledger there

    return SqlStore(Path(place) if scheme == "sqlite" else None)


def _dynamodb_store(app: App, table: str) -> "Store":
    from oncetask.ledger.dynamodb import DynamoDbStore  # noqa: PLC0415 - only who keeps the ledger there

    service = _aws_service(app, "dynamodb", app.settings.dynamodb_endpoint, LedgerUnavailable)
    return DynamoDbStore(service, table, app.clock)


def _keyless(app: App) -> Dated[Keys]:
    from oncetask.alibaba.security_center import Endpoint  # noqa: PLC0415
    from oncetask.alibaba.sts import AlibabaSts, default_endpoint  # noqa: PLC0415 - and Tea with it
    from oncetask.aws.identity import keyless  # noqa: PLC0415

    settings = app.settings
    url = settings.alibaba_sts_endpoint or default_endpoint(settings.region)
    alibaba = AlibabaSts(
        Endpoint.of(url, app.proxies),
        role_arn=str(settings.role_arn),
        provider_arn=str(settings.oidc_provider_arn),
        clock=app.clock,
    )
    aws = _aws_service(app, "sts", settings.aws_sts_endpoint, CredentialsUnavailable)
    return keyless(aws, audience=str(settings.oidc_audience), assume=alibaba.assume_role)


def _access_key(app: App, secret_id: str) -> Dated[Keys]:
    from oncetask.aws.secrets import access_key  # noqa: PLC0415 - only who keeps the key there needs it

    keys = access_key(_secrets_manager(app, CredentialsUnavailable), secret_id)
    now_s = app.clock.now_s()
    return Dated(keys, now_s + FRESH_S, now_s + GOOD_S)


def _webhook_secret(app: App, reference: str) -> tuple[bytes, ...]:
    from oncetask.aws.secrets import webhook_secret  # noqa: PLC0415

    return webhook_secret(_secrets_manager(app, SecretUnavailable), reference)


def _webhook_parameter(app: App, name: str) -> tuple[bytes, ...]:
    from oncetask.aws.secrets import webhook_parameter  # noqa: PLC0415

    return webhook_parameter(_aws_service(app, "ssm", app.settings.ssm_endpoint, SecretUnavailable), name)


def _secrets_manager(app: App, error: type[Unavailable]) -> "AwsService":
    return _aws_service(app, "secretsmanager", app.settings.secrets_manager_endpoint, error)


def _aws_service(app: App, name: str, endpoint_url: str | None, error: type[Unavailable]) -> "AwsService":
    """The service, with the function's own keys. Raises that error where there are none, or no region."""
    from oncetask.aws.client import AwsService  # noqa: PLC0415 - only who uses AWS's services needs it

    if app.settings.aws_region is None:
        raise error("there is no AWS region: AWS_REGION is not set")
    return AwsService(
        name,
        region=app.settings.aws_region,
        keys=_aws_keys(app.settings, error),
        clock=app.clock,
        endpoint_url=endpoint_url or app.settings.aws_endpoint,
        proxies=app.proxies,
    )


def _aws_keys(settings: AwsSettings, error: type[Unavailable]) -> "AwsKeys":
    from oncetask.aws.sigv4 import AwsKeys  # noqa: PLC0415 - only who uses AWS's services needs them

    if settings.aws_access_key_id is None or settings.aws_secret_access_key is None:
        raise error("there are no AWS credentials: AWS_ACCESS_KEY_ID is not set")
    token = settings.aws_session_token
    return AwsKeys(
        settings.aws_access_key_id,
        settings.aws_secret_access_key.get_secret_value(),
        token.get_secret_value() if token else None,
    )


def _keys_of_environment(settings: Settings) -> Keys | None:
    if settings.access_key_id is None or settings.access_key_secret is None:
        return None
    token = settings.security_token
    return Keys(
        settings.access_key_id,
        settings.access_key_secret.get_secret_value(),
        token.get_secret_value() if token else None,
    )
