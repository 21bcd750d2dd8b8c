"""A tick of EventBridge Scheduler, or of an EventBridge rule, becomes its route's requests."""

import hashlib
import json
import re
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from oncetask.app import App, remaining_ms, start
from oncetask.clock import Deadline
from oncetask.errors import Code, DamagedRecord, Rejection
from oncetask.handlers.telemetry import emit
from oncetask.models import Result, Status, Trigger, rejection, results_document
from oncetask.routing.events import Origin, events_of_route, events_of_tasks
from oncetask.routing.routes import WEEK_S, Route
from oncetask.submit.report import Report

if TYPE_CHECKING:  # the ledger is not imported before there is something to record
    from oncetask.ledger.records import Event

_NAME = r"[0-9A-Za-z._-]+"
_PLACE = r"[a-z0-9-]*:[a-z0-9-]*"
_ARN = re.compile(
    rf"arn:[a-z0-9-]+:scheduler:{_PLACE}:schedule/(?P<group>{_NAME})/(?P<schedule>{_NAME})"
    rf"|arn:[a-z0-9-]+:events:{_PLACE}:rule/(?:{_NAME}/)*(?P<rule>{_NAME})"
)
_ISO_8601 = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d(:\d\d([.]\d+)?)?(Z|[+-]\d\d:?\d\d)?", re.ASCII)
_ENVELOPE = frozenset({"route", "schedule", "scheduled_time"})
_CHANGES_WITH_DELIVERY = frozenset({"id"})
"""EventBridge may run a rule twice for one scheduled time, with another event id."""

_app = start()


def handler(event: Any, context: Any) -> dict[str, Any]:  # noqa: ANN401 - AWS hands over any JSON
    """AWS's entry: `{"results", "counts"}`. Raises LedgerUnavailable, so that AWS delivers again."""
    report = handle(_app, event, _app.deadline(remaining_ms(context)))
    return results_document(emit(report, _app.settings))


def handle(app: App, event: object, deadline: Deadline) -> Report:
    """The tick's results. Raises LedgerUnavailable while nothing was asked."""
    drafts = drafts_of(app, event)
    made = [_kept(app, draft, event, index) for index, draft in enumerate(drafts)]
    return app.submitter.submit(made, deadline=deadline)


def drafts_of(app: App, event: object) -> "list[Event | Result]":
    """What the tick asks for: new events, and results for what will never be one."""
    now_s = app.clock.now_s()
    try:
        tick = Tick.of(event)
        if tick.tasks is not None:
            return events_of_tasks(tick.tasks, app.task_types, tick.origin(now_s))
        route = _timer_route(app, tick.route)
    except Rejection as error:
        return [rejection(error, trigger=Trigger.TIMER, route=None, event_id=None, now_s=now_s)]
    return _drafts_of_route(route, tick, now_s)


def _drafts_of_route(route: Route, tick: "Tick", now_s: float) -> "list[Event | Result]":
    origin = tick.origin(now_s)
    try:
        return events_of_route(route, tick.payload, origin)
    except Rejection as error:
        event_id = origin.bounded(origin.base_id)
        return [rejection(error, trigger=Trigger.TIMER, route=route.name, event_id=event_id, now_s=now_s)]


def _timer_route(app: App, name: str | None) -> Route:
    route = app.routes.get(name or "")
    if route is None or route.trigger is not Trigger.TIMER:
        raise _not_understood("there is no timer's route of that name")
    return route


# -- what is rejected ------------------------------------------------------------------------------


def _kept(app: App, draft: "Event | Result", tick: object, index: int) -> "Event | Result":
    """A draft that is no event, recorded as one that has ended, so that it is handed on, once. Nobody but
    the ledger's stream would tell: a tick has no sender who reads the answer.
    """
    if not isinstance(draft, Result) or draft.status is not Status.REJECTED or draft.error is None:
        return draft
    try:
        event_id = draft.event_id or _id_of_tick(tick, index)
        kept, _ = app.ledger.record(_closed_event(app, draft, event_id))
    except (DamagedRecord, RecursionError):  # nested deeper than JSON can be written
        return draft
    return kept.result() if kept.status is Status.REJECTED else draft


