"""One world: an account with its emulator, a ledger, the processes at work on it, and the books.

Three clocks: the injected one, which is also the processes' wall clock; the service's, which runs with
it but does not step; and the real one, which signatures need.
"""

import json
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Self

from local.clocks import NOW_S, FakeClock
from local.emulator import ACCESS_KEY_ID, ACCESS_KEY_SECRET, Behaviour, Call, Emulator
from local.emulator.faults import Outcome
from oncetask.app import App
from oncetask.errors import LedgerUnavailable
from oncetask.handlers import sweep
from oncetask.ledger.ledger import Ledger
from oncetask.ledger.records import FORMAT
from oncetask.ledger.sqlite import SqlStore
from oncetask.ledger.store import Store
from oncetask.models import Result, Status
from oncetask.settings import Settings
from oncetask.submit.call import Caller
from oncetask.sweep.context import SweepReport
from tests.model import books
from tests.model.books import (
    Apart,
    Audit,
    Body,
    Made,
    Violation,
    by_kind,
    recorded,
    reported,
    require,
)
from tests.model.deliveries import ROUTES, TOKEN, Coming, markers
from tests.model.faults import FaultLog, Haunted
from tests.model.liveness import Ends, left_behind
from tests.model.seam import Frame, Interruption, Killed, Seam, SeamStore

LOOK_S = 180
MOST_NESTED = 2
LONG_S = 60.0
"""An invocation that has time for everything, unless a call lasts long."""
HEALING_PAUSES_S = (*(61.0,) * 40, *(305.0,) * 12, *(950.0,) * 60)
"""Between the sweeps of a healed world: longer than five sendings in vain, their searches and their waits."""
NEVER_ENDING = 3
"""So many tasks of a healed world may go on without an end."""

SHORT_READ_MS = 250
USUAL_READ_MS = 5000


@dataclass(frozen=True, slots=True)
class Temper:
    """What a world is like, and which troubles beyond the contract's limits it knows."""

    ledger: str = "memory"
    read_timeout_ms: int = USUAL_READ_MS
    beyond_the_look: bool = False
    foreign_tasks: bool = False
    clocks_apart: bool = False
    index_lag_writes: int = 0
    haunted: bool = False
    newer_versions: bool = False


class ModelApp(App):
    """An app on the world's store; its backoff is the longest, so that nothing is random."""

    def __init__(self, settings: Settings, clock: FakeClock, store: Store) -> None:
        super().__init__(settings, environment={"TOKEN": TOKEN}, clock=clock)
        self._store = store

    @cached_property
    def ledger(self) -> Ledger:
        return Ledger(self._store, self.clock)

    @cached_property
    def caller(self) -> Caller:
        return Caller(self.ledger, lambda: self.security_center, self.clock, jitter=lambda seconds: seconds)


@dataclass(slots=True)
class Told:
    """What senders and operators were told that must come true."""

    accepted: set[str] = field(default_factory=set)
    created: dict[str, str] = field(default_factory=dict)

    def note(self, results: Sequence[Result]) -> None:
        """Results that were returned."""
        for result in results:
            if result.event_id is None or result.status in {Status.REJECTED, Status.IGNORED}:
                continue
            self.accepted.add(result.event_id)
            if result.status is Status.CREATED and result.task_id is not None:
                self.created[result.event_id] = result.task_id


