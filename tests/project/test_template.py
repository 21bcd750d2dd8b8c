"""What no linter knows of template.yml: that it deploys this code, with these routes and limits, this ledger.

Every function that takes `stack` is one of the project's own checks, and is also run on broken templates.
"""

import fnmatch
import importlib
import inspect
import json
import os
import re
import zoneinfo
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest

from local.tools import PROJECT, NotInstallable
from oncetask.handlers.timer import Tick
from oncetask.ledger.dynamodb import INDEX_ACTIONS, INDEX_NAME, TABLE_ACTIONS, TTL_ATTRIBUTE, table_definition
from oncetask.ledger.records import LEASE_KEY, ROUTES_KEY, call_key, event_key, lane_key, task_key
from oncetask.ledger.store import Row
from oncetask.models import Status, Trigger
from oncetask.routing.routes import Route
from oncetask.settings import REGION_HOSTS, AwsSettings, ResultsSettings, Settings
from oncetask.webhooks.http import Delivery
from tests import shipped
from tests.clocks import NOW_S
from tests.project.template_expansion import (
    KEYLESS,
    SECRET,
    SECRET_ARN,
    Deployed,
    Gates,
    Stack,
    gates,
    template_text,
)
from tests.project.template_mistakes import KNOWN_MISTAKES, OWN_MISTAKES
from tests.stream import an_event, record, row_of

FUNCTION = "AWS::Lambda::Function"
SCHEDULE = "AWS::Scheduler::Schedule"
MAPPING = "AWS::Lambda::EventSourceMapping"
STREAM = "Ledger.StreamArn"
STREAM_ACTIONS = ("DescribeStream", "GetRecords", "GetShardIterator", "ListStreams")
"""What a mapping wants of its function's role, all four or it is refused."""
EVENTS = "arn:AWS::Partition:events:AWS::Region:AWS::AccountId"
DASHBOARD_NAME_CHARS = 255
API_LIMIT_S = 30  # an HTTP API's integration ends then, whatever the function's own limit
SCHEDULE_ARN = "arn:aws:scheduler:eu-central-1:123456789012:schedule/oncetask/{name}"
ASKING = ("TimerFunction", "WebhookFunction", "SweepFunction")
"""The functions that make tasks; the fourth hands their results on."""
SIGNED_KEY = "signed/a-route/00ff"

WAITING = row_of(an_event())
CLOSED = row_of(an_event(status=Status.REJECTED, settled_s=NOW_S))
CHANGES = {
    "recorded": record(1, WAITING),
    "recorded as rejected": record(1, CLOSED),
    "recorded where its id was free again": record(1, WAITING, CLOSED),
    "put off by the sweep": record(1, row_of(an_event(due_s=NOW_S + 60)), WAITING),
    "settled": record(1, CLOSED, WAITING),
    "forgotten": record(1, None, CLOSED),
    "a task that runs": record(1, Row("task/t", "v1", "running", "0", None, "{}")),
}
"""What the table's stream tells."""
BUS = {**SECRET, "Results": "eventbridge:results"}
"""A stack that hands its results on."""
METRICS = {  # docs/results.md, Metrics
    *(
        "Created",
        "Duplicate",
        "Pending",
        "Unknown",
        "Ignored",
        "Rejected",
        "Failed",
        "Finished",
        "Unverified",
    ),
    *("Expanded", "TaskFailed", "HandedOn"),
    *("OperatorError", "Adopted", "AskedAgain", "SecondTask"),
    *("Waiting", "Running", "OldestWaitingSeconds", "EventsPerTask", "CreateLatencyMs"),
}
ACCESS_LOG_VARIABLES = {  # no header or query string, where secrets may be, and no quotes of a stranger's
    *("requestId", "requestTime", "identity.sourceIp", "httpMethod", "routeKey", "status"),
    *("responseLength", "responseLatency", "integrationLatency", "integrationStatus"),
}


@pytest.fixture(scope="module")
def linters() -> Iterator[Gates]:
    """The gates, in one process for all tests here."""
    try:
        with gates() as running:
            yield running
    except NotInstallable as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(f"cannot be installed here: {error}")


@pytest.fixture(scope="module")
def stack(linters: Gates) -> Stack:
    """template.yml, expanded."""
    found, stack = linters.judge(template_text())
    assert not found
    return stack


@pytest.mark.slow
def test_the_gates_find_nothing(linters: Gates) -> None:
    """cfn-lint, AWS's transform, and cfn-lint on what that gives."""
    found, _ = linters.judge(template_text(), lints_source=True, lints_expansion=True)

    assert found == []


# ---- code ----


def test_every_handler_is_there(stack: Stack) -> None:
    """Each of the contract's four entry points; those that start without settings are imported."""
    asking = {function["Handler"] for function in stack.deployed().of_type(FUNCTION).values()}
    all_four = {function["Handler"] for function in stack.deployed(**BUS).of_type(FUNCTION).values()}

    assert asking == {f"oncetask.handlers.{name}.handler" for name in ("timer", "webhook", "sweep")}
    assert all_four - asking == {"oncetask.handlers.results.handler"}
    for handler in asking:
        module, _, name = handler.rpartition(".")
        assert callable(getattr(importlib.import_module(module), name))


