"""The routes take turns: each gives up what is past its end, then has one call, until told to stop."""

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from oncetask.errors import DamagedRecord
from oncetask.ledger.records import Event, LostCall
from oncetask.models import Outcome
from oncetask.submit.call import Called
from oncetask.submit.grouping import groups
from oncetask.submit.lane import held
from oncetask.submit.report import Limits
from oncetask.submit.settlement import DIVIDES_GROUPS, left_without_a_search
from oncetask.sweep.context import Context
from oncetask.sweep.matching import Found, Unclear
from oncetask.sweep.queue import RouteQueue, by_turn, due_events, end_event, is_past_its_end
from oncetask.sweep.recover import recover
from oncetask.sweep.search import adopt, judged_later, leave_to_operator, watch_from_now

PUT_OFF_S = 60.0
"""How long events wait whose search failed before they could be asked for again."""


@dataclass(slots=True)
class _Turn:
    """One route's due groups, oldest first; they are read when its first turn comes.

    `looked_up`: that was a turn, too, also where nothing could be asked for afterwards.
    """

    queue: RouteQueue
    groups: deque[list[Event]] | None = None
    looked_up: bool = False


def take_turns(context: Context, queues: Sequence[RouteQueue], turns: dict[str, float]) -> None:
    """A call a route, round after round; `turns` is brought up to date. What a refused group was divided into
    comes after everybody else.
    """
    waiting = deque(_Turn(queue) for queue in by_turn(queues, turns))
    divided: list[Event] = []
    while waiting and _goes_on(context):
        turn = waiting.popleft()
        called = _next_call(context, turn)
        # Lookups are a turn, too: else a route whose hosts are never found would always come first.
        if turn.looked_up or (called is not None and called.answer.outcome is not Outcome.CAP_REACHED):
            turns[turn.queue.queue] = context.now_s()
        if called is None:
            continue  # nothing of the route can be asked for in this sweep
        divided += _parts(called)
        waiting.append(turn)
    _end_what_is_past_its_end(context, waiting)
    # After everybody else: a poisonous target keeps nobody waiting while it is narrowed down.
    for group in groups(divided):
        if not _goes_on(context):
            return
        if context.heeded.allows(group[0].request.task_type):
            _call(context, group)


def _goes_on(context: Context) -> bool:
    return not context.heeded.ended and context.is_in_time_to_write()


def _end_what_is_past_its_end(context: Context, turns: Iterable[_Turn]) -> None:
    """Of the routes whose turn did not come: no answer that ends the asking keeps an event past its end."""
    for turn in turns:
        if turn.groups is None and context.is_in_time_to_write():
            _still_waiting(context, due_events(context, turn.queue))


def _next_call(context: Context, turn: _Turn) -> Called | None:
    """The next call of a route that could be made; None where there is none any more."""
    if turn.groups is None:
        waiting = _still_waiting(context, due_events(context, turn.queue))
        turn.looked_up = any(event.hosts is not None for event in waiting)
        turn.groups = deque(groups(_ready(context, waiting) if turn.looked_up else waiting))
    while turn.groups and context.is_in_time_to_call():
        group = turn.groups.popleft()
        if context.heeded.allows(group[0].request.task_type):
            called = _call(context, group)
            if called is not None:
                return called
    return None


def _ready(context: Context, events: Sequence[Event]) -> list[Event]:
    """Those that may be asked for now that hosts were looked up."""
    now_s = context.now_s()
    stand = context.resolver().resolve(events)
    return [event for event in stand if event.is_ready and event.due_s <= now_s]


def _parts(called: Called) -> list[Event]:
    """The events of a group that was refused, to be asked for in its parts."""
    if called.call.is_alone or called.answer.outcome not in DIVIDES_GROUPS:
        return []
    return [event for event in called.events if event.waits and event.part is not None]


# -- giving up ------------------------------------------------------------------------------------


def _still_waiting(context: Context, due: Sequence[Event]) -> list[Event]:
    """The due events without those past their end, which are given up. The lanes of types that no setting
    names any more are brought forward first.
    """
    unknown_types = {event.request.task_type for event in due} - set(context.rules.task_types)
    if unknown_types:
        recover(context, sorted(unknown_types))
    now_s = context.now_s()
    ended = [event for event in due if is_past_its_end(event, now_s)]
    for task_type in dict.fromkeys(event.request.task_type for event in ended):
        _give_up(context, task_type, [event for event in ended if event.request.task_type == task_type])
    return [event for event in due if not is_past_its_end(event, now_s) and not event.is_ambiguous]


