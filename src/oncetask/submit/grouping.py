"""Many waiting events, few requests. Pure."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from oncetask.ledger.records import Event
from oncetask.models import TaskRequest, encoded_bytes
from oncetask.routing.requests import REQUEST_LINE_BYTES

_COMMA_BYTES = encoded_bytes(",")


def groups(events: Iterable[Event]) -> list[list[Event]]:
    """The events in groups of one task each; events, and groups by their first event, in the given order.

    Events of a `submit = "sweep"` route with targets share a task where everything but the targets is
    equal: each joins the first such group that takes it, before all others the one that has its target.
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
    if event.target_key is None:
        return []
    return [str(target) for target in str(event.request.param[event.target_key]).split(",")]


@dataclass(slots=True)
class _Group:
    """Events that one task will serve, and how much room is left."""

    events: list[Event]
    targets: set[str]
    line_bytes: int
    max_targets: int

    @classmethod
    def of(cls, event: Event) -> "_Group":
        return cls([event], set(targets_of(event)), event.request.line_bytes(), event.max_targets)

    @property
    def is_full(self) -> bool:
        return len(self.targets) >= self.max_targets

    def takes(self, event: Event) -> bool:
        new = self._new_targets(event)
        fits = self.line_bytes + _line_bytes(new) <= REQUEST_LINE_BYTES
        return fits and len(self.targets) + len(new) <= min(self.max_targets, event.max_targets)

    def add(self, event: Event) -> None:
        new = self._new_targets(event)
        self.events.append(event)
        self.targets.update(new)
        self.line_bytes += _line_bytes(new)
        self.max_targets = min(self.max_targets, event.max_targets)

    def _new_targets(self, event: Event) -> set[str]:
        return set(targets_of(event)) - self.targets


@dataclass(slots=True)
class _Shelf:
    """Groups of events that are alike: those with room left, in order, and the first that has a target."""

    with_room: list[_Group] = field(default_factory=list)
    first_with_target: dict[str, _Group] = field(default_factory=dict)

    def group_with(self, event: Event) -> tuple[_Group, bool]:
        """The group that has the event from now on, and whether it is a new one."""
        targets = targets_of(event)
        group = next((group for group in self._candidates(targets) if group.takes(event)), None)
        is_new = group is None
        if group is None:
            group = _Group.of(event)
            self.with_room.append(group)
        else:
            group.add(event)
        for target in targets:
            self.first_with_target.setdefault(target, group)
        return group, is_new

    def _candidates(self, targets: Sequence[str]) -> list[_Group]:
        """Where it may add no target, then where there is room."""
        self.with_room = [group for group in self.with_room if not group.is_full]
        same = self.first_with_target.get(targets[0]) if targets else None
        return self.with_room if same is None else [same, *self.with_room]


def _line_bytes(targets: Iterable[str]) -> int:
    return sum(encoded_bytes(target) + _COMMA_BYTES for target in targets)


def _alike(event: Event) -> str:
    """What must be equal for two events to share a task, as one text."""
    request = event.request
    common = {key: value for key, value in request.param.items() if key != event.target_key}
    names = [request.task_type, request.task_name, request.source]
    return json.dumps([event.route, *names, event.target_key, event.part, common], sort_keys=True)