def test_the_runtime_is_the_one_that_is_built_for(stack: Stack) -> None:
    """Python as `.python-version` has it, on arm64 as the Makefile builds it."""
    version = (PROJECT / ".python-version").read_text().strip()

    for function in stack.deployed().of_type(FUNCTION).values():
        assert function["Runtime"] == f"python{version}"
        assert function["Architectures"] == ["arm64"]
    assert "BUNDLE_PLATFORM ?= aarch64-" in (PROJECT / "Makefile").read_text()


def test_the_makefile_builds_every_function(stack: Stack) -> None:
    """SAM hands each function to `make build-NAME` in its CodeUri."""
    code = stack.source["Globals"]["Function"]["CodeUri"]
    functions = _source_functions(stack)

    assert "\nbuild-%:" in (PROJECT / code / "Makefile").read_text()
    for function in functions.values():
        assert function["Metadata"] == {"BuildMethod": "makefile"}
        assert "CodeUri" not in function["Properties"]


# ---- settings and secrets ----


def test_settings_accept_what_each_function_is_given(stack: Stack) -> None:
    """In both modes, every function starts: nothing that it needs is missing, and no value is wrong."""
    for mode in (SECRET, KEYLESS):
        deployed = stack.deployed(**mode)
        for name in deployed.of_type(FUNCTION):
            settings = Settings.from_environment(_environment(deployed, name))
            assert settings.ledger == "dynamodb://Ledger"
            assert settings.region == "ap-southeast-1"
            assert settings.service == "AWS::StackName"
    assert settings.credentials == "keyless"


def test_the_secret_mode_names_its_secret(stack: Stack) -> None:
    """`secretsmanager:` and the parameter's ARN."""
    deployed = stack.deployed(**SECRET)

    for name in deployed.of_type(FUNCTION):
        settings = Settings.from_environment(_environment(deployed, name))
        assert settings.credentials == f"secretsmanager:{SECRET_ARN}"


def test_every_variable_is_one_that_is_read(stack: Stack) -> None:
    """A setting, or a secret that a webhook's route names: a misspelt one would silently do nothing."""
    for mode in (SECRET, KEYLESS, BUS):
        deployed = stack.deployed(**mode)
        for name, function in deployed.of_type(FUNCTION).items():
            given = set(function["Environment"]["Variables"])
            read: type[AwsSettings] = ResultsSettings if name == "ResultsFunction" else Settings
            known = {field.alias for field in read.model_fields.values()}
            secrets = _env_secrets() if name == "WebhookFunction" else set()
            assert given - known == secrets


def test_the_results_function_is_given_nothing_else(stack: Stack) -> None:
    """Its destination, its dead letters and its name; it starts with that."""
    deployed = stack.deployed(**BUS)
    environment = deployed.of_type(FUNCTION)["ResultsFunction"]["Environment"]["Variables"]
    signing = {"AWS_ACCESS_KEY_ID": "AKIAEXAMPLE", "AWS_SECRET_ACCESS_KEY": "made-up"}
    url = {"ONCETASK_DEAD_LETTERS": "https://sqs.eu-central-1.amazonaws.com/123456789012/DeadResults.fifo"}

    assert environment.keys() == {"ONCETASK_RESULTS", "ONCETASK_DEAD_LETTERS", "POWERTOOLS_SERVICE_NAME"}
    assert environment["ONCETASK_DEAD_LETTERS"] == "DeadResults"
    settings = ResultsSettings.from_environment(_environment(deployed, "ResultsFunction") | signing | url)
    assert settings.results == "eventbridge:results"


def test_secrets_come_from_parameters_that_are_not_shown(stack: Stack) -> None:
    """No secret stands in the template, and AWS shows none of those parameters."""
    function = _source_functions(stack)["WebhookFunction"]
    variables = function["Properties"]["Environment"]["Variables"]

    for secret in _env_secrets():
        parameter = stack.parameters[variables[secret]["Ref"]]
        assert parameter["NoEcho"] is True
        assert parameter["Default"] == ""


def test_the_region_of_security_center_has_no_default(stack: Stack) -> None:
    """The one who deploys says where tasks are made, out of the regions that have a host."""
    region = stack.parameters["SecurityCenterRegion"]

    assert "Default" not in region
    assert sorted(region["AllowedValues"]) == sorted(REGION_HOSTS)


def test_every_parameter_is_explained_and_its_default_allowed(stack: Stack) -> None:
    """A description, and a default that its own rule lets through."""
    for parameter in stack.parameters.values():
        assert parameter["Description"]
        default = parameter.get("Default", "")
        assert re.search(parameter.get("AllowedPattern", ""), str(default))
        assert "Default" not in parameter or default in parameter.get("AllowedValues", [default])


# ---- the ledger ----


def test_the_table_is_the_ledgers(stack: Stack) -> None:
    """Keys, index and TTL as the code uses them."""
    table = stack.deployed().the("AWS::DynamoDB::Table")
    definition = table_definition("oncetask")
    del definition["TableName"]

    assert {name: table[name] for name in definition} == definition
    assert table["TimeToLiveSpecification"] == {"AttributeName": TTL_ATTRIBUTE, "Enabled": True}
    assert table["PointInTimeRecoverySpecification"] == {"PointInTimeRecoveryEnabled": True}
    assert table["SSESpecification"] == {"SSEEnabled": True}
    assert table["DeletionProtectionEnabled"] is True
    assert table["StreamSpecification"] == {"StreamViewType": "NEW_AND_OLD_IMAGES"}


