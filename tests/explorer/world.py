"""What a scenario is made of: one store and one service, and a process of its own for each actor."""

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, cast

from local import operator
from oncetask.clock import Deadline
from oncetask.ledger.ledger import Ledger
from oncetask.ledger.records import RUNNING_QUEUE, Event, Lease, lane_key
from oncetask.models import TASK_TYPES, Status, TaskRequest, Trigger
from oncetask.submit.call import Caller
from oncetask.submit.submit import Submitter
from oncetask.sweep.context import Rules
from oncetask.sweep.search import WATCHED_S
from oncetask.sweep.sweep import Sweeper
from tests.clocks import NOW_S
from tests.explorer.scheduler import Schedule, Scheduler
from tests.explorer.service import TIMEOUT_S, ExploredService
from tests.explorer.store import ExploredStore

if TYPE_CHECKING:
    from oncetask.alibaba.security_center import SecurityCenter
    from oncetask.app import App

CHECK = "CLIENT_PROBLEM_CHECK"
"""A type that DescribeOnceTask knows."""
SCAN = "IMAGE_SCAN"
"""A type of which only the last task is shown."""
HOSTS = "CLIENT_DEV_OPS"
"""A type that is never asked for twice."""

LOOK_S = 180
EXPIRE_S = 6 * 3600.0
INVOCATION_S = 60.0
SWEEP_S = 60.0
MOST_SWEEPS = 100
"""Healed, nothing takes more: six hours, with a jump to whatever is due next."""

type Program = Callable[[], None]


class Process:
    """One process: what it remembers is its own. It is all of an app that `local.operator` needs."""

    def __init__(self, world: "World") -> None:
        self.clock = world.scheduler
        self.ledger = Ledger(world.store, self.clock)
        self.security_center = cast("SecurityCenter", world.service)
        self.caller = Caller(self.ledger, lambda: self.security_center, self.clock, lambda seconds: seconds)
        self.submitter = Submitter(self.caller)
        self.sweeper = Sweeper(self.caller, world.rules)
        self.routes: dict[str, object] = {}

    def deadline(self, _remaining_ms: int | None = None) -> Deadline:
        """The invocation's."""
        return Deadline.after(INVOCATION_S, self.clock)


