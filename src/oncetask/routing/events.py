"""From a payload to events by a route's rules: what is asked for, by whom, and under which id.

Pure: no clock, no ledger.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from oncetask.errors import Code, Rejection
from oncetask.models import RUNS_ON_HOSTS, Result, Status, Trigger, compact_json, ignored, rejection
from oncetask.routing.requests import inline_request, request_of
from oncetask.routing.routes import WEEK_S, Route

if TYPE_CHECKING:  # the ledger is not imported before there is something to record
    from oncetask.ledger.records import Event, HostRule

EVENT_ID_BYTES = 512
HEADERS_KEY = "@headers"
"""Where `when` finds the request's headers in the payload; whatever the sender has under it is not seen."""

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")


def bounded_id(event_id: str, trigger: Trigger, name: str) -> str:
    """The id, or its hash where it is too long or holds what no terminal or store should meet."""
    encoded = event_id.encode("utf-8", "surrogatepass")
    if len(encoded) <= EVENT_ID_BYTES and _CONTROL.search(event_id) is None:
        return event_id
    return f"{trigger}:{name}:sha256-{hashlib.sha256(encoded).hexdigest()}"


class Origin(NamedTuple):
    """Where a payload came from: what its events' ids and times are made of.

    `changing_keys`: the item's keys that may differ between two deliveries of the same event.
    """

    trigger: Trigger
    base_id: str
    name: str
    now_s: float
    by_body_hash: bool = False
    changing_keys: frozenset[str] = frozenset()

    def bounded(self, event_id: str) -> str:
        """The id, or its hash where it is too long or holds what no terminal or store should meet."""
        return bounded_id(event_id, self.trigger, self.name)


def events_of_route(
    route: Route,
    payload: object,
    origin: Origin,
    *,
    headers: Mapping[str, str | None] | None = None,
    most_items: int | None = None,
) -> "list[Event | Result]":
    """What a payload asks for by its route: new events, and results for what will never be one.

    `headers` are what `when` sees of the request, beside the payload. Raises Rejection where the payload
    as a whole fails: `when` or `each` does, or gives too many items.
    """
    if not _acts(route, payload, headers):
        return [_ignored(route, origin)]
    items = _items(route, payload)
    if not items:
        return [_ignored(route, origin)]
    if most_items is not None and len(items) > most_items:
        raise Rejection(Code.TOO_MANY_ITEMS, f"`each` gives {len(items)} items, over {most_items}")
    return [_event_or_rejection(route, item, index, origin) for index, item in enumerate(items)]


def events_of_tasks(
    tasks: Iterable[object], task_types: Sequence[str], origin: Origin
) -> "list[Event | Result]":
    """The same for tasks that stand in the event itself, without a route."""
    allowed = [task_type for task_type in task_types if task_type != RUNS_ON_HOSTS]
    return [_inline_event_or_rejection(task, index, allowed, origin) for index, task in enumerate(tasks)]


def _acts(route: Route, payload: object, headers: Mapping[str, str | None] | None) -> bool:
    if headers:
        if not isinstance(payload, dict):
            raise Rejection(Code.EXPRESSION_FAILED, "headers stand beside an object, and the payload is none")
        payload = {**payload, HEADERS_KEY: dict(headers)}
    return route.when is None or route.when.search(payload) is True


def _items(route: Route, payload: object) -> list[Any]:
    if route.each is None:
        return [payload]
    found = route.each.search(payload)
    if found is None:
        return []
    if not isinstance(found, list):
        raise Rejection(Code.EXPRESSION_FAILED, "`each` gave something that is no list")
    return found


def _ignored(route: Route, origin: Origin) -> Result:
    return ignored(
        trigger=origin.trigger,
        route=route.name,
        event_id=origin.bounded(origin.base_id),
        now_s=origin.now_s,
    )


