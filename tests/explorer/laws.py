"""What must hold once a world has healed, whatever happened in it before."""

from collections import defaultdict
from collections.abc import Callable, Iterator
from itertools import pairwise

from pydantic import ValidationError

from oncetask.errors import Code
from oncetask.ledger.records import (
    Event,
    Lane,
    Lease,
    LostCall,
    Record,
    RouteNames,
    TaskRecord,
    event_key,
    task_key,
)
from oncetask.models import Status
from tests.explorer.service import Broken, MadeTask, Sending
from tests.explorer.world import HOSTS, World

KINDS: dict[str, type[Record]] = {
    "event": Event,
    "lane": Lane,
    "call": LostCall,
    "task": TaskRecord,
    "lease": Lease,
    "routes": RouteNames,
}
WITH_TASK = {Status.CREATED, Status.FINISHED}
WITHOUT_TASK = {Code.EXPIRED, Code.OUTCOME_UNKNOWN}
CLAIM_S = 20.0
"""No claim is longer."""

type Instance = tuple[str, str]
"""Id and token: an id may come again as another event."""


class Books:
    """A healed world, read: `lives` holds every state that each event was ever written in."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.lives: dict[Instance, list[Event]] = defaultdict(list)
        for key, row in world.store.written:
            if row is not None and key.startswith("event/"):
                event = Event.model_validate_json(row.body)
                self.lives[event.event_id, event.instance].append(event)

    def is_another_tools(self, task_id: str) -> bool:
        """Whether that is a task of no call of this ledger; taking it for ours is a named limit."""
        return any(task.task_id == task_id and task.sending is None for task in self.world.service.tasks)

    @property
    def own_tasks(self) -> list[tuple[MadeTask, Sending]]:
        """The tasks that this ledger's calls made."""
        return [(task, task.sending) for task in self.world.service.tasks if task.sending is not None]

    def tasks_of(self, instance: Instance) -> list[str]:
        """Every task that was made for an event."""
        return [task.task_id for task, sending in self.own_tasks if instance in instances_of(sending)]

    def was_told(self, instance: Instance, task_id: str) -> bool:
        """Whether the event tells of that task beyond its own."""
        errors = [event.error for event in self.lives[instance] if event.error is not None]
        return any(
            error.code == Code.SECOND_TASK and error.message.endswith(f": {task_id}") for error in errors
        )

    def was_reopened(self, instance: Instance) -> bool:
        """Whether an operator said that no task had been made."""
        return any(one.by and one.what == Status.PENDING for one in self.lives[instance][-1].history)


def instances_of(sending: Sending) -> set[Instance]:
    """The events that it was for."""
    return {(served.event_id, served.instance) for served in sending.served}


def check(world: World) -> None:
    """Raises Broken: a law does not hold."""
    records_are_readable(world)
    books = Books(world)
    for law in LAWS:
        for what in law(books):
            raise Broken(f"{law.__name__.replace('_', ' ')}: {what}")


def records_are_readable(world: World) -> None:
    """Raises Broken: a record could not be read."""
    for key, row in world.store.rows.items():
        try:
            KINDS[key.partition("/")[0]].model_validate_json(row.body)
        except ValidationError as error:
            raise Broken(f"the record {key} cannot be read: {error}") from error


def every_event_ends(books: Books) -> Iterator[str]:
    for (event_id, _), life in books.lives.items():
        if life[-1].waits or life[-1].status is Status.CREATED:
            yield f"{event_id} is still {life[-1].status}"


def no_event_is_written_over(books: Books) -> Iterator[str]:
    """Only one that freed its id, or expired, may be followed by another."""
    latest: dict[str, Event] = {}
    for life in sorted(books.lives.values(), key=lambda life: life[0].received_s):
        before = latest.get(life[0].event_id)
        if before is not None and before.waits:
            yield f"{before.event_id} was {before.status} when its id was taken"
        latest[life[0].event_id] = life[-1]


def an_event_ends_without_a_task_for_a_cause(books: Books) -> Iterator[str]:
    for (event_id, _), life in books.lives.items():
        last = life[-1]
        code = last.error.code if last.error else None
        by_operator = any(one.by for one in last.history)
        was_ambiguous = any(event.is_ambiguous for event in life)
        excused = books.world.expires or by_operator or was_ambiguous
        if last.status is Status.FAILED and code in WITHOUT_TASK and not excused:
            yield f"{event_id} ended {code}"


def what_expired_made_no_task(books: Books) -> Iterator[str]:
    for instance, life in books.lives.items():
        error = life[-1].error
        if error is not None and error.code == Code.EXPIRED:
            yield from (
                f"{instance[0]} is Expired, and made {task_id}" for task_id in books.tasks_of(instance)
            )


def what_is_rejected_was_refused_alone(books: Books) -> Iterator[str]:
    refused = [instances_of(sending) for sending in books.world.service.sendings if sending.word == "refused"]
    for instance, life in books.lives.items():
        if life[-1].status is Status.REJECTED and {instance} not in refused:
            yield f"{instance[0]} was never refused alone"