def test_table_and_logs_may_have_a_key_of_ones_own(stack: Stack) -> None:
    """The functions may use the table's through DynamoDB alone; the logs' is between AWS's services."""
    table_key, logs_key = (f"arn:aws:kms:eu-central-1:123456789012:key/{name}" for name in "tl")
    deployed = stack.deployed(**BUS, TableKmsKeyArn=table_key, LogsKmsKeyArn=logs_key)

    specification = deployed.the("AWS::DynamoDB::Table")["SSESpecification"]
    assert specification == {"SSEEnabled": True, "SSEType": "KMS", "KMSMasterKeyId": table_key}
    assert {group["KmsKeyId"] for group in deployed.of_type("AWS::Logs::LogGroup").values()} == {logs_key}
    for role in _roles(deployed).values():
        [statement] = [one for one in deployed.statements(role) if one["Resource"] == table_key]
        via = {"kms:ViaService": "dynamodb.AWS::Region.AWS::URLSuffix"}
        assert statement["Condition"] == {"StringEquals": via}


def test_what_was_recorded_outlives_the_stack(stack: Stack) -> None:
    """Table, dead letters and logs stay when the stack is deleted or they are replaced."""
    kept = {"AWS::DynamoDB::Table", "AWS::SQS::Queue", "AWS::Logs::LogGroup"}
    resources = [resource for resource in stack.expansion["Resources"].values() if resource["Type"] in kept]

    assert {resource["Type"] for resource in resources} == kept
    for resource in resources:
        assert resource["DeletionPolicy"] == "Retain"
        assert resource["UpdateReplacePolicy"] == "Retain"


# ---- permissions ----


def test_no_permission_has_a_wildcard(stack: Stack) -> None:
    """Action by action; only the one action that knows no resource is for all of them."""
    for mode in (SECRET, KEYLESS, BUS):
        deployed = stack.deployed(**mode)
        for role in deployed.of_type("AWS::IAM::Role"):
            for action, resource in deployed.may(role):
                assert "*" not in action
                assert "*" not in resource or action == "sts:GetWebIdentityToken"


def test_each_function_may_do_what_the_ledger_does(stack: Stack) -> None:
    """The ledger's actions on its table and index, and no other of DynamoDB."""
    deployed = stack.deployed()
    expected = {(f"dynamodb:{action}", "Ledger.Arn") for action in TABLE_ACTIONS}
    expected |= {(f"dynamodb:{action}", f"Ledger.Arn/index/{INDEX_NAME}") for action in INDEX_ACTIONS}

    for role in _roles(deployed).values():
        found = {pair for pair in deployed.may(role) if pair[0].startswith("dynamodb:")}
        assert {pair for pair in found if pair[1] != STREAM} == expected


def test_nothing_but_lanes_is_forgotten(stack: Stack) -> None:
    """Every function releases lanes; whatever else is in the ledger goes by its own expiry."""
    deployed = stack.deployed()

    for role in _roles(deployed).values():
        assert _may_touch(deployed, role, "dynamodb:DeleteItem") == {lane_key("IMAGE_SCAN")}


def test_each_function_writes_its_own_kinds_of_records(stack: Stack) -> None:
    """What came in is recorded by timer and webhook, signed bytes by the webhook, the lease by the sweep."""
    deployed = stack.deployed()
    calls = {event_key("e"), lane_key("IMAGE_SCAN"), call_key("c"), task_key("t")}
    expected = {
        "TimerFunction": {*calls, ROUTES_KEY},
        "WebhookFunction": {*calls, ROUTES_KEY, SIGNED_KEY},
        "SweepFunction": {*calls, ROUTES_KEY, LEASE_KEY},
    }

    for name, role in _roles(deployed).items():
        assert _may_touch(deployed, role, "dynamodb:PutItem") == expected[name]


def test_the_stream_is_read_by_who_is_started_by_it(stack: Stack) -> None:
    """The sweep where arrivals start it, and the results function; nobody else."""
    readers = {f"dynamodb:{action}" for action in STREAM_ACTIONS}

    for parameters, expected in (
        (BUS, {"SweepFunction", "ResultsFunction"}),
        ({**BUS, "SweepOnArrival": 0}, {"ResultsFunction"}),
        ({**SECRET, "SweepOnArrival": 0}, set()),
    ):
        deployed = stack.deployed(**parameters)
        reading = {
            name
            for name, role in _roles(deployed).items()
            if {action for action, resource in deployed.may(role) if resource == STREAM} == readers
        }
        assert reading == expected


def test_the_results_function_reaches_its_destination_and_nothing_else(stack: Stack) -> None:
    """Neither the table nor Security Center's key, in either mode."""
    own = {("sqs:SendMessage", "DeadResults.Arn")}
    own |= {(f"logs:{action}", "ResultsLog.Arn") for action in ("CreateLogStream", "PutLogEvents")}
    own |= {(f"dynamodb:{action}", STREAM) for action in STREAM_ACTIONS}
    arn = "arn:aws:events:us-west-2:210987654321:event-bus/central"
    queue = "https://sqs.us-west-2.amazonaws.com/210987654321/results.fifo"

    for mode in (SECRET, KEYLESS):
        for results, reached in (
            ("eventbridge:results", ("events:PutEvents", f"{EVENTS}:event-bus/results")),
            (f"eventbridge:{arn}", ("events:PutEvents", arn)),
            (
                f"sqs:{queue}",
                ("sqs:SendMessage", "arn:AWS::Partition:sqs:us-west-2:210987654321:results.fifo"),
            ),
        ):
            assert stack.deployed(**mode, Results=results).may("ResultsRole") == {*own, reached}
            assert re.search(stack.parameters["Results"]["AllowedPattern"], results)


