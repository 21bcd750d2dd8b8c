"""Every mistake of a routes file at once, each with its place.

Over `Route` and the schemes as they check at start, so that nothing is a mistake here that starts there, nor
the other way round.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jmespath
from jmespath.exceptions import IncompleteExpressionError, LexerError, ParseError
from jmespath.functions import Functions
from pydantic import BaseModel, ValidationError

from local.text import nearest
from local.toml_lines import lines_of
from oncetask.errors import SettingsError
from oncetask.routing.hosts import Hosts
from oncetask.routing.routes import Route, load_routes
from oncetask.webhooks import schemes
from oncetask.webhooks.scheme import Scheme

_SAYS = {"missing": "is missing", "extra_forbidden": "there is no such key"}
_FUNCTIONS = (*Functions.FUNCTION_TABLE, "parse_json")
_IN_EXPRESSION = re.compile(r"(?P<name>[a-z_][a-z0-9_]*)\(\)")


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
    scheme_mistakes = list(_of_scheme(name, table.get("verify")))
    given = {key: value for key, value in table.items() if key != "name"}
    if scheme_mistakes:  # told one by one below; the other keys are checked as if it were right
        yield from scheme_mistakes
        given["verify"] = {"scheme": "none"}
    try:
        Route.model_validate({**given, "name": name}, context={"task_types": task_types})
    except ValidationError as error:
        for one in error.errors(include_url=False):
            found = _mistake(
                name, table, one, Hosts if one["loc"][1:] and one["loc"][0] == "hosts" else Route
            )
            if not (scheme_mistakes and found.key == "verify"):
                yield found


def _of_scheme(name: str, table: object) -> Iterator[Mistake]:
    """Each mistake of `verify`, by the key in it."""
    if table is None:
        return
    try:
        schemes.scheme_of(table)
    except ValidationError as error:
        kind = schemes.SCHEMES[table["scheme"]] if isinstance(table, dict) else Scheme
        for one in error.errors(include_url=False, include_input=False):
            keys = ("verify", *one["loc"])
            yield _of_error(name, keys, one, kind)
    except ValueError as error:
        scheme = table.get("scheme") if isinstance(table, dict) else None
        hint = nearest(scheme, map(str, schemes.SCHEMES)) if isinstance(scheme, str) else ""
        yield Mistake(name, "verify.scheme" if scheme else "verify", f"{error}{hint}")


def _mistake(
    name: str,
    table: dict[str, Any],
    error: Any,  # noqa: ANN401 - pydantic's
    kind: type[BaseModel],
) -> Mistake:
    keys = error["loc"]
    found = _of_error(name, keys, error, kind)
    if not keys:  # the model's own: the message begins with its key
        key, _, message = found.message.partition(": ")
        return found._replace(key=key, message=message)
    value = _value_at(table, keys)
    if isinstance(value, str) and "JMESPath" in found.message:
        return found._replace(expression=value, **_place_in_expression(value, found.message))
    return found


def _of_error(
    name: str,
    keys: Sequence[Any],
    error: Any,  # noqa: ANN401 - pydantic's
    kind: type[BaseModel],
) -> Mistake:
    says = _SAYS.get(error["type"], error["msg"].removeprefix("Value error, "))
    key = ".".join(map(str, keys))
    last = str(keys[-1]) if keys else ""
    if error["type"] == "extra_forbidden":
        says += nearest(last, (field for field in kind.model_fields if field != "name"))
    elif error["type"] == "string_pattern_mismatch":
        says = f"must have the form {error['ctx']['pattern']}"
    return Mistake(name, key, says)


def _place_in_expression(text: str, message: str) -> dict[str, Any]:
    """The parser's own words and the character that they speak of; of a call, where its name stands."""
    named = _IN_EXPRESSION.search(message)
    if named is not None:
        hint = "" if named["name"] in _FUNCTIONS else nearest(named["name"], _FUNCTIONS)
        return {"message": f"{message}{hint}", "at": max(0, text.find(f"{named['name']}("))}
    try:
        jmespath.compile(text)
    except IncompleteExpressionError:
        return {"message": f"{message}: it ends too early", "at": len(text)}
    except LexerError as error:
        at = error.lexer_position
        hint = (
            "to compare, write =="
            if text[at : at + 1] == "="
            else f"{text[at : at + 1]!r} means nothing here"
        )
        return {"message": f"{message}: {hint}", "at": at}
    except ParseError as error:
        words = str(error.msg or "").rstrip(".") or f"{error.token_value} is not expected here"
        return {"message": f"{message}: {words}", "at": max(0, error.lex_position)}
    except (ValueError, RecursionError):
        pass
    return {"message": message, "at": 0}


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
