"""Which hosts a name or a selection means, and what becomes of the event: rules and laws."""

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oncetask.alibaba.instances import Instance
from oncetask.errors import Code, Kind, QueryFailed
from oncetask.submit.hosts import (
    Decision,
    Found,
    Step,
    What,
    decision,
    error_of,
    host_of,
    hosts_of,
    selection,
)


def row(uuid: str, status: str = "Running", **fields: str) -> Instance:
    """A host's row."""
    return Instance(uuid, {"Status": status, **fields})


def failed(kind: Kind = Kind.OPERATOR, code: str = "NoPermission") -> Found:
    """A lookup that the service refused."""
    error = QueryFailed(kind=kind, code=code, message="no", http_status=403, request_id="r")
    return Found(What.FAILED, error=error)


ADDRESS = {"intranetIp": "10.0.0.5"}

# -- one host -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rows", "found"),
    [
        ([], Found(What.NONE)),
        ([row("a", IntranetIp="10.0.0.5")], Found(What.ONE, ("a",))),
        ([row("a", IntranetIp="10.0.0.51")], Found(What.NONE)),
        ([row("a", IntranetIp="10.0.0.51"), row("b", IntranetIp="10.0.0.5")], Found(What.ONE, ("b",))),
        ([row("a", IntranetIp="10.0.0.6")], Found(What.FILTER_IGNORED)),
        ([row("a", IntranetIp="10.0.0.6"), row("b", IntranetIp="10.0.0.5")], Found(What.ONE, ("b",))),
        ([row("a", IntranetIp="10.0.0.51"), row("b", IntranetIp="10.0.0.6")], Found(What.FILTER_IGNORED)),
        ([row("a", InternetIp="10.0.0.5")], Found(What.NONE)),
        ([row("a")], Found(What.FILTER_IGNORED)),
        (
            [row("a", IntranetIp="10.0.0.5"), row("b", IntranetIp="10.0.0.5")],
            Found(What.SEVERAL, ("a", "b")),
        ),
        (
            [row("a", "notRunning", IntranetIp="10.0.0.5"), row("b", IntranetIp="10.0.0.5")],
            Found(What.ONE, ("b",)),
        ),
        (
            [row("a", "notRunning", IntranetIp="10.0.0.5"), row("b", "", IntranetIp="10.0.0.5")],
            Found(What.SEVERAL, ("a", "b")),
        ),
        ([row("a", "notRunning", IntranetIp="10.0.0.5")], Found(What.ONE, ("a",))),
        ([row("a", IntranetIp="10.0.0.5"), row("a", IntranetIp="10.0.0.5")], Found(What.ONE, ("a",))),
    ],
)
def test_a_name_means_the_one_host_that_has_exactly_it(rows: list[Instance], found: Found) -> None:
    """Of several the one that runs; a part is no match, and a row without even a part tells on the filter."""
    assert host_of(rows, ADDRESS, is_filtered=True) == found


def test_all_that_was_asked_for_must_be_so() -> None:
    """A dropped second criterion is seen, too."""
    criteria = {**ADDRESS, "vpcInstanceId": "vpc-1"}
    here = row("a", IntranetIp="10.0.0.5", VpcInstanceId="vpc-1")
    elsewhere = row("b", IntranetIp="10.0.0.5", VpcInstanceId="vpc-2")
    longer = row("c", IntranetIp="10.0.0.5", VpcInstanceId="vpc-11")

    assert host_of([elsewhere, here], criteria, is_filtered=True) == Found(What.ONE, ("a",))
    assert host_of([elsewhere], criteria, is_filtered=True).what is What.FILTER_IGNORED
    assert host_of([longer], criteria, is_filtered=True).what is What.NONE


def test_the_list_of_all_hosts_shows_no_dropped_filter() -> None:
    """Nothing was asked for."""
    assert host_of([row("a", IntranetIp="10.0.0.6")], ADDRESS, is_filtered=False).what is What.NONE