def test_each_mode_of_credentials_permits_only_itself(stack: Stack) -> None:
    """One secret, or tokens for one audience; never both."""
    sources = {"secretsmanager:GetSecretValue", "sts:GetWebIdentityToken"}

    for mode, expected in (
        (SECRET, ("secretsmanager:GetSecretValue", SECRET_ARN)),
        (KEYLESS | {"CredentialsSecretArn": SECRET_ARN}, ("sts:GetWebIdentityToken", "*")),
    ):
        deployed = stack.deployed(**mode)
        for role in _roles(deployed).values():
            assert {pair for pair in deployed.may(role) if pair[0] in sources} == {expected}


def test_keyless_tokens_are_for_one_audience(stack: Stack) -> None:
    """None for another service, none without an audience, none that lasts, and signed as RAM reads it."""
    deployed = stack.deployed(**KEYLESS)

    for role in _roles(deployed).values():
        (statement,) = [
            statement
            for statement in deployed.statements(role)
            if statement["Action"] == ["sts:GetWebIdentityToken"]
        ]
        assert statement["Condition"] == {
            "ForAllValues:StringEquals": {"sts:IdentityTokenAudience": ["oncetask"]},
            "Null": {"sts:IdentityTokenAudience": "false"},
            "StringEquals": {"sts:SigningAlgorithm": "RS256"},
            "NumericLessThanEqualsIfExists": {"sts:DurationSeconds": "300"},
        }


def test_the_roles_that_a_token_may_speak_for_are_an_output(stack: Stack) -> None:
    """The one who sets keyless up has to list them at Alibaba Cloud."""
    deployed = stack.deployed(**KEYLESS, Results="eventbridge:results")

    subjects = deployed.outputs["FunctionRoleArns"].split(",")
    assert sorted(subjects) == sorted(
        f"{role}.Arn" for name, role in _roles(deployed).items() if name in ASKING
    )


def test_the_webhook_alone_reads_the_webhooks_secrets(stack: Stack) -> None:
    """Those that the parameters name, and AWS's key for them where it is the customer's own."""
    secret, parameter, key = (f"arn:aws:{name}" for name in ("secretsmanager:s", "ssm:p", "kms:k"))
    deployed = stack.deployed(
        **SECRET, WebhookSecretArns=secret, WebhookParameterArns=parameter, SecretsKmsKeyArn=key
    )
    roles = _roles(deployed)

    wanted = {("secretsmanager:GetSecretValue", secret), ("ssm:GetParameter", parameter)}
    assert wanted <= deployed.may(roles["WebhookFunction"])
    assert not wanted & (deployed.may(roles["TimerFunction"]) | deployed.may(roles["SweepFunction"]))
    assert ("kms:Decrypt", key) in deployed.may(roles["WebhookFunction"])


def test_each_function_logs_json_to_a_group_of_its_own(stack: Stack) -> None:
    """At INFO: below, lines without a level, the metrics among them, would be dropped."""
    deployed = stack.deployed(**BUS)
    groups = deployed.of_type("AWS::Logs::LogGroup")
    roles = _roles(deployed)

    for name, function in deployed.of_type(FUNCTION).items():
        logging = function["LoggingConfig"]
        assert logging["LogFormat"] == "JSON"
        assert logging["ApplicationLogLevel"] == "INFO"
        assert groups[logging["LogGroup"]]["RetentionInDays"] >= 1
        logs = {pair for pair in deployed.may(roles[name]) if pair[0].startswith("logs:")}
        group = f"{logging['LogGroup']}.Arn"
        assert logs == {("logs:CreateLogStream", group), ("logs:PutLogEvents", group)}
    assert (
        len({function["LoggingConfig"]["LogGroup"] for function in deployed.of_type(FUNCTION).values()}) == 4
    )


# ---- timers and the sweep ----


def test_every_timer_route_has_its_schedule(stack: Stack) -> None:
    """And every other schedule is the sweep's."""
    schedules = stack.deployed().of_type(SCHEDULE).values()
    timers = {schedule["Name"] for schedule in schedules if schedule["Target"]["Arn"] == "TimerFunction.Arn"}
    others = {schedule["Name"] for schedule in schedules} - timers

    assert timers == {route.name for route in _routes().values() if route.trigger is Trigger.TIMER}
    assert others == {"sweep"}


def test_a_tick_says_what_the_contract_says(stack: Stack) -> None:
    """With the placeholders filled in, the input is understood, and names its own route."""
    for schedule in stack.deployed().of_type(SCHEDULE).values():
        if schedule["Target"]["Arn"] != "TimerFunction.Arn":
            continue
        event = schedule["Target"]["Input"]
        arn = SCHEDULE_ARN.format(name=schedule["Name"])
        event = event.replace("<aws.scheduler.schedule-arn>", arn)
        event = json.loads(event.replace("<aws.scheduler.scheduled-time>", "2026-11-24T02:30:00Z"))
        assert event == {
            "route": schedule["Name"],
            "schedule": arn,
            "scheduled_time": "2026-11-24T02:30:00Z",
        }
        assert Tick.of(event).route == schedule["Name"]


