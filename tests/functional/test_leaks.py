"""Nothing leaks: no token, key, secret or signature in anything that a failure makes the process say.

Run as a program, this file walks every failure in a process whose logging is as loud as it can be.
"""

import json
import logging
import os
import re
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pytest

from local.emulator import (
    ACCESS_KEY_ID,
    ACCESS_KEY_SECRET,
    Emulator,
    Refuse,
    ResetAfter,
    ResetBefore,
    Throttle,
    Unreadable,
)
from local.emulator.answers import ApiError
from local.emulator.sts import AWS_SECRET, AWS_SESSION_TOKEN, Federation
from local.events import json_delivery
from oncetask.app import App, app_of
from oncetask.clock import Deadline
from oncetask.errors import Unavailable
from oncetask.handlers import timer, webhook
from oncetask.handlers.telemetry import emit
from oncetask.models import results_document

PROJECT = Path(__file__).parent.parent.parent
HOOK_SECRET = "hook-secret-of-the-test"
ROUTES = """
[routes.nightly]
trigger = "timer"
task_type = "ASSETS_COLLECTION"
param = {items = "PORT_SNAPSHOT"}

[routes.hook]
trigger = "webhook"
task_type = "IMAGE_SCAN"
verify = {scheme = "bearer", secrets = ["env:HOOK_SECRET"]}
"""
TICK = {
    "route": "nightly",
    "schedule": "arn:aws:scheduler:eu-central-1:123456789012:schedule/default/nightly",
    "scheduled_time": "2026-11-24T05:00:00Z",
}
ASSUME = "AssumeRoleWithOIDC"
SIGNATURE = re.compile(r"\b[0-9a-f]{64}\b")

type Arrange = Callable[[Emulator, Federation], Mapping[str, str] | None]
"""Prepares a failure; gives the variables that it needs."""


@dataclass(frozen=True)
class Quote:
    """A refusal that repeats the request: parameters and headers, its signature among them."""

    code: str
    arrives: ClassVar[bool] = True

    def strike(self, operation: object) -> object:
        call = operation.call  # type: ignore[attr-defined]
        raise ApiError(400, self.code, json.dumps([dict(call.parameters), dict(call.headers)]))


def _script(fault: object, action: str = "GenerateOnceTask", **environment: str) -> Arrange:
    def arrange(emulator: Emulator, _: Federation) -> Mapping[str, str]:
        emulator.script(fault, action=action)  # type: ignore[arg-type]
        return environment

    return arrange


def _set(**state: object) -> Arrange:
    """Another state of one of the two clouds."""

    def arrange(_: Emulator, federation: Federation) -> None:
        for name, value in state.items():
            setattr(federation.aws if hasattr(federation.aws, name) else federation, name, value)

    return arrange


def _aws_down(_: Emulator, federation: Federation) -> None:
    federation.aws.down()


def _alibaba_down(emulator: Emulator, _: Federation) -> None:
    emulator.down()


def _use(**environment: str) -> Arrange:
    return lambda *_: environment


ENV = {
    "ONCETASK_CREDENTIALS": "env",
    "ALIBABA_CLOUD_ACCESS_KEY_ID": ACCESS_KEY_ID,
    "ALIBABA_CLOUD_ACCESS_KEY_SECRET": ACCESS_KEY_SECRET,
}
SCENARIOS: dict[str, tuple[Arrange, str | None]] = {
    "nothing fails": (_use(), None),
    "AWS STS down": (_aws_down, "CredentialsUnavailable"),
    "AWS STS denies": (_set(allowed_audiences=set()), "AccessDenied"),
    "AWS federation disabled": (_set(federation_is_on=False), "OutboundWebIdentityFederationDisabled"),
    "AWS secret wrong": (_use(AWS_SECRET_ACCESS_KEY="wrong-secret-of-the-test"), "SignatureDoesNotMatch"),
    "Alibaba Cloud STS down": (_alibaba_down, "CredentialsUnavailable"),
    "Alibaba Cloud STS hangs up": (_script(ResetBefore(), ASSUME), "CredentialsUnavailable"),
    "Alibaba Cloud STS hangs up late": (_script(ResetAfter(), ASSUME), "CredentialsUnavailable"),
    "Alibaba Cloud STS unreadable": (_script(Unreadable(), ASSUME), "CredentialsUnavailable"),
    "Alibaba Cloud STS quotes": (_script(Quote("Strange"), ASSUME), "Strange"),
    "certificate changed": (
        _set(fingerprints=set()),
        "AuthenticationFail.OIDCToken.PublicKeyFingerprintMismatch",
    ),
    "wrong role": (_use(ALIBABA_CLOUD_ROLE_ARN="acs:ram::1:role/another"), "EntityNotExist.Role"),
    "not trusted": (_set(trusted_subjects=set()), "AuthenticationFail.NoPermission"),
    "access key's secret missing": (
        _use(ONCETASK_CREDENTIALS="secretsmanager:nowhere", AWS_ENDPOINT_URL="http://127.0.0.1:9"),
        "CredentialsUnavailable",
    ),
    "no access key": (_use(ONCETASK_CREDENTIALS="env"), "CredentialsUnavailable"),
    "Security Center quotes": (_script(Quote("SignatureDoesNotMatch")), "SignatureDoesNotMatch"),
    "Security Center quotes, no permission": (_script(Quote("NoPermission")), "NoPermission"),
    "Security Center refuses": (_script(Refuse(403, "Forbidden.RAM")), "Forbidden.RAM"),
    "Security Center throttles": (_script(Throttle()), "Throttling.User"),
    "Security Center hangs up": (_script(ResetAfter()), "NoAnswer"),
    "Security Center unreadable": (_script(Unreadable()), "AnswerUnreadable"),
    "Security Center quotes a stored key": (_script(Quote("Strange"), **ENV), "Strange"),
    "a stored key is wrong": (
        _use(**ENV | {"ALIBABA_CLOUD_ACCESS_KEY_SECRET": "wrong-secret-of-the-test"}),
        "SignatureDoesNotMatch",
    ),
}


