"""Answers as the real service words them (api-facts 5.2)."""

import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field

type Answer = dict[str, object]

_HOST_ID = "tds.emulator"


class ApiError(Exception):
    """A refusal: an HTTP status and an error body."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message


@dataclass(frozen=True, slots=True)
class Reply:
    """One HTTP answer, sent `delay_s` real seconds late."""

    status: int
    body: bytes
    content_type: str = "application/json;charset=utf-8"
    headers: Mapping[str, str] = field(default_factory=dict)
    delay_s: float = 0.0


def accepted(answer: Answer) -> Reply:
    """200 with the answer and a RequestId of its own."""
    return Reply(200, _json({"RequestId": _request_id(), **answer}))


def refused(error: ApiError, headers: Mapping[str, str] | None = None) -> Reply:
    """The error's status, with the five fields of a real error body."""
    body: Answer = {
        "RequestId": _request_id(),
        "HostId": _HOST_ID,
        "Code": error.code,
        "Message": error.message,
        "Recommend": f"https://api.aliyun.com/troubleshoot?q={error.code}&product=Sas",
    }
    return Reply(error.status, _json(body), headers=headers or {})


def json_reply(status: int, document: Answer) -> Reply:
    """A JSON document, as it is."""
    return Reply(status, _json(document))


def _request_id() -> str:
    return str(uuid.uuid4()).upper()


def _json(answer: Answer) -> bytes:
    return json.dumps(answer, separators=(",", ":")).encode()
