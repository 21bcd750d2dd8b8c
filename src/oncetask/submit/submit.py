"""The one path: record, take the type's place, ask, answer on the ask, settle its events.

Nothing is asked before it is recorded. What is not asked now, for whatever reason, is left to the
next sweep; what was asked and then not written down is found by it.
"""

import secrets
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

from oncetask.clock import Clock, Deadline
from oncetask.errors import Code, DamagedRecord, Kind, LedgerUnavailable, Rejection
from oncetask.ledger.ledger import Kept, Ledger
from oncetask.ledger.records import Ask, Event, Place
from oncetask.models import Answer, ErrorInfo, Outcome, Result, Status, Trigger, instant, rejection
from oncetask.submit.grouping import merged_request
from oncetask.submit.settlement import Jitter, Settlement

if TYPE_CHECKING:  # Tea is not imported before somebody asks
    from oncetask.alibaba.security_center import SecurityCenter

CLAIM_SLACK_S = 5.0
"""A claim ends this long after its own call must have ended."""
BEFORE_CALL_S = 1.5
"""What a claim allows for the margin that a call keeps to its deadline, and for recording the ask."""
PLACE_PATIENCE_S = 1.0
PLACE_POLL_S = 0.02
OLDEST_OPEN = 2000
"""How many open events are looked at, at most."""


type ChangeEvent = Callable[[str, Callable[[Event], Event]], Event | None]
"""`Ledger.change_event`, or something that also remembers what changed."""


@dataclass(slots=True)
class Report:
    """What one invocation did, for its reply, its log and its metrics."""

    results: list[Result] = field(default_factory=list)
    create_latencies_ms: list[float] = field(default_factory=list)
    adopted: int = 0
    asked_again: int = 0
    second_tasks: int = 0


class Asked(NamedTuple):
    """One ask and where it left its events. `resolved`: that is written down, and nothing is looked for."""

    ask: Ask
    answer: Answer
    events: list[Event]
    resolved: bool


class Limits(NamedTuple):
    """How long one ask may take.

    `last_ask`: nothing is sent later. `patience_s`: how long a place that is taken is waited for.
    """

    deadline: Deadline
    last_ask: Deadline | None = None
    patience_s: float = 0.0


@dataclass(slots=True)
class _Turn:
    """How far one delivery or tick may go on asking."""

    report: Report
    deadline: Deadline
    last_ask: Deadline | None
    taken_types: set[str] = field(default_factory=set)
    stopped: bool = False

    @property
    def has_asked(self) -> bool:
        """Once Security Center has answered, a failing ledger does not change what is reported."""
        return bool(self.report.create_latencies_ms)

    def limits(self) -> Limits:
        """Those of an ask that begins now."""
        left_s = PLACE_PATIENCE_S if self.last_ask is None else self.last_ask.left_s()
        return Limits(self.deadline, self.last_ask, min(PLACE_PATIENCE_S, left_s))


