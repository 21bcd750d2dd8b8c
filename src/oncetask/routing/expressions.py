"""JMESPath, as routes use it: compiled at start, and searched without surprises. Its only home.

A call of an unknown function, or with too few arguments, is found at start and not at the first alert.
"""

from typing import Any

import jmespath
from jmespath.exceptions import IncompleteExpressionError, JMESPathError, LexerError, ParseError
from jmespath.functions import Functions, signature

from oncetask.errors import Code, Rejection
from oncetask.routing.suggestions import suggestion
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


class ExpressionError(ValueError):
    """A text that is no JMESPath expression, or that can never work; `at` is the character, from 0."""

    def __init__(self, says: str, at: int) -> None:
        super().__init__(says)
        self.at = at


class Expression:
    """A JMESPath expression, compiled."""

    def __init__(self, text: str) -> None:
        """Raises ExpressionError where it cannot be compiled, or has a call that can never work."""
        self.text = text
        try:
            self._compiled = jmespath.compile(text)
        except (ValueError, RecursionError) as error:  # JMESPathError, and `int` of too many digits
            raise _where(text, error) from None
        try:
            _check_calls(self._compiled.parsed)
        except _CallError as error:
            raise ExpressionError(str(error), max(0, text.find(f"{error.name}("))) from None

    def search(self, value: object) -> Any:  # noqa: ANN401 - JSON data
        """What it finds in the value. Raises Rejection ExpressionFailed."""
        try:
            return self._compiled.search(value, options=_OPTIONS)
        except _SEARCH_FAILS_WITH as error:
            raise Rejection(
                Code.EXPRESSION_FAILED,
                f"an expression failed on this payload ({type(error).__name__})",
            ) from error


def _where(text: str, error: Exception) -> ExpressionError:
    """What the parser says, and of which character; nothing else of the text."""
    if isinstance(error, IncompleteExpressionError):
        at, words = len(text), "it ends too early"
    elif isinstance(error, LexerError):
        at = error.lexer_position
        char = text[at : at + 1]
        words = "to compare, write ==" if char == "=" else f"{char!a} means nothing here"
    elif isinstance(error, ParseError):
        at, words = max(0, error.lex_position), str(error.msg or "this is not expected here").rstrip(".")
    else:
        return ExpressionError("this is no JMESPath expression", 0)
    return ExpressionError(f"this is no JMESPath expression, from character {at + 1} on: {words}", at)


class _CallError(ValueError):
    """A call that can never work, and its function's name."""

    def __init__(self, name: str, says: str) -> None:
        super().__init__(f"in this JMESPath expression {name}() {says}")
        self.name = name


def _check_calls(tree: Any) -> None:  # noqa: ANN401 - JMESPath's tree
    """JMESPath itself would find these only when it searches. Raises ValueError."""
    nodes = [tree]
    while nodes:
        node = nodes.pop()
        inner = [child for child in node["children"] if isinstance(child, dict)]
        if node["type"] == "expref":
            raise ExpressionError("in this JMESPath expression an &expression is not what is wanted there", 0)
        if node["type"] == "function_expression":
            inner = _checked_arguments(node["value"], inner)
        nodes += inner


def _checked_arguments(name: str, given: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The call's arguments, with what stands behind each `&` that the function wants."""
    function = _Functions.FUNCTION_TABLE.get(name)
    if function is None:
        raise _CallError(name, f"is no function{suggestion(name, _Functions.FUNCTION_TABLE)}")
    wanted = function["signature"]
    variadic = bool(wanted) and wanted[-1].get("variadic", False)
    if len(given) < len(wanted) or (len(given) > len(wanted) and not variadic):
        raise _CallError(name, "has the wrong number of arguments")
    for index, argument in enumerate(wanted):
        if "expref" in argument["types"]:
            if given[index]["type"] != "expref":
                raise _CallError(name, "wants an &expression")
            given[index] = given[index]["children"][0]
    return given
