"""A tick of EventBridge Scheduler, or of an EventBridge rule, becomes its route's requests."""

import re
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from oncetask import wiring
from oncetask.clock import Deadline
from oncetask.errors import Code, Rejection
from oncetask.handlers.telemetry import emit
from oncetask.ledgers import Event
from oncetask.models import Result, Trigger, rejection, results_document
from oncetask.routes import Origin, Route, events_of_route, events_of_tasks
from oncetask.submit import Report
from oncetask.wiring import App

_ARN = re.compile(r"arn:[^:]+:(scheduler|events):[^:]*:[^:]*:(schedule|rule)/((?:[^/]+/)?)([^/]+)")
_ENVELOPE = frozenset({"route", "schedule", "scheduled_time"})

_app = wiring.start()


def handler(event: Any, context: Any) -> dict[str, Any]:  # noqa: ANN401 - AWS hands over any JSON
    """AWS's entry: `{"results", "counts"}`. Raises LedgerUnavailable, so that AWS delivers again."""
    report = handle(_app, event, _app.deadline(_remaining_ms(context)))
    return results_document(emit(report, _app.settings))


def handle(app: App, event: object, deadline: Deadline) -> Report:
    """The tick's results. Raises LedgerUnavailable while nothing was asked."""
    drafts = drafts_of(app, event)
    return app.submitter.submit(drafts, deadline=deadline)


def drafts_of(app: App, event: object) -> list[Event | Result]:
    """What the tick asks for: new events, and results for what will never be one."""
    now_s = app.clock.now_s()
    route_name: str | None = None
    try:
        tick = Tick.of(event)
        if tick.tasks is not None:
            return events_of_tasks(tick.tasks, app.task_types, tick.origin(now_s))
        route = _timer_route(app, tick.route)
        route_name = route.name
        return events_of_route(route, tick.payload, tick.origin(now_s))
    except Rejection as error:
        result = rejection(error, trigger=Trigger.TIMER, route=route_name, event_id=None, now_s=now_s)
        return [result]


def _timer_route(app: App, name: str | None) -> Route:
    route = app.routes.get(name or "")
    if route is None or route.trigger is not Trigger.TIMER:
        raise _not_understood("there is no timer's route of that name")
    return route


@dataclass(frozen=True, slots=True)
class Tick:
    """What a timer event says: a route's name or inline tasks, whose schedule, which moment."""

    route: str | None
    tasks: list[Any] | None
    schedule: str
    scheduled_time: str
    payload: dict[str, Any]

    @classmethod
    def of(cls, event: object) -> "Tick":
        """The tick of one of the three forms. Raises Rejection EventNotUnderstood."""
        if not isinstance(event, dict):
            raise _not_understood("a timer event is an object")
        if event.get("detail-type") == "Scheduled Event":
            return cls._of_rule(event)
        return cls._of_scheduler(event)

    @classmethod
    def _of_scheduler(cls, event: dict[str, Any]) -> "Tick":
        route, tasks = event.get("route"), event.get("tasks")
        schedule, _ = _schedule_name(event.get("schedule"))
        scheduled_time = _moment(event.get("scheduled_time"))
        if "tasks" in event and "route" not in event:
            if not isinstance(tasks, list) or not tasks:
                raise _not_understood("`tasks` is a list of at least one task")
            return cls(None, tasks, schedule, scheduled_time, {})
        if not isinstance(route, str):
            raise _not_understood("a timer event names a `route` or holds `tasks`")
        payload = {key: value for key, value in event.items() if key not in _ENVELOPE}
        return cls(route, None, schedule, scheduled_time, payload)

    @classmethod
    def _of_rule(cls, event: dict[str, Any]) -> "Tick":
        resources = event.get("resources")
        if not isinstance(resources, list) or not resources:
            raise _not_understood("a scheduled event names its rule in `resources`")
        schedule, name = _schedule_name(resources[0])
        return cls(name, None, schedule, _moment(event.get("time")), event)

    def origin(self, now_s: float) -> Origin:
        """What the ids of its events are made of."""
        if self.route is None:
            base_id, name = f"timer:{self.schedule}:{self.scheduled_time}", self.schedule
        elif self.route == self.schedule:
            base_id, name = f"timer:{self.route}:{self.scheduled_time}", self.route
        else:
            base_id = f"timer:{self.route}@{self.schedule}:{self.scheduled_time}"
            name = self.route
        return Origin(Trigger.TIMER, base_id, name, now_s)


def _schedule_name(arn: object) -> tuple[str, str]:
    """`{name}` in the group `default`, else `{group}/{name}`; and the bare name."""
    match = _ARN.fullmatch(arn) if isinstance(arn, str) else None
    if match is None:
        raise _not_understood("`schedule` is no ARN of a schedule or a rule: was its placeholder filled in?")
    kind, group, name = match[2], match[3], match[4]
    return (name if kind == "rule" or group in {"", "default/"} else f"{group}{name}"), name


def _moment(text: object) -> str:
    try:
        datetime.fromisoformat(text if isinstance(text, str) else "")
    except ValueError:
        raise _not_understood(
            "the scheduled time is no ISO 8601 time: was its placeholder filled in?"
        ) from None
    return str(text)


def _not_understood(message: str) -> Rejection:
    return Rejection(Code.EVENT_NOT_UNDERSTOOD, message)


def _remaining_ms(context: Any) -> int | None:  # noqa: ANN401 - AWS's context, or none at all
    remaining = getattr(context, "get_remaining_time_in_millis", None)
    return None if remaining is None else int(remaining())
