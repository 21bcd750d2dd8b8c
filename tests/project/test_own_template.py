"""`make build ROUTES=FILE`: template.yml with one's own schedules, URLs, secrets and rights."""

import json
from pathlib import Path
from typing import Any

import pytest

from local.errors import CommandError
from local.template import loaded, template_for
from local.tools import PROJECT
from oncetask.handlers.timer import Tick
from oncetask.models import TASK_TYPES
from oncetask.routing.routes import load_routes
from tests import shipped

OWN = """
[routes.hourly]
trigger = "timer"
task_type = "IMAGE_SCAN"
schedule = "rate(1 hour)"
timezone = "Asia/Singapore"

[routes.made-elsewhere]
trigger = "timer"
task_type = "IMAGE_SCAN"

[routes.hook-1]
trigger = "webhook"
task_type = "IMAGE_SCAN"
[routes.hook-1.verify]
scheme = "bearer"
secrets = ["env:HOOK_TOKEN", "secretsmanager:my/hook#key", "ssm:/a/b"]
"""


def shipping() -> dict[str, Any]:
    """template.yml."""
    return loaded((PROJECT / "template.yml").read_text(encoding="utf-8"))


def built(routes: str, folder: Path) -> dict[str, Any]:
    """The template for a routes file of that text."""
    path = folder / "own.toml"
    path.write_text(routes, encoding="utf-8")
    return template_for(load_routes(path, TASK_TYPES), shipping())


def schedules(template: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The properties of the timer function's schedules by their names."""
    events = template["Resources"]["TimerFunction"]["Properties"].get("Events", {})
    return {event["Properties"]["Name"]: event["Properties"] for event in events.values()}


def test_the_template_that_ships_is_that_of_the_routes_that_ship() -> None:
    """Schedules, URLs, environment and rights: generating it again changes nothing but words."""
    ships, again = shipping(), template_for(shipped.routes(), shipping())

    def named(template: dict[str, Any]) -> list[Any]:
        outputs = [output["Value"] for output in template["Outputs"].values()]
        webhook = template["Resources"]["WebhookFunction"]["Properties"]
        [schedule] = schedules(template).values()
        schedule = {**schedule, "Input": json.loads(schedule["Input"])}
        return [
            sorted(map(json.dumps, outputs)),
            webhook["Environment"],
            schedule,
            set(template["Parameters"]),
            template["Resources"]["WebhookRole"],
        ]

    assert named(again) == named(ships)


def test_own_schedules_stand_in_place_of_the_examples(tmp_path: Path) -> None:
    """Named as the route, in the stack's group; what has none is made elsewhere."""
    template = built(OWN, tmp_path)

    [(name, schedule)] = schedules(template).items()
    tick = schedule["Input"].replace("<aws.scheduler.scheduled-time>", "2026-11-24T05:00:00Z")
    arn = "arn:aws:scheduler:eu-central-1:123456789012:schedule/oncetask/hourly"
    assert name == Tick.of(json.loads(tick.replace("<aws.scheduler.schedule-arn>", arn))).route == "hourly"
    assert schedule["ScheduleExpression"] == "rate(1 hour)"
    assert schedule["ScheduleExpressionTimezone"] == "Asia/Singapore"
    assert schedule["GroupName"] == {"Ref": "Schedules"}
    assert {"RetryPolicy", "DeadLetterConfig", "RoleArn"} <= set(schedule)
    assert "ScheduleTimeZone" not in template["Parameters"]


def test_own_urls_secrets_and_rights_stand_in_place_of_the_examples(tmp_path: Path) -> None:
    """A NoEcho parameter for each `env:` secret; the webhook's role alone reads the others."""
    template = built(OWN, tmp_path)

    text = json.dumps(template)
    assert "/webhooks/hook-1" in text
    assert "agent-offline" not in json.dumps(template["Outputs"])
    assert template["Parameters"]["HookToken"]["NoEcho"] is True
    assert not {"AgentOfflineToken", "CheckHostSecret"} & set(template["Parameters"])
    variables = template["Resources"]["WebhookFunction"]["Properties"]["Environment"]["Variables"]
    assert variables == {"HOOK_TOKEN": {"Ref": "HookToken"}}
    role = json.dumps(template["Resources"]["WebhookRole"])
    assert ":secret:my/hook-??????" in role
    assert ":parameter/a/b" in role
    others = {name: part for name, part in template["Resources"].items() if name != "WebhookRole"}
    assert "my/hook" not in json.dumps(others)


@pytest.mark.parametrize(
    ("secret", "says"),
    [
        ("file:/etc/secret", "is a file"),
        ("secretsmanager:my*", "cannot be deployed"),
        ("ssm:${AWS::Region}", "cannot be deployed"),
        ("env:ONCETASK_LEDGER", "the name of a setting"),
    ],
)
def test_what_cannot_be_deployed_is_told(secret: str, says: str, tmp_path: Path) -> None:
    """Before anything is built: no wildcard, no substitution, no setting of ours."""
    with pytest.raises(CommandError, match=says):
        built(OWN.replace("env:HOOK_TOKEN", secret), tmp_path)


def test_a_timer_called_as_the_sweeps_schedule_is_told(tmp_path: Path) -> None:
    """Both would have one name in one group."""
    with pytest.raises(CommandError, match="sweep"):
        built(OWN.replace("[routes.hourly]", "[routes.sweep]"), tmp_path)


def test_routes_without_timers_or_secrets_leave_nothing_behind(tmp_path: Path) -> None:
    """No empty tables, which SAM would refuse."""
    template = built(
        '[routes.open]\ntrigger = "webhook"\ntask_type = "IMAGE_SCAN"\nverify = {scheme = "none"}\n',
        tmp_path,
    )

    assert "Events" not in template["Resources"]["TimerFunction"]["Properties"]
    assert "Environment" not in template["Resources"]["WebhookFunction"]["Properties"]
