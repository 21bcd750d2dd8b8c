"""What runs is followed until it has ended, host by host, and each of its events is told."""

from oncetask.clock import Deadline
from oncetask.errors import Kind, QueryFailed
from oncetask.ledger.records import Event, TaskRecord
from oncetask.models import Ended, Finish, Progress, Status, instant
from oncetask.submit.settlement import Made, with_task
from oncetask.sweep.context import Context

LOST_AFTER_S = 86_400

_REFUSALS = frozenset({Kind.OPERATOR, Kind.SENDER})
"""Who must act where the service refused a query: patience alone does not mend that."""


def follow(context: Context, tasks: list[TaskRecord]) -> str:
    """Follow these tasks within half of the sweep's time, so that a service slow to show tasks keeps nothing
    else waiting: those first that were followed longest ago. The task that was followed last.
    """
    context.open.running.update(task.task_id for task in tasks)
    half = Deadline.after(context.deadline.left_s() / 2, context.caller.clock)
    lost = [task for task in tasks if _is_lost(context, task)]
    for task in lost:
        _end(context, task, Finish(state="LOST", finished_at=instant(context.now_s())))
    followed_to = context.lease.followed_to
    for task in _longest_ago_first([task for task in tasks if task not in lost], followed_to):
        if not context.caller.has_time(half):
            break
        followed_to = _place_of(task)
        finish = _finish_of(context, task)
        if finish is not None:
            _end(context, task, finish)
    return followed_to


def _longest_ago_first(tasks: list[TaskRecord], followed_to: str) -> list[TaskRecord]:
    """The tasks behind the one that was followed last, then those up to it."""
    ordered = sorted(tasks, key=_place_of)
    behind = [task for task in ordered if _place_of(task) > followed_to]
    return behind + ordered[: len(ordered) - len(behind)]


def _place_of(task: TaskRecord) -> str:
    return f"{int(task.since_s * 1000):014d}/{task.task_id}"


def _is_lost(context: Context, task: TaskRecord) -> bool:
    """A day after its creation, whatever a query says or fails to say."""
    return context.now_s() - task.since_s >= LOST_AFTER_S


def _finish_of(context: Context, task: TaskRecord) -> Finish | None:
    """How the task ended; None while it runs, or where that could not be told now."""
    try:
        progress = context.security_center.follow(
            task.task_type, task.task_id, task.task_name, context.deadline
        )
    except QueryFailed as error:
        context.report.failed_queries.append(error)
        if error.kind not in _REFUSALS:
            return None
        progress = Progress()
    return None if progress.ended is None else _finish(progress.ended, context.now_s())


def _end(context: Context, task: TaskRecord, finish: Finish) -> None:
    """First its events, also those that a death left behind, and only then the task."""
    now_s = context.now_s()
    served_by_id = {served.event_id: served for served in task.events}

    def finished(event: Event) -> Event:
        served = served_by_id[event.event_id]
        if event.instance != served.instance:
            return event
        if event.waits:
            made = Made(task.task_id, task.call_id, len(task.events))
            event = with_task(event, made, now_s, attempts=served.attempts + 1)
        if event.task_id != task.task_id or event.status is not Status.CREATED:
            return event
        return event.moved(now_s, {"status": Status.FINISHED, "finish": finish, "settled_s": now_s})

    for event_id in served_by_id:
        context.change(event_id, finished)
    context.ledger.change_task(task.task_id, lambda kept: kept.model_copy(update={"ended_s": now_s}))
    context.open.running.discard(task.task_id)


def _finish(ended: Ended, now_s: float) -> Finish:
    return Finish(
        state=ended.state,
        finished_at=instant(now_s if ended.finished_s is None else ended.finished_s),
        finish_count=ended.finish_count,
        total_count=ended.total_count,
    )
