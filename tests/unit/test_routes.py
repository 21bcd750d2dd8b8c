"""What `oncetask.routing` promises: a file checked at start, and payloads that become events by its rules."""

import contextlib
import hashlib
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from oncetask.errors import Code, Kind, Rejection, SettingsError
from oncetask.ledger.records import Event
from oncetask.models import TASK_TYPES, Result, Status, Trigger
from oncetask.routing.events import EVENT_ID_BYTES, Origin, events_of_route, events_of_tasks
from oncetask.routing.expressions import Expression
from oncetask.routing.requests import PARAM_LEVELS, REQUEST_LINE_BYTES
from oncetask.routing.routes import DAY_S, WEEK_S, Route, Routes, load_routes

NOW_S = 1_795_500_000.0
TICK = Origin(Trigger.TIMER, "timer:r:2026-11-24T05:00:00Z", "r", NOW_S)
DELIVERY = Origin(Trigger.WEBHOOK, "webhook:r:d-1", "r", NOW_S)
BODY_HASH = Origin(Trigger.WEBHOOK, "webhook:r:sha256-ab", "r", NOW_S, by_body_hash=True)

TIMER = 'trigger = "timer"\ntask_type = "IMAGE_SCAN"\n'
DIRECT = 'trigger = "timer"\ndirect = true\n'
WEBHOOK = 'trigger = "webhook"\ntask_type = "IMAGE_SCAN"\n'
HOSTS_BY_WEBHOOK = 'trigger = "webhook"\ntask_type = "CLIENT_DEV_OPS"\n'
DIRECT_BY_WEBHOOK = 'trigger = "webhook"\ndirect = true\n'


@pytest.fixture
def load(tmp_path: Path) -> Callable[[str | bytes], Routes]:
    """`load(text)`: the routes of a file `some.toml` that holds this."""

    def load(text: str | bytes) -> Routes:
        path = tmp_path / "some.toml"
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        return load_routes(path, TASK_TYPES)

    return load


def route(**keys: object) -> Route:
    """A route named `r` of these keys; a timer's IMAGE_SCAN where they do not say otherwise."""
    given: dict[str, Any] = {"name": "r", "trigger": "timer"} | keys
    if not given.get("direct"):
        given.setdefault("task_type", "IMAGE_SCAN")
    if given["trigger"] == "webhook":
        given.setdefault("verify", {"scheme": "none"})
    return Route.model_validate(given, context={"task_types": TASK_TYPES})


def only_event(made: list[Event | Result]) -> Event:
    """The one event that was made."""
    assert len(made) == 1
    assert isinstance(made[0], Event), made[0]
    return made[0]


def param_of(r: Route, payload: object) -> dict[str, Any]:
    """The Param that the route asks with for this payload."""
    return only_event(events_of_route(r, payload, TICK)).request.param


def code_of(made: list[Event | Result]) -> str:
    """The code of the one result, which is `rejected` and the sender's."""
    assert len(made) == 1
    (result,) = made
    assert isinstance(result, Result), result
    assert result.status is Status.REJECTED
    assert result.error is not None
    assert result.error.kind is Kind.SENDER
    return result.error.code


def nested(levels: int) -> Any:  # noqa: ANN401 - JSON
    """An object of that many levels."""
    value: Any = {}
    for _ in range(levels - 1):
        value = {"a": value}
    return value


# --- the file


def test_the_contracts_example_is_understood(load: Callable[[str], Routes]) -> None:
    """Every key of it, and the defaults of those left out."""
    routes = load(EXAMPLE)

    nightly, offline = routes["nightly-assets"], routes["agent-offline"]
    assert (nightly.trigger, nightly.task_type, nightly.submit) == ("timer", "ASSETS_COLLECTION", "now")
    assert (nightly.task_name, nightly.source, nightly.target_key) == (None, "oncetask", "uuids")
    assert (nightly.max_targets, nightly.expire_s, nightly.direct) == (100, WEEK_S, False)
    assert (nightly.remembered_s(), nightly.remembered_s(by_body_hash=True)) == (WEEK_S, DAY_S)
    assert (offline.submit, offline.param) == ("sweep", {"mode": 1, "problemType": "offline"})
    assert offline.verify is not None
    assert offline.verify.scheme == "bearer"


def test_a_routes_own_memory_holds_for_every_id(load: Callable[[str], Routes]) -> None:
    """Also where the id is a body's hash."""
    kept = load(f"[routes.r]\n{TIMER}keep_s = 600\n")["r"]

    assert (kept.remembered_s(), kept.remembered_s(by_body_hash=True)) == (600, 600)


def test_a_file_without_routes_is_one(load: Callable[[str], Routes]) -> None:
    """Inline tasks need none."""
    assert load("") == {}


WRONG_FILES = [
    ("x = [", "some.toml: this is no TOML"),
    ("\n\nx = @", "some.toml: this is no TOML (line 3)"),
    ("x = " + "9" * 5000, "some.toml: this is no TOML"),
    ("x = " + "[" * 5000 + "]" * 5000, "some.toml: this is no TOML"),
    ("top = 1", "some.toml: top: "),
    ('"to\\np" = 1', "some.toml: 'to\\np': "),
    ("routes = 1", "some.toml: routes: "),
    ("[routes]\nr = 1", "some.toml: routes.r: "),
    (f"[routes.Big]\n{TIMER}", "some.toml: routes.Big: "),
    (f'[routes."a\\nb"]\n{TIMER}', "some.toml: routes.'a\\nb': "),
    (f"[routes.{'a' * 65}]\n{TIMER}", "some.toml: routes.'aaa"),
]


