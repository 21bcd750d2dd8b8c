"""A route's table `hosts`: what it may say, and what is said about it where it may not."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oncetask.alibaba.instances import CRITERIA, UNCHECKABLE
from oncetask.errors import Code, SettingsError
from oncetask.models import TASK_TYPES, Trigger
from oncetask.routing.events import Origin, events_of_route
from oncetask.routing.hosts import HOST_TYPES, MOST, WAIT_S, By, address_of, is_name, name_of
from oncetask.routing.routes import Route, Routes, load_routes
from oncetask.routing.suggestions import suggestion

TICK = Origin(Trigger.TIMER, "timer:r:t", "r", 1_800_000_000.0)
HEAD = '[routes.r]\ntrigger = "timer"\ntask_type = "{type}"\n'
type Load = Callable[[str], Routes]


@pytest.fixture
def load(tmp_path: Path) -> Load:
    """`load(text)`: the routes of a file `some.toml` that holds this."""

    def load(text: str) -> Routes:
        path = tmp_path / "some.toml"
        path.write_text(text, encoding="utf-8")
        return load_routes(path, (*TASK_TYPES, "NEWER"))

    return load


def table(hosts: str, *, task_type: str = "CLIENT_DEV_OPS", **keys: str) -> str:
    """A timer's route with this table `hosts`."""
    keys.setdefault("allow", '["CLIENT_DEV_OPS"]')
    lines = "".join(f"{key} = {value}\n" for key, value in keys.items())
    return f"{HEAD.format(type=task_type)}{lines}[routes.r.hosts]\n{hosts}\n"


def mistake(load: Load, text: str) -> str:
    """The one line that the file is refused with, behind the route's name."""
    with pytest.raises(SettingsError) as refused:
        load(text)
    start = "some.toml: routes.r: "
    assert str(refused.value).startswith(start)
    return str(refused.value).removeprefix(start)


# -- what may be said ---------------------------------------------------------------------------------


def test_hosts_are_named_by_targets(load: Load) -> None:
    """By an address, within a VPC."""
    route = load(table('by = "private-ip"\nwhere = {vpcInstanceId = "vpc-1"}', targets='"ip"'))["r"]

    assert route.hosts is not None
    assert (route.hosts.by, route.hosts.where) == ("private-ip", {"vpcInstanceId": "vpc-1"})
    assert (route.hosts.wait_s, route.hosts.most) == (WAIT_S, MOST)
    assert (route.takes_hosts, route.selects_hosts, route.hosts.looks_up) == (True, False, True)


def test_hosts_are_selected_without_targets(load: Load) -> None:
    """By what they have in common."""
    route = load(table('where = {clientStatus = "offline", groupName = "prod"}\nmost = 4000'))["r"]

    assert (route.takes_hosts, route.selects_hosts, route.hosts and route.hosts.most) == (True, True, 4000)


def test_uuids_alone_need_no_look(load: Load) -> None:
    """They are Security Center's own ids."""
    route = load(table('by = "uuid"', targets='"uuid"'))["r"]

    assert route.hosts is not None
    assert not route.hosts.looks_up


@pytest.mark.parametrize(
    ("written", "asked"),
    [
        ('importance = "important"', {"importance": "important"}),
        ("importance = 2", {"importance": "important"}),
        ("exposedStatus = true", {"exposedStatus": "YES"}),
        ('containerStatus = "no"', {"containerStatus": "NO"}),
        ('osType = "Linux"', {"osType": "linux"}),
        ("groupId = 4120080", {"groupId": "4120080"}),
        ("authVersion = 3", {"authVersion": "3"}),
        ('tagName = " test "', {"tagName": "test"}),
    ],
)
def test_a_value_is_asked_for_in_the_services_spelling(
    load: Load, written: str, asked: dict[str, str]
) -> None:
    """Texts, booleans and whole numbers."""
    hosts = load(table(f"where = {{{written}}}"))["r"].hosts

    assert hosts is not None
    assert hosts.where == asked


@pytest.mark.parametrize("task_type", [*HOST_TYPES, "NEWER"])
def test_types_about_hosts_take_them(load: Load, task_type: str) -> None:
    """And newer ones may."""
    param = '{mode = 1, problemType = "offline", items = "PORT_SNAPSHOT"}'
    assert load(table('where = {groupName = "prod"}', task_type=task_type, param=param))["r"].selects_hosts


@pytest.mark.parametrize(
    ("task_type", "param", "says"),
    [
        ("ASSETS_COLLECTION", "{}", "param.items: ASSETS_COLLECTION needs it, a text that is not empty"),
        (
            "CLIENT_PROBLEM_CHECK",
            '{mode = "1", problemType = "offline"}',
            "param.mode: CLIENT_PROBLEM_CHECK needs it, an integer",
        ),
        (
            "CLIENT_PROBLEM_CHECK",
            "{mode = 1}",
            "param.problemType: CLIENT_PROBLEM_CHECK needs it, a text that is not empty",
        ),
    ],
)
def test_a_param_that_nothing_will_complete_is_refused_at_start(
    load: Load, task_type: str, param: str, says: str
) -> None:
    """What the item or a selection gives is waited for; the rest must stand there."""
    written = table('where = {groupName = "prod"}', task_type=task_type, param=param)

    assert mistake(load, written) == says


