"""One pass over what is open: follow what runs, look for what was lost, ask for what waits.

No sleeping; what does not fit into the time is the next sweep's. One sweep works at a time, under a
lease; a second one changes nothing, and a sweep that outlives its lease does no harm, because every
write still meets the version it read.

    follow    a task that has ended        → its events `finished`, its ask closed
    resolve   answered, not all settled    → settled, without asking
              died or silent while asked   → `unknown`; looked for; adopted, asked again or `Ambiguous`
    submit    due and waiting              → coalesced, oldest first, until told to stop
"""

import math
import secrets
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

from oncetask.clock import Deadline
from oncetask.errors import Code, DamagedRecord, Kind, QueryFailed
from oncetask.ledger.ledger import Kept, Ledger
from oncetask.ledger.records import Ask, Event, Place, TaskOwner
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
)
from oncetask.submit.grouping import groups
from oncetask.submit.submit import OLDEST_OPEN, Asked, Limits, Report, Submitter, damaged
from oncetask.sweep.matching import (
    BEFORE_S,
    Found,
    Judgement,
    NothingYet,
    Unclear,
    is_last_look,
    judge,
    look_is_due,
)
from oncetask.sweep.outcomes import finish_for, lost

if TYPE_CHECKING:
    from oncetask.alibaba.security_center import SecurityCenter

LONGEST_S = 50.0
BEFORE_INVOCATION_ENDS_S = 5.0
LEASE_SLACK_S = 5.0
CALL_MARGIN_S = 1.0
"""A call ends a second before its deadline; a sweep, which ends before its invocation, has that second."""
LOST_AFTER_S = 86_400
WATCHED_S = 3_600
"""How long after an ask was repeated the first sending's task is still watched for."""
NOBODY = "nobody"
"""Has the tasks whose owner's record is damaged, so that no ask takes them for its own."""

_REFUSALS = frozenset({Kind.OPERATOR, Kind.SENDER})
"""Who must act where the service refused a query: patience alone does not mend that."""
_AMBIGUOUS = ErrorInfo(
    kind=Kind.OPERATOR,
    code=Code.AMBIGUOUS,
    message="it cannot be told whether a task was made: decide with `make ledger`",
)


class Gauges(NamedTuple):
    """How much is open; each exact up to 2,000."""

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

    @property
    def events_per_task(self) -> float:
        """The mean over the tasks that were made; 0 where none was."""
        return sum(self.shared_by) / len(self.shared_by) if self.shared_by else 0.0


