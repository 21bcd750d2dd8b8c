"""HTTP/1.1 bytes in and out: only as much of it as RPC calls need.

Written by hand because the standard library's parser costs more than all the emulator's other work.
"""

from dataclasses import dataclass
from functools import cached_property
from http import HTTPStatus
from typing import BinaryIO
from urllib.parse import parse_qsl

from .answers import Reply

MAX_LINE_BYTES = 65_536
MAX_HEADERS = 200
MAX_BODY_BYTES = 1_048_576


class Malformed(Exception):  # noqa: N818 - a word for the bytes, not for the code
    """Bytes that are no HTTP request that is served here; `status` says how."""

    def __init__(self, status: int) -> None:
        super().__init__(HTTPStatus(status).phrase)
        self.status = status


@dataclass(frozen=True)
class Request:
    """One HTTP request as it arrived; header names in lower case."""

    method: str
    path: str
    query: str
    headers: dict[str, str]
    body: bytes = b""
    closes: bool = False

    @cached_property
    def query_pairs(self) -> list[tuple[str, str]]:
        """The query, decoded, in its order."""
        return parse_qsl(self.query, keep_blank_values=True)

    @cached_property
    def parameters(self) -> dict[str, str]:
        """Query and form body together; the body's win."""
        return dict(self.query_pairs) | dict(self._form_pairs)

    @property
    def _form_pairs(self) -> list[tuple[str, str]]:
        if "form-urlencoded" not in self.headers.get("content-type", ""):
            return []
        return parse_qsl(self.body.decode("utf-8", "replace"), keep_blank_values=True)


def read_request(stream: BinaryIO) -> Request | None:
    """The next request, or None when the peer has gone; raises Malformed."""
    line = _line(stream)
    if not line:
        return None
    try:
        method, target, version = line.decode("ascii").split()
    except ValueError:
        raise Malformed(400) from None
    path, _, query = target.partition("?")
    headers = _headers(stream)
    closes = version != "HTTP/1.1" or headers.get("connection", "").lower() == "close"
    return Request(method, path, query, headers, _body(stream, headers), closes)


def written(reply: Reply, *, closes: bool = False) -> bytes:
    """The whole answer as bytes, so that one send carries it."""
    lines = [
        f"HTTP/1.1 {reply.status} {_phrase(reply.status)}",
        f"Content-Type: {reply.content_type}",
        f"Content-Length: {len(reply.body)}",
        *(f"{name}: {value}" for name, value in reply.headers.items()),
        *(["Connection: close"] if closes else []),
    ]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + reply.body


def _line(stream: BinaryIO) -> bytes:
    line = stream.readline(MAX_LINE_BYTES + 1)
    if len(line) > MAX_LINE_BYTES:
        raise Malformed(414)
    return line


def _headers(stream: BinaryIO) -> dict[str, str]:
    headers: dict[str, str] = {}
    for _ in range(MAX_HEADERS):
        line = _line(stream)
        if line in (b"\r\n", b"\n"):
            return headers
        name, separator, value = line.decode("latin-1").partition(":")
        if not separator:
            raise Malformed(400)
        headers[name.lower()] = value.strip()
    raise Malformed(431)


def _body(stream: BinaryIO, headers: dict[str, str]) -> bytes:
    if "transfer-encoding" in headers:
        raise Malformed(411)
    length = headers.get("content-length", "0")
    if not length.isdecimal():
        raise Malformed(400)
    if len(length) > len(str(MAX_BODY_BYTES)) or int(length) > MAX_BODY_BYTES:
        raise Malformed(413)
    body = stream.read(int(length))
    if len(body) < int(length):
        raise Malformed(400)
    return body


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Unknown"
