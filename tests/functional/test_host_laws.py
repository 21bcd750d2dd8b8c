"""Laws of hosts: whatever their list is like, each host is in one task or has a reason, and no other is."""

from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import NamedTuple

from hypothesis import given, settings
from hypothesis import strategies as st

from local.emulator import ACCESS_KEY_ID, ACCESS_KEY_SECRET, Emulator, Host, host
from local.emulator.behaviour import HostTokens
from oncetask.app import App
from oncetask.ledger.records import Event, HostRule
from oncetask.models import Status
from oncetask.settings import Settings
from tests.clocks import FakeClock
from tests.functional.sweeps import World, error_code

VPC = "vpc-1"
ADDRESSES = (1, 5, 11, 12, 51, 99)
WAIT_S = 300
MADE = {Status.CREATED, Status.FINISHED}


class Inventory(NamedTuple):
    """Hosts, and what their list is like."""

    hosts: list[Host]
    matches_parts: bool
    drops: set[str]
    rows_a_page: int
    repeats: int
    tokens: HostTokens


def hosts_of(rows: list[tuple[int, str, bool, int]]) -> list[Host]:
    """Of address, VPC, whether it runs, and after how long it is listed."""
    began_s = FakeClock().now_s()
    return [
        host(
            f"u-{number}",
            IntranetIp=f"10.0.0.{address}",
            VpcInstanceId=vpc,
            Status="Running" if runs else "notRunning",
            appears_s=began_s + after_s,
        )
        for number, (address, vpc, runs, after_s) in enumerate(rows)
    ]


def inventories() -> st.SearchStrategy[Inventory]:
    """A few hosts: addresses that hold each other or are shared; released, late, never there."""
    row = st.tuples(
        st.sampled_from(ADDRESSES[:-1]),
        st.sampled_from([VPC, "vpc-12", "net"]),
        st.booleans(),
        st.sampled_from([0, 0, 100, 10**9]),
    )
    return st.builds(
        Inventory,
        st.lists(row, max_size=12).map(hosts_of),
        matches_parts=st.booleans(),
        drops=st.sets(st.sampled_from(["intranetIp", "vpcInstanceId"])),
        rows_a_page=st.sampled_from([2, 3, 100]),
        repeats=st.integers(0, 1),
        tokens=st.sampled_from(["absent at the end", "empty at the end", "repeated", "none"]),
    )


@contextmanager
def world_of(inventory: Inventory) -> Iterator[World]:
    """One clock for all; no routes are needed."""
    clock = FakeClock()
    with Emulator(clock=clock.now_s) as emulator:
        emulator.hosts[:] = inventory.hosts
        behaviour = emulator.behaviour
        behaviour.criteria_match = "parts" if inventory.matches_parts else "exact"
        behaviour.dropped_criteria = inventory.drops
        behaviour.most_hosts_a_page = inventory.rows_a_page
        behaviour.repeated_rows = inventory.repeats
        behaviour.host_tokens = inventory.tokens
        environment = {
            "ONCETASK_ENDPOINT": emulator.url,
            "ALIBABA_CLOUD_ACCESS_KEY_ID": ACCESS_KEY_ID,
            "ALIBABA_CLOUD_ACCESS_KEY_SECRET": ACCESS_KEY_SECRET,
        }
        settings = Settings.from_environment(environment)
        with closing(App(settings, environment=environment, clock=clock)) as app:
            yield World(app, clock, emulator)


def listed(world: World, hosts: list[Host], *, vpc: str | None, address: str | None = None) -> list[Host]:
    """Those that can be seen by now for which all of this is so."""
    return [
        each
        for each in hosts
        if each.appears_s <= world.clock.now_s()
        and (vpc is None or each.row["VpcInstanceId"] == vpc)
        and (address is None or each.row["IntranetIp"] == address)
    ]


def targets_of_tasks(world: World) -> Counter[str]:
    """How many tasks name each host."""
    return Counter(target for targets in world.targets() for target in targets)


@settings(deadline=None, max_examples=15)
@given(inventory=inventories(), vpc=st.sampled_from([None, VPC]))
def test_a_named_host_is_in_one_task_or_its_event_says_why(inventory: Inventory, vpc: str | None) -> None:
    """By its exact address and VPC alone; what has none is HostNotFound, several HostAmbiguous."""
    rule = HostRule(by="private-ip", where={} if vpc is None else {"vpcInstanceId": vpc}, wait_s=WAIT_S)
    with world_of(inventory) as world:
        world.record(
            *(
                world.draft(str(number), targets=f"10.0.0.{number}:9100", hosts=rule, order=order)
                for order, number in enumerate(ADDRESSES)
            )
        )
        world.sweep_after(0, *(60,) * 6)

        asked = targets_of_tasks(world)
        named: list[str] = []
        for number in ADDRESSES:
            event = world.event(str(number))
            meant = {
                each.uuid for each in listed(world, inventory.hosts, vpc=vpc, address=f"10.0.0.{number}")
            }
            if event.status in MADE:
                named.append(str(event.request.param["uuids"]))
                assert named[-1] in meant
            elif event.status is Status.PENDING:
                assert error_code(event) == "HostFilterIgnored"
                assert inventory.drops
                assert not meant
            else:
                assert event.status is Status.REJECTED
                assert error_code(event) == ("HostAmbiguous" if meant else "HostNotFound")
        assert asked == Counter(named)


@settings(deadline=None, max_examples=15)
@given(inventory=inventories())
def test_a_selected_host_is_in_one_task_and_no_other_is(inventory: Inventory) -> None:
    """All that are listed at that moment, and not one for which `where` is not so."""
    with world_of(inventory) as world:
        at_first = {each.uuid for each in listed(world, inventory.hosts, vpc=VPC)}
        world.record(selecting(world))
        world.sweep()
        first = world.event("all").status
        world.sweep_after(60, 60, 60, 60)
        later = {each.uuid for each in listed(world, inventory.hosts, vpc=VPC)}

        event, asked = world.event("all"), targets_of_tasks(world)
        if event.status is Status.PENDING:
            assert error_code(event) == "HostFilterIgnored"
            assert not later | {*asked}
        elif first is Status.PENDING:  # it was ignored until a host was listed
            assert not at_first
            assert asked == Counter(later)
        else:
            assert first is (Status.EXPANDED if at_first else Status.IGNORED)
            assert asked == Counter(at_first)


def selecting(world: World) -> Event:
    """An event that selects every host of the VPC."""
    draft = world.draft("all", hosts=HostRule(where={"vpcInstanceId": VPC}, most=100))
    request = draft.request.model_copy(update={"param": {"mode": 1, "problemType": "offline"}})
    return draft.model_copy(update={"request": request})
