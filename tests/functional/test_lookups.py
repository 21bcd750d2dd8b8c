"""Names become hosts under everything that the service's list may be like: few calls, within the time."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from local.emulator import Behaviour, Host, host, made_up_hosts
from local.emulator.answers import ApiError
from local.emulator.hosts import Inventory
from oncetask.alibaba.instances import Instance, all_instances, instance_count
from oncetask.clock import Deadline
from oncetask.errors import Code, Kind, QueryFailed
from oncetask.routing.hosts import By
from oncetask.submit.hosts import Found, What
from oncetask.submit.lookups import (
    CALLS_A_SECOND,
    FOUND_S,
    LOOKUPS_S,
    MISSED_S,
    REMEMBERED,
    Key,
    Lookups,
    Memory,
    Wanted,
)
from tests.clocks import FakeClock


def failure(code: str, kind: Kind) -> QueryFailed:
    """What a query raises."""
    return QueryFailed(kind=kind, code=code, message="no", http_status=400, request_id=None)


@dataclass
class Service:
    """The emulator's inventory without the HTTP before it; each call takes `call_s` of the clock.

    `fails`: what a call for these criteria raises.
    """

    clock: FakeClock = field(default_factory=FakeClock)
    behaviour: Behaviour = field(default_factory=Behaviour)
    call_s: float = 0.02
    fails: Callable[[Mapping[str, str]], QueryFailed | None] = lambda _: None
    calls: list[dict[str, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.inventory = Inventory(self.clock.now_s, self.behaviour)
        self.memory = Memory(self.clock)

    def lookups(self, seconds: float = LOOKUPS_S) -> Lookups:
        """Those of one invocation."""
        return Lookups(self, self.memory, Deadline.after(seconds, self.clock))

    def has_time(self, deadline: Deadline) -> bool:
        """Whether a call may still begin."""
        return deadline.left_s() > 0

    def instances(
        self, criteria: Mapping[str, str], deadline: Deadline, *, before_call: Callable[[], None]
    ) -> list[Instance]:
        """As the client reads them."""
        return all_instances(self._ask(criteria, deadline, before_call), criteria)

    def instance_count(self, deadline: Deadline, *, before_call: Callable[[], None]) -> int | None:
        """As the client counts them."""
        return instance_count(self._ask({}, deadline, before_call))

    def _ask(
        self, criteria: Mapping[str, str], deadline: Deadline, before_call: Callable[[], None]
    ) -> Callable[[dict[str, str]], Mapping[str, object]]:
        def ask(query: dict[str, str]) -> Mapping[str, object]:
            before_call()
            if not self.has_time(deadline):
                raise failure(Code.NO_ANSWER, Kind.UNKNOWN)
            self.calls.append(query)
            self.clock.sleep(self.call_s)
            failed = self.fails(criteria)
            if failed is not None:
                raise failed
            try:
                return self.inventory.describe(query)
            except ApiError as error:
                raise failure(error.code, Kind.SENDER) from None

        return ask


@pytest.fixture
def service() -> Service:
    """A service with a few hosts."""
    made = Service()
    made.inventory.hosts = [
        host("a", InstanceId="i-1", InstanceName="web-1", IntranetIp="10.0.0.5", InternetIp="47.0.0.1"),
        host("b", InstanceId="i-2", InstanceName="web-10", IntranetIp="10.0.0.51"),
        host("c", InstanceId="i-3", InstanceName="either|or", IntranetIp="10.0.1.1", VpcInstanceId="vpc-1"),
        host("d", InstanceId="i-4", InstanceName="!web", IntranetIp="10.0.1.1", VpcInstanceId="vpc-2"),
        host("e", InstanceId="i-5", InstanceName="old", IntranetIp="10.0.0.51", Status="notRunning"),
    ]
    return made


def want(by: By, text: str, route: str = "r", **where: str) -> Wanted:
    """A host of that name."""
    return Wanted(route, by, text, tuple(sorted(where.items())))


def meaning(service: Service, *wanted: Wanted) -> list[tuple[What, str] | None]:
    """What each means, by lookups of their own."""
    found = service.lookups().resolve(wanted)
    return [(found[each].what, "".join(found[each].uuids)) if each in found else None for each in wanted]


def numbered(count: int) -> list[Wanted]:
    """So many hosts of an inventory that was made up."""
    return [want("private-ip", f"10.0.{n >> 8}.{n & 255}:9100") for n in range(count)]


# -- what a name means --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wanted", "means"),
    [
        (want("private-ip", "10.0.0.5:9100"), (What.ONE, "a")),
        (want("public-ip", "47.0.0.1"), (What.ONE, "a")),
        (want("public-ip", "10.0.0.5"), (What.NONE, "")),
        (want("instance-id", "i-3"), (What.ONE, "c")),
        (want("name", "web-1"), (What.ONE, "a")),
        (want("name", "web"), (What.NONE, "")),
        (want("name", "either|or"), (What.ONE, "c")),
        (want("name", "!web"), (What.ONE, "d")),
        (want("private-ip", "10.0.0.51"), (What.ONE, "b")),
        (want("private-ip", "10.0.1.1"), (What.SEVERAL, "cd")),
        (want("private-ip", "10.0.1.1", vpcInstanceId="vpc-2"), (What.ONE, "d")),
        (want("uuid", "a", vpcInstanceId="vpc-1"), (What.ONE, "a")),
        (want("uuid", "a", vpcInstanceId="vpc-2"), (What.NONE, "")),
        (want("name", "nobody"), (What.NONE, "")),
    ],
)
def test_a_name_is_looked_up(service: Service, wanted: Wanted, means: tuple[What, str]) -> None:
    """By each of the five, exactly, and within what else must be so."""
    assert meaning(service, wanted) == [means]


def test_a_uuid_is_not_looked_up(service: Service) -> None:
    """It is Security Center's own."""
    assert meaning(service, want("uuid", "whatever")) == [(What.ONE, "whatever")]
    assert service.calls == []


