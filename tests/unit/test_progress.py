"""A long run shows that it lives, on a terminal and elsewhere."""

import io

from tests.clocks import FakeClock
from tests.progress import ELSEWHERE_S, ON_TERMINAL_S, Progress


class Terminal(io.StringIO):
    """A stream that a person looks at."""

    def isatty(self) -> bool:
        return True


def told(stream: io.StringIO, wait_s: float) -> str:
    """What three texts come to, the second too soon after the first."""
    clock = FakeClock(0.0)
    progress = Progress(stream, clock.elapsed_s)
    for text in ("one", "two", "three"):
        clock.sleep(wait_s if text != "two" else wait_s / 2)
        progress.tell(text)
        clock.sleep(wait_s / 2)
    progress.close()
    return stream.getvalue()


def test_a_terminal_has_one_line_that_is_written_over_and_taken_away() -> None:
    """Half a second apart at least."""
    assert told(Terminal(), ON_TERMINAL_S) == "\r\x1b[Kone\r\x1b[Ktwo\r\x1b[Kthree\r\x1b[K"


def test_elsewhere_there_is_a_plain_line_each_half_minute() -> None:
    """No control character goes into a file."""
    assert told(io.StringIO(), ELSEWHERE_S) == "one\ntwo\nthree\n"


def test_a_run_that_is_soon_over_tells_nothing() -> None:
    """Its result is there at once."""
    assert told(io.StringIO(), ELSEWHERE_S / 8) == ""
