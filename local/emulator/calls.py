"""What is known of a request once it has been read."""

from collections.abc import Mapping
from dataclasses import dataclass

from .wire import Request


@dataclass(frozen=True, slots=True)
class Call:
    """One request as it arrived, whatever became of it.

    `number` counts from 1 and is never reused; header names are in lower case.
    """

    number: int
    version: str
    action: str
    parameters: Mapping[str, str]
    headers: Mapping[str, str]
    query_bytes: int


def call_of(request: Request, number: int) -> Call:
    """The call; its version and action stand in headers or, unsigned, among the parameters."""
    headers, parameters = request.headers, request.parameters
    return Call(
        number=number,
        version=headers.get("x-acs-version") or parameters.get("Version", ""),
        action=headers.get("x-acs-action") or parameters.get("Action", ""),
        parameters=parameters,
        headers=headers,
        query_bytes=len(request.query),
    )
