"""The outbox: what a batch of the ledger table's stream tells, and its way to the destination.

    stream ─→ changes_of ─→ calls of the destination ─┬ taken
    (a shard's rows, in order)                        ├ refused for itself, or 12 hours old ─→ dead letters
                                                      └ not now ─→ `batchItemFailures`: from here on, again

The ledger's write is what is handed on: a result leaves as surely as it was recorded. Nothing behind the
first failure is tried, so that an event's results leave in their order; the stream begins again with that
one. What had left in the same call leaves once more, and carries the same ids.

Powertools' batch processor takes records one by one where PutEvents takes ten, so that it is not used here.
"""

import json
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any, NamedTuple

from pydantic import ValidationError

from oncetask.app import ResultsApp
from oncetask.aws.events import Message, Refusal
from oncetask.clock import Deadline
from oncetask.errors import Code
from oncetask.ledger.records import Event, event_key

GIVE_UP_S = 12 * 3600
"""How long after its writing a result is tried; the stream itself forgets after 24 hours."""
BEFORE_INVOCATION_ENDS_S = 10.0
"""No further call begins later: a killed invocation would have to send all of its batch again."""
EVENT_PREFIX = event_key("")
_DAMAGED = Refusal(Code.RECORD_DAMAGED, "the ledger's record could not be read", for_itself=True)


class Change(NamedTuple):
    """A row's new result. `created_s`: when the row was written, epoch seconds."""

    sequence_number: str
    created_s: float
    key: str
    message: Message
    is_damaged: bool = False


@dataclass(slots=True)
class Report:
    """What one batch came to. `stopped`: the change that the stream begins again with, and why."""

    handed_on: int = 0
    dead_letters: list[tuple[Change, Refusal]] = field(default_factory=list)
    damaged: list[Change] = field(default_factory=list)
    stopped: Change | None = None
    refusal: Refusal | None = None

    @property
    def has_sent(self) -> bool:
        """Whether any of the batch is done, so that the stream need not begin again with its first."""
        return self.handed_on > 0 or bool(self.dead_letters)

    def answer(self) -> dict[str, Any]:
        """What AWS Lambda is told; no failure at all where the batch is done."""
        stopped = [] if self.stopped is None else [{"itemIdentifier": self.stopped.sequence_number}]
        return {"batchItemFailures": stopped}


def hand_on(app: ResultsApp, event: object, deadline: Deadline) -> Report:
    """Hand on what is new in a batch of the stream."""
    report = Report()
    for call in _calls(app, changes_of(event, app.clock.now_s())):
        if report.has_sent and deadline.left_s() < BEFORE_INVOCATION_ENDS_S:
            report.stopped = call[0]
        else:
            _send(app, call, report)
        if report.stopped is not None:
            break
    return report


def changes_of(event: object, now_s: float) -> Iterator[Change]:
    """The new results in a batch of the stream, in its order. Rows that are no events have none."""
    records = event.get("Records") if isinstance(event, dict) else None
    for record in records or ():
        change = _change_of(record, now_s)
        if change is not None:
            yield change


def event_of_row(body: str) -> Event | None:
    """The event that a row tells; None where it cannot be read."""
    try:
        return Event.model_validate_json(body)
    except ValidationError:
        return None


def is_new(event: Event, before: Event | None) -> bool:
    """Whether the row tells a result that it did not tell before: an event counts its results."""
    return before is None or event.sequence != before.sequence


def _change_of(record: dict[str, Any], now_s: float) -> Change | None:
    stream = record.get("dynamodb", {})
    key, new, old = _text(stream.get("Keys"), "key"), stream.get("NewImage"), stream.get("OldImage")
    body, body_before = _text(new, "body"), _text(old, "body")
    if not key.startswith(EVENT_PREFIX) or not new or body == body_before:
        return None
    number, created_s = str(stream["SequenceNumber"]), float(stream.get("ApproximateCreationDateTime", now_s))
    event = event_of_row(body)
    if event is None:
        return Change(number, created_s, key, _message_of_row(key, new), is_damaged=True)
    if not is_new(event, event_of_row(body_before) if old else None):
        return None
    return Change(number, created_s, key, _message_of(event))


def _message_of(event: Event) -> Message:
    once_id = f"{event.event_id}#{event.sequence}"
    return Message(event.event_id, once_id, json.dumps(event.result().document(), separators=(",", ":")))


def _message_of_row(key: str, row: dict[str, Any]) -> Message:
    """What cannot be read goes to the dead letters as it is, so that it is not lost."""
    event_id = key.removeprefix(EVENT_PREFIX)
    once_id = f"{event_id}#{_text(row, 'version')}"
    return Message(event_id, once_id, json.dumps({"key": key, "row": row}, separators=(",", ":")))


def _text(image: dict[str, Any] | None, name: str) -> str:
    """A text attribute of DynamoDB's JSON; empty where there is none."""
    return str((image or {}).get(name, {}).get("S", ""))


def _calls(app: ResultsApp, changes: Iterable[Change]) -> Iterator[Sequence[Change]]:
    """The changes in their order, as many at a time as the destination takes; a damaged one by itself."""
    for is_damaged, run in groupby(changes, key=lambda change: change.is_damaged):
        left = deque(run)
        if is_damaged:
            yield from ([change] for change in left)
            continue
        for messages in app.destination.calls([change.message for change in left]):
            yield [left.popleft() for _ in messages]


def _send(app: ResultsApp, call: Sequence[Change], report: Report) -> None:
    """One call, and what became of each of its messages, up to the first that must be tried again."""
    refusals = [_DAMAGED] if call[0].is_damaged else app.destination.send([change.message for change in call])
    for change, refusal in zip(call, refusals, strict=True):
        if refusal is None:
            report.handed_on += 1
            continue
        is_late = app.clock.now_s() - change.created_s >= GIVE_UP_S
        if not (refusal.for_itself or is_late) or not _is_kept(app, change, refusal, report):
            report.stopped, report.refusal = change, report.refusal or refusal
            return


def _is_kept(app: ResultsApp, change: Change, refusal: Refusal, report: Report) -> bool:
    """Whether the queue of dead letters has it now.

    What that queue, too, refuses for itself can be kept nowhere: the log names it, and it holds nobody up.
    """
    failed = app.dead_letters.send_one(change.message, refusal)
    if failed is not None and not failed.for_itself:
        report.refusal = failed
        return False
    report.dead_letters.append((change, failed or refusal))
    if change.is_damaged:
        report.damaged.append(change)
    return True
