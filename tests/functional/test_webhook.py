"""What a delivery comes to: the table of answers through every front, and what stands behind it."""

import contextlib
import hashlib
import io
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from local.emulator import (
    CapReached,
    Emulator,
    Fault,
    Refuse,
    ResetAfter,
    ResetBefore,
    Throttle,
)
from oncetask.app import App
from oncetask.clock import Deadline
from oncetask.errors import Code, Kind
from oncetask.handlers import webhook
from oncetask.handlers.webhook import BODY_BYTES, ITEMS
from oncetask.ledger.ledger import Ledger
from oncetask.ledger.records import Event
from oncetask.ledger.sqlite import SqlStore
from oncetask.ledger.store import Row
from oncetask.models import ErrorInfo, Status
from oncetask.webhooks.secrets import FAILURE_S
from tests.clocks import NOW_S, FakeClock
from tests.conftest import MakeApp
from tests.hostile.fuzz import FRONTS, OTHER_SECRETS, ROUTES, SECRETS, Sent, http_api, sign
from tests.open_records import waiting

MORE_ROUTES = (
    ROUTES
    + """
[routes.open]
trigger = "webhook"
task_type = "IMAGE_SCAN"
verify = {scheme = "none"}

[routes.hmac-unsigned-id]
trigger = "webhook"
task_type = "IMAGE_SCAN"
verify = {scheme = "hmac", secrets = ["env:HMAC_KEY"], header = "X-Sig", id_header = "X-Id"}

[routes.rotated]
trigger = "webhook"
task_type = "IMAGE_SCAN"
verify = {scheme = "bearer", secrets = ["env:TOKEN", "file:SECRET_FILE"]}
"""
)
FITTING: Mapping[str, Any] = {"data": {"uuid": "inet-1", "problem": "offline"}}
UNKNOWN_LEDGER = {"ONCETASK_LEDGER": "sqlite:////nowhere/at/all/ledger.sqlite"}


@pytest.fixture
def clock() -> FakeClock:
    """The app's clock."""
    return FakeClock()


@pytest.fixture
def make(make_app: MakeApp, clock: FakeClock, tmp_path: Path) -> MakeApp:
    """`make(**environment)`: an app with routes of every scheme, and their secrets in its environment."""
    routes = MORE_ROUTES.replace("SECRET_FILE", str(tmp_path / "secret"))

    def made(**environment: str) -> App:
        return make_app(routes, clock=clock, **{**SECRETS, **environment})

    return made


@pytest.fixture
def app(make: MakeApp) -> App:
    """The usual app."""
    return make()


