"""Each function under the policy that template.yml gives its role, on a moto that checks permissions.

Moto compares actions and no resources: it asks for everything on "*", and so its users here have the roles'
own statements on "*". On what a call is made is compared with the statements themselves, as IAM would: their
ARNs hold no wildcard (tests/project/test_template.py). Moto knows no GetWebIdentityToken, but asks for the
permission; conditions (on it, and on what a function may delete), KMS's part in reading a secret, and what
AWS Lambda does by a role itself (logs, the stream, dead letters of ticks) cannot be tried.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest

from local import aws_servers as stores
from local.aws_servers import REGION, TABLE, WallClock
from local.tools import python_tool
from oncetask.aws import identity
from oncetask.aws.client import AwsError, AwsService
from oncetask.aws.events import Bus, Message, Queue
from oncetask.aws.secrets import access_key, webhook_parameter, webhook_secret
from oncetask.aws.sigv4 import AwsKeys
from oncetask.credentials import Keys
from oncetask.errors import CredentialsUnavailable, SecretUnavailable
from oncetask.ledger.dynamodb import INDEX_NAME, DynamoDbStore
from oncetask.ledger.ledger import Ledger
from oncetask.ledger.records import Call, Event, Lane, LostCall, Served, TaskRecord
from oncetask.models import Status, TaskRequest, Trigger
from tests.clocks import FakeClock
from tests.installed import installed
from tests.open_records import lanes, waiting
from tests.project.template_expansion import KEYLESS, SECRET, Deployed, Stack, gates, template_text

ACCOUNT = "123456789012"  # moto's own
TABLE_ARN = f"arn:aws:dynamodb:{REGION}:{ACCOUNT}:table/{TABLE}"
PARAMETER = "/oncetask/hook"
PARAMETER_ARN = f"arn:aws:ssm:{REGION}:{ACCOUNT}:parameter{PARAMETER}"
TOPIC_ARN = f"arn:aws:sns:{REGION}:{ACCOUNT}:alarms"
BUS_ARN = f"arn:aws:events:{REGION}:{ACCOUNT}:event-bus/results"
QUEUE_ARN = f"arn:aws:sqs:{REGION}:{ACCOUNT}:dead.fifo"
STREAM = "Ledger.StreamArn"
KMS_ARN = f"arn:aws:kms:{REGION}:{ACCOUNT}:key/of-ours"
KEY_DOCUMENT = '{"ALIBABA_CLOUD_ACCESS_KEY_ID": "id", "ALIBABA_CLOUD_ACCESS_KEY_SECRET": "secret"}'

MODES: Mapping[str, Mapping[str, str]] = {"secretsmanager": SECRET, "keyless": KEYLESS}
FUNCTIONS = ("TimerFunction", "WebhookFunction", "SweepFunction")
CALLS_OF_A_USER = 3
CALLS_BEFORE_CHECKS = CALLS_OF_A_USER * (2 + len(MODES) * len(FUNCTIONS)) + 3  # two secrets and a parameter

BEYOND: Sequence[tuple[str, Mapping[str, object]]] = (
    ("DynamoDB_20120810.Scan", {"TableName": TABLE}),
    ("DynamoDB_20120810.UpdateItem", {"TableName": TABLE, "Key": {"key": {"S": "event/1"}}}),
    ("DynamoDB_20120810.BatchWriteItem", {"RequestItems": {}}),
    ("DynamoDB_20120810.TransactWriteItems", {"TransactItems": []}),
    ("DynamoDB_20120810.DescribeTable", {"TableName": TABLE}),
    ("DynamoDB_20120810.UpdateTimeToLive", {"TableName": TABLE}),
    ("DynamoDB_20120810.UpdateContinuousBackups", {"TableName": TABLE}),
    ("DynamoDB_20120810.DeleteTable", {"TableName": TABLE}),
    ("secretsmanager.ListSecrets", {}),
    ("secretsmanager.PutSecretValue", {"SecretId": "oncetask/key", "SecretString": "mine"}),
    ("AmazonSSM.GetParametersByPath", {"Path": "/"}),
    ("AmazonSSM.PutParameter", {"Name": PARAMETER, "Value": "mine", "Overwrite": True}),
)
"""What no function may do: each the nearest neighbour of something that one may, or the worst."""


class Recorded(AwsService):
    """A service that remembers what it was asked to do, and on which resource."""

    def __init__(self, service: str, url: str, keys: AwsKeys) -> None:
        super().__init__(
            service, region=REGION, keys=keys, clock=WallClock(), endpoint_url=url, read_timeout_s=30
        )
        self.asked: set[tuple[str, str]] = set()

    def call(self, target: str, document: Mapping[str, Any]) -> dict[str, Any]:
        self.asked.add((f"{self.service}:{target.rpartition('.')[2]}", _resource(document)))
        return super().call(target, document)


def _resource(document: Mapping[str, Any]) -> str:
    """The ARN that IAM looks at: an index's own, where one is asked."""
    if "IndexName" in document:
        return f"{TABLE_ARN}/index/{document['IndexName']}"
    if "Entries" in document:
        return f"{BUS_ARN.rpartition('/')[0]}/{document['Entries'][0]['EventBusName']}"
    if "QueueUrl" in document:
        return QUEUE_ARN.replace("dead.fifo", str(document["QueueUrl"]).rpartition("/")[2])
    if "SecretId" in document:
        return str(document["SecretId"])
    return PARAMETER_ARN if "Name" in document else TABLE_ARN