def no_event_has_two_tasks_untold(books: Books) -> Iterator[str]:
    for instance, life in books.lives.items():
        untold = [
            task_id
            for task_id in books.tasks_of(instance)
            if task_id != life[-1].task_id and not books.was_told(instance, task_id)
        ]
        task_id = life[-1].task_id
        is_excused = books.was_reopened(instance) or (task_id and books.is_another_tools(task_id))
        if untold and task_id and not is_excused:
            yield f"{instance[0]} has {task_id}, and was not told of {untold}"


def a_task_is_only_its_own_events(books: Books) -> Iterator[str]:
    served = {task.task_id: instances_of(sending) for task, sending in books.own_tasks}
    for instance, life in books.lives.items():
        for event in life:
            task_id = event.task_id
            if task_id is None or (books.world.has_foreign and books.is_another_tools(task_id)):
                continue
            if instance not in served.get(task_id, ()):
                yield f"{instance[0]} got {event.task_id}, which was not made for it"


def no_event_loses_its_task(books: Books) -> Iterator[str]:
    for (event_id, _), life in books.lives.items():
        for before, after in pairwise(life):
            if before.status in WITH_TASK and after.status not in WITH_TASK:
                yield f"{event_id} had {before.task_id}, and is {after.status}"


def every_task_has_an_event_or_a_reason(books: Books) -> Iterator[str]:
    for task, sending in books.own_tasks:
        if not any(_accounts_for(books, instance, task.task_id) for instance in instances_of(sending)):
            yield f"{task.task_id} is no event's"


def _accounts_for(books: Books, instance: Instance, task_id: str) -> bool:
    last = books.lives[instance][-1]
    is_in_doubt = last.error is not None and last.error.code == Code.OUTCOME_UNKNOWN
    has_it = last.task_id == task_id or books.was_told(instance, task_id)
    return has_it or is_in_doubt or books.was_reopened(instance)


def a_task_record_has_ended_and_is_its_calls(books: Books) -> Iterator[str]:
    for task, sending in books.own_tasks:
        row = books.world.store.rows.get(task_key(task.task_id))
        record = TaskRecord.model_validate_json(row.body) if row else None
        if record is not None and record.runs:
            yield f"{task.task_id} is still followed"
        if record is not None and not record.is_candidate and record.call_id != sending.call_id:
            yield f"{task.task_id} is another call's"


def a_call_asks_for_its_events(books: Books) -> Iterator[str]:
    for sending in books.world.service.sendings:
        events = [books.lives[served.event_id, served.instance][0] for served in sending.served]
        wanted = [event.request.param["uuids"] for event in events]
        if sorted(sending.request.param["uuids"].split(",")) != sorted(wanted):
            yield f"{sending.request} was asked for {wanted}"


def what_runs_on_hosts_is_not_sent_again(books: Books) -> Iterator[str]:
    """Not after a call that may have made a task, unless an operator says that it did not."""
    in_doubt: set[Instance] = set()
    for sending in books.world.service.sendings:
        again = {
            instance for instance in in_doubt & instances_of(sending) if not books.was_reopened(instance)
        }
        if again:
            yield f"{again} was sent again"
        if sending.request.task_type == HOSTS and sending.word in {"made", "slow", "unheard", "unmade"}:
            in_doubt |= instances_of(sending)


def nothing_is_sent_again_while_its_task_is_shown(books: Books) -> Iterator[str]:
    """But for what came to be shown since the last search, which is no longer ago than a claim lasts."""
    for sending in books.world.service.sendings:
        for task, earlier in books.own_tasks:
            both = instances_of(sending) & instances_of(earlier)
            is_known = task.shown_s + CLAIM_S < sending.at_s
            if is_known and not all(map(books.was_reopened, both)):
                yield f"{both} was sent again, though {task.task_id} was shown"


def lanes_and_lease_are_free(books: Books) -> Iterator[str]:
    yield from (f"{key} is taken" for key in books.world.store.rows if key.startswith("lane/"))
    lease = books.world.lease
    if lease is not None and lease.ends_s > books.world.scheduler.time_s:
        yield "the lease is taken"


def each_new_result_has_a_number_of_its_own(books: Books) -> Iterator[str]:
    for key in {event_key(event_id) for event_id, _ in books.lives}:
        written = [
            Event.model_validate_json(row.body)
            for one, row in books.world.store.written
            if one == key and row
        ]
        for before, after in pairwise(written):
            is_new = before.told() != after.told() or before.instance != after.instance
            if after.sequence != before.sequence + is_new:
                yield f"{key} went from {before.sequence} to {after.sequence}"


type Law = Callable[[Books], Iterator[str]]

LAWS: tuple[Law, ...] = (
    every_event_ends,
    no_event_is_written_over,
    an_event_ends_without_a_task_for_a_cause,
    what_expired_made_no_task,
    what_is_rejected_was_refused_alone,
    no_event_has_two_tasks_untold,
    a_task_is_only_its_own_events,
    no_event_loses_its_task,
    every_task_has_an_event_or_a_reason,
    a_task_record_has_ended_and_is_its_calls,
    a_call_asks_for_its_events,
    what_runs_on_hosts_is_not_sent_again,
    nothing_is_sent_again_while_its_task_is_shown,
    lanes_and_lease_are_free,
    each_new_result_has_a_number_of_its_own,
)