def sent(route: str, payload: object, **headers: str) -> Sent:
    """An unsigned JSON delivery."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    body = json.dumps(payload, ensure_ascii=False).encode()
    return Sent(route, body, {"content-type": "application/json", **named})


def signed(route: str, payload: object, id_: str = "id-1") -> Sent:
    """A JSON delivery that its route verifies."""
    return sign(sent(route, payload), NOW_S, id_=id_)


def deadline(app: App) -> Deadline:
    """An invocation of half a minute."""
    return Deadline.after(30, app.clock)


def answered(app: App, delivery: Sent, front: str = "http-api") -> tuple[int, dict[str, Any]]:
    """Status and document that the sender gets."""
    event = FRONTS[front](delivery)
    answer = webhook.handle(app, event, deadline(app)).reply().answer_to(event)
    return answer["statusCode"], json.loads(answer["body"])


def one(app: App, delivery: Sent) -> dict[str, Any]:
    """The one result of a delivery."""
    (result,) = answered(app, delivery)[1]["results"]
    found: dict[str, Any] = result
    return found


def creates(emulator: Emulator) -> int:
    """How many GenerateOnceTask calls have come."""
    return sum(call.action == "GenerateOnceTask" for call in emulator.calls)


# -- the table ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Answered:
    """One row: a delivery, what makes it so, and what its sender is told."""

    name: str
    delivery: Sent
    status: int
    results: tuple[str, ...] = ()
    code: str | None = None
    kind: str | None = "sender"
    environment: Mapping[str, str] = field(default_factory=dict)
    faults: tuple[Fault | None, ...] = ()
    before: tuple[Sent, ...] = ()
    asked: int = 0


STANDARD = signed("standard", FITTING)
GITHUB_TWO = {"action": "opened", "items": [{"image": "a"}, {"image": "b"}]}
TOO_LONG = b" " * (BODY_BYTES + 1)
ALERT = {"fingerprint": "f", "startsAt": "t", "labels": {"uuid": "inet-1"}}

REFUSED = (
    Answered("another method", replace(STANDARD, method="GET"), 405, code="Method"),
    Answered("another method on no route", replace(STANDARD, method="PUT", route="no"), 405, code="Method"),
    Answered("a body over 256 KiB", replace(STANDARD, body=TOO_LONG), 413, code="BodyTooLarge"),
    Answered("no signature", sent("standard", FITTING), 401, code="Unverified"),
    Answered("another signature", sign(STANDARD, NOW_S, secrets=OTHER_SECRETS), 401, code="Unverified"),
    Answered("an old signature", sign(STANDARD, NOW_S - 301), 401, code="Unverified"),
    Answered("no such route", replace(STANDARD, route="nowhere"), 401, code="Unverified"),
    Answered("a timer's route", replace(STANDARD, route="tick"), 401, code="Unverified"),
    Answered("no content type", STANDARD.but(content_type=None), 415, code="MediaType"),
    Answered("another content type", STANDARD.but(content_type="text/html"), 415, code="MediaType"),
    Answered("no JSON", sign(replace(STANDARD, body=b"{"), NOW_S), 400, code="BodyUnreadable"),
    Answered("an empty body", sign(replace(STANDARD, body=b""), NOW_S), 400, code="BodyUnreadable"),
    Answered("over 500 items", signed("github", {"items": [1] * (ITEMS + 1)}), 413, code="TooManyItems"),
    Answered(
        "an empty secret",
        STANDARD,
        503,
        code="SecretUnavailable",
        kind="operator",
        environment={"WHSEC": ""},
    ),
    Answered(
        "no ledger",
        STANDARD,
        503,
        code="LedgerUnavailable",
        kind="operator",
        environment=UNKNOWN_LEDGER,
    ),
)
OPEN = (
    Answered("a sweep's route", signed("grafana", {"alerts": [ALERT]}), 202, ("pending",)),
    Answered(
        "the cap",
        STANDARD,
        202,
        ("pending",),
        code="OnceTaskLimitExceeded",
        kind="remote",
        faults=(CapReached(),),
        asked=1,
    ),
    Answered(
        "throttling",
        STANDARD,
        202,
        ("pending",),
        code="Throttling.User",
        kind="remote",
        faults=(Throttle(1000),),
        asked=1,
    ),
    Answered(
        "no permission",
        STANDARD,
        202,
        ("pending",),
        code="NoPermission",
        kind="operator",
        faults=(Refuse(403, "NoPermission"),),
        asked=1,
    ),
    Answered(
        "no credentials",
        STANDARD,
        202,
        ("pending",),
        code="CredentialsUnavailable",
        kind="operator",
        environment={"ALIBABA_CLOUD_ACCESS_KEY_SECRET": ""},
    ),
    Answered(
        "a lost answer",
        STANDARD,
        202,
        ("unknown",),
        code="NoAnswer",
        kind="unknown",
        faults=(ResetAfter(),),
        asked=1,
    ),
    Answered(
        "created and pending",
        signed("github", GITHUB_TWO),
        202,
        ("created", "pending"),
        faults=(None, CapReached()),
        code="OnceTaskLimitExceeded",
        kind="remote",
        asked=2,
    ),
    Answered(
        "rejected and pending",
        signed("grafana", {"alerts": [ALERT, ALERT | {"fingerprint": "g", "labels": {}}]}),
        202,
        ("pending", "rejected"),
        code="NoTargets",
    ),
)
SETTLED = (
    Answered("created", STANDARD, 201, ("created",), asked=1),
    Answered("two created", signed("github", GITHUB_TWO), 201, ("created", "created"), asked=2),
    Answered(
        "created and rejected",
        signed("github", {"items": [{}, {"any": "\u00e9" * 1500}]}),
        201,
        ("created", "rejected"),
        code="RequestTooLarge",
        asked=1,
    ),
    Answered("rejected by us", signed("standard", {"data": {}}), 422, ("rejected",), code="NoTargets"),
    Answered(
        "rejected by Security Center",
        STANDARD,
        422,
        ("rejected",),
        code="InvalidParameter.X",
        faults=(Refuse(400, "InvalidParameter.X"),),
        asked=1,
    ),
    Answered(
        "a failing expression", signed("basic", {"value": 1}), 422, ("rejected",), code="ExpressionFailed"
    ),
    Answered("the same again", STANDARD, 200, ("duplicate",), before=(STANDARD,), asked=1),
    Answered("`when` is not true", signed("github", {"action": "closed", "items": [1]}), 200, ("ignored",)),
    Answered("`each` gives null", signed("github", {}), 200, ("ignored",)),
    Answered("`each` gives []", signed("github", {"items": []}), 200, ("ignored",)),
    Answered(
        "duplicate and ignored alike",
        signed("github", {"items": [1]}),
        200,
        ("duplicate",),
        before=(signed("github", {"items": [1]}),),
        asked=1,
    ),
)
SLACK = signed("slack", {"text": "scan"})
KNOWS_ONLY_200 = (
    Answered("slack: created", SLACK, 200, ("created",), asked=1),
    Answered(
        "slack: pending",
        SLACK,
        200,
        ("pending",),
        code="OnceTaskLimitExceeded",
        kind="remote",
        faults=(CapReached(),),
        asked=1,
    ),
    Answered(
        "slack: unknown",
        SLACK,
        200,
        ("unknown",),
        code="NoAnswer",
        kind="unknown",
        faults=(ResetBefore(),),
        asked=1,
    ),
    Answered(
        "slack: rejected",
        signed("slack", {"text": "x" * 9000}),
        200,
        ("rejected",),
        code="RequestTooLarge",
    ),
    Answered("slack: a form", sign(replace(SLACK, body=b"text=scan+now"), NOW_S), 400, code="BodyUnreadable"),
    Answered(
        "slack: unverified",
        sign(SLACK, NOW_S, secrets=OTHER_SECRETS),
        401,
        code="Unverified",
    ),
    Answered(
        "slack: no ledger",
        SLACK,
        503,
        code="LedgerUnavailable",
        kind="operator",
        environment=UNKNOWN_LEDGER,
    ),
)
TABLE = (*REFUSED, *OPEN, *SETTLED, *KNOWS_ONLY_200)


@pytest.mark.parametrize("front", FRONTS)
@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.name)
def test_a_delivery_is_answered_as_the_table_says(
    row: Answered, front: str, make: MakeApp, emulator: Emulator
) -> None:
    """Status, results, code and kind are the row's, through every front, and no more is asked than that."""
    app = make(**row.environment)
    for earlier in row.before:
        answered(app, earlier)
    emulator.script(*row.faults)

    status, document = answered(app, row.delivery, front)

    errors = [result["error"] for result in document["results"] if result["error"]]
    errors += [document["error"]] if "error" in document else []
    assert (status, tuple(result["status"] for result in document["results"])) == (row.status, row.results)
    assert [(error["code"], error["kind"]) for error in errors] == (
        [(row.code, row.kind)] if row.code else []
    )
    assert creates(emulator) == row.asked


