"""Where results go: a bus of EventBridge, or a queue of SQS.

Both take messages in calls, in the order of the messages; one call never holds two messages of one event, so
that an entry that fails alone cannot be overtaken by a later one of its event.

Facts: PutEvents takes ten entries and 1 MB (https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-putevents.html),
SendMessage a message of 1 MiB, and ids of at most 128 ASCII letters, digits and punctuation characters
(https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_SendMessage.html).
"""

import hashlib
import http.client
import json
import re
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, Protocol

from oncetask.aws.client import AwsError, AwsFailure, AwsService

SOURCE = "oncetask"
DETAIL_TYPE = "oncetask result"

MOST_ENTRIES = 10
MOST_CALL_BYTES = 1_000_000
MOST_MESSAGE_BYTES = 1_048_576

TOO_LARGE = "TooLarge"
"""Our own code for what is over a limit that is known before it is sent."""

REFUSED_FOR_ITSELF = frozenset(
    {TOO_LARGE, "MalformedDetail", "InvalidMessageContents", "InvalidParameterValue"}
)
"""What the message is at fault for, so that no patience helps. SQS calls one that is over its queue's own
limit `InvalidParameterValue`."""
REFUSED_CALL = frozenset({TOO_LARGE, "ValidationException", "RequestEntityTooLargeException"})
"""A whole PutEvents is refused so for one entry's size, without saying whose."""

_PLAIN_ID = re.compile(r"[!-~]{1,128}")


class Message(NamedTuple):
    """What leaves. `event_id` and `once_id` are any text; `body` is JSON in ASCII."""

    event_id: str
    once_id: str
    body: str


class Refusal(NamedTuple):
    """Why a message was not taken; `for_itself`: it never will be."""

    code: str
    reason: str
    for_itself: bool


class Destination(Protocol):
    """Where messages go."""

    def calls(self, messages: Sequence[Message]) -> Iterator[Sequence[Message]]:
        """The messages in their order, as many at a time as one call takes."""

    def send(self, messages: Sequence[Message]) -> list[Refusal | None]:
        """One call with what `calls` gave: for each message None, or why it was not taken. Raises nothing."""


class Bus:
    """A bus of EventBridge. The detail is the message's body."""

    def __init__(self, service: AwsService, bus: str) -> None:
        self._service = service
        self._bus = bus

    def calls(self, messages: Sequence[Message]) -> Iterator[Sequence[Message]]:
        """At most ten entries and 1 MB, as they travel, which is more than AWS counts."""
        call: list[Message] = []
        size_bytes = 0
        for message in messages:
            entry_bytes = self._entry_bytes(message)
            is_full = len(call) == MOST_ENTRIES or size_bytes + entry_bytes > MOST_CALL_BYTES
            if call and (is_full or message.event_id in {other.event_id for other in call}):
                yield call
                call, size_bytes = [], 0
            call.append(message)
            size_bytes += entry_bytes
        if call:
            yield call

    def send(self, messages: Sequence[Message]) -> list[Refusal | None]:
        """One PutEvents; one for each where all of several are refused together, because one is too large."""
        if len(messages) == 1 and self._entry_bytes(messages[0]) > MOST_CALL_BYTES:
            return [Refusal(TOO_LARGE, f"it has over {MOST_CALL_BYTES} bytes", for_itself=True)]
        entries = [self._entry(message) for message in messages]
        try:
            answer = self._service.call("AWSEvents.PutEvents", {"Entries": entries})
        except AwsFailure as failure:
            refusal = _refusal(failure)
            if refusal.code not in REFUSED_CALL:
                return [refusal] * len(messages)
            if len(messages) == 1:
                return [refusal._replace(for_itself=True)]
            return [self.send([message])[0] for message in messages]
        return _refusals(answer, len(messages))

    def _entry(self, message: Message) -> dict[str, str]:
        return {
            "Source": SOURCE,
            "DetailType": DETAIL_TYPE,
            "Detail": message.body,
            "EventBusName": self._bus,
        }

    def _entry_bytes(self, message: Message) -> int:
        return len(json.dumps(self._entry(message))) + len(", ")


class Queue:
    """A queue of SQS. In a FIFO queue each event is a group; what comes twice within five minutes is one."""

    def __init__(self, service: AwsService, url: str) -> None:
        self._service = service
        self._url = url

    def calls(self, messages: Sequence[Message]) -> Iterator[Sequence[Message]]:
        """One at a time."""
        yield from ([message] for message in messages)

    def send(self, messages: Sequence[Message]) -> list[Refusal | None]:
        """One SendMessage each."""
        return [self.send_one(message) for message in messages]

    def send_one(self, message: Message, why: Refusal | None = None) -> Refusal | None:
        """One SendMessage; `why` stands in the attributes `ERROR_CODE` and `ERROR_MESSAGE`."""
        if len(message.body) > MOST_MESSAGE_BYTES:
            return Refusal(TOO_LARGE, f"it has over {MOST_MESSAGE_BYTES} bytes", for_itself=True)
        document: dict[str, Any] = {"QueueUrl": self._url, "MessageBody": message.body}
        if self._url.endswith(".fifo"):
            document |= {
                "MessageGroupId": plain_id(message.event_id),
                "MessageDeduplicationId": plain_id(message.once_id),
            }
        if why is not None:
            document["MessageAttributes"] = {
                name: {"DataType": "String", "StringValue": value}
                for name, value in (("ERROR_CODE", why.code), ("ERROR_MESSAGE", why.reason))
                if value
            }
        try:
            self._service.call("AmazonSQS.SendMessage", document)
        except AwsFailure as failure:
            return _refusal(failure)
        return None


def plain_id(text: str) -> str:
    """The text where SQS takes it for an id, else its SHA-256 in hex."""
    if _PLAIN_ID.fullmatch(text):
        return text
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def region_of(place: str) -> str | None:
    """The AWS region that an ARN or a queue's URL names; None where it names none."""
    found = re.search(r"[./:]([a-z]{2}(?:-[a-z]+)+-\d+)[.:]", place)
    return found[1] if found else None


def _refusals(answer: dict[str, Any], count: int) -> list[Refusal | None]:
    """What PutEvents says of each entry, however many have failed."""
    entries = answer.get("Entries")
    if not isinstance(entries, list) or len(entries) != count:
        return [
            Refusal("AnswerUnreadable", "PutEvents does not say what became of each entry", for_itself=False)
        ] * count
    return [_refusal_of_entry(entry) for entry in entries]


def _refusal_of_entry(entry: dict[str, Any]) -> Refusal | None:
    code = str(entry.get("ErrorCode") or "")
    if not code:
        return None
    return Refusal(code, str(entry.get("ErrorMessage") or ""), for_itself=code in REFUSED_FOR_ITSELF)


def _refusal(failure: AwsFailure) -> Refusal:
    if not isinstance(failure, AwsError):
        return Refusal("NotConnected", str(failure), for_itself=False)
    code = TOO_LARGE if failure.http_status == http.client.REQUEST_ENTITY_TOO_LARGE else failure.code
    return Refusal(code, failure.message, for_itself=code in REFUSED_FOR_ITSELF)
