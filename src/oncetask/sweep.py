"""One pass over what is open: follow what runs, look for what was lost, ask for what waits.

No sleeping; what does not fit into the time is the next sweep's. One sweep works at a time, under a
lease; a second one changes nothing, and a sweep that outlives its lease does no harm, because every
write still meets the version it read.

    follow    a task that has ended        → its events `finished`, its ask closed
    resolve   answered, not all settled    → settled, without asking
              died or silent while asked   → `unknown`; looked for; adopted, asked again or `Ambiguous`
    submit    due and waiting              → coalesced, oldest first, until told to stop
"""

import secrets
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING

from oncetask.clock import Deadline
from oncetask.coalesce import groups
from oncetask.errors import Code, DamagedRecord, Kind, QueryFailed
from oncetask.ledgers import Ask, Event, Kept, Place
from oncetask.looking import BEFORE_S, Found, Judgement, NothingYet, Unclear, is_last_look, judge, look_is_due
from oncetask.models import (
    RUNS_ON_HOSTS,
    Answer,
    Ended,
    ErrorInfo,
    Finish,
    Outcome,
    Progress,
    Result,
    Status,
    Task,
    instant,
)
from oncetask.submit import CLAIM_SLACK_S, OLDEST_OPEN, Report, Submitter, damaged

if TYPE_CHECKING:
    from oncetask.security_center import SecurityCenter

LONGEST_S = 50.0
BEFORE_INVOCATION_ENDS_S = 5.0
LEASE_SLACK_S = 5.0
LOST_AFTER_S = 86_400
WATCHED_S = 3_600
"""How long after an ask was repeated the first sending's task is still watched for."""


@dataclass(frozen=True, slots=True)
class Gauges:
    """How much is open; each exact up to 2,000."""

    waiting: int
    running: int
    oldest_waiting_s: int


@dataclass(slots=True)
class SweepReport(Report):
    """What one sweep did; `gauges` tell what is left."""

    gauges: Gauges = field(default_factory=lambda: Gauges(0, 0, 0))
    events_per_task: float = 0.0
    failed_queries: list[QueryFailed] = field(default_factory=list)
    damaged_keys: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Sweeper:
    """The sweep over one submitter's ledger and Security Center."""

    submitter: Submitter
    look_s: int
    read_timeout_s: float

    def sweep(self, invocation: Deadline) -> SweepReport:
        """One pass. Raises LedgerUnavailable."""
        ledger, clock = self.submitter.ledger, self.submitter.clock
        length_s = max(0.0, min(LONGEST_S, invocation.left_s() - BEFORE_INVOCATION_ENDS_S))
        report = SweepReport()
        lease = ledger.take_lease(int(clock.now_s() + length_s + LEASE_SLACK_S))
        if lease is not None:
            try:
                _Pass(self, report, Deadline.after(length_s, clock)).run()
            finally:
                ledger.give_lease_back(lease)
        report.gauges = self.gauges()
        return report

    def gauges(self) -> Gauges:
        """How much is open now."""
        ledger, now_s = self.submitter.ledger, self.submitter.clock.now_s()
        waiting = list(islice(ledger.waiting(), OLDEST_OPEN))
        running = sum(ask.runs for ask in ledger.open_asks().records[:OLDEST_OPEN])
        oldest_s = max((now_s - event.received_s for event in waiting), default=0)
        return Gauges(len(waiting), running, max(0, int(oldest_s)))


