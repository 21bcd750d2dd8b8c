"""The emulator's hosts and its tasks' outcomes: documented, and everything else that may be so."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from local.emulator import SAMPLE, Behaviour, Emulator, Host, Refuse, host, made_up_hosts, read_hosts
from local.emulator.behaviour import Details, HostTokens, Ids
from local.emulator.hosts import Inventory
from oncetask.alibaba.instances import Instance
from oncetask.models import Ended, Progress, TaskRequest
from tests.contract.test_emulator import Clock, caller, refusal
from tests.contract.test_security_center import door, soon

pytestmark = pytest.mark.filterwarnings("ignore:datetime.datetime.utcnow:DeprecationWarning")

CHECK = "CLIENT_PROBLEM_CHECK"
ACTION = "DescribeCloudCenterInstances"
type Listing = Callable[..., list[str]]


def few_hosts() -> list[Host]:
    """Three that tell the ways of matching apart."""
    return [
        host("a", InstanceName="web-1", IntranetIp="10.0.0.5", Importance=2, Tag="x,y"),
        host("b", InstanceName="web-10", IntranetIp="10.0.0.51", ClientStatus="offline"),
        host("c", InstanceName="db", IntranetIp="10.0.0.6", VpcInstanceId="vpc-2", ExposedStatus=1),
    ]


@pytest.fixture
def clock() -> Clock:
    """The emulator's clock."""
    return Clock()


@pytest.fixture
def emulator(clock: Clock) -> Iterator[Emulator]:
    """An emulator that knows a few hosts."""
    with Emulator(clock=clock) as running:
        running.hosts[:] = few_hosts()
        yield running


@pytest.fixture
def behaviour() -> Behaviour:
    """The switches of `inventory`."""
    return Behaviour()


@pytest.fixture
def inventory(clock: Clock, behaviour: Behaviour) -> Inventory:
    """The few hosts, without the HTTP before them."""
    made = Inventory(clock, behaviour)
    made.hosts = few_hosts()
    return made


def listed(inventory: Inventory, *criteria: tuple[str, str], **parameters: str) -> str:
    """The hosts' uuids of one answer."""
    asked = json.dumps([{"name": name, "value": value} for name, value in criteria])
    answer = inventory.describe({"Criteria": asked, "LogicalExp": "AND", **parameters})
    rows: Any = answer["Instances"]
    return "".join(row["Uuid"] for row in rows)


# -- criteria -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("criteria", "parts", "exact"),
    [
        ([("intranetIp", "10.0.0.5")], "ab", "a"),
        ([("instanceName", "web")], "ab", ""),
        ([("instanceName", "db|web-1")], "abc", "ac"),
        ([("clientStatus", "offline")], "b", "b"),
        ([("clientStatus", "off")], "", ""),
        ([("clientStatus", "!offline")], "ac", "ac"),
        ([("importance", "important")], "a", "a"),
        ([("exposedStatus", "YES")], "c", "c"),
        ([("tagName", "x")], "a", "a"),
        ([("uuidList", "c")], "c", "c"),
        ([("uuid", "c")], "abc", "abc"),
        ([("uuid", "c"), ("clientStatus", "offline")], "b", "b"),
        ([("intranetIp", "10.0.0.5"), ("vpcInstanceId", "vpc-2")], "", ""),
        ([], "abc", "abc"),
    ],
)
def test_hosts_are_listed_by_criteria(
    inventory: Inventory,
    behaviour: Behaviour,
    criteria: list[tuple[str, str]],
    parts: str,
    exact: str,
) -> None:
    """What is typed may match in part, what is chosen does not, and what is unknown is dropped."""
    assert listed(inventory, *criteria) == parts

    behaviour.criteria_match = "exact"
    assert listed(inventory, *criteria) == exact


def test_criteria_are_joined_by_or_where_nothing_is_said(inventory: Inventory) -> None:
    """The documented default."""
    criteria = [("clientStatus", "offline"), ("vpcInstanceId", "vpc-2")]

    assert (listed(inventory, *criteria, LogicalExp="OR"), listed(inventory, *criteria)) == ("bc", "")


def test_a_site_may_lack_a_criterion(inventory: Inventory, behaviour: Behaviour) -> None:
    """It is dropped without a word."""
    behaviour.dropped_criteria.add("groupName")

    assert listed(inventory, ("groupName", "prod")) == "abc"


