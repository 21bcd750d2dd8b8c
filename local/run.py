"""`make run`: event documents through the real handlers, against the emulator or the real service."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from local import show
from local.cases import EVENTS, INVOCATION_MS, Case, Handled, documents, expectation_of
from local.documents import read_event, routes_beside
from local.emulator import ACCESS_KEY_ID, ACCESS_KEY_SECRET, Emulator
from oncetask.app import app_of
from oncetask.errors import OnceTaskError, Rejection
from oncetask.handlers import timer, webhook
from oncetask.models import results_document
from oncetask.webhooks.http import Delivery


def main(path: Path | None, *, live: bool, keyless: bool) -> None:
    """Run one event document, or every sample."""
    if path is None:
        if live:
            raise OnceTaskError("LIVE=1 needs EVENT=, the one event to ask the real Security Center for")
        _run_samples(keyless=keyless)
    elif live:
        _run_document(path, os.environ)
    elif expectation_of(path).is_file():
        _print(path, _of_case(path, keyless=keyless))
    else:
        with Emulator() as emulator:
            _run_document(path, _with_emulator(emulator))


def _run_samples(*, keyless: bool) -> None:
    show.answers(
        (str(path.relative_to(EVENTS)), _document(_of_case(path, keyless=keyless))) for path in documents()
    )


def _of_case(path: Path, *, keyless: bool) -> Handled:
    case = Case.at(path)
    with Emulator() as emulator:
        return case.run_keyless(emulator) if keyless else case.run(emulator)


def _with_emulator(emulator: Emulator) -> dict[str, str]:
    return dict(os.environ) | {
        "ONCETASK_ENDPOINT": emulator.url,
        "ONCETASK_CREDENTIALS": "env",
        "ALIBABA_CLOUD_ACCESS_KEY_ID": ACCESS_KEY_ID,
        "ALIBABA_CLOUD_ACCESS_KEY_SECRET": ACCESS_KEY_SECRET,
    }


def _run_document(path: Path, environment: Mapping[str, str]) -> None:
    app = app_of({**routes_beside(path), **environment})
    event = read_event(path)
    handle = webhook.handle if _is_http(event) else timer.handle
    _print(path, handle(app, event, app.deadline(INVOCATION_MS)))


def _is_http(event: object) -> bool:
    try:
        Delivery.of(event)
    except Rejection:
        return False
    return True


def _print(path: Path, handled: Handled) -> None:
    show.answers([(path.name, _document(handled))])


def _document(handled: Handled) -> dict[str, Any]:
    """Its results and counts; of a refused delivery what its sender was told."""
    if isinstance(handled, webhook.Refusal | webhook.Answered):
        told: dict[str, Any] = json.loads(handled.reply().body or "{}")
        return told
    report = handled.report if isinstance(handled, webhook.Accepted) else handled
    return results_document([result.document() for result in report.results])