def test_schedules_name_times_that_exist(stack: Stack) -> None:
    """AWS's grammar, a time zone that the IANA knows, and no hour that is left out one night a year."""
    for schedule in stack.deployed().of_type(SCHEDULE).values():
        expression = schedule["ScheduleExpression"]
        assert _is_rate(expression) or (_is_cron(expression) and not _is_at_night(expression))
        assert zoneinfo.ZoneInfo(schedule.get("ScheduleExpressionTimezone", "UTC"))
        assert schedule["FlexibleTimeWindow"] == {"Mode": "OFF"}
        assert schedule.get("State", "ENABLED") == "ENABLED"


def test_schedules_may_start_their_functions(stack: Stack) -> None:
    """One role, which only this stack's schedules may take; what they cannot deliver is kept."""
    deployed = stack.deployed()
    may = deployed.may("SchedulerRole")
    trust = deployed.of_type("AWS::IAM::Role")["SchedulerRole"]["AssumeRolePolicyDocument"]["Statement"]

    for schedule in deployed.of_type(SCHEDULE).values():
        target = schedule["Target"]
        assert target["RoleArn"] == "SchedulerRole.Arn"
        assert schedule["GroupName"] in deployed.of_type("AWS::Scheduler::ScheduleGroup")
        assert ("lambda:InvokeFunction", target["Arn"]) in may
        if target["Arn"] == "TimerFunction.Arn":
            assert target["DeadLetterConfig"] == {"Arn": "DeadLetters.Arn"}
            assert ("sqs:SendMessage", "DeadLetters.Arn") in may
    bound = {"aws:SourceAccount": "AWS::AccountId", "aws:SourceArn": "Schedules.Arn"}
    assert trust[0]["Condition"] == {"StringEquals": bound}


def test_no_name_is_longer_than_its_kind_may_be(stack: Stack) -> None:
    """A stack's name may have 128 characters, a schedule group's 64: AWS makes that one."""
    assert stack.deployed().the("AWS::Scheduler::ScheduleGroup") == {}
    assert len(f"{'x' * 128}-ap-southeast-1") <= DASHBOARD_NAME_CHARS


def test_the_sweep_runs_every_minute_and_is_its_own_retry(stack: Stack) -> None:
    """A sweep has a minute, no second try, and is not worth starting late."""
    deployed = stack.deployed()
    schedule = deployed.of_type(SCHEDULE)["SweepFunctionEveryMinute"]
    invocation = _invocation(deployed, "SweepFunction")

    assert schedule["ScheduleExpression"] == "rate(1 minute)"
    assert schedule["Target"]["RetryPolicy"] == {"MaximumRetryAttempts": 0, "MaximumEventAgeInSeconds": 60}
    assert deployed.of_type(FUNCTION)["SweepFunction"]["Timeout"] == 60
    assert invocation["MaximumRetryAttempts"] == 0
    assert invocation["MaximumEventAgeInSeconds"] == 60


def test_a_tick_is_tried_again_and_then_kept(stack: Stack) -> None:
    """Twice, for six hours; what fails even then lies in the dead-letter queue for two weeks."""
    deployed = stack.deployed()
    invocation = _invocation(deployed, "TimerFunction")

    assert invocation["MaximumRetryAttempts"] == 2
    assert invocation["MaximumEventAgeInSeconds"] == 21_600
    assert invocation["DestinationConfig"] == {"OnFailure": {"Destination": "DeadLetters.Arn"}}
    assert ("sqs:SendMessage", "DeadLetters.Arn") in deployed.may(_roles(deployed)["TimerFunction"])
    assert deployed.the("AWS::SQS::Queue") == {
        "MessageRetentionPeriod": 1_209_600,
        "SqsManagedSseEnabled": True,
    }


# ---- what the stream starts ----


def test_what_was_recorded_starts_a_sweep_soon(stack: Stack) -> None:
    """What waits and did not before, gathered for as long as the parameter says; a lost start is harmless."""
    mapping = stack.deployed().of_type(MAPPING)["Arrivals"]

    assert (mapping["FunctionName"], mapping["EventSourceArn"]) == ("SweepFunction", STREAM)
    assert mapping["MaximumBatchingWindowInSeconds"] == 5
    assert mapping["MaximumRetryAttempts"] == 0
    patterns = [json.loads(one["Pattern"]) for one in mapping["FilterCriteria"]["Filters"]]
    through = {name for name, change in CHANGES.items() for each in patterns if _lets_through(each, change)}
    assert through == {
        "recorded",
        "recorded where its id was free again",
    }
    assert "Arrivals" not in stack.deployed(**SECRET, SweepOnArrival=0).of_type(MAPPING)


