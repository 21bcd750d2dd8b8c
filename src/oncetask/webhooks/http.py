"""AWS's four HTTP fronts: their event documents to one `Delivery`, one `Reply` to their answers.

    front                                  told by                    values           query
    HTTP API 2.0, function URL             requestContext.http        comma-joined     raw
    REST API, HTTP API 1.0                 httpMethod                 single and list  decoded
    ALB                                    requestContext.elb         single or list   still encoded

Sources: the event documents in Powertools' own tests, and AWS's pages on each front.
"""

import base64
import binascii
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from types import MappingProxyType
from typing import Any, NamedTuple
from urllib.parse import parse_qs, unquote_plus

from oncetask.errors import Code, Rejection

QUERY_FIELDS = 100

type Values = Mapping[str, tuple[str, ...]]
"""Every value that came under a name, in order."""


@dataclass(slots=True, eq=False, repr=False)
class Delivery:
    """One HTTP request. Header names are lower case; `body` is None where it could not be decoded."""

    method: str
    path: str
    headers: Values
    query: Values
    body: bytes | None

    @property
    def route(self) -> str | None:
        """The last segment of `{any prefix}/webhooks/{route}`; a slash behind it changes nothing."""
        prefix, _, name = self.path.removesuffix("/").rpartition("/")
        return name if prefix.rpartition("/")[2] == "webhooks" else None

    def header(self, name: str) -> str | None:
        """The value of a header that came exactly once."""
        values = self.headers.get(name, ())
        return values[0] if len(values) == 1 else None

    @classmethod
    def of(cls, event: object) -> "Delivery":
        """The request in any front's event. Raises Rejection EventNotUnderstood."""
        if isinstance(event, dict):
            http = _context(event).get("http")
            if isinstance(http, dict) and isinstance(http.get("method"), str):
                return cls._of_version_2(event, http)
            if isinstance(event.get("httpMethod"), str):
                return cls._of_version_1(event)
        raise Rejection(Code.EVENT_NOT_UNDERSTOOD, "this is no HTTP event of a front that AWS Lambda has")

    @classmethod
    def _of_version_2(cls, event: dict[str, Any], http: dict[str, Any]) -> "Delivery":
        return cls(
            method=http["method"],
            path=_text(event.get("rawPath")) or _text(http.get("path")),
            headers=_renamed(_single(event.get("headers")), str.lower),
            query=_parsed_query(_text(event.get("rawQueryString"))),
            body=_body(event),
        )

    @classmethod
    def _of_version_1(cls, event: dict[str, Any]) -> "Delivery":
        query = _listed(event, "multiValueQueryStringParameters", "queryStringParameters")
        return cls(
            method=event["httpMethod"],
            path=_text(event.get("path")),
            headers=_renamed(_listed(event, "multiValueHeaders", "headers"), str.lower),
            query=_decoded(query) if _is_alb(event) else query,
            body=_body(event),
        )


class Reply(NamedTuple):
    """One HTTP answer with a JSON body."""

    status: HTTPStatus
    body: str
    headers: Mapping[str, str] = MappingProxyType({})

    def answer_to(self, event: object) -> dict[str, Any]:
        """The answer in the event's own format."""
        headers = {"content-type": "application/json", **self.headers}
        answer: dict[str, Any] = {
            "statusCode": int(self.status),
            "headers": headers,
            "body": self.body,
            "isBase64Encoded": False,
        }
        if isinstance(event, dict) and _is_alb(event):
            answer["statusDescription"] = f"{int(self.status)} {self.status.phrase}"
            if isinstance(event.get("multiValueHeaders"), dict):
                del answer["headers"]
                answer["multiValueHeaders"] = {name: [value] for name, value in headers.items()}
        return answer


def _context(event: dict[str, Any]) -> dict[str, Any]:
    context = event.get("requestContext")
    return context if isinstance(context, dict) else {}


def _is_alb(event: dict[str, Any]) -> bool:
    return "elb" in _context(event)


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _single(given: object) -> Values:
    """`{name: text}`, or null."""
    if not isinstance(given, dict):
        return {}
    return {name: (value,) for name, value in given.items() if isinstance(value, str)}


def _listed(event: dict[str, Any], lists: str, singles: str) -> Values:
    """`{name: [text, …]}` where the front sends that: it holds all that the single form does, and more."""
    given = event.get(lists)
    if not isinstance(given, dict) or not given:
        return _single(event.get(singles))
    return {
        name: tuple(value for value in values if isinstance(value, str))
        for name, values in given.items()
        if isinstance(values, list)
    }


def _renamed(values: Values, rename: Callable[[str], str]) -> Values:
    """The same under other names; the values of names that become equal are all kept."""
    merged: dict[str, tuple[str, ...]] = {}
    for name, given in values.items():
        merged[rename(name)] = merged.get(rename(name), ()) + given
    return merged


def _decoded(query: Values) -> Values:
    decoded = {name: tuple(unquote_plus(value) for value in values) for name, values in query.items()}
    return _renamed(decoded, unquote_plus)


def _parsed_query(raw: str) -> Values:
    """Empty where it has more fields than any sender's."""
    try:
        parsed = parse_qs(raw, keep_blank_values=True, max_num_fields=QUERY_FIELDS)
    except ValueError:
        return {}
    return {name: tuple(values) for name, values in parsed.items()}


def _body(event: dict[str, Any]) -> bytes | None:
    """The raw bytes, as the sender signed them."""
    body = event.get("body")
    if body is None:
        return b""
    if not isinstance(body, str):
        return None
    try:
        return (
            base64.b64decode(body, validate=True) if event.get("isBase64Encoded") is True else body.encode()
        )
    except (binascii.Error, ValueError):
        return None
