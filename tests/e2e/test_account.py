"""The real template in an emulated account: built, deployed, used, its functions killed, and taken down.

What MiniStack 1.5 cannot do is left out or written out otherwise, and nothing else: `ADAPTED`. It reserves no
concurrency, gathers no arrivals, delivers no asynchronous event to a destination, makes no metrics of log
lines, and checks no permission, so that none of these is seen here.
"""

import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.error import HTTPError

import pytest
from standardwebhooks import Webhook

from local.aws_servers import REGION
from local.emulator import ACCESS_KEY_ID, ACCESS_KEY_SECRET, Emulator, Silence, host
from local.tools import python_tool
from oncetask.aws.events import DETAIL_TYPE, SOURCE
from tests.e2e.ministack import Account, ministack, until
from tests.installed import installed
from tests.project.template_expansion import gates
from tests.project.test_recipes import rules

TOKEN = "a-token-of-alertmanager"
SECRET = "whsec_" + "c2VjcmV0IG9mIGNoZWNrLWhvc3Q="
ASKING = ("TimerFunction", "WebhookFunction", "SweepFunction")
FILLED_IN = {
    "<aws.scheduler.schedule-arn>": f"arn:aws:scheduler:{REGION}:000000000000:schedule/nights/nightly-assets",
    "<aws.scheduler.scheduled-time>": "2026-11-24T04:30:00Z",
}
A_MINUTE_S = 75
"""A schedule of every minute fires within it."""

type Template = dict[str, Any]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(420)]


def without_metric_math(template: Template, _: Emulator) -> None:
    """MiniStack refuses alarms on several metrics."""
    for name, resource in list(template["Resources"].items()):
        if "Metrics" in resource.get("Properties", {}):
            del template["Resources"][name]


def with_routes_of_the_api(template: Template, _: Emulator) -> None:
    """It does not read an API's OpenAPI document: its one route becomes two resources."""
    resources = template["Resources"]
    body = resources["Api"]["Properties"].pop("Body")
    resources["Api"]["Properties"] |= {"Name": "oncetask", "ProtocolType": "HTTP"}
    [path] = body["paths"]
    function = {"Fn::GetAtt": ["WebhookFunction", "Arn"]}
    integration = {"IntegrationType": "AWS_PROXY", "IntegrationUri": function, "PayloadFormatVersion": "2.0"}
    target = {"Fn::Join": ["/", ["integrations", {"Ref": "Integration"}]]}
    for name, properties in (
        ("Integration", integration),
        ("Route", {"RouteKey": f"ANY {path}", "Target": target}),
    ):
        kind = f"AWS::ApiGatewayV2::{name}"
        resources[name] = {"Type": kind, "Properties": {"ApiId": {"Ref": "Api"}, **properties}}


def with_plain_conditions(template: Template, _: Emulator) -> None:
    """Its conditions know no Fn::Join and Fn::Split: what they come to here is written out."""
    never = {"Fn::Equals": ["so", "not so"]}
    for name in ("HasWebhookSecrets", "HasWebhookParameters", "ResultsGoToQueue", "BusIsArn"):
        assert name in template["Conditions"]
        template["Conditions"][name] = never


def with_the_emulator(template: Template, emulator: Emulator) -> None:
    """The template has no parameter for another Security Center."""
    for name in ASKING:
        variables = template["Resources"][name]["Properties"]["Environment"]["Variables"]
        variables["ONCETASK_ENDPOINT"] = emulator.url


def with_a_timer_of_every_minute(template: Template, _: Emulator) -> None:
    """A night is too long for a test; and what Scheduler would fill in is filled in: MiniStack does not."""
    schedule = template["Resources"]["TimerFunctionNightlyAssets"]["Properties"]
    schedule["ScheduleExpression"] = "rate(1 minute)"
    tick = schedule["Target"]["Input"]
    for placeholder, value in FILLED_IN.items():
        assert placeholder in tick
        tick = tick.replace(placeholder, value)
    schedule["Target"]["Input"] = tick


ADAPTED: tuple[Callable[[Template, Emulator], None], ...] = (
    without_metric_math,
    with_routes_of_the_api,
    with_plain_conditions,
    with_the_emulator,
    with_a_timer_of_every_minute,
)
"""The whole difference between what is deployed here and template.yml as AWS expands it."""


