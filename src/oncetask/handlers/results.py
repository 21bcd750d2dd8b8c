"""The ledger table's stream hands every new result on: to a bus of EventBridge, or to a FIFO queue of SQS."""

from typing import Any

from oncetask.app import remaining_ms, start_results
from oncetask.handlers.outbox import hand_on
from oncetask.handlers.telemetry import emit_handed_on

_app = start_results()


def handler(event: Any, context: Any) -> dict[str, Any]:  # noqa: ANN401 - AWS hands over any JSON
    """AWS's entry: `{"batchItemFailures": […]}`, with the one record that the stream begins again with."""
    report = hand_on(_app, event, _app.deadline(remaining_ms(context)))
    emit_handed_on(report, _app.settings)
    return report.answer()
