"""EventBridge and SQS on loopback: they take what they are sent, but for what a test has them refuse."""

import json
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

from oncetask.app import ResultsApp, results_app_of
from oncetask.clock import Clock

REGION = "eu-central-1"
QUEUE = f"https://sqs.{REGION}.amazonaws.com/123456789012/results.fifo"
DEAD_LETTERS = f"https://sqs.{REGION}.amazonaws.com/123456789012/dead.fifo"


class Fault(NamedTuple):
    """A code that one entry, or with a `status` a whole call, is refused with."""

    code: str
    status: int | None = None


@dataclass(repr=False)
class Receiver:
    """What came, and what comes next: `faults` are met one an entry or message, None: taken."""

    url: str
    faults: deque[Fault | None] = field(default_factory=deque)
    bus: list[dict[str, Any]] = field(default_factory=list)
    queues: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    calls: list[list[dict[str, Any]]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    apps: list[ResultsApp] = field(default_factory=list)

    def __repr__(self) -> str:
        """Short: a law that breaks is told with all its arguments."""
        return f"Receiver({self.url!r})"

    def forget(self) -> None:
        """Nothing has come, and no fault is left."""
        for kept in (self.faults, self.bus, self.queues, self.calls, self.headers):
            kept.clear()

    @property
    def results(self) -> list[dict[str, Any]]:
        """Every result that was taken, from wherever, but for dead letters."""
        queued = [message["MessageBody"] for message in self.queues.get(QUEUE, [])]
        return [json.loads(text) for text in [*(entry["Detail"] for entry in self.bus), *queued]]

    @property
    def dead_letters(self) -> list[dict[str, Any]]:
        """The bodies of the dead letters."""
        return [json.loads(message["MessageBody"]) for message in self.queues.get(DEAD_LETTERS, [])]

    def app(self, results: str, clock: Clock, **environment: str) -> ResultsApp:
        """A results function's app that talks to it."""
        made = {
            "ONCETASK_RESULTS": results,
            "ONCETASK_DEAD_LETTERS": DEAD_LETTERS,
            "AWS_ENDPOINT_URL": self.url,
            "AWS_REGION": REGION,
            "AWS_ACCESS_KEY_ID": "AKIAEXAMPLE",
            "AWS_SECRET_ACCESS_KEY": "made-up",
            **environment,
        }
        app = results_app_of(made)
        app.clock = clock
        self.apps.append(app)
        return app

    def answer(self, target: str, document: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        """What a call is answered."""
        if target == "AmazonSQS.SendMessage":
            fault = self._next()
            if fault is not None and fault.code != "MalformedDetail":  # a word of EventBridge's alone
                return fault.status or 400, {"__type": f"com.amazonaws.sqs#{fault.code}", "message": "no"}
            self.queues.setdefault(document["QueueUrl"], []).append(document)
            return 200, {"MessageId": "m"}
        assert target == "AWSEvents.PutEvents"
        entries = document["Entries"]
        self.calls.append(entries)
        if self.faults and self.faults[0] is not None and self.faults[0].status:
            fault = self.faults.popleft()
            assert fault is not None
            return fault.status or 400, {"__type": fault.code, "message": "no"}
        told = [self._told(entry) for entry in entries]
        return 200, {"FailedEntryCount": sum("ErrorCode" in one for one in told), "Entries": told}

    def _told(self, entry: dict[str, Any]) -> dict[str, str]:
        fault = self._next()
        if fault is not None:
            return {"ErrorCode": fault.code, "ErrorMessage": "no"}
        self.bus.append(entry)
        return {"EventId": "e"}

    def _next(self) -> Fault | None:
        return self.faults.popleft() if self.faults else None


@contextmanager
def receiving() -> Iterator[Receiver]:
    """A receiver until the block ends."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_POST(self) -> None:
            document = json.loads(self.rfile.read(int(self.headers["content-length"])))
            receiver.headers.append({name.lower(): value for name, value in self.headers.items()})
            status, answer = receiver.answer(self.headers["x-amz-target"], document)
            body = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the standard library's name
            """Stay quiet."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        receiver = Receiver(f"http://127.0.0.1:{server.server_port}")
        serving = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        serving.start()
        try:
            yield receiver
        finally:
            for app in receiver.apps:
                app.close()
            server.shutdown()
            serving.join()