def _closed_event(app: App, draft: Result, event_id: str) -> "Event":
    from oncetask.ledger.records import NO_REQUEST, Event  # noqa: PLC0415 - see the top

    now_s = app.clock.now_s()
    route = app.routes.get(draft.route or "")
    return Event(
        event_id=event_id,
        status=Status.REJECTED,
        trigger=Trigger.TIMER,
        route=draft.route,
        request=NO_REQUEST,
        error=draft.error,
        submit="now",
        order=0,
        received_s=now_s,
        due_s=now_s,
        give_up_s=now_s,
        settled_s=now_s,
        keep_s=route.remembered_s() if route else WEEK_S,
    )


def _id_of_tick(tick: object, index: int) -> str:
    """For what has no id: by the tick as canonical JSON; behind the first, `/{index}`."""
    canonical = json.dumps(tick, sort_keys=True, separators=(",", ":"), default=str)
    base_id = f"timer:sha256-{hashlib.sha256(canonical.encode()).hexdigest()}"
    return f"{base_id}/{index}" if index else base_id


# -- ticks -----------------------------------------------------------------------------------------


class Tick(NamedTuple):
    """What a timer event says: a route's name or inline tasks, whose schedule, which moment."""

    route: str | None
    tasks: list[Any] | None
    schedule: str
    scheduled_time: str
    payload: dict[str, Any]
    changing_keys: frozenset[str] = frozenset()

    @classmethod
    def of(cls, event: object) -> "Tick":
        """The tick of one of the three forms. Raises Rejection EventNotUnderstood."""
        if not isinstance(event, dict):
            raise _not_understood("a timer event is an object")
        if "route" in event:
            return cls._of_route(event)
        if "tasks" in event:
            return cls._of_tasks(event)
        if event.get("detail-type") == "Scheduled Event":
            return cls._of_scheduled_event(event)
        raise _not_understood("a timer event names a `route`, holds `tasks` or is a Scheduled Event")

    @classmethod
    def _of_route(cls, event: dict[str, Any]) -> "Tick":
        route = event["route"]
        if not isinstance(route, str):
            raise _not_understood("`route` is a text")
        schedule, _ = _schedule_name(event.get("schedule"))
        payload = {key: value for key, value in event.items() if key not in _ENVELOPE}
        return cls(route, None, schedule, _moment(event.get("scheduled_time")), payload)

    @classmethod
    def _of_tasks(cls, event: dict[str, Any]) -> "Tick":
        tasks = event["tasks"]
        if not isinstance(tasks, list) or not tasks:
            raise _not_understood("`tasks` is a list of at least one task")
        schedule, _ = _schedule_name(event.get("schedule"))
        return cls(None, tasks, schedule, _moment(event.get("scheduled_time")), {})

    @classmethod
    def _of_scheduled_event(cls, event: dict[str, Any]) -> "Tick":
        resources = event.get("resources")
        if not isinstance(resources, list) or not resources:
            raise _not_understood("a Scheduled Event names its rule or schedule in `resources`")
        schedule, name = _schedule_name(resources[0])
        return cls(name, None, schedule, _moment(event.get("time")), event, _CHANGES_WITH_DELIVERY)

    def origin(self, now_s: float) -> Origin:
        """What the ids of its events are made of."""
        name = self.schedule if self.route is None else self.route
        maker = name if name == self.schedule else f"{name}@{self.schedule}"
        return Origin(
            Trigger.TIMER,
            f"timer:{maker}:{self.scheduled_time}",
            name,
            now_s,
            changing_keys=self.changing_keys,
        )


def _schedule_name(arn: object) -> tuple[str, str]:
    """`{name}` in the group `default`, else `{group}/{name}`; and the bare name."""
    match = _ARN.fullmatch(arn) if isinstance(arn, str) else None
    if match is None:
        raise _not_understood("`schedule` is no ARN of a schedule or a rule: was its placeholder filled in?")
    if match["rule"]:
        return match["rule"], match["rule"]
    group, name = match["group"], match["schedule"]
    return (name if group == "default" else f"{group}/{name}"), name


def _moment(text: object) -> str:
    if not isinstance(text, str) or not _is_iso_8601(text):
        raise _not_understood("the scheduled time is no ISO 8601 time: was its placeholder filled in?")
    return text


def _is_iso_8601(text: str) -> bool:
    try:
        datetime.fromisoformat(text)
    except ValueError:
        return False
    return _ISO_8601.fullmatch(text) is not None


def _not_understood(message: str) -> Rejection:
    return Rejection(Code.EVENT_NOT_UNDERSTOOD, message)