@pytest.mark.parametrize(("text", "beginning"), WRONG_FILES)
def test_a_file_that_holds_no_routes_is_refused_in_one_line(
    load: Callable[[str], Routes], text: str, beginning: str
) -> None:
    """Which names the file, and the place where there is one."""
    with pytest.raises(SettingsError) as refused:
        load(text)

    assert str(refused.value).startswith(beginning)
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 250


@pytest.mark.parametrize("text", [b"\xff", None])
def test_a_file_that_cannot_be_read_is_named_by_its_variable(
    load: Callable[[bytes], Routes], tmp_path: Path, text: bytes | None
) -> None:
    """Its path is the variable's value, and so is not shown."""
    with pytest.raises(SettingsError) as refused:
        load(text) if text else load_routes(tmp_path / "atlantis.toml", TASK_TYPES)

    assert str(refused.value).startswith("ONCETASK_ROUTES must be ")
    assert "atlantis" not in str(refused.value)


WRONG_ROUTES = [
    ("trigger", 'task_type = "IMAGE_SCAN"'),
    ("trigger", 'trigger = "atlantis"\ntask_type = "IMAGE_SCAN"'),
    ("task_type", 'trigger = "timer"'),
    ("task_type", 'trigger = "timer"\ntask_type = "ATLANTIS"'),
    ("task_type", 'trigger = "timer"\ntask_type = 7'),
    ("atlantis_key", f"{TIMER}atlantis_key = 1"),
    ("'odd\\nkey'", f'{TIMER}"odd\\nkey" = 1'),
    ("name", f'{TIMER}name = "atlantis"'),
    ("task_name", f'{TIMER}task_name = ""'),
    ("source", f"{TIMER}source = 2026-11-24"),
    ("when", f'{TIMER}when = "atlantis ="'),
    ("when", f'{TIMER}when = ""'),
    ("when", f"{TIMER}when = true"),
    ("when", f'{TIMER}when = "{"(" * 3000}a{")" * 3000}"'),
    ("each", f'{TIMER}each = "atlantis(@)"'),
    ("each", f'{TIMER}each = "sort_by(@)"'),
    ("id", f'{TIMER}id = "[{"9" * 5000}]"'),
    ("id", f'''{TIMER}id = "join('/')"'''),
    ("targets", f'{TIMER}targets = "length(@, @)"'),
    ("targets", f'{TIMER}targets = "a[?sort_by(b, c)]"'),
    ("targets", f'{TIMER}targets = "&atlantis"'),
    ("target_key", f'{TIMER}target_key = ""'),
    ("target_key", f'{TIMER}targets = "a"\nparam = {{uuids = "atlantis"}}'),
    ("target_key", f'{TIMER}targets = "a"\ntarget_key = "k"\nparam_from = {{k = "b"}}'),
    ("max_targets", f"{TIMER}max_targets = 0"),
    ("max_targets", f"{TIMER}max_targets = true"),
    ("max_targets", f'{TIMER}max_targets = "77123"'),
    ("param", f"{TIMER}param = 77123"),
    ("param.at", f"{TIMER}param = {{at = 2026-11-24}}"),
    ("param.deep", f"{TIMER}param = {{deep = [{{x = nan}}]}}"),
    ("param.big", f"{TIMER}param = {{big = inf}}"),
    ("param_from.x", f'{TIMER}param_from = {{x = "atlantis ="}}'),
    ("param_from.token", f'{TIMER}param_from = {{token = "not_null(&a)"}}'),
    ("submit", f'{TIMER}submit = "atlantis"'),
    ("direct", f"{TIMER}direct = 1"),
    ("allow", DIRECT),
    ("allow", f"{DIRECT}allow = []"),
    ("allow.1", f'{DIRECT}allow = ["IMAGE_SCAN", "ATLANTIS"]'),
    *(
        (line.split(" ")[0], f'{DIRECT}allow = ["IMAGE_SCAN"]\n{line}')
        for line in (
            'task_type = "IMAGE_SCAN"',
            'task_name = "atlantis"',
            'source = "atlantis"',
            'targets = "a"',
            'target_key = "uuids"',
            "max_targets = 100",
            "param = {}",
            "param_from = {}",
        )
    ),
    ("keep_s", f"{TIMER}keep_s = 599"),
    ("keep_s", f"{TIMER}keep_s = 1_000_000_000_000_000_000_000"),
    ("keep_s", f"{TIMER}keep_s = 1e4"),
    ("expire_s", f"{TIMER}expire_s = 0"),
    ("verify", WEBHOOK),
    ("verify", f'{TIMER}verify = {{scheme = "none"}}'),
    ("verify", f'{WEBHOOK}verify = "none"'),
    ("verify", f'{WEBHOOK}verify = {{secrets = ["env:A"]}}'),
    ("verify", f'{WEBHOOK}verify = {{scheme = "atlantis"}}'),
    ("verify.secrets.0", f'{WEBHOOK}verify = {{scheme = "bearer", secrets = ["atlantis"]}}'),
    ("verify.secrets", f'{WEBHOOK}verify = {{scheme = "token", header = "x"}}'),
    ("verify", f'{HOSTS_BY_WEBHOOK}verify = {{scheme = "none"}}'),
    ("verify", f'{HOSTS_BY_WEBHOOK}verify = {{scheme = "token", parameter = "t", secrets = ["env:A"]}}'),
    ("verify", f'{HOSTS_BY_WEBHOOK}verify = {{scheme = "bearer", secrets = ["env:A"]}}'),
    ("verify", f'{HOSTS_BY_WEBHOOK}verify = {{scheme = "github", secrets = ["env:A"]}}'),
    ("verify", f'{HOSTS_BY_WEBHOOK}verify = {{scheme = "slack", tolerance_s = 301, secrets = ["env:A"]}}'),
    (
        "verify.tolerance_s",
        f'{WEBHOOK}verify = {{scheme = "slack", tolerance_s = 86401, secrets = ["env:A"]}}',
    ),
    ("target_key", f'{TIMER}param_from = {{uuids = "a"}}'),
    ("verify", f'{DIRECT_BY_WEBHOOK}allow = ["CLIENT_DEV_OPS"]\nverify = {{scheme = "none"}}'),
    ("allow", 'trigger = "timer"\ntask_type = "CLIENT_DEV_OPS"\ntargets = "a"'),
    ("allow", 'trigger = "timer"\ntask_type = "CLIENT_DEV_OPS"\nparam_from = {command = "a"}'),
]


