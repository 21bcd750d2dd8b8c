"""Hosts by their senders' words: recorded first, looked up at the event's turn, and what came of each."""

import fnmatch
import re

import pytest

from local.emulator import Refuse, Throttle, host
from local.tools import PROJECT
from oncetask.errors import LedgerUnavailable
from oncetask.handlers import sweep
from oncetask.ledger.ledger import Ledger
from oncetask.ledger.records import Event, HostRule
from oncetask.ledger.sqlite import SqlStore
from oncetask.ledger.store import Row
from oncetask.models import Result, Status
from oncetask.submit.resolution import MOST_WRITTEN
from tests.clocks import FakeClock
from tests.functional.conftest import MakeWorld
from tests.functional.sweeps import SCAN, HookedStore, World, error_code, failing_at, one

BY_ADDRESS = HostRule(by="private-ip", wait_s=900)
OFFLINE = HostRule(where={"clientStatus": "offline"}, most=1000)
ACTION = "DescribeCloudCenterInstances"


@pytest.fixture
def world(memory: World) -> World:
    """With five hosts, of which two share an address and two are offline."""
    memory.emulator.hosts[:] = [
        host("u-1", InstanceId="i-1", InstanceName="web-1", IntranetIp="10.0.0.5"),
        host("u-2", InstanceId="i-2", InstanceName="web-10", IntranetIp="10.0.0.51", ClientStatus="offline"),
        host("u-3", InstanceId="i-3", IntranetIp="10.0.1.1", VpcInstanceId="vpc-1"),
        host("u-4", InstanceId="i-4", IntranetIp="10.0.1.1", VpcInstanceId="vpc-2"),
        host("u-5", InstanceId="i-5", InstanceName="db", IntranetIp="10.0.0.6", ClientStatus="offline"),
    ]
    return memory


def uuids(event: Event | Result) -> object:
    """What the event's own request names."""
    return event.request.param.get("uuids") if event.request else None


# -- by name --------------------------------------------------------------------------------------


def test_a_host_is_asked_for_by_what_its_address_means(world: World) -> None:
    """The result shows the uuid that was found; the port behind the address is no part of it."""
    world.record(world.draft("a", targets="10.0.0.5:9100", hosts=BY_ADDRESS))

    result = one(world.sweep().results)

    assert (result.status, uuids(result), world.targets()) == (Status.CREATED, "u-1", [("u-1",)])


def test_two_names_of_one_host_are_one_target(world: World) -> None:
    """Coalescing is by uuid, whatever the senders call the host."""
    world.record(
        world.draft("a", targets="10.0.0.5", hosts=BY_ADDRESS),
        world.draft("b", targets="i-1", hosts=HostRule(by="instance-id"), order=1),
        world.draft("c", targets="10.0.0.6", hosts=BY_ADDRESS, order=2),
    )

    world.sweep()

    assert world.targets() == [("u-1", "u-5")]


def test_nothing_is_looked_up_before_the_event_is_recorded(world: World) -> None:
    """A ledger that fails asks nobody anything."""
    store = HookedStore()
    world.app.ledger = Ledger(store, world.clock)
    store.before_put = failing_at(0)

    with pytest.raises(LedgerUnavailable):
        world.record(world.draft("a", targets="10.0.0.5", hosts=BY_ADDRESS, submit="now"))

    assert world.emulator.calls == []


def test_what_is_asked_for_at_once_is_looked_up_at_once(world: World) -> None:
    """`submit = "now"`: created by its own delivery."""
    report = world.record(world.draft("a", targets="10.0.0.5", hosts=BY_ADDRESS, submit="now"))

    assert (one(report.results).status, world.targets()) == (Status.CREATED, [("u-1",)])


def test_a_host_that_appears_is_found_while_it_is_waited_for(world: World) -> None:
    """Pending HostNotFound, then created, within the route's `wait_s`."""
    world.emulator.hosts.append(host("u-9", IntranetIp="10.0.0.9", appears_s=world.clock.now_s() + 200))
    world.record(world.draft("a", targets="10.0.0.9", hosts=BY_ADDRESS))

    first = one(world.sweep().results)
    world.sweep_after(*(60,) * 12)

    assert (first.status, error_code(first)) == (Status.PENDING, "HostNotFound")
    assert (world.statuses("a"), world.targets()) == ([Status.FINISHED], [("u-9",)])


