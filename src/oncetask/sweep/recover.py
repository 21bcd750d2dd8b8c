"""Lanes that somebody left taken: what was answered is settled, what was lost is searched for."""

from collections.abc import Iterable

from oncetask.errors import Code, Kind
from oncetask.ledger.records import Call, Event, Lane, LostCall
from oncetask.ledger.rows import Kept
from oncetask.models import Answer, ErrorInfo, Outcome
from oncetask.sweep.context import Context
from oncetask.sweep.matching import Found, NothingYet, Unclear, is_last_search, search_is_due
from oncetask.sweep.queue import end_event, is_past_its_end
from oncetask.sweep.search import (
    WATCHED_S,
    adopt,
    close_in_vain,
    judged,
    judged_later,
    leave_to_operator,
)

FAILING_SEARCHES = 2
"""After so many times ONCETASK_LOOK_S without a search that worked, nobody can tell any more."""


def recover(context: Context, task_types: Iterable[str]) -> tuple[str, ...]:
    """Bring the lanes of these types forward; the types of those that stay taken are closed. The names of all
    queues, which were read beside them.
    """
    taken = context.ledger.taken(task_types)
    for key in taken.damaged_keys:
        context.heeded.closed_types.add(key.removeprefix("lane/"))
        if context.ledger.drop_damaged_lane(key):
            context.report.damaged_keys.append(key)
        elif context.ledger.is_newer(key):
            context.report.newer_keys.append(key)
    for lane in taken.lanes:
        is_released = False
        with context.leaving_damage():  # one lane's fault is that lane's
            is_released = _is_released(context, lane)
        if not is_released:
            context.heeded.closed_types.add(lane.record.task_type)
    return taken.queues


def _is_released(context: Context, lane: Kept[Lane]) -> bool:
    """Bring one lane forward; whether it is free now."""
    call = lane.record.call
    if lane.record.claim_ends_s > context.now_s():
        return False
    if call is not None:
        if _is_for_newer(context, call):
            return False
        if call.answer is None:
            return _search(context, lane, call)
        _settle(context, call, call.answer)
    context.ledger.release_lane(lane)
    return True


def _is_for_newer(context: Context, call: Call) -> bool:
    return context.reports_newer(context.ledger.read_events(call.event_ids).damaged_keys)


def _settle(context: Context, call: Call, answer: Answer) -> None:
    events = context.ledger.events(call.event_ids)
    context.caller.settle(call, answer, events, context.report, context.change)
    if answer.task_id is not None:
        context.open.running.add(answer.task_id)


def _search(context: Context, lane: Kept[Lane], call: Call) -> bool:
    """One search for a lost task, if one is due; whether the lane is free now."""
    # Marked first: a sender that was only frozen finds its lane changed when it wakes, and knows.
    known = lane if call.lost is not None else context.ledger.change_lane(lane, call=_died(call))
    if known is None or known.record.call is None:
        return False
    call = known.record.call
    waiting = [event for event in _lost_events(context, call) if not _is_given_up(context, event, call)]
    if waiting and not _is_over(context, known, call):
        return False
    context.ledger.release_lane(known)
    return True


def _lost_events(context: Context, call: Call) -> list[Event]:
    """The call's events that wait for it, marked as lost where its sender died."""
    answer = Answer(outcome=Outcome.LOST, error=call.lost)
    events = context.ledger.events(call.event_ids)
    instances = {served.event_id: served.instance for served in call.events}
    stand = context.caller.settle(call, answer, events, context.report, context.change)
    return [event for event in stand if event.waits and instances[event.event_id] == event.instance]


def _is_given_up(context: Context, event: Event, call: Call) -> bool:
    """Giving up comes before searching and asking again."""
    if not is_past_its_end(event, context.now_s()):
        return False
    end_event(context, event, call)
    return True


def _is_over(context: Context, lane: Kept[Lane], call: Call) -> bool:
    """Whether the search is: the task is found, or it is closed without one."""
    look_s, now_s = context.rules.look_s, context.now_s()
    is_last = is_last_search(call, look_s=look_s, now_s=now_s)
    is_due = is_last or search_is_due(call, look_s=look_s, now_s=now_s)
    if not is_due or not context.is_in_time():
        return False
    closed = context.ledger.lost_calls([call.call_id])
    earlier = context.ledger.lost_calls(call.earlier)
    if context.reports_newer([*closed.damaged_keys, *earlier.damaged_keys]):
        return False
    if closed.records:  # and its closer died
        _close_again(context, closed.records[0])
        return True
    if any(_is_found_later(context, lost) for lost in earlier.records):
        close_in_vain(context, call, watched_until_s=now_s + WATCHED_S)
        return True
    return _is_found_now(context, lane, call, is_last=is_last)


def _is_found_now(context: Context, lane: Kept[Lane], call: Call, *, is_last: bool) -> bool:
    """Whether the call's own task is found, or nobody searches for it any more."""
    now_s = context.now_s()
    match judged(context, call):
        case Found(task_id):
            if not adopt(context, call, task_id):
                return False
            context.report.adopted += 1
        case Unclear(candidates):
            leave_to_operator(context, call, candidates)
        case NothingYet():
            if not is_last:
                context.ledger.change_lane(lane, call=call.model_copy(update={"searched_s": now_s}))
                return False
            close_in_vain(context, call)
        case None:
            if now_s < call.sent_s + FAILING_SEARCHES * context.rules.look_s:
                return False
            leave_to_operator(context, call, ())
    return True


def _is_found_later(context: Context, lost: LostCall) -> bool:
    """Whether an earlier call of these events made a task: then all of that call's events have it, not only
    those that were sent again. Who found it before may have died.
    """
    match judged_later(context, lost.call):
        case Found(task_id) if adopt(context, lost.call, task_id):
            context.report.adopted += 1
            return True
    return False


def _close_again(context: Context, lost: LostCall) -> None:
    """As it was closed: what is noted of its candidates by now would make another judgement of it."""
    if lost.why == "ambiguous":
        leave_to_operator(context, lost.call, lost.candidates)
    else:
        close_in_vain(context, lost.call)


def _died(call: Call) -> Call:
    """Marked as lost first, so that a sender who wakes up late knows that it was overtaken."""
    error = ErrorInfo(
        kind=Kind.UNKNOWN,
        code=Code.NO_ANSWER,
        message="its sender did not write an answer down; the sweep searches for the task",
    )
    return call.model_copy(update={"lost": error})
