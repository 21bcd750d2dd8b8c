"""Timers that fire by their `schedule`, as EventBridge Scheduler would start the function."""

from datetime import UTC, datetime
from typing import Any

from local.schedules import next_run
from oncetask.models import Trigger
from oncetask.routing.routes import Route, Routes


class Timers:
    """The next run of every timer that has a schedule."""

    def __init__(self, routes: Routes, now: datetime) -> None:
        """Raises ValueError: a schedule says nothing that Scheduler would take."""
        self._routes = [
            route for route in routes.values() if route.trigger is Trigger.TIMER and route.schedule
        ]
        self._next = {route.name: next_run(route, now) for route in self._routes}

    def due(self, now: datetime) -> list[tuple[Route, dict[str, Any]]]:
        """Those whose time has come, each with its tick; each is told once."""
        found = []
        for route in self._routes:
            at = self._next[route.name]
            if at is not None and at <= now:
                self._next[route.name] = next_run(route, now)
                found.append((route, tick(route, at)))
        return found


def tick(route: Route, at: datetime) -> dict[str, Any]:
    """What the schedule's target input gives, its placeholders filled in."""
    return {
        "route": route.name,
        "schedule": f"arn:aws:scheduler:local:000000000000:schedule/default/{route.name}",
        "scheduled_time": at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
    }
