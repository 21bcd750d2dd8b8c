"""A lost answer is searched for among what the service shows of its tasks."""

from collections.abc import Callable

from oncetask.errors import QueryFailed
from oncetask.ledger.records import Call, Event, LostCall, TaskRecord
from oncetask.submit.settlement import (
    Made,
    is_second_task,
    left_to_operator,
    searched_in_vain,
    with_task,
)
from oncetask.sweep.context import Context
from oncetask.sweep.matching import BEFORE_S, Found, Judgement, Shown, judge, judge_later

WATCHED_S = 3_600
"""How long after its events were sent again a lost call's own task may still be noticed."""

type Become = Callable[[Event], Event]


def judged(context: Context, call: Call) -> Judgement | None:
    """What a search shows; None where the search failed, which is no search at all."""
    shown = _shown_since(context, call)
    if shown is None:
        return None
    return judge(call, shown, context.record_of, read_timeout_s=context.rules.read_timeout_s)


def judged_later(context: Context, call: Call) -> Judgement | None:
    """The same for a call that was searched for in vain before."""
    shown = _shown_since(context, call)
    if shown is None:
        return None
    return judge_later(call, shown, context.record_of, read_timeout_s=context.rules.read_timeout_s)


def _shown_since(context: Context, call: Call) -> Shown | None:
    """What the service shows of the tasks that may be the call's; None where it shows nothing usable."""
    security_center, request = context.security_center, call.request
    try:
        if security_center.describes(request.task_type):
            since_s = call.first_sent_s - BEFORE_S
            tasks = security_center.tasks_started_since(request.task_type, since_s, context.deadline)
            return Shown(tasks, is_all=True)
        last = security_center.last_task(request.task_type, request.task_name, context.deadline)
    except QueryFailed as error:
        context.report.failed_queries.append(error)
        return None
    return Shown([last] if last else [], is_all=False)


def adopt(context: Context, call: Call, task_id: str) -> bool:
    """The task is the call's from now on, and its events have it; False where another call has the task."""
    if not _claims(context, call, task_id):
        return False
    made = Made(task_id, call.call_id, len(call.events))
    attempts = {served.event_id: served.attempts + 1 for served in call.events}
    _change_events(
        context,
        call,
        lambda event: with_task(event, made, context.now_s(), attempts=attempts[event.event_id]),
    )
    context.open.running.add(task_id)
    return True


def _claims(context: Context, call: Call, task_id: str) -> bool:
    return context.caller.claim_task(call, task_id).call_id == call.call_id


def close_in_vain(context: Context, call: Call, *, watched_until_s: float | None = None) -> None:
    """Nothing showed a task of the call: its events wait, and it is remembered for their next attempt.

    `watched_until_s`: they have an earlier call's task instead, and its own may still show.
    """
    lost = _lost(context, call, "in-vain")
    context.ledger.keep_lost_call(lost.model_copy(update={"watched_until_s": watched_until_s}))
    _change_events(context, call, lambda event: searched_in_vain(event, call, context.now_s()))


def leave_to_operator(context: Context, call: Call, candidates: tuple[str, ...]) -> None:
    """Nobody can tell: the operator decides, its candidates count as taken, and nobody is held up."""
    lost = _lost(context, call, "ambiguous", candidates)
    # It may be there as searched for in vain, by an earlier closing that died: then it becomes ambiguous.
    context.ledger.keep_lost_call(lost)
    context.ledger.change_lost_call(call.call_id, lambda kept: kept if kept.why == lost.why else lost)
    for task_id in candidates:
        context.ledger.claim_task(_candidate(context, call, task_id))
    _change_events(context, call, lambda event: left_to_operator(event, call, context.now_s()))


def _lost(context: Context, call: Call, why: str, candidates: tuple[str, ...] = ()) -> LostCall:
    now_s = context.now_s()
    ends = [event.give_up_s for event in context.ledger.events(call.event_ids)]
    return LostCall(
        call=call,
        why="ambiguous" if why == "ambiguous" else "in-vain",
        closed_s=now_s,
        candidates=candidates,
        needed_until_s=max([now_s, *ends]),
    )


def _candidate(context: Context, call: Call, task_id: str) -> TaskRecord:
    return TaskRecord(
        task_id=task_id,
        call_id=call.call_id,
        task_type=call.request.task_type,
        task_name=call.request.task_name,
        since_s=context.now_s(),
        is_candidate=True,
    )


def _change_events(context: Context, call: Call, become: Become) -> None:
    """Apply a change to those of the call's events that it was sent for."""
    instances = {served.event_id: served.instance for served in call.events}
    told_second = False

    def changed(event: Event) -> Event:
        nonlocal told_second
        if event.instance != instances[event.event_id]:
            return event
        became = become(event)
        told_second = told_second or is_second_task(event, became)
        return became

    for event_id in instances:
        context.change(event_id, changed)
    context.report.second_tasks += told_second


# -- after a call was sent again ------------------------------------------------------------------


def watch(context: Context, lost: LostCall, *, lane_is_free: bool) -> None:
    """Notice the task of a call that was given up as lost and whose events were sent again.

    Not while the type's lane is taken: what nobody has then may be the task of that lane's call.
    """
    if lane_is_free:
        match judged_later(context, lost.call):
            case Found(task_id):
                if adopt(context, lost.call, task_id):
                    _stop_watching(context, lost)
                    return
    if context.now_s() > (lost.watched_until_s or 0.0):
        _stop_watching(context, lost)


def watch_from_now(context: Context, call_id: str) -> None:
    """The lost call's events are about to be sent again: its own task may still show."""
    until_s = context.now_s() + WATCHED_S
    context.ledger.change_lost_call(
        call_id, lambda kept: kept.model_copy(update={"watched_until_s": until_s})
    )


def _stop_watching(context: Context, lost: LostCall) -> None:
    context.ledger.change_lost_call(
        lost.call.call_id, lambda kept: kept.model_copy(update={"watched_until_s": None})
    )