@dataclass(frozen=True)
class Function:
    """A user that may do what the function's role may; `may` are pairs of action and ARN."""

    name: str
    mode: str
    keys: AwsKeys
    may: frozenset[tuple[str, str]]


@dataclass(frozen=True)
class Account:
    """A moto with the stack's table and secrets, and a user for every function in every mode."""

    url: str
    admin: AwsKeys
    key_arn: str
    hook_arn: str
    functions: Mapping[tuple[str, str], Function]
    results: Function

    def service(self, name: str, function: Function) -> Recorded:
        """A connection of the function's."""
        return Recorded(name, self.url, function.keys)


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    """template.yml, expanded."""
    installed(lambda: python_tool("sam"))
    with gates() as running:
        found, stack = running.judge(template_text())
        assert not found
        yield stack


@pytest.fixture(scope="module")
def account(stack: Stack) -> Iterator[Account]:
    """The account, one moto for this file."""
    program = installed(lambda: python_tool("moto")) / "moto_server"
    port = stores.free_port()
    url = f"http://127.0.0.1:{port}"
    command = [str(program), "-H", "127.0.0.1", "-p", str(port)]
    with stores.running(command, port, INITIAL_NO_AUTH_ACTION_COUNT=str(CALLS_BEFORE_CHECKS)):
        admin = stores.new_user(url, "admin", stores.allow("*"))
        key_arn = _new_secret(url, admin, "oncetask/key", KEY_DOCUMENT)
        hook_arn = _new_secret(url, admin, "oncetask/hook", "hook-secret")
        parameter = {"Name": PARAMETER, "Value": "hook-parameter", "Type": "SecureString"}
        _once(Recorded("ssm", url, admin), "AmazonSSM.PutParameter", parameter)
        functions = {
            (mode, name): _function(url, mode, name, deployed(stack, mode, key_arn, hook_arn))
            for mode in MODES
            for name in FUNCTIONS
        }
        handing_on = deployed(stack, "secretsmanager", key_arn, hook_arn)
        results = _function(url, "secretsmanager", "ResultsFunction", handing_on)
        yield Account(url, admin, key_arn, hook_arn, functions, results)


@pytest.fixture(params=MODES)
def mode(request: pytest.FixtureRequest) -> str:
    """Every mode of credentials."""
    return str(request.param)


