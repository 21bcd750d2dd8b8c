"""An event's hosts, looked up once it is recorded and its turn has come.

named ──────→ its request names them by uuid, and it is asked for as any other
         or → pending, looked up again after a backoff that its route shares; or rejected
selected ───→ what was selected is written on the event first, then one event a host, then it is `expanded`
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from oncetask.clock import Clock, Deadline
from oncetask.errors import Code, DamagedRecord, Kind, RecordTooLarge
from oncetask.ledger.ledger import Ledger
from oncetask.ledger.records import Event, HostRule
from oncetask.models import ErrorInfo, Status
from oncetask.routing.events import bounded_id
from oncetask.routing.requests import REQUEST_LINE_BYTES
from oncetask.submit.grouping import targets_of
from oncetask.submit.hosts import Decision, Found, Step, decision, selection
from oncetask.submit.lookups import Lookups, Wanted
from oncetask.submit.settlement import Jitter, backoff_s

MOST_WRITTEN = 500
"""So many selected hosts become events in one turn of their route."""
NOTING_S = 2.0
"""Left for noting how many were written: a killed invocation would write them all again."""

type ChangeEvent = Callable[[str, Callable[[Event], Event]], Event | None]
"""`Ledger.change_event`, or something that also remembers what changed."""


@dataclass(slots=True)
class Resolver:
    """The lookups of one invocation, applied to events. `change` writes an event, as `Ledger.change_event`;
    `take_in` is told of every selected host's event.

    `ambiguous`: event id to what was asked for and could be several hosts, for a log line alone.
    """

    ledger: Ledger
    lookups: Lookups
    deadline: Deadline
    clock: Clock
    jitter: Jitter
    change: ChangeEvent
    take_in: Callable[[Event], None] = lambda _: None
    ambiguous: dict[str, Mapping[str, Sequence[str]]] = field(default_factory=dict)
    _retries_s: dict[tuple[str | None, Kind, int], float] = field(default_factory=dict)

    def resolve(self, events: Sequence[Event]) -> list[Event]:
        """Where these events stand once their hosts were looked up, in this order; what there was no time for
        stands as before. Raises LedgerUnavailable, and DamagedRecord: a newer version has changed one.
        """
        wanted = {event.event_id: _wanted(event) for event in events if _is_named(event)}
        found = self.lookups.resolve([each for several in wanted.values() for each in several])
        return [self._stand(event, wanted.get(event.event_id, []), found) for event in events]

    def _stand(self, event: Event, wanted: Sequence[Wanted], found: Mapping[Wanted, Found]) -> Event:
        if event.hosts is None:
            return event
        if event.hosts.selects:
            return self._expanded(event, event.hosts)
        by_text = {each.text: found[each] for each in wanted if each in found}
        decided = decision(
            targets_of(event),
            by_text,
            waited_s=self.clock.now_s() - event.received_s,
            wait_s=event.hosts.wait_s,
        )
        if decided.step is Step.NOT_YET:
            return event
        if decided.ambiguous and decided.step is not Step.WAIT:
            self.ambiguous[event.event_id] = decided.ambiguous
        return self._moved(event, self._update(event, decided))

    def _update(self, event: Event, decided: Decision) -> dict[str, object]:
        match decided.step:
            case Step.WAIT:
                return self._put_off(event, decided.error)
            case Step.REJECT:
                return _rejected(decided.error, self.clock.now_s()) | {"hosts_missing": decided.missing}
        request = event.request.model_copy(
            update={"param": event.request.param | {str(event.target_key): ",".join(decided.uuids)}}
        )
        if request.line_bytes() > REQUEST_LINE_BYTES:
            return _rejected(_TOO_LONG, self.clock.now_s())
        return {
            "request": request,
            "hosts": None,
            "hosts_missing": decided.missing,
            "error": None,
            "failures": 0,
        }

    def _put_off(self, event: Event, error: ErrorInfo | None) -> dict[str, object]:
        """Until a moment that events of a route share which failed as often; a host that is waited for is
        looked up once more when that time is over.
        """
        kind = error.kind if error else Kind.REMOTE
        key = event.route, kind, event.failures
        if key not in self._retries_s:
            self._retries_s[key] = self.clock.now_s() + backoff_s(kind, event.failures, self.jitter)
        due_s = self._retries_s[key]
        # One look more exactly at the end of its wait: else a long backoff would make of 15 minutes 20.
        if event.hosts is not None and error is not None and error.code == Code.HOST_NOT_FOUND:
            due_s = min(due_s, max(event.received_s + event.hosts.wait_s, self.clock.now_s()))
        return {"error": error, "due_s": due_s, "failures": event.failures + 1}

    # -- selecting --------------------------------------------------------------------------------

    def _expanded(self, event: Event, rule: HostRule) -> Event:
        if rule.selected is None:
            return self._selected(event, rule)
        written = self._written(event, rule, rule.selected)
        if written < len(rule.selected):
            is_further = written > rule.written
            return self._noted(event, rule.model_copy(update={"written": written})) if is_further else event
        now_s = self.clock.now_s()
        update = {"status": Status.EXPANDED, "hosts": None, "error": None, "settled_s": now_s}
        return self._moved(event, update)

    def _written(self, event: Event, rule: HostRule, uuids: Sequence[str]) -> int:
        """How many of the selected hosts have an event, after as many more as there is time for."""
        written, last = rule.written, min(rule.written + MOST_WRITTEN, len(uuids))
        while written < last and self.deadline.left_s() > NOTING_S:
            # Put if absent: after a death in between, those that are there already stay as they are.
            with suppress(DamagedRecord):  # one host's event; a sweep reports it, and the others go on
                kept, _ = self.ledger.record(self._event_for(event, uuids[written], written))
                self.take_in(kept)
            written += 1
        return written

    def _selected(self, event: Event, rule: HostRule) -> Event:
        """What was selected is on the event before the first host's event is: after a death the same hosts
        become the same events.
        """
        found = self.lookups.select(str(event.route), rule.where)
        if found is None:
            return event
        decided = selection(found, rule.most or 0)
        now_s = self.clock.now_s()
        match decided.step:
            case Step.WAIT:
                return self._moved(event, self._put_off(event, decided.error))
            case Step.REJECT:
                return self._moved(event, _rejected(decided.error, now_s))
        if not decided.uuids:
            return self._moved(event, {"status": Status.IGNORED, "settled_s": now_s, "error": None})
        chosen = rule.model_copy(update={"selected": decided.uuids})
        try:
            noted = self._noted(event, chosen)
        except RecordTooLarge:
            return self._moved(event, _rejected(_SELECTION_TOO_LARGE, now_s))
        return self._expanded(noted, chosen) if noted.hosts == chosen else noted

    def _event_for(self, event: Event, uuid: str, index: int) -> Event:
        """A selected host's own event: it waits as long as the one that selected it may, from now on."""
        now_s = self.clock.now_s()
        key = str(event.target_key)
        return Event(
            event_id=bounded_id(f"{event.event_id}/{uuid}", event.trigger, str(event.route)),
            status=Status.PENDING,
            trigger=event.trigger,
            route=event.route,
            request=event.request.model_copy(update={"param": event.request.param | {key: uuid}}),
            submit="sweep",
            target_key=key,
            max_targets=event.max_targets,
            order=index,
            received_s=now_s,
            due_s=now_s,
            give_up_s=now_s + (event.give_up_s - event.received_s),
            keep_s=event.keep_s,
        )

    # -- writing ----------------------------------------------------------------------------------

    def _moved(self, event: Event, update: Mapping[str, object]) -> Event:
        return self._changed(event, event.moved(self.clock.now_s(), update))

    def _noted(self, event: Event, rule: HostRule) -> Event:
        return self._changed(event, event.model_copy(update={"hosts": rule}))

    def _changed(self, event: Event, changed: Event) -> Event:
        """Where it still stands as it was read: no call was ever made for it, so that no lane is needed."""
        return self.change(event.event_id, lambda kept: changed if kept == event else kept) or event


def _is_named(event: Event) -> bool:
    return event.hosts is not None and not event.hosts.selects


def _wanted(event: Event) -> list[Wanted]:
    rule = event.hosts or HostRule()
    where = tuple(sorted(rule.where.items()))
    asks_again = event.error is not None and event.error.code == Code.HOST_NOT_FOUND
    return [
        Wanted(str(event.route), rule.by, target, where, asks_again=asks_again)
        for target in targets_of(event)
    ]


def _rejected(error: ErrorInfo | None, now_s: float) -> dict[str, object]:
    return {"status": Status.REJECTED, "error": error, "settled_s": now_s}


_TOO_LONG = ErrorInfo(
    kind=Kind.SENDER,
    code=Code.REQUEST_TOO_LARGE,
    message=f"with its hosts' uuids the request line would be over {REQUEST_LINE_BYTES} bytes",
)
_SELECTION_TOO_LARGE = ErrorInfo(
    kind=Kind.SENDER,
    code=Code.RECORD_TOO_LARGE,
    message="the uuids of the selected hosts are too long to be kept: none was asked for",
)
