"""From a route and an item to the request that is sent, checked where its shape is public."""

import json
from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from oncetask.errors import Code, Rejection
from oncetask.models import TaskRequest
from oncetask.routing.hosts import refuse_bad_targets
from oncetask.routing.params import lack_of
from oncetask.routing.routes import SOURCE, Route, Text
from oncetask.routing.suggestions import among
from oncetask.webhooks.body import is_deeper_than

REQUEST_LINE_BYTES = 8000
"""Param travels in the query string; the gateway's own limit is not documented, so ours is cautious."""
PARAM_LEVELS = 64
"""How deep Param may nest: the ledger's and the log's own JSON ends at some 200 levels."""


class InlineTask(BaseModel):
    """A request that the event itself holds: `{TaskType, TaskName?, Param, Source?}`.

    Other keys are let pass: a sender's own id, for the route's `id`, stands among them.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True, defer_build=True)

    TaskType: Text
    TaskName: Text | None = None
    Param: Any = None
    Source: Text | None = None


def request_of(route: Route, item: object) -> tuple[TaskRequest, bool]:
    """The item's request, and whether it has targets. Raises Rejection."""
    if route.task_type is None:
        return inline_request(item, route.allow), False
    param = dict(route.param)
    for key, expression in route.param_from.items():
        value = expression.search(item)
        if value is not None:
            param[key] = value
    if route.targets is not None:
        param[route.target_key] = ",".join(_targets(route, item))
    selected = (route.target_key,) if route.selects_hosts else ()
    request = _checked_request(route.task_type, route.task_name, param, route.source, selected)
    return request, route.targets is not None


def _targets(route: Route, item: object) -> list[str]:
    """Unique, in order of arrival. Raises Rejection."""
    found = route.targets.search(item) if route.targets else None
    texts = [found] if isinstance(found, str) else found
    if texts is None:
        texts = []
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise Rejection(Code.EXPRESSION_FAILED, "`targets` gave neither a text nor a list of texts")
    targets = list(dict.fromkeys(part for text in texts for raw in text.split(",") if (part := raw.strip())))
    if not targets:
        raise Rejection(Code.NO_TARGETS, "`targets` gave no target for this item")
    refuse_bad_targets(targets, route.hosts.by if route.hosts else "uuid")
    if len(targets) > route.max_targets:
        raise Rejection(
            Code.TOO_MANY_TARGETS,
            f"the item has {len(targets)} targets, over max_targets of {route.max_targets}",
        )
    return targets


def inline_request(task: object, allowed: Sequence[str]) -> TaskRequest:
    """The request that stands in the item itself, of one of these task types. Raises Rejection."""
    try:
        given = InlineTask.model_validate(task, strict=True)
    except ValidationError:
        raise Rejection(
            Code.EVENT_NOT_UNDERSTOOD,
            "a task is an object of TaskType, Param and perhaps TaskName and Source",
        ) from None
    if given.TaskType not in allowed:
        says = among("this task type may not be asked for here", given.TaskType, allowed)
        raise Rejection(Code.TASK_TYPE_NOT_ALLOWED, says)
    return _checked_request(given.TaskType, given.TaskName, _inline_param(given.Param), given.Source)


def _inline_param(param: object) -> dict[str, Any]:
    if isinstance(param, str):
        try:
            param = json.loads(param, parse_constant=_no_constant)
        except (ValueError, RecursionError):
            raise Rejection(Code.BAD_PARAM, "Param is neither an object nor its JSON text") from None
    if not isinstance(param, dict):
        raise Rejection(Code.BAD_PARAM, "Param is neither an object nor its JSON text")
    return param


def _no_constant(name: str) -> float:
    raise ValueError(name)


def _checked_request(
    task_type: str,
    task_name: str | None,
    param: dict[str, Any],
    source: str | None,
    selected: Sequence[str] = (),
) -> TaskRequest:
    """The request, if it can be sent and kept as it is, but for the keys that selected hosts will fill.

    Raises Rejection BadParam or RequestTooLarge.
    """
    lack = lack_of(task_type, param, given=selected)
    if lack is not None:
        raise Rejection(Code.BAD_PARAM, f"{task_type} needs Param.{lack.key}, {lack.words}")
    try:
        request = TaskRequest(
            task_type=task_type, task_name=task_name or task_type, param=param, source=source or SOURCE
        )
        size_bytes = request.line_bytes()
    except (ValueError, RecursionError):  # numbers that are none, lone surrogates
        raise Rejection(Code.BAD_PARAM, "Param holds what JSON cannot carry") from None
    if size_bytes > REQUEST_LINE_BYTES:
        raise Rejection(
            Code.REQUEST_TOO_LARGE,
            f"the request line would have {size_bytes} bytes, over {REQUEST_LINE_BYTES}",
        )
    if is_deeper_than(PARAM_LEVELS, param):
        raise Rejection(Code.BAD_PARAM, f"Param nests deeper than {PARAM_LEVELS} levels")
    return request
