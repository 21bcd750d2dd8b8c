"""What runs is followed until it has ended, host by host, and each of its events is told."""

from collections.abc import Callable

from oncetask.clock import Deadline
from oncetask.errors import QueryFailed
from oncetask.ledger.records import Event, TaskRecord
from oncetask.models import LOST_AFTER_S, Finish, Progress, Status
from oncetask.submit.grouping import targets_of
from oncetask.submit.settlement import Made, is_second_task, with_task
from oncetask.sweep.context import Context
from oncetask.sweep.outcomes import awaits_details, finish_for, lost


def follow(context: Context, tasks: list[TaskRecord]) -> str:
    """Follow these tasks within half of the sweep's time, so that a service slow to show tasks keeps nothing
    else waiting: those first that were followed longest ago. The task that was followed last.
    """
    context.open.running.update(task.task_id for task in tasks)
    half = Deadline.after(context.deadline.left_s() / 2, context.caller.clock)
    going = []
    for task in tasks:
        if _is_lost(context, task):
            with context.leaving_damage():
                _end(context, task, lambda _: lost(context.now_s()))
        else:
            going.append(task)
    followed_to = context.lease.followed_to
    for task in _longest_ago_first(going, followed_to):
        if not context.caller.has_time(half):
            break
        followed_to = _position_of(task)
        with context.leaving_damage():
            _follow_one(context, task)
    return followed_to


def _longest_ago_first(tasks: list[TaskRecord], followed_to: str) -> list[TaskRecord]:
    """The tasks behind the one that was followed last, then those up to it."""
    ordered = sorted(tasks, key=_position_of)
    behind = [task for task in ordered if _position_of(task) > followed_to]
    return behind + ordered[: len(ordered) - len(behind)]


def _position_of(task: TaskRecord) -> str:
    return f"{int(task.since_s * 1000):014d}/{task.task_id}"


def _is_lost(context: Context, task: TaskRecord) -> bool:
    """A day after its creation, whatever a query says or fails to say."""
    return context.now_s() - task.since_s >= LOST_AFTER_S


def _follow_one(context: Context, task: TaskRecord) -> None:
    """Where it has ended, its events are told; what the service may still tell of hosts is waited for."""
    try:
        progress = context.security_center.follow(
            task.task_type, task.task_id, task.task_name, context.deadline
        )
    except QueryFailed as error:
        context.report.failed_queries.append(error)
        return
    if progress.unread is not None:
        context.report.failed_queries.append(progress.unread)
    if progress.ended is None:
        return
    if _awaits_details(context, task, progress):
        context.ledger.change_task(
            task.task_id, lambda kept: kept.model_copy(update={"sweeps_ended": kept.sweeps_ended + 1})
        )
        return
    served_alone, ended, now_s = len(task.events) == 1, progress.ended, context.now_s()

    def finish(event: Event) -> Finish:
        own = frozenset(targets_of(event)) or None
        return finish_for(own, ended, progress.hosts, served_alone=served_alone, now_s=now_s)

    _end(context, task, finish)


def _awaits_details(context: Context, task: TaskRecord, progress: Progress) -> bool:
    if not context.security_center.describes(task.task_type):
        return False
    return awaits_details(task.targets, progress, sweeps=task.sweeps_ended)


def _end(context: Context, task: TaskRecord, finish: Callable[[Event], Finish]) -> None:
    """First its events, also those that a death left behind, and only then the task: as long as a newer
    version has one of them, the task is met again.
    """
    now_s = context.now_s()
    served_by_id = {served.event_id: served for served in task.events}
    told_second = False

    def one_step(event: Event) -> Event:
        nonlocal told_second
        served = served_by_id[event.event_id]
        if event.instance != served.instance:
            return event
        # Given up meanwhile, too: whoever found the task may have died before it told the event.
        if event.waits or event.status is Status.FAILED:
            made = Made(task.task_id, task.call_id, len(task.events))
            became = with_task(event, made, now_s, attempts=served.attempts + 1)
            told_second = told_second or is_second_task(event, became)
            return became
        if event.task_id != task.task_id or event.status is not Status.CREATED:
            return event
        return event.moved(now_s, {"status": Status.FINISHED, "finish": finish(event), "settled_s": now_s})

    # The task last: as long as it counts as running, a sweep that finds its end again tells the rest.
    changed = [_step_by_step(context, event_id, one_step) for event_id in served_by_id]
    context.report.second_tasks += told_second
    if None in changed and context.reports_newer(context.ledger.read_events(served_by_id).damaged_keys):
        return
    context.ledger.change_task(task.task_id, lambda kept: kept.model_copy(update={"ended_s": now_s}))
    context.open.running.discard(task.task_id)


def _step_by_step(context: Context, event_id: str, one_step: Callable[[Event], Event]) -> Event | None:
    """Whom a death left waiting is `created` first, in a write of its own: a result leaves by its write."""
    event = context.change(event_id, one_step)
    is_between = event is not None and event.status is Status.CREATED
    return context.change(event_id, one_step) if is_between else event
