"""A small world for tests of the sweep: one clock for ledger and emulator, and short words for both."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from local.emulator import Call, Emulator
from local.operator import CallOfEvent, call_of
from oncetask.app import App
from oncetask.clock import Deadline
from oncetask.errors import LedgerUnavailable
from oncetask.handlers import sweep
from oncetask.ledger.ledger import Ledger
from oncetask.ledger.records import Event
from oncetask.ledger.sqlite import SqlStore
from oncetask.ledger.store import Row
from oncetask.models import Result, Status, TaskRequest, Trigger
from oncetask.submit.report import Report
from oncetask.sweep.context import SweepReport
from tests.clocks import FakeClock

CHECK = "CLIENT_PROBLEM_CHECK"
"""A type that DescribeOnceTask knows."""
SCAN = "IMAGE_SCAN"
"""A type of which only the last task is shown."""
INVOCATION_S = 60.0
type Hook = Callable[[int], None]


@dataclass(slots=True)
class World:
    """An app, its clock and its Security Center."""

    app: App
    clock: FakeClock
    emulator: Emulator

    @property
    def ledger(self) -> Ledger:
        """The app's ledger."""
        return self.app.ledger

    def quiet(self) -> SweepReport:
        """Sweeps until nothing can be left over from any death: their reports in one."""
        total = SweepReport()
        for pause_s in (70, *(60,) * 7):
            report = self.sweep_after(pause_s)
            total.results += report.results
            total.second_tasks += report.second_tasks
        return total

    def draft(self, name: str, *, targets: str | None = "inet-1", **fields: object) -> Event:
        """An event that comes now, of a `submit = "sweep"` route; without targets it coalesces with none."""
        task_type = str(fields.pop("task_type", CHECK))
        param = {"mode": 1, "problemType": "offline"} | ({"uuids": targets} if targets else {})
        now_s = self.clock.now_s()
        event = Event(
            event_id=f"webhook:agents:{name}",
            status=Status.PENDING,
            trigger=Trigger.WEBHOOK,
            route="agents",
            item_sha256=None,
            request=TaskRequest(task_type=task_type, task_name=task_type, param=param, source="oncetask"),
            submit="sweep",
            target_key="uuids" if targets else None,
            max_targets=100,
            order=0,
            received_s=now_s,
            due_s=now_s,
            give_up_s=now_s + 604_800,
            keep_s=604_800,
        )
        return event.model_copy(update=fields)

    def record(self, *drafts: Event) -> Report:
        """One delivery of these."""
        return self.app.submitter.submit(drafts, deadline=Deadline.after(30, self.clock))

    def sweep(self, invocation_s: float = INVOCATION_S) -> SweepReport:
        """One sweep."""
        return sweep.handle(self.app, Deadline.after(invocation_s, self.clock))

    def sweep_after(self, *seconds: float) -> SweepReport:
        """A sweep after each of these pauses: the last one's report."""
        report = SweepReport()
        for pause_s in seconds:
            self.clock.advance(pause_s)
            report = self.sweep()
        return report

    def event(self, name: str) -> Event:
        """Where the event stands."""
        event = self.ledger.event(f"webhook:agents:{name}")
        assert event is not None
        return event

    def call_of(self, name: str) -> CallOfEvent:
        """The call that the event waits for, or waited for last."""
        found = call_of(self.app, self.event(name))
        assert found is not None
        return found

    def statuses(self, *names: str) -> list[Status]:
        """Where the events stand, in a word."""
        return [self.event(name).status for name in names]

    def calls(self, action: str = "GenerateOnceTask") -> list[Call]:
        """What was called so far."""
        return [call for call in self.emulator.calls if call.action == action]

    def targets(self) -> list[tuple[str, ...]]:
        """The targets of each task there is."""
        return [task.targets for task in self.emulator.tasks]


class HookedStore(SqlStore):
    """A store that tells of every write, with the number of writes before it: in memory, or in a file."""

    def __init__(self, path: Path | None = None) -> None:
        super().__init__(path)
        self.before_put: Hook = lambda _: None
        self.after_put: Hook = lambda _: None
        self.puts = 0

    def put(self, row: Row, *, replacing: str | None) -> bool:
        number, self.puts = self.puts, self.puts + 1
        self.before_put(number)
        done = super().put(row, replacing=replacing)
        self.after_put(number)
        return done


def failing_at(number: int) -> Hook:
    """The ledger cannot be reached at that write, nor at any later one."""

    def fail(puts: int) -> None:
        if puts >= number:
            raise LedgerUnavailable("out of reach")

    return fail


def one(results: list[Result]) -> Result:
    """The only one."""
    [result] = results
    return result


def error_code(event: Event | Result) -> str | None:
    """Its error's code."""
    return event.error.code if event.error else None
