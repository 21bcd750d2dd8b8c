"""What `oncetask.handlers.fronts` promises: one delivery from each front's event, one answer in its form."""

import base64
import contextlib
import json
from dataclasses import replace
from http import HTTPStatus
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oncetask.errors import Code, Rejection
from oncetask.webhooks.http import QUERY_FIELDS, Delivery, Reply
from tests.hostile.fuzz import (
    FRONTS,
    Front,
    Sent,
    alb,
    alb_multi,
    any_json,
    http_api,
    http_api_1,
    odd_events,
    rest_api,
)

every_front = pytest.mark.parametrize("front", FRONTS.values(), ids=list(FRONTS))

SENT = Sent(
    "check-host",
    '{"a":"é"}'.encode(),
    {"content-type": "application/json", "x-sig": "v0=ab"},
    {"token": "a b&+%é", "empty": ""},
)


@every_front
def test_every_front_hands_over_the_same_delivery(front: Front) -> None:
    """Method, route, headers in lower case, query decoded, body in bytes."""
    delivery = Delivery.of(front(SENT))

    assert (delivery.method, delivery.route, delivery.body) == ("POST", "check-host", SENT.body)
    assert delivery.headers == {"content-type": ("application/json",), "x-sig": ("v0=ab",)}
    assert delivery.query == {"token": ("a b&+%é",), "empty": ("",)}


@every_front
def test_a_delivery_without_anything_has_nothing(front: Front) -> None:
    """No headers, no query, no body: fronts say so with nulls."""
    delivery = Delivery.of(front(Sent("r", b"", method="GET")))

    assert (delivery.method, delivery.headers, delivery.query, delivery.body) == ("GET", {}, {}, b"")


@every_front
@pytest.mark.parametrize("body", [b"\xff\x00\xfe", b"", "é".encode(), b"a" * 300_000])
def test_a_body_is_the_bytes_that_the_sender_signed(front: Front, body: bytes) -> None:
    """Whether the front hands them over as text or in base64."""
    assert Delivery.of(front(replace(SENT, body=body))).body == body


@pytest.mark.parametrize(
    ("path", "route"),
    [
        ("/webhooks/agent-offline", "agent-offline"),
        ("webhooks/agent-offline", "agent-offline"),
        ("/prod/webhooks/x", "x"),
        ("/a/webhooks/b/webhooks/x", "x"),
        ("/webhooks/webhooks", "webhooks"),
        ("//webhooks/x", "x"),
        ("/webhooks/x/", "x"),
        ("/webhooks/x//", None),
        ("/webhooks/x/y", None),
        ("/webhooks/", None),
        ("/webhooks", None),
        ("/mywebhooks/x", None),
        ("/Webhooks/x", None),
        ("/webhooks/x%2Fy", "x%2Fy"),
        ("/webhooks/x\n", "x\n"),
        ("x", None),
        ("", None),
    ],
)
def test_the_route_is_the_last_segment_behind_webhooks(path: str, route: str | None) -> None:
    """Any prefix, nothing behind it, and nothing decoded."""
    event = http_api(SENT) | {"rawPath": path, "requestContext": {"http": {"method": "POST", "path": path}}}

    assert Delivery.of(event).route == route


@pytest.mark.parametrize("front", [rest_api, alb_multi])
def test_a_header_that_came_twice_has_no_one_value(front: Front) -> None:
    """Nobody knows which of them somebody else has checked."""
    event = front(SENT)
    event["multiValueHeaders"] = {"X-Sig": ["a", "b"], "x-Twice": ["a"], "X-TWICE": ["b"], "x-once": ["a"]}

    delivery = Delivery.of(event)

    assert delivery.headers == {"x-sig": ("a", "b"), "x-twice": ("a", "b"), "x-once": ("a",)}
    assert [delivery.header(name) for name in ("x-sig", "x-twice", "x-once", "x-none")] == [
        None,
        None,
        "a",
        None,
    ]


@pytest.mark.parametrize("lists", [None, {}, "text", 7])
def test_the_single_form_counts_where_there_are_no_lists(lists: object) -> None:
    """As a console's test event, or an ALB without multi-value headers, hands them over."""
    event = rest_api(SENT) | {"multiValueHeaders": lists, "multiValueQueryStringParameters": lists}

    delivery = Delivery.of(event)

    assert delivery.header("x-sig") == "v0=ab"
    assert delivery.query["token"] == ("a b&+%é",)


def test_the_lists_count_where_both_forms_are_there() -> None:
    """The single form holds only the last of several values."""
    event = rest_api(SENT) | {"headers": {"X-Sig": "b"}, "multiValueHeaders": {"X-Sig": ["a", "b"]}}

    assert Delivery.of(event).headers == {"x-sig": ("a", "b")}


def test_http_apis_joined_values_stay_one() -> None:
    """Where they were joined cannot be told, so nothing is split: no proof holds with a comma in it."""
    event = http_api(SENT) | {"headers": {"X-Sig": "v0=ab,v0=cd"}}

    assert Delivery.of(event).header("x-sig") == "v0=ab,v0=cd"