def test_results_are_handed_on_where_a_destination_is_named(stack: Stack) -> None:
    """In order, and the mapping itself discards none; without one there is neither function nor queue."""
    mapping = stack.deployed(**BUS).of_type(MAPPING)["Outbox"]

    assert (mapping["FunctionName"], mapping["EventSourceArn"]) == ("ResultsFunction", STREAM)
    assert mapping["MaximumRetryAttempts"] == mapping["MaximumRecordAgeInSeconds"] == -1
    assert mapping["BisectBatchOnFunctionError"] is False
    assert mapping["FunctionResponseTypes"] == ["ReportBatchItemFailures"]
    assert mapping["StartingPosition"] == "TRIM_HORIZON"
    assert _filtered(mapping) == {"INSERT", "MODIFY"}
    assert {
        "Outbox",
        "ResultsFunction",
        "ResultsRole",
        "DeadResults",
    } & stack.deployed().resources.keys() == set()


def test_results_that_cannot_be_handed_on_are_kept(stack: Stack) -> None:
    """In order, for two weeks; somebody is told, and told where."""
    deployed = stack.deployed(**BUS)
    queue = deployed.of_type("AWS::SQS::Queue")["DeadResults"]
    alarms = deployed.of_type("AWS::CloudWatch::Alarm")

    assert queue == {"FifoQueue": True, "MessageRetentionPeriod": 1_209_600, "SqsManagedSseEnabled": True}
    assert deployed.outputs["DeadResultsUrl"] == "DeadResults"
    assert alarms.keys() - stack.deployed().of_type("AWS::CloudWatch::Alarm").keys() == {
        "DeadResultsAlarm",
        "ResultsLateAlarm",
    }


# ---- webhooks ----


def test_the_api_hands_every_delivery_to_the_webhook(stack: Stack) -> None:
    """Every method under `/webhooks/{route}`, so that it is the handler who says 405; nothing else."""
    paths = stack.deployed().the("AWS::ApiGatewayV2::Api")["Body"]["paths"]
    (path,) = paths
    (method,) = paths[path]
    integration = paths[path][method]["x-amazon-apigateway-integration"]
    event = {"requestContext": {"http": {"method": "POST"}}, "rawPath": path.replace("{route}", "a-route")}

    assert Delivery.of(event).route == "a-route"
    assert method == "x-amazon-apigateway-any-method"
    assert "WebhookFunction.Arn" in integration["uri"]
    assert integration["payloadFormatVersion"] == "2.0"


def test_the_webhook_answers_before_the_api_gives_up(stack: Stack) -> None:
    """With time for the API's own part."""
    deployed = stack.deployed()
    paths = deployed.the("AWS::ApiGatewayV2::Api")["Body"]["paths"]
    integration = paths["/webhooks/{route}"]["x-amazon-apigateway-any-method"][
        "x-amazon-apigateway-integration"
    ]

    limit_s = min(API_LIMIT_S, integration["timeoutInMillis"] / 1000)
    assert deployed.of_type(FUNCTION)["WebhookFunction"]["Timeout"] <= limit_s - 5


def test_the_api_never_throttles_before_the_function_does(stack: Stack) -> None:
    """The function's 503 brings a sender back; the API's 429 loses an alert at Alertmanager."""
    most = stack.parameters["WebhookConcurrency"]["MaxValue"]
    deployed = stack.deployed(**SECRET, WebhookConcurrency=most)
    throttling = deployed.the("AWS::ApiGatewayV2::Stage")["DefaultRouteSettings"]

    assert deployed.of_type(FUNCTION)["WebhookFunction"]["ReservedConcurrentExecutions"] == most
    assert throttling["ThrottlingBurstLimit"] > most
    assert throttling["ThrottlingRateLimit"] > most
    unreserved = stack.deployed().of_type(FUNCTION)["WebhookFunction"]
    assert "ReservedConcurrentExecutions" not in unreserved


def test_the_access_log_shows_no_secret(stack: Stack) -> None:
    """One JSON object a request, to a log group, without headers and query string."""
    deployed = stack.deployed()
    settings = deployed.the("AWS::ApiGatewayV2::Stage")["AccessLogSettings"]
    line = settings["Format"]

    assert settings["DestinationArn"].removesuffix(".Arn") in deployed.of_type("AWS::Logs::LogGroup")
    assert set(re.findall(r"\$([\w.]+)", line)) == {f"context.{name}" for name in ACCESS_LOG_VARIABLES}
    assert len(json.loads(line)) == len(ACCESS_LOG_VARIABLES)


def test_every_webhook_route_has_its_url_among_the_outputs(stack: Stack) -> None:
    """What one gives to the sender."""
    urls = {url for url in stack.deployed().outputs.values() if "/webhooks/" in url}
    base = "https://Api.execute-api.AWS::Region.AWS::URLSuffix/webhooks/"

    assert urls == {f"{base}{route.name}" for route in _routes().values() if route.trigger is Trigger.WEBHOOK}


# ---- watching it ----


def test_alarms_watch_what_wants_a_person(stack: Stack) -> None:
    """Each on a metric that is emitted, and each says what to do."""
    topic = "arn:aws:sns:eu-central-1:123456789012:alarms"
    deployed = stack.deployed(**BUS, AlarmTopicArn=topic, QuietHours=12)
    watched: set[str] = set()

    for alarm in deployed.of_type("AWS::CloudWatch::Alarm").values():
        assert len(alarm["AlarmDescription"]) > 80
        assert alarm["AlarmActions"] == alarm["OKActions"] == [topic]
        metrics = _metrics_of(alarm)
        watched |= {metric["MetricName"] for metric in metrics}
        for metric in metrics:
            _check_metric(deployed, metric)
    wanted = {"OperatorError", "OldestWaitingSeconds", "Failed", "SecondTask"}
    wanted |= {"TaskFailed", "Rejected", "Unverified", "Created"}
    wanted |= {"Errors", "Throttles", "Duration", "AsyncEventsDropped", "IteratorAge"}
    assert watched == wanted | {"ApproximateNumberOfMessagesVisible"}