# -- what may not -------------------------------------------------------------------------------------


@pytest.mark.parametrize("task_type", sorted({*TASK_TYPES} - {*HOST_TYPES}))
def test_other_types_take_no_hosts(load: Load, task_type: str) -> None:
    """A scan of images, or of a network, has none."""
    says = mistake(load, table('by = "name"', task_type=task_type, targets='"x"'))

    assert says.startswith(f"hosts: {task_type} takes no hosts; ")
    assert all(name in says for name in HOST_TYPES)


@pytest.mark.parametrize("name", sorted(UNCHECKABLE))
def test_a_criterion_that_no_row_shows_is_refused(load: Load, name: str) -> None:
    """It could not be seen whether it was dropped."""
    assert mistake(load, table(f'where = {{{name} = "x"}}')).startswith(
        f"hosts.where: {name} cannot be checked"
    )


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("clientstatus", "clientStatus"),
        ("groupname", "groupName"),
        ("GroupTrace", "groupName"),
        ("intranetIP", "intranetIp"),
        ("vpcInstanceID", "vpcInstanceId"),
        ("uuid", "uuidList"),
        ("tag", "tagName"),
        ("clientStats", "clientStatus"),
    ],
)
def test_a_misspelt_criterion_is_told_with_what_was_meant(load: Load, written: str, meant: str) -> None:
    """The service would give every host."""
    says = mistake(load, table(f'where = {{{written} = "x"}}'))

    assert says == f"hosts.where: there is no criterion {written}; did you mean {meant}?"


@pytest.mark.parametrize(
    ("hosts", "keys", "says"),
    [
        ("", {}, "hosts: needs `targets`"),
        ('by = "private-ip"', {}, "hosts: needs `targets`"),
        ('by = "name"\nwhere = {groupName = "x"}', {}, "hosts.by: "),
        ('wait_s = 5\nwhere = {groupName = "x"}', {}, "hosts.wait_s: "),
        ("most = 5", {"targets": '"x"'}, "hosts.most: "),
        ('where = {groupName = "x"}\nmost = 4001', {}, "hosts.most: "),
        ('where = {groupName = "x"}\nmost = 0', {}, "hosts.most: "),
        ("wait_s = -1", {"targets": '"x"'}, "hosts.wait_s: "),
        ('by = "ip"', {"targets": '"x"'}, "hosts.by: must be one of "),
        ('by = "privat-ip"', {"targets": '"x"'}, "hosts.by: must be one of "),
        ("by = 7", {"targets": '"x"'}, "hosts.by: must be one of "),
        ("bye = 7", {"targets": '"x"'}, "hosts.bye: there is no such key"),
        ("where = {}", {}, "hosts.where: must be a table"),
        ('where = "groupName"', {}, "hosts.where: must be a table"),
        ('where = {groupName = "a|b"}', {}, "hosts.where: groupName must be one value"),
        ('where = {flag = "!8"}', {}, "hosts.where: flag must be one value"),
        ('where = {uuidList = "a,b"}', {}, "hosts.where: uuidList must be one value"),
        ("where = {groupName = 1.5}", {}, "hosts.where: groupName must be a text"),
        ('where = {groupName = ["a"]}', {}, "hosts.where: groupName must be a text"),
        ('where = {groupName = ""}', {}, "hosts.where: groupName must be 1 to"),
        ('where = {groupName = "a\\u0007"}', {}, "hosts.where: groupName must be 1 to"),
        ('where = {"a b\\u001b" = "x"}', {}, "hosts.where: there is no criterion 'a b\\x1b'"),
    ],
)
def test_a_mistake_is_told_with_its_key(load: Load, hosts: str, keys: dict[str, str], says: str) -> None:
    """The process stops at start."""
    assert mistake(load, table(hosts, **keys)).startswith(says)


def test_a_near_word_is_offered(load: Load) -> None:
    """For `by`, too."""
    assert mistake(load, table('by = "privat-ip"', targets='"x"')).endswith("did you mean private-ip?")


def test_selected_hosts_have_a_key_of_their_own(load: Load) -> None:
    """As targets have."""
    text = table('where = {groupName = "x"}') + '[routes.r.param]\nuuids = "inet-1"\n'

    assert mistake(load, text).startswith("target_key: ")


def test_operations_on_selected_hosts_must_be_allowed(load: Load) -> None:
    """Somebody else decides then on which hosts they run."""
    assert mistake(load, table('where = {groupName = "x"}', allow="[]")).startswith("allow: ")


def test_an_unknown_task_type_is_told_with_all_there_are(load: Load) -> None:
    """And with the one that was probably meant."""
    says = mistake(load, HEAD.format(type="CLIENT_PROBLEM_CHEK"))

    assert "did you mean CLIENT_PROBLEM_CHECK?" in says
    assert all(name in says for name in TASK_TYPES)
    assert "did you mean" not in mistake(load, HEAD.format(type="COFFEE"))


