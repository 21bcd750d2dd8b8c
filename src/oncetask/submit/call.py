"""One call: take the lane with it, send it once, write the answer down, settle its events, release the lane.

    take the lane ──→ send ──→ answer on the lane ──→ task's record ──→ events ──→ release
       │ died: its claim ends; the sweep       │ died: the sweep settles the rest, without asking
       │ searches for the task                 │

A lane's holder is the only one who sends for events of that type, so events need no locks of their
own: they are read again under the lane.
"""

import secrets
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from oncetask.clock import Clock, Deadline, patiently
from oncetask.errors import DamagedRecord, LedgerUnavailable
from oncetask.ledger.ledger import Ledger
from oncetask.ledger.records import Call, Event, Lane, LostCall, Served, TaskRecord
from oncetask.ledger.rows import Kept
from oncetask.models import Answer, Outcome
from oncetask.submit.grouping import merged_request
from oncetask.submit.lookups import Lookups, Memory
from oncetask.submit.report import Limits, Report
from oncetask.submit.resolution import ChangeEvent, Resolver
from oncetask.submit.settlement import Jitter, Settlement, is_second_task, retry_s

if TYPE_CHECKING:  # Tea is not imported before somebody asks
    from oncetask.alibaba.security_center import SecurityCenter

CLAIM_SLACK_S = 5.0
"""A claim ends this long after its own call must have ended."""
BEFORE_CALL_S = 1.5
"""What a claim allows for the margin that a call keeps to its deadline, and for reading its events again."""


class Called(NamedTuple):
    """One call and where it left its events. `is_resolved`: it is written down and needs no search."""

    call: Call
    answer: Answer
    events: list[Event]
    is_resolved: bool


