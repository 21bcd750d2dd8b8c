"""`oncetask serve`: webhooks, timers and a sweep behind a real HTTP server on loopback, with a page."""

import asyncio
import sys
import time
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager, closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import uvicorn

from local.board import Board, told_of
from local.deliveries import Payload, keep
from local.emulator import Behaviour, Emulator
from local.environments import lasting_ledger, told, with_emulator
from local.errors import CommandError
from local.inventories import inventory, such_as
from local.page import Page
from local.ports import bound
from local.routes import row, show_rows
from local.screen import Screen
from local.signatures import given_id
from local.timers import Timers
from local.web import Answer, Asgi, Request, json_answer
from oncetask.app import App, app_of
from oncetask.handlers import sweep, timer, webhook
from oncetask.models import Trigger, results_document
from oncetask.routing.routes import Route

INVOCATION_MS = 29_000
"""What API Gateway leaves a function."""
SWEEP_MS = 60_000
TICK_EVERY_S = 0.5
TASK_S = 15.0
"""How long the embedded emulator's tasks run: long enough to see, short enough to wait for."""


class Wanted(NamedTuple):
    """What the command line asks for."""

    port: int
    ledger: str | None = None
    live: bool = False
    save: Path | None = None
    sweep_every_s: float = 3.0
    routes: Path | None = None
    as_json: bool = False
    hosts: str | None = None


def main(wanted: Wanted) -> None:
    """Serve until interrupted. Raises OnceTaskError before that: what the environment or a port lacks."""
    environment = told(wanted.routes, _ledger(wanted.ledger))
    screen, documents = (Screen(sys.stderr), Screen()) if wanted.as_json else (Screen(), None)
    with ExitStack() as stack:
        emulator = None
        if wanted.live:
            lasting_ledger(environment)
        else:
            emulator = stack.enter_context(Emulator(behaviour=Behaviour(task_duration_s=TASK_S)))
            emulator.hosts[:] = inventory(wanted.hosts)
            environment = with_emulator(environment, emulator.url)
        app = stack.enter_context(closing(app_of(environment)))
        try:
            timers = Timers(app.routes, datetime.now(UTC))
        except ValueError as error:
            raise CommandError(f"a schedule is wrong: {error}; `oncetask routes check` tells which") from None
        listening = stack.enter_context(bound(wanted.port))
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        _greet(screen, app, emulator, url, live=wanted.live)
        server = Server(app, Board(app, screen, documents=documents), timers, emulator, wanted)
        config = uvicorn.Config(server, log_level="critical", lifespan="on", timeout_graceful_shutdown=5)
        uvicorn.Server(config).run(sockets=[listening])


def _ledger(given: str | None) -> str | None:
    """A bare path, too, is a SQLite file."""
    if given is None or "://" in given:
        return given
    return f"sqlite://{Path(given).resolve()}"


def _greet(screen: Screen, app: App, emulator: Emulator | None, url: str, *, live: bool) -> None:
    """What there is, before anything happens."""
    screen.title(f"oncetask serves at {url}")
    screen.line(f"page      {url}/")
    screen.line(f"ledger    {app.settings.ledger}")
    if emulator is not None:
        screen.line(f"emulator  {emulator.url}; plan faults at {url}/_emulator/faults")
        screen.line(f"hosts     {len(emulator.hosts)} in the emulator's list{such_as(emulator.hosts)}")
    elif live:
        screen.line(f"LIVE: asks {app.settings.endpoint or app.settings.region}", style="bold red")
    screen.line(f"routes    {app.settings.routes}")
    rows = [row(app, route) for route in app.routes.values()]
    show_rows(screen, rows)
    sample = next((one["route"] for one in rows if one["trigger"] == Trigger.WEBHOOK), None)
    if sample is not None:
        screen.line(f"try       ./oncetask send {sample} PAYLOAD.json --to {url}")
    screen.line("Ctrl-C ends it.")


