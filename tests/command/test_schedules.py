"""When a timer fires next: cron, rate and at of EventBridge Scheduler, in any zone."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from local.schedules import next_run
from local.timers import Timers
from oncetask.errors import SettingsError
from oncetask.handlers.timer import Tick
from oncetask.models import TASK_TYPES
from oncetask.routing.routes import Route, load_routes

NOW = datetime(2026, 11, 24, 5, 0, tzinfo=UTC)


def route(schedule: str, timezone: str | None = None) -> Route:
    """A timer with that schedule."""
    return Route.model_validate(
        {"name": "t", "trigger": "timer", "task_type": "IMAGE_SCAN", "schedule": schedule}
        | ({"timezone": timezone} if timezone else {}),
        context={"task_types": TASK_TYPES},
    )


def at(text: str | None) -> datetime | None:
    """The UTC moment; None stays none."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC) if text else None


@pytest.mark.parametrize(
    ("schedule", "zone", "after", "fires"),
    [
        ("cron(30 2 * * ? *)", "Asia/Singapore", "2026-11-24T05:00", "2026-11-24T18:30"),
        ("cron(0 5 * * ? *)", None, "2026-11-24T05:00", "2026-11-25T05:00"),
        ("cron(0 5 ? * MON-FRI *)", None, "2026-11-27T06:00", "2026-11-30T05:00"),
        ("cron(0 5 ? * 2#1 *)", None, "2026-11-24T05:00", "2026-12-07T05:00"),
        ("cron(0 5 L * ? *)", None, "2026-11-24T05:00", "2026-11-30T05:00"),
        ("cron(0/15 * * * ? *)", None, "2026-11-24T05:01", "2026-11-24T05:15"),
        ("cron(0 5 * * ? 2020)", None, "2026-11-24T05:00", None),
        ("rate(5 minutes)", None, "2026-11-24T05:00", "2026-11-24T05:05"),
        ("rate(1 day)", None, "2026-11-24T05:00", "2026-11-25T05:00"),
        ("at(2026-12-01T00:00:00)", "Europe/Berlin", "2026-11-24T05:00", "2026-11-30T23:00"),
        ("at(2026-01-01T00:00:00)", None, "2026-11-24T05:00", None),
    ],
)
def test_a_schedule_fires_when_scheduler_would(
    schedule: str, zone: str | None, after: str, fires: str | None
) -> None:
    """By the wall clock of its zone."""
    moment = at(after)
    assert moment is not None
    assert next_run(route(schedule, zone), moment) == at(fires)


def test_a_time_that_a_clock_change_leaves_out_is_not_fired() -> None:
    """In Berlin 02:30 is missing on 29 March 2026: the next is a day later."""
    found = next_run(route("cron(30 2 * * ? *)", "Europe/Berlin"), datetime(2026, 3, 28, 12, tzinfo=UTC))

    assert found == at("2026-03-30T00:30")


def test_a_time_that_comes_twice_is_fired_once() -> None:
    """In Berlin 02:30 comes twice on 25 October 2026: after the first, the next is a day later."""
    first = next_run(route("cron(30 2 * * ? *)", "Europe/Berlin"), datetime(2026, 10, 24, 12, tzinfo=UTC))
    assert first == at("2026-10-25T00:30")

    assert next_run(route("cron(30 2 * * ? *)", "Europe/Berlin"), first) == at("2026-10-26T01:30")


@pytest.mark.parametrize(
    ("schedule", "zone"),
    [("cron(0 25 * * ? *)", None), ("cron(0 5 * * * *)", None), ("rate(5 minutes)", "Asia/Nowhere")],
)
def test_what_scheduler_would_refuse_says_why(schedule: str, zone: str | None) -> None:
    """A field out of range, both days given, a zone that there is not."""
    with pytest.raises(ValueError, match=r"(?i)invalid|no zone"):
        next_run(route(schedule, zone), NOW)


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        ('schedule = "every minute"', "schedule: must be cron"),
        ('schedule = "rate(1 minutes)"', "schedule: must be cron"),
        ('schedule = "rate(5 minutes)"\ntimezone = "Asia Singapore"', "timezone: must be a zone"),
        ('timezone = "UTC"', "timezone: it is that of a schedule"),
    ],
)
def test_another_form_stops_the_process_at_start(lines: str, says: str, tmp_path: Path) -> None:
    """With the key, and what would be right."""
    path = tmp_path / "routes.toml"
    path.write_text(f'[routes.t]\ntrigger = "timer"\ntask_type = "IMAGE_SCAN"\n{lines}\n')

    with pytest.raises(SettingsError, match=says):
        load_routes(path, TASK_TYPES)


def test_a_webhook_has_no_schedule(tmp_path: Path) -> None:
    """It is delivered to."""
    path = tmp_path / "routes.toml"
    path.write_text(
        '[routes.w]\ntrigger = "webhook"\ntask_type = "IMAGE_SCAN"\nschedule = "rate(5 minutes)"\n'
        '[routes.w.verify]\nscheme = "none"\n'
    )

    with pytest.raises(SettingsError, match="schedule: only a timer's route has it"):
        load_routes(path, TASK_TYPES)


def test_a_timer_that_is_due_is_told_once_with_a_tick_that_the_handler_understands() -> None:
    """The scheduled time is its own, however late it is looked for."""
    timers = Timers({"t": route("rate(5 minutes)")}, NOW)

    early = timers.due(NOW)
    [(_, tick)] = timers.due(datetime(2026, 11, 24, 5, 5, 30, tzinfo=UTC))
    again = timers.due(datetime(2026, 11, 24, 5, 5, 31, tzinfo=UTC))

    assert (early, again) == ([], [])
    understood = Tick.of(tick)
    assert (understood.route, understood.schedule) == ("t", "t")
    assert understood.scheduled_time == "2026-11-24T05:05:00Z"
