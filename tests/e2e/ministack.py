"""An AWS account on loopback: MiniStack, which runs a stack's functions, schedules, streams and bus for real.

It listens everywhere unless `BIND_HOST` says where.
"""

import contextlib
import json
import os
import signal
import subprocess
import time
import urllib.request
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from local.aws_servers import REGION, WallClock, free_port, running
from local.tools import PROJECT, python_tool
from oncetask.aws.client import AwsService
from oncetask.aws.sigv4 import AwsKeys

KEYS = AwsKeys("test", "test")
BUCKET = "uploads"
STACK = "oncetask"
ANSWER_LIMIT_S = 60
DEPLOY_LIMIT_S = 120


@dataclass(frozen=True)
class Account:
    """The account; every call is made with keys that it takes for anybody's."""

    url: str
    pid: int

    def kill_functions(self) -> int:
        """End the processes in which functions run, as AWS may at any moment; how many there were."""
        children = [path.read_text() for path in Path(f"/proc/{self.pid}/task").glob("*/children")]
        pids = [int(pid) for pid in " ".join(children).split()]
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        return len(pids)

    def call(self, service: str, target: str, document: Mapping[str, Any]) -> dict[str, Any]:
        """One call of the JSON protocol. Raises AwsFailure."""
        connection = AwsService(
            service,
            region=REGION,
            keys=KEYS,
            clock=WallClock(),
            endpoint_url=self.url,
            read_timeout_s=ANSWER_LIMIT_S,
        )
        try:
            return connection.call(target, document)
        finally:
            connection.close()

    def cloudformation(self, action: str, **parameters: str) -> ET.Element:
        """One call of CloudFormation's query protocol."""
        form = urlencode({"Action": action, "Version": "2010-05-15", **parameters}).encode()
        return ET.fromstring(self._asked("POST", "/", "cloudformation", form))  # noqa: S314 - our own server

    def deploy(self, template: Mapping[str, Any], parameters: Mapping[str, str]) -> None:
        """Make the stack and wait until it stands. Raises AssertionError, with its events."""
        given = {"StackName": STACK, "TemplateBody": json.dumps(template)}
        given["Capabilities.member.1"] = "CAPABILITY_IAM"
        for number, (name, value) in enumerate(parameters.items(), 1):
            given[f"Parameters.member.{number}.ParameterKey"] = name
            given[f"Parameters.member.{number}.ParameterValue"] = value
        self.cloudformation("CreateStack", **given)
        until(lambda: not self.status().endswith("_IN_PROGRESS"), DEPLOY_LIMIT_S)
        assert self.status() == "CREATE_COMPLETE", self._events()

    def status(self) -> str:
        """The stack's; of a deleted one, that it is."""
        stacks = self.cloudformation("ListStacks")
        return [text_of(one, "StackStatus") for one in members(stacks, "StackSummaries")][-1]

    def take_down(self) -> None:
        """Delete the stack and wait until it is gone."""
        self.cloudformation("DeleteStack", StackName=STACK)
        until(lambda: self.status() == "DELETE_COMPLETE", DEPLOY_LIMIT_S)

    def resources(self) -> dict[str, str]:
        """What the stack's resources are named, by their names in the template."""
        found = members(self.cloudformation("ListStackResources", StackName=STACK), "StackResourceSummaries")
        return {text_of(one, "LogicalResourceId"): text_of(one, "PhysicalResourceId") for one in found}

    def upload(self, built: Path, folder: Path) -> Path:
        """The built template with its functions in the account's bucket, as `sam deploy` would bring them."""
        place = f"<LocationConstraint>{REGION}</LocationConstraint>"
        bucket = f"<CreateBucketConfiguration>{place}</CreateBucketConfiguration>"
        self._asked("PUT", f"/{BUCKET}", "s3", bucket.encode())
        packaged = folder / "packaged.yml"
        environment = os.environ | {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_REGION": REGION,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_ACCESS_KEY_ID": KEYS.access_key_id,
            "AWS_SECRET_ACCESS_KEY": KEYS.secret_access_key,
            "SAM_CLI_TELEMETRY": "0",
        }
        command = [str(python_tool("sam") / "sam"), "package", "--s3-bucket", BUCKET]
        command += ["--template-file", str(built / "template.yaml"), "--output-template-file", str(packaged)]
        done = subprocess.run(
            command, env=environment, cwd=PROJECT, capture_output=True, text=True, timeout=120, check=False
        )
        assert done.returncode == 0, done.stderr
        return packaged

    def delivered(self, api: str, path: str, body: bytes, headers: Mapping[str, str]) -> dict[str, Any]:
        """What the HTTP API answers a POST, as JSON. Raises HTTPError."""
        request = urllib.request.Request(  # noqa: S310 - our own server
            f"{self.url}/_aws/execute-api/{api}/$default{path}", body, dict(headers)
        )
        with urllib.request.urlopen(request, timeout=ANSWER_LIMIT_S) as answer:  # noqa: S310 - our own server
            return dict(json.loads(answer.read()))

    def received(self, queue_url: str) -> list[dict[str, Any]]:
        """The messages that are in a queue, taken out of it."""
        found: list[dict[str, Any]] = []
        while True:
            asked = {"QueueUrl": queue_url, "MaxNumberOfMessages": 10}
            messages = self.call("sqs", "AmazonSQS.ReceiveMessage", asked).get("Messages", [])
            for message in messages:
                done = {"QueueUrl": queue_url, "ReceiptHandle": message["ReceiptHandle"]}
                self.call("sqs", "AmazonSQS.DeleteMessage", done)
            found += [json.loads(message["Body"]) for message in messages]
            if not messages:
                return found

    def _asked(self, method: str, path: str, service: str, body: bytes) -> bytes:
        credential = f"{KEYS.access_key_id}/20260101/{REGION}/{service}/aws4_request"
        request = urllib.request.Request(  # noqa: S310 - our own server
            f"{self.url}{path}",
            body,
            {"authorization": f"AWS4-HMAC-SHA256 Credential={credential}, SignedHeaders=host, Signature=0"},
            method=method,
        )
        with urllib.request.urlopen(request, timeout=ANSWER_LIMIT_S) as answer:  # noqa: S310 - our own server
            return bytes(answer.read())

    def _events(self) -> list[str]:
        events = members(self.cloudformation("DescribeStackEvents", StackName=STACK), "StackEvents")
        return [
            f"{text_of(one, 'LogicalResourceId')}: {text_of(one, 'ResourceStatusReason')}" for one in events
        ]