@pytest.fixture(params=FUNCTIONS)
def function(request: pytest.FixtureRequest, mode: str, account: Account) -> Function:
    """Every function in every mode."""
    return account.functions[mode, request.param]


def deployed(stack: Stack, mode: str, key_arn: str, hook_arn: str) -> Deployed:
    """The stack in that mode, with everything in it that a role may be given."""
    options = {"WebhookSecretArns": hook_arn, "WebhookParameterArns": PARAMETER_ARN}
    options |= {"SecretsKmsKeyArn": KMS_ARN, "Results": "eventbridge:results", "AlarmTopicArn": TOPIC_ARN}
    return stack.deployed(**{**MODES[mode], **options, "CredentialsSecretArn": key_arn})


def _function(url: str, mode: str, name: str, deployed: Deployed) -> Function:
    role = deployed.of_type("AWS::Lambda::Function")[name]["Role"].removesuffix(".Arn")
    statements = [{**statement, "Resource": "*"} for statement in deployed.statements(role)]
    may = {(action, _own(resource)) for action, resource in deployed.may(role) if resource != STREAM}
    return Function(name, mode, stores.new_user(url, f"{mode}-{name}", *statements), frozenset(may))


def _own(resource: str) -> str:
    """The ARN that moto gives to something of the stack's."""
    names = {
        "Ledger.Arn": TABLE_ARN,
        "DeadResults.Arn": QUEUE_ARN,
        "arn:AWS::Partition:events:AWS::Region:AWS::AccountId:event-bus/results": BUS_ARN,
    }
    for name, arn in names.items():
        resource = resource.replace(name, arn)
    return resource


def _new_secret(url: str, admin: AwsKeys, name: str, text: str) -> str:
    document = {"Name": name, "SecretString": text, "ClientRequestToken": name.rjust(32, "0")}
    made = _once(Recorded("secretsmanager", url, admin), "secretsmanager.CreateSecret", document)
    return str(made["ARN"])


def _once(service: AwsService, target: str, document: Mapping[str, object]) -> dict[str, Any]:
    """One call over a connection of its own."""
    try:
        return service.call(target, document)
    finally:
        service.close()


def code_of(call: Callable[[], object]) -> str:
    """The code that a call is refused with; nothing where it is not."""
    try:
        call()
    except (AwsError, CredentialsUnavailable) as error:
        return str(error.code)
    return ""


# -- the ledger -----------------------------------------------------------------------------------

REQUEST = TaskRequest(task_type="IMAGE_SCAN", task_name="IMAGE_SCAN", param={}, source="oncetask")


def an_event(now_s: float) -> Event:
    """One that waits."""
    return Event(
        event_id="timer:nightly:1",
        status=Status.PENDING,
        trigger=Trigger.TIMER,
        route="nightly",
        request=REQUEST,
        submit="now",
        order=0,
        received_s=now_s,
        due_s=now_s,
        give_up_s=now_s + 600,
        keep_s=600,
    )


def a_call(event: Event, now_s: float) -> Call:
    """The one call for it."""
    served = (Served.of(event),)
    return Call(call_id="call-1", request=REQUEST, events=served, sent_s=now_s, first_sent_s=now_s)