class Submitter:
    """The path over one ledger and one Security Center, which is opened at the first ask."""

    def __init__(
        self, ledger: Ledger, security_center: "Callable[[], SecurityCenter]", clock: Clock, jitter: Jitter
    ) -> None:
        self.ledger = ledger
        self.security_center = security_center
        self.clock = clock
        self.jitter = jitter

    def submit(
        self,
        drafts: Sequence[Event | Result],
        *,
        deadline: Deadline,
        last_ask: Deadline | None = None,
    ) -> Report:
        """A result for every draft, in order; results among the drafts pass through.

        `last_ask`: no ask begins after it. Raises LedgerUnavailable as long as nothing was asked.
        """
        report = Report()
        first_of_id: dict[str, Event | Result] = {}
        fresh: list[Event] = []
        waiting_types = self._types_that_wait(drafts)
        for draft in drafts:
            if isinstance(draft, Event) and draft.event_id not in first_of_id:
                outcome = self._record(draft, waiting_types, deadline)
                first_of_id[draft.event_id] = outcome
                if isinstance(outcome, Event):
                    fresh.append(outcome)
        for event in self._ask_in_turn(fresh, _Turn(report, deadline, last_ask)):
            first_of_id[event.event_id] = event
        report.results = _results_in_order(drafts, first_of_id)
        return report

    # -- recording ----------------------------------------------------------------------------

    def _types_that_wait(self, drafts: Iterable[Event | Result]) -> set[str]:
        """Of the drafts' task types, those of which something due waits already: nobody overtakes it."""
        wanted = {
            draft.request.task_type for draft in drafts if isinstance(draft, Event) and draft.submit == "now"
        }
        found: set[str] = set()
        if not wanted:
            return found
        now_s = self.clock.now_s()
        for waiting in islice(self.ledger.waiting(), OLDEST_OPEN):
            if waiting.task_type in wanted and waiting.due_s is not None and waiting.due_s <= now_s:
                found.add(waiting.task_type)
            if found == wanted:
                break
        return found

    def _record(self, draft: Event, waiting_types: set[str], deadline: Deadline) -> Event | Result:
        """The new event; or the result of one that cannot be new. A new event that its own handler
        will ask for is not due before that handler must have ended.
        """
        claimed = draft.submit == "now" and draft.request.task_type not in waiting_types
        now_s = self.clock.now_s()
        due_s = now_s + max(0.0, deadline.left_s()) + CLAIM_SLACK_S if claimed else now_s
        event = draft.model_copy(update={"due_s": due_s})
        try:
            kept, is_new = self.ledger.record(event)
        except DamagedRecord:
            return damaged(draft.event_id, now_s)
        if is_new:
            return kept
        return _seen_again(draft, kept, now_s)

    # -- asking -------------------------------------------------------------------------------

    def _ask_in_turn(self, events: list[Event], turn: _Turn) -> list[Event]:
        """Where the new events stand once all are asked for that may be asked for now."""
        now_s = self.clock.now_s()
        stand: list[Event] = []
        for event in events:
            if event.due_s <= now_s:  # the sweep's, from the start
                stand.append(event)
                continue
            asked = self._ask_alone(event, turn)
            stand += asked.events if asked else [self._leave(event, turn)]
        return stand

    def _ask_alone(self, event: Event, turn: _Turn) -> Asked | None:
        """One event's ask; None where it has to wait."""
        task_type = event.request.task_type
        if task_type in turn.taken_types or not self._may_begin(turn):
            return None
        try:
            asked = self.ask([event], turn.report, turn.limits())
        except LedgerUnavailable:
            if not turn.has_asked:
                raise
            asked = None
        if asked is None or asked.answer.outcome is Outcome.LOST:
            turn.taken_types.add(task_type)
        if asked is not None and not asked.answer.asks_may_go_on:
            turn.stopped = True
        return asked

    def _may_begin(self, turn: _Turn) -> bool:
        in_time = turn.last_ask is None or turn.last_ask.left_s() > 0
        return in_time and not turn.stopped and self.security_center().has_time(turn.deadline)

    def _leave(self, event: Event, turn: _Turn) -> Event:
        """Give a new event to the next sweep; where it stands then."""
        left = event.model_copy(update={"due_s": self.clock.now_s()})
        try:
            kept = self.ledger.change_event(event.event_id, lambda kept: left if kept == event else kept)
        except DamagedRecord:
            return left
        except LedgerUnavailable:
            if not turn.has_asked:
                raise
            return left
        return kept or left

    def ask(self, events: Sequence[Event], report: Report, limits: Limits) -> Asked | None:
        """Ask for one task that serves these events of one type; None where that was not possible:
        the type's place is taken, the events have changed, or there is no time.

        Raises LedgerUnavailable as long as Security Center was not asked; afterwards the answer
        stands, whatever the ledger does.
        """
        place = self._take_place(events[0].request.task_type, limits)
        if place is None:
            return None
        unchanged = self._unchanged(events)
        if not unchanged or self.clock.now_s() >= place.record.claim_ends_s:
            self.ledger.give_place_back(place)
            return None
        ask = self._new_ask(place.record, unchanged)
        self.ledger.record_ask(ask)
        answer = self.send(ask, report, limits)
        if answer is None:
            self._close_unsent(ask, place)
            return None
        asked = self.write_down(ask, answer, unchanged, report)
        if asked.resolved:
            with suppress(LedgerUnavailable):
                self.ledger.give_place_back(place)
        return asked

    def claim_ends_s(self, deadline: Deadline) -> float:
        """When a claim ends that is taken now: 5 s after its call, repeated with new keys, has ended."""
        call_s = BEFORE_CALL_S + self.security_center().ask_timeout_s()
        return self.clock.now_s() + max(0.0, min(deadline.left_s(), call_s)) + CLAIM_SLACK_S

    def _take_place(self, task_type: str, limits: Limits) -> Kept[Place] | None:
        waited = Deadline.after(limits.patience_s, self.clock)
        ask_id = secrets.token_hex(16)
        while True:
            place = self.ledger.take_place(
                Place(task_type=task_type, ask_id=ask_id, claim_ends_s=self.claim_ends_s(limits.deadline))
            )
            if place is not None or waited.left_s() <= 0:
                return place
            self.clock.sleep(min(PLACE_POLL_S, waited.left_s()))

    def _unchanged(self, events: Sequence[Event]) -> list[Event]:
        """Those that stand in the ledger as they were read, read anew under the type's place."""
        as_read = {event.event_id: event for event in events}
        return [event for event in self.ledger.events(as_read) if event == as_read[event.event_id]]

    def _new_ask(self, place: Place, events: Sequence[Event]) -> Ask:
        """Under the place's own claim: who was held up until that has ended sends nothing any more."""
        now_s = self.clock.now_s()
        return Ask(
            ask_id=place.ask_id,
            request=merged_request(events),
            event_ids=tuple(event.event_id for event in events),
            attempts_before=tuple(event.attempts for event in events),
            first_sent_s=now_s,
            last_sent_s=now_s,
            claim=secrets.token_hex(8),
            claim_ends_s=place.claim_ends_s,
        )

    def send(self, ask: Ask, report: Report, limits: Limits) -> Answer | None:
        """Security Center's answer to a recorded ask; None, and nothing sent, where it is too late for that:
        a call ends before its claim and its invocation do.
        """
        within_claim_s = ask.claim_ends_s - CLAIM_SLACK_S - self.clock.now_s()
        ends = Deadline.after(min(limits.deadline.left_s(), within_claim_s), self.clock)
        is_late = limits.last_ask is not None and limits.last_ask.left_s() < 0
        if is_late or not self.security_center().has_time(ends):
            return None
        began_s = self.clock.elapsed_s()
        answer = self.security_center().generate(ask.request, ends)
        report.create_latencies_ms.append((self.clock.elapsed_s() - began_s) * 1000)
        return answer

    def _close_unsent(self, ask: Ask, place: Kept[Place]) -> None:
        """Nothing was sent for this ask and nothing will be, unless a sweep looks for it already."""
        closed = ask.model_copy(update={"ended_s": self.clock.now_s()})
        kept = self.ledger.change_ask(ask.ask_id, lambda kept: closed if kept == ask else kept)
        if kept is closed:
            self.ledger.give_place_back(place)

    # -- after the answer ---------------------------------------------------------------------

    def write_down(self, ask: Ask, answer: Answer, events: Sequence[Event], report: Report) -> Asked:
        """The answer on the ask, then on its events; what cannot be written is left to the next sweep,
        and reported all the same.
        """
        settlement = self._settlement(ask, answer, events)
        reported = [settlement.apply(event) for event in events]
        try:
            if self.answer_ask(ask, answer) is None:
                return Asked(ask, answer, self._overtaken(ask, answer, report), resolved=False)
            stand = self._apply(settlement)
        except (LedgerUnavailable, DamagedRecord):
            return Asked(ask, answer, reported, resolved=False)
        return Asked(ask, answer, stand, resolved=answer.outcome is not Outcome.LOST)

    def _overtaken(self, ask: Ask, answer: Answer, report: Report) -> list[Event]:
        """Where the events stand of an ask that others took over before the answer came.

        A task in the answer is the ask's all the same, so that nobody takes it for another's; it is one
        too many if the ask has found another meanwhile.
        """
        if answer.task_id is not None:
            self.ledger.own_task(answer.task_id, ask.ask_id)
            kept = self.ledger.ask(ask.ask_id)
            if kept is not None and kept.answer is not None and kept.answer.task_id != answer.task_id:
                self.note_second_task(kept, answer.task_id, report)
        return self.ledger.events(ask.event_ids)

    def note_second_task(
        self, ask: Ask, task_id: str, report: Report, change: ChangeEvent | None = None
    ) -> None:
        """Tell the operator of a task that one of the ask's sendings made besides the one it goes by."""
        report.second_tasks += 1
        error = ErrorInfo(
            kind=Kind.OPERATOR,
            code=Code.SECOND_TASK,
            message=f"a second task was made for this event: {task_id}",
        )

        def noted(event: Event) -> Event:
            return event if event.task_id is None else event.model_copy(update={"error": error})

        change = change or self.ledger.change_event
        for event_id in ask.event_ids:
            change(event_id, noted)
        self.ledger.change_ask(
            ask.ask_id, lambda kept: kept.model_copy(update={"candidates": (*kept.candidates, task_id)})
        )

    def answer_ask(self, ask: Ask, answer: Answer) -> Ask | None:
        """The ask with this answer on it; None where it is answered otherwise, or others took it over."""
        update: dict[str, object] = (
            {"lost": answer.error}
            if answer.outcome is Outcome.LOST
            else {"answer": answer, "answered_s": self.clock.now_s()}
        )

        def answered(kept: Ask) -> Ask:
            ours = kept.claim == ask.claim and kept.unresolved
            return kept.model_copy(update=update) if ours else kept

        kept = self.ledger.change_ask(ask.ask_id, answered)
        if kept is None or kept.claim != ask.claim or kept.ended_s is not None:
            return None
        return kept if kept.answer == update.get("answer") else None

    def settle(self, ask: Ask, answer: Answer, change: ChangeEvent | None = None) -> list[Event]:
        """The ask's events as the answer leaves them. Done again after a death, it finishes the rest."""
        return self._apply(self._settlement(ask, answer, self.ledger.events(ask.event_ids)), change)

    def _apply(self, settlement: Settlement, change: ChangeEvent | None = None) -> list[Event]:
        ask, task_id = settlement.ask, settlement.answer.task_id
        if task_id is not None:
            self.ledger.own_task(task_id, ask.ask_id)
        change = change or self.ledger.change_event
        changed = (change(event_id, settlement.apply) for event_id in ask.event_ids)
        return [event for event in changed if event is not None]

    def _settlement(self, ask: Ask, answer: Answer, events: Sequence[Event]) -> Settlement:
        return Settlement.of(ask, answer, events, now_s=self.clock.now_s(), jitter=self.jitter)