@pytest.mark.parametrize(
    ("where", "shown", "is_foreign"),
    [
        ({"authVersion": "3"}, {"AuthVersion": "5", "IntranetIp": "10.0.0.3"}, True),
        ({"importance": "important"}, {"Importance": "1"}, True),
        ({"osType": "linux"}, {"Os": "Windows"}, True),
        ({"groupName": "prod"}, {"GroupTrace": "Prod-EU"}, False),
        ({"tagName": "web"}, {"Tag": "x,Webserver"}, False),
    ],
)
def test_a_row_without_even_a_part_is_foreign(
    where: dict[str, str],
    shown: dict[str, str],
    is_foreign: bool,  # noqa: FBT001 - the table's column
) -> None:
    """Whatever the case; a value of one or two characters stands somewhere in almost any row."""
    what = hosts_of([row("a", **shown)], where).what

    assert what is (What.FILTER_IGNORED if is_foreign else What.NONE)


# -- a selection --------------------------------------------------------------------------------------


def test_a_selection_is_every_host_for_which_it_is_so() -> None:
    """Each once, in the order of their uuids, whatever else came."""
    rows = [
        row("c", ClientStatus="offline"),
        row("b", ClientStatus="online"),
        row("a", "notRunning", ClientStatus="offline"),
        row("c", ClientStatus="offline"),
    ]

    found = hosts_of(rows, {"clientStatus": "offline"})

    assert found == Found(What.SEVERAL, ("a", "c"))
    assert selection(found, most=2) == Decision(Step.GO, ("a", "c"))


def test_a_selection_over_the_most_is_refused_whole() -> None:
    """Never cut."""
    refused = selection(Found(What.SEVERAL, ("a", "b", "c")), most=2)

    assert (refused.step, refused.uuids) == (Step.REJECT, ())
    assert refused.error is not None
    assert (refused.error.kind, refused.error.code) == (Kind.SENDER, Code.TOO_MANY_HOSTS)


def test_a_selection_of_nothing_goes_on_with_nothing() -> None:
    """The event is `ignored` then."""
    assert selection(hosts_of([], {"groupName": "x"}), most=2) == Decision(Step.GO)


def test_a_selection_that_was_not_filtered_waits() -> None:
    """All hosts of the account came."""
    waits = selection(hosts_of([row("a", GroupTrace="default")], {"groupName": "prod"}), most=2)

    assert (waits.step, waits.uuids) == (Step.WAIT, ())
    assert waits.error is not None
    assert (waits.error.kind, waits.error.code) == (Kind.OPERATOR, Code.HOST_FILTER_IGNORED)


NAMES = st.sampled_from(["prod", "prod-eu", "default", "x"])


@given(
    st.lists(st.builds(row, st.sampled_from("abcdef"), GroupTrace=NAMES, OsName=NAMES), max_size=8),
    st.dictionaries(st.sampled_from(["groupName", "osName"]), NAMES, min_size=1),
)
def test_no_host_is_taken_that_does_not_match(rows: list[Instance], where: Mapping[str, str]) -> None:
    """By a plain comparison of the two fields."""
    shown = {"groupName": "GroupTrace", "osName": "OsName"}
    matches = {each.uuid for each in rows if all(each.fields[shown[name]] == where[name] for name in where)}

    assert {*hosts_of(rows, where).uuids} == matches
    assert {*host_of(rows, where, is_filtered=True).uuids} <= matches


# -- an event -----------------------------------------------------------------------------------------

ONE, OTHER = Found(What.ONE, ("u1",)), Found(What.ONE, ("u2",))
NONE, SEVERAL = Found(What.NONE), Found(What.SEVERAL, ("u8", "u9"))


