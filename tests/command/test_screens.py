"""How each command looks on a terminal of 80 and of 140 columns."""

import re
from pathlib import Path
from typing import Any

import pytest

from local.screen import End, Screen, end_of, why
from oncetask.ledger.sqlite import SqlStore
from tests.command.programs import screen_of

SGR = re.compile(r"\x1b\[[0-9;]*m|\x1b\[K|\x1b\[\?25[lh]")
SECRETS = {"CHECK_HOST_SECRET": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"}
LONG_ID = f"timer:nightly-assets@{'a-long-group/' + 'nightly' * 12}:2026-11-24T05:00:00Z"
type Result = dict[str, Any]
widths = pytest.mark.parametrize("columns", [80, 140])


def plain(screen: str) -> list[str]:
    """The lines without colours; nothing else of a terminal's orders may be there."""
    text = SGR.sub("", re.sub(r"[^\n]*\r", "", screen.replace("\r\n", "\n")))
    assert "\x1b" not in text
    return text.split("\n")


@widths
def test_run_shows_a_table_that_fits(columns: int) -> None:
    """In colours, with what to try next."""
    screen = screen_of("run", columns=columns)

    lines = plain(screen)
    assert "\x1b[1m" in screen
    assert any(re.match(r"events of +run +as expected +came to", line) for line in lines)
    assert max(len(line) for line in lines if "events" not in line and "oncetask" not in line) <= columns
    assert any("What to try next" in line for line in lines)


@widths
def test_an_id_is_whole_and_alone_however_narrow_the_terminal(columns: int, tmp_path: Path) -> None:
    """No break of ours in it: the terminal folds it, and copying gives it back."""
    arn = f"arn:aws:scheduler:eu-central-1:123456789012:schedule/a-long-group/{'nightly' * 12}"
    event = tmp_path / "event.json"
    event.write_text(
        f'{{"route": "nightly-assets", "schedule": "{arn}", "scheduled_time": "2026-11-24T05:00:00Z"}}'
    )

    routes = tmp_path / "routes.toml"
    routes.write_text('[routes.nightly-assets]\ntrigger = "timer"\ntask_type = "IMAGE_SCAN"\n')

    lines = plain(screen_of("run", "--routes", str(routes), str(event), columns=columns))

    assert LONG_ID in [line.strip() for line in lines]


@widths
def test_routes_and_their_check_are_readable(columns: int, tmp_path: Path) -> None:
    """A caret stands under the character, whatever the width."""
    path = tmp_path / "r.toml"
    path.write_text('[routes.t]\ntrigger = "timer"\ntask_type = "IMAGE_SCAN"\nwhen = "a = b"\n')

    routes = plain(screen_of("routes", columns=columns, more=SECRETS))
    check = plain(screen_of("routes", "check", "--routes", str(path), columns=columns))

    assert all(len(line) <= columns for line in routes if "routes in" not in line)
    at = next(number for number, line in enumerate(check) if line.strip().startswith("when ="))
    assert check[at][check[at + 1].index("^")] == "="


@widths
@pytest.mark.parametrize(
    ("arguments", "shows"),
    [
        (("serve", "--port", "0"), "Ctrl-C ends it."),
        (("emulator", "--port", "0"), "plan faults:"),
        (("console", "--port", "0"), "read-only"),
        (("ledger",), "0 events wait"),
        (("ledger", "list"), "nothing"),
        (("doctor",), "ONCETASK_CREDENTIALS"),
        (("explain", "events/senders/alertmanager-firing.json"), "202 Accepted"),
        (("--help",), "doctor"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_every_screen_shows_what_it_must(
    arguments: tuple[str, ...], shows: str, columns: int, tmp_path: Path
) -> None:
    """Without a traceback, and without orders but colours."""
    more = {**SECRETS, "ONCETASK_LEDGER": f"sqlite://{tmp_path}/ledger.sqlite"}
    SqlStore(tmp_path / "ledger.sqlite").close()
    goes_on = arguments[0] in {"serve", "emulator", "console"}

    lines = plain(screen_of(*arguments, columns=columns, more=more, until=shows if goes_on else None))

    assert any(shows in line for line in lines)
    assert not any("Traceback" in line for line in lines)


def finish(state: str, *, ok: bool | None, failed: int | None = None, total: int | None = None) -> Result:
    """A result of a task that has ended so."""
    ended = {"state": state, "ok": ok, "fail_count": failed, "total_count": total}
    return {"event_id": "a", "status": "finished", "route": "r", "task_id": None, "finish": ended}


UNFINISHED: Result = {"event_id": "a", "status": "created", "route": "r", "task_id": None, "finish": None}


@pytest.mark.parametrize(
    ("result", "end", "told"),
    [
        (UNFINISHED, End.WELL, ""),
        (finish("SUCCESS", ok=True, failed=0, total=3), End.WELL, "SUCCESS"),
        (finish("SUCCESS", ok=None), End.WELL, "SUCCESS"),
        (finish("SUCCESS", ok=None, failed=1, total=3), End.UNSURE, "SUCCESS, 1 of 3 hosts failed"),
        (finish("SUCCESS", ok=False, failed=1, total=1), End.BADLY, "SUCCESS, 1 of 1 host failed"),
        (finish("SUCCESS", ok=False, failed=2), End.BADLY, "SUCCESS, 2 hosts failed"),
        (finish("FAIL", ok=False), End.BADLY, "FAIL"),
        (finish("LOST", ok=False), End.BADLY, "LOST"),
    ],
)
def test_a_task_that_did_not_end_well_is_never_shown_green(result: Result, end: End, told: str) -> None:
    """Whatever its status says; and how many hosts failed is told beside its state."""
    assert (end_of(result), why(result)) == (end, told)


def test_what_came_of_each_host_is_text_below_it(capsys: pytest.CaptureFixture[str]) -> None:
    """Its id alone on its line; codes with their messages, without orders to a terminal, and no report."""
    host = {"uuid": "inet-1", "problem": "offline", "dispatch": "manual", "causes": []}
    host |= {"codes": ["1003: run this\x1b[31m"], "report_url": "https://report.example/secret"}
    silent = {"uuid": "inet-2", "problem": None, "dispatch": None, "codes": [], "causes": []}
    ended = {"state": "SUCCESS", "hosts": [host, silent], "hosts_left_out": 5}

    Screen().hosts({"finish": ended, "hosts_missing": ["web-9"]})

    assert [line.strip() for line in capsys.readouterr().out.splitlines()] == [
        *("inet-1", "offline, manual", "1003: run this\\u001b[31m"),
        *("inet-2", "nothing is said of it", "and 5 more hosts", "no host found for:", "web-9"),
    ]