@pytest.mark.parametrize(("key", "table"), WRONG_ROUTES)
def test_a_wrong_route_is_refused_in_one_line_that_names_file_route_and_key(
    load: Callable[[str], Routes], key: str, table: str
) -> None:
    """And never shows the value."""
    with pytest.raises(SettingsError) as refused:
        load(f"[routes.fine]\n{TIMER}[routes.bad]\n{table}\n")

    line = str(refused.value)
    assert line.startswith(f"some.toml: routes.bad: {key}: ")
    assert "\n" not in line
    assert (
        "atlantis" not in line.removeprefix(f"some.toml: routes.bad: {key}").replace("atlantis()", "").lower()
    )
    assert "77123" not in line


@pytest.mark.parametrize(
    "table",
    [
        'trigger = "timer"\ntask_type = "CLIENT_DEV_OPS"\nparam = {command = "x"}',
        'trigger = "timer"\ntask_type = "CLIENT_DEV_OPS"\ntargets = "a"\nallow = ["CLIENT_DEV_OPS"]',
        'trigger = "timer"\ndirect = true\nallow = ["CLIENT_DEV_OPS"]',
        f'{HOSTS_BY_WEBHOOK}verify = {{scheme = "slack", secrets = ["env:A"]}}',
        f'{WEBHOOK}allow = ["CLIENT_DEV_OPS"]\nverify = {{scheme = "none"}}',
        f'{TIMER}when = "@"\neach = "sort_by(map(&a, b), &c)"\nid = "not_null(x, y, z)"',
        f'{TIMER}param = {{none = "x", deep = {{list = [1, 2.5, true, {{}}]}}}}',
    ],
)
def test_a_right_route_is_taken(load: Callable[[str], Routes], table: str) -> None:
    """Guards stand only where something would get past them."""
    assert list(load(f"[routes.r]\n{table}\n")) == ["r"]


def test_a_newer_task_type_is_known_once_it_is_listed(tmp_path: Path) -> None:
    """For routes and for what direct routes allow."""
    path = tmp_path / "routes.toml"
    path.write_text('[routes.r]\ntrigger = "timer"\ntask_type = "NEW_SCAN"\nallow = ["NEW_SCAN"]\n')

    assert load_routes(path, (*TASK_TYPES, "NEW_SCAN"))["r"].task_type == "NEW_SCAN"


def test_even_the_models_own_error_hides_the_value() -> None:
    """A traceback may reach a log."""
    with pytest.raises(ValidationError) as refused:
        Route.model_validate(
            {"name": "r", "trigger": "webhook", "verify": {"scheme": "bearer", "secrets": ["atlantis"]}}
        )

    assert "atlantis" not in str(refused.value)


# --- when and each


@pytest.mark.parametrize("payload", [{}, {"go": False}, {"go": None}, {"go": "true"}, {"go": 1}, {"go": [1]}])
def test_only_exactly_true_lets_a_route_act(payload: object) -> None:
    """What is merely truthy does not."""
    (result,) = events_of_route(route(when="go"), payload, TICK)

    assert isinstance(result, Result)
    assert (result.status, result.event_id, result.route) == (Status.IGNORED, TICK.base_id, "r")
    assert result.error is None


@pytest.mark.parametrize("items", [None, []])
def test_no_items_are_one_ignored_result(items: object) -> None:
    """Whether the list is empty or missing."""
    (result,) = events_of_route(route(each="items"), {"items": items}, TICK)

    assert isinstance(result, Result)
    assert result.status is Status.IGNORED


@pytest.mark.parametrize("items", [{"a": 1}, "text", 7, True])
def test_each_that_gives_no_list_fails(items: object) -> None:
    """The payload as a whole is rejected."""
    with pytest.raises(Rejection) as rejected:
        events_of_route(route(each="items"), {"items": items}, TICK)

    assert rejected.value.code is Code.EXPRESSION_FAILED