# -- the order of the checks ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("delivery", "environment", "code"),
    [
        (replace(STANDARD, method="GET", body=TOO_LONG), {}, "Method"),
        (sent("standard", {}).but(content_type="text/plain"), {}, "Unverified"),
        (replace(sent("nowhere", {}), body=b"{"), {"WHSEC": ""}, "Unverified"),
        (replace(STANDARD, body=TOO_LONG), {"WHSEC": ""}, "BodyTooLarge"),
        (STANDARD.but(content_type=None), {"WHSEC": ""}, "SecretUnavailable"),
        (sign(Sent("standard", b"{"), NOW_S), {}, "MediaType"),
        (sign(replace(sent("standard", {}), body=b"{"), NOW_S), UNKNOWN_LEDGER, "BodyUnreadable"),
        (signed("github", {"items": [1] * (ITEMS + 1)}), UNKNOWN_LEDGER, "TooManyItems"),
    ],
)
def test_of_two_faults_the_one_that_is_checked_first_is_told(
    delivery: Sent, environment: dict[str, str], code: str, make: MakeApp
) -> None:
    """The order of the table in docs/results.md, so that a stranger costs little and learns nothing."""
    app = make(**environment)

    _, document = answered(app, delivery)

    assert document["error"]["code"] == code


def test_500_items_are_not_too_many(app: App) -> None:
    """The limit itself is let through."""
    alerts = [ALERT | {"fingerprint": str(number)} for number in range(ITEMS)]

    status, document = answered(app, signed("grafana", {"alerts": alerts}))

    assert (status, document["counts"]["pending"]) == (202, ITEMS)


def test_256_kib_are_not_too_large(app: App) -> None:
    """The limit itself is let through."""
    body = b'{"id":1,"value":"' + b"a" * (BODY_BYTES - 19) + b'"}'

    status, document = answered(app, sign(replace(sent("bearer", {}), body=body), NOW_S))

    assert len(body) == BODY_BYTES
    assert (status, document["results"][0]["error"]["code"]) == (422, "RequestTooLarge")


def test_strangers_cannot_tell_routes_apart(app: App) -> None:
    """A wrong signature, a timer's route and no route at all are answered with the same bytes."""
    bare = sent("standard", FITTING)
    events = [http_api(replace(bare, route=route)) for route in ("standard", "token", "tick", "nowhere")]

    answers = [webhook.handle(app, event, deadline(app)).reply().answer_to(event) for event in events]

    assert all(answer == answers[0] for answer in answers)


# -- what senders are told ------------------------------------------------------------------------


def test_a_sender_is_told_why_only_where_the_sender_must_act(app: App, emulator: Emulator) -> None:
    """A permission's message is the operator's; a refused parameter's is the sender's own."""
    emulator.script(
        Refuse(403, "NoPermission", "User 7 may not."), Refuse(400, "InvalidParameter.X", "X is odd.")
    )

    operators = one(app, signed("standard", FITTING, "a"))["error"]
    senders = one(app, signed("slack", {}, "b"))["error"]

    assert operators == {
        "kind": "operator",
        "code": "NoPermission",
        "message": None,
        "http_status": None,
        "request_id": None,
    }
    assert senders["message"] == "X is odd."
    assert senders["http_status"] == 400
    assert senders["request_id"]


