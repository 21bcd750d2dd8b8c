"""A delivery's or tick's events: all are recorded, then asked for as far as that may be done now.

Nothing is asked before it is recorded. What is not asked now, for whatever reason, is left to the next sweep.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from oncetask.clock import Clock, Deadline
from oncetask.errors import (
    Code,
    DamagedRecord,
    Kind,
    LedgerUnavailable,
    RecordTooLarge,
    Rejection,
    TooManyOpen,
)
from oncetask.ledger.ledger import Ledger
from oncetask.ledger.records import Event
from oncetask.models import ErrorInfo, Outcome, Result, Status, Trigger, instant, rejection
from oncetask.submit.call import CLAIM_SLACK_S, Called, Caller
from oncetask.submit.report import Heeded, Limits, Report
from oncetask.submit.resolution import Resolver

LANE_PATIENCE_S = 1.0

type Draft = Event | Result
"""A new event, or the result of an item that will never be one."""


@dataclass(slots=True)
class _Turn:
    """How far one delivery or tick may go on asking."""

    report: Report
    deadline: Deadline
    last_call: Deadline | None
    heeded: Heeded = field(default_factory=Heeded)
    resolver: Resolver | None = None

    @property
    def has_asked(self) -> bool:
        """Once Security Center has answered, a failing ledger does not change what is reported."""
        return bool(self.report.create_latencies_ms)

    def limits(self) -> Limits:
        """Those of a call that begins now."""
        left_s = LANE_PATIENCE_S if self.last_call is None else self.last_call.left_s()
        return Limits(self.deadline, self.last_call, min(LANE_PATIENCE_S, left_s))


class Submitter:
    """The path of what comes in, over one caller."""

    def __init__(self, caller: Caller) -> None:
        self.caller = caller

    @property
    def ledger(self) -> Ledger:
        """The caller's."""
        return self.caller.ledger

    @property
    def clock(self) -> Clock:
        """The caller's."""
        return self.caller.clock

    def submit(
        self,
        drafts: Sequence[Draft],
        *,
        deadline: Deadline,
        last_call: Deadline | None = None,
        may_be_full: bool = False,
    ) -> Report:
        """A result for every draft, in order; results among the drafts pass through.

        `last_call`: no call begins after it. `may_be_full`: the route's limit of open events holds for these.
        Raises LedgerUnavailable as long as nothing was asked, and TooManyOpen before anything is recorded.
        """
        turn = _Turn(Report(), deadline, last_call)
        if may_be_full:
            self._raise_where_full(drafts)
        outcomes: dict[str, Draft] = {}
        for draft in drafts:
            if isinstance(draft, Event) and draft.event_id not in outcomes:
                outcomes[draft.event_id] = self._record(draft, deadline)
        fresh = [one for one in outcomes.values() if isinstance(one, Event)]
        outcomes |= {event.event_id: event for event in self._ask_in_turn(fresh, turn)}
        turn.report.results = _results_in_order(drafts, outcomes)
        return turn.report

    # -- recording ----------------------------------------------------------------------------

    def _raise_where_full(self, drafts: Sequence[Draft]) -> None:
        """What is known already may be delivered again; what would be new may not."""
        events = [draft for draft in drafts if isinstance(draft, Event)]
        full = [event for event in events if event.route is not None and self.ledger.is_full(event.route)]
        if not full:
            return
        bound = {
            event.event_id
            for event in self.ledger.events(event.event_id for event in full)
            if not event.frees_its_id
        }
        if {event.event_id for event in full} - bound:
            raise TooManyOpen(f"the route {full[0].route} has as many open events as its max_open allows")

    def _record(self, draft: Event, deadline: Deadline) -> Draft:
        """The new event; or the result of one that cannot be new. A new event that its own handler will ask
        for is not due before that handler must have ended.
        """
        now_s = self.clock.now_s()
        is_for_now = draft.submit == "now"
        due_s = now_s + max(0.0, deadline.left_s()) + CLAIM_SLACK_S if is_for_now else now_s
        event = draft.model_copy(update={"due_s": due_s})
        try:
            kept, is_new = self.ledger.record(event)
        except RecordTooLarge:
            return _rejected(draft, Code.RECORD_TOO_LARGE, "the event is too large to be kept", now_s)
        except DamagedRecord:
            return damaged(draft.event_id, now_s)
        return kept if is_new else _seen_again(draft, kept, now_s)

    # -- asking -------------------------------------------------------------------------------

    def _ask_in_turn(self, events: list[Event], turn: _Turn) -> list[Event]:
        """Where the new events stand once all are asked for that may be asked for now."""
        now_s = self.clock.now_s()
        stand: list[Event] = []
        overtakes: dict[str | None, bool] = {}
        for event in events:
            if event.due_s <= now_s:  # the sweep's, from the start
                stand.append(event)
                continue
            if event.route not in overtakes:
                overtakes[event.route] = self.ledger.something_is_due(event.route)
            stand += self._ask(event, turn, overtakes=overtakes[event.route])
        return stand

    def _ask(self, event: Event, turn: _Turn, *, overtakes: bool) -> list[Event]:
        """Where the event stands once its hosts were looked up and it was asked for, if it may be by now."""
        if not overtakes and event.hosts is not None:
            event = self._resolved(event, turn)
            if not event.waits or event.error is not None:
                return [event]
        asked = self._ask_alone(event, turn) if event.is_ready and not overtakes else None
        return asked.events if asked else [self._leave(event, turn)]

    def _resolved(self, event: Event, turn: _Turn) -> Event:
        """Where it stands once its hosts were looked up, as far as there is time."""
        if not self._is_in_time(turn):
            return event
        if turn.resolver is None:
            turn.resolver = self.caller.resolver(turn.last_call or turn.deadline)
            turn.report.ambiguous_hosts = turn.resolver.ambiguous
        try:
            return turn.resolver.resolve([event])[0]
        except DamagedRecord:  # a newer version has changed it; it is recorded, and a sweep reports it
            return event
        except LedgerUnavailable:
            if not turn.has_asked:
                raise
            return event

    def _ask_alone(self, event: Event, turn: _Turn) -> Called | None:
        """One event's call; None where it has to wait."""
        task_type = event.request.task_type
        if not turn.heeded.allows(task_type) or not self._is_in_time(turn):
            return None
        if event.give_up_s <= self.clock.now_s():  # a tick that came late: the sweep ends it
            return None
        try:
            called = self.caller.call([event], turn.report, turn.limits())
        except LedgerUnavailable:
            if not turn.has_asked:
                raise
            called = None
        if called is None or called.answer.outcome is Outcome.LOST:
            turn.heeded.closed_types.add(task_type)
        if called is not None:
            turn.heeded.heed(task_type, called.answer)
        return called

    def _is_in_time(self, turn: _Turn) -> bool:
        in_time = turn.last_call is None or turn.last_call.left_s() > 0
        return in_time and self.caller.has_time(turn.deadline)

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


