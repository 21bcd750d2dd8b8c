"""An AWS endpoint on loopback that answers what a test wrote down, in that order."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from oncetask.aws.client import AwsService
from oncetask.aws.sigv4 import AwsKeys
from oncetask.clock import Clock

KEYS = AwsKeys("AKIASCRIPTED", "scripted-secret", "scripted-token")


@dataclass(frozen=True)
class Says:
    """An answer. `then_closes`: the connection, without having said so."""

    status: int
    body: bytes
    then_closes: bool = False


@dataclass(frozen=True)
class HangsUp:
    """No answer: the request is read and the connection closed."""


@dataclass(frozen=True)
class IsSilent:
    """No answer, and the connection stays open until the script ends."""


Step = Says | HangsUp | IsSilent


def ok(document: dict[str, Any] | None = None, *, then_closes: bool = False) -> Says:
    """A call that worked."""
    return Says(200, json.dumps(document or {}).encode(), then_closes)


def error(code: str, status: int = 400, message: str = "no") -> Says:
    """DynamoDB's own form of an error."""
    kind = f"com.amazonaws.dynamodb.v20120810#{code}"
    return Says(status, json.dumps({"__type": kind, "message": message}).encode())


@dataclass
class Script:
    """What is answered, and what was asked."""

    url: str
    steps: list[Step]
    asked: list[str] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    connections: list[int] = field(default_factory=list)
    ended: threading.Event = field(default_factory=threading.Event)
    services: list[AwsService] = field(default_factory=list)

    def service(self, clock: Clock, name: str = "dynamodb", read_timeout_s: float = 5.0) -> AwsService:
        """A connection to it, closed when the script ends."""
        made = AwsService(
            name,
            region="eu-central-1",
            keys=KEYS,
            clock=clock,
            endpoint_url=self.url,
            read_timeout_s=read_timeout_s,
        )
        self.services.append(made)
        return made


@contextmanager
def scripted(*steps: Step) -> Iterator[Script]:
    """The endpoint until the block ends; every step must have been used by then."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_POST(self) -> None:
            script.asked.append(self.headers.get("x-amz-target", "").rpartition(".")[2])
            script.headers.append({name.lower(): value for name, value in self.headers.items()})
            script.connections.append(self.client_address[1])
            script.bodies.append(self.rfile.read(int(self.headers["content-length"])))
            step = script.steps.pop(0)
            if isinstance(step, Says):
                self.send_response(step.status)
                self.send_header("content-length", str(len(step.body)))
                self.end_headers()
                self.wfile.write(step.body)
                self.close_connection = step.then_closes
            else:
                if isinstance(step, IsSilent):
                    script.ended.wait(30)
                self.close_connection = True

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the standard library's name
            """Stay quiet."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        script = Script(f"http://127.0.0.1:{server.server_port}", list(steps))
        serving = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        serving.start()
        try:
            yield script
        finally:
            script.ended.set()
            for service in script.services:
                service.close()
            server.shutdown()
            serving.join()
    assert script.steps == [], "not everything was asked for"
