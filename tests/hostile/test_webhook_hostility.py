"""Whatever event comes, the answer is a verdict; `tests.hostile.fuzz` runs the same law for longer."""

import json
import os
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Iterator
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from local.tools import PROJECT
from tests.hostile.fuzz import (
    CONTENT_TYPES,
    FITTING_PAYLOADS,
    FRONTS,
    HANDSHAKES,
    HARD_BODIES,
    KEPT_SECRET,
    LONGEST_S,
    PROVEN,
    ROUTE_NAMES,
    SECRETS,
    Case,
    LawBroken,
    Outcome,
    Sent,
    Target,
    Unsigned,
    cases,
    http_api,
    judge,
    judge_again,
    judge_haste,
    odd_events,
    sign,
    target,
    unsigned,
    unverified_sendings,
    verified_sendings,
)

MEMORY_BYTES = 64 * 1024 * 1024
EXAMPLES = 150
ONE_OF_EACH_SORT = ("standard", "hmac", "slack", "bearer", "basic", "token", "pairs", "dated")
JSON = {"content-type": "application/json"}
few_seconds = settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example],
)


@pytest.fixture(scope="module")
def webhook() -> Iterator[Target]:
    """A webhook function on an emulator of its own."""
    with target() as made:
        yield made


@few_seconds
@given(case=cases())
def test_any_event_is_answered_by_the_law(webhook: Target, case: Case) -> None:
    """A dict with a status code; 5xx only for ledger or secret; nothing secret said; in time."""
    judge(case, webhook.deliver(case.event))


@few_seconds
@given(event=odd_events())
def test_what_no_front_makes_is_refused(webhook: Target, event: object) -> None:
    """Parts of other types, of no type at all, and any JSON whatsoever."""
    judge(Case(event, None), webhook.deliver(event))


@few_seconds
@given(front=st.sampled_from(sorted(FRONTS)), sent=unverified_sendings())
def test_the_unverified_are_never_accepted(webhook: Target, front: str, sent: Sent) -> None:
    """Stale, forged, tampered with, bare or on another route's URL."""
    event = FRONTS[front](sent)

    outcome = webhook.deliver(event)

    judge(Case(event, None), outcome)


@few_seconds
@given(front=st.sampled_from(sorted(FRONTS)), sent=verified_sendings())
def test_the_verified_are_answered_whatever_they_say(webhook: Target, front: str, sent: Sent) -> None:
    """Every status of the table but 401, 405 and 503."""
    event = FRONTS[front](sent)

    outcome = webhook.deliver(event)

    judge(Case(event, sent), outcome)
    assert outcome.answer["statusCode"] not in {401, 405}


@pytest.mark.parametrize("content_type", sorted(set(CONTENT_TYPES)))
@pytest.mark.parametrize("body", HARD_BODIES.values(), ids=list(HARD_BODIES))
def test_a_hard_body_is_answered_by_the_law(webhook: Target, body: bytes, content_type: str) -> None:
    """By schemes of every sort and every `media`, as JSON, as a form and as neither."""
    for route in ONE_OF_EACH_SORT:
        sent = sign(Sent(route, body, {"content-type": content_type}), time.time())
        event = http_api(sent)

        judge(Case(event, sent), webhook.deliver(event))


@pytest.mark.slow
@pytest.mark.parametrize("body", HARD_BODIES.values(), ids=list(HARD_BODIES))
def test_a_hard_body_takes_little_memory(webhook: Target, body: bytes) -> None:
    """64 MB more than before, at most, for any one delivery."""
    for route in ("slack", "github", "token"):
        event = http_api(sign(Sent(route, body, JSON), time.time()))
        tracemalloc.start()

        webhook.deliver(event)

        _, peak_bytes = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak_bytes < MEMORY_BYTES


@pytest.mark.parametrize("payload", FITTING_PAYLOADS, ids=lambda payload: json.dumps(payload)[:40])
@pytest.mark.parametrize("route", PROVEN)
def test_no_route_says_its_secret(webhook: Target, route: str, payload: object) -> None:
    """Neither the secret nor the proof that was made with it, accepted or not."""
    sent = sign(Sent(route, json.dumps(payload).encode(), JSON), time.time())

    outcome = webhook.deliver(http_api(sent))

    said = json.dumps(outcome.answer) + outcome.printed
    assert sent.proofs
    assert not [value for value in (*KEPT_SECRET, *sent.proofs) if value in said]