def test_of_an_unavailable_secret_a_sender_learns_the_code_alone(make: MakeApp) -> None:
    """Which reference failed, and how, is for the operator's log."""
    app = make(WHSEC="")

    _, document = answered(app, STANDARD)

    assert document == {
        "results": [],
        "counts": {},
        "error": {
            "kind": "operator",
            "code": "SecretUnavailable",
            "message": None,
            "http_status": None,
            "request_id": None,
        },
    }


@pytest.mark.parametrize(
    ("delivery", "environment", "header"),
    [
        (STANDARD, UNKNOWN_LEDGER, ("retry-after", "30")),
        (STANDARD, {"WHSEC": ""}, ("retry-after", "30")),
        (replace(STANDARD, method="DELETE"), {}, ("allow", "POST")),
    ],
)
def test_an_answer_says_how_to_do_better(
    delivery: Sent, environment: dict[str, str], header: tuple[str, str], make: MakeApp
) -> None:
    """503 says when to retry, 405 what is allowed."""
    app = make(**environment)
    event = http_api(delivery)

    answer = webhook.handle(app, event, deadline(app)).reply().answer_to(event)

    assert header in answer["headers"].items()


def test_the_handler_answers_whatever_aws_hands_over() -> None:
    """Without a context, and with an event that is none."""
    answers = [webhook.handler(event, None) for event in (None, [], "POST", {}, {"Records": []})]

    assert [answer["statusCode"] for answer in answers] == [400] * 5
    assert {json.loads(answer["body"])["error"]["code"] for answer in answers} == {"EventNotUnderstood"}


# -- ids and duplicates ---------------------------------------------------------------------------


def _hash_of(payload: object) -> str:
    return hashlib.sha256(json.dumps(payload, ensure_ascii=False).encode()).hexdigest()


@pytest.mark.parametrize(
    ("delivery", "event_id"),
    [
        (signed("standard", FITTING), "webhook:standard:id-1"),
        (signed("github", {"items": [1]}), "webhook:github:id-1/0"),
        (signed("github", {}), "webhook:github:id-1"),
        (signed("grafana", {"alerts": [ALERT]}), "webhook:grafana:f/t"),
        (signed("slack", {"a": "é"}), f"webhook:slack:sha256-{_hash_of({'a': 'é'})}"),
        (signed("hmac", FITTING), "webhook:hmac:id-1"),
        (signed("bearer", {"id": 7.5}), "webhook:bearer:7.5"),
        (signed("basic", {"value": [1]}), "webhook:basic:id-1"),
        (signed("token", [1]), f"webhook:token:sha256-{_hash_of([1])}"),
        (sent("open", {}), f"webhook:open:sha256-{_hash_of({})}"),
        (sent("open", {}, idempotency_key="k"), "webhook:open:k"),
        (
            signed("github", {"items": [1]}).but(x_github_delivery=None),
            f"webhook:github:sha256-{_hash_of({'items': [1]})}/0",
        ),
        (
            sent("open", {}, idempotency_key="k" * 500),
            "webhook:open:sha256-" + hashlib.sha256(b"webhook:open:" + b"k" * 500).hexdigest(),
        ),
    ],
    ids=lambda value: value.route if isinstance(value, Sent) else None,
)
def test_an_event_has_the_id_of_section_6(delivery: Sent, event_id: str, app: App) -> None:
    """The route's own id, else the delivery's, else the body's hash; bounded."""
    assert one(app, delivery)["event_id"] == event_id


def test_a_duplicate_tells_the_firsts_result(app: App, clock: FakeClock, emulator: Emulator) -> None:
    """Its task, its answer and its time; nothing is asked again."""
    first = one(app, STANDARD)
    clock.advance(100)

    again = one(app, STANDARD)

    assert again == first | {"status": "duplicate"}
    assert creates(emulator) == 1


def test_what_is_open_is_told_as_it_stands(app: App, emulator: Emulator) -> None:
    """A second delivery of an event that waits is told that it waits, and asks nothing."""
    emulator.script(Throttle(1000))
    first = one(app, STANDARD)

    again = one(app, STANDARD)

    assert again == first
    assert (again["status"], creates(emulator)) == ("pending", 1)


