"""The ledger's rows in one DynamoDB table.

    table          key (hash)   version   queue?   due?   expires_s? (TTL)   body
    index `open`   queue (hash), due (range), keys only: holds exactly the open rows

Each route's events are a queue, so that one route's burst meets the limit of one partition of the index, a
thousand writes a second, alone: further writes are refused for a moment and repeated here.

Every write is conditional and carries its own version, so all calls may be repeated: a repeated
write that is refused reads the row, and has succeeded if it meets its own version there. Where
another process has already changed the row again in between, the write is reported as refused
although it once held; who reads again, as the ledger does, sees both.

Sizes: a key may have 2,048 bytes (ours end at 518) and an item 400 KB. A larger item is refused by
the service, and is LedgerUnavailable here: nothing was recorded, and it must not look as if it was.
"""

import secrets
from collections.abc import Iterator, Sequence
from itertools import batched
from random import Random
from typing import Any, NamedTuple

from oncetask.aws.client import AwsError, AwsFailure, AwsService, AwsUnreachable
from oncetask.clock import Clock
from oncetask.errors import LedgerUnavailable
from oncetask.ledger.store import Row

INDEX_NAME = "open"
TTL_ATTRIBUTE = "expires_s"
TABLE_ACTIONS = ("GetItem", "BatchGetItem", "PutItem", "DeleteItem")
"""What the role may do on the table."""
INDEX_ACTIONS = ("Query",)
"""What the role may do on the table's index."""
OPERATOR_ACTIONS = ("Scan",)
"""What an operator needs on the table beside them, to find events that have ended."""

PAGE_ROWS = 1000
"""Keys of at most 700 bytes: a page ends below DynamoDB's own megabyte."""
BATCH_KEYS = 100
"""The most that one BatchGetItem takes."""

TRIES = 6
FIRST_WAIT_S = 0.05
LONGEST_WAIT_S = 1.0
LIMIT_S = 5.0
"""No try begins later than this after the first; the last one still has the connection's time-outs."""

CONDITION_NOT_MET = "ConditionalCheckFailedException"
PASSING = {
    "ProvisionedThroughputExceededException",
    "ReplicatedWriteConflictException",
    "RequestLimitExceeded",
    "ThrottlingException",
    "TransactionConflictException",
    "TransactionInProgressException",
}
"""Refusals that a moment's patience mends
(https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Programming.Errors.html)."""


class _Answer(NamedTuple):
    """`document` None: the write's condition was not met. `after_doubt`: an earlier try may have worked."""

    document: dict[str, Any] | None
    after_doubt: bool


