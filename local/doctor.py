"""`oncetask doctor`: what a deployment needs, tried by calls that change nothing."""

from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from local.environments import LASTS_NOT, told
from local.errors import NotDone
from local.mistakes import mistakes
from local.screen import Screen
from oncetask.app import App, app_of
from oncetask.errors import (
    CredentialsUnavailable,
    LedgerUnavailable,
    OnceTaskError,
    QueryFailed,
    SecretUnavailable,
    SettingsError,
)
from oncetask.ledger.records import event_queue
from oncetask.models import TASK_TYPES
from oncetask.settings import Settings

CALL_MS = 20_000
NO_TASK = "0" * 32
"""A task id that no task has."""

OPERATIONS = ("DescribeOnceTask", "GetLastOnceTaskInfo", "GetOnceTaskResultInfo")

HOSTS = "DescribeCloudCenterInstances"
"""Needed only where a route has a table `hosts`."""


class Finding(NamedTuple):
    """One thing that was tried: `ok`, `wrong`, `warning` or `not tried`, what was seen, and what to do."""

    what: str
    verdict: str
    seen: str
    do: str = ""


def main(routes: Path | None, *, as_json: bool) -> None:
    """Print a line a finding. Raises NotDone where something is wrong."""
    screen = Screen()
    findings: list[Finding] = []
    for finding in examined(told(routes)):
        findings.append(finding)
        if not as_json:
            screen.line(f"{finding.verdict:<9}", f"{finding.what}: {finding.seen}")
            if finding.do:
                screen.line(f"do: {finding.do}", indent=5)
    if as_json:
        counts = {
            verdict: sum(one.verdict == verdict for one in findings)
            for verdict in ("ok", "wrong", "warning", "not tried")
        }
        screen.document({"results": [one._asdict() for one in findings], "counts": counts})
    if any(one.verdict == "wrong" for one in findings):
        raise NotDone


def examined(environment: dict[str, str]) -> Iterator[Finding]:
    """Each thing in turn; what hangs on something wrong is not tried."""
    try:
        settings = Settings.from_environment(environment)
    except SettingsError as error:
        yield Finding("settings", "wrong", str(error), "set that variable; the rest is tried after that")
        return
    yield Finding("settings", "ok", f"region {settings.region}, credentials {settings.credentials}")
    wrong = mistakes(settings.routes, (*TASK_TYPES, *settings.extra_task_types))
    if wrong:
        yield Finding(
            "routes",
            "wrong",
            f"{len(wrong)} mistakes in {settings.routes}",
            "oncetask routes check tells them",
        )
        return
    with closing(app_of(environment)) as app:
        yield Finding("routes", "ok", f"{len(app.routes)} in {settings.routes}")
        yield from _secrets(app)
        yield _ledger(app)
        keys = _keys(app)
        yield keys
        yield from _permissions(app) if keys.verdict == "ok" else _not_tried(app)


def _secrets(app: App) -> Iterator[Finding]:
    for route in app.routes.values():
        for reference in route.verify.secrets if route.verify else ():
            what = f"secret of {route.name}"
            try:
                app.secret_values.find((reference,))
            except SecretUnavailable as error:
                yield Finding(
                    what, "wrong", str(error), f"make {reference} readable for the webhook function"
                )
            else:
                yield Finding(what, "ok", f"{reference} is set")


def _ledger(app: App) -> Finding:
    named = app.settings.ledger
    if named == LASTS_NOT:
        return Finding("ledger", "warning", "memory:// forgets", "set ONCETASK_LEDGER to one that lasts")
    path = Path(named.removeprefix("sqlite://"))
    if named.startswith("sqlite://") and not path.exists():
        if path.parent.is_dir():
            return Finding("ledger", "ok", f"{named} is not there yet: the first event makes it")
        return Finding(
            "ledger", "wrong", f"{named}: its folder is not there", f"make the folder {path.parent}"
        )
    try:
        next(app.ledger.waiting(event_queue(None), 1), None)
        app.ledger.event("oncetask-doctor")
    except LedgerUnavailable as error:
        return Finding(
            "ledger", "wrong", str(error), "what the line says; docs/deploy.md has the table's policy"
        )
    return Finding("ledger", "ok", f"{named} answers, by its index, too")


def _keys(app: App) -> Finding:
    try:
        keys = app.credentials.keys()
    except CredentialsUnavailable as error:
        return Finding(
            "keys", "wrong", str(error), "docs/keyless.md and docs/deploy.md say how keys are given"
        )
    return Finding("keys", "ok", f"{app.settings.credentials} gives keys" if keys else "none")


def _permissions(app: App) -> Iterator[Finding]:
    center, deadline = app.security_center, app.deadline
    tries: dict[str, Callable[[], object]] = {
        "DescribeOnceTask": lambda: center.tasks_started_since(
            "CLIENT_PROBLEM_CHECK", app.clock.now_s(), deadline(CALL_MS)
        ),
        "GetLastOnceTaskInfo": lambda: center.last_task("IMAGE_SCAN", "IMAGE_SCAN", deadline(CALL_MS)),
        "GetOnceTaskResultInfo": lambda: center.follow(
            "IMAGE_SCAN", NO_TASK, "IMAGE_SCAN", deadline(CALL_MS)
        ),
    }
    if _looks_up(app):
        tries[HOSTS] = lambda: center.instance_count(deadline(CALL_MS))
    for operation, attempt in tries.items():
        yield _tried(operation, attempt)
    yield _generate()


def _looks_up(app: App) -> bool:
    return any(route.hosts and route.hosts.looks_up for route in app.routes.values())


def _tried(operation: str, attempt: Callable[[], object]) -> Finding:
    try:
        attempt()
    except QueryFailed as error:
        what_to_do = f"allow yundun-aegis:{operation} and yundun-sas:{operation} in RAM"
        return Finding(
            operation,
            "wrong",
            str(error),
            what_to_do if error.kind == "operator" else "check the network and ONCETASK_ENDPOINT",
        )
    except OnceTaskError as error:
        return Finding(operation, "wrong", str(error), "check the keys")
    return Finding(operation, "ok", "may be called")


def _not_tried(app: App) -> Iterator[Finding]:
    for operation in (*OPERATIONS, *([HOSTS] if _looks_up(app) else [])):
        yield Finding(operation, "not tried", "there are no keys")
    yield _generate()


def _generate() -> Finding:
    return Finding("GenerateOnceTask", "not tried", "only a task would show whether it may be called")