@pytest.mark.parametrize(
    ("event", "query"),
    [
        (http_api(SENT) | {"rawQueryString": "a=1&a=2&b=x+y&c=%2B&%64="}, ("1", "2")),
        (alb(SENT) | {"queryStringParameters": {"a": "1", "b": "x+y", "c": "%2B", "%64": ""}}, ("1",)),
        (
            alb_multi(SENT)
            | {
                "multiValueQueryStringParameters": {
                    "a": ["1"],
                    "%61": ["2"],
                    "b": ["x%20y"],
                    "c": ["%2B"],
                    "d": [""],
                }
            },
            ("1", "2"),
        ),
        (
            rest_api(SENT)
            | {"multiValueQueryStringParameters": {"a": ["1", "2"], "b": ["x y"], "c": ["+"], "d": [""]}},
            ("1", "2"),
        ),
        (
            http_api_1(SENT)
            | {
                "multiValueQueryStringParameters": None,
                "queryStringParameters": {"a": "2", "b": "x y", "c": "+", "d": ""},
            },
            ("2",),
        ),
    ],
    ids=["http-api", "alb", "alb-multi", "rest-api", "http-api-1.0"],
)
def test_a_query_is_decoded_once(event: dict[str, Any], query: tuple[str, ...]) -> None:
    """REST APIs and HTTP APIs of format 1.0 have decoded it already; a load balancer has not."""
    assert Delivery.of(event).query == {"a": query, "b": ("x y",), "c": ("+",), "d": ("",)}


def test_a_query_of_too_many_fields_is_none() -> None:
    """No sender's has so many."""
    event = http_api(SENT) | {"rawQueryString": "&".join(["a=1"] * (QUERY_FIELDS + 1))}

    assert Delivery.of(event).query == {}


@pytest.mark.parametrize(
    ("body", "flag"),
    [
        ("%%%", True),
        ("YQ", True),
        ("YWJj\n", True),
        ("é", True),
        ("\ud800", False),
        (7, False),
        ({}, True),
        ([], False),
    ],
)
def test_a_body_that_cannot_be_decoded_is_none(body: object, flag: bool) -> None:  # noqa: FBT001 - the event's own
    """It is told apart from an empty one, and raises nothing."""
    assert Delivery.of(http_api(SENT) | {"body": body, "isBase64Encoded": flag}).body is None


@pytest.mark.parametrize("flag", [None, False, 0, "true", 1])
def test_only_true_means_base64(flag: object) -> None:
    """A text that happens to be base64 is a text."""
    assert Delivery.of(http_api(SENT) | {"body": "YWJj", "isBase64Encoded": flag}).body == b"YWJj"


@pytest.mark.parametrize(
    "event",
    [
        None,
        "POST",
        7,
        [],
        {},
        {"requestContext": {"http": {}}},
        {"requestContext": {"http": {"method": 7}}},
        {"requestContext": {"http": "POST"}},
        {"requestContext": {"elb": {}}},
        {"httpMethod": None},
        {"Records": [{"eventSource": "aws:sqs"}]},
        {"source": "aws.scheduler", "detail-type": "Scheduled Event", "resources": ["x"]},
    ],
)
def test_what_no_front_hands_over_is_not_understood(event: object) -> None:
    """A queue's, a schedule's and nobody's events."""
    with pytest.raises(Rejection) as caught:
        Delivery.of(event)

    assert caught.value.code is Code.EVENT_NOT_UNDERSTOOD


@pytest.mark.parametrize("front", [FRONTS[name] for name in FRONTS if not name.startswith("alb")])
def test_gateways_and_function_urls_get_single_headers(front: Front) -> None:
    """The four keys of their answer, and no more."""
    assert Reply(HTTPStatus.CREATED, "{}", {"x-a": "b"}).answer_to(front(SENT)) == {
        "statusCode": 201,
        "headers": {"content-type": "application/json", "x-a": "b"},
        "body": "{}",
        "isBase64Encoded": False,
    }


def test_a_load_balancer_gets_the_status_in_words() -> None:
    """It wants a statusDescription."""
    answer = Reply(HTTPStatus.SERVICE_UNAVAILABLE, "{}").answer_to(alb(SENT))

    assert (answer["statusCode"], answer["statusDescription"]) == (503, "503 Service Unavailable")
    assert answer["headers"] == {"content-type": "application/json"}
    assert "multiValueHeaders" not in answer


def test_a_load_balancer_with_multi_value_headers_gets_only_those() -> None:
    """It ignores the single form then."""
    answer = Reply(HTTPStatus.OK, "{}", {"x-a": "b"}).answer_to(alb_multi(SENT))

    assert answer["multiValueHeaders"] == {"content-type": ["application/json"], "x-a": ["b"]}
    assert answer["statusDescription"] == "200 OK"
    assert "headers" not in answer


def test_a_deliverys_secrets_show_in_no_text() -> None:
    """Headers, query and body may hold them."""
    shown = repr(Delivery.of(http_api(SENT)))

    assert not any(part in shown for part in ("v0=ab", "token", '{"a"'))


@given(odd_events() | any_json(leaves=30))
def test_any_event_is_a_delivery_or_not_understood(event: object) -> None:
    """Nothing else is raised, every part has its type, and there is an answer in JSON."""
    with contextlib.suppress(Rejection):
        delivery = Delivery.of(event)
        assert isinstance(delivery.method, str)
        assert isinstance(delivery.body, bytes | None)
        for values in (delivery.headers, delivery.query):
            assert all(isinstance(text, str) for name, texts in values.items() for text in (name, *texts))

    json.dumps(Reply(HTTPStatus.OK, "{}").answer_to(event))


@given(st.binary(max_size=80))
def test_any_bytes_come_through_base64_unchanged(body: bytes) -> None:
    """The signature is over them."""
    event = http_api(SENT) | {"body": base64.b64encode(body).decode(), "isBase64Encoded": True}

    assert Delivery.of(event).body == body
