"""Many waiting events, few requests. Pure."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from urllib.parse import quote_plus

from oncetask.ledgers import Event
from oncetask.models import TaskRequest, compact_json
from oncetask.routes import REQUEST_LINE_BYTES

_COMMA_BYTES = len(quote_plus(","))


def groups(events: Iterable[Event]) -> list[list[Event]]:
    """The events in groups of one task each; events, and groups by their first event, in the given order.

    Events of a `submit = "sweep"` route with targets share a task where everything but the targets is
    equal, as far as `max_targets` and the request line allow. Every other event is a task of its own.
    """
    made: list[_Group] = []
    filling: dict[str, _Group] = {}
    for event in events:
        if not event.coalesces:
            made.append(_Group.of(event))
            continue
        alike = _alike(event)
        group = filling.get(alike)
        if group is None or not group.takes(event):
            group = filling[alike] = _Group.of(event)
            made.append(group)
        else:
            group.add(event)
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
    max_targets: int = field(default=1)

    @classmethod
    def of(cls, event: Event) -> "_Group":
        return cls([event], set(targets_of(event)), event.request.line_bytes(), event.max_targets)

    def takes(self, event: Event) -> bool:
        new = self._new_targets(event)
        fits = self.line_bytes + _line_bytes(new) <= REQUEST_LINE_BYTES
        return fits and len(self.targets) + len(new) <= min(self.max_targets, event.max_targets)

    def add(self, event: Event) -> None:
        new = self._new_targets(event)
        self.events.append(event)
        self.targets.update(new)
        self.line_bytes += _line_bytes(new)

    def _new_targets(self, event: Event) -> set[str]:
        return set(targets_of(event)) - self.targets


def _line_bytes(targets: Iterable[str]) -> int:
    return sum(len(quote_plus(target)) + _COMMA_BYTES for target in targets)


def _alike(event: Event) -> str:
    """What must be equal for two events to share a task, as one text."""
    param = {key: value for key, value in event.request.param.items() if key != event.target_key}
    request = event.request
    common = sorted((key, compact_json(value)) for key, value in param.items())
    names = [request.task_type, request.task_name, request.source]
    return compact_json([event.route, *names, event.target_key, event.part, common])
