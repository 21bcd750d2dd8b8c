"""The webhook handler behind a real HTTP server on loopback, with a sweep every few seconds: each result is a
line of JSON on stdout, which `oncetask serve`, made for people, does not print.

    python -m tests.e2e.handler_server PORT
"""

import asyncio
import base64
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from contextlib import asynccontextmanager
from typing import Any

import uvicorn

from local import show
from oncetask.app import App, app_of
from oncetask.errors import LedgerUnavailable
from oncetask.handlers import sweep, webhook

SWEEP_EVERY_S = 3.0
INVOCATION_MS = 29_000
"""What API Gateway leaves a function."""

type Message = MutableMapping[str, Any]
type Receive = Callable[[], Awaitable[Message]]
type Send = Callable[[Message], Awaitable[None]]


def main(port: int) -> None:
    """Serve until ended, by the environment's settings."""
    server = WebhookServer(app_of(os.environ))
    uvicorn.run(server, host="127.0.0.1", port=port, log_level="warning", lifespan="on")


class WebhookServer:
    """An ASGI application: each request becomes the event that a function URL would hand over."""

    def __init__(self, app: App) -> None:
        self._app = app

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """ASGI's entry."""
        if scope["type"] == "lifespan":
            await self._live(receive, send)
        elif scope["type"] == "http":
            await self._answer(scope, receive, send)

    async def _answer(self, scope: Message, receive: Receive, send: Send) -> None:
        event = _event(scope, await _body(receive))
        outcome = await asyncio.to_thread(webhook.handle, self._app, event, self._app.deadline(INVOCATION_MS))
        if isinstance(outcome, webhook.Accepted):
            show.results([result.document() for result in outcome.report.results])
        answer = outcome.reply().answer_to(event)
        headers = [(name.encode(), str(value).encode()) for name, value in answer["headers"].items()]
        await send({"type": "http.response.start", "status": answer["statusCode"], "headers": headers})
        await send({"type": "http.response.body", "body": answer["body"].encode()})

    async def _live(self, receive: Receive, send: Send) -> None:
        await receive()
        async with self._sweeping():
            await send({"type": "lifespan.startup.complete"})
            await receive()
        await send({"type": "lifespan.shutdown.complete"})

    @asynccontextmanager
    async def _sweeping(self) -> AsyncIterator[None]:
        sweeps = asyncio.create_task(self._sweep_for_ever())
        try:
            yield
        finally:
            sweeps.cancel()
            await asyncio.gather(sweeps, return_exceptions=True)

    async def _sweep_for_ever(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_EVERY_S)
            try:
                report = await asyncio.to_thread(sweep.handle, self._app, self._app.deadline(60_000))
            except LedgerUnavailable as error:
                print(f"sweep: {error}", flush=True)
            else:
                show.results([result.document() for result in report.results])


async def _body(receive: Receive) -> bytes:
    body = b""
    while True:
        message = await receive()
        body += bytes(message.get("body", b""))
        if not message.get("more_body"):
            return body


def _event(scope: Message, body: bytes) -> dict[str, Any]:
    """Payload format 2.0, as of a function URL; repeated headers are joined with commas, as AWS does."""
    headers: dict[str, str] = {}
    for raw_name, raw_value in scope["headers"]:
        name, value = raw_name.decode("latin-1"), raw_value.decode("latin-1")
        headers[name] = f"{headers[name]},{value}" if name in headers else value
    return {
        "version": "2.0",
        "routeKey": "$default",
        "rawPath": scope["path"],
        "rawQueryString": scope["query_string"].decode("latin-1"),
        "headers": headers,
        "requestContext": {"http": {"method": scope["method"], "path": scope["path"]}},
        "body": base64.b64encode(body).decode(),
        "isBase64Encoded": True,
    }


if __name__ == "__main__":
    main(int(sys.argv[1]))