def test_other_assets_come_unless_servers_are_asked_for(inventory: Inventory) -> None:
    """MachineTypes is `ecs` for servers."""
    inventory.hosts = [host("a"), host("b")]
    inventory.hosts[1].kind = "cloud_product"

    assert (listed(inventory), listed(inventory, MachineTypes="ecs")) == ("ab", "a")


def test_a_host_may_appear_late(inventory: Inventory, clock: Clock) -> None:
    """A new server is missing for a minute or so."""
    inventory.hosts = [host("a", appears_s=clock.now_s + 60)]
    before = listed(inventory)
    clock.now_s += 60

    assert (before, listed(inventory)) == ("", "a")


# -- pages --------------------------------------------------------------------------------------------


def test_pages_by_number_tell_the_total(inventory: Inventory) -> None:
    """Twenty rows where nothing is said, and at most a hundred."""
    inventory.hosts = made_up_hosts(250)

    answers = [
        inventory.describe({}),
        inventory.describe({"CurrentPage": "3", "PageSize": "100"}),
        inventory.describe({"PageSize": "1000"}),
    ]

    assert [answer["PageInfo"] for answer in answers] == [
        {"CurrentPage": 1, "PageSize": 20, "Count": 20, "TotalCount": 250},
        {"CurrentPage": 3, "PageSize": 100, "Count": 50, "TotalCount": 250},
        {"CurrentPage": 1, "PageSize": 100, "Count": 100, "TotalCount": 250},
    ]


@pytest.mark.parametrize("tokens", ["absent at the end", "empty at the end", "repeated", "none"])
@pytest.mark.parametrize("repeated_rows", [0, 7])
def test_our_client_reads_every_host_once(emulator: Emulator, tokens: HostTokens, repeated_rows: int) -> None:
    """By tokens however a list ends, by numbers where there are none, and with rows that repeat."""
    emulator.hosts[:] = made_up_hosts(250)
    emulator.behaviour.host_tokens = tokens
    emulator.behaviour.repeated_rows = repeated_rows
    emulator.behaviour.most_hosts_a_page = 50

    read = door(emulator.url).instances({}, soon())

    assert [each.uuid for each in read] == [each.uuid for each in emulator.hosts]
    assert len(emulator.calls) <= 8


def test_our_client_counts_hosts_by_one_call(emulator: Emulator) -> None:
    """The total is told by page numbers alone."""
    assert door(emulator.url).instance_count(soon()) == 3
    assert len(emulator.calls) == 1


def test_our_client_reads_what_is_checked(emulator: Emulator) -> None:
    """Every value as text."""
    [row] = door(emulator.url).instances({"uuidList": "a"}, soon())

    assert row.runs
    assert {"IntranetIp": "10.0.0.5", "Importance": "2", "Tag": "x,y", "ExposedStatus": "0"}.items() <= (
        row.fields.items()
    )


def test_an_unknown_token_is_refused(emulator: Emulator) -> None:
    """It is none of this list's."""
    call = caller(emulator)

    def asked(_: str, **query: str) -> dict[str, Any]:
        return call(ACTION, **query)

    assert refusal(asked, UseNextToken="true", NextToken="none") == (400, "-101")


# -- inventories --------------------------------------------------------------------------------------


def test_hosts_are_made_up_the_same_again() -> None:
    """By seed, with shared addresses, hosts without an agent, and a released one."""
    hosts = made_up_hosts(100, seed=7)

    assert hosts == made_up_hosts(100, seed=7)
    assert hosts != made_up_hosts(100, seed=8)
    addresses = [each.row["IntranetIp"] for each in hosts]
    assert len(addresses) - len({*addresses}) == 2
    assert sum(each.row["ClientSubStatus"] == "uninstalled" for each in hosts) == 3
    assert [each.row["Status"] for each in hosts].count("notRunning") == 1


def test_the_sample_is_read(tmp_path: Path) -> None:
    """It holds an address in two VPCs, and a file of something else is refused."""
    hosts = read_hosts(SAMPLE)
    (tmp_path / "odd.json").write_text('{"Uuid": "a"}', encoding="utf-8")

    assert len({each.uuid for each in hosts}) == len(hosts) == 12
    assert [each.row["VpcInstanceId"] for each in hosts if each.row["IntranetIp"] == "10.0.1.1"] == [
        "vpc-1",
        "vpc-2",
    ]
    with pytest.raises(ValueError, match="Uuid"):
        read_hosts(tmp_path / "odd.json")


def test_instances_are_tuples() -> None:
    """They are compared by what they hold."""
    assert Instance("a", {}) == Instance("a", {})


