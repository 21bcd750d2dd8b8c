"""JMESPath, as routes use it: compiled at start, and searched without surprises. Its only home.

A call of an unknown function, or with too few arguments, is found at start and not at the first alert.
"""

from typing import Any

import jmespath
from jmespath.exceptions import JMESPathError
from jmespath.functions import Functions, signature

from oncetask.errors import Code, Rejection
from oncetask.webhooks.body import parse_text

_SEARCH_FAILS_WITH = (
    JMESPathError,
    TypeError,
    ValueError,
    ArithmeticError,
    AttributeError,
    LookupError,
    RecursionError,
)
"""JMESPath's own errors, and what its functions let through on odd data."""


class _Functions(Functions):
    """JMESPath's own, and one more. JMESPath finds a function by `_func_` and its name."""

    @signature({"types": ["string"]})
    def _func_parse_json(self, text: str) -> Any:  # noqa: ANN401 - JSON data
        """JSON inside JSON. Raises ValueError."""
        return parse_text(text)


_OPTIONS = jmespath.Options(custom_functions=_Functions())


class Expression:
    """A JMESPath expression, compiled."""

    def __init__(self, text: str) -> None:
        """Raises ValueError where it cannot be compiled, or has a call that can never work."""
        self.text = text
        try:
            self._compiled = jmespath.compile(text)
        except (ValueError, RecursionError):  # JMESPathError, and `int` of too many digits
            raise ValueError("this is no JMESPath expression") from None
        _check_calls(self._compiled.parsed)

    def search(self, value: object) -> Any:  # noqa: ANN401 - JSON data
        """What it finds in the value. Raises Rejection ExpressionFailed."""
        try:
            return self._compiled.search(value, options=_OPTIONS)
        except _SEARCH_FAILS_WITH as error:
            raise Rejection(
                Code.EXPRESSION_FAILED,
                f"an expression failed on this payload ({type(error).__name__})",
            ) from error


def _check_calls(tree: Any) -> None:  # noqa: ANN401 - JMESPath's tree
    """JMESPath itself would find these only when it searches."""
    nodes = [tree]
    while nodes:
        node = nodes.pop()
        inner = [child for child in node["children"] if isinstance(child, dict)]
        if node["type"] == "expref":
            raise ValueError("in this JMESPath expression an &expression is not what is wanted there")
        if node["type"] == "function_expression":
            inner = _checked_arguments(node["value"], inner)
        nodes += inner


def _checked_arguments(name: str, given: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The call's arguments, with what stands behind each `&` that the function wants."""
    function = _Functions.FUNCTION_TABLE.get(name)
    if function is None:
        raise ValueError(f"in this JMESPath expression {name}() is no function")
    wanted = function["signature"]
    variadic = bool(wanted) and wanted[-1].get("variadic", False)
    if len(given) < len(wanted) or (len(given) > len(wanted) and not variadic):
        raise ValueError(f"in this JMESPath expression {name}() has the wrong number of arguments")
    for index, argument in enumerate(wanted):
        if "expref" in argument["types"]:
            if given[index]["type"] != "expref":
                raise ValueError(f"in this JMESPath expression {name}() wants an &expression")
            given[index] = given[index]["children"][0]
    return given