@pytest.mark.parametrize(
    ("said", "law"),
    [
        ({"statusCode": 500}, "a status"),
        ({"body": '{"results":[],"counts":{},"error":{"code":"MediaType"}}'}, "went on after 401"),
        ({"body": '{"results":[],"counts":{}}'}, "the document of results"),
        ({"body": '{"results":[{"error":null}],"counts":{}}'}, "was accepted"),
        ({"headers": {"x": SECRETS["TOKEN"]}}, "a secret"),
    ],
)
def test_the_law_is_no_empty_one(webhook: Target, said: dict[str, object], law: str) -> None:
    """An outcome that breaks it is found out."""
    event = http_api(Sent("nowhere", b"{}"))
    outcome = webhook.deliver(event)

    with pytest.raises(LawBroken, match=law):
        judge(Case(event, None), replace(outcome, answer=outcome.answer | said))


@pytest.mark.parametrize(
    "printed",
    ["", '{"message":"refused"}\n{"message":"refused"}', f'{{"message":"refused","a":"{"x" * 600}"}}'],
)
def test_the_law_wants_one_bounded_line(webhook: Target, printed: str) -> None:
    """None, two, and one that is too long break it."""
    event = http_api(Sent("nowhere", b"{}"))
    answer = webhook.deliver(event).answer

    with pytest.raises(LawBroken, match="line for a refusal"):
        judge(Case(event, None), Outcome(answer, printed, 0.0))


def test_the_law_wants_haste(webhook: Target) -> None:
    """A delivery that takes the processor for too long breaks it."""
    outcome = webhook.deliver(http_api(Sent("nowhere", b"{}")))

    judge_haste(replace(outcome, cpu_s=LONGEST_S * 0.99))
    with pytest.raises(LawBroken, match="it took"):
        judge_haste(replace(outcome, cpu_s=LONGEST_S))


@pytest.mark.slow
def test_a_hard_body_is_answered_in_time() -> None:
    """By every scheme, and 200 others: in a process of their own, because tracing this one slows it."""
    command = [sys.executable, "-m", "tests.hostile.fuzz", "--deliveries", "200"]
    environment = {**os.environ, "PYTHONPATH": "src:."}

    ran = subprocess.run(
        command, cwd=PROJECT, env=environment, capture_output=True, text=True, timeout=110, check=False
    )

    assert ran.returncode == 0, ran.stderr
    assert "no law broken" in ran.stdout


@few_seconds
@given(sent=verified_sendings(), other=unsigned())
def test_changing_what_is_not_signed_makes_no_second_task(
    webhook: Target, sent: Sent, other: Unsigned
) -> None:
    """Content type, query, unsigned headers, path and front: no other event and no other request either."""
    case = Case(http_api(sent), sent)

    judge_again(webhook, case, webhook.deliver(case.event), other)


@pytest.mark.parametrize("name", HANDSHAKES)
@pytest.mark.parametrize("front", FRONTS)
def test_a_handshake_is_answered_to_its_own_route_alone(webhook: Target, name: str, front: str) -> None:
    """Through every front; to all other routes it is an event like any other, and unverified it is 401."""
    body = json.dumps(HANDSHAKES[name]).encode()

    for route in ROUTE_NAMES:
        sent = sign(Sent(route, body, JSON), time.time())
        event = FRONTS[front](sent)
        outcome = webhook.deliver(event)
        judge(Case(event, sent), outcome)
        assert (outcome.name == "200 handshake") == (route == name)
    for route in PROVEN:
        bare = FRONTS[front](Sent(route, body, JSON))
        judge(Case(bare, None), webhook.deliver(bare))


def test_the_law_of_what_is_not_signed_is_no_empty_one(webhook: Target) -> None:
    """An id that a token does not cover names another event: the law would find it."""
    sent = sign(Sent("bearer", b'{"id":"law-1","value":1}', JSON), time.time())
    outcome = webhook.deliver(http_api(sent))
    another = Case(None, replace(sent, body=b'{"id":"law-2","value":1}'))

    with pytest.raises(LawBroken, match="by what is not signed"):
        judge_again(webhook, another, outcome, Unsigned("alb", "application/json", "", "", None))