# -- outcomes -----------------------------------------------------------------------------------------

REQUEST = TaskRequest(
    task_type=CHECK,
    task_name=CHECK,
    param={"mode": 1, "problemType": "offline", "uuids": "a,b,c"},
    source="oncetask",
)


def followed(emulator: Emulator) -> Progress:
    """How our client sees a task of three hosts that has ended just now."""
    center = door(emulator.url)
    task_id = center.generate(REQUEST, soon()).task_id or ""
    emulator.finish(task_id)
    return center.follow(CHECK, task_id, CHECK, soon())


@pytest.mark.parametrize("below", [False, True])
def test_hosts_that_fail_are_told_one_by_one(emulator: Emulator, *, below: bool) -> None:
    """In one record with an entry a host, or in a task a host below it; the task itself ends well."""
    emulator.behaviour.details_below = below
    emulator.behaviour.failing_hosts = {"b"}
    emulator.behaviour.host_details = {"c": {"causeCode": [7], "causeMsg": ["odd"]}}

    progress = followed(emulator)

    assert progress.ended is not None
    assert progress.ended._replace(finished_s=None) == Ended("SUCCESS", None, 2, 1, 3)
    assert [(each.uuid, each.dispatch, each.causes) for each in progress.hosts] == [
        ("a", "auto", ()),
        ("b", "manual", ()),
        ("c", "auto", ("7: odd",)),
    ]
    assert progress.hosts[1].codes == ("1003: powershell aegis_checker.exe -b eyJtb2RlIjoxfQ==",)
    assert progress.hosts[1].report_url == "https://logs.emulator/b"


@pytest.mark.parametrize("details", ["none", "empty", "absent", "odd"])
def test_details_may_say_nothing(emulator: Emulator, details: Details) -> None:
    """The end is told all the same."""
    emulator.behaviour.details = details

    progress = followed(emulator)

    assert (progress.state, progress.hosts, progress.unread) == ("SUCCESS", (), None)


def test_details_may_be_late(emulator: Emulator, clock: Clock) -> None:
    """A later follow finds them."""
    emulator.behaviour.details_lag_s = 100
    early = followed(emulator)
    clock.now_s += 100
    late = door(emulator.url).follow(CHECK, emulator.tasks[0].task_id, CHECK, soon())

    assert (len(early.hosts), len(late.hosts)) == (0, 3)


def test_a_failing_query_below_a_task_does_not_hide_its_end(emulator: Emulator) -> None:
    """Why the hosts could not be read is told beside it."""
    emulator.behaviour.details_below = True
    emulator.script(None, Refuse(403, "NoPermission"), action="DescribeOnceTask")

    progress = followed(emulator)

    assert progress.unread is not None
    assert (progress.state, progress.hosts, progress.unread.code) == ("SUCCESS", (), "NoPermission")


@pytest.mark.parametrize("ids", ["number", "line end"])
def test_ids_may_be_numbers_or_have_a_line_end(emulator: Emulator, ids: Ids) -> None:
    """Our client tells the same id, and finds the task by it."""
    emulator.behaviour.ids = ids

    progress = followed(emulator)

    assert progress.state == "SUCCESS"
    assert emulator.tasks[0].task_id == emulator.tasks[0].task_id.strip()


def test_a_state_is_told_by_its_number_where_its_text_is_another(emulator: Emulator, clock: Clock) -> None:
    """DISPATCH and PROCESSING run; a vulnerability scan's end has a text that nobody knows."""
    emulator.behaviour.init_text, emulator.behaviour.running_text = "DISPATCH", "PROCESSING"
    emulator.behaviour.end_text = "DONE"
    center = door(emulator.url)
    task_id = center.generate(REQUEST, soon()).task_id or ""
    seen = [center.follow(CHECK, task_id, CHECK, soon())]
    clock.now_s += 10
    seen.append(center.follow(CHECK, task_id, CHECK, soon()))
    emulator.finish(task_id)
    seen.append(center.follow(CHECK, task_id, CHECK, soon()))

    assert [each.state for each in seen] == ["DISPATCH", "PROCESSING", "SUCCESS"]
    assert [each.ended is None for each in seen] == [True, True, False]


def test_a_task_may_tell_no_counts(emulator: Emulator) -> None:
    """The API's oldest page has none."""
    emulator.behaviour.shows_counts = False

    ended = followed(emulator).ended

    assert ended is not None
    assert ended._replace(finished_s=None) == Ended("SUCCESS")
