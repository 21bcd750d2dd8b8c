"""From the ledger's writes to a queue behind a bus: moto's table, stream, EventBridge and SQS."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from local import aws_servers as stores
from local.aws_servers import REGION, TABLE, WallClock
from local.tools import python_tool
from oncetask.aws.client import AwsService
from oncetask.aws.events import SOURCE
from oncetask.aws.sigv4 import AwsKeys
from oncetask.clock import Deadline
from oncetask.handlers.outbox import hand_on
from oncetask.ledger.dynamodb import DynamoDbStore, table_definition
from oncetask.ledger.ledger import Ledger
from oncetask.models import Status
from tests.installed import installed
from tests.receiver import Receiver
from tests.stream import DONE, an_event

STREAMS = "DynamoDBStreams_20120810"
KEYS = AwsKeys("AKIAEXAMPLE", "not-checked")


class Moto:
    """A moto that checks nothing."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._services: dict[str, AwsService] = {}

    def service(self, name: str) -> AwsService:
        """A connection to one of its services."""
        if name not in self._services:
            self._services[name] = AwsService(
                name, region=REGION, keys=KEYS, clock=WallClock(), endpoint_url=self.url, read_timeout_s=30
            )
        return self._services[name]

    def close(self) -> None:
        """Close the connections."""
        for service in self._services.values():
            service.close()

    def table_with_a_stream(self) -> str:
        """The stream's ARN, of a table as the template has it."""
        definition = table_definition(TABLE)
        stream = {"StreamEnabled": True, "StreamViewType": "NEW_AND_OLD_IMAGES"}
        made = self.service("dynamodb").call(
            "DynamoDB_20120810.CreateTable", {**definition, "StreamSpecification": stream}
        )
        return str(made["TableDescription"]["LatestStreamArn"])

    def queue_behind_a_bus(self) -> str:
        """The queue's URL."""
        events, sqs = self.service("events"), self.service("sqs")
        url = str(sqs.call("AmazonSQS.CreateQueue", {"QueueName": "seen"})["QueueUrl"])
        rule = {"Name": "seen", "EventBusName": "results"}
        events.call("AWSEvents.CreateEventBus", {"Name": "results"})
        events.call("AWSEvents.PutRule", {**rule, "EventPattern": json.dumps({"source": [SOURCE]})})
        target = {"Id": "1", "Arn": f"arn:aws:sqs:{REGION}:123456789012:seen"}
        events.call("AWSEvents.PutTargets", {"Rule": "seen", "EventBusName": "results", "Targets": [target]})
        return url

    def records(self, stream_arn: str) -> list[dict[str, Any]]:
        """Everything that the stream holds, as it gives it."""
        streams = self.service("dynamodb")
        described = streams.call(f"{STREAMS}.DescribeStream", {"StreamArn": stream_arn})
        found: list[dict[str, Any]] = []
        for shard in described["StreamDescription"]["Shards"]:
            place = {
                "StreamArn": stream_arn,
                "ShardId": shard["ShardId"],
                "ShardIteratorType": "TRIM_HORIZON",
            }
            iterator = streams.call(f"{STREAMS}.GetShardIterator", place)["ShardIterator"]
            found += streams.call(f"{STREAMS}.GetRecords", {"ShardIterator": iterator})["Records"]
        return found


@pytest.fixture
def moto() -> Iterator[Moto]:
    """One of the test's own."""
    program = installed(lambda: python_tool("moto")) / "moto_server"
    port = stores.free_port()
    with stores.running([str(program), "-H", "127.0.0.1", "-p", str(port)], port):
        running = Moto(f"http://127.0.0.1:{port}")
        yield running
        running.close()


def test_what_the_ledger_writes_comes_out_of_the_bus(moto: Moto) -> None:
    """Each new result, in the order in which it was written; the other records do not."""
    stream_arn, queue_url = moto.table_with_a_stream(), moto.queue_behind_a_bus()
    clock = WallClock()
    ledger = Ledger(DynamoDbStore(moto.service("dynamodb"), TABLE, clock), clock)
    event = an_event(received_s=clock.now_s(), due_s=clock.now_s())
    for status in (Status.CREATED, Status.FINISHED):
        ledger.record(event)
        ledger.change_event(
            event.event_id, lambda kept, now=status: kept.moved(clock.now_s(), {"status": now})
        )
    lease = ledger.take_lease(int(clock.now_s()) + 55)
    assert lease is not None
    receiver = Receiver(moto.url)
    app = receiver.app("eventbridge:results", clock)

    report = hand_on(app, {"Records": moto.records(stream_arn)}, Deadline.after(60, clock))
    app.close()

    assert (report.answer(), report.handed_on) == (DONE, 3)
    received = moto.service("sqs").call(
        "AmazonSQS.ReceiveMessage", {"QueueUrl": queue_url, "MaxNumberOfMessages": 10}
    )
    told = [json.loads(message["Body"]) for message in received["Messages"]]
    assert [one["detail"]["status"] for one in told] == ["pending", "created", "finished"]
    assert {one["detail-type"] for one in told} == {"oncetask result"}