class DynamoDbStore:
    """A `Store` in one table, as `table_definition` describes it. Threads may share it."""

    def __init__(self, service: AwsService, table: str, clock: Clock, random: Random | None = None) -> None:
        """Nothing is opened yet. `random` None: the system's, which restored snapshots do not share."""
        self._service = service
        self._table = table
        self._clock = clock
        self._random = random or secrets.SystemRandom()

    def get(self, key: str) -> Row | None:
        answer = self._read("GetItem", TableName=self._table, Key=_key(key), ConsistentRead=True)
        return _row(answer["Item"]) if "Item" in answer else None

    def get_many(self, keys: Sequence[str]) -> list[Row]:
        found: dict[str, Row] = {}
        for batch in batched(dict.fromkeys(keys), BATCH_KEYS, strict=False):
            found |= {row.key: row for row in self._batch(batch)}
        return [found[key] for key in keys if key in found]

    def put(self, row: Row, *, replacing: str | None) -> bool:
        answer = self._call(
            "PutItem", {"TableName": self._table, "Item": _item(row), **_if_version_is(replacing)}
        )
        if answer.document is not None or not answer.after_doubt:
            return answer.document is not None
        stored = self.get(row.key)
        return stored is not None and stored.version == row.version

    def delete(self, key: str, *, version: str) -> bool:
        answer = self._call(
            "DeleteItem", {"TableName": self._table, "Key": _key(key), **_if_version_is(version)}
        )
        if answer.document is not None or not answer.after_doubt:
            return answer.document is not None
        return self.get(key) is None

    def queued(self, queue: str, most: int | None = None) -> Iterator[tuple[str, str]]:
        """A page is read when its first row is needed."""
        for items in self._pages(
            "Query",
            IndexName=INDEX_NAME,
            KeyConditionExpression="#queue = :queue",
            ExpressionAttributeNames={"#queue": "queue"},
            ExpressionAttributeValues={":queue": {"S": queue}},
            Limit=min(most or PAGE_ROWS, PAGE_ROWS),
        ):
            yield from sorted((item["due"]["S"], item["key"]["S"]) for item in items)

    def rows(self, prefix: str) -> Iterator[Row]:
        """Scan, which reads and is paid for the whole table, whatever the prefix leaves of it."""
        for items in self._pages(
            "Scan",
            ConsistentRead=True,
            FilterExpression="begins_with(#key, :prefix)",
            ExpressionAttributeNames={"#key": "key"},
            ExpressionAttributeValues={":prefix": {"S": prefix}},
        ):
            yield from map(_row, items)

    def forget_expired(self, now_s: float) -> None:
        """The table's TTL does so."""

    def close(self) -> None:
        self._service.close()

    def _pages(self, operation: str, **parameters: Any) -> Iterator[list[Any]]:  # noqa: ANN401 - DynamoDB's
        """The items of each page, which is read when its first item is needed."""
        start: dict[str, Any] = {}
        while True:
            page = self._read(operation, TableName=self._table, **parameters, **start)
            yield page["Items"]
            if "LastEvaluatedKey" not in page:
                return
            start = {"ExclusiveStartKey": page["LastEvaluatedKey"]}

    def _batch(self, keys: Sequence[str]) -> Iterator[Row]:
        """The rows of at most a hundred keys, in any order; what one answer leaves out is asked for again."""
        wanted: dict[str, Any] = {self._table: {"Keys": [_key(key) for key in keys], "ConsistentRead": True}}
        fruitless = 0
        while wanted:
            answer = self._read("BatchGetItem", RequestItems=wanted)
            items = answer["Responses"].get(self._table, [])
            yield from (_row(item) for item in items)
            wanted = answer.get("UnprocessedKeys", {})
            fruitless = 0 if items else fruitless + 1
            if wanted and fruitless == TRIES:
                raise LedgerUnavailable(f"the ledger's table {self._table} gives no rows; is it throttled?")
            if wanted and fruitless:
                self._clock.sleep(self._wait_s(fruitless))

    def _read(self, action: str, **document: object) -> dict[str, Any]:
        """The answer to a call that has no condition."""
        return self._call(action, document).document or {}

    def _call(self, action: str, document: dict[str, Any]) -> _Answer:
        """One call, repeated while that may help. Raises LedgerUnavailable."""
        began_s, in_doubt, tries = self._clock.elapsed_s(), False, 0
        while True:
            try:
                return _Answer(self._service.call(f"DynamoDB_20120810.{action}", document), in_doubt)
            except AwsFailure as failure:
                if isinstance(failure, AwsError) and failure.code == CONDITION_NOT_MET:
                    return _Answer(None, in_doubt)
                in_doubt, tries = in_doubt or failure.in_doubt, tries + 1
                wait_s = self._wait_s(tries) if _needs_patience(failure) else 0.0
                ends_s = self._clock.elapsed_s() + wait_s - began_s
                if not _passes(failure) or tries == TRIES or ends_s > LIMIT_S:
                    raise self._unavailable(action, failure) from failure
            self._clock.sleep(wait_s)

    def _wait_s(self, tries: int) -> float:
        """How long to wait after so many tries: full jitter, so that clients do not come back all at once."""
        return self._random.uniform(0, min(LONGEST_WAIT_S, FIRST_WAIT_S * 2 ** (tries - 1)))

    def _unavailable(self, action: str, failure: AwsFailure) -> LedgerUnavailable:
        table, region = self._table, self._service.region
        if not isinstance(failure, AwsError):
            return LedgerUnavailable(f"{failure}; check the network and AWS_ENDPOINT_URL_DYNAMODB")
        if failure.code.startswith("AccessDenied"):
            what = f"the index {INDEX_NAME} of the table" if action in INDEX_ACTIONS else "the table"
            text = f"the ledger may not be used: allow dynamodb:{action} on {what} {table}"
        elif failure.code == "ResourceNotFoundException":
            text = f"there is no table {table} in {region}: create it, or correct ONCETASK_LEDGER"
        else:
            text = f"the ledger's table {table} in {region} refuses {action}: {failure}"
        return LedgerUnavailable(text, code=failure.code)


def table_definition(table: str) -> dict[str, Any]:
    """The parameters of CreateTable; beside them, the table needs TTL on `TTL_ATTRIBUTE`."""
    return {
        "TableName": table,
        "BillingMode": "PAY_PER_REQUEST",
        "AttributeDefinitions": [
            {"AttributeName": name, "AttributeType": "S"} for name in ("key", "queue", "due")
        ],
        "KeySchema": [{"AttributeName": "key", "KeyType": "HASH"}],
        "GlobalSecondaryIndexes": [
            {
                "IndexName": INDEX_NAME,
                "KeySchema": [
                    {"AttributeName": "queue", "KeyType": "HASH"},
                    {"AttributeName": "due", "KeyType": "RANGE"},
                ],
                "Projection": {"ProjectionType": "KEYS_ONLY"},
            }
        ],
    }


def _key(key: str) -> dict[str, Any]:
    return {"key": {"S": key}}


def _item(row: Row) -> dict[str, Any]:
    item = {**_key(row.key), "version": {"S": row.version}, "body": {"S": row.body}}
    if row.queue is not None:
        item |= {"queue": {"S": row.queue}, "due": {"S": row.due}}
    if row.expires_s is not None:
        item[TTL_ATTRIBUTE] = {"N": str(row.expires_s)}
    return item


def _row(item: dict[str, Any]) -> Row:
    return Row(
        key=item["key"]["S"],
        version=item["version"]["S"],
        queue=item["queue"]["S"] if "queue" in item else None,
        due=item["due"]["S"] if "due" in item else None,
        expires_s=int(item[TTL_ATTRIBUTE]["N"]) if TTL_ATTRIBUTE in item else None,
        body=item["body"]["S"],
    )


def _if_version_is(version: str | None) -> dict[str, Any]:
    """The condition on the stored row; None: there is none."""
    if version is None:
        return {
            "ConditionExpression": "attribute_not_exists(#key)",
            "ExpressionAttributeNames": {"#key": "key"},
        }
    return {
        "ConditionExpression": "#version = :version",
        "ExpressionAttributeNames": {"#version": "version"},
        "ExpressionAttributeValues": {":version": {"S": version}},
    }


def _passes(failure: AwsFailure) -> bool:
    """Whether another try may help."""
    return not isinstance(failure, AwsError) or failure.in_doubt or failure.code in PASSING


def _needs_patience(failure: AwsFailure) -> bool:
    """Whether to wait first: not after a connection that had merely died of idleness."""
    return not (isinstance(failure, AwsUnreachable) and failure.was_idle)