def _give_up(context: Context, task_type: str, events: Sequence[Event]) -> None:
    """Under the type's lane: no call for one of them is on its way. What does not fit is the next sweep's."""
    with held(context.ledger, context.caller.clock, task_type) as lane:
        if lane is None:
            return
        for event in events:
            if not (lane.is_ours() and context.is_in_time_to_write()):
                return
            end_event(context, event, lane.lane.record.call)


# -- a call ---------------------------------------------------------------------------------------


def _call(context: Context, group: list[Event]) -> Called | None:
    """Ask for one group; None where that was not possible."""
    called = None
    with context.leaving_damage():
        called = _call_again(context, group) if group[0].lost_calls else _call_first(context, group)
    if called is not None:
        context.take_in(called)
    return called


def _call_first(context: Context, group: list[Event]) -> Called | None:
    called = context.caller.call(group, context.report, Limits(context.deadline))
    if called is None:
        _close_where_taken(context, group[0].request.task_type)
    return called


def _close_where_taken(context: Context, task_type: str) -> None:
    """A call that was not possible closes its type where the lane is taken; events that others have changed
    meanwhile are no reason for the type's others to wait.
    """
    try:
        is_taken = context.ledger.lane(task_type) is not None
    except DamagedRecord:  # a newer version's, or the next sweep mends it
        is_taken = True
    if is_taken:
        context.heeded.closed_types.add(task_type)


def _earlier_calls(context: Context, group: list[Event]) -> list[LostCall]:
    """The calls of these events that gave no answer; none where one of them cannot be read: without a search
    for its task nothing is sent again. The events wait for the newer version that can, or for the operator.
    """
    lost_calls = group[0].lost_calls
    read = context.ledger.lost_calls(lost_calls)
    if len(read.records) == len(lost_calls):
        return read.records
    if context.reports_newer(read.damaged_keys):
        _put_off(context, group)
        return []
    context.report.damaged_keys += read.damaged_keys
    for event in group:
        context.change(event.event_id, _instead_of(event, left_without_a_search(event, context.now_s())))
    return []


def _call_again(context: Context, group: list[Event]) -> Called | None:
    """After one more search, under the lane: nobody else makes a task of the type meanwhile."""
    lost = _earlier_calls(context, group)
    taken = context.caller.take(group, Limits(context.deadline), lost) if lost else None
    if taken is None:
        if lost:
            _close_where_taken(context, group[0].request.task_type)
        return None
    lane, events = taken
    if _is_found(context, lost):
        _put_off(context, events)
        context.ledger.release_lane(lane)
        return None
    for one in lost:  # before the sending: a sweep that dies behind it leaves nobody else to begin
        watch_from_now(context, one.call.call_id)
    begun = context.caller.begin(lane, context.deadline)
    called = begun and context.caller.send(begun, events, context.report, Limits(context.deadline))
    context.report.asked_again += called is not None
    return called


def _is_found(context: Context, lost: Sequence[LostCall]) -> bool:
    """Whether the search shows a task of an earlier call, or failed, or cannot tell: nothing is sent then."""
    for one in lost:
        match judged_later(context, one.call):
            case Found(task_id):
                if adopt(context, one.call, task_id):
                    context.report.adopted += 1
                return True
            case Unclear(candidates):
                leave_to_operator(context, one.call, candidates)
                return True
            case None:
                return True
    return False


def _instead_of(event: Event, changed: Event) -> Callable[[Event], Event]:
    """The changed event, where it still stands as it was read."""
    return lambda kept: changed if kept == event else kept


def _put_off(context: Context, events: Sequence[Event]) -> None:
    """To the end of their queue, where they still wait: a search that fails holds nobody up."""
    due_s = context.now_s() + PUT_OFF_S
    for event in events:
        later = event.model_copy(update={"due_s": due_s})
        context.ledger.change_event(event.event_id, _instead_of(event, later))
