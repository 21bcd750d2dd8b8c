"""What all phases of one sweep share: its ledger, its time, and what it has changed so far."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from oncetask.clock import Deadline
from oncetask.errors import Code, DamagedRecord, QueryFailed
from oncetask.ledger.ledger import Ledger
from oncetask.ledger.records import Event, Lease, TaskRecord
from oncetask.models import Result
from oncetask.submit.call import Called, Caller
from oncetask.submit.report import Heeded, Report
from oncetask.submit.resolution import Resolver
from oncetask.submit.submit import damaged

if TYPE_CHECKING:
    from oncetask.alibaba.security_center import SecurityCenter

CALL_MARGIN_S = 1.0
"""A call ends a second before its deadline; a sweep, which ends before its invocation, has that second."""
NOBODY = "nobody"
"""Has the tasks whose record is damaged, so that no call takes them for its own."""


class Gauges(NamedTuple):
    """How much is open; each exact up to 10,000."""

    waiting: int
    running: int
    oldest_waiting_s: int


@dataclass(slots=True)
class SweepReport(Report):
    """What one sweep did; `gauges` tell what is left. `shared_by`: how many events each new task serves."""

    gauges: Gauges = field(default=Gauges(0, 0, 0))
    shared_by: list[int] = field(default_factory=list)
    failed_queries: list[QueryFailed] = field(default_factory=list)
    damaged_keys: list[str] = field(default_factory=list)
    newer_keys: list[str] = field(default_factory=list)

    @property
    def events_per_task(self) -> float:
        """The mean over the tasks that were made; 0 where none was."""
        return sum(self.shared_by) / len(self.shared_by) if self.shared_by else 0.0


class Rules(NamedTuple):
    """What settings and routes file say to a sweep. `queues`: of the file's routes; `max_open` by queue."""

    look_s: int
    read_timeout_s: float
    task_types: tuple[str, ...]
    queues: tuple[str, ...] = ()
    max_open: dict[str, int] = {}  # noqa: RUF012 - a NamedTuple's default, never changed


@dataclass(slots=True)
class Open:
    """What is open, as this sweep found it and changes it: event id to when it was received, and tasks."""

    waiting: dict[str, float] = field(default_factory=dict)
    running: set[str] = field(default_factory=set)

    def take_in(self, event: Event) -> None:
        """The event as it stands now."""
        if event.waits:
            self.waiting.setdefault(event.event_id, event.received_s)
        else:
            self.waiting.pop(event.event_id, None)

    def gauges(self, now_s: float) -> Gauges:
        """How much that is."""
        oldest_s = max((now_s - received_s for received_s in self.waiting.values()), default=0)
        return Gauges(len(self.waiting), len(self.running), max(0, int(oldest_s)))


@dataclass(slots=True)
class Context:
    """One pass's surroundings. `heeded`: what the answers so far say of further calls."""

    caller: Caller
    rules: Rules
    report: SweepReport
    deadline: Deadline
    length_s: float
    lease: Lease
    open: Open = field(default_factory=Open)
    heeded: Heeded = field(default_factory=Heeded)
    results: dict[str, Result] = field(default_factory=dict)
    _resolver: Resolver | None = None

    @property
    def ledger(self) -> Ledger:
        """The caller's."""
        return self.caller.ledger

    @property
    def security_center(self) -> "SecurityCenter":
        """The caller's."""
        return self.caller.security_center()

    def resolver(self) -> Resolver:
        """The sweep's lookups of hosts."""
        if self._resolver is None:
            self._resolver = self.caller.resolver(self.deadline, self.change)
            self._resolver.take_in = self.open.take_in
            self.report.ambiguous_hosts = self._resolver.ambiguous
        return self._resolver

    def now_s(self) -> float:
        """The time."""
        return self.caller.clock.now_s()

    def is_in_time(self) -> bool:
        """Whether a query may still begin."""
        return self.caller.has_time(self.deadline)

    def is_in_time_to_call(self) -> bool:
        """Not so late that the sweep's end would cut the answer off, and make a lost one of it."""
        needs_s = min(self.security_center.call_timeout_s(), self.length_s / 2)
        return self.is_in_time() and self.deadline.left_s() - CALL_MARGIN_S >= needs_s

    def is_in_time_to_write(self) -> bool:
        """Whether the sweep's own time goes on."""
        return self.deadline.left_s() > CALL_MARGIN_S

    # -- changes ------------------------------------------------------------------------------

    def change(self, event_id: str, change: Callable[[Event], Event]) -> Event | None:
        """Change one event, and report it if that changed where it stands."""
        before: list[Event] = []

        def remembered(event: Event) -> Event:
            before[:] = [event]
            return change(event)

        try:
            after = self.ledger.change_event(event_id, remembered)
        except DamagedRecord as error:
            self.set_aside(error.key)
            return None
        if after is not None and after is not before[0]:
            self.note(after)
        return after

    def note(self, event: Event) -> None:
        """Report where an event stands from now on."""
        self.results[event.event_id] = event.result()
        self.open.take_in(event)

    def take_in(self, called: Called) -> None:
        """Report where a call left its events, and heed what its answer says of further calls."""
        for event in called.events:
            is_second = event.error is not None and event.error.code == Code.SECOND_TASK
            if event.call_id == called.call.call_id or is_second:
                self.note(event)
        self.heeded.heed(called.call.request.task_type, called.answer)
        if called.answer.task_id is not None:
            self.report.shared_by.append(len(called.call.events))
            self.open.running.add(called.answer.task_id)
        if not called.is_resolved:
            self.heeded.closed_types.add(called.call.request.task_type)

    def set_aside(self, key: str) -> None:
        """Report a damaged record, once, and go on; a newer version's stays, and is reported each time."""
        if not self.ledger.set_aside(key):
            self.report.newer_keys += [key] if self.ledger.is_newer(key) else []
            return
        self.report.damaged_keys.append(key)
        kind, _, name = key.partition("/")
        if kind == "event":
            self.results[name] = damaged(name, self.now_s())
            self.open.waiting.pop(name, None)

    def reports_newer(self, damaged_keys: Iterable[str]) -> bool:
        """Whether a newer version wrote one of these records, each of which is reported. What concerns such
        a record is left to that version as a whole, or nobody would tell its events.
        """
        newer_keys = [key for key in damaged_keys if self.ledger.is_newer(key)]
        self.report.newer_keys += newer_keys
        return bool(newer_keys)

    @contextmanager
    def leaving_damage(self) -> Iterator[None]:
        """A damaged record that is met inside ends the block: it is reported, and the sweep goes on."""
        try:
            yield
        except DamagedRecord as error:
            self.set_aside(error.key)

    def record_of(self, task_id: str) -> TaskRecord | None:
        """The task's record; one that is damaged is nobody's from now on."""
        try:
            return self.ledger.task(task_id)
        except DamagedRecord as error:
            keys = self.report.newer_keys if self.ledger.is_newer(error.key) else self.report.damaged_keys
            keys.append(error.key)
            return self.ledger.claim_task(
                TaskRecord(
                    task_id=task_id,
                    call_id=NOBODY,
                    task_type="",
                    task_name="",
                    since_s=self.now_s(),
                    is_candidate=True,
                )
            )
