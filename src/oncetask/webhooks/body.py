"""A sender's bytes to JSON data. Pure, total: data, or a Rejection that says the body is unreadable.

Only verified bodies come here; still, what Python's parser lets through is bounded, because expressions,
the ledger and Security Center would choke on it: deep nesting, infinities, lone surrogates.
"""

import json
import math
import re
from typing import Any, NoReturn
from urllib.parse import parse_qsl

from oncetask.errors import Code, Rejection

DEPTH = 64
FORM_FIELDS = 1000

_JSON = re.compile(r"application/(?:[a-z0-9!#$&^_.+-]+\+)?json", re.IGNORECASE)
_FORM = "application/x-www-form-urlencoded"


def parse(content_type: str | None, body: bytes) -> Any:  # noqa: ANN401 - JSON data
    """The payload; a form is an object of texts, the last of equal names counting.

    Raises Rejection MediaType or BodyUnreadable.
    """
    media_type = (content_type or "").split(";", 1)[0].strip()
    if _JSON.fullmatch(media_type):
        return _parse_json(body)
    if media_type.lower() == _FORM:
        return _parse_form(body)
    raise Rejection(Code.MEDIA_TYPE, f"the content type must be application/json or {_FORM}")


def _parse_json(body: bytes) -> Any:  # noqa: ANN401
    try:
        payload = json.loads(body.decode("utf-8-sig"), parse_constant=_refuse, parse_float=_finite)
    except (ValueError, RecursionError):
        raise _unreadable("JSON") from None
    if body.count(b"[") + body.count(b"{") > DEPTH and is_deeper_than(DEPTH, payload):
        raise _unreadable("JSON of a sensible depth")
    if b"\\u" in body and not _is_unicode(payload):
        raise _unreadable("Unicode text")
    return payload


def _parse_form(body: bytes) -> dict[str, str]:
    try:
        pairs = parse_qsl(body.decode(), keep_blank_values=True, errors="strict", max_num_fields=FORM_FIELDS)
    except ValueError:
        raise _unreadable("a form") from None
    return dict(pairs)


def _unreadable(what: str) -> Rejection:
    return Rejection(Code.BODY_UNREADABLE, f"the body cannot be read as {what}")


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


def _is_unicode(payload: object) -> bool:
    """Whether no text in it holds a lone surrogate: JSON's escapes carry them past UTF-8."""
    try:
        json.dumps(payload, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True