def test_too_many_items_are_told_before_any_is_made() -> None:
    """Where the caller has a bound."""
    with pytest.raises(Rejection) as rejected:
        events_of_route(route(each="items"), {"items": [1, 2, 3]}, TICK, most_items=2)

    assert rejected.value.code is Code.TOO_MANY_ITEMS
    assert len(events_of_route(route(each="items"), {"items": [1, 2]}, TICK, most_items=2)) == 2


FAILING = [
    ("length(@)", 7),
    ("sort(@)", [1, "a"]),
    ("max(@)", [{"a": 1}]),
    ("sum(@)", [1, None]),
    ("sum(@)", [1e308, 10**400]),
    ("join('/', @)", ["a", 1]),
    ("sort_by(@, &a)", [{"a": 1}, {"a": "x"}]),
    ("max_by(@, &a)", [{"a": None}]),
    ("floor(to_number(@))", "inf"),
    ("ceil(to_number(@))", "nan"),
    ("@[::0]", [1, 2]),
    ("keys(@)", None),
    ("starts_with(@, 'a')", {}),
]


@pytest.mark.parametrize(("text", "value"), FAILING)
def test_whatever_jmespath_raises_is_a_rejection(text: str, value: object) -> None:
    """Its own errors, and Python's that its functions let through."""
    with pytest.raises(Rejection) as rejected:
        Expression(text).search(value)

    assert rejected.value.code is Code.EXPRESSION_FAILED


def test_a_failing_item_does_not_hold_up_the_others() -> None:
    """Each has a result of its own, in order."""
    made = events_of_route(
        route(each="@", targets="uuid", param={"mode": 1}),
        [{"uuid": "a"}, {"uuid": 7}, {"uuid": "c"}],
        TICK,
    )

    assert [one.status for one in made] == ["pending", "rejected", "pending"]
    assert [one.event_id for one in made] == [f"{TICK.base_id}/{index}" for index in range(3)]


# --- ids


@pytest.mark.parametrize(
    ("keys", "origin", "expected"),
    [
        ({}, TICK, ["timer:r:2026-11-24T05:00:00Z"]),
        ({"id": "k"}, TICK, ["timer:r:2026-11-24T05:00:00Z"]),
        ({"each": "items"}, TICK, [f"{TICK.base_id}/0", f"{TICK.base_id}/1"]),
        ({"each": "items", "id": "k"}, TICK, [f"{TICK.base_id}/x", f"{TICK.base_id}/7"]),
        ({"trigger": "webhook"}, DELIVERY, ["webhook:r:d-1"]),
        ({"trigger": "webhook", "each": "items"}, DELIVERY, ["webhook:r:d-1/0", "webhook:r:d-1/1"]),
        ({"trigger": "webhook", "id": "k"}, DELIVERY, ["webhook:r:own"]),
        ({"trigger": "webhook", "each": "items", "id": "k"}, DELIVERY, ["webhook:r:x", "webhook:r:7"]),
        ({"trigger": "webhook"}, BODY_HASH, ["webhook:r:sha256-ab"]),
        (
            {"trigger": "webhook", "each": "items"},
            BODY_HASH,
            ["webhook:r:sha256-ab/0", "webhook:r:sha256-ab/1"],
        ),
    ],
)
def test_ids_are_made_as_documented(keys: dict[str, Any], origin: Origin, expected: list[str]) -> None:
    """Base, own id, index."""
    made = events_of_route(route(**keys), {"k": "own", "items": [{"k": "x"}, {"k": 7}]}, origin)

    assert [one.event_id for one in made] == expected


@pytest.mark.parametrize(
    ("found", "shown"),
    [("a/b", "a/b"), (" ", " "), (0, "0"), (-7, "-7"), (1.5, "1.5"), (10**30, str(10**30))],
)
def test_an_own_id_is_a_text_or_a_number(found: object, shown: str) -> None:
    """Shown as JSON shows it."""
    made = events_of_route(route(trigger="webhook", id="k"), {"k": found}, DELIVERY)

    assert only_event(made).event_id == f"webhook:r:{shown}"


@pytest.mark.parametrize(
    ("found", "code"),
    [
        (None, "NoEventId"),
        ("", "NoEventId"),
        (True, "ExpressionFailed"),
        (False, "ExpressionFailed"),
        ([], "ExpressionFailed"),
        ({"a": 1}, "ExpressionFailed"),
        (float("nan"), "ExpressionFailed"),
        (float("inf"), "ExpressionFailed"),
    ],
)
def test_what_is_no_id_is_rejected(found: object, code: str) -> None:
    """An event without identity could not be told from its own repetition."""
    made = events_of_route(route(trigger="webhook", id="k"), {"k": found}, DELIVERY)

    assert code_of(made) == code
    assert made[0].event_id is None


@pytest.mark.parametrize("own", ["a\0b", "a\nb", "\x1b[31m", "\x7f", "\x9b", "\ud800"])
def test_an_id_that_no_terminal_should_meet_is_replaced_by_its_hash(own: str) -> None:
    """Control characters, C1 ones too, and lone surrogates."""
    made = events_of_route(route(trigger="webhook", id="k"), {"k": own}, DELIVERY)

    whole = f"webhook:r:{own}".encode("utf-8", "surrogatepass")
    assert made[0].event_id == f"webhook:r:sha256-{hashlib.sha256(whole).hexdigest()}"