class Server(Asgi):
    """Each request becomes the event that a function URL would hand over; ticks and sweeps go on."""

    def __init__(
        self, app: App, board: Board, timers: Timers, emulator: Emulator | None, wanted: Wanted
    ) -> None:
        super().__init__(most_body_bytes=webhook.BODY_BYTES + 1)
        self._app = app
        self._board = board
        self._timers = timers
        self._emulator = emulator
        self._wanted = wanted
        self._page = Page(board.document, app, is_live=True)

    async def answer(self, request: Request) -> Answer:
        """A webhook, the page, or the emulator's switches."""
        if request.path.startswith("/_emulator/"):
            return self._emulated(request)
        if self._page.has(request):
            return await asyncio.to_thread(self._page.answer, request)
        return await asyncio.to_thread(self._delivered, request)

    def _emulated(self, request: Request) -> Answer:
        if not request.is_ours:
            return json_answer(403, {"error": "only a loopback Host, and no foreign Origin"})
        if self._emulator is None or request.path != "/_emulator/faults":
            return json_answer(404, {"error": "there is no emulator here, or not this of it"})
        if request.method != "POST":
            return json_answer(405, {"error": "faults are planned by POST"})
        try:
            return json_answer(200, {"planned": self._emulator.plan(request.body)})
        except ValueError as error:
            return json_answer(400, {"error": str(error)})

    # -- deliveries -------------------------------------------------------------------------------

    def _delivered(self, request: Request) -> Answer:
        event, began_s = request.event(), time.monotonic()
        outcome = webhook.handle(self._app, event, self._app.deadline(INVOCATION_MS))
        answer = outcome.reply().answer_to(event)
        ms = (time.monotonic() - began_s) * 1000
        verdict = f"{answer['statusCode']} {request.method}"
        route = request.path.rstrip("/").rpartition("/")[2] or request.path
        if isinstance(outcome, webhook.Answered):
            self._board.delivery(route, verdict, f"handshake {outcome.handshake}", ms, [])
        elif isinstance(outcome, webhook.Accepted):
            results = [result.document() for result in outcome.report.results]
            counts = results_document(results)["counts"]
            self._board.delivery(route, verdict, told_of(results, counts), ms, results)
            self._keep(route, request)
        else:
            self._board.delivery(route, verdict, f"{outcome.error.code}: {outcome.reason}", ms, [])
        return Answer(answer["statusCode"], answer["body"].encode(), answer["headers"])

    def _keep(self, route: str, request: Request) -> None:
        """Only what was verified: a stranger must not fill the disk."""
        if self._wanted.save is None:
            return
        verify = self._app.routes[route].verify
        delivery_id = given_id(verify, request.headers) if verify is not None else None
        payload = Payload(request.body, request.headers.get("content-type", ""), delivery_id)
        try:
            keep(self._wanted.save, route, payload)
        except CommandError as error:
            self._board.trouble(str(error))

    # -- ticks and sweeps -------------------------------------------------------------------------

    @asynccontextmanager
    async def alive(self) -> AsyncIterator[None]:
        """While the server is up."""
        going = [asyncio.create_task(self._tick_for_ever()), asyncio.create_task(self._sweep_for_ever())]
        try:
            yield
        finally:
            for task in going:
                task.cancel()
            await asyncio.gather(*going, return_exceptions=True)

    async def _tick_for_ever(self) -> None:
        while True:
            await asyncio.sleep(TICK_EVERY_S)
            for route, tick in self._timers.due(datetime.now(UTC)):
                await asyncio.to_thread(self._fire, route, tick)

    def _fire(self, route: Route, tick: dict[str, Any]) -> None:
        began_s = time.monotonic()
        try:
            report = timer.handle(self._app, tick, self._app.deadline(SWEEP_MS))
        except Exception as error:  # noqa: BLE001 - the next tick must come, whatever this one met
            self._board.trouble(f"the timer {route.name} failed: {type(error).__name__}: {error}")
            return
        results = [result.document() for result in report.results]
        ms = (time.monotonic() - began_s) * 1000
        self._board.delivery(
            route.name, "tick", told_of(results, results_document(results)["counts"]), ms, results
        )

    async def _sweep_for_ever(self) -> None:
        while True:
            await asyncio.sleep(self._wanted.sweep_every_s)
            await asyncio.to_thread(self._sweep)

    def _sweep(self) -> None:
        try:
            report = sweep.handle(self._app, self._app.deadline(SWEEP_MS))
            self._board.changed([result.document() for result in report.results])
        except Exception as error:  # noqa: BLE001 - the next sweep must come, whatever this one met
            again = f"the next one tries again in {self._wanted.sweep_every_s:g} s"
            self._board.trouble(f"the sweep failed, {again}: {type(error).__name__}: {error}")
        else:
            self._board.trouble(None)