def test_silence_is_bad_news_of_two_metrics(stack: Stack) -> None:
    """No word of the oldest waiting event, and, where asked for, no new task; else it is good news."""
    alarms = stack.deployed(**BUS, QuietHours=12).of_type("AWS::CloudWatch::Alarm")
    thresholds = {
        "OldestWaitingAlarm": 1800,
        "UnverifiedAlarm": 20,
        "SweepDurationAlarm": 57_000,
        "ResultsLateAlarm": 900_000,
    }

    for name, alarm in alarms.items():
        silent = {"OldestWaitingAlarm", "QuietAlarm"}
        assert alarm["TreatMissingData"] == ("breaching" if name in silent else "notBreaching")
        assert alarm["Threshold"] == thresholds.get(name, 1)
        assert "AlarmActions" not in alarm
    assert (alarms["QuietAlarm"]["Period"], alarms["QuietAlarm"]["EvaluationPeriods"]) == (3600, 12)
    assert "QuietAlarm" not in stack.deployed().of_type("AWS::CloudWatch::Alarm")


def test_an_alarm_on_functions_counts_those_that_are_there(stack: Stack) -> None:
    """The results function where it is deployed; every metric of the sum is one of the alarm's."""
    for parameters in (SECRET, BUS):
        deployed = stack.deployed(**parameters)
        functions = len(deployed.of_type(FUNCTION))
        for name in ("FunctionErrorsAlarm", "FunctionThrottlesAlarm"):
            total, *counted = deployed.of_type("AWS::CloudWatch::Alarm")[name]["Metrics"]
            assert re.findall(r"FILL\((\w+), 0\)", total["Expression"]) == [one["Id"] for one in counted]
            assert len(counted) == functions


def test_the_dashboard_shows_metrics_that_exist(stack: Stack) -> None:
    """Its body is JSON, and every metric of ours is shown."""
    body = json.loads(stack.deployed().the("AWS::CloudWatch::Dashboard")["DashboardBody"])
    shown: set[str] = set()

    for widget in body["widgets"]:
        assert widget["properties"]["region"] == "AWS::Region"
        namespace = ""
        for row in widget["properties"]["metrics"]:
            namespace = namespace if row[0].startswith(".") else row[0]
            if namespace == "OnceTask" and row[0] != "...":
                shown.add(row[1])
    assert shown == METRICS


# ---- the checks themselves ----


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_broken_templates_are_caught(linters: Gates, capsys: pytest.CaptureFixture[str]) -> None:
    """At least nine in ten, of the mistakes that linters are known to catch or miss and of our own kind."""
    sound = linters.judge(template_text())[1]
    assert not [name for name, check in OWN_CHECKS.items() if _fails(check, sound)]

    known = {what: _caught_by(linters, change) for what, *change in KNOWN_MISTAKES}
    own = {what: _caught_by(linters, change) for what, *change in OWN_MISTAKES}

    with capsys.disabled():
        print(_table({**known, **own}))  # noqa: T201 - which check caught what
    assert _share(known) >= 0.9
    assert _share(own) >= 0.9


def _caught_by(linters: Gates, change: list[str]) -> str | None:
    """What finds something in a changed template first: the transform, our checks, cfn-lint (it is slow)."""
    old, new = change
    assert old in template_text()
    text = template_text().replace(old, new, 1)
    found, stack = linters.judge(text)
    if found:
        return "transform"
    for name, check in OWN_CHECKS.items():
        if _fails(check, stack):
            return name
    found, _ = linters.judge(text, lints_expansion=True)
    return re.sub(r".*?([EW]\d+) .*", r"cfn-lint \1", found[0], flags=re.DOTALL) if found else None


def _fails(check: Callable[[Stack], None], stack: Stack) -> bool:
    try:
        check(stack)
    except Exception:  # noqa: BLE001 - whatever a broken template does to a check, it was seen
        return True
    return False


def _table(caught: Mapping[str, str | None]) -> str:
    lines = [f"  {what:<42} {by or 'NOT CAUGHT'}" for what, by in caught.items()]
    return "\n".join(["", "broken templates, and what caught them:", *lines])


def _share(caught: Mapping[str, str | None]) -> float:
    return sum(by is not None for by in caught.values()) / len(caught)


# ---- what the checks share ----


def _routes() -> Mapping[str, Route]:
    return shipped.routes()


def _env_secrets() -> set[str]:
    """The variables that the shipped routes read secrets from."""
    references = [secret for route in _routes().values() if route.verify for secret in route.verify.secrets]
    return {reference.removeprefix("env:") for reference in references if reference.startswith("env:")}


def _source_functions(stack: Stack) -> dict[str, Any]:
    resources = stack.source["Resources"].items()
    return {name: given for name, given in resources if given["Type"] == "AWS::Serverless::Function"}