@dataclass(slots=True)
class _Pass:
    """The state of one pass: what it has changed, and whether it may still ask."""

    sweeper: Sweeper
    report: SweepReport
    deadline: Deadline
    results: dict[str, Result] = field(default_factory=dict)
    closed_types: set[str] = field(default_factory=set)
    stopped: bool = False

    def run(self) -> None:
        """Follow, resolve, submit; then report the last of each event's changes."""
        ledger = self._submitter.ledger
        ledger.store.forget_expired(self._now_s())
        self._follow()
        self._resolve()
        self._submit()
        self.report.results = list(self.results.values())

    @property
    def _submitter(self) -> Submitter:
        return self.sweeper.submitter

    @property
    def _security_center(self) -> "SecurityCenter":
        return self._submitter.security_center()

    def _now_s(self) -> float:
        return self._submitter.clock.now_s()

    def _in_time(self) -> bool:
        return self._security_center.has_time(self.deadline)

    # -- what runs ----------------------------------------------------------------------------

    def _follow(self) -> None:
        read = self._submitter.ledger.open_asks()
        for key in read.damaged_keys:
            self._set_aside(key)
        for ask in read.records:
            if not (ask.runs or ask.watched):
                continue
            if not self._in_time():
                return
            if ask.runs:
                self._follow_task(ask)
            if ask.watched:
                self._watch(ask)

    def _follow_task(self, ask: Ask) -> None:
        finish = self._finish_of(ask)
        if finish is None:
            return

        def finished(event: Event) -> Event:
            if event.status is not Status.CREATED or event.ask_id != ask.ask_id:
                return event
            return event.model_copy(
                update={"status": Status.FINISHED, "finish": finish, "settled_s": self._now_s()}
            )

        for event_id in ask.event_ids:
            self._change(event_id, finished)
        self._submitter.ledger.change_ask(
            ask.ask_id, lambda kept: kept.model_copy(update={"finish": finish, "ended_s": self._now_s()})
        )

    def _finish_of(self, ask: Ask) -> Finish | None:
        """How the ask's task ended; None while it runs, or where nobody can say now."""
        if ask.answer is None or ask.answer.task_id is None:
            return None
        request, task_id = ask.request, ask.answer.task_id
        try:
            progress = self._security_center.follow(
                request.task_type, task_id, request.task_name, self.deadline
            )
        except QueryFailed as error:
            self.report.failed_queries.append(error)
            progress = Progress()
        if progress.ended is not None:
            return _finish(progress.ended, self._now_s())
        if self._now_s() - (ask.answered_s or 0) >= LOST_AFTER_S:
            return Finish(state="LOST", finished_at=instant(self._now_s()))
        return None

    def _watch(self, ask: Ask) -> None:
        """Notice the task of a sending that was given up as lost and repeated."""
        seen = self._seen_since(ask)
        if seen is None:
            return
        ledger = self._submitter.ledger
        own = ask.answer.task_id if ask.answer else None
        strangers = [task for task in seen if task.task_id != own and ledger.task_owner(task.task_id) is None]
        judged = judge(
            ask, strangers, lambda _: None, shows_all=True, read_timeout_s=self.sweeper.read_timeout_s
        )
        second = judged.task_id if isinstance(judged, Found) else None
        if second and ledger.own_task(second, ask.ask_id).ask_id == ask.ask_id:
            self._note_second_task(ask, second)
        if self._now_s() > ask.last_sent_s + WATCHED_S:
            ledger.change_ask(ask.ask_id, lambda kept: kept.model_copy(update={"watched": False}))

    def _note_second_task(self, ask: Ask, task_id: str) -> None:
        self.report.second_tasks += 1
        error = ErrorInfo(
            kind=Kind.OPERATOR,
            code=Code.SECOND_TASK,
            message=f"a second task was made for this event: {task_id}",
        )
        for event_id in ask.event_ids:
            self._change(event_id, lambda event: event.model_copy(update={"error": error}))

    # -- what was asked and not settled ---------------------------------------------------------

    def _resolve(self) -> None:
        for place in self._submitter.ledger.places():
            self.closed_types.add(place.record.task_type)
            if self._resolve_place(place):
                self._submitter.ledger.give_place_back(place)
                self.closed_types.discard(place.record.task_type)

    def _resolve_place(self, place: Kept[Place]) -> bool:
        """Bring the place's ask forward; whether the place may be given back."""
        try:
            ask = self._submitter.ledger.ask(place.record.ask_id)
        except DamagedRecord as error:
            self._set_aside(error.key)
            return True
        if ask is None:
            return place.record.claim_ends_s <= self._now_s()
        if ask.answer is not None:
            self._settle(ask, ask.answer)
            return True
        if not ask.unresolved:
            return True
        if ask.lost is None and ask.claim_ends_s > self._now_s():
            return False
        return self._look_for(ask)

    def _look_for(self, ask: Ask) -> bool:
        """One look for a lost task, if one is due; whether the ask is resolved now."""
        if ask.lost is None:
            self._settle(ask, _died_while_asking())
        if not any(event.waits for event in self._submitter.ledger.events(ask.event_ids)):
            self._close(ask, ())
            return True
        if not look_is_due(ask, look_s=self.sweeper.look_s, now_s=self._now_s()) or not self._in_time():
            return False
        match self._judged(ask):
            case Found(task_id):
                return self._adopt(ask, task_id)
            case Unclear() as unclear:
                return self._hold(ask, unclear)
            case NothingYet():
                return self._look_later_or_ask_again(ask)
        return False

    def _look_later_or_ask_again(self, ask: Ask) -> bool:
        now_s = self._now_s()
        if not is_last_look(ask, look_s=self.sweeper.look_s, now_s=now_s):
            self._submitter.ledger.change_ask(
                ask.ask_id, lambda kept: kept.model_copy(update={"looked_s": now_s})
            )
            return False
        if ask.request.task_type == RUNS_ON_HOSTS:
            return self._hold(ask, Unclear(()))
        return self._ask_again(ask)

    def _judged(self, ask: Ask) -> Judgement | None:
        """What a look shows; None where the look failed, which is no look at all."""
        seen = self._seen_since(ask)
        if seen is None:
            return None
        return judge(
            ask,
            seen,
            self._submitter.ledger.task_owner,
            shows_all=self._security_center.describes(ask.request.task_type),
            read_timeout_s=self.sweeper.read_timeout_s,
        )

    def _seen_since(self, ask: Ask) -> Sequence[Task] | None:
        security_center, request = self._security_center, ask.request
        try:
            if security_center.describes(request.task_type):
                since_s = ask.first_sent_s - BEFORE_S
                return security_center.tasks_started_since(request.task_type, since_s, self.deadline)
            last = security_center.last_task(request.task_type, request.task_name, self.deadline)
        except QueryFailed as error:
            self.report.failed_queries.append(error)
            return None
        return [last] if last else []

    def _adopt(self, ask: Ask, task_id: str) -> bool:
        """The task was found: the answer that was lost."""
        ledger = self._submitter.ledger
        if ledger.own_task(task_id, ask.ask_id).ask_id != ask.ask_id:
            return False
        answer = Answer(outcome=Outcome.CREATED, task_id=task_id)
        if self._submitter.answer_ask(ask, answer) is None:
            return False
        self.report.adopted += 1
        self._settle(ask, answer)
        return True

    def _hold(self, ask: Ask, unclear: Unclear) -> bool:
        """Nobody can tell: the operator decides, and later asks are not held up."""
        error = ErrorInfo(
            kind=Kind.OPERATOR,
            code=Code.AMBIGUOUS,
            message="it cannot be told whether a task was made: decide with `make ledger`",
        )
        for event_id in ask.event_ids:
            self._change(
                event_id,
                lambda event: event.model_copy(update={"error": error}) if event.waits else event,
            )
        for task_id in unclear.candidates:
            self._submitter.ledger.own_task(task_id, ask.ask_id)
        self._close(ask, unclear.candidates)
        return True

    def _close(self, ask: Ask, candidates: tuple[str, ...]) -> None:
        update = {"candidates": candidates, "ended_s": self._now_s()}
        self._submitter.ledger.change_ask(
            ask.ask_id, lambda kept: kept.model_copy(update=update) if kept.unresolved else kept
        )

    def _ask_again(self, ask: Ask) -> bool:
        """Send the ask once more, under a claim of our own; whether it is resolved now."""
        if self.stopped:
            return False
        now_s = self._now_s()
        update = {
            "last_sent_s": now_s,
            "sendings": ask.sendings + 1,
            "claim": secrets.token_hex(8),
            "claim_ends_s": now_s + self._submitter.longest_call_s(self.deadline) + CLAIM_SLACK_S,
            "lost": None,
            "looked_s": None,
            "watched": True,
        }
        again = ask.model_copy(update=update)
        kept = self._submitter.ledger.change_ask(ask.ask_id, lambda kept: again if kept == ask else kept)
        if kept is not again:
            return False
        self.report.asked_again += 1
        answer = self._submitter.send(again, self.report, self.deadline)
        if answer is None:
            return False
        self.stopped = self.stopped or not answer.asks_may_go_on
        if self._submitter.answer_ask(again, answer) is None:
            return False
        self._settle(again, answer)
        return answer.outcome is not Outcome.LOST

    # -- what waits -------------------------------------------------------------------------------

    def _submit(self) -> None:
        read = self._submitter.ledger.oldest_open_events(OLDEST_OPEN)
        for key in read.damaged_keys:
            self._set_aside(key)
        due = [event for event in read.records if not self._gives_up(event) and self._is_due(event)]
        if not due:
            return
        queue = deque(groups(due))
        tasks: list[int] = []
        while queue and not self.stopped:
            group = queue.popleft()
            if group[0].request.task_type in self.closed_types:
                continue
            if not self._in_time():
                break
            queue.extendleft(reversed(groups(self._ask(group, tasks))))
        self.report.events_per_task = sum(tasks) / len(tasks) if tasks else 0.0

    def _is_due(self, event: Event) -> bool:
        return event.status is Status.PENDING and event.due_s <= self._now_s()

    def _ask(self, group: list[Event], tasks: list[int]) -> list[Event]:
        """Ask for one group; the events that are to be asked for again at once, in smaller groups."""
        asked = self._submitter.ask(group, self.report, self.deadline, patience_s=0)
        if asked is None:
            self.closed_types.add(group[0].request.task_type)
            return []
        for event in asked.events:
            self.results[event.event_id] = event.result()
        if asked.answer.outcome is Outcome.CREATED:
            tasks.append(len(asked.events))
        if asked.answer.outcome is Outcome.LOST:
            self.closed_types.add(group[0].request.task_type)
        self.stopped = self.stopped or not asked.answer.asks_may_go_on
        return [event for event in asked.events if event.part is not None and self._is_due(event)]

    def _gives_up(self, event: Event) -> bool:
        """Whether the event has waited for as long as its route allows; then it is `failed`."""
        now_s = self._now_s()
        if event.give_up_s > now_s or self._is_still_looked_for(event):
            return False
        code = Code.OUTCOME_UNKNOWN if event.doubtful or event.status is Status.UNKNOWN else Code.EXPIRED
        self._change(event.event_id, lambda kept: given_up(kept, code, now_s) if kept == event else kept)
        return True

    def _is_still_looked_for(self, event: Event) -> bool:
        if event.status is not Status.UNKNOWN or event.ask_id is None:
            return False
        ask = self._submitter.ledger.ask(event.ask_id)
        if ask is None or not ask.unresolved:
            return False
        return not is_last_look(ask, look_s=self.sweeper.look_s, now_s=self._now_s())

    # -- changes ----------------------------------------------------------------------------------

    def _settle(self, ask: Ask, answer: Answer) -> None:
        self._submitter.settle(ask, answer, self._change)

    def _change(self, event_id: str, change: Callable[[Event], Event]) -> Event | None:
        """Change one event, and report it if that changed where it stands."""
        before: list[Event] = []

        def remembered(event: Event) -> Event:
            before[:] = [event]
            return change(event)

        try:
            after = self._submitter.ledger.change_event(event_id, remembered)
        except DamagedRecord as error:
            self._set_aside(error.key)
            return None
        if after is not None and after is not before[0]:
            self.results[event_id] = after.result()
        return after

    def _set_aside(self, key: str) -> None:
        """Report a damaged record, once, and go on."""
        if not self._submitter.ledger.set_aside(key):
            return
        self.report.damaged_keys.append(key)
        kind, _, name = key.partition("/")
        if kind == "event":
            self.results[name] = damaged(name, self._now_s())


def given_up(event: Event, code: Code, now_s: float) -> Event:
    """The event, failed: `Expired` if surely nothing was made, else `OutcomeUnknown`."""
    message = {
        Code.EXPIRED: "it waited for as long as its route allows; no task was made",
        Code.OUTCOME_UNKNOWN: "it was given up; whether a task was made is not known",
    }[code]
    return event.model_copy(
        update={
            "status": Status.FAILED,
            "settled_s": now_s,
            "error": ErrorInfo(kind=Kind.OPERATOR, code=code, message=message),
        }
    )


def _finish(ended: Ended, now_s: float) -> Finish:
    return Finish(
        state=ended.state,
        finished_at=instant(now_s if ended.finished_s is None else ended.finished_s),
        finish_count=ended.finish_count,
        total_count=ended.total_count,
    )


def _died_while_asking() -> Answer:
    return Answer(
        outcome=Outcome.LOST,
        error=ErrorInfo(
            kind=Kind.UNKNOWN,
            code=Code.NO_ANSWER,
            message="whoever asked did not write an answer down; the sweep looks for the task",
        ),
    )
