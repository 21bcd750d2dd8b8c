"""Every minute: what waits is asked for, what was lost is looked for, what runs is followed."""

from dataclasses import asdict
from typing import Any

from oncetask import wiring
from oncetask.clock import Deadline
from oncetask.handlers.telemetry import emit_sweep
from oncetask.models import compact_json, results_document
from oncetask.sweep import SweepReport
from oncetask.wiring import App

MOST_RESULTS = 1000
MOST_RESULT_BYTES = 4_000_000
"""AWS Lambda ends a synchronous answer at 6 MB."""

_app = wiring.start()


def handler(_event: Any, context: Any) -> dict[str, Any]:  # noqa: ANN401 - any event starts a sweep
    """AWS's entry: `{"results", "counts", "waiting", "running", "oldest_waiting_s"}`.

    Raises LedgerUnavailable; the next minute's sweep tries again.
    """
    report = handle(_app, _app.deadline(wiring.remaining_ms(context)))
    return swept_document(report, emit_sweep(report, _app.settings))


def handle(app: App, deadline: Deadline) -> SweepReport:
    """One sweep. Raises LedgerUnavailable."""
    return app.sweeper.sweep(deadline)


def swept_document(report: SweepReport, documents: list[dict[str, Any]]) -> dict[str, Any]:
    """The sweep's return value: the counts are complete, the results as many as AWS carries."""
    complete = results_document(documents)
    return {"results": _first(documents), "counts": complete["counts"], **asdict(report.gauges)}


def _first(documents: list[dict[str, Any]]) -> list[dict[str, Any]]:
    kept, size_bytes = [], 0
    for document in documents[:MOST_RESULTS]:
        size_bytes += len(compact_json(document).encode())
        if size_bytes > MOST_RESULT_BYTES:
            break
        kept.append(document)
    return kept