@pytest.mark.parametrize(
    ("found", "waited_s", "expected", "code"),
    [
        ({"a": ONE}, 0, Decision(Step.GO, ("u1",)), None),
        ({"a": ONE, "b": ONE}, 0, Decision(Step.GO, ("u1",)), None),
        ({"a": OTHER, "b": ONE}, 0, Decision(Step.GO, ("u2", "u1")), None),
        ({"a": NONE}, 0, Decision(Step.WAIT, (), ("a",)), "HostNotFound"),
        ({"a": NONE}, 900, Decision(Step.REJECT, (), ("a",)), "HostNotFound"),
        ({"a": SEVERAL}, 0, Decision(Step.REJECT, (), ("a",), {"a": ("u8", "u9")}), "HostAmbiguous"),
        ({"a": ONE, "b": NONE}, 899, Decision(Step.WAIT, (), ("b",)), "HostNotFound"),
        ({"a": ONE, "b": NONE}, 900, Decision(Step.GO, ("u1",), ("b",)), None),
        (
            {"a": ONE, "b": SEVERAL},
            0,
            Decision(Step.GO, ("u1",), ("b",), {"b": ("u8", "u9")}),
            None,
        ),
        (
            {"a": NONE, "b": SEVERAL},
            900,
            Decision(Step.REJECT, (), ("a", "b"), {"b": ("u8", "u9")}),
            "HostNotFound",
        ),
        ({"a": ONE, "b": failed()}, 9_999, Decision(Step.WAIT), "NoPermission"),
        ({"a": NONE, "b": Found(What.FILTER_IGNORED)}, 9_999, Decision(Step.WAIT), "HostFilterIgnored"),
        ({"a": ONE, "b": None}, 9_999, Decision(Step.NOT_YET), None),
        ({"a": failed(), "b": None}, 0, Decision(Step.WAIT), "NoPermission"),
    ],
)
def test_an_event_goes_waits_or_ends(
    found: dict[str, Found | None], waited_s: float, expected: Decision, code: str | None
) -> None:
    """It waits for the missing ones, then goes without, and ends only where none is left."""
    known = {target: each for target, each in found.items() if each is not None}

    made = decision([*found], known, waited_s=waited_s, wait_s=900)

    assert (made._replace(error=None), made.error and made.error.code) == (expected, code)


@pytest.mark.parametrize(
    ("asked", "kind"),
    [
        (failed(Kind.OPERATOR), Kind.OPERATOR),
        (failed(Kind.SENDER, "-101"), Kind.OPERATOR),
        (failed(Kind.REMOTE, "Throttling.User"), Kind.REMOTE),
        (failed(Kind.UNKNOWN, "ServerError"), Kind.REMOTE),
    ],
)
def test_a_lookup_that_failed_is_never_the_senders(asked: Found, kind: Kind) -> None:
    """Refused: the operator's; else the service's own."""
    assert error_of(asked).kind is kind
    assert (error_of(asked).http_status, error_of(asked).request_id) == (403, "r")


def test_no_message_holds_a_uuid() -> None:
    """A sender is told them by nobody."""
    made = decision(["secret-name"], {"secret-name": SEVERAL}, waited_s=0, wait_s=0)

    assert made.error is not None
    assert not {"u8", "u9", "secret-name"} & {*made.error.message.split()}


FOUND = st.sampled_from([ONE, OTHER, NONE, SEVERAL, failed(), Found(What.FILTER_IGNORED)]) | st.none()


@given(st.dictionaries(st.text(min_size=1, max_size=3), FOUND, min_size=1), st.floats(0, 2_000))
def test_every_target_is_a_host_or_is_told_missing(found: dict[str, Found | None], waited_s: float) -> None:
    """Whatever was found: an event that goes has all its hosts, and nobody waits for ever for one."""
    known = {target: each for target, each in found.items() if each is not None}

    made = decision([*found], known, waited_s=waited_s, wait_s=900)

    if made.step in {Step.GO, Step.REJECT}:
        hosts = {each.uuids for target, each in known.items() if target not in made.missing}
        assert {(uuid,) for uuid in made.uuids} == hosts
        assert bool(made.uuids) is (made.step is Step.GO)
        assert {*made.ambiguous} <= {*made.missing}
    if (
        known == found
        and waited_s >= 900
        and not any(each.what in {What.FAILED, What.FILTER_IGNORED} for each in known.values())
    ):
        assert made.step in {Step.GO, Step.REJECT}
