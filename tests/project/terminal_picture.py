"""What `make run` prints on a terminal, as a picture: `docs/run.svg`."""

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from io import StringIO

from rich.console import Console
from rich.terminal_theme import TerminalTheme
from rich.text import Text

from local.tools import PROJECT

COLUMNS = 110
ROWS = 24
"""What fits on the terminal; as on any other, the last lines stay where there are more."""

_TASK_ID = re.compile(r"(?<![0-9a-f-])[0-9a-f]{12,32}(?=[\x1b\s…]|$)")
"""The emulator's task ids are drawn at random, and a picture that is written twice must be the same."""

_THEME = TerminalTheme(
    (24, 28, 36),
    (214, 219, 228),
    [
        (24, 28, 36),
        (240, 113, 120),
        (140, 203, 128),
        (229, 192, 123),
        (110, 176, 255),
        (198, 146, 233),
        (97, 205, 214),
        (214, 219, 228),
    ],
)
"""A window of its own colours, so that it can be read on a white page and on a black one."""

_SVG = """\
<svg class="rich-terminal" viewBox="0 0 {width} {height}" xmlns="http://www.w3.org/2000/svg">
<style>
.{unique_id}-matrix {{ font: {char_height}px ui-monospace, Menlo, Consolas, "DejaVu Sans Mono", monospace; \
line-height: {line_height}px; font-variant-east-asian: full-width }}
.{unique_id}-title {{ font: bold 18px sans-serif }}
{styles}
</style>
<defs>
<clipPath id="{unique_id}-clip-terminal">
<rect x="0" y="0" width="{terminal_width}" height="{terminal_height}" />
</clipPath>
{lines}
</defs>
{chrome}
<g transform="translate({terminal_x}, {terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}
<g class="{unique_id}-matrix">
{matrix}
</g>
</g>
</svg>
"""
"""Rich's own, but that no font is loaded from elsewhere."""


def picture() -> str:
    """The SVG of a terminal window in which `make run` has just ended. Raises CalledProcessError."""
    shown = Text.from_ansi("\x1b[1m$ make run\x1b[0m\n" + _last_lines(_printed()))
    console = Console(
        record=True, width=COLUMNS, file=StringIO(), force_terminal=True, color_system="standard"
    )
    console.print(shown, no_wrap=True, overflow="crop")
    return console.export_svg(title="oncetask", theme=_THEME, code_format=_SVG, unique_id="run")


def _last_lines(printed: str) -> str:
    lines = _TASK_ID.sub(lambda found: "0" * len(found[0]), printed).rstrip().splitlines()
    return "\n".join(lines[-(ROWS - 1) :])


def _printed() -> str:
    """What the program that `make run` starts writes on a terminal; how far it is goes to another."""
    ours, its = pty.openpty()
    fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
    spared = ("COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR", "COV")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(spared)}
    environment |= {"TERM": "xterm-256color", "PYTHONPATH": "src:."}
    command = [sys.executable, "-m", "local", "run"]
    with subprocess.Popen(
        command, cwd=PROJECT, env=environment, stdin=its, stdout=its, stderr=subprocess.DEVNULL
    ) as process:
        os.close(its)
        printed = _all_of(ours)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    return printed.replace("\r\n", "\n")


def _all_of(terminal: int) -> str:
    """Everything until nobody writes to it any more, which Linux tells by an error."""
    parts = []
    with os.fdopen(terminal, "rb", buffering=0) as reader:
        try:
            while part := reader.read(65_536):
                parts.append(part)
        except OSError:
            pass
    return b"".join(parts).decode()