class World:
    """What a scenario sets up. `expires`: its events may end without a task; `has_foreign`: they may get
    another tool's, which is a named limit.
    """

    def __init__(self, schedule: Schedule = ()) -> None:
        self.scheduler = Scheduler(schedule, NOW_S)
        self.store = ExploredStore(self.scheduler)
        self.service = ExploredService(self.scheduler, self.store)
        self.rules = Rules(look_s=LOOK_S, read_timeout_s=TIMEOUT_S, task_types=TASK_TYPES)
        self.expires = False
        self.has_foreign = False

    # -- what scenarios say -------------------------------------------------------------------

    def script(self, *words: str) -> None:
        """What comes of the next sendings."""
        self.service.script = deque(words)

    def event(
        self,
        name: str,
        *,
        task_type: str = CHECK,
        submit: str = "now",
        route: str | None = "agents",
        **fields: object,
    ) -> Event:
        """A new event of one target; times are seconds from when it comes."""
        param = {"uuids": f"host-{name}"}
        now_s = self.scheduler.time_s
        drafted = Event(
            event_id=f"webhook:agents:{name}",
            status=Status.PENDING,
            trigger=Trigger.WEBHOOK,
            route=route,
            request=TaskRequest(task_type=task_type, task_name=task_type, param=param, source="oncetask"),
            submit="sweep" if submit == "sweep" else "now",
            target_key="uuids",
            max_targets=100,
            order=0,
            received_s=now_s,
            due_s=now_s,
            give_up_s=now_s + EXPIRE_S,
            keep_s=604_800,
        )
        return drafted.model_copy(update=fields)

    def recorded(self, *names: str, **fields: object) -> None:
        """Events that wait for the sweep since before anything else."""
        events = [self.event(name, submit="sweep", **fields) for name in names]
        Process(self).submitter.submit(events, deadline=Deadline.after(INVOCATION_S, self.scheduler))

    def deliver(self, actor: str, *names: str, at_s: float = 0.0, **fields: object) -> None:
        """One delivery of these events."""

        def program() -> None:
            process = Process(self)
            events = [self.event(name, **fields) for name in names]
            process.submitter.submit(events, deadline=process.deadline(), may_be_full=True)

        self.scheduler.add(actor, program, at_s=at_s)

    def sweeps(self, *at_s: float) -> None:
        """A sweep at each of these seconds, a process each, named by its second."""
        for number, second in enumerate(at_s):
            letter = chr(ord("a") + number)
            self.scheduler.add(f"sweep-{letter}", lambda: self.sweep(Process(self)), at_s=second)

    def sweep(self, process: Process) -> None:
        """One sweep."""
        process.sweeper.sweep(process.deadline())

    def operate(self, decision: Callable[["App", str], object], name: str, *, at_s: float = 0.0) -> None:
        """An operator decides on an event."""

        def program() -> None:
            decision(cast("App", Process(self)), f"webhook:agents:{name}")

        self.scheduler.add("operator", program, at_s=at_s)

    def give_up(self, name: str, *, at_s: float) -> None:
        """An operator gives an event up."""
        self.operate(lambda app, event_id: operator.give_up(app, event_id, by="me"), name, at_s=at_s)

    def retry(self, name: str, *, at_s: float) -> None:
        """An operator says that no task was made."""
        self.operate(lambda app, event_id: operator.retry(app, event_id, by="me"), name, at_s=at_s)

    def adopt(self, name: str, task_id: str, *, at_s: float) -> None:
        """An operator names the task of an event's call, where there is that task."""

        def decide(app: "App", event_id: str) -> None:
            if any(task.task_id == task_id for task in self.service.tasks):
                operator.adopt(app, event_id, task_id, by="me")

        self.operate(decide, name, at_s=at_s)

    def foreign_task(self, task_type: str, *, at_s: float) -> None:
        """Another tool makes a task, of which nothing is shown that differs from ours."""
        self.has_foreign = True
        request = self.event("another", task_type=task_type).request
        self.scheduler.add("tool", lambda: self.service.foreign_task(request), at_s=at_s)

    # -- healing ------------------------------------------------------------------------------

    def run(self) -> None:
        """The scenario under its schedule; then no trouble is left, and sweeps come until all has ended."""
        self.scheduler.run()
        self.service.script.clear()
        for _ in range(MOST_SWEEPS):
            self.scheduler.sleep(self._pause_s())
            self.sweep(Process(self))
            if not self._open_dues_s() and not self._is_lane_taken():
                return

    def _pause_s(self) -> float:
        """The minute between sweeps, or longer where nothing is to be done."""
        if self._is_lane_taken():
            return SWEEP_S
        soonest_s = min(self._open_dues_s(), default=0.0)
        return max(SWEEP_S, min(soonest_s - self.scheduler.time_s + 1, EXPIRE_S))

    def _is_lane_taken(self) -> bool:
        return any(lane_key(task_type) in self.store.rows for task_type in TASK_TYPES)

    def _open_dues_s(self) -> list[float]:
        """When each open record is due: a task at its end, a lost call when nobody watches it any more."""
        now_s = self.scheduler.time_s
        runs_s = {"task": now_s + self.service.task_s, "call": now_s + WATCHED_S / 2}
        rows = [row for row in self.store.rows.values() if row.queue is not None]
        return [
            runs_s[row.key.partition("/")[0]]
            if row.queue == RUNNING_QUEUE
            else int(str(row.due).partition("|")[0]) / 1000
            for row in rows
        ]

    @property
    def lease(self) -> Lease | None:
        """The sweep's lease."""
        row = self.store.rows.get("lease/sweep")
        return Lease.model_validate_json(row.body) if row else None
