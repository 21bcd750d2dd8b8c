"""A built function as AWS Lambda runs it: AWS's Runtime Interface Emulator and client, a process each.

The emulator listens on all addresses unless told otherwise, and a second call while one is under way ends it.
"""

import contextlib
import http.client
import json
import os
import platform
import socket
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from local.tools import python_tool

START_LIMIT_S = 10
INVOKE_LIMIT_S = 60
PATH = "/2015-03-31/functions/function/invocations"
MACHINES = {"x86_64": "x86_64", "aarch64": "arm64"}


class FunctionError(Exception):
    """The function raised, was killed or ran out of time; the emulator says so with HTTP 200."""


@dataclass(frozen=True)
class Sandbox:
    """One process of a function, ready to be invoked, one call at a time; it starts at its first call."""

    pid: int
    port: int
    log_file: Path
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def invoke(self, event: object) -> Any:  # noqa: ANN401 - what the handler returned
        """What the handler returns. Raises FunctionError."""
        with self._lock, contextlib.closing(self._connection()) as connection:
            connection.request("POST", PATH, json.dumps(event), {"content-type": "application/json"})
            response = connection.getresponse()
            body = response.read().decode()
        try:
            answer = json.loads(body)
        except ValueError:
            raise FunctionError(body) from None  # "Task timed out after 3.00 seconds"
        if response.status != http.client.OK or (isinstance(answer, dict) and "errorType" in answer):
            raise FunctionError(body)
        return answer

    def cpu_s(self) -> float:
        """Processor time of the function's own process since its start; other programs do not change it."""
        threads = Path(f"/proc/{self.pid}/task").glob("*/children")  # any thread may have started it
        (child,) = " ".join(children.read_text() for children in threads).split()
        fields = Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def logged(self) -> list[dict[str, Any]]:
        """The JSON lines that the function has written so far."""
        lines = self.log_file.read_text(encoding="utf-8").splitlines()
        return [json.loads(line) for line in lines if line.startswith("{")]

    def _connection(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=INVOKE_LIMIT_S)


@dataclass(frozen=True)
class Launcher:
    """Where AWS's programs are."""

    emulator: Path
    python: Path

    @classmethod
    def installed(cls) -> Self:
        """From the locks of `local/tools`. Raises NotInstallable."""
        (rapid,) = python_tool("sam").parent.glob("lib/python*/site-packages/samcli/local/rapid")
        machine = MACHINES[platform.machine()]
        return cls(rapid / f"aws-lambda-rie-{machine}", python_tool("rie") / "python")

    @contextlib.contextmanager
    def running(
        self, folder: Path, handler: str, log_file: Path, environment: Mapping[str, str]
    ) -> Iterator[Sandbox]:
        """The function of that folder, until the block ends; nothing is written to the folder."""
        invoke_port, runtime_port = free_ports(2)
        command = [
            *(str(self.emulator), "--log-level", "error"),
            *("--runtime-interface-emulator-address", f"127.0.0.1:{invoke_port}"),
            *("--runtime-api-address", f"127.0.0.1:{runtime_port}"),
            *(str(self.python), "-m", "awslambdaric", handler),
        ]
        with (
            log_file.open("w") as log,
            subprocess.Popen(
                command, cwd=folder, env=_as_on_lambda(environment), stdout=log, stderr=subprocess.STDOUT
            ) as process,
        ):
            try:
                _until_listening(invoke_port, process)
                yield Sandbox(process.pid, invoke_port, log_file)
            finally:
                process.terminate()  # it ends its function, too


def free_ports(count: int) -> list[int]:
    """Ports of loopback where nobody listens."""
    with contextlib.ExitStack() as open_sockets:
        listeners = [open_sockets.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [listener.getsockname()[1] for listener in listeners]


def _as_on_lambda(environment: Mapping[str, str]) -> dict[str, str]:
    """What AWS Lambda sets, and the function's own; nothing of this machine's but where programs are."""
    return {
        "PATH": os.environ["PATH"],
        "PYTHONDONTWRITEBYTECODE": "1",  # the folder is read-only there
        "AWS_LAMBDA_FUNCTION_NAME": "oncetask",
        "AWS_LAMBDA_FUNCTION_TIMEOUT": "60",
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "512",
        "AWS_LAMBDA_LOG_FORMAT": "JSON",
        "AWS_REGION": "eu-central-1",
        "AWS_ACCESS_KEY_ID": "AKIAEXAMPLE",
        "AWS_SECRET_ACCESS_KEY": "made-up",
        **environment,
    }


def _until_listening(port: int, process: subprocess.Popen[Any]) -> None:
    ends_s = time.monotonic() + START_LIMIT_S
    while time.monotonic() < ends_s:
        assert process.poll() is None, f"the emulator ended with {process.returncode}"
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.01)
    raise TimeoutError("the emulator does not listen")
