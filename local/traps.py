"""What is no mistake in an expression or a routes file, and yet never does what it looks like."""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import jmespath
from jmespath.lexer import Lexer

from oncetask.routing.expressions import Expression
from oncetask.routing.routes import Route, Routes

_COMPARE = {"eq", "ne"}
_QUOTED = "quoted_identifier"
_LISTS = {"projection", "filter_projection", "value_projection", "flatten", "slice", "multi_select_list"}
_GIVES = {
    **dict.fromkeys(("contains", "starts_with", "ends_with"), "boolean"),
    **dict.fromkeys(("length", "abs", "avg", "ceil", "floor", "sum", "to_number"), "number"),
    **dict.fromkeys(("join", "to_string", "type"), "string"),
    **dict.fromkeys(("keys", "values", "map", "sort", "sort_by", "to_array"), "array"),
    "merge": "object",
}
"""What a function gives, where that is always of one type (JMESPath's specification)."""


class Trap(NamedTuple):
    """A warning at a route's key; `at` is the character of the expression that it speaks of."""

    route: str
    key: str
    message: str
    expression: str | None = None
    at: int | None = None


def traps(routes: Routes) -> list[Trap]:
    """Of all routes that load."""
    found = [trap for route in routes.values() for trap in _of_route(route)]
    return found + list(_secrets_shared(routes))


def _of_route(route: Route) -> Iterator[Trap]:
    for key, expression in expressions(route).items():
        yield from _quoted_fields(route.name, key, expression)
    if route.when is not None and not _may_be_true(tree_of(route.when)):
        yield Trap(
            route.name,
            "when",
            "this can never be true, and the route acts only where it is exactly that; compare it, as in "
            f"`{route.when.text} != null`",
            route.when.text,
            0,
        )


def expressions(route: Route) -> dict[str, Expression]:
    """Every expression of the route by its key."""
    named = {key: getattr(route, key) for key in ("when", "each", "id", "targets")}
    named |= {f"param_from.{key}": expression for key, expression in route.param_from.items()}
    return {key: expression for key, expression in named.items() if expression is not None}


def tree_of(expression: Expression) -> dict[str, Any]:
    """JMESPath's tree; the expression is known to compile."""
    return dict(jmespath.compile(expression.text).parsed)


def _quoted_fields(route: str, key: str, expression: Expression) -> Iterator[Trap]:
    """`status == "firing"`: in JMESPath double quotes name a field."""
    before: Mapping[str, Any] | None = None
    for token in Lexer().tokenize(expression.text):
        if token["type"] == _QUOTED and before is not None and before["type"] in _COMPARE:
            word = token["value"]
            yield Trap(
                route,
                key,
                f"\"{word}\" is a field's name here, not a text: write '{word}' to compare with the text",
                expression.text,
                token["start"],
            )
        before = token


def _secrets_shared(routes: Routes) -> Iterator[Trap]:
    """Who may speak for one route may then speak for the other."""
    first: dict[str, str] = {}
    for route in routes.values():
        for reference in route.verify.secrets if route.verify else ():
            other = first.setdefault(reference, route.name)
            if other != route.name:
                yield Trap(route.name, "verify.secrets", f"{reference} is also the secret of route {other}")


# -- what an expression can give ----------------------------------------------------------------------


def _may_be_true(node: Mapping[str, Any]) -> bool:
    """False only where the expression gives `true` for no payload at all."""
    kind, children = node["type"], node["children"]
    match kind:
        case "comparator":
            return _may_hold(node["value"], *children)
        case "and_expression":
            return _may_be_true(children[1]) and not _is_falsy(children[0])
        case "or_expression":
            return any(map(_may_be_true, children))
        case "pipe" | "subexpression" | "index_expression":
            return _may_be_true(children[-1])
        case "not_expression":
            return not _is_truthy(children[0])
    given = _type_of(node)
    return given in {None, "boolean"} and not (kind == "literal" and node["value"] is not True)


def _may_hold(comparison: str, left: Mapping[str, Any], right: Mapping[str, Any]) -> bool:
    types = _type_of(left), _type_of(right)
    if comparison in {"eq", "ne"}:
        if left["type"] == right["type"] == "literal":
            return (left["value"] == right["value"]) is (comparison == "eq")
        return comparison == "ne" or None in types or types[0] == types[1]
    return all(one in {None, "number"} for one in types)  # others are not ordered: the result is null


def _type_of(node: Mapping[str, Any]) -> str | None:
    """JMESPath's word for the type that it always gives; None where that depends on the payload."""
    kind = node["type"]
    if kind == "literal":
        return _literal_type(node["value"])
    if kind in _LISTS:
        return "array"
    if kind == "multi_select_dict":
        return "object"
    if kind in {"comparator", "not_expression"}:
        return "boolean"
    if kind == "function_expression":
        return _GIVES.get(node["value"])
    return None


def _literal_type(value: object) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    names = {str: "string", int: "number", float: "number", list: "array"}
    return names.get(type(value), "object")


def _is_falsy(node: Mapping[str, Any]) -> bool:
    return bool(
        node["type"] == "literal" and (node["value"] in (None, False, "", [], {})) and node["value"] != 0
    )


def _is_truthy(node: Mapping[str, Any]) -> bool:
    return bool(node["type"] == "literal" and not _is_falsy(node))