# -- the loud process -----------------------------------------------------------------------------


def main(found: Path) -> None:
    """Walk every failure, with a line of `=` before each; what must not be shown goes into the file."""
    logging.basicConfig(level=logging.DEBUG)
    logging.captureWarnings(capture=True)
    routes = found.with_suffix(".toml")
    routes.write_text(ROUTES)
    secrets: dict[str, list[str]] = {}
    for name, (arrange, _) in SCENARIOS.items():
        print(f"\n=== {name}", flush=True)  # noqa: T201 - the test reads it
        with Emulator() as emulator, Federation(emulator) as federation:
            given = federation.environment() | {"ONCETASK_ROUTES": str(routes), "HOOK_SECRET": HOOK_SECRET}
            app = app_of(given | dict(arrange(emulator, federation) or {}))
            _walk(app)
            app.close()
            secrets[name] = _secrets(federation)
    found.write_text(json.dumps(secrets))


def _walk(app: App) -> None:
    deadline = Deadline.after(30, app.clock)
    report = timer.handle(app, TICK, deadline)
    _say(results_document(emit(report, app.settings)))
    for shown in ("wrong", HOOK_SECRET):
        _say(webhook.handle(app, _delivery(shown), deadline).reply())
    try:
        _say(app.credentials.keys())
    except Unavailable as error:
        _say(*_everything_about(error))
    app.credentials.renew()
    _say(app.settings, app.credentials, app.secret_values, app.secret_values.find(("env:HOOK_SECRET",)))


def _delivery(secret: str) -> dict[str, object]:
    return json_delivery("hook", "{}", {"authorization": f"Bearer {secret}"})


def _everything_about(error: BaseException | None) -> Iterator[object]:
    if error is not None:
        yield "".join(traceback.format_exception(error))
    while error is not None:
        yield from (repr(error), str(error), vars(error), error.args)
        error = error.__cause__ or error.__context__


def _say(*things: object) -> None:
    for thing in things:
        print(repr(thing), str(thing), flush=True)  # noqa: T201 - the test reads it


def _secrets(federation: Federation) -> list[str]:
    lent = [value for _, secret, token in federation.lent for value in (secret, token)]
    tokens = [part for token in federation.aws.issued for part in (token, *token.split("."))]
    return [
        AWS_SECRET,
        AWS_SESSION_TOKEN,
        ACCESS_KEY_SECRET,
        HOOK_SECRET,
        "wrong-secret-of-the-test",
        *lent,
        *tokens,
    ]


# -- what it said ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def said() -> dict[str, tuple[str, list[str]]]:
    """By failure: all that went to stdout and stderr, and what must not be there."""
    with tempfile.TemporaryDirectory() as folder:
        found = Path(folder) / "secrets.json"
        done = subprocess.run(
            [sys.executable, "-m", "tests.functional.test_leaks", str(found)],
            cwd=PROJECT,
            env={
                "PATH": os.environ["PATH"],
                "PYTHONPATH": "src:.",
                "DEBUG": "sdk",
                "POWERTOOLS_LOG_LEVEL": "DEBUG",
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=90,
        )
        assert done.returncode == 0, done.stdout[-3000:]
        secrets = json.loads(found.read_text())
    parts = dict(part.split("\n", 1) for part in done.stdout.split("\n=== ")[1:])
    return {name: (parts[name], secrets[name]) for name in SCENARIOS}


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_failure_says_nothing_secret(name: str, said: dict[str, tuple[str, list[str]]]) -> None:
    """Results, replies, logs, metrics, tracebacks and reprs hold no key, secret, token or signature."""
    text, secrets = said[name]

    assert [secret for secret in secrets if secret in text] == []
    assert SIGNATURE.findall(text.replace("sha256-", "sha256_")) == []


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_failure_is_the_one_that_was_meant(name: str, said: dict[str, tuple[str, list[str]]]) -> None:
    """The code stands in the logged result, and metrics were emitted: the walk is not silent."""
    text, _ = said[name]
    code = SCENARIOS[name][1]

    logged = [json.loads(line) for line in text.splitlines() if line.startswith('{"level"')]
    results = [line["result"] for line in logged if line.get("message") == "result"]

    assert [result["error"] and result["error"]["code"] for result in results] == [code]
    assert '"_aws"' in text


def test_a_leak_would_be_seen() -> None:
    """The check finds what it looks for in the very text that a traceback prints."""
    error = ValueError(f"token {AWS_SESSION_TOKEN}")

    text = "".join(map(str, _everything_about(error)))

    assert AWS_SESSION_TOKEN in text


if __name__ == "__main__":
    main(Path(sys.argv[1]))