@pytest.mark.parametrize("own", ["x" * 502, "x" * 503, "é" * 251, "é" * 252])
def test_an_id_over_512_bytes_is_replaced_by_its_hash(own: str) -> None:
    """Bytes of UTF-8, not letters; and the hash is the whole id's."""
    whole = f"webhook:r:{own}"

    found = only_event(events_of_route(route(trigger="webhook", id="k"), {"k": own}, DELIVERY)).event_id

    hashed = f"webhook:r:sha256-{hashlib.sha256(whole.encode()).hexdigest()}"
    assert found == (whole if len(whole.encode()) <= 512 else hashed)


def test_items_are_compared_under_a_delivery_id_and_not_under_their_own() -> None:
    """By their content, whatever the order of its keys."""
    by_delivery = route(trigger="webhook")
    by_own = route(trigger="webhook", id="k")

    first = only_event(events_of_route(by_delivery, {"k": "1", "a": 1}, DELIVERY))
    second = only_event(events_of_route(by_delivery, {"a": 1, "k": "1"}, DELIVERY))
    other = only_event(events_of_route(by_delivery, {"a": 2, "k": "1"}, DELIVERY))
    own = only_event(events_of_route(by_own, {"k": "1", "a": 1}, DELIVERY))

    assert first.item_sha256 == second.item_sha256 != other.item_sha256
    assert (own.first_wins, first.first_wins) == (True, False)


def test_an_item_that_has_no_json_text_is_not_understood() -> None:
    """Without one it could not be told from another under the same id."""
    made = events_of_route(route(), {"n": 10**5000}, TICK)

    assert code_of(made) == "EventNotUnderstood"


def test_what_changes_with_every_delivery_is_no_part_of_the_item() -> None:
    """A rule that EventBridge runs twice for one tick is the same tick."""
    origin = Origin(Trigger.TIMER, "timer:r:T", "r", NOW_S, changing_keys=frozenset({"id"}))

    first = only_event(events_of_route(route(), {"id": "1", "a": 1}, origin))
    second = only_event(events_of_route(route(), {"id": "2", "a": 1}, origin))
    other = only_event(events_of_route(route(), {"id": "1", "a": 2}, origin))

    assert first.item_sha256 == second.item_sha256 != other.item_sha256


@pytest.mark.parametrize(
    ("keys", "origin", "keep_s"),
    [
        ({}, TICK, WEEK_S),
        ({"trigger": "webhook"}, DELIVERY, WEEK_S),
        ({"trigger": "webhook"}, BODY_HASH, DAY_S),
        ({"trigger": "webhook", "id": "'k'"}, BODY_HASH, WEEK_S),
        ({"trigger": "webhook", "keep_s": 600}, BODY_HASH, 600),
    ],
)
def test_how_long_an_id_is_remembered_depends_on_what_it_is(
    keys: dict[str, Any], origin: Origin, keep_s: int
) -> None:
    """A body's hash for a day, every other for a week, unless the route says otherwise."""
    assert only_event(events_of_route(route(**keys), {}, origin)).keep_s == keep_s


def test_an_event_is_given_up_after_the_routes_time() -> None:
    """Counted from when it was received."""
    event = only_event(events_of_route(route(expire_s=60), {}, TICK))

    assert (event.received_s, event.give_up_s) == (NOW_S, NOW_S + 60)


# --- requests


def test_param_holds_literals_and_what_expressions_find() -> None:
    """Null leaves the key out; false, zero and the empty text are values."""
    r = route(
        param={"a": 1}, param_from={"b": "x", "c": "nothing", "d": "no", "e": "zero", "f": "empty", "g": "@"}
    )
    payload = {"x": [1, {"y": None}], "no": False, "zero": 0, "empty": ""}

    expected = {"a": 1, "b": [1, {"y": None}], "d": False, "e": 0, "f": "", "g": payload}
    assert param_of(r, payload) == expected


def test_a_routes_param_is_not_changed_by_its_events() -> None:
    """The second payload meets the same route."""
    r = route(targets="u", param={"a": {}}, param_from={"b": "b"})

    assert param_of(r, {"u": "one", "b": 1}) == {"a": {}, "b": 1, "uuids": "one"}
    assert param_of(r, {"u": "two"}) == {"a": {}, "uuids": "two"}


def test_name_and_source_are_the_routes_own_or_the_defaults() -> None:
    """The task type, and `oncetask`."""
    plain = only_event(events_of_route(route(), {}, TICK)).request
    named = only_event(events_of_route(route(task_name="n", source="s"), {}, TICK)).request

    assert (plain.task_name, plain.source) == ("IMAGE_SCAN", "oncetask")
    assert (named.task_name, named.source) == ("n", "s")


@pytest.mark.parametrize(
    ("found", "joined"),
    [
        ("a", "a"),
        (" a , b,,c\n", "a,b,c"),
        (["b", "a", "b"], "b,a"),
        (["a,b", " b ", "c"], "a,b,c"),
        ("A1._:-", "A1._:-"),
        ("x" * 128, "x" * 128),
    ],
)
def test_targets_are_split_trimmed_unique_and_in_order(found: object, joined: str) -> None:
    """Under the route's target key."""
    assert param_of(route(targets="u", target_key="ids"), {"u": found}) == {"ids": joined}


