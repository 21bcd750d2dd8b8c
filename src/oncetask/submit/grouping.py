"""Many waiting events, few requests. Pure, and linear in what it is given: events are hostile, too."""

import json
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from oncetask.ledger.records import Event
from oncetask.models import TaskRequest, encoded_bytes
from oncetask.routing.requests import REQUEST_LINE_BYTES

MOST_EVENTS = 500
"""What one task serves at most: each of them is written when it is settled, within one sweep."""
MOST_ID_BYTES = 150_000
"""What the ids of a task's events take in the records that name them all."""
MOST_WITH_ROOM = 2
"""How many groups with room left are tried for an event, the newest first."""

_COMMA_BYTES = encoded_bytes(",")
_AROUND_ID_BYTES = 32


def groups(events: Iterable[Event]) -> list[list[Event]]:
    """The events in groups of one task each; events, and groups by their first event, in the given order.

    Events of a `submit = "sweep"` route with targets share a task where everything but the targets is
    equal: each joins a group that has its first target already, else one of the newest that takes it.
    Every other event is a task of its own.
    """
    made: list[_Group] = []
    shelves: dict[str, _Shelf] = {}
    for event in events:
        shelf = shelves.setdefault(_alike(event), _Shelf()) if event.coalesces else _Shelf()
        group, is_new = shelf.group_with(event)
        if is_new:
            made.append(group)
    return [group.events for group in made]


def merged_request(events: Sequence[Event]) -> TaskRequest:
    """The one request that serves these events: alike but for their targets, which are unique in it
    and in order of arrival.
    """
    first = events[0]
    if first.target_key is None or len(events) == 1:
        return first.request
    targets = dict.fromkeys(target for event in events for target in targets_of(event))
    param = first.request.param | {first.target_key: ",".join(targets)}
    return first.request.model_copy(update={"param": param})


def targets_of(event: Event) -> list[str]:
    """The targets in the event's own request; none where its route has no `targets`."""
    return list(event.request.targets(event.target_key))


@dataclass(slots=True)
class _Group:
    """Events that one task will serve, and how much room is left."""

    events: list[Event]
    targets: set[str]
    line_bytes: int
    max_targets: int
    id_bytes: int

    @classmethod
    def of(cls, event: Event) -> "_Group":
        return cls(
            [event],
            set(targets_of(event)),
            event.request.line_bytes(),
            event.max_targets,
            _id_bytes(event),
        )

    def takes(self, event: Event, targets: Sequence[str]) -> bool:
        if len(self.events) >= MOST_EVENTS or self.id_bytes + _id_bytes(event) > MOST_ID_BYTES:
            return False
        new = self._new(targets)
        room = min(self.max_targets, event.max_targets) - len(self.targets)
        return len(new) <= room and self.line_bytes + _line_bytes(new) <= REQUEST_LINE_BYTES

    def add(self, event: Event, targets: Sequence[str]) -> None:
        new = self._new(targets)
        self.events.append(event)
        self.targets.update(new)
        self.line_bytes += _line_bytes(new)
        self.max_targets = min(self.max_targets, event.max_targets)
        self.id_bytes += _id_bytes(event)

    def _new(self, targets: Sequence[str]) -> set[str]:
        return set(targets) - self.targets


@dataclass(slots=True)
class _Shelf:
    """Groups of events that are alike: the newest of them, and the newest that has a target."""

    newest: deque[_Group] = field(default_factory=lambda: deque(maxlen=MOST_WITH_ROOM))
    with_target: dict[str, _Group] = field(default_factory=dict)

    def group_with(self, event: Event) -> tuple[_Group, bool]:
        """The group that has the event from now on, and whether it is a new one."""
        targets = targets_of(event)
        group = next((group for group in self._candidates(targets) if group.takes(event, targets)), None)
        is_new = group is None
        if group is None:
            group = _Group.of(event)
            self.newest.appendleft(group)
        else:
            group.add(event, targets)
        for target in targets:
            self.with_target[target] = group
        return group, is_new

    def _candidates(self, targets: Sequence[str]) -> list[_Group]:
        """Where it may add no target, then where there may be room."""
        same = self.with_target.get(targets[0]) if targets else None
        return [*self.newest] if same is None else [same, *self.newest]


def _line_bytes(targets: Iterable[str]) -> int:
    return sum(encoded_bytes(target) + _COMMA_BYTES for target in targets)


def _id_bytes(event: Event) -> int:
    """What the event's id takes in a record, JSON's escapes included."""
    return len(json.dumps(event.event_id, ensure_ascii=False).encode()) + _AROUND_ID_BYTES


def _alike(event: Event) -> str:
    """What must be equal for two events to share a task, as one text."""
    request = event.request
    common = {key: value for key, value in request.param.items() if key != event.target_key}
    names = [request.task_type, request.task_name, request.source]
    return json.dumps(
        [event.route, *names, event.target_key, event.part, event.lost_calls, common], sort_keys=True
    )
