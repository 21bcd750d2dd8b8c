"""When a timer's `schedule` fires next, as EventBridge Scheduler reads it.

cron(minute hour day month weekday year) and at(…) are wall-clock times of the `timezone` (UTC by default): a
time that a clock change leaves out is not fired, one that comes twice is fired the first time
(https://docs.aws.amazon.com/scheduler/latest/UserGuide/schedule-types.html).
"""

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from aws_croniter import AwsCroniter

from oncetask.routing.routes import Route

_UNITS = {"minute": "minutes", "hour": "hours", "day": "days"}
_TRIES = 200
"""More than the minutes that one change of the clock leaves out or repeats."""


def next_run(route: Route, after: datetime) -> datetime | None:
    """The first time after that moment, in UTC; None where there is none. A rate counts from `after`.

    Raises ValueError: the schedule or its zone says nothing that Scheduler would take.
    """
    if route.schedule is None:
        return None
    kind, _, inside = route.schedule.rstrip(")").partition("(")
    zone = zone_of(route.timezone)
    if kind == "rate":
        return after + interval(inside)
    if kind == "at":
        at = datetime.fromisoformat(inside).replace(tzinfo=zone).astimezone(UTC)
        return at if at > after else None
    return _next_of_cron(inside, zone, after)


def zone_of(name: str | None) -> ZoneInfo:
    """The IANA zone. Raises ValueError."""
    try:
        return ZoneInfo(name or "UTC")
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError(f"the IANA database has no zone {name}") from None


def interval(text: str) -> timedelta:
    """`5 minutes`."""
    number, unit = text.split()
    return timedelta(**{_UNITS[unit.removesuffix("s")]: int(number)})


def _next_of_cron(text: str, zone: ZoneInfo, after: datetime) -> datetime | None:
    local = after.astimezone(zone)
    for wall in _wall_times(text, local.replace(tzinfo=None)):
        at = wall.replace(tzinfo=zone).astimezone(UTC)
        if at.astimezone(zone).replace(tzinfo=None) == wall and at > after:
            return at
    return None


def _wall_times(text: str, after: datetime) -> Iterator[datetime]:
    """Times on the wall, in order. The library knows UTC alone, so the wall's time is given as UTC."""
    try:
        cron = AwsCroniter(text)
    except ValueError as error:
        raise ValueError(re.sub(r"\s+", " ", str(error)) or "Scheduler knows no such cron") from None
    for _ in range(_TRIES):
        found = cron.occurrence(after.replace(tzinfo=UTC)).next()
        if found is None:
            return
        after = found.replace(tzinfo=None)
        yield after