def test_a_host_that_never_appears_is_rejected_when_its_wait_is_over(world: World) -> None:
    """Once `wait_s` has passed since the event was recorded, and not before; nothing was asked for."""
    world.record(world.draft("a", targets="10.0.0.9", hosts=BY_ADDRESS))

    before = [
        (world.sweep(), world.event("a").status)[1],
        (world.sweep_after(*(60,) * 14), world.event("a").status)[1],
    ]
    world.sweep_after(60, 60)

    event = world.event("a")
    assert before == [Status.PENDING, Status.PENDING]
    assert (event.status, error_code(event), event.hosts_missing) == (
        Status.REJECTED,
        "HostNotFound",
        ("10.0.0.9",),
    )
    assert world.targets() == []


def test_several_hosts_of_one_address_are_rejected_and_told_in_the_log_alone(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    """The uuids stand in a line of their own, and never in the message."""
    world.record(world.draft("a", targets="10.0.1.1", hosts=BY_ADDRESS))

    sweep.answer(world.app, world.app.deadline(60_000))

    event = world.event("a")
    [line] = [vars(record) for record in caplog.records if record.message == "host ambiguous"]
    assert (event.status, error_code(event)) == (Status.REJECTED, "HostAmbiguous")
    assert line["hosts"] == {"10.0.1.1": ("u-3", "u-4")}
    assert "u-3" not in str(event.error)


def test_where_tells_hosts_of_one_address_apart(world: World) -> None:
    """One address, two VPCs."""
    rule = HostRule(by="private-ip", where={"vpcInstanceId": "vpc-2"})
    world.record(world.draft("a", targets="10.0.1.1", hosts=rule))

    world.sweep()

    assert world.targets() == [("u-4",)]


def test_an_event_goes_without_the_targets_that_were_not_found(world: World) -> None:
    """After `wait_s`; its result says which, as the sender wrote them."""
    world.record(world.draft("a", targets="10.0.0.5:9100,10.0.0.9:9100", hosts=BY_ADDRESS))

    world.sweep_after(0, *(60,) * 16)

    event = world.event("a")
    assert (event.hosts_missing, world.targets()) == (("10.0.0.9:9100",), [("u-1",)])


@pytest.mark.parametrize(
    ("code", "status", "kind"), [("NoPermission", 403, "operator"), ("ServerError", 500, "remote")]
)
def test_a_failing_lookup_keeps_the_event_and_closes_no_type(
    code: str, status: int, kind: str, world: World
) -> None:
    """Pending with the answer's own code; others of its type are asked for in the same sweep."""
    world.emulator.script(*[Refuse(status, code)] * 3, action=ACTION)
    world.record(
        world.draft("a", targets="10.0.0.5", hosts=BY_ADDRESS),
        world.draft("b", targets="u-5", order=1),
    )

    world.sweep()
    [stuck, other] = [world.event(name) for name in "ab"]
    world.sweep_after(*(60,) * 16)

    assert (stuck.status, error_code(stuck)) == (Status.PENDING, code)
    assert stuck.error
    assert stuck.error.kind == kind
    assert other.status is Status.CREATED
    assert world.statuses("a") == [Status.FINISHED]


def test_throttling_ends_the_lookups_of_an_invocation_and_no_calls(world: World) -> None:
    """Nobody is looked up after it in that sweep; who needs no lookup is asked for."""
    world.emulator.script(Throttle(), action=ACTION)
    world.record(
        world.draft("a", targets="10.0.0.5", hosts=BY_ADDRESS),
        world.draft("b", targets="10.0.0.6", hosts=BY_ADDRESS, order=1),
        world.draft("c", targets="u-5", order=2),
    )

    world.sweep()

    assert len(world.calls(ACTION)) == 1
    assert world.statuses("a", "b", "c") == [Status.PENDING, Status.PENDING, Status.CREATED]


def test_a_dropped_criterion_asks_for_nothing(world: World) -> None:
    """The service gives other hosts: the operator is told, and the event waits."""
    world.emulator.behaviour.dropped_criteria = {"intranetIp"}
    world.record(world.draft("a", targets="10.0.0.9", hosts=BY_ADDRESS))

    world.sweep()

    event = world.event("a")
    assert (event.status, error_code(event)) == (Status.PENDING, "HostFilterIgnored")
    assert world.targets() == []


def test_a_storm_of_names_reads_the_list_once(world: World) -> None:
    """Two hundred names of two routes are a few pages, not two hundred calls."""
    world.emulator.hosts[:] = [host(f"u-{n}", IntranetIp=f"10.1.0.{n}") for n in range(200)]
    world.record(
        *(
            world.draft(
                str(n), targets=f"10.1.{n // 200}.{n % 200}", hosts=BY_ADDRESS, order=n, route=f"r-{n % 2}"
            )
            for n in range(200)
        )
    )

    world.sweep()

    assert len(world.calls(ACTION)) <= 4
    assert [len(targets) for targets in world.targets()] == [100, 100]


# -- selected -------------------------------------------------------------------------------------


def selecting(world: World, name: str = "all", **fields: object) -> Event:
    """An event that selects every host that is offline."""
    draft = world.draft(name, **({"hosts": OFFLINE} | fields))
    param = {key: value for key, value in draft.request.param.items() if key != "uuids"}
    return draft.model_copy(update={"request": draft.request.model_copy(update={"param": param})})


def test_a_selection_becomes_one_event_a_host_and_few_tasks(world: World) -> None:
    """Expanded; each host is an event of its own, and they share a task."""
    world.record(selecting(world))

    expanded = one(world.sweep().results)
    created = world.sweep_after(60).results

    assert (expanded.status, expanded.error) == (Status.EXPANDED, None)
    assert [result.event_id for result in created] == [
        f"webhook:agents:all/{uuid}" for uuid in ("u-2", "u-5")
    ]
    assert world.targets() == [("u-2", "u-5")]


def test_the_hosts_that_a_sweep_has_just_selected_count_as_waiting(world: World) -> None:
    """What waits is told of this moment, not of the one at which the sweep began."""
    world.record(selecting(world))

    assert world.sweep().gauges.waiting == 2


def test_the_same_selection_again_is_a_duplicate(world: World) -> None:
    """The id of what was expanded stays bound."""
    world.record(selecting(world))
    world.sweep()

    again = one(world.record(selecting(world)).results)

    assert (again.status, len(world.calls(ACTION))) == (Status.DUPLICATE, 1)


def test_a_selection_of_no_host_is_ignored(world: World) -> None:
    """There is nothing to do, and nobody to tell."""
    world.record(selecting(world, hosts=HostRule(where={"groupName": "nobody-is-here"}, most=10)))

    assert one(world.sweep().results).status is Status.IGNORED


def test_a_selection_over_its_limit_is_refused_and_never_cut(world: World) -> None:
    """Not one of them is asked for."""
    world.record(selecting(world, hosts=HostRule(where={"clientStatus": "offline"}, most=1)))

    result = one(world.sweep().results)
    world.sweep_after(60)

    assert (result.status, error_code(result), world.targets()) == (Status.REJECTED, "TooManyHosts", [])


def test_a_great_selection_is_written_over_several_sweeps(world: World) -> None:
    """1,200 hosts: 500 a sweep, and in the end tasks of 100 each."""
    world.emulator.hosts[:] = [host(f"u-{n:04d}", ClientStatus="offline") for n in range(1200)]
    world.emulator.behaviour.cap = 100
    world.record(selecting(world, hosts=HostRule(where={"clientStatus": "offline"}, most=2000)))

    stood = []
    for _ in range(3):
        world.sweep_after(60)
        stood.append((world.event("all").status, len(world.targets())))
    world.sweep_after(60)

    assert stood == [(Status.PENDING, 0), (Status.PENDING, 5), (Status.EXPANDED, 10)]
    assert [len(targets) for targets in world.targets()] == [100] * 12
    assert len({target for task in world.targets() for target in task}) == 1200
    assert MOST_WRITTEN == 500


@pytest.mark.parametrize("write", range(6))
def test_a_death_at_any_write_of_a_selection_makes_no_host_twice(write: int, make_world: MakeWorld) -> None:
    """What was selected stands on the event first: the same hosts become the same events."""
    world = make_world()
    store = HookedStore()
    world.app.ledger = Ledger(store, world.clock)
    world.emulator.hosts[:] = [host(f"u-{n}", ClientStatus="offline") for n in range(3)]
    world.record(selecting(world))
    store.before_put = failing_at(store.puts + 1 + write)
    with pytest.raises(LedgerUnavailable):
        world.sweep()
    store.before_put = lambda _: None
    world.emulator.hosts.append(host("u-late", ClientStatus="offline"))

    world.sweep_after(*(70,) * 4)

    assert world.event("all").status is Status.EXPANDED
    named = [target for task in world.targets() for target in task]
    assert sorted(set(named)) == sorted(named)
    assert {"u-0", "u-1", "u-2"} <= set(named)


class SlowStore(SqlStore):
    """A store in which a new event takes half a second of the clock."""

    def __init__(self, clock: FakeClock) -> None:
        super().__init__()
        self._clock = clock

    def put(self, row: Row, *, replacing: str | None) -> bool:
        if row.key.startswith("event/") and replacing is None:
            self._clock.advance(0.5)
        return super().put(row, replacing=replacing)


def test_a_selection_in_a_slow_ledger_is_written_as_far_as_there_is_time(world: World) -> None:
    """And noted: the next sweep goes on where this one ended."""
    world.app.ledger = Ledger(SlowStore(world.clock), world.clock)
    world.emulator.hosts[:] = [host(f"u-{n:04d}", ClientStatus="offline") for n in range(150)]
    world.record(selecting(world))

    noted = []
    for _ in range(2):
        began_s = world.clock.now_s()
        world.sweep()
        assert world.clock.now_s() - began_s < 60
        rule = world.event("all").hosts
        noted.append(rule.written if rule else 150)

    assert 0 < noted[0] < 150
    assert noted[1] == 150


def test_a_sweeps_role_may_write_all_that_a_cold_selection_writes(world: World) -> None:
    """template.yml bounds the keys; the sweep is the first to know the queue in its process."""
    template = (PROJECT / "template.yml").read_text(encoding="utf-8")
    role = template[template.index("  SweepRole:") :]
    patterns = re.findall(r"[\w-]+/\*", role[role.index("LeadingKeys: [") :].partition("]")[0])

    class RolesStore(SqlStore):
        is_the_sweeps = False

        def put(self, row: Row, *, replacing: str | None) -> bool:
            may = any(fnmatch.fnmatchcase(row.key, pattern) for pattern in patterns)
            if self.is_the_sweeps and not may:
                raise LedgerUnavailable(f"AccessDeniedException: {row.key}")
            return super().put(row, replacing=replacing)

    store = RolesStore()
    Ledger(store, world.clock).record(selecting(world))
    store.is_the_sweeps = True
    world.app.ledger = Ledger(store, world.clock)

    world.sweep_after(60, 60)

    assert world.event("all").status is Status.EXPANDED


# -- what came of each ----------------------------------------------------------------------------


def test_each_event_is_told_of_its_own_hosts(world: World) -> None:
    """Of a task that two share, with one host at fault: nobody can tell whose task went well."""
    world.emulator.behaviour.failing_hosts = {"u-5"}
    world.record(world.draft("a", targets="u-1"), world.draft("b", targets="u-5", order=1))
    world.sweep()

    world.sweep_after(60)

    [a, b] = [world.event(name).finish for name in "ab"]
    assert a
    assert b
    assert ([found.uuid for found in a.hosts], [found.uuid for found in b.hosts]) == (["u-1"], ["u-5"])
    assert (a.ok, b.ok, a.fail_count) == (None, None, 1)
    assert b.hosts[0].codes


def test_a_failed_host_of_a_task_of_its_own_is_not_well(world: World) -> None:
    """Its state is SUCCESS all the same; it is counted as a failed task."""
    world.emulator.behaviour.failing_hosts = {"u-5"}
    world.record(world.draft("b", targets="u-5"))
    world.sweep()

    world.sweep_after(60)

    finish = world.event("b").finish
    assert finish
    assert (finish.state, finish.ok) == ("SUCCESS", False)


@pytest.mark.parametrize(("lag_s", "sweeps"), [(0, 1), (50, 2), (10_000, 4)])
def test_details_that_come_late_are_waited_for_three_sweeps_at_most(
    lag_s: float, sweeps: int, world: World
) -> None:
    """The task counts as running meanwhile."""
    world.emulator.behaviour.details_lag_s = lag_s
    world.record(world.draft("a", targets="u-1"))
    world.sweep()

    stood = []
    for _ in range(4):
        world.sweep_after(60)
        stood.append(world.event("a").status)

    assert stood.index(Status.FINISHED) + 1 == sweeps


def test_a_type_that_tells_no_hosts_is_not_waited_for(world: World) -> None:
    """Only DescribeOnceTask has details."""
    world.record(world.draft("a", targets=None, task_type=SCAN))
    world.sweep()

    world.sweep_after(60)

    assert world.statuses("a") == [Status.FINISHED]