@contextlib.contextmanager
def ministack(folder: Path) -> Iterator[Account]:
    """The account until the block ends. Raises NotInstallable."""
    program, port = python_tool("ministack") / "ministack", free_port()
    places = {"TMPDIR": str(folder), "S3_DATA_DIR": str(folder / "s3")}
    account = {"GATEWAY_PORT": str(port), "MINISTACK_REGION": REGION, "BIND_HOST": "127.0.0.1"}
    keys = {"AWS_ACCESS_KEY_ID": KEYS.access_key_id, "AWS_SECRET_ACCESS_KEY": KEYS.secret_access_key}
    with running([str(program)], port, **places, **account, **keys) as pid:
        yield Account(f"http://127.0.0.1:{port}", pid)


def until(holds: Callable[[], bool], limit_s: float) -> float:
    """The seconds until it holds. Raises TimeoutError."""
    began_s = time.monotonic()
    while not holds():
        if time.monotonic() - began_s > limit_s:
            raise TimeoutError(f"not so within {limit_s} s")
        time.sleep(0.25)
    return time.monotonic() - began_s


def members(answer: ET.Element, name: str) -> list[ET.Element]:
    """The members of a list in an answer of the query protocol."""
    return [
        one
        for found in answer.iter()
        if found.tag.rpartition("}")[2] == name
        for one in found
        if one.tag.rpartition("}")[2] == "member"
    ]


def text_of(element: ET.Element, name: str) -> str:
    """The text of the part of that name; empty where there is none."""
    return next((one.text or "" for one in element.iter() if one.tag.rpartition("}")[2] == name), "")
