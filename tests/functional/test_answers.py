"""Every answer of Security Center, through the whole path of a timer event."""

from collections.abc import Iterator

import pytest

from local.emulator import Emulator
from oncetask.app import App
from oncetask.clock import Deadline
from oncetask.handlers import timer
from oncetask.models import Result, Status
from tests.answers import ROWS, Row
from tests.clocks import NOW_S, FakeClock
from tests.conftest import MakeApp
from tests.open_records import lanes

ROUTES = """
[routes.nightly]
trigger = "timer"
task_type = "ASSETS_COLLECTION"
param = {items = "PORT_SNAPSHOT"}
"""
SCHEDULE = {
    "schedule": "arn:aws:scheduler:eu-central-1:123456789012:schedule/default/nightly",
    "scheduled_time": "2026-11-24T05:00:00Z",
}
ONE_TASK = {"route": "nightly", **SCHEDULE}
EVENT_ID = "timer:nightly:2026-11-24T05:00:00Z"
TWO_TYPES = {
    "tasks": [
        {"TaskType": "ASSETS_COLLECTION", "Param": {"items": "PORT_SNAPSHOT"}},
        {"TaskType": "IDC_PROBE_SCAN", "Param": {}},
    ],
    **SCHEDULE,
}

each_row = pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)


@pytest.fixture
def app(row: Row, make_app: MakeApp, emulator: Emulator) -> Iterator[App]:
    """An app whose next ask meets the row's answer."""
    environment = row.arrange(emulator)
    app = make_app(ROUTES, clock=FakeClock(), **environment)
    yield app
    app.ledger.store.close()


def creates(emulator: Emulator) -> int:
    """How many GenerateOnceTask calls have come."""
    return sum(call.action == "GenerateOnceTask" for call in emulator.calls)


@each_row
def test_an_answer_becomes_what_the_contract_names(row: Row, app: App, emulator: Emulator) -> None:
    """Result, record and lane are the row's, after one call at the service and one task at most."""
    [result] = timer.handle(app, ONE_TASK, Deadline.after(30, app.clock)).results

    error = result.error
    assert (result.status, error and error.code, error and error.kind) == (row.status, row.code, row.kind)
    assert (result.task_id is not None) == (row.status is Status.CREATED)
    assert (result.event_id, result.attempts) == (EVENT_ID, 1)
    assert_recorded(row, app, result)
    assert (creates(emulator), len(emulator.tasks) <= 1) == (row.calls, True)


def assert_recorded(row: Row, app: App, result: Result) -> None:
    """The record agrees with the result and is due in time; only a lost answer keeps its type's lane."""
    event = app.ledger.event(EVENT_ID)
    assert event is not None
    assert event.result() == result
    assert event.waits == (row.status in {Status.PENDING, Status.UNKNOWN})
    if row.wait_s is not None:
        assert row.wait_s[0] <= round(event.due_s - NOW_S, 3) <= row.wait_s[1]
    assert bool(lanes(app.ledger)) == (row.status is Status.UNKNOWN)


@each_row
def test_an_answer_says_whether_the_tick_asks_on(row: Row, app: App, emulator: Emulator) -> None:
    """After an answer that ends the asking, the tick's next event, of another type, waits unasked."""
    _, second = timer.handle(app, TWO_TYPES, Deadline.after(30, app.clock)).results

    if row.ends != "everything":
        assert (second.attempts, creates(emulator)) == (1, row.calls + bool(row.calls))
    else:
        assert (second.status, second.attempts, second.error) == (Status.PENDING, 0, None)
        assert creates(emulator) == row.calls


@pytest.mark.parametrize(
    "row", [row for row in ROWS if row.name in {"a task", "reset after the task", "throttled without a time"}]
)
def test_the_same_tick_again_asks_nothing(row: Row, app: App, emulator: Emulator) -> None:
    """A tick that comes twice is answered from the record, whether or not the first made a task."""
    [first] = timer.handle(app, ONE_TASK, Deadline.after(30, app.clock)).results

    [again] = timer.handle(app, ONE_TASK, Deadline.after(30, app.clock)).results

    assert creates(emulator) == row.calls
    assert again.status == (Status.DUPLICATE if row.status is Status.CREATED else first.status)
    assert again.attempts == first.attempts


def test_the_table_names_every_row_once() -> None:
    """Names identify rows, and each has words for the table of docs/results.md."""
    names = [row.name for row in ROWS]

    assert len(set(names)) == len(names)
    assert all(row.says for row in ROWS)
