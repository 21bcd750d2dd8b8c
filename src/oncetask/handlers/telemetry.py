"""Log lines and metrics of one invocation, by Powertools: the only place that emits anything."""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from threading import Lock
from typing import TYPE_CHECKING, Any

from oncetask.alibaba.lazy_imports import kept_out
from oncetask.errors import Code, Kind
from oncetask.models import ErrorInfo, Result, Status, told_to_others
from oncetask.settings import AwsSettings

with kept_out("boto3", "botocore"):  # Powertools loads it where the runtime has it, to name itself there
    from aws_lambda_powertools import Logger
    from aws_lambda_powertools.metrics.provider.cloudwatch_emf.cloudwatch import AmazonCloudWatchEMFProvider

if TYPE_CHECKING:  # a refusal has neither
    from oncetask.handlers.outbox import Report as OutboxReport
    from oncetask.submit.report import Report
    from oncetask.sweep.context import SweepReport

_METRIC_OF_STATUS = {status: status.value.capitalize() for status in Status}
_ALSO_BY_ROUTE = frozenset({"Rejected", "Failed", "TaskFailed", "OperatorError", "Unverified"})


def emit(report: "Report", settings: AwsSettings) -> list[dict[str, Any]]:
    """Log each result once, count them all, and give them back as JSON data."""
    documents = [result.document() for result in report.results]
    logger = _logger(settings.service, settings.log_level)
    for document in documents:
        logger.info("result", result=told_to_others(document))
    for event_id, hosts in report.ambiguous_hosts.items():
        logger.warning("host ambiguous", event_id=event_id, hosts=hosts)
    _emit_report(report, settings)
    return documents


def emit_sweep(report: "SweepReport", settings: AwsSettings) -> list[dict[str, Any]]:
    """The same for a sweep, with its gauges, and a line for each thing that it could not see or read."""
    logger = _logger(settings.service, settings.log_level)
    for failed in report.failed_queries:
        logger.warning("query failed", code=failed.code, reason=failed.message)
    for key in report.damaged_keys:
        logger.error("record damaged", key=key)
    for key in report.newer_keys:
        logger.warning("record of a newer version", key=key)
    documents = emit(report, settings)
    _emit_counts(Counter(OperatorError=_operator_errors_without_result(report)), settings)
    _emit_gauges(report, settings)
    return documents


def emit_refusal(
    error: ErrorInfo, settings: AwsSettings, *, route: str | None, reason: str, is_counted: bool = True
) -> None:
    """One line, and perhaps a count, for a delivery that became no event.

    `route` is a name of the routes file and `reason` our own words: nothing of a stranger's is logged.
    """
    logger = _logger(settings.service, settings.log_level)
    logger.info("refused", code=error.code, route=route, reason=reason)
    if is_counted:
        names = ["Unverified"] if error.code == Code.UNVERIFIED else _metrics_of_error(error)
        _emit_counts_and_routes(Counter(names), settings, route)


def emit_handshake(settings: AwsSettings, *, route: str, handshake: str) -> None:
    """One line for a sender that was told that the URL is ours."""
    _logger(settings.service, settings.log_level).info("handshake", route=route, handshake=handshake)


def emit_secret_faults(faults: Sequence[str], settings: AwsSettings, *, route: str) -> None:
    """One line and one count for references of a route that no delivery can be verified by."""
    logger = _logger(settings.service, settings.log_level)
    logger.warning("secret at fault", route=route, reason="; ".join(faults))
    _emit_counts_and_routes(Counter(OperatorError=1), settings, route)


def _emit_counts_and_routes(counts: Counter[str], settings: AwsSettings, route: str | None) -> None:
    _emit_counts(counts, settings)
    if route is not None:
        _emit_counts_of_route(route, counts, settings)


def _in_ascii(line: dict[str, Any]) -> str:
    """What others wrote moves no terminal's cursor and turns no text round."""
    return json.dumps(line, separators=(",", ":"), default=str).replace("\x7f", "\\u007f")


