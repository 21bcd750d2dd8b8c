"""The page that `serve` and `console` show: what is in the ten slots, what waits and why, what came last.

Everything that a sender wrote reaches the page as JSON and is put there as text. It loads nothing from
elsewhere, and its policy lets it.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

from local.ledger_queries import event_document
from local.screen import told_of_host
from local.web import Answer, Request, json_answer
from oncetask.app import App
from oncetask.errors import DamagedRecord, LedgerUnavailable

HERE = Path(__file__).parent
FILES: Mapping[str, tuple[str, str]] = {
    "/": ("page.html", "text/html; charset=utf-8"),
    "/page.js": ("page.js", "text/javascript; charset=utf-8"),
    "/page.css": ("page.css", "text/css; charset=utf-8"),
}
DOCUMENTS = ("/page.json", "/event.json")
POLICY = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}


class Page:
    """The page's files and its two documents, for this machine's own people alone."""

    def __init__(self, document: Callable[[], dict[str, Any]], app: App, *, is_live: bool) -> None:
        """`document` is all that is shown; `is_live`: deliveries come to this process."""
        self._document = document
        self._app = app
        self._is_live = is_live

    def has(self, request: Request) -> bool:
        """Whether the request is the page's."""
        return request.method in {"GET", "HEAD"} and (request.path in FILES or request.path in DOCUMENTS)

    def answer(self, request: Request) -> Answer:
        """A file, or a document."""
        if not request.is_ours:
            return json_answer(403, {"error": "only a loopback Host, and no foreign Origin"})
        if request.path in FILES:
            name, content_type = FILES[request.path]
            return Answer(200, (HERE / name).read_bytes(), {"content-type": content_type, **POLICY})
        status, document = (
            (200, self._document() | {"is_live": self._is_live})
            if request.path == "/page.json"
            else self._event(request)
        )
        found = json_answer(status, document)
        return found._replace(headers={**found.headers, **POLICY})

    def _event(self, request: Request) -> tuple[int, dict[str, Any]]:
        event_id = parse_qs(request.query).get("id", [""])[0]
        try:
            found = event_document(self._app, event_id)
        except (DamagedRecord, LedgerUnavailable) as error:
            return 503, {"error": str(error)}
        if found is None:
            return 404, {"error": "the ledger keeps no event of that id"}
        return 200, found | {"hosts": _hosts_shown(found["result"])}


def _hosts_shown(result: Mapping[str, Any]) -> list[dict[str, Any]]:
    finish = result["finish"] or {"hosts": ()}
    return [{"uuid": host["uuid"], "told": told_of_host(host)} for host in finish["hosts"]]
