"""The README's webhook in five minutes, typed as it stands there."""

import os
import re
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BLOCK = re.search(
    r"## A real webhook in five minutes\n\n"
    r"```sh\n(?P<before>.*?)[.]/oncetask serve --port 8080 &\n(?P<after>.*?)```",
    (ROOT / "README.md").read_text(encoding="utf-8"),
    re.DOTALL,
)


@pytest.fixture
def port() -> Iterator[int]:
    """Where `oncetask serve` listens, started as the README says and ended by Ctrl-C."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        free_port = int(probe.getsockname()[1])
    assert BLOCK is not None
    script = f"{BLOCK['before']}exec ./oncetask serve --port {free_port}"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COV")}
    server = subprocess.Popen(["/bin/bash", "-c", script], cwd=ROOT, env=environment, start_new_session=True)
    try:
        _wait_for(free_port, server)
        yield free_port
    finally:
        os.killpg(server.pid, signal.SIGINT)
        server.wait(timeout=20)


def _wait_for(port: int, server: subprocess.Popen[bytes]) -> None:
    ends_s = time.monotonic() + 60
    while time.monotonic() < ends_s and server.poll() is None:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    pytest.fail("oncetask serve does not listen")


def deliver(port: int, *, secret_is: str | None = None) -> str:
    """What the README's `curl` prints."""
    assert BLOCK is not None
    before = BLOCK["before"] if secret_is is None else f"export CHECK_HOST_SECRET={secret_is}\n"
    script = before + BLOCK["after"].replace("8080", str(port))
    return subprocess.run(["/bin/bash", "-c", script], capture_output=True, text=True, check=True).stdout


def test_the_webhook_of_the_readme_makes_one_task_and_refuses_a_wrong_secret(port: int) -> None:
    """First 201, the same delivery again 200 and `duplicate`, a wrong signature 401."""
    first = deliver(port)
    again = deliver(port)
    forged = deliver(port, secret_is="whsec_d3Jvbmc=")

    assert first.startswith("HTTP/1.1 201")
    assert again.startswith("HTTP/1.1 200")
    assert '"status":"duplicate"' in again
    assert forged.startswith("HTTP/1.1 401")
