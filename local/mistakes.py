"""Every mistake of a routes file at once, each with its place.

Over `Route` and the schemes as they check at start, so that nothing is a mistake here that starts there, nor
the other way round.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import ValidationError

from local.toml_lines import lines_of
from oncetask.errors import SettingsError
from oncetask.routing.expressions import ExpressionError
from oncetask.routing.routes import Route, load_routes, words_for
from oncetask.webhooks import schemes


class Mistake(NamedTuple):
    """What is wrong at a key of a route, and what would be right.

    `expression` is the text in which it stands, where it is one, and `at` the character there. `line` counts
    from 1; None where the place could not be found.
    """

    route: str | None
    key: str
    message: str
    expression: str | None = None
    at: int | None = None
    line: int | None = None


def mistakes(path: Path, task_types: Sequence[str]) -> list[Mistake]:
    """In the order of the file; empty exactly where `load_routes` takes it."""
    try:
        load_routes(path, task_types)
    except SettingsError as error:
        first = str(error)
    else:
        return []
    places = lines_of(_text(path))
    found = [_placed(mistake, places) for mistake in _all(path, task_types)]
    if not found:  # the file as a whole: no TOML, not readable, other tables
        line = re.search(r"line (\d+)", first)
        return [Mistake(None, "", first.removeprefix(f"{path.name}: "), line=int(line[1]) if line else None)]
    return sorted(found, key=lambda mistake: mistake.line or 0)


def tables_of(path: Path) -> dict[str, Any]:
    """The tables `[routes.NAME]` as TOML has them; empty where there are none to look at."""
    import tomllib  # noqa: PLC0415 - beside its one use

    try:
        tables = tomllib.loads(_text(path)).get("routes", {})
    except ValueError:
        return {}
    return tables if isinstance(tables, dict) else {}


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError):
        return ""


def _all(path: Path, task_types: Sequence[str]) -> Iterator[Mistake]:
    for name, table in tables_of(path).items():
        if re.fullmatch(r"[a-z0-9-]{1,64}", name) is None:
            yield Mistake(name, "", "a route's name is 1 to 64 of a-z, 0-9 and -")
        elif not isinstance(table, dict):
            yield Mistake(name, "", "a route is a table [routes.NAME]")
        else:
            yield from _of_route(name, table, task_types)


def _of_route(name: str, table: dict[str, Any], task_types: Sequence[str]) -> Iterator[Mistake]:
    if "name" in table:
        yield Mistake(name, "name", "there is no such key")
    scheme_mistakes = list(_of_scheme(name, table))
    given = {key: value for key, value in table.items() if key != "name"}
    if scheme_mistakes:  # told one by one below; the other keys are checked as if it were right
        yield from scheme_mistakes
        given["verify"] = {"scheme": "none"}
    try:
        Route.model_validate({**given, "name": name}, context={"task_types": task_types})
    except ValidationError as error:
        for one in error.errors(include_url=False):
            found = _mistake(name, table, one)
            if not (scheme_mistakes and found.key == "verify"):
                yield found


def _of_scheme(name: str, table: dict[str, Any]) -> Iterator[Mistake]:
    """Each mistake of `verify`, by the key in it."""
    verify = table.get("verify")
    if verify is None:
        return
    try:
        schemes.scheme_of(verify)
    except ValidationError as error:
        for one in error.errors(include_url=False, include_input=False):
            yield _mistake(name, table, {**one, "loc": ("verify", *one["loc"])})
    except ValueError as error:
        told = {"type": "value_error", "loc": ("verify",), "msg": str(error)}
        has_scheme = isinstance(verify, dict) and "scheme" in verify
        yield Mistake(name, "verify.scheme" if has_scheme else "verify", words_for(told, table))


def _mistake(name: str, table: dict[str, Any], error: Any) -> Mistake:  # noqa: ANN401 - pydantic's
    """In the words that the process would stop with, and where it stands."""
    keys, says = error["loc"], words_for(error, table)
    if not keys:  # the model's own: the message begins with its key
        key, _, says = says.partition(": ")
        return Mistake(name, key, says)
    found = Mistake(name, ".".join(map(str, keys)), says)
    cause = error.get("ctx", {}).get("error")
    value = _value_at(table, keys)
    if isinstance(cause, ExpressionError) and isinstance(value, str):
        return found._replace(expression=value, at=cause.at)
    return found


def _value_at(table: object, keys: Sequence[Any]) -> object:
    for key in keys:
        if isinstance(table, Mapping) and key in table:
            table = table[key]
    return table


def _placed(mistake: Mistake, places: Mapping[tuple[str, ...], int]) -> Mistake:
    """With the line of its key, else of the nearest table around it."""
    keys = ("routes", *([mistake.route] if mistake.route else []), *filter(None, mistake.key.split(".")))
    while keys and keys not in places:
        keys = keys[:-1]
    return mistake._replace(line=places.get(keys))
