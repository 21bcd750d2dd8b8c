"""`oncetask` as a program: run to its end, kept running, or looked at on a terminal."""

import fcntl
import os
import pty
import re
import select
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Iterator, Mapping
from contextlib import chdir, contextmanager
from pathlib import Path
from struct import pack

from click.testing import CliRunner

from local.command import main

ROOT = Path(__file__).resolve().parents[2]
COMMAND = [sys.executable, "-P", "-m", "local"]
LIMIT_S = 60.0


def environment(more: Mapping[str, str] | None = None) -> dict[str, str]:
    """A clean one: nothing of who runs the tests."""
    return {
        "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}",
        "PATH": "/usr/bin:/bin",
        "TERM": "xterm-256color",
        "LANG": "C.UTF-8",
        **(more or {}),
    }


def ran(
    *arguments: str, cwd: Path = ROOT, more: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """The command, run to its end in a pipe."""
    return subprocess.run(
        [*COMMAND, *arguments],
        cwd=cwd,
        env=environment(more),
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=LIMIT_S,
        check=False,
    )


_SETTINGS = ("ONCETASK_", "ALIBABA_CLOUD_", "AWS_")


def ran_here(
    *arguments: str, cwd: Path = ROOT, more: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """As `ran`, in this process, which has everything loaded: where many commands are run."""
    nobodys: dict[str, str | None] = {name: None for name in os.environ if name.startswith(_SETTINGS)}
    status: object = None
    with chdir(cwd), CliRunner().isolation(env={**nobodys, **(more or {})}) as (out, err, _):
        try:
            main(list(arguments))
        except SystemExit as ended:
            status = ended.code
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        printed, complained = out.getvalue().decode(), err.getvalue().decode()
    assert isinstance(status, int)
    return subprocess.CompletedProcess(arguments, status, printed, complained)


class Running:
    """A command that goes on, and all that it has printed so far."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process
        self._printed = ""

    def until(self, pattern: str) -> re.Match[str]:
        """Wait until that is printed."""
        ends_s = time.monotonic() + LIMIT_S
        output = self._process.stdout
        assert output is not None
        while time.monotonic() < ends_s:
            found = re.search(pattern, self._printed, re.MULTILINE)
            if found:
                return found
            if select.select([output], [], [], 0.1)[0]:
                self._printed += os.read(output.fileno(), 65_536).decode()
        raise AssertionError(f"{pattern} was not printed, but: {self._printed}")

    def printed(self, *, within_s: float) -> str:
        """All that has been printed once so many seconds have passed."""
        output = self._process.stdout
        assert output is not None
        ends_s = time.monotonic() + within_s
        while (left_s := ends_s - time.monotonic()) > 0:
            if select.select([output], [], [], left_s)[0]:
                self._printed += os.read(output.fileno(), 65_536).decode()
        return self._printed


@contextmanager
def running(*arguments: str, cwd: Path = ROOT, more: Mapping[str, str] | None = None) -> Iterator[Running]:
    """The command, ended by Ctrl-C; its status is then 0."""
    process = subprocess.Popen(
        [*COMMAND, *arguments],
        cwd=cwd,
        env=environment(more),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
    )
    try:
        yield Running(process)
    finally:
        process.send_signal(signal.SIGINT)
        status = process.wait(timeout=20)
        if process.stdout is not None:
            process.stdout.close()
    assert status == 0


_CSI = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
"""A terminal's orders, colours among them."""


def screen_of(
    *arguments: str, columns: int, more: Mapping[str, str] | None = None, until: str | None = None
) -> str:
    """What a terminal of that width is sent until the command ends, or has shown `until`."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, pack("HHHH", 40, columns, 0, 0))
    process = subprocess.Popen(
        [*COMMAND, *arguments], cwd=ROOT, env=environment(more), stdin=theirs, stdout=theirs, stderr=theirs
    )
    os.close(theirs)
    sent, ends_s = b"", time.monotonic() + LIMIT_S
    try:
        while time.monotonic() < ends_s and not (
            until and until in _CSI.sub("", sent.decode(errors="ignore"))
        ):
            if not select.select([ours], [], [], 0.1)[0]:
                if process.poll() is not None:
                    break
                continue
            try:
                sent += os.read(ours, 65_536)
            except OSError:  # the other end is closed
                break
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
        process.wait(timeout=20)
        os.close(ours)
    return sent.decode()