def test_a_dropped_criterion_is_told(service: Service) -> None:
    """And is not remembered."""
    service.behaviour.dropped_criteria = {"intranetIp"}
    ignored = meaning(service, want("private-ip", "192.168.9.9"))
    service.behaviour.dropped_criteria = set()

    assert ignored == [(What.FILTER_IGNORED, "")]
    assert meaning(service, want("private-ip", "192.168.9.9")) == [(What.NONE, "")]


# -- calls --------------------------------------------------------------------------------------------


def test_a_name_of_many_events_is_asked_for_once(service: Service) -> None:
    """However it is written."""
    wanted = [want("private-ip", f"10.0.0.5:{port}", route=f"r{port}") for port in range(100)]

    assert meaning(service, *wanted) == [(What.ONE, "a")] * 100
    assert len(service.calls) == 1


@pytest.mark.parametrize(("names", "calls"), [(5, 6), (10, 12), (40, 45), (500, 52)])
def test_a_storm_of_names_reads_the_list_once(service: Service, names: int, calls: int) -> None:
    """5,000 hosts are 50 calls; an address that stands in many others can be more than one."""
    service.inventory.hosts = made_up_hosts(5_000)

    found = service.lookups().resolve(numbered(names))

    assert len(found) == names
    assert len(service.calls) <= calls


def test_a_list_that_does_not_fit_into_the_time_is_not_begun(service: Service) -> None:
    """Names are asked for one by one then, and the next sweep goes on."""
    service.inventory.hosts = made_up_hosts(5_000)
    service.call_s = 0.5
    wanted = numbered(500)

    first = service.lookups().resolve(wanted)
    rest = service.lookups().resolve(wanted)

    assert 25 <= len(first) <= 30
    assert len(rest) > len(first)
    assert {**first}.items() <= rest.items()


def test_a_list_that_grew_too_long_is_avoided_for_a_while(service: Service) -> None:
    """It would take all of every sweep's time, and give nothing."""
    service.inventory.hosts = made_up_hosts(5_000)
    service.fails = lambda criteria: service.clock.sleep(0.0 if criteria or len(service.calls) < 3 else 5.0)
    wanted = numbered(500)

    assert service.lookups().resolve(wanted) == {}
    assert service.lookups().resolve(wanted)


def test_without_a_total_names_are_asked_for_one_by_one(service: Service) -> None:
    """Nobody knows how long the list is."""
    service.inventory.describe = lambda p, real=service.inventory.describe: _without_total(real(p))  # type: ignore[method-assign]

    assert len(meaning(service, *numbered(30))) == 30
    assert len(service.calls) == 31


def _without_total(answer: dict[str, object]) -> dict[str, object]:
    info = {key: each for key, each in dict(answer["PageInfo"]).items() if key != "TotalCount"}  # type: ignore[call-overload]
    return answer | {"PageInfo": info}


def test_calls_keep_the_services_pace(service: Service) -> None:
    """Ten at once, then ten a second, however fast the answers are."""
    service.call_s = 0.0
    began_s = service.clock.elapsed_s()

    service.inventory.hosts = made_up_hosts(5_000)
    service.lookups().resolve(numbered(45))

    took_s = service.clock.elapsed_s() - began_s
    assert len(service.calls) >= 45
    assert took_s >= (len(service.calls) - 11) / CALLS_A_SECOND