def live(ledger: Ledger) -> None:
    """Every step that an event, its call and a sweep take in the ledger."""
    now_s = ledger.clock.now_s()
    event = an_event(now_s)
    call = a_call(event, now_s)
    lease = ledger.take_lease(now_s + 55)
    assert lease is not None
    assert ledger.record(event) == (event, True)
    assert ledger.record(event) == (event, False)
    lane = ledger.take_lane(Lane(task_type="IMAGE_SCAN", call=call, claim_ends_s=now_s + 12))
    assert lane is not None
    assert ledger.events([event.event_id]) == [event]
    task = TaskRecord(
        task_id="task-1", call_id="call-1", task_type="IMAGE_SCAN", task_name="IMAGE_SCAN", since_s=now_s
    )
    assert ledger.claim_task(task) == task
    ledger.keep_lost_call(LostCall(call=call, why="in-vain", closed_s=now_s, needed_until_s=now_s))
    assert ledger.change_event(event.event_id, lambda kept: kept.model_copy(update={"attempts": 1}))
    assert [found.event_id for found in waiting(ledger)] == [event.event_id]
    assert ledger.running()[0].records == [task]
    assert lanes(ledger) == [lane]
    ledger.release_lane(lane)
    ledger.release_lease(lease)
    assert lanes(ledger) == []


def test_the_ledger_needs_what_a_role_may_do_and_all_of_it(function: Function, account: Account) -> None:
    """Nothing is missing, nothing is done elsewhere than on the table and its index, nothing is left over."""
    clock = FakeClock()
    stores.DynamoDb(account.url, account.admin, function.keys).store(clock).close()
    service = account.service("dynamodb", function)

    live(Ledger(DynamoDbStore(service, TABLE, clock), clock))
    service.close()

    assert service.asked == {pair for pair in function.may if pair[0].startswith("dynamodb:")}
    assert ("dynamodb:Query", f"{TABLE_ARN}/index/{INDEX_NAME}") in service.asked


# -- secrets --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_key_for_security_center_can_be_read(name: str, account: Account) -> None:
    """By each of the three, where it is kept in a secret."""
    function = account.functions["secretsmanager", name]
    service = account.service("secretsmanager", function)

    keys = access_key(service, account.key_arn)

    assert keys == Keys("id", "secret", None)
    assert service.asked <= function.may


@pytest.mark.parametrize("name", ["TimerFunction", "SweepFunction"])
def test_keyless_functions_read_no_secret(name: str, account: Account) -> None:
    """None at all; the webhook reads its own, and by its statements not the key's."""
    service = account.service("secretsmanager", account.functions["keyless", name])

    code = code_of(lambda: access_key(service, account.key_arn))

    assert code.startswith("AccessDenied")
    for webhook in FUNCTIONS:
        may = account.functions["keyless", webhook].may
        assert ("secretsmanager:GetSecretValue", account.key_arn) not in may


def test_the_webhook_reads_its_own_secrets(mode: str, account: Account) -> None:
    """Of both stores, the secret before the current one included."""
    function = account.functions[mode, "WebhookFunction"]
    secrets, parameters = (account.service(name, function) for name in ("secretsmanager", "ssm"))

    values = webhook_secret(secrets, account.hook_arn), webhook_parameter(parameters, PARAMETER)

    assert values == ((b"hook-secret",), (b"hook-parameter",))
    assert secrets.asked | parameters.asked <= function.may


@pytest.mark.parametrize("name", ["TimerFunction", "SweepFunction"])
def test_no_other_function_reads_a_webhooks_secret(name: str, mode: str, account: Account) -> None:
    """Moto refuses the parameter; the secret's action may be theirs for the key, and then on that alone."""
    function = account.functions[mode, name]

    with pytest.raises(SecretUnavailable, match="allow the function's role ssm:GetParameter"):
        webhook_parameter(account.service("ssm", function), PARAMETER)

    readable = {arn for action, arn in function.may if action == "secretsmanager:GetSecretValue"}
    assert readable == ({account.key_arn} if mode == "secretsmanager" else set())


def test_keyless_alone_may_ask_for_a_token(function: Function, account: Account) -> None:
    """Moto has no such action and fails at it (500), but only where the permission is there."""
    sts = account.service("sts", function)
    parameters = {"Audience.member.1": "oncetask", "SigningAlgorithm": "RS256"}

    code = code_of(lambda: sts.query("GetWebIdentityToken", identity.VERSION, parameters))
    sts.close()

    assert code.startswith("AccessDenied") is (function.mode == "secretsmanager")


