"""How far a long run is, on stderr: a line written over on a terminal, elsewhere one each half minute."""

import sys
import time
from collections.abc import Callable
from typing import TextIO

ON_TERMINAL_S = 0.5
ELSEWHERE_S = 30.0
TO_THE_LINES_BEGIN = "\r\x1b[K"


class Progress:
    """Shows that a run lives, seldom enough to cost nothing."""

    def __init__(self, stream: TextIO | None = None, elapsed_s: Callable[[], float] = time.monotonic) -> None:
        self._stream = stream or sys.stderr
        self._elapsed_s = elapsed_s
        self._writes_over = self._stream.isatty()
        self._told_s = elapsed_s()

    def tell(self, text: str) -> None:
        """The text, where it is time for one."""
        now_s = self._elapsed_s()
        if now_s - self._told_s < (ON_TERMINAL_S if self._writes_over else ELSEWHERE_S):
            return
        self._told_s = now_s
        self._write(TO_THE_LINES_BEGIN + text if self._writes_over else f"{text}\n")

    def close(self) -> None:
        """Take the line away: what follows has a clean one."""
        if self._writes_over:
            self._write(TO_THE_LINES_BEGIN)

    def _write(self, text: str) -> None:
        self._stream.write(text)
        self._stream.flush()
