"""HTTP on this machine as the servers here need it: a whole request in, a whole answer out, both bounded."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, MutableMapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from local.events import function_url
from local.loopback import is_ours
from local.text import json_text

type Message = MutableMapping[str, Any]
type Receive = Callable[[], Awaitable[Message]]
type Send = Callable[[Message], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Request:
    """One request. Header names are lower case; equal ones are joined by commas, as AWS does."""

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    body: bytes = field(repr=False)

    @property
    def is_ours(self) -> bool:
        """Whether it comes from this machine's own people."""
        return is_ours(self.headers.get("host"), self.headers.get("origin"))

    def event(self) -> dict[str, Any]:
        """Payload format 2.0, as of a function URL."""
        return function_url(self.path, self.body, self.headers, method=self.method, query=self.query)


class Answer(NamedTuple):
    """One answer."""

    status: int
    body: bytes
    headers: Mapping[str, str]


def json_answer(status: int, document: object) -> Answer:
    """A JSON document."""
    return Answer(status, json_text(document).encode(), {"content-type": "application/json"})


class Asgi:
    """An ASGI application over `answer`, and whatever else is alive with it."""

    def __init__(self, *, most_body_bytes: int) -> None:
        """Of a longer body only so much is read."""
        self._most_body_bytes = most_body_bytes

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """ASGI's entry."""
        if scope["type"] == "lifespan":
            await self._live(receive, send)
        elif scope["type"] == "http":
            await self._answer(scope, receive, send)

    async def answer(self, request: Request) -> Answer:
        """What a request is told."""
        raise NotImplementedError

    def alive(self) -> AbstractAsyncContextManager[None]:
        """What goes on while the server is up."""
        return _nothing()

    async def _answer(self, scope: Message, receive: Receive, send: Send) -> None:
        answer = await self.answer(_request(scope, await self._body(receive)))
        headers = [(name.encode(), str(value).encode()) for name, value in answer.headers.items()]
        await send({"type": "http.response.start", "status": answer.status, "headers": headers})
        await send({"type": "http.response.body", "body": answer.body})

    async def _body(self, receive: Receive) -> bytes:
        parts: list[bytes] = []
        size_bytes = 0
        while True:
            message = await receive()
            part = bytes(message.get("body", b""))[: self._most_body_bytes - size_bytes]
            parts.append(part)
            size_bytes += len(part)
            if not message.get("more_body") or size_bytes == self._most_body_bytes:
                return b"".join(parts)

    async def _live(self, receive: Receive, send: Send) -> None:
        await receive()
        async with self.alive():
            await send({"type": "lifespan.startup.complete"})
            await receive()
        await send({"type": "lifespan.shutdown.complete"})


@asynccontextmanager
async def _nothing() -> AsyncIterator[None]:
    yield


def _request(scope: Message, body: bytes) -> Request:
    headers: dict[str, str] = {}
    for raw_name, raw_value in scope["headers"]:
        name, value = raw_name.decode("latin-1").lower(), raw_value.decode("latin-1")
        headers[name] = f"{headers[name]},{value}" if name in headers else value
    query = scope["query_string"].decode("latin-1")
    return Request(scope["method"], scope["path"], query, headers, body)