@dataclass
class Stack:
    """The stack that stands, and what has come out of its bus so far."""

    account: Account
    emulator: Emulator
    queue_url: str
    failures_url: str
    names: dict[str, str]
    results: list[dict[str, Any]] = field(default_factory=list)

    def statuses(self, event_id: str) -> list[str]:
        """What the bus has told of an event, in the order in which it came."""
        self.results += self.account.received(self.queue_url)
        assert all(one["source"] == SOURCE and one["detail-type"] == DETAIL_TYPE for one in self.results)
        told = [one["detail"] for one in self.results if one["detail"]["event_id"] == event_id]
        return list(dict.fromkeys(result["status"] for result in told))

    def told(self, event_id: str, status: str, limit_s: float) -> float:
        """The seconds until the bus has told that of the event. Raises TimeoutError."""
        return until(lambda: status in self.statuses(event_id), limit_s)

    def deliver(self, route: str, body: bytes, headers: dict[str, str]) -> dict[str, Any]:
        """A sender's delivery."""
        given = {"content-type": "application/json", **headers}
        return self.account.delivered(self.names["Api"], f"/webhooks/{route}", body, given)

    def check_host(self, message_id: str, uuid: str) -> dict[str, Any]:
        """A signed delivery to the route that asks at once."""
        body = json.dumps({"data": {"uuid": uuid, "problem": "offline"}})
        now = datetime.now(UTC)
        signature = Webhook(SECRET).sign(message_id, now, body)
        moment = str(int(now.timestamp()))
        signed = {"webhook-id": message_id, "webhook-timestamp": moment, "webhook-signature": signature}
        return self.deliver("check-host", body.encode(), signed)

    def alert(self, *uuids: str) -> dict[str, Any]:
        """Alertmanager's delivery to the route that leaves them to the sweep."""
        alerts = [
            {
                "status": "firing",
                "fingerprint": uuid,
                "startsAt": "2026-11-24T05:00:00Z",
                "labels": {"instance": instance_of(uuid)},
            }
            for uuid in uuids
        ]
        body = json.dumps({"version": "4", "status": "firing", "alerts": alerts})
        return self.deliver("agent-offline", body.encode(), {"authorization": f"Bearer {TOKEN}"})


def instance_of(uuid: str) -> str:
    """The address and port by which Prometheus knows the emulator's host `inet-N`."""
    return f"10.0.0.{uuid.removeprefix('inet-')}:9100"


@pytest.fixture(scope="module")
def emulator() -> Iterator[Emulator]:
    """The stack's Security Center, whose tasks end when a test says so."""
    with Emulator() as running:
        running.hosts[:] = [host(f"inet-{n}", IntranetIp=f"10.0.0.{n}") for n in range(1, 10)]
        running.behaviour.task_duration_s = 3600
        yield running


@pytest.fixture(scope="module")
def account(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Account]:
    """An account with a bus, a queue behind it, and the key for Security Center."""
    installed(lambda: python_tool("ministack"))
    with ministack(tmp_path_factory.mktemp("ministack")) as running:
        yield running


@pytest.fixture(scope="module")
def stack(
    account: Account, emulator: Emulator, built: Path, tmp_path_factory: pytest.TempPathFactory
) -> Stack:
    """The template, deployed with its results on a bus."""
    account.call("events", "AWSEvents.CreateEventBus", {"Name": "results"})
    queue_url = _queue_behind_the_bus(account, "seen", {"source": [SOURCE]})
    failures_url = _queue_behind_the_bus(account, "failures", rules()["MailOfFailures"])
    key = {"ALIBABA_CLOUD_ACCESS_KEY_ID": ACCESS_KEY_ID, "ALIBABA_CLOUD_ACCESS_KEY_SECRET": ACCESS_KEY_SECRET}
    secret = {"Name": "oncetask/security-center", "SecretString": json.dumps(key)}
    made = account.call(
        "secretsmanager", "secretsmanager.CreateSecret", {**secret, "ClientRequestToken": "0" * 32}
    )
    packaged = account.upload(built, tmp_path_factory.mktemp("packaged"))
    with gates() as running:
        found, template = running.judge(packaged.read_text(encoding="utf-8"))
    assert not found
    for adapt in ADAPTED:
        adapt(template.expansion, emulator)
    parameters = {
        "SecurityCenterRegion": "ap-southeast-1",
        "CredentialsSecretArn": made["ARN"],
        "AgentOfflineToken": TOKEN,
        "CheckHostSecret": SECRET,
        "Results": "eventbridge:results",
    }
    account.deploy(template.expansion, parameters)
    return Stack(account, emulator, queue_url, failures_url, account.resources())


