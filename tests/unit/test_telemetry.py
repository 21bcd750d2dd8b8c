"""What is emitted, where emitting fails."""

import contextlib
import io
import json

import pytest

from oncetask.errors import Code, Kind
from oncetask.handlers.telemetry import emit, emit_refusal
from oncetask.models import EndState, ErrorInfo, Finish, Result, Status, Trigger
from oncetask.settings import Settings
from oncetask.submit.submit import Report

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


@pytest.mark.parametrize(("state", "failed"), [("SUCCESS", None), ("FAIL", [1.0]), ("TIMEOUT", [1.0])])
def test_a_task_that_ended_without_success_is_counted_also_by_route(
    state: EndState, failed: list[float] | None, capsys: pytest.CaptureFixture[str]
) -> None:
    """`TaskFailed`, beside `Finished`: an alarm rings for it."""
    at = "2026-11-24T05:00:00.000Z"
    result = Result(
        event_id="webhook:r:1",
        status=Status.FINISHED,
        trigger=Trigger.WEBHOOK,
        route="r",
        finish=Finish(state=state, ok=state == "SUCCESS", finished_at=at),
        received_at=at,
    )

    emit(Report(results=[result]), Settings.from_environment({"POWERTOOLS_SERVICE_NAME": f"failed-{state}"}))

    emitted = [json.loads(line) for line in capsys.readouterr().out.splitlines() if "_aws" in line]
    assert [line.get("Finished") for line in emitted if "route" not in line] == [[1.0]]
    assert [line.get("TaskFailed") for line in emitted if "route" not in line] == [failed]
    assert [line["TaskFailed"] for line in emitted if "route" in line] == ([failed] if failed else [])