def _environment(deployed: Deployed, function: str) -> dict[str, str]:
    """The function's variables, with those that AWS Lambda sets itself."""
    variables = deployed.of_type(FUNCTION)[function]["Environment"]["Variables"]
    return {**variables, "AWS_LAMBDA_FUNCTION_NAME": function, "AWS_REGION": "eu-central-1"}


def _roles(deployed: Deployed) -> dict[str, str]:
    functions = deployed.of_type(FUNCTION).items()
    return {name: function["Role"].removesuffix(".Arn") for name, function in functions}


def _invocation(deployed: Deployed, function: str) -> dict[str, Any]:
    """How AWS Lambda treats the function's asynchronous events."""
    configured = deployed.of_type("AWS::Lambda::EventInvokeConfig").values()
    (found,) = [config for config in configured if config["FunctionName"] == function]
    assert found["Qualifier"] == "$LATEST"
    return found


def _is_rate(expression: str) -> bool:
    """`rate(1 minute)`, `rate(5 minutes)`: a unit is singular exactly where the number is 1."""
    match = re.fullmatch(r"rate\(([1-9]\d*) (minute|hour|day)(s?)\)", expression)
    return match is not None and (match[1] == "1") == (match[3] == "")


def _is_cron(expression: str) -> bool:
    """Six fields; minute and hour in range; either the day of the month or of the week is `?`."""
    match = re.fullmatch(r"cron\(([\d*/,-]+) ([\d*/,-]+) (\S+) (\S+) (\S+) (\S+)\)", expression)
    if match is None:
        return False
    minutes, hours = (map(int, re.findall(r"\d+", field)) for field in match.group(1, 2))
    days = match.group(3, 5)
    return max(minutes, default=0) < 60 and max(hours, default=0) < 24 and days.count("?") == 1


def _metrics_of(alarm: dict[str, Any]) -> list[dict[str, Any]]:
    if "Metrics" in alarm:
        return [part["MetricStat"]["Metric"] for part in alarm["Metrics"] if "MetricStat" in part]
    return [alarm]


def _check_metric(deployed: Deployed, metric: dict[str, Any]) -> None:
    """Ours are those of the contract, or what a filter makes of the logs, by our one dimension."""
    if metric["Namespace"].startswith("AWS/"):
        return
    made = [
        one
        for f in deployed.of_type("AWS::Logs::MetricFilter").values()
        for one in f["MetricTransformations"]
    ]
    if (metric["Namespace"], metric["MetricName"]) not in {
        (one["MetricNamespace"], one["MetricName"]) for one in made
    }:
        assert metric["Namespace"] == Settings.model_fields["metrics_namespace"].default
        assert metric["MetricName"] in METRICS
    assert metric["Dimensions"] == [{"Name": "service", "Value": "AWS::StackName"}]


def _lets_through(pattern: dict[str, Any], change: Any) -> bool:  # noqa: ANN401 - any part of a stream's record
    """AWS Lambda's filter, as far as it is used here: a text, `prefix` and `exists`, on leaves."""
    return all(_meets(rule, (change or {}).get(name)) for name, rule in pattern.items())


def _meets(rule: Any, value: Any) -> bool:  # noqa: ANN401 - a pattern, or a leaf's rules
    if isinstance(rule, dict):
        return _lets_through(rule, value)
    [one] = rule
    if isinstance(one, str):
        return bool(value == one)
    if "exists" in one:
        return (value is not None) is one["exists"]
    return value is not None and str(value).startswith(one["prefix"])


def _filtered(mapping: dict[str, Any]) -> set[str]:
    """The kinds of change that a mapping lets through; of the rows, the events alone."""
    [pattern] = [json.loads(one["Pattern"]) for one in mapping["FilterCriteria"]["Filters"]]
    assert pattern["dynamodb"] == {"Keys": {"key": {"S": [{"prefix": event_key("")}]}}}
    return set(pattern["eventName"])


def _may_touch(deployed: Deployed, role: str, action: str) -> set[str]:
    """The keys, one of each kind, on which a role may do that; a call that names none is refused."""
    [statement] = [one for one in deployed.statements(role) if action in one["Action"]]
    condition = statement["Condition"]
    assert condition.keys() == {"ForAllValues:StringLike", "Null"}
    assert condition["Null"] == {"dynamodb:LeadingKeys": "false"}
    patterns = condition["ForAllValues:StringLike"]["dynamodb:LeadingKeys"]
    every = (event_key("e"), lane_key("IMAGE_SCAN"), call_key("c"), task_key("t"))
    return {key for key in (*every, LEASE_KEY, ROUTES_KEY, SIGNED_KEY) if _matches(key, patterns)}


def _matches(key: str, patterns: list[str]) -> bool:
    return any(fnmatch.fnmatchcase(key, pattern) for pattern in patterns)


def _is_at_night(expression: str) -> bool:
    """Whether a cron names an hour from 1 to 3: clocks are changed then, and one night a year has it not."""
    hours = re.findall(r"\d+", expression.split()[1])
    return any(1 <= int(hour) <= 3 for hour in hours)


OWN_CHECKS: dict[str, Callable[[Stack], None]] = {
    name: check
    for name, check in list(globals().items())
    if name.startswith("test_") and list(inspect.signature(check).parameters) == ["stack"]
}
