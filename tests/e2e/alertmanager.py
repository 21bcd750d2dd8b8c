"""A real Alertmanager and a real `oncetask serve`, each a process on 127.0.0.1 of its own."""

import contextlib
import fcntl
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO

from local.tools import PROJECT, TOOLS, NotInstallable

PACKAGE = "prometheus-alertmanager"
APT = ("apt-get", "-o", "DPkg::Lock::Timeout=60", "-y", "-qq")
INSTALL_LIMIT_S = 180
START_LIMIT_S = 20
STOP_LIMIT_S = 10

_FAILED_REQUESTS = re.compile(
    r'^alertmanager_notification_requests_failed_total{integration="webhook".*} (.+)$', re.MULTILINE
)


def installed() -> str:
    """The program of Debian's package, installed if need be, by one process. Raises NotInstallable."""
    TOOLS.mkdir(exist_ok=True)
    with (TOOLS / "alertmanager.lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        if not shutil.which(PACKAGE):
            by = () if os.geteuid() == 0 else ("sudo", "-n")
            _apt(*by, *APT, "update")
            _apt(*by, *APT, "install", "--no-install-recommends", PACKAGE)
    program = shutil.which(PACKAGE)
    if program is None:
        raise NotInstallable(f"{PACKAGE}: the package holds no such program")
    return program


def _apt(*command: str) -> None:
    shown = f"{PACKAGE}: {' '.join(command)}"
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    try:
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=INSTALL_LIMIT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NotInstallable(f"{shown}: {type(error).__name__}") from error
    if done.returncode:
        raise NotInstallable(f"{shown}: {done.stderr.strip()[-500:]}")


@dataclass(frozen=True)
class Alertmanager:
    """One that notifies as its configuration says."""

    url: str

    def fire(self, name: str, **labels: str) -> None:
        """An alert that began now and lasts."""
        alert = {"labels": {"alertname": name, **labels}, "startsAt": datetime.now(UTC).isoformat()}
        request = urllib.request.Request(  # noqa: S310 - our own, on loopback
            f"{self.url}/api/v2/alerts",
            json.dumps([alert]).encode(),
            {"content-type": "application/json"},
        )
        urllib.request.urlopen(request, timeout=5).close()  # noqa: S310 - likewise

    def failed_requests(self) -> int:
        """How many of its requests to webhooks were answered with anything but 2xx, by its own count."""
        with urllib.request.urlopen(f"{self.url}/metrics", timeout=5) as answer:  # noqa: S310 - likewise
            metrics = answer.read().decode()
        line = _FAILED_REQUESTS.search(metrics)
        return int(float(line[1])) if line else 0


@dataclass(frozen=True)
class Server:
    """`oncetask serve`, and the results that it has printed."""

    url: str
    results: list[dict[str, Any]] = field(default_factory=list)

    def result(self, limit_s: float, fits: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """The first result that fits, waited for. Raises TimeoutError."""
        ends_s = time.monotonic() + limit_s
        while time.monotonic() < ends_s:
            for result in list(self.results):
                if fits(result):
                    return result
            time.sleep(0.05)
        seen = [(result["event_id"], result["status"]) for result in self.results]
        raise TimeoutError(f"nothing fits within {limit_s} s among {seen}")


@contextlib.contextmanager
def alertmanager(program: str, configuration: Path) -> Iterator[Alertmanager]:
    """One with that configuration, without gossip, ready; its data lies beside the configuration."""
    address = f"127.0.0.1:{_free_port()}"
    command = [
        program,
        f"--config.file={configuration}",
        f"--storage.path={configuration.with_name('data')}",
        f"--web.listen-address={address}",
        "--cluster.listen-address=",
    ]
    with configuration.with_name("alertmanager.log").open("wb") as log, _process(command, log) as process:
        _wait_until_ready(f"http://{address}/-/ready", process)
        yield Alertmanager(f"http://{address}")


@contextlib.contextmanager
def server(environment: Mapping[str, str], log_file: Path) -> Iterator[Server]:
    """By these settings, ready; it asks whom they name, and sweeps every few seconds."""
    port = _free_port()
    arguments = ("--port", str(port), "--live", "--json", "--sweep-every", "3s")
    command = [sys.executable, "-m", "local", "serve", *arguments]
    settings = {"PATH": os.environ["PATH"], "PYTHONPATH": "src:.", **environment}
    with log_file.open("wb") as log, _process(command, log, settings) as process:
        running = Server(f"http://127.0.0.1:{port}")
        reader = threading.Thread(target=_read_results, args=(process, running.results), daemon=True)
        reader.start()
        _wait_until_ready(running.url, process)
        yield running
    reader.join(STOP_LIMIT_S)


def _read_results(process: subprocess.Popen[bytes], results: list[dict[str, Any]]) -> None:
    if process.stdout is None:
        return
    with process.stdout as lines:
        for line in lines:
            result: dict[str, Any] = json.loads(line)
            results.append(result)


@contextlib.contextmanager
def _process(
    command: list[str],
    log: BinaryIO,
    environment: Mapping[str, str] | None = None,
) -> Iterator[subprocess.Popen[bytes]]:
    """A child of ours, ended by its own id; what is asked of it comes through `stdout`, if anything does."""
    stdout = log if environment is None else subprocess.PIPE
    process = subprocess.Popen(command, cwd=PROJECT, env=environment, stdout=stdout, stderr=log)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(STOP_LIMIT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_until_ready(url: str, process: subprocess.Popen[bytes]) -> None:
    ends_s = time.monotonic() + START_LIMIT_S
    while process.poll() is None and time.monotonic() < ends_s:
        try:
            urllib.request.urlopen(url, timeout=1).close()  # noqa: S310 - our own, on loopback
        except urllib.error.HTTPError as error:
            error.close()
            if error.code < 500:
                return  # it answers: no more is asked of it
        except OSError:
            pass
        else:
            return
        time.sleep(0.05)
    raise TimeoutError(f"{process.args!r} is not ready: it has ended with {process.poll()}")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