@pytest.mark.parametrize(
    ("found", "code"),
    [
        (None, "NoTargets"),
        ("", "NoTargets"),
        (" , ,", "NoTargets"),
        ([], "NoTargets"),
        (["", " "], "NoTargets"),
        ("a b", "BadTarget"),
        ("é", "BadTarget"),
        ("\u0663", "BadTarget"),
        ("\ud800", "BadTarget"),
        ("a/b", "BadTarget"),
        ("x" * 129, "BadTarget"),
        (7, "ExpressionFailed"),
        (True, "ExpressionFailed"),
        ({"a": "b"}, "ExpressionFailed"),
        (["a", 7], "ExpressionFailed"),
        (["a", None], "ExpressionFailed"),
        (["a", ["b"]], "ExpressionFailed"),
        (["a", "b", "c"], "TooManyTargets"),
        ("a,b,c", "TooManyTargets"),
    ],
)
def test_what_is_no_target_is_rejected_by_its_code(found: object, code: str) -> None:
    """Nothing reaches the wire that a target cannot be."""
    assert code_of(events_of_route(route(targets="u", max_targets=2), {"u": found}, TICK)) == code


def test_repeated_targets_count_once() -> None:
    """For `max_targets` too."""
    assert param_of(route(targets="u", max_targets=1), {"u": "a,a,a"}) == {"uuids": "a"}


BAD_PARAMS = [
    ("CLIENT_PROBLEM_CHECK", {}),
    ("CLIENT_PROBLEM_CHECK", {"problemType": "x", "uuids": "u"}),
    ("CLIENT_PROBLEM_CHECK", {"mode": "1", "problemType": "x", "uuids": "u"}),
    ("CLIENT_PROBLEM_CHECK", {"mode": True, "problemType": "x", "uuids": "u"}),
    ("CLIENT_PROBLEM_CHECK", {"mode": 1.0, "problemType": "x", "uuids": "u"}),
    ("CLIENT_PROBLEM_CHECK", {"mode": 1, "problemType": "", "uuids": "u"}),
    ("CLIENT_PROBLEM_CHECK", {"mode": 1, "problemType": ["x"], "uuids": "u"}),
    ("CLIENT_PROBLEM_CHECK", {"mode": 1, "problemType": "x", "uuids": " "}),
    ("CLIENT_PROBLEM_CHECK", {"mode": 1, "problemType": "x"}),
    ("ASSETS_COLLECTION", {}),
    ("ASSETS_COLLECTION", {"items": ""}),
    ("ASSETS_COLLECTION", {"items": ["PORT_SNAPSHOT"]}),
    ("IMAGE_SCAN", {"x": float("nan")}),
    ("IMAGE_SCAN", {"x": [float("-inf")]}),
    ("IMAGE_SCAN", {"x": 10**5000}),
    ("IMAGE_SCAN", {"x": "\ud800"}),
    ("IMAGE_SCAN", {"\ud800": 1}),
    ("IMAGE_SCAN", {"a": {"\ud800": 1}}),
    ("IMAGE_SCAN", nested(PARAM_LEVELS + 1)),
    ("IMAGE_SCAN", "no object"),
    ("IMAGE_SCAN", "[1]"),
    ("IMAGE_SCAN", '{"a": NaN}'),
    ("IMAGE_SCAN", '{"a": 1e999}'),
    ("IMAGE_SCAN", "[" * 100_000),
    ("IMAGE_SCAN", ""),
    ("IMAGE_SCAN", [1]),
    ("IMAGE_SCAN", 7),
    ("IMAGE_SCAN", None),
]


@pytest.mark.parametrize(("task_type", "param"), BAD_PARAMS, ids=range(len(BAD_PARAMS)))
def test_a_param_that_cannot_work_is_bad(task_type: str, param: object) -> None:
    """Known shapes are checked; the rest must be an object that JSON, the wire and the ledger can carry."""
    made = events_of_route(
        route(direct=True, allow=[task_type]), {"TaskType": task_type, "Param": param}, TICK
    )

    assert code_of(made) == "BadParam"


@pytest.mark.parametrize(
    ("task_type", "param"),
    [
        ("CLIENT_PROBLEM_CHECK", {"mode": 0, "problemType": "x", "uuids": "u", "more": None}),
        ("ASSETS_COLLECTION", {"items": "PORT_SNAPSHOT"}),
        ("IMAGE_SCAN", {}),
        ("IMAGE_SCAN", {"any": [1, 2.5, None, True, {"thing": "ö"}]}),
        ("IMAGE_SCAN", nested(PARAM_LEVELS)),
    ],
)
def test_param_may_come_as_an_object_or_as_its_json_text(task_type: str, param: dict[str, Any]) -> None:
    """Either way the request holds the object."""
    direct = route(direct=True, allow=[task_type])

    for given_param in (param, json.dumps(param)):
        made = events_of_route(direct, {"TaskType": task_type, "Param": given_param}, TICK)
        assert only_event(made).request.param == param


