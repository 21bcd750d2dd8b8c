"""One pass over what is open: recover, follow, search, submit.

No sleeping; what does not fit into the time is the next sweep's. One sweep works at a time, under a
lease; a second one changes nothing, and a sweep that outlives its lease does no harm, because every
write still meets the version it read.

    recover   answered, not all settled    → settled, without asking
              died or silent while asked   → `unknown`; searched for; adopted, put off or `Ambiguous`
    follow    a task that has ended        → its events `finished`, its record closed
    submit    due and waiting              → given up past its end, else coalesced; a call a route in turn
"""

import math
from collections.abc import Sequence

from oncetask.clock import Deadline
from oncetask.ledger.records import Lease, LostCall, TaskRecord
from oncetask.ledger.rows import Kept
from oncetask.submit.call import Caller
from oncetask.sweep.context import CALL_MARGIN_S, Context, Gauges, Rules, SweepReport
from oncetask.sweep.follow import follow
from oncetask.sweep.queue import RouteQueue, read_queues
from oncetask.sweep.recover import recover
from oncetask.sweep.search import watch
from oncetask.sweep.turns import take_turns

LONGEST_S = 50.0
BEFORE_INVOCATION_ENDS_S = 5.0
LEASE_SLACK_S = 5.0


class Sweeper:
    """The sweep over one caller's ledger and Security Center."""

    def __init__(self, caller: Caller, rules: Rules) -> None:
        self.caller = caller
        self.rules = rules

    def sweep(self, invocation: Deadline, report: SweepReport | None = None) -> SweepReport:
        """One pass. Raises LedgerUnavailable; a report that was given then tells what was done before."""
        ledger, clock = self.caller.ledger, self.caller.clock
        length_s = max(0.0, min(LONGEST_S, invocation.left_s() - BEFORE_INVOCATION_ENDS_S))
        report = SweepReport() if report is None else report
        ends = Deadline.after(length_s + CALL_MARGIN_S, clock)
        lease = ledger.take_lease(math.ceil(clock.now_s() + length_s + LEASE_SLACK_S))
        if lease is None:
            report.gauges = self.gauges()
            return report
        context = Context(self.caller, self.rules, report, ends, length_s, lease.record)
        try:
            self._run(context, lease)
        finally:
            report.results = list(context.results.values())
            report.gauges = context.open.gauges(clock.now_s())
        return report

    def gauges(self) -> Gauges:
        """How much is open now."""
        context = Context(
            self.caller, self.rules, SweepReport(), Deadline.after(LONGEST_S, self.caller.clock), 0.0, Lease()
        )
        self._read_open(context, context.ledger.taken(()).queues)
        return context.open.gauges(context.now_s())

    def _read_open(
        self, context: Context, names: Sequence[str]
    ) -> tuple[list[RouteQueue], list[TaskRecord], list[LostCall]]:
        """What is open, by queue, and what runs; all of it counted."""
        ledger = context.ledger
        queues = read_queues(context, (*self.rules.queues, *names))
        tasks, lost_calls = ledger.running()
        for key in (*tasks.damaged_keys, *lost_calls.damaged_keys):
            context.set_aside(key)
        context.open.running.update(task.task_id for task in tasks.records)
        return queues, tasks.records, lost_calls.records

    def _run(self, context: Context, lease: Kept[Lease]) -> None:
        ledger = context.ledger
        followed_to, turns, full = (
            lease.record.followed_to,
            dict(lease.record.turns),
            lease.record.full_routes,
        )
        try:
            ledger.store.forget_expired(context.now_s())
            names = recover(context, self.rules.task_types)
            queues, tasks, lost_calls = self._read_open(context, names)
            followed_to = follow(context, tasks)
            _watch(context, lost_calls)
            full = self._full_routes(queues)
            take_turns(context, queues, turns)
        finally:
            ledger.release_lease(lease, followed_to=followed_to, turns=turns, full_routes=full)

    def _full_routes(self, queues: Sequence[RouteQueue]) -> tuple[str, ...]:
        """The routes that have as many open events as they may, or more."""
        most = self.rules.max_open
        return tuple(
            queue.queue.removeprefix("event/")
            for queue in queues
            if queue.queue in most and queue.open_events >= most[queue.queue]
        )


def _watch(context: Context, lost_calls: Sequence[LostCall]) -> None:
    for lost in lost_calls:
        if not context.is_in_time():
            return
        with context.leaving_damage():
            watch(context, lost, lane_is_free=lost.call.request.task_type not in context.heeded.closed_types)
