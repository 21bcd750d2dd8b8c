"""How a list of hosts is read, whatever the service's pages are like, and what a row is checked by."""

from collections.abc import Iterable, Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oncetask.alibaba.instances import (
    CRITERIA,
    MOST_PAGES,
    PAGE_SIZE,
    UNCHECKABLE,
    Instance,
    all_instances,
    instance_count,
)
from oncetask.errors import Code, Kind, QueryFailed


class Pages:
    """A service that answers these bodies, one a call; the last one again and again."""

    def __init__(self, *bodies: Mapping[str, Any]) -> None:
        self.bodies = list(bodies)
        self.asked: list[dict[str, str]] = []

    def __call__(self, query: dict[str, str]) -> Mapping[str, Any]:
        """The next body."""
        self.asked.append(query)
        return self.bodies.pop(0) if len(self.bodies) > 1 else self.bodies[0]


def page(uuids: Iterable[str], **info: object) -> dict[str, Any]:
    """A page of hosts of these uuids."""
    return {"Instances": [{"Uuid": uuid} for uuid in uuids], "PageInfo": info, "Success": True}


def uuids(service: Pages, **criteria: str) -> list[str]:
    """The hosts that are read."""
    return [instance.uuid for instance in all_instances(service, criteria)]


def test_servers_are_asked_for_by_token_and_by_all_criteria_at_once() -> None:
    """The default joins criteria by OR, and lists other assets, too."""
    service = Pages(page("ab", NextToken="t1"), page("c"))

    assert uuids(service, intranetIp="10.0.0.5", vpcInstanceId="vpc-1") == ["a", "b", "c"]

    first, second = service.asked
    assert first == {
        "Criteria": '[{"name":"intranetIp","value":"10.0.0.5"},{"name":"vpcInstanceId","value":"vpc-1"}]',
        "LogicalExp": "AND",
        "MachineTypes": "ecs",
        "PageSize": str(PAGE_SIZE),
        "UseNextToken": "true",
    }
    assert second == {**first, "NextToken": "t1"}


def test_without_criteria_none_are_sent() -> None:
    """Then every host comes."""
    service = Pages(page("a"))
    uuids(service)

    assert "Criteria" not in service.asked[0]


@pytest.mark.parametrize(
    ("bodies", "read"),
    [
        ([page("a", NextToken="t"), page("b", NextToken="")], "ab"),
        ([page("a", NextToken="t"), page("b", NextToken=None)], "ab"),
        ([page("a", NextToken="t"), page("", NextToken="u"), page("c")], "a"),
        ([page("ab", NextToken="t"), page("bc", NextToken="t"), page("d")], "abc"),
        ([page("a", NextToken="t"), {"PageInfo": {"Count": 0}}], "a"),
        ([page("ab", TotalCount=4), page("cd", TotalCount=4)], "abcd"),
        ([page("ab", TotalCount=4), page("bc", TotalCount=4), page("d", TotalCount=4)], "abcd"),
        ([page("ab", TotalCount=4)], "ab"),
        ([page("ab", TotalCount=2)], "ab"),
        ([page("", TotalCount=0)], ""),
    ],
    ids=[
        "empty token",
        "null token",
        "no rows",
        "repeated token",
        "no list on a later page",
        "totals, no tokens",
        "rows that repeat",
        "page numbers ignored",
        "one page of a total",
        "nothing",
    ],
)
def test_a_list_ends_where_its_pages_say_so(bodies: list[dict[str, Any]], read: str) -> None:
    """With or without tokens, with totals instead, and with rows that come twice."""
    assert uuids(Pages(*bodies)) == list(read)


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"Success": True},
        {"Success": True, "PageInfo": {"Count": 0, "TotalCount": 0}},
        {"Success": False, "Instances": []},
        {"Success": "false", "Instances": []},
        {"Instances": None},
        {"Instances": {}},
        {"Instances": [7]},
        {"Instances": [{"InstanceId": "i-1"}]},
        {"Instances": [{"Uuid": "a b"}]},
    ],
)
def test_an_answer_without_a_list_is_not_no_hosts(body: dict[str, Any]) -> None:
    """Nothing is known then."""
    with pytest.raises(QueryFailed) as failed:
        uuids(Pages(body))

    assert (failed.value.code, failed.value.kind) == (Code.ANSWER_UNREADABLE, Kind.UNKNOWN)