@pytest.mark.parametrize("route", ["github", "hmac-unsigned-id"])
def test_a_signature_under_another_id_is_a_duplicate(route: str, app: App, emulator: Emulator) -> None:
    """The id is not signed, so somebody who has seen a delivery could send it again under any id, or none."""
    payload = {"items": [1]}
    body = json.dumps(payload).encode()
    signer = "github" if route == "github" else "hmac-unsigned-id"
    first = _under(signer, body, "first")

    firsts = one(app, first)
    others = [one(app, _under(signer, body, id_)) for id_ in ("second", None)]

    assert firsts["status"] == "created"
    assert others == [firsts | {"status": "duplicate"}] * 2
    assert creates(emulator) == 1


def _under(route: str, body: bytes, id_: str | None) -> Sent:
    from_github = sign(Sent("github", body, {"content-type": "application/json"}), NOW_S, id_=id_ or "")
    if route == "github":
        return from_github.but(x_github_delivery=id_)
    proof = from_github.headers["x-hub-signature-256"].removeprefix("sha256=")
    bare = Sent(route, body, {"content-type": "application/json", "x-sig": proof})
    return bare.but(x_id=id_)


def test_a_signature_seen_on_a_delivery_that_made_nothing_binds_no_other(app: App) -> None:
    """An ignored delivery frees its id, under that id and under every other."""
    first = signed("github", {"action": "closed"}, "first")
    again = signed("github", {"action": "closed"}, "second")

    results = [one(app, first), one(app, again)]

    assert [result["status"] for result in results] == ["ignored", "ignored"]


def test_an_unverified_id_cannot_take_a_delivery_away(app: App) -> None:
    """Only a signature that holds is remembered."""
    forged = sign(signed("github", {"items": [1]}), NOW_S, id_="evil", secrets=OTHER_SECRETS)
    answered(app, forged)

    result = one(app, signed("github", {"items": [1]}))

    assert (result["status"], result["event_id"]) == ("created", "webhook:github:id-1/0")


def test_another_item_under_a_delivery_id_is_rejected(app: App, emulator: Emulator) -> None:
    """The item is compared, not the request that is made of it; the first stands."""
    first = one(app, signed("standard", FITTING))

    other = one(app, signed("standard", FITTING | {"note": "asks for the same"}))
    again = one(app, signed("standard", FITTING))

    assert (other["status"], other["error"]["code"]) == ("rejected", "EventIdReused")
    assert again == first | {"status": "duplicate"}
    assert creates(emulator) == 1


def test_the_same_item_written_in_another_way_is_the_same(app: App) -> None:
    """Order of keys and white space do not make another item."""
    compact = sign(replace(STANDARD, body=b'{"data":{"problem":"offline","uuid":"inet-1"}}'), NOW_S)
    one(app, STANDARD)

    assert one(app, compact)["status"] == "duplicate"


def test_under_the_routes_own_id_the_first_wins(app: App) -> None:
    """The id is the item's identity, whatever else it says the second time; another item's sender is told
    where the event stands, and nothing of the first one's request.
    """
    first = one(app, signed("bearer", {"id": 7, "value": 1}, "a"))

    other = one(app, signed("bearer", {"id": 7, "value": 2}, "b"))

    assert other == first | {"status": "duplicate", "request": None}
    assert one(app, signed("bearer", {"id": 7, "value": 1}, "c"))["request"]["Param"] == {"value": 1}


def test_equal_ids_within_one_delivery_make_one_task(app: App, emulator: Emulator) -> None:
    """The first counts, the rest are duplicates of it; at a later delivery all are what the first is."""
    delivery = signed("grafana", {"alerts": [ALERT, ALERT | {"labels": {"uuid": "inet-2"}}, ALERT]})

    now = answered(app, delivery)[1]
    later = answered(app, delivery)[1]

    assert [result["status"] for result in now["results"]] == ["pending", "duplicate", "duplicate"]
    assert [result["status"] for result in later["results"]] == ["pending", "duplicate", "duplicate"]
    assert {result["request"]["Param"]["uuids"] for result in now["results"]} == {"inet-1"}
    assert [event.event_id for event in waiting(app.ledger)] == ["webhook:grafana:f/t"]
    assert creates(emulator) == 0


def _settled(app: App, event_id: str, code: Code, status: Status) -> None:
    error = ErrorInfo(kind=Kind.OPERATOR, code=code, message="given up")
    update = {"status": status, "error": error, "settled_s": app.clock.now_s()}
    app.ledger.change_event(event_id, lambda event: event.model_copy(update=update))


def test_an_event_whose_outcome_is_unknown_is_told_so_again(app: App, emulator: Emulator) -> None:
    """It may have made a task: the id stays bound, the answer is final, and nothing is asked."""
    emulator.script(ResetAfter())
    one(app, STANDARD)
    _settled(app, "webhook:standard:id-1", Code.OUTCOME_UNKNOWN, Status.FAILED)

    status, document = answered(app, STANDARD)

    (result,) = document["results"]
    assert (status, result["status"], result["error"]["code"]) == (200, "failed", "OutcomeUnknown")
    assert result["error"]["message"] is None
    assert creates(emulator) == 1