def test_no_call_begins_after_the_deadline(service: Service) -> None:
    """What is left has no meaning yet."""
    service.call_s = 1.0

    found = service.lookups(seconds=3.5).resolve(numbered(8))

    assert len(found) == 4
    assert len(service.calls) == 4


# -- memory -------------------------------------------------------------------------------------------


def test_what_was_found_is_remembered_for_five_minutes(service: Service) -> None:
    """By all events of the process."""
    wanted = want("name", "web-1")
    meaning(service, wanted)
    meaning(service, wanted._replace(route="another", asks_again=True))
    before = len(service.calls)
    service.clock.sleep(FOUND_S)
    meaning(service, wanted)

    assert (before, len(service.calls)) == (1, 2)


def test_a_miss_is_remembered_for_a_minute_by_others(service: Service) -> None:
    """The event that met it asks again."""
    wanted = want("name", "nobody")
    meaning(service, wanted)
    meaning(service, wanted)
    met_by_others = len(service.calls)
    meaning(service, wanted._replace(asks_again=True))
    met_again = len(service.calls)
    service.clock.sleep(MISSED_S)
    meaning(service, wanted)

    assert (met_by_others, met_again, len(service.calls)) == (1, 2, 3)


def test_a_new_host_is_found_once_it_is_listed(service: Service) -> None:
    """Within minutes."""
    service.inventory.hosts.append(host("n", InstanceName="new", appears_s=service.clock.now_s() + 70))
    wanted = want("name", "new")
    before = meaning(service, wanted)
    service.clock.sleep(70)

    assert (before, meaning(service, wanted)) == ([(What.NONE, "")], [(What.ONE, "n")])


def test_memory_is_bounded(service: Service) -> None:
    """The newest stay."""
    for n in range(REMEMBERED + 10):
        service.memory.keep(Key("name", str(n)), Found(What.ONE, (str(n),)))

    kept = [n for n in range(REMEMBERED + 10) if service.memory.recall(Key("name", str(n)), asks_again=False)]
    assert len(kept) <= REMEMBERED
    assert kept[-1] == REMEMBERED + 9


# -- failures -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "error",
    [
        failure("Throttling.User", Kind.REMOTE),
        failure(Code.NOT_CONNECTED, Kind.REMOTE),
        failure(Code.NOT_CONNECTED, Kind.OPERATOR),
    ],
    ids=["throttled", "not connected", "certificate"],
)
@pytest.mark.parametrize("names", [3, 30])
def test_throttling_and_no_connection_end_all_lookups(
    service: Service, error: QueryFailed, names: int
) -> None:
    """Of this invocation; nothing is asked after."""
    service.fails = lambda _: error
    lookups = service.lookups()

    found = lookups.resolve(numbered(names))

    assert lookups.ended is error
    assert {each.what for each in found.values()} == {What.FAILED}
    assert len(service.calls) == 1
    assert lookups.select("another", {"groupName": "prod"}) is None


@pytest.mark.parametrize("names", [3, 30])
def test_a_refused_permission_is_asked_for_once_a_route(service: Service, names: int) -> None:
    """All its names wait for the operator."""
    service.fails = lambda _: failure("NoPermission", Kind.OPERATOR)
    lookups = service.lookups()

    found = lookups.resolve(numbered(names))

    assert [each.what for each in found.values()] == [What.FAILED] * names
    assert len(service.calls) == 1
    assert lookups.ended is None


@pytest.mark.parametrize(
    ("error", "calls"),
    [(failure("ServerError", Kind.UNKNOWN), 8), (failure("-101", Kind.SENDER), 8)],
    ids=["5xx", "refused"],
)
def test_one_name_that_always_fails_holds_nobody_up(service: Service, error: QueryFailed, calls: int) -> None:
    """The other names of its route get their meaning."""
    service.fails = lambda criteria: error if criteria.get("intranetIp") == "10.0.0.0" else None

    found = service.lookups().resolve(numbered(8))

    assert [each.what for each in found.values()] == [What.FAILED] + [What.NONE] * 4 + [What.ONE] + [
        What.NONE
    ] * 2
    assert len(service.calls) == calls


def test_a_route_whose_names_keep_failing_stops_asking(service: Service) -> None:
    """Another route's are asked for all the same."""
    service.fails = lambda criteria: (
        failure("ServerError", Kind.UNKNOWN) if "vpcInstanceId" in criteria else None
    )
    failing = [want("name", f"n{n}", vpcInstanceId="vpc-1") for n in range(6)]
    other = want("name", "web-1", route="other")

    found = service.lookups().resolve([*failing, other])

    assert [each in found for each in failing] == [True] * 3 + [False] * 3
    assert found[other] == Found(What.ONE, ("a",))