def emit_handed_on(report: "OutboxReport", settings: AwsSettings) -> None:
    """How many results left, and a line for each that did not."""
    logger = _logger(settings.service, settings.log_level)
    for change, refusal in report.dead_letters:
        logger.error(
            "dead letter", event_id=change.message.event_id, code=refusal.code, reason=refusal.reason
        )
    for change in report.damaged:
        logger.error("record damaged", key=change.key)
    if report.stopped is not None and report.refusal is not None:
        event_id, refusal = report.stopped.message.event_id, report.refusal
        logger.warning("not handed on yet", event_id=event_id, code=refusal.code, reason=refusal.reason)
    _emit_counts(Counter(HandedOn=report.handed_on, OperatorError=len(report.damaged)), settings)


@cache
def _logger(service: str, level: str) -> Logger:
    return Logger(service=service, level=level, json_serializer=_in_ascii)


def _emit_report(report: "Report", settings: AwsSettings) -> None:
    _emit_counts(_counts(report), settings, latencies_ms=report.create_latencies_ms)
    for route, counts in _counts_by_route(report.results).items():
        _emit_counts_of_route(route, counts, settings)


def _emit_counts_of_route(route: str, counts: Counter[str], settings: AwsSettings) -> None:
    also_by_route = Counter({name: count for name, count in counts.items() if name in _ALSO_BY_ROUTE})
    _emit_counts(also_by_route, settings, route=route)


def _emit_counts(
    counts: Counter[str], settings: AwsSettings, latencies_ms: Sequence[float] = (), **dimensions: str
) -> None:
    """Those that are not zero, and latencies, in one line of the log; no line where there are none."""
    if not any(counts.values()) and not latencies_ms:
        return
    with _metrics(settings, **dimensions) as metrics:
        for name, count in counts.items():
            if count:
                metrics.add_metric(name, "Count", count)
        for latency_ms in latencies_ms:
            metrics.add_metric("CreateLatencyMs", "Milliseconds", latency_ms)


def _emit_gauges(report: "SweepReport", settings: AwsSettings) -> None:
    """Zeros included: an alarm tells from them that the sweep runs."""
    with _metrics(settings) as gauges:
        gauges.add_metric("Waiting", "Count", report.gauges.waiting)
        gauges.add_metric("Running", "Count", report.gauges.running)
        gauges.add_metric("OldestWaitingSeconds", "Seconds", report.gauges.oldest_waiting_s)
        gauges.add_metric("EventsPerTask", "Count", report.events_per_task)


def _operator_errors_without_result(report: "SweepReport") -> int:
    """A damaged event has a result, which counts it."""
    queries = sum(failed.kind is Kind.OPERATOR for failed in report.failed_queries)
    return queries + sum(not key.startswith("event/") for key in report.damaged_keys)


def _counts(report: "Report") -> Counter[str]:
    counts = Counter(name for result in report.results for name in _metrics_of_result(result))
    counts.update(Adopted=report.adopted, AskedAgain=report.asked_again, SecondTask=report.second_tasks)
    return counts


def _counts_by_route(results: list[Result]) -> dict[str, Counter[str]]:
    counts: dict[str, Counter[str]] = {}
    for result in results:
        if result.route is not None:
            counts.setdefault(result.route, Counter()).update(_metrics_of_result(result))
    return counts


def _metrics_of_result(result: Result) -> list[str]:
    failed = ["TaskFailed"] if result.finish is not None and result.finish.ok is False else []
    return [_METRIC_OF_STATUS[result.status], *failed, *_metrics_of_error(result.error)]


def _metrics_of_error(error: ErrorInfo | None) -> list[str]:
    return ["OperatorError"] if error is not None and error.kind is Kind.OPERATOR else []


_emitting = Lock()


@contextmanager
def _metrics(settings: AwsSettings, **dimensions: str) -> Iterator[AmazonCloudWatchEMFProvider]:
    """To be filled by one thread; then they are emitted, in one line."""
    with _emitting:
        metrics = _provider(settings.metrics_namespace, settings.service, **dimensions)
        try:
            yield metrics
            if metrics.metric_set:  # Powertools warns where there is nothing to publish
                metrics.flush_metrics()
        finally:
            metrics.clear_metrics()


@cache
def _provider(namespace: str, service: str, **dimensions: str) -> AmazonCloudWatchEMFProvider:
    """One for all emissions: making it costs as much as emitting."""
    return AmazonCloudWatchEMFProvider(
        namespace=namespace, service=service, default_dimensions={"service": service, **dimensions}
    )
