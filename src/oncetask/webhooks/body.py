"""A sender's bytes to JSON data, as the route's `media` says. Pure, total: data, or a Rejection.

Only verified bodies come here; still, what Python's parser lets through is bounded, because expressions,
the ledger and Security Center would choke on it: deep nesting, infinities, lone surrogates. What is signed
does not say how it is read, so the route does: nobody can have a signed body read in another way.
"""

import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn
from urllib.parse import parse_qsl

from oncetask.errors import Code, Rejection

DEPTH = 64
FORM_FIELDS = 1000

_JSON = re.compile(r"application/(?:[a-z0-9!#$&^_.+-]+\+)?json|text/plain", re.IGNORECASE)
_FORM = "application/x-www-form-urlencoded"
_FORM_START = re.compile(rb"[A-Za-z0-9_.~%+*\[\]-]+=")
_SURROGATE = re.compile(r"[\ud800-\udfff]")
_KNOWN_ENCODINGS = ("gzip", "deflate", "br", "zstd", "compress")

type _Values = Mapping[str, Sequence[str]]


def parse(body: bytes, headers: _Values, media: str = "json") -> Any:  # noqa: ANN401 - JSON data
    """The payload. `json`: its value; `form`: an object of texts, the last of equal names counting;
    `form:FIELD`: the JSON text in that field.

    Header names are lower case. Raises Rejection MediaType or BodyUnreadable.
    """
    kind, _, field = media.partition(":")
    _check_encoding(headers)
    _check_type(kind, headers, body)
    if kind == "json":
        return _parse_json(body)
    form = _parse_form(body)
    if not field:
        return form
    if field not in form:
        raise Rejection(Code.BODY_UNREADABLE, f"the form has no field {field}")
    return _parse_json(form[field].encode("utf-8", "surrogatepass"))


def parse_text(text: str) -> Any:  # noqa: ANN401 - JSON data
    """The JSON value in a text, with what a body's is bounded by. Raises ValueError."""
    try:
        payload = json.loads(text, parse_constant=_refuse, parse_float=_finite)
    except RecursionError:
        raise ValueError("JSON of a sensible depth") from None
    if text.count("[") + text.count("{") > DEPTH and is_deeper_than(DEPTH, payload):
        raise ValueError("JSON of a sensible depth")
    return _without_surrogates(payload) if "\\u" in text else payload


def _check_encoding(headers: _Values) -> None:
    given = [value.strip().lower() for value in headers.get("content-encoding", ())]
    if all(value in {"", "identity"} for value in given):
        return
    named = next((name for name in _KNOWN_ENCODINGS if name in given), "unknown")
    raise Rejection(Code.MEDIA_TYPE, f"the body has the content-encoding {named}; send it without one")


def _check_type(kind: str, headers: _Values, body: bytes) -> None:
    said = _kind_of(_media_type(headers))
    if said == kind:
        return
    wanted = "application/json" if kind == "json" else _FORM
    raise Rejection(
        Code.MEDIA_TYPE,
        f"this route reads {_NAMES[kind]} ({wanted}); the body {_look(body)}, the header says {said}",
    )


def _media_type(headers: _Values) -> str | None:
    """The type without its parameters; the same type twice counts once. None where there are several."""
    given = [part for value in headers.get("content-type", ()) for part in value.split(",")]
    types = {part.split(";", 1)[0].strip().lower() for part in given}
    return types.pop() if len(types) == 1 else None


def _kind_of(media_type: str | None) -> str:
    if not media_type:
        return "nothing that is known"
    if _JSON.fullmatch(media_type):
        return "json"
    return "form" if media_type == _FORM else "something else"


_NAMES = {"json": "JSON", "form": "a form"}


def _look(body: bytes) -> str:
    """What the body seems to be, by its first bytes alone."""
    start = body[:256].removeprefix(b"\xef\xbb\xbf").lstrip()
    if not start:
        return "is empty"
    if start[:1] in b"{[":
        return "is JSON"
    return "is a form" if _FORM_START.match(start) else "is neither JSON nor a form"


def _parse_json(body: bytes) -> Any:  # noqa: ANN401
    try:
        return parse_text(body.decode("utf-8-sig"))
    except ValueError:
        raise _unreadable("JSON", body) from None


def _parse_form(body: bytes) -> dict[str, str]:
    if _look(body) == "is JSON":
        raise _unreadable("a form", body)
    try:
        pairs = parse_qsl(body.decode(), keep_blank_values=True, errors="strict", max_num_fields=FORM_FIELDS)
    except ValueError:
        raise _unreadable("a form", body) from None
    return dict(pairs)


def _unreadable(what: str, body: bytes) -> Rejection:
    look = _look(body)
    but = "" if look.removeprefix("is ") == what else f": it {look}"
    return Rejection(Code.BODY_UNREADABLE, f"the body cannot be read as {what}{but}")


def _refuse(constant: str) -> NoReturn:
    """NaN and Infinity are no JSON."""
    raise ValueError(constant)


def _finite(text: str) -> float:
    """`1e999` is JSON, and yet no number that can be passed on."""
    number = float(text)
    if not math.isfinite(number):
        raise ValueError
    return number


def is_deeper_than(depth: int, payload: object) -> bool:
    """Whether objects and lists nest over that many levels in it."""
    level = [payload] if isinstance(payload, (dict, list)) else []
    for _ in range(depth):
        level = [
            inner
            for outer in filter(None, level)
            for inner in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(inner, (dict, list))
        ]
        if not level:
            return False
    return True


def _without_surrogates(payload: Any) -> Any:  # noqa: ANN401 - JSON data
    """The same with U+FFFD for each lone surrogate: JSON's escapes carry them past UTF-8."""
    text = json.dumps(payload, ensure_ascii=False)
    return json.loads(_SURROGATE.sub("\ufffd", text)) if _SURROGATE.search(text) else payload