# -- selections ---------------------------------------------------------------------------------------


def test_hosts_are_selected_over_all_pages(service: Service) -> None:
    """4,000 hosts are some 41 calls within the sweep's share."""
    service.inventory.hosts = made_up_hosts(7_000, seed=3)
    expected = sorted(each.uuid for each in service.inventory.hosts if each.row["GroupTrace"] == "prod")

    found = service.lookups().select("r", {"groupName": "prod"})

    assert found is not None
    assert [*found.uuids] == expected
    assert len(service.calls) <= len(expected) / 100 + 2


def test_a_selection_without_time_is_none_yet(service: Service) -> None:
    """It is not "no hosts"."""
    service.inventory.hosts = made_up_hosts(1_000)
    service.call_s = 2.0

    assert service.lookups(seconds=3).select("r", {"osType": "linux"}) is None


# -- the law ------------------------------------------------------------------------------------------

ADDRESSES = ["10.0.0.5", "10.0.0.51", "10.0.0.6"]
HOSTS = st.lists(
    st.builds(
        lambda ip, name, vpc, status: (ip, name, vpc, status),
        st.sampled_from(ADDRESSES),
        st.sampled_from(["web", "web-1", "a|b", "!a"]),
        st.sampled_from(["vpc-1", "vpc-11"]),
        st.sampled_from(["Running", "notRunning"]),
    ),
    max_size=12,
)
WANTED = st.lists(
    st.one_of(
        st.builds(want, st.just("private-ip"), st.sampled_from([*ADDRESSES, "10.0.0.7"])),
        st.builds(want, st.just("name"), st.sampled_from(["web", "web-1", "a|b", "!a", "no"])),
        st.builds(lambda n: want("uuid", f"u{n}", vpcInstanceId="vpc-1"), st.integers(0, 12)),
        st.builds(
            lambda ip, vpc: want("private-ip", ip, vpcInstanceId=vpc),
            st.sampled_from(ADDRESSES),
            st.sampled_from(["vpc-1", "vpc-11", "vpc-2"]),
        ),
    ),
    max_size=40,
)
BEHAVIOUR = st.builds(
    Behaviour,
    criteria_match=st.sampled_from(["exact", "parts"]),
    host_tokens=st.sampled_from(["absent at the end", "empty at the end", "repeated", "none"]),
    most_hosts_a_page=st.integers(2, 5),
    repeated_rows=st.integers(0, 1),
    dropped_criteria=st.sets(st.sampled_from(["intranetIp", "instanceName", "vpcInstanceId", "uuidList"])),
)


def truth(hosts: list[Host], wanted: Wanted) -> Found:
    """What the name means, by a plain comparison of all hosts."""
    called = {"private-ip": "IntranetIp", "name": "InstanceName"}
    vpc = dict(wanted.where).get("vpcInstanceId")
    exact = [
        each
        for each in hosts
        if wanted.text == (each.uuid if wanted.by == "uuid" else each.row[called[wanted.by]])
        and vpc in {None, each.row["VpcInstanceId"]}
    ]
    running = [each for each in exact if each.row["Status"] == "Running"]
    meant = running if len(running) == 1 else exact
    what = What.NONE if not meant else What.ONE if len(meant) == 1 else What.SEVERAL
    return Found(what, tuple(each.uuid for each in meant))


@given(HOSTS, WANTED, BEHAVIOUR)
def test_a_name_means_the_same_whatever_the_list_is_like(
    rows: list[tuple[str, str, str, str]], wanted: list[Wanted], behaviour: Behaviour
) -> None:
    """Asked for one by one or by the whole list, in parts or exactly, in pages of any kind; a dropped
    criterion does no harm or is told.
    """
    service = Service(behaviour=behaviour)
    service.inventory.hosts = [
        host(f"u{n}", IntranetIp=ip, InstanceName=name, VpcInstanceId=vpc, Status=status)
        for n, (ip, name, vpc, status) in enumerate(rows)
    ]

    found = service.lookups(seconds=1_000).resolve(wanted)

    assert found.keys() == {*wanted}
    for each, means in found.items():
        expected = truth(service.inventory.hosts, each)
        told = means._replace(uuids=tuple(sorted(means.uuids)))
        if not (behaviour.dropped_criteria and means.what is What.FILTER_IGNORED):
            assert told == expected._replace(uuids=tuple(sorted(expected.uuids)))
        else:
            assert expected.what is What.NONE
