"""Log lines and metrics of one invocation, by Powertools: the only place that emits anything."""

from collections import Counter
from functools import cache
from typing import Any

from aws_lambda_powertools import Logger
from aws_lambda_powertools.metrics.provider.cloudwatch_emf.cloudwatch import AmazonCloudWatchEMFProvider

from oncetask.errors import Kind
from oncetask.models import Result, Status
from oncetask.settings import Settings
from oncetask.submit import Report

_METRIC_OF_STATUS = {status: status.value.capitalize() for status in Status}
_ALSO_BY_ROUTE = frozenset({"Rejected", "Failed", "OperatorError"})


def emit(report: Report, settings: Settings, gauges: dict[str, float] | None = None) -> list[dict[str, Any]]:
    """Log each result once, count them all, and give them back as JSON data."""
    documents = [result.document() for result in report.results]
    logger = _logger(settings.service, settings.log_level)
    for document in documents:
        logger.info("result", result=document)
    _emit_metrics(report, settings, gauges or {})
    return documents


def emit_refusal(code: str, settings: Settings, *, metric: str | None = None) -> None:
    """One bounded line, and perhaps a count, for what never became an event. Nothing of it is repeated."""
    _logger(settings.service, settings.log_level).info("refused", code=code)
    if metric is not None:
        metrics = _metrics(settings)
        metrics.add_metric(metric, "Count", 1)
        metrics.flush_metrics()


@cache
def _logger(service: str, level: str) -> Logger:
    return Logger(service=service, level=level)


def _emit_metrics(report: Report, settings: Settings, gauges: dict[str, float]) -> None:
    metrics = _metrics(settings)
    for name, count in _counts(report).items():
        if count:
            metrics.add_metric(name, "Count", count)
    for latency_ms in report.create_latencies_ms:
        metrics.add_metric("CreateLatencyMs", "Milliseconds", latency_ms)
    for name, value in gauges.items():
        metrics.add_metric(name, "Seconds" if name.endswith("Seconds") else "Count", value)
    if metrics.metric_set:
        metrics.flush_metrics()
    for (name, route), count in _counts_by_route(report.results).items():
        by_route = _metrics(settings, route=route)
        by_route.add_metric(name, "Count", count)
        by_route.flush_metrics()


def _counts(report: Report) -> Counter[str]:
    counts = Counter(name for result in report.results for name in _metric_names(result))
    counts.update(Adopted=report.adopted, AskedAgain=report.asked_again, SecondTask=report.second_tasks)
    return counts


def _counts_by_route(results: list[Result]) -> Counter[tuple[str, str]]:
    return Counter(
        (name, result.route)
        for result in results
        if result.route is not None
        for name in _metric_names(result)
        if name in _ALSO_BY_ROUTE
    )


def _metric_names(result: Result) -> list[str]:
    names = [_METRIC_OF_STATUS[result.status]]
    if result.error is not None and result.error.kind is Kind.OPERATOR:
        names.append("OperatorError")
    return names


def _metrics(settings: Settings, **dimensions: str) -> AmazonCloudWatchEMFProvider:
    return AmazonCloudWatchEMFProvider(
        namespace=settings.metrics_namespace,
        service=settings.service,
        default_dimensions={"service": settings.service, **dimensions},
    )