class Sweeper:
    """The sweep over one submitter's ledger and Security Center."""

    def __init__(self, submitter: Submitter, *, look_s: int, read_timeout_s: float) -> None:
        self.submitter = submitter
        self.look_s = look_s
        self.read_timeout_s = read_timeout_s

    def sweep(self, invocation: Deadline, report: SweepReport | None = None) -> SweepReport:
        """One pass. Raises LedgerUnavailable; a report that was given then tells what was done before."""
        ledger, clock = self.submitter.ledger, self.submitter.clock
        length_s = max(0.0, min(LONGEST_S, invocation.left_s() - BEFORE_INVOCATION_ENDS_S))
        report = SweepReport() if report is None else report
        lease = ledger.take_lease(math.ceil(clock.now_s() + length_s + LEASE_SLACK_S))
        if lease is not None:
            try:
                _Pass(self, report, Deadline.after(length_s + CALL_MARGIN_S, clock), length_s).run()
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
    """The state of one pass: what it has changed, and whether and where it may still ask.

    `closed_types`: their place is taken, so nothing of them is asked. `asked_ids`: the events of the asks
    that hold a place. `unrecorded_types`: whoever holds the place has not said yet what it asks for.
    """

    sweeper: Sweeper
    report: SweepReport
    deadline: Deadline
    length_s: float
    results: dict[str, Result] = field(default_factory=dict)
    closed_types: set[str] = field(default_factory=set)
    asked_ids: set[str] = field(default_factory=set)
    unrecorded_types: set[str] = field(default_factory=set)
    stopped: bool = False

    def run(self) -> None:
        """Follow, resolve, submit; in the end, or where the ledger fails, report each event's last change."""
        try:
            self._ledger.store.forget_expired(self._now_s())
            self._follow()
            self._resolve()
            self._submit()
        finally:
            self.report.results = list(self.results.values())

    @property
    def _submitter(self) -> Submitter:
        return self.sweeper.submitter

    @property
    def _ledger(self) -> Ledger:
        return self.sweeper.submitter.ledger

    @property
    def _security_center(self) -> "SecurityCenter":
        return self._submitter.security_center()

    def _now_s(self) -> float:
        return self._submitter.clock.now_s()

    def _in_time(self) -> bool:
        return self._security_center.has_time(self.deadline)

    def _in_time_to_ask(self) -> bool:
        """Not so late that the sweep's end would cut the answer off, and make a lost one of it."""
        needs_s = min(self._security_center.call_timeout_s(), self.length_s / 2)
        return self._in_time() and self.deadline.left_s() - CALL_MARGIN_S >= needs_s

    # -- what runs ----------------------------------------------------------------------------

    def _follow(self) -> None:
        """Within half of the time, so that a service slow to show tasks does not keep what waits waiting."""
        read = self._ledger.open_asks()
        for key in read.damaged_keys:
            self._set_aside(key)
        half = Deadline.after(self.deadline.left_s() / 2, self._submitter.clock)
        for ask in read.records:
            if ask.unresolved:
                self._close_abandoned(ask)
                continue
            if not self._security_center.has_time(half):
                return
            if ask.runs:
                self._follow_task(ask)
            if ask.watched:
                self._watch(ask)

    def _close_abandoned(self, ask: Ask) -> None:
        """An ask that was recorded after its claim had ended was never sent, and no place names it."""
        if ask.claim_ends_s <= self._now_s() and not self._ledger.place_names(ask):
            self._hold(ask, ())

    def _follow_task(self, ask: Ask) -> None:
        """Ended: first its events, also those that a death left unsettled, and only then the ask."""
        finish = self._finish_of(ask)
        if finish is None or ask.answer is None:
            return
        self._settle(ask, ask.answer)
        now_s = self._now_s()

        def finished(event: Event) -> Event:
            if event.status is not Status.CREATED or event.ask_id != ask.ask_id:
                return event
            return event.model_copy(
                update={"status": Status.FINISHED, "finish": finish, "settled_s": now_s},
            )

        for event_id in ask.event_ids:
            self._change(event_id, finished)
        self._change_ask(ask, {"finish": finish, "ended_s": now_s})

    def _finish_of(self, ask: Ask) -> Finish | None:
        """How the ask's task ended; None while it runs, or where that cannot be told now."""
        if ask.answer is None or ask.answer.task_id is None:
            return None
        request, task_id = ask.request, ask.answer.task_id
        try:
            progress = self._security_center.follow(
                request.task_type, task_id, request.task_name, self.deadline
            )
        except QueryFailed as error:
            self.report.failed_queries.append(error)
            if error.kind not in _REFUSALS:
                return None
            progress = Progress()
        if progress.ended is not None:
            return _finish(progress.ended, self._now_s())
        if self._now_s() - ask.last_sent_s >= LOST_AFTER_S:
            return lost(self._now_s())
        return None

    def _watch(self, ask: Ask) -> None:
        """Notice the task of a sending that was given up as lost and repeated.

        Not while the type's place is taken: what nobody owns then may be the task of that place's ask.
        Asked after looking: an ask that has given its place back has owned its task before.
        """
        seen = self._seen_since(ask)
        if not self._ledger.place_is_taken(ask.request.task_type):
            self._note_second_task_among(seen or (), ask)
        if self._now_s() > ask.last_sent_s + WATCHED_S:
            self._change_ask(ask, {"watched": False})

    def _note_second_task_among(self, seen: Sequence[Task], ask: Ask) -> None:
        own_id = ask.answer.task_id if ask.answer else None
        known_ids = {own_id, *ask.candidates}
        others = [task for task in seen if task.task_id not in known_ids]
        judged = judge(
            ask, others, self._owner_of, shows_all=True, read_timeout_s=self.sweeper.read_timeout_s
        )
        if isinstance(judged, Found) and self._owns(ask, judged.task_id):
            self._submitter.note_second_task(ask, judged.task_id, self.report, self._change)

    # -- what was asked and not settled ---------------------------------------------------------

    def _resolve(self) -> None:
        self.report.damaged_keys += self._ledger.mend_places()
        for place in self._ledger.places():
            try:
                resolved = self._resolve_place(place)
            except DamagedRecord as error:  # of the place's ask: nothing can be told of it any more
                self._set_aside(error.key)
                resolved = True
            if resolved:
                self._ledger.give_place_back(place)
            else:
                self.closed_types.add(place.record.task_type)

    def _resolve_place(self, place: Kept[Place]) -> bool:
        """Bring the place's ask forward; whether the place may be given back."""
        ask = self._ledger.ask(place.record.ask_id)
        if ask is None:
            return self._resolve_unrecorded(place.record)
        if ask.answer is not None:
            self._settle(ask, ask.answer)
            return True
        if ask.ended_s is not None:
            self._leave_to_operator(ask)
            return True
        self.asked_ids.update(ask.event_ids)
        if ask.lost is None and ask.claim_ends_s > self._now_s():
            return False
        return self._look_for(ask)

    def _resolve_unrecorded(self, place: Place) -> bool:
        """Whoever took it records its ask within the claim, or asks nothing."""
        if place.claim_ends_s <= self._now_s():
            return True
        self.unrecorded_types.add(place.task_type)
        return False

    def _look_for(self, ask: Ask) -> bool:
        """One look for a lost task, if one is due; whether the ask is resolved now."""
        lost = self._known_as_lost(ask)
        if lost is None:
            return False
        if not self._is_waited_for(lost):
            return self._close(lost, ()) is not None
        if not look_is_due(lost, look_s=self.sweeper.look_s, now_s=self._now_s()):
            return False
        return self._in_time() and self._look(lost)

    def _look(self, ask: Ask) -> bool:
        match self._judged(ask):
            case Found(task_id):
                return self._adopt(ask, task_id)
            case Unclear(candidates):
                return self._hold(ask, candidates)
            case NothingYet():
                return self._look_later_or_ask_again(ask)
        return False

    def _known_as_lost(self, ask: Ask) -> Ask | None:
        """The ask, marked as lost where its asker died, so that a late asker who wakes up sends nothing;
        None where it has been answered meanwhile. Then its events are `unknown`.
        """
        lost = ask if ask.lost is not None else self._submitter.answer_ask(ask, _died_while_asking())
        if lost is None:
            return None
        events = [event for event in self._ledger.events(lost.event_ids) if event.waits]
        sendings = {(event.ask_id, event.ask_sendings) for event in events}
        if sendings - {(lost.ask_id, lost.sendings)}:
            self._settle(lost, Answer(outcome=Outcome.LOST, error=lost.lost))
        return lost

    def _is_waited_for(self, ask: Ask) -> bool:
        """Whether one of its events has not been given up."""
        return any(event.waits for event in self._ledger.events(ask.event_ids))

    def _look_later_or_ask_again(self, ask: Ask) -> bool:
        now_s = self._now_s()
        if not is_last_look(ask, look_s=self.sweeper.look_s, now_s=now_s):
            self._change_ask(ask, {"looked_s": now_s})
            return False
        if ask.request.task_type == RUNS_ON_HOSTS:
            return self._hold(ask, ())
        return self._ask_again(ask)

    def _judged(self, ask: Ask) -> Judgement | None:
        """What a look shows; None where the look failed, which is no look at all."""
        seen = self._seen_since(ask)
        if seen is None:
            return None
        return judge(
            ask,
            seen,
            self._owner_of,
            shows_all=self._security_center.describes(ask.request.task_type),
            read_timeout_s=self.sweeper.read_timeout_s,
        )

    def _seen_since(self, ask: Ask) -> Sequence[Task] | None:
        """What the service shows of the tasks that may be the ask's; None where it shows nothing usable."""
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

    def _owner_of(self, task_id: str) -> TaskOwner | None:
        try:
            return self._ledger.task_owner(task_id)
        except DamagedRecord as error:
            self.report.damaged_keys.append(error.key)
            return self._ledger.own_task(task_id, NOBODY)

    def _owns(self, ask: Ask, task_id: str) -> bool:
        """Whether the task is the ask's from now on."""
        return self._ledger.own_task(task_id, ask.ask_id).ask_id == ask.ask_id

    def _adopt(self, ask: Ask, task_id: str) -> bool:
        """The task was found: the answer that was lost."""
        answer = Answer(outcome=Outcome.CREATED, task_id=task_id)
        if not self._owns(ask, task_id) or self._submitter.answer_ask(ask, answer) is None:
            return False
        self.report.adopted += 1
        self._settle(ask, answer)
        return True

    def _hold(self, ask: Ask, candidates: tuple[str, ...]) -> bool:
        """Nobody can tell: the operator decides, and later asks are not held up."""
        closed = self._close(ask, candidates)
        if closed is None:
            return False
        self._leave_to_operator(closed)
        return True

    def _close(self, ask: Ask, candidates: tuple[str, ...]) -> Ask | None:
        """The ask, ended without an answer; None where it has been answered meanwhile.

        Candidates are written here, before they count as taken: a task that is an unresolved ask's is its
        answer.
        """
        closed = ask.model_copy(update={"candidates": candidates, "ended_s": self._now_s(), "watched": False})
        kept = self._ledger.change_ask(ask.ask_id, lambda kept: closed if kept == ask else kept)
        return closed if kept is closed else None

    def _leave_to_operator(self, ask: Ask) -> None:
        """An ask that ended without an answer: its candidates are taken, its events `Ambiguous`."""
        for task_id in ask.candidates:
            self._ledger.own_task(task_id, ask.ask_id)

        def ambiguous(event: Event) -> Event:
            in_doubt = event.status is Status.UNKNOWN and event.ask_id == ask.ask_id
            if not in_doubt or event.error == _AMBIGUOUS:
                return event
            return event.model_copy(update={"error": _AMBIGUOUS})

        for event_id in ask.event_ids:
            self._change(event_id, ambiguous)

    def _ask_again(self, ask: Ask) -> bool:
        """Send the ask once more, under a claim of our own; whether it is resolved now."""
        if self.stopped or not self._in_time_to_ask():
            return False
        again = ask.model_copy(
            update={
                "last_sent_s": self._now_s(),
                "sendings": ask.sendings + 1,
                "claim": secrets.token_hex(8),
                "claim_ends_s": self._submitter.claim_ends_s(self.deadline),
                "lost": None,
                "looked_s": None,
                "watched": True,
            }
        )
        if self._ledger.change_ask(ask.ask_id, lambda kept: again if kept == ask else kept) is not again:
            return False
        events = self._ledger.events(again.event_ids)
        answer = self._submitter.send(again, self.report, Limits(self.deadline))
        if answer is None:
            return False
        self.report.asked_again += 1
        asked = self._submitter.write_down(again, answer, events, self.report)
        self._take_in(asked)
        return asked.resolved

    # -- what waits -------------------------------------------------------------------------------

    def _submit(self) -> None:
        queue = deque(groups(self._due_events()))
        while queue and not self.stopped:
            group = queue.popleft()
            if group[0].request.task_type in self.closed_types:
                continue
            if not self._in_time_to_ask():
                break
            queue.extendleft(reversed(groups(self._ask(group))))

    def _due_events(self) -> list[Event]:
        """Of the oldest open events those whose turn it is; those that have waited too long are given up."""
        read = self._ledger.oldest_open_events(OLDEST_OPEN)
        for key in read.damaged_keys:
            self._set_aside(key)
        due = []
        for event in read.records:
            if self._waits_too_long(event):
                self._give_up(event)
            elif self._is_due(event):
                due.append(event)
        return due

    def _is_due(self, event: Event) -> bool:
        return event.status is Status.PENDING and event.due_s <= self._now_s()

    def _ask(self, group: list[Event]) -> list[Event]:
        """Ask for one group; the events that are to be asked for again at once, in smaller groups."""
        asked = self._submitter.ask(group, self.report, Limits(self.deadline))
        if asked is None:
            self.closed_types.add(group[0].request.task_type)
            return []
        self._take_in(asked)
        if not asked.resolved:
            self.closed_types.add(group[0].request.task_type)
        return [event for event in asked.events if event.part is not None and self._is_due(event)]

    def _take_in(self, asked: Asked) -> None:
        """Report where an ask left its events, and heed what its answer says of further asks."""
        for event in asked.events:
            if (event.ask_id, event.ask_sendings) == (asked.ask.ask_id, asked.ask.sendings):
                self.results[event.event_id] = event.result()
        if asked.answer.outcome is Outcome.CREATED:
            self.report.shared_by.append(len(asked.ask.event_ids))
        self.stopped = self.stopped or not asked.answer.asks_may_go_on

    def _waits_too_long(self, event: Event) -> bool:
        """Whether it has waited for as long as its route allows, and no task can come of it any more."""
        if event.give_up_s > self._now_s():
            return False
        in_doubt = event.status is Status.UNKNOWN
        return not (self._is_still_looked_for(event) if in_doubt else self._may_be_asked_now(event))

    def _may_be_asked_now(self, event: Event) -> bool:
        """Whether a call for it may be out: of the ask that has the place, or of its own handler."""
        by_its_handler = event.attempts == 0 and event.due_s > self._now_s()
        by_another = event.request.task_type in self.unrecorded_types or event.event_id in self.asked_ids
        return by_its_handler or by_another

    def _is_still_looked_for(self, event: Event) -> bool:
        try:
            ask = self._ledger.ask(event.ask_id) if event.ask_id else None
        except DamagedRecord:
            return False
        if ask is None or not ask.unresolved:
            return False
        return not is_last_look(ask, look_s=self.sweeper.look_s, now_s=self._now_s())

    def _give_up(self, event: Event) -> None:
        """Where the time has run out, the next sweep does."""
        if self.deadline.left_s() <= CALL_MARGIN_S:
            return
        code = Code.OUTCOME_UNKNOWN if event.doubtful or event.status is Status.UNKNOWN else Code.EXPIRED
        failed = given_up(event, code, self._now_s())
        self._change(event.event_id, lambda kept: failed if kept == event else kept)

    # -- changes ----------------------------------------------------------------------------------

    def _settle(self, ask: Ask, answer: Answer) -> None:
        self._submitter.settle(ask, answer, self._change)

    def _change_ask(self, ask: Ask, update: dict[str, object]) -> None:
        with suppress(DamagedRecord):  # reported when it is met next
            self._ledger.change_ask(ask.ask_id, lambda kept: kept.model_copy(update=update))

    def _change(self, event_id: str, change: Callable[[Event], Event]) -> Event | None:
        """Change one event, and report it if that changed where it stands."""
        before: list[Event] = []

        def remembered(event: Event) -> Event:
            before[:] = [event]
            return change(event)

        try:
            after = self._ledger.change_event(event_id, remembered)
        except DamagedRecord as error:
            self._set_aside(error.key)
            return None
        if after is not None and after is not before[0]:
            self.results[event_id] = after.result()
        return after

    def _set_aside(self, key: str) -> None:
        """Report a damaged record, once, and go on."""
        if not self._ledger.set_aside(key):
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
    return finish_for((), ended, (), served_alone=False, now_s=now_s)


def _died_while_asking() -> Answer:
    return Answer(
        outcome=Outcome.LOST,
        error=ErrorInfo(
            kind=Kind.UNKNOWN,
            code=Code.NO_ANSWER,
            message="whoever asked did not write an answer down; the sweep looks for the task",
        ),
    )