@pytest.mark.parametrize(
    "item",
    [
        *(None, [], "text", 7, {}),
        {"Param": {}},
        {"TaskType": "", "Param": {}},
        {"TaskType": 7, "Param": {}},
        {"TaskType": "IMAGE_SCAN", "TaskName": 7, "Param": {}},
        {"TaskType": "IMAGE_SCAN", "TaskName": "", "Param": {}},
        {"TaskType": "IMAGE_SCAN", "Source": ["x"], "Param": {}},
    ],
)
def test_an_item_that_is_no_request_is_not_understood(item: object) -> None:
    """In a direct route as inline."""
    direct = route(direct=True, allow=["IMAGE_SCAN"])

    assert code_of(events_of_route(direct, item, TICK)) == "EventNotUnderstood"
    assert code_of(events_of_tasks([item], TASK_TYPES, TICK)) == "EventNotUnderstood"


def test_a_direct_item_may_carry_its_own_id() -> None:
    """Keys beside the request's are let pass, so that `id` has something to find."""
    direct = route(trigger="webhook", direct=True, allow=["IMAGE_SCAN"], id="ticket")
    item = {"TaskType": "IMAGE_SCAN", "TaskName": "n", "Source": "s", "Param": {}, "ticket": 77}

    event = only_event(events_of_route(direct, item, DELIVERY))

    assert event.event_id == "webhook:r:77"
    assert (event.request.task_name, event.request.source) == ("n", "s")


def test_a_direct_route_asks_only_for_what_it_allows() -> None:
    """Whatever the item says."""
    direct = route(direct=True, allow=["IMAGE_SCAN"])
    made = events_of_route(direct, {"TaskType": "CLIENT_DEV_OPS", "Param": {}}, TICK)

    assert code_of(made) == "TaskTypeNotAllowed"


def test_inline_tasks_may_have_any_known_type_and_no_other() -> None:
    """A malformed one does not hold up the others; each has its index in its id."""
    tasks = [{"TaskType": "VUL_CHECK_TASK", "Param": {}}, 7, {"TaskType": "ATLANTIS", "Param": {}}]

    fine, malformed, unknown = events_of_tasks(tasks, TASK_TYPES, TICK)

    assert isinstance(fine, Event)
    assert (fine.event_id, fine.route, fine.submit) == (f"{TICK.base_id}/0", None, "now")
    assert code_of([malformed]) == "EventNotUnderstood"
    assert malformed.event_id == f"{TICK.base_id}/1"
    assert code_of([unknown]) == "TaskTypeNotAllowed"


def test_inline_tasks_may_not_run_operations_on_hosts() -> None:
    """Nobody vouches for what stands in a tick; the others beside it go on."""
    tasks = [
        {"TaskType": "CLIENT_DEV_OPS", "Param": {"uuids": "inet-1"}},
        {"TaskType": "IMAGE_SCAN", "Param": {}},
    ]

    refused, fine = events_of_tasks(tasks, TASK_TYPES, TICK)

    assert code_of([refused]) == "TaskTypeNotAllowed"
    assert isinstance(fine, Event)


@pytest.mark.parametrize("letter", ["x", "é", " ", "&"])
def test_the_longest_request_line_is_8000_bytes(letter: str) -> None:
    """As it is encoded for the wire; one more is too large."""
    r = route(param_from={"k": "k"})
    step = param_line_bytes(r, letter * 2) - param_line_bytes(r, letter)
    most = (REQUEST_LINE_BYTES - param_line_bytes(r, "")) // step

    assert param_line_bytes(r, letter * most) <= REQUEST_LINE_BYTES
    assert code_of(events_of_route(r, {"k": letter * (most + 1)}, TICK)) == "RequestTooLarge"


def param_line_bytes(r: Route, text: str) -> int:
    """The request line's bytes with this text in Param."""
    return only_event(events_of_route(r, {"k": text}, TICK)).request.line_bytes()


@pytest.mark.parametrize(
    ("keys", "coalesces"),
    [
        ({"submit": "sweep", "targets": "u"}, True),
        ({"submit": "now", "targets": "u"}, False),
        ({"submit": "sweep"}, False),
    ],
)
def test_only_a_sweeps_route_with_targets_coalesces(keys: dict[str, Any], coalesces: bool) -> None:  # noqa: FBT001
    """Every other event is a task of its own."""
    event = only_event(events_of_route(route(**keys), {"u": "a"}, TICK))

    assert event.coalesces is coalesces


def test_no_rejection_repeats_what_the_sender_sent() -> None:
    """Messages go to logs; payloads do not."""
    payload = {"s": "atlantis!", "b": ["atlantis!"], "TaskType": "atlantis!"}
    makers = [
        route(targets="s"),
        route(id="b", trigger="webhook"),
        route(direct=True, allow=["IMAGE_SCAN"]),
    ]

    results = [one for r in makers for one in events_of_route(r, payload, DELIVERY)]

    assert [one.status for one in results] == ["rejected"] * 3
    assert "atlantis" not in str([one.error for one in results])


# --- laws

