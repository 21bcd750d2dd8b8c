"""A headless Chromium, spoken to by its own protocol: what a person does on a page, and sees."""

import base64
import fcntl
import json
import os
import shutil
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import websocket

from local.tools import TOOLS, NotInstallable

PACKAGE = "chromium"
INSTALL_LIMIT_S = 300
LIMIT_S = 20.0


def installed() -> str:
    """The program of Debian's package, installed if need be, by one process. Raises NotInstallable."""
    TOOLS.mkdir(exist_ok=True)
    with (TOOLS / f"{PACKAGE}.lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        if not shutil.which(PACKAGE):
            by = [] if os.geteuid() == 0 else ["sudo", "-n"]
            _apt([*by, "apt-get", "-q", "update"])
            _apt([*by, "apt-get", "-qy", "install", "--no-install-recommends", PACKAGE])
    program = shutil.which(PACKAGE)
    if program is None:
        raise NotInstallable(f"{PACKAGE}: the package holds no such program")
    return program


def _apt(command: list[str]) -> None:
    try:
        done = subprocess.run(
            command,
            env=os.environ | {"DEBIAN_FRONTEND": "noninteractive"},
            capture_output=True,
            text=True,
            timeout=INSTALL_LIMIT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NotInstallable(f"{' '.join(command)}: {type(error).__name__}") from error
    if done.returncode:
        raise NotInstallable(f"{' '.join(command)}: {done.stderr.strip()[-500:]}")


class Tab:
    """One page. Every method waits for what it needs, for `LIMIT_S` at most."""

    def __init__(self, socket: websocket.WebSocket) -> None:
        self._socket = socket
        self._number = 0
        self.requested: list[str] = []
        self.complaints: list[str] = []
        for domain in ("Page", "Runtime", "Network", "Log"):
            self._call(f"{domain}.enable")

    def open(self, url: str, *, width: int = 1100, height: int = 900, dark: bool = False) -> None:
        """Go there, in a window of that size."""
        self._call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=False,
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self._call("Emulation.setEmulatedMedia", features=[scheme])
        self._call("Page.navigate", url=url)
        self.until("document.readyState === 'complete'")

    def value(self, expression: str) -> Any:  # noqa: ANN401 - JavaScript's
        """What an expression gives on the page."""
        answer = self._call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def until(self, expression: str) -> None:
        """Wait until it is true."""
        ends_s = time.monotonic() + LIMIT_S
        while time.monotonic() < ends_s:
            if self.value(expression):
                return
            time.sleep(0.1)
        raise AssertionError(f"{expression} did not become true; the page shows: {self.text()}")

    def until_text(self, text: str) -> None:
        """Wait until a person can read that."""
        self.until(f"document.body.innerText.includes({json.dumps(text)})")

    def text(self) -> str:
        """All that a person can read."""
        return str(self.value("document.body.innerText"))

    def click(self, text: str) -> None:
        """Click in the middle of the first button that says that, as a mouse does."""
        self.until(f"{_button(text)} !== undefined")
        place = self.value(
            f"(() => {{ const b = {_button(text)}; b.scrollIntoView({{block: 'center'}}); "
            "const r = b.getBoundingClientRect(); return [r.x + r.width / 2, r.y + r.height / 2]; })()"
        )
        for kind in ("mousePressed", "mouseReleased"):
            self._call(
                "Input.dispatchMouseEvent", type=kind, x=place[0], y=place[1], button="left", clickCount=1
            )

    def press(self, key: str) -> None:
        """Press a key, such as `Tab` or `Enter`."""
        codes = {"Tab": 9, "Enter": 13}
        text = {"text": "\r"} if key == "Enter" else {}
        for kind in ("keyDown", "keyUp"):
            self._call("Input.dispatchKeyEvent", type=kind, key=key, windowsVirtualKeyCode=codes[key], **text)

    def type(self, text: str) -> None:
        """Type into what has the focus."""
        self._call("Input.insertText", text=text)

    def screenshot(self, path: Path) -> None:
        """The window as it is."""
        path.write_bytes(base64.b64decode(self._call("Page.captureScreenshot", format="png")["data"]))

    def accessible_names(self, role: str) -> list[str]:
        """What a screen reader calls everything of that role."""
        self._call("Accessibility.enable")
        nodes = self._call("Accessibility.getFullAXTree")["nodes"]
        return [
            node.get("name", {}).get("value", "")
            for node in nodes
            if node.get("role", {}).get("value") == role and not node.get("ignored")
        ]

    def _call(self, method: str, **parameters: object) -> dict[str, Any]:
        self._number += 1
        self._socket.send(json.dumps({"id": self._number, "method": method, "params": parameters}))
        while True:
            message = json.loads(self._socket.recv())
            if message.get("id") == self._number:
                assert "error" not in message, message
                result: dict[str, Any] = message["result"]
                return result
            self._note(message)

    def _note(self, message: dict[str, Any]) -> None:
        parameters = message.get("params", {})
        match message.get("method"):
            case "Network.requestWillBeSent":
                self.requested.append(parameters["request"]["url"])
            case "Runtime.exceptionThrown":
                self.complaints.append(json.dumps(parameters["exceptionDetails"]))
            case "Log.entryAdded" if parameters["entry"]["level"] == "error":
                self.complaints.append(parameters["entry"]["text"])


def _button(text: str) -> str:
    return f"[...document.querySelectorAll('button')].find(b => b.textContent === {json.dumps(text)})"


@contextmanager
def opened(program: str) -> Iterator[Tab]:
    """A browser with one page. It talks to nobody but who is asked for."""
    with tempfile.TemporaryDirectory() as profile:
        command = [program, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
        command += ["--remote-debugging-port=0", "--remote-debugging-address=127.0.0.1", "--no-first-run"]
        command += [f"--user-data-dir={profile}", "--disable-background-networking", "about:blank"]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            port = _port(Path(profile) / "DevToolsActivePort")
            socket = websocket.create_connection(_page(port), timeout=LIMIT_S, suppress_origin=True)
            try:
                yield Tab(socket)
            finally:
                socket.close()
        finally:
            process.terminate()
            process.wait(timeout=LIMIT_S)


def _port(told: Path) -> int:
    ends_s = time.monotonic() + LIMIT_S
    while time.monotonic() < ends_s:
        if told.is_file() and (lines := told.read_text().splitlines()):
            return int(lines[0])
        time.sleep(0.1)
    raise AssertionError("the browser does not say where it listens")


def _page(port: int) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/json", timeout=LIMIT_S) as answer:
        pages = json.loads(answer.read())
    return str(next(page for page in pages if page["type"] == "page")["webSocketDebuggerUrl"])
