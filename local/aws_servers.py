"""AWS on loopback: servers of our own, and the ledger's stores on them, each empty.

Dynalite and moto are two independent DynamoDBs. Moto checks signatures and permitted actions; neither
checks which table a permission is for.
"""

import contextlib
import json
import os
import socket
import subprocess
import time
import urllib.request
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlencode

from local.tools import node_modules, python_tool
from oncetask.aws.client import AwsError, AwsService
from oncetask.aws.sigv4 import AwsKeys
from oncetask.clock import Clock
from oncetask.ledger.dynamodb import (
    INDEX_ACTIONS,
    OPERATOR_ACTIONS,
    TABLE_ACTIONS,
    DynamoDbStore,
    table_definition,
)
from oncetask.ledger.sqlite import SqlStore

REGION = "eu-central-1"
TABLE = "oncetask"
START_LIMIT_S = 30


class WallClock:
    """Real time: moto refuses signatures of another day."""

    def now_s(self) -> float:
        return time.time()

    def elapsed_s(self) -> float:
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)


@dataclass(frozen=True)
class DynamoDb:
    """A running DynamoDB: one table, remade for each test by keys that may do everything."""

    url: str
    admin: AwsKeys
    keys: AwsKeys

    def service(self, keys: AwsKeys | None = None) -> AwsService:
        """A connection of its own, with the ledger's keys unless others are given."""
        return AwsService(
            "dynamodb", region=REGION, keys=keys or self.keys, clock=WallClock(), endpoint_url=self.url
        )

    def store(self, clock: Clock) -> DynamoDbStore:
        """A store on a new, empty table."""
        admin = self.service(self.admin)
        if _table_status(admin):
            admin.call("DynamoDB_20120810.DeleteTable", {"TableName": TABLE})
            _until(lambda: _table_status(admin) is None)
        admin.call("DynamoDB_20120810.CreateTable", table_definition(TABLE))
        _until(lambda: _table_status(admin) == "ACTIVE")
        admin.close()
        return DynamoDbStore(self.service(), TABLE, clock)


def memory() -> SqlStore:
    """`memory://`."""
    return SqlStore()


def sqlite_file(folder: Path) -> SqlStore:
    """`sqlite:///FOLDER/ledger.sqlite`."""
    return SqlStore(folder / "ledger.sqlite")


@contextlib.contextmanager
def dynalite() -> Iterator[DynamoDb]:
    """Dynalite on a free port of loopback until the block ends. Raises NotInstallable."""
    program = node_modules() / ".bin" / "dynalite"
    port = free_port()
    command = [str(program), "--host", "127.0.0.1", "--port", str(port)]
    times = [f"--{step}TableMs=0" for step in ("create", "delete", "update")]
    keys = AwsKeys("AKIADYNALITE", "not-checked")
    with running([*command, *times], port):
        yield DynamoDb(f"http://127.0.0.1:{port}", admin=keys, keys=keys)


@contextlib.contextmanager
def moto() -> Iterator[DynamoDb]:
    """Moto's server on a free port of loopback until the block ends; its checks are on after six calls,
    which make an administrator and a user that may do what the ledger does.
    """
    program = python_tool("moto") / "moto_server"
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    with running([str(program), "-H", "127.0.0.1", "-p", str(port)], port, INITIAL_NO_AUTH_ACTION_COUNT="6"):
        admin = new_user(url, "admin", allow("dynamodb:*"))
        actions = [f"dynamodb:{action}" for action in (*TABLE_ACTIONS, *INDEX_ACTIONS, *OPERATOR_ACTIONS)]
        yield DynamoDb(url, admin=admin, keys=new_user(url, "ledger", allow(*actions)))


def free_port() -> int:
    """A port of loopback where nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


@contextlib.contextmanager
def running(command: list[str], port: int, **environment: str) -> Iterator[int]:
    """The server's process id, from its first accepted connection until the block ends."""
    process = subprocess.Popen(
        command,
        env=os.environ | environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        _until(lambda: process.poll() is not None or _accepts(port))
        if process.poll() is not None:
            raise RuntimeError(f"{Path(command[0]).name} ended with {process.returncode}")
        yield process.pid
    finally:
        process.terminate()
        process.wait(timeout=10)


def allow(*actions: str) -> dict[str, object]:
    """The statement that allows these actions on everything: Moto asks for permissions on no less."""
    return {"Effect": "Allow", "Action": list(actions), "Resource": "*"}


def new_user(url: str, name: str, *statements: Mapping[str, object]) -> AwsKeys:
    """Keys of a new user of Moto's with this policy. Three of the calls before its checks are on."""
    policy = json.dumps({"Version": "2012-10-17", "Statement": statements})
    iam(url, Action="CreateUser", UserName=name)
    iam(url, Action="PutUserPolicy", UserName=name, PolicyName="p", PolicyDocument=policy)
    made = iam(url, Action="CreateAccessKey", UserName=name)
    found = {element.tag.rpartition("}")[2]: element.text or "" for element in made.iter()}
    return AwsKeys(found["AccessKeyId"], found["SecretAccessKey"])


def iam(url: str, **parameters: str) -> ET.Element:
    """Moto's answer to a call of IAM that nobody has signed: one of the first, before its checks are on."""
    request = urllib.request.Request(  # noqa: S310 - our own server
        url,
        urlencode({"Version": "2010-05-08", **parameters}).encode(),
        # Moto reads from the signature which service is meant.
        {"authorization": f"AWS4-HMAC-SHA256 Credential=x/20260101/{REGION}/iam/aws4_request"},
    )
    with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310 - our own server
        return ET.fromstring(answer.read())  # noqa: S314 - our own server


def _accepts(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


def _until(holds: Callable[[], bool]) -> None:
    ends_s = time.monotonic() + START_LIMIT_S
    while not holds():
        if time.monotonic() >= ends_s:
            raise TimeoutError(f"not so within {START_LIMIT_S} s")
        time.sleep(0.01)


def _table_status(admin: AwsService) -> str | None:
    try:
        answer = admin.call("DynamoDB_20120810.DescribeTable", {"TableName": TABLE})
    except AwsError as error:
        if error.code != "ResourceNotFoundException":
            raise
        return None
    status: str = answer["Table"]["TableStatus"]
    return status