def _results_in_order(
    drafts: Sequence[Event | Result], first_of_id: dict[str, Event | Result]
) -> list[Result]:
    """One result a draft; of equal ids the first counts, and the rest are duplicates of it."""
    results: list[Result] = []
    told: set[str] = set()
    for draft in drafts:
        if isinstance(draft, Result):
            results.append(draft)
            continue
        outcome = first_of_id[draft.event_id]
        result = outcome.result() if isinstance(outcome, Event) else outcome
        if draft.event_id in told:
            result = result.model_copy(update={"status": Status.DUPLICATE, "error": None, "finish": None})
        told.add(draft.event_id)
        results.append(result)
    return results


def _seen_again(draft: Event, kept: Event, now_s: float) -> Result:
    """What a delivery is told whose id is bound: the first wins, unless it is another item's."""
    compared = draft.item_sha256 is not None and kept.item_sha256 is not None
    if compared and draft.item_sha256 != kept.item_sha256:
        return rejection(
            Rejection(Code.EVENT_ID_REUSED, "this id came before with another content"),
            trigger=draft.trigger,
            route=draft.route,
            event_id=draft.event_id,
            request=draft.request,
            now_s=now_s,
        )
    return kept.result_seen_again()


def damaged(event_id: str, now_s: float) -> Result:
    """The result of an event whose record cannot be read."""
    return Result(
        event_id=event_id,
        status=Status.UNKNOWN,
        trigger=Trigger.WEBHOOK if event_id.startswith("webhook:") else Trigger.TIMER,
        route=None,
        error=ErrorInfo(
            kind=Kind.OPERATOR,
            code=Code.RECORD_DAMAGED,
            message="the ledger's record of this event cannot be read: see `make ledger CMD=show`",
        ),
        received_at=instant(now_s),
    )