class World:
    """Everything that one run needs; to be closed."""

    def __init__(self, temper: Temper, made: Callable[[FakeClock], Store] | None = None) -> None:
        """`made`: another store than the temper's."""
        self.temper = temper
        self.clock = FakeClock()
        self.counts: Counter[str] = Counter()
        self.faults = FaultLog(self.clock, self.counts, self.note)
        self.seam = Seam(self.clock, self, self.counts)
        self.seam.index_lag_writes = temper.index_lag_writes
        self.told = Told()
        self.apart = Apart(LOOK_S)
        self.came: list[Coming] = []
        self.markers_made = 0
        self.comings = 0
        self.sweeps = 0
        self.second_tasks = 0
        self.limits: Counter[str] = Counter()
        self.story: list[str] = []
        self.calls: dict[str, Body] = {}
        """Every call that was ever written down, as it was written last, by its id."""
        self.routes_of: dict[str, str | None] = {}
        """Marker to the route that brought it."""
        self.broken_when_sent: list[Violation] = []
        self.haunted = Haunted(self.faults)
        self.ends = Ends(LOOK_S)
        self._stack = ExitStack()
        self.emulator = self._stack.enter_context(
            Emulator(clock=self.service_now_s, always=self.haunted, watch=self._sent)
        )
        self._folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory()))
        self._inner = self._store() if made is None else made(self.clock)
        self._apps = [self._app() for _ in range(MOST_NESTED + 1)]
        self.note_clocks()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._inner.close()
        self._stack.close()

    # -- time -------------------------------------------------------------------------------------

    def service_now_s(self) -> float:
        """The service's clock, which never steps."""
        return NOW_S + self.clock.elapsed_s()

    def note_clocks(self) -> None:
        """Whatever was done to the clocks is known from now on."""
        skew_s = self.emulator.behaviour.clock_skew_s
        self.apart.note(self.service_now_s(), self.service_now_s() + skew_s - self.clock.now_s())

    # -- what is known ------------------------------------------------------------------------------

    @property
    def events(self) -> dict[str, Body]:
        """Every event that was ever written down, as it stands."""
        return by_kind(self.seam.bodies, "event")

    @property
    def owners(self) -> dict[str, Body]:
        """Task id to its owner."""
        return by_kind(self.seam.bodies, "task")

    def written(self, key: str, before: Body | None, after: Body | None) -> None:
        self.note(f"wrote {key} {books.told_shortly(key, after)}")
        require(key not in self.seam.newer, "a newer version's record is left alone", key)
        self._know_call(key, after)
        books.checked_write(key, before, after, self.calls)

    def _know_call(self, key: str, after: Body | None) -> None:
        call = after.get("call") if after is not None and key.startswith(("lane/", "call/")) else None
        if after is None or call is None:
            return
        known = self.calls.setdefault(call["call_id"], {"candidates": [], "closed_s": None})
        known |= call
        if key.startswith("call/"):
            known |= {"candidates": after["candidates"], "closed_s": after["closed_s"]}
            self.faults.failed_queries_s += [self.clock.now_s()] if self.faults.is_down else []

    def _sent(self, call: Call, _: Outcome) -> None:
        """What is sent is the lane's call, and asks for what its events say now; told from another thread."""
        if call.action != "GenerateOnceTask":
            return
        lane = self.seam.bodies.get(f"lane/{call.parameters.get('TaskType')}")
        recorded_call = None if lane is None else lane["call"]
        if recorded_call is None and self.temper.clocks_apart:
            return
        try:
            require(recorded_call, "nothing is sent but under its lane", call.parameters)
            if recorded_call is not None:
                books.check_call(recorded_call, self.events)
        except Violation as violation:
            self.broken_when_sent.append(violation)

    def is_haunted(self, event: Body) -> bool:
        """Whether a fault strikes whatever asks for it, for ever."""
        return self.haunted.strikes_marker(event["request"]["TaskType"], books.marker_of(event))

    def note(self, what: str) -> None:
        """One more line of the world's story."""
        depth = "  " * len(self.seam.frames)
        self.story.append(f"{self.clock.elapsed_s():9.3f} {depth}{what}")

    def made(self) -> Made:
        """What is on the service."""
        return Made(self.emulator.tasks, self.faults.asked_late_s)

    # -- invocations --------------------------------------------------------------------------------

    def may_nest(self) -> bool:
        """Whether another process may work inside the one at work."""
        return len(self.seam.frames) <= MOST_NESTED

    def invoke[T](
        self, run: Callable[[App], T], interruptions: Sequence[Interruption]
    ) -> tuple[T | None, Frame]:
        """One invocation of one process; None where it died or the ledger failed it."""
        if not self.seam.frames:
            self.seam.catch_up()
        app = self._apps[len(self.seam.frames)]
        frame = Frame(interruptions)
        self.seam.frames.append(frame)
        try:
            return run(app), frame
        except Killed:
            self.note("killed")
            return None, frame
        except LedgerUnavailable as error:
            self.note("the ledger was away")
            require(not frame.clean, "the ledger is never away by itself", error)
            return None, frame
        finally:
            self.seam.frames.pop()
            for violation in self.broken_when_sent[:1]:
                raise violation

    def bring(self, coming: Coming, left_s: float, interruptions: Sequence[Interruption] = ()) -> None:
        """A tick or a delivery, new or again."""
        self.note(f"comes {coming}")
        self.comings += 1
        before, calls = self.events, len(self.emulator.calls)
        results, frame = self.invoke(lambda app: coming.bring(app, left_s), interruptions)
        if not frame.shared:
            self._check_calls(calls, before)
        if results is None:
            require(not frame.clean, "a delivery is turned away only where the ledger is away", coming)
            return
        self.told.note(results)
        if frame.clean:
            self._check_brought(results, before)

    def sweep(self, left_s: float = 60.0, interruptions: Sequence[Interruption] = ()) -> SweepReport | None:
        """One sweep."""
        self.note("sweep")
        self.sweeps += 1
        before, began_s = self.events, self.clock.now_s()
        report, frame = self.invoke(
            lambda app: sweep.handle(app, app.deadline(int(left_s * 1000))), interruptions
        )
        if report is None:
            return None
        self.told.note(report.results)
        self.second_tasks += report.second_tasks
        self.faults.failed_queries_s += [self.clock.now_s() for _ in report.failed_queries]
        if frame.clean:
            self._check_swept(report, frame, before)
            at_work = "lease/sweep" in frame.changed and self.clock.now_s() - began_s < left_s / 3
            if at_work and left_s >= LONG_S and self._is_plain():
                left_behind(report, self.events, by_kind(self.seam.bodies, "lane"), began_s)
                self.ends.swept(self.events.values(), began_s)
        return report

    # -- what holds after a clean one -----------------------------------------------------------------

    def _check_brought(self, results: Sequence[Result], before: dict[str, Body]) -> None:
        events = self.events
        told: set[str] = set()
        for result in results:
            event_id = result.event_id
            if event_id is None or event_id not in events:
                require(
                    result.status in {Status.REJECTED, Status.IGNORED}, "what is told is recorded", result
                )
            elif event_id not in told:
                self._check_told(result, before.get(event_id), events[event_id])
            told.add(event_id or "")

    def _check_told(self, result: Result, before: Body | None, after: Body) -> None:
        shown = (result, books.brief(before), books.brief(after))
        if f"event/{result.event_id}" in self.seam.newer:
            unread = result.error is not None and result.error.code == "RecordDamaged"
            unread = unread or reported(result) == recorded(after)  # it was judged without the record
            require(unread, "what only a newer version can read is told as such", *shown)
            return
        if before is None or books.frees_its_id(before):
            require(reported(result) == recorded(after), "a result is what is recorded", *shown)
        elif result.status is Status.REJECTED:
            reused = result.error is not None and result.error.code == "EventIdReused"
            require(reused, "a bound id is rejected only for another content", *shown)
        elif before["status"] in {"created", "finished"}:
            same = (result.status, result.task_id) == (Status.DUPLICATE, before["task_id"])
            require(same, "seen again after its task was made, it is a duplicate with that task", *shown)
        else:
            require(reported(result) == recorded(before), "seen again, it is told where it stands", *shown)

    def _check_calls(self, calls: int, before: dict[str, Body]) -> None:
        """Nothing is asked for an event whose id was bound when the delivery came."""
        bound = {books.marker_of(event) for event in before.values() if not books.frees_its_id(event)}
        for call in self.emulator.calls[calls:]:
            asked = set(markers(call.parameters.get("Param", "")))
            require(not asked & bound, "a delivery asks for no event that was there before", call)

    def _check_swept(self, report: SweepReport, frame: Frame, before: dict[str, Body]) -> None:
        events = self.events
        told = {result.event_id for result in report.results}
        for event_id in _event_ids(frame.changed):
            was, now = before.get(event_id), events[event_id]
            same = was is not None and recorded(was) == recorded(now)
            require(same or event_id in told, "every change of state gives a result", books.brief(now))
        for result in report.results:
            event = events[result.event_id or ""]
            shown = (result, books.brief(event))
            require(reported(result) == recorded(event), "a result is what is recorded", *shown)
        self._check_gauges(report)

    def _is_plain(self) -> bool:
        """Nobody else is at work, the index shows everything, and the clocks go alike: nothing excuses."""
        is_odd = self.temper.index_lag_writes or self.temper.clocks_apart or self.seam.newer
        return not self.seam.frames and not is_odd

    def _check_gauges(self, report: SweepReport) -> None:
        if self.temper.index_lag_writes or self.seam.newer:
            return
        waiting = [event for event in self.events.values() if books.waits(event)]
        running = [task for task in self.owners.values() if books.runs(task)]
        oldest_s = max((self.clock.now_s() - event["received_s"] for event in waiting), default=0)
        gauges = report.gauges
        told = (gauges.waiting, gauges.running, gauges.oldest_waiting_s)
        true = (len(waiting), len(running), max(0, int(oldest_s)))
        close = told[:2] == true[:2] and abs(told[2] - true[2]) <= 1
        require(close, "gauges tell what is in the ledger", told, true)

    # -- the end -----------------------------------------------------------------------------------

    def heal(self) -> None:
        """Every trouble ends, and time and sweeps enough pass."""
        self.faults.healed = True
        self.seam.index_lag_writes = 0
        self.serve_newer()
        self.emulator.up()
        self.faults.is_down = False
        self._calm()
        for pause_s in HEALING_PAUSES_S:
            self.clock.advance(pause_s)
            self.sweep()
            if not self._is_at_work():
                break
        self.note_clocks()

    def make_newer(self, key: str) -> None:
        """A newer version of the code has the record from now on."""
        if self._rewritten(key, FORMAT + 1):
            self.seam.newer.add(key)

    def serve_newer(self) -> None:
        """The newer versions are gone, and what they held is as it was."""
        keys, self.seam.newer = self.seam.newer, set()
        for key in sorted(keys):
            self._rewritten(key, FORMAT)

    def _rewritten(self, key: str, number: int) -> bool:
        row = self.seam.row(key)
        body = json.dumps(json.loads(row.body) | {"format": number})
        again = row._replace(version=f"{row.version}.{number}", body=body)
        done = self._inner.put(again, replacing=row.version)
        if done:
            self.seam.see(key, again)
        return done

    def _calm(self) -> None:
        usual, behaviour = Behaviour(), self.emulator.behaviour
        for name in ("cap", "cap_answer", "task_duration_s", "task_end", "list_lag_s", "poison"):
            setattr(behaviour, name, getattr(usual, name))
        endless = [task for task in self.emulator.tasks if task.end_state == "NEVER"]
        for task in endless[NEVER_ENDING:]:
            self.emulator.finish(task.task_id)

    def _is_at_work(self) -> bool:
        waiting = [
            event
            for event in self.events.values()
            if books.waits(event)
            and books.code(event) != "Ambiguous"
            and not (event["status"] == "pending" and self.is_haunted(event))
        ]
        ends = {task.task_id for task in self.emulator.tasks if task.end_state != "NEVER"}
        running = [name for name, task in self.owners.items() if books.runs(task) and name in ends]
        return bool(waiting or running or by_kind(self.seam.bodies, "lane"))

    def audit(self) -> Audit:
        """The books of the healed world. Raises Violation."""
        self._check_ledger_is_what_was_written()
        self._let_everything_end()
        self._check_nothing_is_left()
        self._check_what_was_told()
        audit = Audit(
            self.events,
            self.calls,
            self.owners,
            self.made(),
            self.apart,
            LOOK_S,
            self.faults.failed_queries_s,
            self.is_haunted,
            self.limits,
        )
        audit.check()
        return audit

    def _check_ledger_is_what_was_written(self) -> None:
        ledger = Ledger(self._inner, self.clock)
        for event_id, body in self.events.items():
            event = ledger.event(event_id)
            if event is not None:
                same = recorded(body) == (event.status, event.task_id, event.error and event.error.code)
                require(same, "the ledger holds what was written", books.brief(body))
            else:
                gone = body["settled_s"] and body["settled_s"] + body["keep_s"] <= self.clock.now_s()
                require(gone, "no accepted event is lost", books.brief(body))

    def _let_everything_end(self) -> None:
        """The watch for second tasks, and a day for the tasks that never end."""
        for seconds in (3700.0, 61.0, 86_400.0, 61.0):
            self.clock.advance(seconds)
            self.sweep()

    def _check_nothing_is_left(self) -> None:
        lanes = by_kind(self.seam.bodies, "lane")
        require(not lanes, "every lane is given back", lanes)
        running = [task for task in self.owners.values() if books.runs(task)]
        require(not running, "every task's record is closed", *running[:3])
        lost = by_kind(self.seam.bodies, "call").values()
        watched = [
            one for one in lost if one["watched_until_s"] is not None and not self._is_asked_for_ever(one)
        ]
        require(not watched, "every watch ends", *watched[:3])

    def _is_asked_for_ever(self, lost: Body) -> bool:
        events = [self.events[served["event_id"]] for served in lost["call"]["events"]]
        return any(books.waits(event) and self.is_haunted(event) for event in events)

    def _check_what_was_told(self) -> None:
        events = self.events
        missing = self.told.accepted - set(events)
        require(not missing, "no accepted event is lost", missing)
        for event_id, task_id in self.told.created.items():
            event = events[event_id]
            if event["task_id"] != task_id:
                in_doubt = books.code(event) in {"Ambiguous", "OutcomeUnknown"} or self.temper.clocks_apart
                shown = (task_id, books.brief(event))
                require(in_doubt, "what was told as created stays so, or is left to the operator", *shown)
                self.limits[f"told as created, not written down, now {event['status']}"] += 1

    # -- parts ---------------------------------------------------------------------------------------

    def _store(self) -> Store:
        return SqlStore() if self.temper.ledger == "memory" else SqlStore(self._folder / "ledger.sqlite")

    def _app(self) -> App:
        routes = self._folder / "routes.toml"
        routes.write_text(ROUTES, encoding="utf-8")
        environment = {
            "ONCETASK_ENDPOINT": self.emulator.url,
            "ONCETASK_ROUTES": str(routes),
            "ONCETASK_LOOK_S": str(LOOK_S),
            "ONCETASK_READ_TIMEOUT_MS": str(self.temper.read_timeout_ms),
            "ALIBABA_CLOUD_ACCESS_KEY_ID": ACCESS_KEY_ID,
            "ALIBABA_CLOUD_ACCESS_KEY_SECRET": ACCESS_KEY_SECRET,
        }
        return ModelApp(Settings.from_environment(environment), self.clock, SeamStore(self._inner, self.seam))


def _event_ids(keys: Iterable[str]) -> list[str]:
    return [key.removeprefix("event/") for key in sorted(keys) if key.startswith("event/")]