odd_texts = st.text(max_size=12) | st.sampled_from(["a", "a,b", "\ud800", "x" * 600, "firing"])
payloads = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | odd_texts,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["a", "b", "c", "TaskType", "Param", "\ud800"]), inner, max_size=4)
    ),
    max_leaves=12,
)
expressions = st.sampled_from(
    [
        *("@", "a", "a.b", "a[]", "[a, b]", "{x: a, y: b}", "length(@)", "keys(@)", "values(a)", "a || b"),
        *("to_number(a)", "to_string(@)", "sort(a)", "sum(a)", "a == b", "join(',', a)", "`NaN`", "[*].a"),
        *("max_by(a, &b)", "map(&a, b)", "a[::0]", "a[?b > `1`]", "type(a)", "not_null(a, b)", "reverse(a)"),
    ]
)
optional = st.none() | expressions


@st.composite
def routes(draw: st.DrawFn) -> Route:
    """Any valid route."""
    keys: dict[str, Any] = {"trigger": draw(st.sampled_from(["timer", "webhook"]))}
    for key in ("when", "each", "id"):
        if (text := draw(optional)) is not None:
            keys[key] = text
    if draw(st.booleans()):
        return route(**keys, direct=True, allow=["IMAGE_SCAN", "CLIENT_PROBLEM_CHECK"])
    if (targets := draw(optional)) is not None:
        keys |= {"targets": targets, "max_targets": draw(st.integers(1, 3))}
    param_from = draw(st.dictionaries(st.sampled_from(["k", "items", "mode"]), expressions, max_size=2))
    task_type = draw(st.sampled_from(["IMAGE_SCAN", "ASSETS_COLLECTION", "CLIENT_PROBLEM_CHECK"]))
    param = {"mode": 1, "problemType": "offline", "items": "PORT_SNAPSHOT"}
    param |= {} if "targets" in keys else {"uuids": "inet-1"}
    return route(**keys, param=param, param_from=param_from, task_type=task_type)


def outcome(r: Route, payload: object) -> list[Event | Result] | Code:
    """What becomes of the payload; nothing but a Rejection may be raised."""
    try:
        return events_of_route(r, payload, TICK if r.trigger == "timer" else DELIVERY)
    except Rejection as error:
        return error.code


@given(routes(), payloads)
def test_any_payload_is_an_outcome_of_any_route(r: Route, payload: object) -> None:
    """Events and results, or a rejection; and each of them can be kept, sent and shown."""
    made = outcome(r, payload)

    if isinstance(made, Code):
        assert made is Code.EXPRESSION_FAILED
        return
    assert made
    for one in made:
        if isinstance(one, Event):
            assert Event.model_validate_json(one.model_dump_json(by_alias=True)) == one
            assert one.request.line_bytes() <= REQUEST_LINE_BYTES
            one = one.result()  # noqa: PLW2901 - from here on they are alike
        json.dumps(one.document()).encode()


def alike(made: list[Event | Result] | Code) -> object:
    """Without what tells two events under one id apart."""
    if isinstance(made, Code):
        return made
    return [one.model_copy(update={"instance": ""}) if isinstance(one, Event) else one for one in made]


@given(routes(), payloads)
def test_equal_inputs_give_equal_outcomes(r: Route, payload: object) -> None:
    """Above all equal ids: a second delivery must be known again."""
    copy = json.loads(json.dumps(payload))

    assert alike(outcome(r, payload)) == alike(outcome(r, copy))


@given(routes(), payloads)
def test_no_id_exceeds_its_bound(r: Route, payload: object) -> None:
    """Whatever an item calls itself."""
    made = outcome(r, payload)

    for one in made if isinstance(made, list) else []:
        assert one.event_id is None or len(one.event_id.encode()) <= EVENT_ID_BYTES


@given(st.lists(st.text("ab1 ,._:-", max_size=8), max_size=8))
def test_targets_are_unique_ordered_and_each_allowed(texts: list[str]) -> None:
    """For every list of texts."""
    made = events_of_route(route(targets="u", max_targets=1000), {"u": texts}, TICK)
    wanted = [part.strip() for text in texts for part in text.split(",") if part.strip()]

    if isinstance(made[0], Event):
        targets = made[0].request.param["uuids"].split(",")
        assert targets == list(dict.fromkeys(wanted))
        assert all(re.fullmatch(r"[A-Za-z0-9._:-]{1,128}", target) for target in targets)
    else:
        assert code_of(made) == ("NoTargets" if not wanted else "BadTarget")


@given(st.text(max_size=30))
def test_any_text_is_an_expression_or_is_refused_at_start(text: str) -> None:
    """By ValueError alone, and what is taken raises nothing but rejections."""
    try:
        expression = Expression(text)
    except ValueError:
        return
    with contextlib.suppress(Rejection):
        expression.search({"a": [1, {"b": None}]})


EXAMPLE = """
[routes.nightly-assets]
trigger   = "timer"
task_type = "ASSETS_COLLECTION"
[routes.nightly-assets.param]
items = "PORT_SNAPSHOT,PROC_SNAPSHOT,SOFTWARE_SNAPSHOT"

[routes.agent-offline]                  # POST .../webhooks/agent-offline
trigger   = "webhook"
when      = "status == 'firing'"
each      = "alerts[?status == 'firing']"
id        = "join('/', [fingerprint, startsAt])"
task_type = "CLIENT_PROBLEM_CHECK"
targets   = "labels.uuid"
submit    = "sweep"
[routes.agent-offline.param]
mode = 1
problemType = "offline"
[routes.agent-offline.verify]
scheme  = "bearer"
secrets = ["env:AGENT_OFFLINE_TOKEN"]
"""
