"""`oncetask console`: the page of `serve`, read-only, for the ledger that the environment names."""

import asyncio
from contextlib import closing
from typing import Any

import uvicorn

from local.environments import ledger_that_is_there, told
from local.ledger_queries import summary
from local.page import Page
from local.ports import bound
from local.screen import Screen
from local.web import Answer, Asgi, Request, json_answer
from oncetask.app import App, app_of
from oncetask.errors import LedgerUnavailable

MOST_BODY_BYTES = 1024


def main(port: int) -> None:
    """Serve until interrupted. Raises CommandError: no ledger that lasts, or no such port."""
    environment = told()
    ledger = ledger_that_is_there(environment)
    with closing(app_of(environment)) as app, bound(port) as listening:
        screen = Screen()
        screen.title(f"the page of {ledger}, read-only, at http://127.0.0.1:{listening.getsockname()[1]}/")
        screen.line("Ctrl-C ends it.")
        config = uvicorn.Config(
            Console(app), log_level="critical", lifespan="on", timeout_graceful_shutdown=5
        )
        uvicorn.Server(config).run(sockets=[listening])


class Console(Asgi):
    """The page alone: nothing here changes anything."""

    def __init__(self, app: App) -> None:
        super().__init__(most_body_bytes=MOST_BODY_BYTES)
        self._app = app
        self._page = Page(self._document, app, is_live=False)

    async def answer(self, request: Request) -> Answer:
        """The page's files and documents; nothing else is here."""
        if self._page.has(request):
            return await asyncio.to_thread(self._page.answer, request)
        return json_answer(404, {"error": "only the page is here"})

    def _document(self) -> dict[str, Any]:
        seen: dict[str, Any] = {"deliveries": [], "changes": [], "trouble": None}
        try:
            return seen | {"ledger": summary(self._app), "unavailable": None}
        except LedgerUnavailable as error:
            return seen | {"ledger": None, "unavailable": str(error)}