def test_a_list_that_does_not_end_is_not_read() -> None:
    """A part of it would hide that an address belongs to two hosts."""
    service = Pages(*(page([f"h{n}"], NextToken=f"t{n}") for n in range(MOST_PAGES + 1)))

    with pytest.raises(QueryFailed):
        uuids(service)

    assert len(service.asked) == MOST_PAGES


def test_one_odd_row_spoils_no_page() -> None:
    """What names no host is no host."""
    body = {"Instances": [{"Uuid": "a", "Importance": 1, "Bind": True}, {"Uuid": None}, 7]}

    assert all_instances(Pages(body), {}) == [Instance("a", {"Importance": "1"})]


@pytest.mark.parametrize(("total", "count"), [(4711, 4711), ("7", 7), (None, None), ("many", None)])
def test_hosts_are_counted_without_being_read(total: object, count: int | None) -> None:
    """Where the service tells a total."""
    assert instance_count(Pages(page("a", TotalCount=total))) == count


# -- rows ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("criterion", "value", "fields", "holds"),
    [
        ("intranetIp", "10.0.0.5", {"IntranetIp": "10.0.0.5"}, True),
        ("intranetIp", "10.0.0.5", {"IntranetIp": "10.0.0.51"}, False),
        ("intranetIp", "10.0.0.5", {"InternetIp": "10.0.0.5"}, False),
        ("instanceName", "web", {"InstanceName": "Web"}, False),
        ("osType", "Linux", {"Os": "linux"}, True),
        ("osType", "linux", {"Os": "Linux"}, True),
        ("osName", "linux", {"OsName": "Linux"}, False),
        ("tagName", "test", {"Tag": "InternetIp,test"}, True),
        ("tagName", "Internet", {"Tag": "InternetIp,test"}, False),
        ("tagName", "InternetIp,test", {"Tag": "InternetIp,test"}, False),
        ("ipList", "172.17.0.1", {"IpListString": "10.0.0.5, 172.17.0.1"}, True),
        ("importance", "important", {"Importance": "2"}, True),
        ("importance", "2", {"Importance": "2"}, True),
        ("importance", "test", {"Importance": "1"}, False),
        ("exposedStatus", "YES", {"ExposedStatus": "1"}, True),
        ("exposedStatus", "true", {"ExposedStatus": "1"}, True),
        ("exposedStatus", "NO", {"ExposedStatus": "1"}, False),
        ("containerStatus", "false", {"HasContainer": "NO"}, True),
        ("riskStatus", "UNKNOWN", {"RiskStatus": "UNKNOWN"}, True),
        ("groupId", "412", {"GroupId": "412"}, True),
        ("groupName", "default", {"GroupTrace": "default"}, True),
        ("runningStatus", "Running", {"Status": "Running"}, True),
        ("flag", "1", {"Vendor": "1", "Flag": "0"}, True),
        ("authVersion", "3", {"AuthVersion": "3"}, True),
        ("clientStatus", "offline", {}, False),
        ("clientStatus", "", {"ClientStatus": ""}, False),
        ("uuidList", "inet-1", {}, True),
    ],
)
def test_a_row_is_checked_by_its_own_field(
    criterion: str,
    value: str,
    fields: dict[str, str],
    holds: bool,  # noqa: FBT001 - the table's column
) -> None:
    """Exactly, in the service's own spelling."""
    assert CRITERIA[criterion].holds(Instance("inet-1", fields), value) is holds


def test_what_no_row_shows_is_no_criterion() -> None:
    """It could not be seen whether the service has dropped it."""
    assert not UNCHECKABLE & CRITERIA.keys()


@given(st.dictionaries(st.sampled_from(sorted(CRITERIA)), st.text(max_size=20)), st.text(max_size=20))
def test_any_value_is_checked_without_a_fault(fields: dict[str, str], value: str) -> None:
    """Rows and values are other people's."""
    instance = Instance("inet-1", {CRITERIA[name].field: text for name, text in fields.items()})

    for criterion in CRITERIA.values():
        assert criterion.holds(instance, value) in {True, False}