# -- results --------------------------------------------------------------------------------------


def test_the_results_function_needs_what_its_role_may_do_and_all_of_it(account: Account) -> None:
    """The bus and the queue of dead letters; its logs and the stream are AWS Lambda's own affair."""
    admin = Recorded("events", account.url, account.admin), Recorded("sqs", account.url, account.admin)
    _once(admin[0], "AWSEvents.CreateEventBus", {"Name": "results"})
    queue = {"QueueName": "dead.fifo", "Attributes": {"FifoQueue": "true"}}
    url = str(_once(admin[1], "AmazonSQS.CreateQueue", queue)["QueueUrl"])
    events, sqs = account.service("events", account.results), account.service("sqs", account.results)
    message = Message("webhook:r:1", "webhook:r:1#1", "{}")

    assert Bus(events, "results").send([message]) == [None]
    assert Queue(sqs, url).send([message]) == [None]
    events.close()
    sqs.close()

    used = events.asked | sqs.asked
    assert used == {pair for pair in account.results.may if not pair[0].startswith("logs:")}


def test_the_results_function_reads_the_stream_and_not_the_table(account: Account) -> None:
    """Nor any secret: it is told all that it has to know."""
    table, secrets = (
        account.service("dynamodb", account.results),
        account.service("secretsmanager", account.results),
    )
    get = {"TableName": TABLE, "Key": {"key": {"S": "event/1"}}}

    assert code_of(lambda: table.call("DynamoDB_20120810.GetItem", get)).startswith("AccessDenied")
    assert code_of(lambda: access_key(secrets, account.key_arn)).startswith("AccessDenied")
    table.close()


# -- beyond ---------------------------------------------------------------------------------------


def test_one_action_beyond_is_refused(function: Function, account: Account) -> None:
    """Neither more of the table nor of the secrets."""
    services = {
        prefix: account.service(name, function)
        for prefix, name in (
            ("DynamoDB_20120810", "dynamodb"),
            ("secretsmanager", "secretsmanager"),
            ("AmazonSSM", "ssm"),
        )
    }

    codes = {
        target: code_of(partial(services[target.split(".")[0]].call, target, document))
        for target, document in BEYOND
    }
    for service in services.values():
        service.close()

    assert {target for target, code in codes.items() if not code.startswith("AccessDenied")} == set()


@pytest.mark.parametrize("mode", MODES)
def test_every_permission_is_on_something_of_the_stacks_own(stack: Stack, mode: str) -> None:
    """The table with index and stream, queues, log groups, two functions, and what parameters name."""
    key_arn, hook_arn = (f"arn:aws:secretsmanager:{REGION}:{ACCOUNT}:secret:{name}-AbCdEf" for name in "kh")
    account = deployed(stack, mode, key_arn, hook_arn)
    own = {
        "dynamodb": {"Ledger.Arn", f"Ledger.Arn/index/{INDEX_NAME}", STREAM},
        "lambda": {"TimerFunction.Arn", "SweepFunction.Arn"},
        "logs": {"TimerLog.Arn", "WebhookLog.Arn", "SweepLog.Arn", "ResultsLog.Arn"},
        "sqs": {"DeadLetters.Arn", "DeadResults.Arn"},
        "events": {"arn:AWS::Partition:events:AWS::Region:AWS::AccountId:event-bus/results"},
        "kms": {KMS_ARN},
        "ssm": {PARAMETER_ARN},
        "secretsmanager": {key_arn, hook_arn} if mode == "secretsmanager" else {hook_arn},
        "sts": {"*"} if mode == "keyless" else set(),  # it knows no resource; its condition binds it
    }

    found: dict[str, set[str]] = {service: set() for service in own}
    for role in account.of_type("AWS::IAM::Role"):
        for action, resource in account.may(role):
            found[action.split(":")[0]].add(resource)

    assert found == own
