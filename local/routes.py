"""`oncetask routes`: every route, and with `check` every mistake of the file and every trap."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from local.environments import told
from local.errors import NotDone
from local.mistakes import Mistake, mistakes
from local.schedules import next_run
from local.screen import Screen
from local.text import visible
from local.toml_lines import lines_of
from local.traps import Trap, traps
from oncetask.app import App, app_of
from oncetask.errors import SecretUnavailable
from oncetask.models import TASK_TYPES, instant
from oncetask.routing.routes import Route, Routes, load_routes
from oncetask.settings import Settings

_HERE = ("env:", "file:")
"""References that are read on this machine, without a call."""


# -- the list -------------------------------------------------------------------------------------


def listed(routes: Path | None, *, as_json: bool) -> None:
    """Print every route."""
    app = app_of(told(routes))
    rows = [row(app, route) for route in app.routes.values()]
    screen = Screen()
    if as_json:
        screen.document({"routes": rows})
        return
    screen.line(f"{len(rows)} routes in {app.settings.routes}")
    show_rows(screen, rows)


def show_rows(screen: Screen, rows: list[dict[str, Any]]) -> None:
    """Routes as people read them."""
    names = ("route", "trigger", "task type", "scheme", "secrets", "schedule", "next run")
    keys = ("route", "trigger", "task_type", "scheme", "secrets", "schedule", "next_run")
    screen.table(names, ([one[key] or "-" for key in keys] for one in rows))


def row(app: App, route: Route) -> dict[str, Any]:
    """What one line says of a route; `secrets`: `set`, `missing: …` or where they are."""
    at = _next(route)
    return {
        "route": route.name,
        "trigger": str(route.trigger),
        "task_type": route.task_type or "direct",
        "scheme": route.verify.scheme if route.verify else None,
        "secrets": secrets_of(app, route),
        "schedule": _schedule(route),
        "next_run": at,
    }


def secrets_of(app: App, route: Route) -> str | None:
    """Whether the route's secrets are there, as far as this machine can tell without a call."""
    if route.verify is None or not route.verify.secrets:
        return None
    missing = [reference for reference in route.verify.secrets if not _is_there(app, reference)]
    if missing:
        return f"missing: {', '.join(missing)}"
    elsewhere = [reference for reference in route.verify.secrets if not reference.startswith(_HERE)]
    return f"not tried: {', '.join(elsewhere)}" if elsewhere else "set"


def _is_there(app: App, reference: str) -> bool:
    if not reference.startswith(_HERE):
        return True
    try:
        return bool(app.secret_values.find((reference,)).values)
    except SecretUnavailable:
        return False


def _schedule(route: Route) -> str | None:
    if route.schedule is None:
        return None
    return f"{route.schedule} {route.timezone or 'UTC'}"


def _next(route: Route) -> str | None:
    try:
        at = next_run(route, datetime.now(UTC))
    except ValueError as error:
        return f"wrong: {error}"
    return instant(at.timestamp()) if at else None


# -- the check ------------------------------------------------------------------------------------


def checked(routes: Path | None, *, as_json: bool) -> None:
    """Print mistakes and traps. Raises NotDone where there is a mistake."""
    environment = told(routes)
    settings = Settings.from_environment(environment)
    path, task_types = settings.routes, (*TASK_TYPES, *settings.extra_task_types)
    wrong = mistakes(path, task_types)
    loaded = {} if wrong else load_routes(path, task_types)
    wrong += [] if wrong else _of_schedules(loaded, path)
    warned = traps(loaded)
    if not wrong:
        warned += _missing_secrets(app_of(environment))
    if as_json:
        Screen().document({"file": str(path), "mistakes": _documents(wrong), "warnings": _documents(warned)})
    else:
        _show(Screen(), path, loaded, wrong, warned)
    if wrong:
        raise NotDone


def _documents(found: list[Any]) -> list[dict[str, Any]]:
    return [one._asdict() for one in found]


def _of_schedules(routes: Routes, path: Path) -> list[Mistake]:
    """What the form alone does not tell: fields out of range, zones that there are not."""
    places = lines_of(path.read_text(encoding="utf-8"))
    found: list[Mistake] = []
    for route in routes.values():
        try:
            next_run(route, datetime.now(UTC))
        except ValueError as error:
            key = "timezone" if "zone" in str(error) else "schedule"
            line = places.get(("routes", route.name, key))
            found.append(Mistake(route.name, key, str(error), line=line))
    return found


def _missing_secrets(app: App) -> list[Trap]:
    found: list[Trap] = []
    for route in app.routes.values():
        secrets = secrets_of(app, route) or ""
        if secrets.startswith("missing"):
            found.append(Trap(route.name, "verify.secrets", f"{secrets}: its deliveries are told 503 here"))
    return found


def _show(screen: Screen, path: Path, loaded: Routes, wrong: list[Mistake], warned: list[Trap]) -> None:
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines() if path.is_file() else []
    places = lines_of("\n".join(lines))
    for mistake in wrong:
        _show_one(screen, f"{path}:{mistake.line or 1}", "mistake", mistake, lines, mistake.line)
    for trap in warned:
        line = places.get(("routes", trap.route, *trap.key.split(".")), places.get(("routes", trap.route)))
        _show_one(screen, f"{path}:{line or 1}", "warning", trap, lines, line)
    counted = f"{_number(len(wrong), 'mistake')}, {_number(len(warned), 'warning')}"
    screen.line(counted if wrong else f"{_number(len(loaded), 'route')}, {counted}")


def _number(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _show_one(  # noqa: PLR0913, PLR0917 - what a mistake and its place are
    screen: Screen, place: str, kind: str, one: Mistake | Trap, lines: list[str], line: int | None
) -> None:
    key = ".".join(part for part in ("routes", one.route, one.key) if part)
    screen.line(place, kind, f"{key}: {one.message}")
    if line is None or not 0 < line <= len(lines):
        return
    text = lines[line - 1]
    screen.line(text, indent=2, style="dim")
    column = _column(text, one.expression, one.at)
    if column is not None:
        screen.line(" " * column + "^", indent=2, style="bold red")


def _column(line: str, expression: str | None, at: int | None) -> int | None:
    """Where the expression's character stands in the file's line, whichever quotes TOML has around it."""
    if expression is None or at is None:
        return None
    before = expression[:at]
    for written, written_before in ((expression, before), (_escaped(expression), _escaped(before))):
        start = line.find(written)
        if start >= 0:
            return len(visible(line[:start] + written_before))
    return None


def _escaped(text: str) -> str:
    """As a basic string of TOML has it."""
    return text.replace("\\", "\\\\").replace('"', '\\"')