def test_an_expired_events_id_is_free(app: App, emulator: Emulator) -> None:
    """It surely made no task, so the same delivery may."""
    emulator.script(Throttle(1000))
    one(app, STANDARD)
    _settled(app, "webhook:standard:id-1", Code.EXPIRED, Status.FAILED)

    assert one(app, STANDARD)["status"] == "created"


@pytest.mark.parametrize(
    ("delivery", "kept_s"),
    [(signed("slack", {}), 86_400), (signed("github", {"items": [1]}), 604_800)],
)
def test_an_id_is_remembered_for_as_long_as_the_contract_says(delivery: Sent, kept_s: int, app: App) -> None:
    """A day where it is a body's hash, else a week, from the end of the event's task on."""
    event_id = one(app, delivery)["event_id"]

    event = app.ledger.event(event_id)

    assert event is not None
    assert event.keep_s == kept_s


# -- recorded first, asked in time ----------------------------------------------------------------


class WatchedStore(SqlStore):
    """A store in memory that says what it is about to write."""

    def __init__(self, before_put: Callable[[Row], None]) -> None:
        super().__init__()
        self._before_put = before_put

    def put(self, row: Answered, *, replacing: str | None) -> bool:
        self._before_put(row)
        return super().put(row, replacing=replacing)


def test_all_items_are_recorded_before_any_is_asked(
    make: MakeApp, clock: FakeClock, emulator: Emulator
) -> None:
    """A death at any moment loses no item of an accepted delivery."""
    app = make()
    asked_before: dict[str, int] = {}
    store = WatchedStore(lambda row: asked_before.setdefault(row.key, creates(emulator)))
    app.ledger = Ledger(store, clock)

    _, document = answered(app, signed("github", {"items": [1, 2, 3]}))

    assert document["counts"]["created"] == 3
    assert [asked_before[f"event/webhook:github:id-1/{index}"] for index in range(3)] == [0, 0, 0]


@pytest.mark.parametrize(("items", "write_s"), [(20, 0.07), (3, 0.21), (1, 0.7), (1, 3.0)])
def test_no_call_begins_later_than_two_seconds_after_the_delivery(
    items: int, write_s: float, make: MakeApp, clock: FakeClock
) -> None:
    """However slow the ledger is; what was not asked in time is pending, and due."""
    with Emulator(clock=clock.now_s) as emulator:
        app = make(ONCETASK_ENDPOINT=emulator.url)
        app.ledger = Ledger(WatchedStore(lambda _: clock.advance(write_s)), clock)

        status, document = answered(app, signed("github", {"items": list(range(items))}))

        assert all(task.created_s <= NOW_S + 2 for task in emulator.tasks)
        assert len(emulator.tasks) == document["counts"]["created"]
        assert document["counts"]["created"] + document["counts"]["pending"] == items
        assert status == 202
        now_s = clock.now_s()
        assert all(event.due_s is not None and event.due_s <= now_s for event in waiting(app.ledger))


def test_a_ledger_that_fails_before_the_call_sends_nothing(
    make: MakeApp, clock: FakeClock, emulator: Emulator
) -> None:
    """503; what was recorded stays, and the next delivery finds it."""
    app = make(ONCETASK_LEDGER="memory://")
    store = WatchedStore(lambda row: store.close() if row.key.endswith("/1") else None)
    app.ledger = Ledger(store, clock)

    status, document = answered(app, signed("github", {"items": [1, 2, 3]}))

    assert (status, document["error"]["code"]) == (503, "LedgerUnavailable")
    assert creates(emulator) == 0


def test_a_damaged_lane_leaves_the_event_pending(app: App, emulator: Emulator) -> None:
    """One record that cannot be read stops nothing else, and is no unhandled exception."""
    app.ledger.store.put(Row("lane/CLIENT_PROBLEM_CHECK", "v", None, None, None, "{}"), replacing=None)

    assert answered(app, STANDARD)[0] == 202
    assert creates(emulator) == 0


def test_a_damaged_event_is_told_as_unknown(app: App, emulator: Emulator) -> None:
    """Whether it made a task cannot be read, so nothing is asked; the operator must look."""
    app.ledger.store.put(Row("event/webhook:standard:id-1", "v", None, None, None, "{}"), replacing=None)

    status, document = answered(app, STANDARD)

    (result,) = document["results"]
    assert (status, result["status"], result["error"]["code"]) == (202, "unknown", "RecordDamaged")
    assert creates(emulator) == 0


def test_an_app_is_usable_once_its_ledger_is(make: MakeApp, tmp_path: Path) -> None:
    """The ledger is tried again at the next delivery, by the same process."""
    app = make(ONCETASK_LEDGER=f"sqlite://{tmp_path}/later/ledger.sqlite")
    before, _ = answered(app, STANDARD)
    (tmp_path / "later").mkdir()

    after, _ = answered(app, STANDARD)

    assert (before, after) == (503, 201)