def _event_or_rejection(route: Route, item: object, index: int, origin: Origin) -> "Event | Result":
    from oncetask.ledger.records import Event  # noqa: PLC0415 - see the top

    event_id: str | None = None
    try:
        event_id = _event_id(route, item, index, origin)
        request, targets = request_of(route, item)
        return Event(
            event_id=event_id,
            status=Status.PENDING,
            trigger=origin.trigger,
            route=route.name,
            item_sha256=_digest(item, origin.changing_keys),
            first_wins=_is_own_id(route, origin),
            request=request,
            submit="sweep" if route.selects_hosts else route.submit,
            target_key=route.target_key if targets or route.selects_hosts else None,
            max_targets=route.max_targets,
            hosts=_host_rule(route),
            order=index,
            received_s=origin.now_s,
            due_s=origin.now_s,
            give_up_s=origin.now_s + route.expire_s,
            keep_s=route.remembered_s(by_body_hash=origin.by_body_hash and route.id is None),
        )
    except Rejection as error:
        return rejection(
            error, trigger=origin.trigger, route=route.name, event_id=event_id, now_s=origin.now_s
        )


def _host_rule(route: Route) -> "HostRule | None":
    """What must be looked up before the event can be asked for; Security Center's own ids need not be."""
    from oncetask.ledger.records import HostRule  # noqa: PLC0415 - see the top

    hosts = route.hosts
    if hosts is None or not hosts.looks_up:
        return None
    most = hosts.most if route.selects_hosts else None
    return HostRule(by=hosts.by, where=hosts.where, wait_s=hosts.wait_s, most=most)


def _inline_event_or_rejection(
    task: object, index: int, task_types: Sequence[str], origin: Origin
) -> "Event | Result":
    from oncetask.ledger.records import Event  # noqa: PLC0415 - see the top

    event_id: str | None = None
    try:
        event_id = origin.bounded(f"{origin.base_id}/{index}")
        return Event(
            event_id=event_id,
            status=Status.PENDING,
            trigger=origin.trigger,
            route=None,
            item_sha256=_digest(task),
            request=inline_request(task, task_types),
            submit="now",
            order=index,
            received_s=origin.now_s,
            due_s=origin.now_s,
            give_up_s=origin.now_s + WEEK_S,
            keep_s=WEEK_S,
        )
    except Rejection as error:
        return rejection(error, trigger=origin.trigger, route=None, event_id=event_id, now_s=origin.now_s)


# -- ids ------------------------------------------------------------------------------------------


def _is_own_id(route: Route, origin: Origin) -> bool:
    """Whether the event's id is the item's own identity: then the first wins, whatever the second says."""
    return route.id is not None and (origin.trigger is Trigger.WEBHOOK or route.each is not None)


def _event_id(route: Route, item: object, index: int, origin: Origin) -> str:
    if _is_own_id(route, origin):
        own = _own_id(route, item)
        if origin.trigger is Trigger.WEBHOOK:
            return origin.bounded(f"webhook:{route.name}:{own}")
        return origin.bounded(f"{origin.base_id}/{own}")
    return origin.bounded(f"{origin.base_id}/{index}" if route.each else origin.base_id)


def _own_id(route: Route, item: object) -> str:
    found = route.id.search(item) if route.id else None
    if found is None or found == "":
        raise Rejection(Code.NO_EVENT_ID, "`id` gave nothing for this item")
    if isinstance(found, str):
        return found
    if isinstance(found, bool) or not isinstance(found, int | float):
        raise Rejection(Code.EXPRESSION_FAILED, "`id` gave neither a text nor a number")
    try:
        return compact_json(found)
    except ValueError:
        raise Rejection(Code.EXPRESSION_FAILED, "`id` gave a number that JSON cannot carry") from None


def _digest(item: object, changing_keys: frozenset[str] = frozenset()) -> str:
    """SHA-256 of the item as canonical JSON. Raises Rejection."""
    if changing_keys and isinstance(item, dict):
        item = {key: value for key, value in item.items() if key not in changing_keys}
    try:
        canonical = json.dumps(item, sort_keys=True, separators=(",", ":"))
    except (ValueError, RecursionError):
        raise Rejection(Code.EVENT_NOT_UNDERSTOOD, "the item holds what JSON cannot carry") from None
    return hashlib.sha256(canonical.encode()).hexdigest()
