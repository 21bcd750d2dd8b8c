"""What `oncetask.webhooks.body` promises: JSON data, or a rejection, from any bytes whatsoever."""

import contextlib
import json
from typing import Any
from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oncetask.errors import Code, Rejection
from oncetask.webhooks.body import DEPTH, FORM_FIELDS
from oncetask.webhooks.body import parse as parse_as
from tests.hostile.fuzz import HARD_BODIES

JSON = "application/json"
FORM = "application/x-www-form-urlencoded"
READABLE = {
    "an integer of 4,000 digits": int,
    "a null character": str,
    "a key twice": int,
    "a byte order mark": str,
}


def parse(content_type: str | None, body: bytes) -> Any:  # noqa: ANN401 - JSON data
    """What the body is under that content type, on a route that reads such bodies."""
    headers = {} if content_type is None else {"content-type": [content_type]}
    return parse_as(body, headers, "form" if (content_type or "").lower().startswith(FORM) else "json")


def code_of(content_type: str | None, body: bytes) -> Code:
    """What the body is rejected with."""
    with pytest.raises(Rejection) as caught:
        parse(content_type, body)
    return caught.value.code


@pytest.mark.parametrize(
    "content_type",
    [
        "application/json",
        "Application/JSON",
        " application/json ; charset=utf-8",
        "application/json;",
        "application/cloudevents+json",
        "application/vnd.acme.v1+json; profile=x",
        "text/plain; charset=UTF-8",
        "application/json, application/json",
    ],
)
def test_json_is_known_by_its_media_type(content_type: str) -> None:
    """Case, parameters and a structured suffix do not matter."""
    assert parse(content_type, b'{"a":[1,2.5,null,"\xc3\xa9"]}') == {"a": [1, 2.5, None, "é"]}


@pytest.mark.parametrize("content_type", [FORM, f"{FORM}; charset=UTF-8", FORM.upper()])
def test_a_form_is_an_object_of_texts(content_type: str) -> None:
    """Numbers stay texts, an empty field is an empty text, and of equal names the last counts."""
    found = parse(content_type, b"a=1&b=x+y&c=%C3%A9&d=&a=2")

    assert found == {"a": "2", "b": "x y", "c": "é", "d": ""}


@pytest.mark.parametrize(
    "content_type",
    [
        None,
        "",
        ";",
        "text/json",
        "json",
        "application/jsonx",
        "application/+json",
        "application/x+y+json ,application/json",
        "multipart/form-data; boundary=x",
        "\ud800",
    ],
)
def test_another_media_type_is_not_understood(content_type: str | None) -> None:
    """Nothing is guessed from the body."""
    assert code_of(content_type, b"{}") is Code.MEDIA_TYPE


@pytest.mark.parametrize("name", sorted(set(HARD_BODIES) - set(READABLE)))
def test_a_hard_body_is_data_or_unreadable(name: str) -> None:
    """Whatever is read can be written again as JSON in UTF-8."""
    for content_type in (JSON, FORM):
        with contextlib.suppress(Rejection):
            json.dumps(parse(content_type, HARD_BODIES[name]), allow_nan=False, ensure_ascii=False).encode()


@pytest.mark.parametrize(
    "name",
    [
        "lists a hundred thousand deep",
        "objects forty thousand deep",
        "never closed",
        "65 deep",
        "an integer of 5,000 digits",
        "too large a float",
        "NaN",
        "minus infinity",
        "no UTF-8",
        "UTF-16",
        "nothing",
    ],
)
def test_what_json_or_unicode_does_not_hold_is_unreadable(name: str) -> None:
    """Expressions, ledger and Security Center are spared it."""
    assert code_of(JSON, HARD_BODIES[name]) is Code.BODY_UNREADABLE


@pytest.mark.parametrize("name", READABLE)
def test_what_is_odd_but_json_is_read(name: str) -> None:
    """A whole number of any size that Python reads, U+0000, a byte order mark; of equal keys the last."""
    found = parse(JSON, HARD_BODIES[name])["id"]

    assert type(found) is READABLE[name]


def test_the_last_of_equal_keys_counts() -> None:
    """As in Python's own parser and in most others."""
    assert parse(JSON, HARD_BODIES["a key twice"])["id"] == 2


def test_64_levels_are_not_too_deep() -> None:
    """The limit itself is let through; brackets side by side, or in texts, are no depth."""
    assert parse(JSON, b"[" * DEPTH + b"]" * DEPTH) is not None
    assert len(parse(JSON, b"[" + b"[]," * 200 + b"[]]")) == 201
    assert parse(JSON, b'"' + b"[" * 200 + b'"') == "[" * 200


