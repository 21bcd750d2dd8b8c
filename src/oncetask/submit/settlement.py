"""What becomes of an event by the answer on its ask. Pure.

created ──────────────→ created, until its task has ended
cap reached ──────────→ pending, due at once: the next sweep asks
throttled, not connected,
operator ─────────────→ pending, due after a backoff
refused, alone ───────→ rejected
refused, in a group ──→ pending, in two parts that are asked for apart
lost ─────────────────→ unknown, until it is looked for
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from oncetask.errors import Kind
from oncetask.ledger.records import Ask, Event
from oncetask.models import Answer, Outcome, Status

type Jitter = Callable[[float], float]
"""From a number of seconds to a random one between zero and it."""

BACKOFF_S = {Kind.REMOTE: (5, 300), Kind.OPERATOR: (15, 900)}
"""First and longest wait in seconds, by who must act; doubled at every failure in a row, full jitter."""
MOST_DOUBLINGS = 16


class Settlement(NamedTuple):
    """An answered ask, about to be applied to its events. Applied twice, it changes nothing more."""

    ask: Ask
    answer: Answer
    parts: Mapping[str, str]
    now_s: float
    jitter: Jitter

    @classmethod
    def of(
        cls, ask: Ask, answer: Answer, events: Sequence[Event], now_s: float, jitter: Jitter
    ) -> "Settlement":
        """What the answer means for these events, which are all of the ask's that there are."""
        return cls(ask, answer, _parts_of_refused_group(ask, answer, events), now_s, jitter)

    def apply(self, event: Event) -> Event:
        """The event as the answer leaves it."""
        if not event.waits or not self._is_due_for(event) or self._was_refused_before(event):
            return event
        return event.model_copy(update=self._counted(event) | self._moved(event))

    def _is_due_for(self, event: Event) -> bool:
        """Attempts only grow: they tell a settlement that comes again, or after a later one, from one that
        is due. A lost sending, once counted, can still be found.
        """
        counted = self._counted_attempts(event)
        if event.attempts == counted and self.answer.outcome is not Outcome.LOST:
            return event.status is Status.UNKNOWN and event.ask_id == self.ask.ask_id
        return event.attempts < counted

    def _was_refused_before(self, event: Event) -> bool:
        """A refusal frees the id: who came under it after the sending was not in what was refused."""
        return self.answer.outcome is Outcome.REFUSED and event.received_s > self.ask.last_sent_s

    def _counted_attempts(self, event: Event) -> int:
        index = self.ask.event_ids.index(event.event_id)
        return self.ask.attempts_before[index] + self.ask.sendings

    def _counted(self, event: Event) -> dict[str, object]:
        return {
            "ask_id": self.ask.ask_id,
            "ask_sendings": self.ask.sendings,
            "attempts": self._counted_attempts(event),
            "error": self.answer.error,
            "doubtful": event.doubtful or self.ask.sendings > 1,
        }

    def _moved(self, event: Event) -> dict[str, object]:
        part = self.parts.get(event.event_id)
        match self.answer.outcome:
            case Outcome.CREATED:
                return {
                    "status": Status.CREATED,
                    "task_id": self.answer.task_id,
                    "response": self.answer.response,
                    "shared_by": len(self.ask.event_ids),
                    "settled_s": self.now_s,
                }
            case Outcome.REFUSED if part is None:
                return {"status": Status.REJECTED, "settled_s": self.now_s}
            case Outcome.REFUSED:
                return {"status": Status.PENDING, "error": None, "due_s": self.now_s, "part": part}
            case Outcome.LOST:
                return {"status": Status.UNKNOWN}
            case Outcome.CAP_REACHED:
                return {"status": Status.PENDING, "due_s": self.now_s, "failures": 0}
        return {
            "status": Status.PENDING,
            "due_s": self.now_s + self._wait_s(event),
            "failures": event.failures + 1,
        }

    def _wait_s(self, event: Event) -> float:
        if self.answer.retry_after_ms is not None:
            return self.answer.retry_after_ms / 1000
        first_s, longest_s = BACKOFF_S[self.answer.error.kind if self.answer.error else Kind.REMOTE]
        return self.jitter(min(longest_s, first_s * 2 ** min(event.failures, MOST_DOUBLINGS)))


def _parts_of_refused_group(ask: Ask, answer: Answer, events: Sequence[Event]) -> dict[str, str]:
    """Event id to the part that it is asked with next; empty where nothing is to be parted.

    The event whose target the service's message names stands alone; else the group is halved.
    Derived from the ask and its events' own requests, so that a second reckoning gives the same.
    """
    if answer.outcome is not Outcome.REFUSED or len(ask.event_ids) <= 1:
        return {}
    named = [event.event_id for event in events if _is_named(event, answer)]
    first = set(named) if len(named) == 1 else set(ask.event_ids[: len(ask.event_ids) // 2])
    return {event_id: f"{ask.ask_id}/{0 if event_id in first else 1}" for event_id in ask.event_ids}


def _is_named(event: Event, answer: Answer) -> bool:
    """Whether the message holds one of the event's targets as a word of its own."""
    if event.target_key is None or answer.error is None:
        return False
    targets = str(event.request.param.get(event.target_key, "")).split(",")
    names = "|".join(re.escape(target) for target in targets if target)
    return bool(names) and re.search(rf"(?<![\w-])(?:{names})(?![\w-])", answer.error.message) is not None