class Caller:
    """Calls over one ledger and one Security Center, which is opened at the first call."""

    def __init__(
        self, ledger: Ledger, security_center: "Callable[[], SecurityCenter]", clock: Clock, jitter: Jitter
    ) -> None:
        self.ledger = ledger
        self.security_center = security_center
        self.clock = clock
        self.jitter = jitter
        self._memory = Memory(clock)

    def resolver(self, deadline: Deadline, change: ChangeEvent | None = None) -> Resolver:
        """The lookups of one invocation that ends by then."""
        lookups = Lookups(self.security_center(), self._memory, deadline)
        change = change or self.ledger.change_event
        return Resolver(self.ledger, lookups, deadline, self.clock, self.jitter, change)

    def has_time(self, deadline: Deadline) -> bool:
        """Whether a call may still begin."""
        return self.security_center().has_time(deadline)

    # -- the lane -----------------------------------------------------------------------------

    def call(
        self, events: Sequence[Event], report: Report, limits: Limits, lost: Sequence[LostCall] = ()
    ) -> Called | None:
        """Ask for one task that serves these events of one type; None where that was not possible: the
        type's lane is taken, the events have changed, or there is no time.

        `lost`: the earlier calls of these events, which gave no answer. Raises LedgerUnavailable as long as
        Security Center was not asked; afterwards the answer stands, whatever the ledger does.
        """
        taken = self.take(events, limits, lost)
        if taken is None:
            return None
        lane, unchanged = taken
        return self.send(lane, unchanged, report, limits)

    def take(
        self, events: Sequence[Event], limits: Limits, lost: Sequence[LostCall] = ()
    ) -> tuple[Kept[Lane], list[Event]] | None:
        """The type's lane with a call for these events in it, and the events, all as they were read."""
        lane = self._take_lane(events, limits, lost)
        if lane is None:
            return None
        # Read again under the lane: until it was ours, others could settle, end or ask for these events.
        unchanged = self._unchanged(events)
        if len(unchanged) < len(events):
            self.ledger.release_lane(lane)
            return None if not unchanged else self.take(unchanged, limits, lost)
        return lane, unchanged

    def _take_lane(
        self, events: Sequence[Event], limits: Limits, lost: Sequence[LostCall]
    ) -> Kept[Lane] | None:
        return patiently(
            self.clock,
            limits.patience_s,
            lambda: self.ledger.take_lane(self._lane_for(events, limits.deadline, lost)),
        )

    def _lane_for(self, events: Sequence[Event], deadline: Deadline, lost: Sequence[LostCall]) -> Lane:
        now_s = self.clock.now_s()
        # A fresh id for each sending: what comes of it is applied to the events that name it alone.
        call = Call(
            call_id=secrets.token_hex(16),
            request=merged_request(events),
            events=tuple(Served.of(event) for event in events),
            target_key=events[0].target_key,
            sent_s=now_s,
            first_sent_s=min((one.call.first_sent_s for one in lost), default=now_s),
            earlier=tuple(one.call.call_id for one in lost),
        )
        return Lane(task_type=call.request.task_type, call=call, claim_ends_s=self._claim_ends_s(deadline))

    def _claim_ends_s(self, deadline: Deadline) -> float:
        """When a claim ends that is taken now: 5 s after its call, repeated with new keys, has ended."""
        call_s = BEFORE_CALL_S + self.security_center().ask_timeout_s()
        return self.clock.now_s() + max(0.0, min(deadline.left_s(), call_s)) + CLAIM_SLACK_S

    def _unchanged(self, events: Sequence[Event]) -> list[Event]:
        """Those that stand in the ledger as they were read, read again under the type's lane."""
        as_read = {event.event_id: event for event in events}
        return [event for event in self.ledger.events(as_read) if event == as_read[event.event_id]]

    # -- sending ------------------------------------------------------------------------------

    def begin(self, lane: Kept[Lane], deadline: Deadline) -> Kept[Lane] | None:
        """The lane with its call as sent from now on, and a claim to match; None where others took it over.
        For a call before which time went by under the lane.
        """
        call = _call_of(lane).model_copy(update={"sent_s": self.clock.now_s()})
        return self.ledger.change_lane(lane, call=call, claim_ends_s=self._claim_ends_s(deadline))

    def send(
        self, lane: Kept[Lane], events: Sequence[Event], report: Report, limits: Limits
    ) -> Called | None:
        """Send the call that the lane holds, once; None, and the lane released, where it is too late."""
        answer = self._answer(lane.record, report, limits)
        if answer is None:
            self.ledger.release_lane(lane)
            return None
        return self._write_down(lane, answer, events, report)

    def _answer(self, lane: Lane, report: Report, limits: Limits) -> Answer | None:
        """None, and nothing sent, where it is too late: a call ends before its claim and its invocation do,
        so that a process that was frozen meanwhile sends nothing.
        """
        now = Deadline.after(0.0, self.clock)  # read first: who is frozen behind it has less time, not more
        within_claim_s = lane.claim_ends_s - CLAIM_SLACK_S - self.clock.now_s()
        ends = min(
            limits.deadline, now._replace(ends_elapsed_s=now.ends_elapsed_s + within_claim_s), key=_end
        )
        is_late = limits.last_call is not None and limits.last_call.left_s() <= 0
        if lane.call is None or is_late or not self.has_time(ends):
            return None
        began_s = self.clock.elapsed_s()
        answer = self.security_center().generate(lane.call.request, ends)
        report.create_latencies_ms.append((self.clock.elapsed_s() - began_s) * 1000)
        return answer

    # -- after the answer ---------------------------------------------------------------------

    def _write_down(
        self, lane: Kept[Lane], answer: Answer, events: Sequence[Event], report: Report
    ) -> Called:
        """The answer on the lane before anything is reckoned from it, then on its events; what could not be
        written is left to the next sweep, and reported all the same.
        """
        call = _call_of(lane)
        try:
            answered = self.note_answer(lane, answer, [event.failures for event in events])
        except (LedgerUnavailable, DamagedRecord):
            return Called(call, answer, self._reported(call, answer, events), is_resolved=False)
        if answered is None:
            return self._overtaken(call, answer, events, report)
        call = _call_of(answered)
        try:
            stand = self.settle(call, answer, events, report)
            # An unanswered call keeps its lane: whatever task of the type shows up now may be its.
            # And a lane that somebody took over meanwhile is theirs to release: they may be ending events.
            if answer.outcome is not Outcome.LOST and _has_same_holder(answered, lane):
                self.ledger.release_lane(answered)
        except (LedgerUnavailable, DamagedRecord):
            return Called(call, answer, self._reported(call, answer, events), is_resolved=False)
        return Called(call, answer, stand, is_resolved=answer.outcome is not Outcome.LOST)

    def note_answer(self, lane: Kept[Lane], answer: Answer, failures: Sequence[int]) -> Kept[Lane] | None:
        """The lane with the answer in its call; None where others have resolved the call."""
        now_s = self.clock.now_s()
        update: dict[str, object] = {"answer": answer}
        if answer.outcome is Outcome.LOST:
            update = {"lost": answer.error}
        else:
            update["retry_s"] = retry_s(answer, failures, now_s, self.jitter)
        call = _call_of(lane).model_copy(update=update)
        current: Kept[Lane] | None = lane
        while current is not None and _is_unresolved(current, call):
            # The call is over: nobody has to wait for the end of its claim any more. Another's claim goes on.
            claim_ends_s = current.record.claim_ends_s
            ends_s = min(claim_ends_s, now_s) if _has_same_holder(current, lane) else claim_ends_s
            answered = self.ledger.change_lane(current, call=call, claim_ends_s=ends_s)
            if answered is not None:
                return answered
            current = self.ledger.lane(call.request.task_type)  # a sweep has marked it, or holds it
        return None

    def settle(
        self,
        call: Call,
        answer: Answer,
        events: Sequence[Event],
        report: Report,
        change: ChangeEvent | None = None,
    ) -> list[Event]:
        """The call's events as the answer leaves them; the task's record first. Done again after a death, it
        finishes the rest.
        """
        # Before any event has the task: a search for another lost call must not take it for that one's.
        if answer.task_id is not None:
            self.claim_task(call, answer.task_id)
        settlement = Settlement.of(call, answer, events, self.clock.now_s())
        return self._apply(settlement.apply, call, report, change)

    def _apply(
        self,
        become: Callable[[Event], Event],
        call: Call,
        report: Report,
        change: ChangeEvent | None,
    ) -> list[Event]:
        change = change or self.ledger.change_event
        stand = []
        tells_second = False
        for event_id in call.event_ids:
            changed = _Remembered(become)
            event = change(event_id, changed)
            if event is not None:
                stand.append(event)
                tells_second = tells_second or changed.told_second_task
        report.second_tasks += tells_second
        return stand

    def claim_task(self, call: Call, task_id: str) -> TaskRecord:
        """The task's record, made before the lane is released: whose it is, and whom to tell of its end."""
        return self.ledger.claim_task(
            TaskRecord(
                task_id=task_id,
                call_id=call.call_id,
                task_type=call.request.task_type,
                task_name=call.request.task_name,
                events=call.events,
                targets=call.targets,
                since_s=self.clock.now_s(),
            )
        )

    def _reported(self, call: Call, answer: Answer, events: Sequence[Event]) -> list[Event]:
        settlement = Settlement.of(call, answer, events, self.clock.now_s())
        return [settlement.apply(event) for event in events]

    def _overtaken(self, call: Call, answer: Answer, events: Sequence[Event], report: Report) -> Called:
        """Others took the lane over before the answer came. A task in the answer is this call's all the same:
        its events that are still open get it, the others are told of a second task.
        """
        stand: list[Event] = list(events)
        with suppress(LedgerUnavailable, DamagedRecord):
            if answer.task_id is not None:
                stand = self.settle(call, answer, events, report)
                self.ledger.change_lost_call(
                    call.call_id, lambda kept: kept.model_copy(update={"watched_until_s": None})
                )
            else:
                stand = self.ledger.events(call.event_ids)
        return Called(call, answer, stand, is_resolved=False)


class _Remembered:
    """A change that remembers whether it told of a second task; the last try counts."""

    def __init__(self, become: Callable[[Event], Event]) -> None:
        self._become = become
        self.told_second_task = False

    def __call__(self, event: Event) -> Event:
        became = self._become(event)
        self.told_second_task = is_second_task(event, became)
        return became


def _end(deadline: Deadline) -> float:
    return deadline.ends_elapsed_s


def _is_unresolved(lane: Kept[Lane], call: Call) -> bool:
    """Whether the lane still holds that call, without an answer."""
    held = lane.record.call
    return held is not None and held.call_id == call.call_id and held.answer is None


def _has_same_holder(lane: Kept[Lane], other: Kept[Lane]) -> bool:
    return lane.record.holder == other.record.holder


def _call_of(lane: Kept[Lane]) -> Call:
    if lane.record.call is None:
        raise AssertionError("a lane that is sent for holds its call")
    return lane.record.call
