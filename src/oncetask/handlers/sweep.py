"""Every minute: what waits is asked for, what was lost is searched for, what runs is followed."""

import json
from typing import TYPE_CHECKING, Any

from oncetask.app import App, remaining_ms, start
from oncetask.clock import Deadline
from oncetask.errors import LedgerUnavailable
from oncetask.handlers.telemetry import emit, emit_sweep
from oncetask.models import results_document

if TYPE_CHECKING:
    from oncetask.sweep.context import SweepReport

MOST_RESULTS = 1000
MOST_RESULT_BYTES = 4_000_000 - 1_000
"""AWS Lambda ends a synchronous answer at 6 MB; 1,000 bytes are for what stands around the results."""

_app = start()


def handler(_event: Any, context: Any) -> dict[str, Any]:  # noqa: ANN401 - any event starts a sweep
    """AWS's entry: `{"results", "counts", "waiting", "running", "oldest_waiting_s"}`.

    Raises LedgerUnavailable; the next minute's sweep tries again.
    """
    return answer(_app, _app.deadline(remaining_ms(context)))


def answer(app: App, deadline: Deadline) -> dict[str, Any]:
    """One sweep, logged and counted, also where the ledger fails in the middle of it."""
    from oncetask.sweep.context import SweepReport  # noqa: PLC0415 - once `app.start` has named no plugins

    report = SweepReport()
    try:
        handle(app, deadline, report)
    except LedgerUnavailable:
        emit(report, app.settings)
        raise
    return swept_document(report, emit_sweep(report, app.settings))


def handle(app: App, deadline: Deadline, report: "SweepReport | None" = None) -> "SweepReport":
    """One sweep. Raises LedgerUnavailable; a report that was given then tells what was done before."""
    return app.sweeper.sweep(deadline, report)


def swept_document(report: "SweepReport", documents: list[dict[str, Any]]) -> dict[str, Any]:
    """The sweep's return value: the counts are complete, the results as many as AWS carries."""
    complete = results_document(documents)
    return {"results": _first(documents), "counts": complete["counts"], **report.gauges._asdict()}


def _first(documents: list[dict[str, Any]]) -> list[dict[str, Any]]:
    kept, size_bytes = [], 0
    for document in documents[:MOST_RESULTS]:
        size_bytes += len(json.dumps(document)) + len(", ")
        if size_bytes > MOST_RESULT_BYTES:
            break
        kept.append(document)
    return kept
