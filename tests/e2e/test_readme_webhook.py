"""The README's webhook in five minutes, pasted whole into a terminal."""

import os
import pty
import re
import socket
import subprocess
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BLOCK = re.findall(
    r"## A webhook in five minutes\n.*?\n```sh\n(.*?)```",
    (ROOT / "README.md").read_text(encoding="utf-8"),
    re.DOTALL,
)[0]
SHOWN_PORT = 8080
ANSWER = re.compile(r'HTTP/1\.1 (\d+).*?(\{"results".*?)$', re.MULTILINE | re.DOTALL)
LONGEST_S = 90


def environment() -> dict[str, str]:
    """What a user's shell would have; nothing of this one's measuring."""
    ours = {name: value for name, value in os.environ.items() if not name.startswith("COV")}
    return ours | {"HISTFILE": "/dev/null"}


def pasted(block: str) -> str:
    """Everything that the terminal shows where all lines are pasted at once, and then `exit`."""
    ours, its = pty.openpty()
    shell = ["/bin/bash", "--norc", "--noprofile", "-i"]
    with subprocess.Popen(
        shell, cwd=ROOT, env=environment(), stdin=its, stdout=its, stderr=its, start_new_session=True
    ) as process:
        os.close(its)
        os.write(ours, f"{block}exit\n".encode())
        shown = _all_of(ours)
        process.wait(timeout=LONGEST_S)
    return shown.replace("\r\n", "\n")


def _all_of(terminal: int) -> str:
    """Until nobody has it open any more, which Linux tells by an error."""
    shown, ends_s = b"", time.monotonic() + LONGEST_S
    with os.fdopen(terminal, "rb", buffering=0) as reader:
        try:
            while time.monotonic() < ends_s and (part := reader.read(65_536)):
                shown += part
        except OSError:
            pass
    return shown.decode(errors="replace")


def test_the_webhook_of_the_readme_works_pasted_whole() -> None:
    """Recorded, a duplicate of the task that the sweep made, a wrong token refused; and no server is left.
    Only the port is another.
    """
    port = free_port()

    shown = pasted(BLOCK.replace(str(SHOWN_PORT), str(port)))

    answers = ANSWER.findall(shown)
    assert [status for status, _ in answers] == ["202", "200", "401"], shown
    recorded, again, refused = (body for _, body in answers)
    assert '"status":"pending"' in recorded
    assert '"status":"duplicate"' in again
    assert re.search(r'"task_id":"[0-9a-f]+"', again)
    assert '"code":"Unverified"' in refused
    assert not is_listening(port)


def free_port() -> int:
    """A port of loopback that nobody has."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def is_listening(port: int) -> bool:
    """Whether somebody still does; a server that was just ended has a moment to go."""
    ends_s = time.monotonic() + 5
    while time.monotonic() < ends_s:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) != 0:
                return False
        time.sleep(0.05)
    return True