@pytest.mark.parametrize("body", [b"a=%FF", b"\xff=1", b"&".join([b"a=1"] * (FORM_FIELDS + 1))])
def test_a_form_of_no_text_or_too_many_fields_is_unreadable(body: bytes) -> None:
    """Undecodable bytes are not replaced by question marks."""
    assert code_of(FORM, body) is Code.BODY_UNREADABLE


def test_an_empty_form_is_an_empty_object() -> None:
    """A form without fields is a form."""
    assert parse(FORM, b"") == {}


def test_a_rejection_repeats_nothing_of_the_body() -> None:
    """Its words go to logs and senders."""
    with pytest.raises(Rejection) as caught:
        parse(JSON, b'{"password": "hunter2", ')

    assert "hunter2" not in str(caught.value)
    assert "JSON" in caught.value.message


_PLAIN = st.characters(codec="utf-8")
_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(_PLAIN),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(_PLAIN), inner, max_size=4),
    max_leaves=20,
)


@given(_VALUES, st.booleans())
def test_json_data_comes_back_as_it_was(value: object, escaped: bool) -> None:  # noqa: FBT001 - drawn
    """Written with escapes or without."""
    assert parse(JSON, json.dumps(value, ensure_ascii=escaped).encode()) == value


@given(st.dictionaries(st.text(_PLAIN, min_size=1), st.text(_PLAIN), max_size=8))
def test_a_forms_fields_come_back_as_they_were(fields: dict[str, str]) -> None:
    """Whatever texts they are."""
    assert parse(FORM, urlencode(fields).encode()) == fields


@pytest.mark.parametrize(
    ("media", "content_type", "body", "message"),
    [
        ("json", FORM, b'{"a":1}', "reads JSON (application/json); the body is JSON, the header says form"),
        ("json", FORM, b"payload=%7B%7D", "the body is a form, the header says form"),
        ("form", JSON, b"a=1", "reads a form (application/x-www-form-urlencoded); the body is a form, "),
        ("json", "text/csv", b"1;2", "the body is neither JSON nor a form, the header says something else"),
        ("json", JSON, b"a=1", "cannot be read as JSON: it is a form"),
        ("form", FORM, b'{"a":1}', "cannot be read as a form: it is JSON"),
        ("form:payload", FORM, b"a=1", "the form has no field payload"),
        ("json", JSON, b"", "cannot be read as JSON: it is empty"),
    ],
)
def test_a_body_of_another_kind_is_told_what_it_looks_like(
    media: str, content_type: str, body: bytes, message: str
) -> None:
    """So that a sender's settings can be mended at once."""
    with pytest.raises(Rejection) as caught:
        parse_as(body, {"content-type": [content_type]}, media)

    assert message in caught.value.message


def test_json_may_stand_in_a_forms_field() -> None:
    """As GitHub and Slack send it."""
    body = urlencode({"payload": '{"a": "caf\\udce9"}'}).encode()

    assert parse_as(body, {"content-type": [FORM]}, "form:payload") == {"a": "caf\ufffd"}


def test_a_content_encoding_is_named() -> None:
    """A compressed body is not guessed at; what a sender wrote there is not repeated."""
    told = []
    for encoding in ("gzip", "x-strange"):
        with pytest.raises(Rejection) as caught:
            parse_as(b"", {"content-type": [JSON], "content-encoding": [encoding]})
        told.append((caught.value.code, caught.value.message))

    assert [code for code, _ in told] == [Code.MEDIA_TYPE] * 2
    assert "gzip" in told[0][1]
    assert "x-strange" not in told[1][1]


def test_the_same_type_twice_counts_once_and_two_types_are_none() -> None:
    """A front may hand a header over twice."""
    assert parse_as(b"1", {"content-type": [JSON, "application/json; charset=utf-8"]}) == 1
    with pytest.raises(Rejection):
        parse_as(b"1", {"content-type": [JSON, "text/plain"]})


@pytest.mark.parametrize(
    ("text", "read"),
    [
        (rb'"\ud800"', "\ufffd"),
        (rb'{"\ud800":"a\udfffb"}', {"\ufffd": "a\ufffdb"}),
        (rb'"\ud83d\ude00"', "\U0001f600"),
    ],
)
def test_a_lone_surrogate_is_read_as_a_replacement(text: bytes, read: object) -> None:
    """Some senders cut texts within a character; nothing else of the body is touched."""
    assert parse_as(text, {"content-type": [JSON]}) == read


@given(st.sampled_from([JSON, FORM]), st.binary(max_size=200))
def test_any_bytes_are_data_or_a_rejection(content_type: str, body: bytes) -> None:
    """Nothing else is raised."""
    with contextlib.suppress(Rejection):
        parse(content_type, body)
