"""A DynamoDB table's stream as AWS Lambda hands it over."""

from typing import Any

from oncetask.ledger.dynamodb import _item
from oncetask.ledger.records import Event, event_key
from oncetask.ledger.store import Row
from oncetask.models import Status, TaskRequest, Trigger
from tests.clocks import NOW_S

REQUEST = TaskRequest(task_type="IMAGE_SCAN", task_name="IMAGE_SCAN", param={"a": 1}, source="oncetask")


def an_event(event_id: str = "webhook:r:1", status: Status = Status.PENDING, **fields: object) -> Event:
    """An event of the ledger."""
    made: dict[str, object] = {
        "event_id": event_id,
        "status": status,
        "trigger": Trigger.WEBHOOK,
        "route": "r",
        "request": REQUEST,
        "submit": "sweep",
        "order": 0,
        "received_s": NOW_S,
        "due_s": NOW_S,
        "give_up_s": NOW_S + 600,
        "keep_s": 600,
    }
    return Event.model_validate(made | fields)


def row_of(event: Event, version: str = "v1") -> Row:
    """The event's row, as the ledger writes it."""
    body = event.model_dump_json(by_alias=True, exclude_none=True)
    queue, due = event.queued() or (None, None)
    return Row(event_key(event.event_id), version, queue, due, event.expires_s, body)


def record(number: int, new: Row | None, old: Row | None = None, at_s: float = NOW_S) -> dict[str, Any]:
    """One change of a row; `number` is its place in the shard."""
    row = new or old
    assert row is not None
    change: dict[str, Any] = {
        "ApproximateCreationDateTime": at_s,
        "Keys": {"key": {"S": row.key}},
        "SequenceNumber": f"{number:021d}",
        "StreamViewType": "NEW_AND_OLD_IMAGES",
    }
    if new is not None:
        change["NewImage"] = _item(new)
    if old is not None:
        change["OldImage"] = _item(old)
    name = "REMOVE" if new is None else "INSERT" if old is None else "MODIFY"
    return {"eventName": name, "eventSource": "aws:dynamodb", "dynamodb": change}


def batch(*records: dict[str, Any]) -> dict[str, Any]:
    """What the function is invoked with."""
    return {"Records": list(records)}


def first_failure(number: int) -> dict[str, Any]:
    """The answer that has the stream begin again with that record."""
    return {"batchItemFailures": [{"itemIdentifier": f"{number:021d}"}]}


DONE: dict[str, Any] = {"batchItemFailures": []}