# -- secrets --------------------------------------------------------------------------------------


def test_either_secret_of_a_rotation_is_accepted(app: App, tmp_path: Path) -> None:
    """Old and new stand side by side; a file's last line end is no part of its secret."""
    (tmp_path / "secret").write_bytes(b"another-token\n")
    old, new = (
        sign(replace(signed("bearer", {"n": 1}), route="bearer"), NOW_S, id_="old"),
        sign(signed("bearer", {"n": 2}), NOW_S, id_="new", secrets=OTHER_SECRETS),
    )

    answers = [answered(app, replace(delivery, route="rotated"))[0] for delivery in (old, new)]

    assert answers == [201, 201]


def test_a_secret_that_cannot_be_had_hides_no_other(app: App, clock: FakeClock, tmp_path: Path) -> None:
    """Who shows the one that is there is believed; who does not may show the other, so is to retry."""
    believed = replace(signed("bearer", {}), route="rotated")
    doubted = replace(sign(signed("bearer", {}), NOW_S, secrets=OTHER_SECRETS), route="rotated")

    while_missing = [answered(app, delivery)[0] for delivery in (believed, doubted)]
    (tmp_path / "secret").write_bytes(b"a third")
    clock.advance(FAILURE_S)
    once_there = answered(app, doubted)[0]

    assert while_missing == [201, 503]
    assert once_there == 401


# -- log and metrics ------------------------------------------------------------------------------


def printed_by(app: App, *deliveries: Sent) -> list[dict[str, Any]]:
    """The JSON lines that the function prints while it answers."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        for delivery in deliveries:
            webhook.answer(app, http_api(delivery), deadline(app))
    return [json.loads(line) for line in printed.getvalue().splitlines()]


def counted(lines: list[dict[str, Any]]) -> dict[tuple[str, ...], float]:
    """`(metric, route or nothing)` to its sum, of the lines that are metrics."""
    sums: dict[tuple[str, ...], float] = {}
    for line in lines:
        for metrics in line.get("_aws", {}).get("CloudWatchMetrics", []):
            for name in (metric["Name"] for metric in metrics["Metrics"] if metric["Unit"] == "Count"):
                key = (name, *(line[d] for d in metrics["Dimensions"][0] if d != "service"))
                sums[key] = sums.get(key, 0) + sum(line[name])
    return sums


def logged(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The lines that are no metrics."""
    return [line for line in lines if "_aws" not in line]


def test_every_result_is_logged_once(make: MakeApp, request: pytest.FixtureRequest) -> None:
    """One JSON line each: `message` is `result`, and the result, words for the operator included."""
    app = make(POWERTOOLS_SERVICE_NAME=request.node.name, ALIBABA_CLOUD_ACCESS_KEY_SECRET="")
    delivery = signed("github", {"items": [1, {"any": "x" * 9000}]})

    lines = logged(printed_by(app, delivery))

    assert [(line["message"], line["level"], line["service"]) for line in lines] == [
        ("result", "INFO", request.node.name)
    ] * 2
    assert [line["result"]["status"] for line in lines] == ["pending", "rejected"]
    assert "ALIBABA_CLOUD_ACCESS_KEY_ID" in lines[0]["result"]["error"]["message"]


@pytest.mark.parametrize(
    ("delivery", "environment", "told"),
    [
        (sent("standard", FITTING), {}, ("Unverified", "standard", "no-signature")),
        (sign(STANDARD, NOW_S - 999), {}, ("Unverified", "standard", "stale")),
        (replace(STANDARD, route="x" * 5000), {}, ("Unverified", None, "no-route")),
        (STANDARD.but(content_type="y" * 5000), {}, ("MediaType", "standard", None)),
        (
            STANDARD,
            {"WHSEC": ""},
            ("SecretUnavailable", "standard", "the secret env:WHSEC is not set or empty"),
        ),
    ],
)
def test_a_refusal_is_one_line_in_our_own_words(
    delivery: Sent,
    environment: dict[str, str],
    told: tuple[str, str | None, str | None],
    make: MakeApp,
    request: pytest.FixtureRequest,
) -> None:
    """It says to the operator what the sender is not told, and repeats nothing of the sender's."""
    app = make(POWERTOOLS_SERVICE_NAME=request.node.name, **environment)

    (line,) = logged(printed_by(app, delivery))

    code, route, reason = told
    assert (line["message"], line["code"], line.get("route")) == ("refused", code, route)
    assert reason in {None, line["reason"]}
    assert len(json.dumps(line)) < 600