def _results_in_order(drafts: Sequence[Draft], outcomes: dict[str, Draft]) -> list[Result]:
    """One result a draft; of equal ids the first counts, and the rest are duplicates of it."""
    results: list[Result] = []
    told: set[str] = set()
    for draft in drafts:
        if isinstance(draft, Result):
            results.append(draft)
            continue
        outcome = outcomes[draft.event_id]
        result = outcome.result() if isinstance(outcome, Event) else outcome
        results.append(result.as_duplicate() if draft.event_id in told else result)
        told.add(draft.event_id)
    return results


def _seen_again(draft: Event, kept: Event, now_s: float) -> Result:
    """What a delivery is told whose id is bound: where the event stands, unless it brings another item. Who
    does so under the item's own id learns where that stands, and nothing of the first one's request.
    """
    stands = kept.result_seen_again()
    if None in (draft.item_sha256, kept.item_sha256) or draft.item_sha256 == kept.item_sha256:
        return stands
    if draft.first_wins:
        return stands.model_copy(update={"request": None, "hosts_missing": []})
    return _rejected(draft, Code.EVENT_ID_REUSED, "this id came before with another content", now_s)


def _rejected(draft: Event, code: Code, message: str, now_s: float) -> Result:
    return rejection(
        Rejection(code, message),
        trigger=draft.trigger,
        route=draft.route,
        event_id=draft.event_id,
        request=draft.request,
        now_s=now_s,
    )


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
            message="the ledger's record of this event cannot be read: see `oncetask ledger show`",
        ),
        received_at=instant(now_s),
    )
