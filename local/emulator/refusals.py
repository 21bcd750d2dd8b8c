"""What is wrong with a request's parameters, in the product's own numbers or in the gateway's words."""

import re
from collections.abc import Mapping

from .answers import ApiError
from .behaviour import Behaviour

type Parameters = Mapping[str, str]

ILLEGAL = "-101"
"""The product's own code, with HTTP 400 (docstrings of alibabacloud-sas20181203 10.3.2)."""


def required(parameters: Parameters, name: str, behaviour: Behaviour) -> str:
    """The parameter's value. Raises ApiError where it is missing or empty."""
    value = parameters.get(name)
    if value:
        return value
    if behaviour.codes == "product":
        raise invalid(name, behaviour)
    raise ApiError(400, f"Missing{name}", f"{name} is mandatory for this action.")


def whole(parameters: Parameters, name: str, default: int, *, at_least: int = 0) -> int:
    """The parameter's whole number. Raises ApiError; that of a page is the gateway's own matter."""
    text = parameters.get(name) or str(default)
    if not re.fullmatch(r"[0-9]{1,18}", text) or int(text) < at_least:
        message = f"The specified {name} is not valid."
        raise ApiError(400, f"InvalidParameter.{name}", message)
    return int(text)


def invalid(name: str, behaviour: Behaviour, detail: str = "") -> ApiError:
    """The refusal of that parameter's value; `detail` says what in it is meant."""
    if behaviour.codes == "product":
        return ApiError(400, ILLEGAL, f"illegal parameter, param is {name}{detail}")
    return ApiError(400, f"InvalidParameter.{name}", f"The specified {name}{detail} is not valid.")