def _queue_behind_the_bus(account: Account, name: str, pattern: dict[str, Any]) -> str:
    """A rule with a queue for its target; the queue's URL."""
    made = account.call("sqs", "AmazonSQS.CreateQueue", {"QueueName": name})
    rule = {"Name": name, "EventBusName": "results", "EventPattern": json.dumps(pattern)}
    account.call("events", "AWSEvents.PutRule", rule)
    arn = f"arn:aws:sqs:{REGION}:000000000000:{name}"
    targets = {"Rule": name, "EventBusName": "results", "Targets": [{"Id": "1", "Arn": arn}]}
    account.call("events", "AWSEvents.PutTargets", targets)
    return str(made["QueueUrl"])


def test_a_delivery_that_is_asked_for_at_once_comes_out_of_the_bus(stack: Stack) -> None:
    """First `created`; `finished` when a sweep has seen the task fail, which the rule of a recipe picks."""
    answer = stack.check_host("first", "inet-1")

    [result] = answer["results"]
    assert result["status"] == "created"
    stack.told(result["event_id"], "created", 20)
    stack.emulator.finish(result["task_id"], "FAIL")
    stack.told(result["event_id"], "finished", A_MINUTE_S)
    assert stack.statuses(result["event_id"])[-2:] == ["created", "finished"]
    [failure] = stack.account.received(stack.failures_url)
    assert (failure["detail"]["event_id"], failure["detail"]["finish"]["state"]) == (
        result["event_id"],
        "FAIL",
    )


def test_an_alert_that_is_left_to_the_sweep_is_a_task_seconds_later(
    stack: Stack, capsys: pytest.CaptureFixture[str]
) -> None:
    """Arrivals start a sweep, and one delivery's hosts are one task; in AWS `SweepOnArrival` comes on top."""
    began_s = time.monotonic()
    answer = stack.alert("inet-2", "inet-3")
    event_id = answer["results"][0]["event_id"]

    assert [result["status"] for result in answer["results"]] == ["pending", "pending"]
    until(lambda: _tasks_of(stack, "inet-2,inet-3") == 1, A_MINUTE_S)
    took_s = time.monotonic() - began_s
    stack.told(event_id, "created", 20)
    with capsys.disabled():
        print(f"\n  from an alert to its task: {took_s:.1f} s")  # noqa: T201 - a figure of the documentation
    assert stack.statuses(event_id) == ["pending", "created"]


def test_a_schedule_fires_and_its_tick_is_a_task(stack: Stack) -> None:
    """Under the tick's own id, which names route, schedule and time; fired again, it is no second task."""
    stack.told("timer:nightly-assets@nights/nightly-assets:2026-11-24T04:30:00Z", "created", 2 * A_MINUTE_S)

    assert [task.type for task in stack.emulator.tasks].count("ASSETS_COLLECTION") == 1


def test_a_function_that_is_killed_while_it_asks_leaves_no_second_task(stack: Stack) -> None:
    """Its sender hears nothing good; a sweep finds the task, and the bus tells it."""
    stack.emulator.script(Silence(task_made=True))
    with ThreadPoolExecutor(1) as sender:
        delivery = sender.submit(lambda: stack.check_host("killed", "inet-9"))
        until(lambda: _tasks_of(stack, "inet-9") == 1, 20)
        assert stack.account.kill_functions() > 0
        assert isinstance(delivery.exception(timeout=60), HTTPError)

    stack.told("webhook:check-host:killed", "created", 3 * A_MINUTE_S)
    assert _tasks_of(stack, "inet-9") == 1


def test_the_stack_comes_down_and_leaves_what_was_recorded(stack: Stack) -> None:
    """The table stays, with its rows; functions and schedules are gone."""
    stack.account.take_down()

    rows = stack.account.call("dynamodb", "DynamoDB_20120810.Scan", {"TableName": stack.names["Ledger"]})
    assert rows["Count"] > 0
    assert stack.account.status() == "DELETE_COMPLETE"


def _tasks_of(stack: Stack, uuids: str) -> int:
    """How many tasks there are for exactly these hosts."""
    return sum(",".join(task.targets) == uuids for task in stack.emulator.tasks)
