"""What is emitted, where emitting fails."""

import contextlib
import io
import json

import pytest

from oncetask.errors import Code, Kind
from oncetask.handlers.telemetry import emit_refusal
from oncetask.models import ErrorInfo
from oncetask.settings import Settings

REFUSED = ErrorInfo(kind=Kind.SENDER, code=Code.UNVERIFIED, message="not verified")


class Broken(io.StringIO):
    """A stream whose reader is gone."""

    def write(self, _text: str) -> int:
        """Fail, as a pipe does."""
        raise BrokenPipeError


def test_what_could_not_be_written_is_in_no_later_line(capsys: pytest.CaptureFixture[str]) -> None:
    """The metrics' provider is kept for the process, and what it holds is not."""
    settings = Settings.from_environment({"POWERTOOLS_SERVICE_NAME": "broken-pipe"})
    emit_refusal(REFUSED, settings, route=None, reason="mismatch")
    with pytest.raises(BrokenPipeError), contextlib.redirect_stdout(Broken()):
        emit_refusal(REFUSED, settings, route=None, reason="mismatch")
    capsys.readouterr()

    emit_refusal(REFUSED, settings, route=None, reason="mismatch")

    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["Unverified"] for line in lines if "_aws" in line] == [[1.0]]