# -- names --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("10.0.0.5", "10.0.0.5"),
        ("10.0.0.5:9100", "10.0.0.5"),
        ("[2001:db8::1]:9100", "2001:db8::1"),
        ("[2001:db8::1]", "2001:db8::1"),
        ("2001:DB8:0:0::1", "2001:db8::1"),
        ("10.0.0.5:", None),
        ("10.0.0.5:port", None),
        ("10.0.0.5:9100:1", None),
        ("[10.0.0.5]:9100", None),
        ("[2001:db8::1]x", None),
        ("fe80::1%eth0", None),
        ("010.0.0.5", None),
        ("10.0.5", None),
        ("http://10.0.0.5:9100", None),
        ("web-1:9100", None),
        ("", None),
        ("10.0.0.5\x00", None),
    ],
)
def test_an_address_loses_its_port(text: str, address: str | None) -> None:
    """As Prometheus writes `instance`; what is no address is none."""
    assert address_of(text) == address
    assert is_name(text, "private-ip") is is_name(text, "public-ip") is (address is not None)


@pytest.mark.parametrize(
    ("by", "text", "good"),
    [
        ("name", "web 1: the old one!", True),
        ("name", "x" * 128, True),
        ("name", "x" * 129, False),
        ("name", "a\nb", False),
        ("name", "\ud800", False),
        ("instance-id", "i-0001", True),
        ("instance-id", "i 0001", False),
        ("uuid", "inet-1", True),
        ("uuid", "inet/1", False),
    ],
)
def test_a_name_is_what_a_host_can_be_called(by: By, text: str, good: bool) -> None:  # noqa: FBT001 - a column
    """Bounded, and without what a terminal obeys."""
    assert is_name(text, by) is good


@given(st.text(max_size=60))
def test_any_text_is_a_name_or_none(text: str) -> None:
    """Nothing that a sender writes raises; an address' one spelling is its own."""
    for by in ("uuid", "instance-id", "private-ip", "public-ip", "name"):
        if is_name(text, by):
            assert name_of(name_of(text, by), by) == name_of(text, by)


@given(st.text(), st.lists(st.text(min_size=1), max_size=5))
def test_a_suggestion_is_a_known_word(word: str, known: list[str]) -> None:
    """Or there is none."""
    assert suggestion(word, known) in {"", *(f"; did you mean {each}?" for each in known)}


# -- events -------------------------------------------------------------------------------------------


def route(**keys: object) -> Route:
    """A timer's route of these keys."""
    given: dict[str, Any] = {"name": "r", "trigger": "timer", "task_type": "CLIENT_PROBLEM_CHECK"} | keys
    given.setdefault("param", {"mode": 1, "problemType": "offline"})
    return Route.model_validate(given, context={"task_types": TASK_TYPES})


def test_targets_are_recorded_as_the_sender_wrote_them() -> None:
    """They are looked up when the event's turn comes."""
    named = route(targets="ips", hosts={"by": "private-ip"})

    [event] = events_of_route(named, {"ips": ["10.0.0.5:9100", "10.0.0.6"]}, TICK)

    assert event.request is not None
    assert event.request.param["uuids"] == "10.0.0.5:9100,10.0.0.6"


@pytest.mark.parametrize(("by", "target"), [("private-ip", "web-1"), ("uuid", "a b"), ("name", "x" * 129)])
def test_what_is_no_name_is_rejected(by: By, target: str) -> None:
    """Before anything is recorded."""
    [result] = events_of_route(route(targets="x", hosts={"by": by}), {"x": target}, TICK)

    assert result.error is not None
    assert result.error.code == Code.BAD_TARGET


def test_a_selection_needs_no_target_in_its_param() -> None:
    """The selected hosts will be in it."""
    selecting = route(hosts={"where": {"groupName": "prod"}})

    [event] = events_of_route(selecting, {}, TICK)

    assert event.request is not None
    assert event.request.param == {"mode": 1, "problemType": "offline"}


def test_every_criterion_can_be_written(load: Load) -> None:
    """Each of the table's."""
    where = ", ".join(f'{name} = "1"' for name in CRITERIA)

    assert load(table(f"where = {{{where}}}"))["r"].hosts is not None


def test_a_type_that_may_not_be_asked_for_is_told_with_those_that_may() -> None:
    """To a direct route's sender."""
    direct = Route.model_validate(
        {"name": "r", "trigger": "timer", "direct": True, "allow": ["IMAGE_SCAN"]},
        context={"task_types": TASK_TYPES},
    )

    [result] = events_of_route(direct, {"TaskType": "IMAGE_SCANS", "Param": {}}, TICK)

    assert result.error is not None
    assert result.error.message == (
        "this task type may not be asked for here; did you mean IMAGE_SCAN? these may: IMAGE_SCAN"
    )