def test_results_and_refusals_are_counted(make: MakeApp, request: pytest.FixtureRequest) -> None:
    """Each status; what an operator must act on; and by route what an alarm must tell apart."""
    app = make(POWERTOOLS_SERVICE_NAME=request.node.name, TOKEN="", ALIBABA_CLOUD_ACCESS_KEY_SECRET="")

    lines = printed_by(
        app,
        STANDARD,
        STANDARD,
        signed("github", {"items": [{"any": "x" * 9000}, {"any": "x" * 9000}]}),
        signed("github", {}),
        sent("standard", {}),
        sent("nowhere", {}),
        signed("bearer", {}),
        replace(STANDARD, method="GET"),
    )

    assert counted(lines) == {
        ("Pending",): 2,
        ("OperatorError",): 3,
        ("OperatorError", "standard"): 2,
        ("OperatorError", "bearer"): 1,
        ("Rejected",): 2,
        ("Rejected", "github"): 2,
        ("Ignored",): 1,
        ("Unverified",): 2,
        ("Unverified", "standard"): 1,
    }


def test_a_route_without_its_secret_is_an_operators_error_once_a_minute(
    make: MakeApp, clock: FakeClock, request: pytest.FixtureRequest
) -> None:
    """However many deliveries strangers send: an alarm counts minutes, not strangers."""
    app = make(POWERTOOLS_SERVICE_NAME=request.node.name, TOKEN="")
    delivery = signed("bearer", {})

    first = printed_by(app, delivery)
    within_the_minute = printed_by(app, *[delivery] * 5)
    clock.advance(60)
    after_it = printed_by(app, delivery)

    assert counted(first) == {("OperatorError",): 1, ("OperatorError", "bearer"): 1}
    assert counted(within_the_minute) == {}
    assert counted(after_it) == counted(first)
    assert [line["reason"] for line in logged(first)] == ["the secret env:TOKEN is not set or empty"]


def test_the_first_delivery_says_which_reference_is_at_fault(
    make_app: MakeApp, clock: FakeClock, request: pytest.FixtureRequest
) -> None:
    """Beside a usable one it changes nothing for the sender; the log and the count say it once a minute."""
    routes = ROUTES.replace(
        '"slack", secrets = ["env:HMAC_KEY"]', '"slack", secrets = ["env:SHORT", "env:HMAC_KEY"]'
    )
    settings = {**SECRETS, "SHORT": "seven77", "POWERTOOLS_SERVICE_NAME": request.node.name}
    app = make_app(routes, clock=clock, **settings)

    lines = printed_by(app, signed("slack", {"text": "a"}), signed("slack", {"text": "b"}))

    assert [(line["message"], line.get("reason")) for line in logged(lines)] == [
        ("secret at fault", "the secret env:SHORT is no key of this scheme"),
        ("result", None),
        ("result", None),
    ]
    assert counted(lines)["OperatorError", "slack"] == 1
    assert "seven77" not in json.dumps(lines)


def test_created_and_duplicate_are_counted_and_timed(make: MakeApp, request: pytest.FixtureRequest) -> None:
    """A latency for every call, in milliseconds, under the names that the settings give."""
    app = make(POWERTOOLS_SERVICE_NAME=request.node.name, POWERTOOLS_METRICS_NAMESPACE="Elsewhere")

    lines = printed_by(app, STANDARD, STANDARD)

    metrics = [m for line in lines for m in line.get("_aws", {}).get("CloudWatchMetrics", [])]
    latencies = [latency for line in lines for latency in line.get("CreateLatencyMs", [])]
    assert counted(lines) == {("Created",): 1, ("Duplicate",): 1}
    assert {metric["Namespace"] for metric in metrics} == {"Elsewhere"}
    assert len(latencies) == 1


def test_the_log_level_of_the_settings_holds(make: MakeApp, request: pytest.FixtureRequest) -> None:
    """From WARNING on, results are not logged; they are counted all the same."""
    app = make(POWERTOOLS_SERVICE_NAME=request.node.name, POWERTOOLS_LOG_LEVEL="warning")

    lines = printed_by(app, STANDARD)

    assert logged(lines) == []
    assert counted(lines) == {("Created",): 1}


def test_nothing_of_a_delivery_that_waits_is_lost_between_processes(
    make: MakeApp, emulator: Emulator, tmp_path: Path
) -> None:
    """Another process, with the same ledger, tells the same of it."""
    ledger = f"sqlite://{tmp_path}/ledger.sqlite"
    emulator.script(Throttle(1000))
    first = one(make(ONCETASK_LEDGER=ledger), STANDARD)

    again = one(make(ONCETASK_LEDGER=ledger), STANDARD)

    assert again == first


def test_events_carry_their_route_and_request_into_the_ledger(app: App) -> None:
    """The record is all that the sweep has."""
    result = one(app, signed("grafana", {"alerts": [ALERT]}))

    event = app.ledger.event(result["event_id"])

    assert isinstance(event, Event)
    assert (event.route, event.status, event.due_s) == ("grafana", Status.PENDING, NOW_S)
    assert event.request.param == {"mode": 1, "problemType": "offline", "uuids": "inet-1"}
