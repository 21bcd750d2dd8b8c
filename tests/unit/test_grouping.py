"""Many waiting events become few requests: tables, and the laws that hold for all."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oncetask.ledger.records import Event
from oncetask.models import Status, TaskRequest, Trigger
from oncetask.routing.requests import REQUEST_LINE_BYTES
from oncetask.submit.grouping import groups, merged_request, targets_of
from tests.clocks import NOW_S


def event(
    event_id: str = "a", targets: str = "t1", param: dict[str, object] | None = None, **fields: object
) -> Event:
    """A waiting event of a `submit = "sweep"` route with targets."""
    names = {key: str(fields.pop(key, default)) for key, default in _NAMES.items()}
    made = Event(
        event_id=event_id,
        status=Status.PENDING,
        trigger=Trigger.WEBHOOK,
        route="agents",
        request=TaskRequest(**names, param={"mode": 1, **(param or {}), "uuids": targets}),
        submit="sweep",
        target_key="uuids",
        max_targets=100,
        order=0,
        received_s=NOW_S,
        due_s=NOW_S,
        give_up_s=NOW_S + 60,
        keep_s=600,
    )
    return made.model_copy(update=fields)


_NAMES = {"task_type": "CLIENT_PROBLEM_CHECK", "task_name": "CLIENT_PROBLEM_CHECK", "source": "oncetask"}


def ids(events: list[Event]) -> list[list[str]]:
    """The groups as ids."""
    return [[member.event_id for member in group] for group in groups(events)]


# -- tables ---------------------------------------------------------------------------------------


def test_events_that_are_alike_share_a_task() -> None:
    """Same route, type, name, source and param but for the targets: one request with all targets."""
    [group] = groups([event("a", "t1,t2"), event("b", "t3"), event("c", "t2")])

    assert merged_request(group).param == {"mode": 1, "uuids": "t1,t2,t3"}


@pytest.mark.parametrize(
    "other",
    [
        event("b", route="others"),
        event("b", task_type="CLIENT_DEV_OPS"),
        event("b", task_name="other"),
        event("b", source="other"),
        event("b", param={"mode": 2}),
        event("b", param={"mode": True}),
        event("b", param={"mode": "1"}),
        event("b", param={"more": None}),
        event("b", part="call/0"),
        event("b", submit="now"),
        event("b", target_key=None),
    ],
    ids=[*("route", "type", "name", "source", "value", "true", "text", "key", "part", "now", "no targets")],
)
def test_events_that_differ_do_not_share_a_task(other: Event) -> None:
    """A difference in anything but the targets keeps two events apart."""
    assert ids([event("a"), other]) == [["a"], ["b"]]


def test_the_order_of_a_params_keys_makes_no_difference() -> None:
    """Objects are equal whatever the order of their keys, inside as well."""
    one = event("a", param={"x": {"p": 1, "q": 2}, "y": 3})
    other = event("b", param={"y": 3, "x": {"q": 2, "p": 1}})

    assert ids([one, other]) == [["a", "b"]]


@pytest.mark.parametrize("fields", [{"submit": "now"}, {"target_key": None}])
def test_every_other_event_is_a_task_of_its_own(fields: dict[str, object]) -> None:
    """An event of a `now` route, or without targets, shares its task with no other."""
    assert ids([event("a", **fields), event("b", **fields)]) == [["a"], ["b"]]


def test_a_group_ends_at_max_targets() -> None:
    """250 events of one target and 100 targets a task are 100, 100 and 50."""
    made = groups([event(str(n), f"t{n}") for n in range(250)])

    assert [len(group) for group in made] == [100, 100, 50]


def test_a_full_group_still_takes_who_adds_no_target() -> None:
    """As few tasks as there can be: a target that a task already has costs no room."""
    events = [
        event("a", "t1", max_targets=1),
        event("b", "t2", max_targets=1),
        event("c", "t1", max_targets=1),
    ]

    assert ids(events) == [["a", "c"], ["b"]]


def test_room_that_is_left_is_used() -> None:
    """A later event fills what an earlier one was too large for, in the newest group that takes it."""
    sizes = {"a": "t1,t2", "b": "t3,t4", "c": "t5", "d": "t6"}

    assert ids([event(name, targets, max_targets=3) for name, targets in sizes.items()]) == [
        ["a", "d"],
        ["b", "c"],
    ]


def test_the_smallest_max_targets_of_a_group_holds() -> None:
    """Events recorded before and after a change of the routes file: neither's limit is broken."""
    events = [
        event("a", "t1", max_targets=9),
        event("b", "t2", max_targets=2),
        event("c", "t3", max_targets=9),
    ]

    assert ids(events) == [["a", "b"], ["c"]]


def test_a_group_ends_at_the_request_line() -> None:
    """Long targets make smaller groups; each request line has at most 8,000 bytes."""
    made = groups([event(str(n), f"{n:0>124}:{n:03}", max_targets=1000) for n in range(200)])

    assert max(merged_request(group).line_bytes() for group in made) > REQUEST_LINE_BYTES - 140
    assert all(merged_request(group).line_bytes() <= REQUEST_LINE_BYTES for group in made)


def test_an_event_alone_keeps_its_own_request() -> None:
    """A request is changed only where it serves several events."""
    alone = event("a", "t2,t1")

    assert merged_request([alone]) is alone.request


# -- laws -----------------------------------------------------------------------------------------

names = st.sampled_from([f"t{n}" for n in range(12)] + ["x" * 100 + f":{n}" for n in range(40)])
some_events = st.lists(
    st.builds(
        event,
        event_id=st.uuids().map(str),
        targets=st.lists(names, min_size=1, max_size=5, unique=True).map(",".join),
        param=st.sampled_from([{}, {"mode": 2}]),
        route=st.sampled_from(["agents", "others"]),
        submit=st.sampled_from(["sweep", "sweep", "sweep", "now"]),
        max_targets=st.integers(5, 60),
        part=st.sampled_from([None, None, "call/0", "call/1"]),
    ),
    max_size=60,
)


@given(some_events)
def test_every_event_is_in_exactly_one_group(events: list[Event]) -> None:
    """A partition: none lost, none twice, in the given order within a group and by first events."""
    made = groups(events)

    place = {member.event_id: n for n, member in enumerate(events)}
    members = [[place[member.event_id] for member in group] for group in made]
    assert Counter(n for group in members for n in group) == Counter(range(len(events)))
    assert all(group == sorted(group) for group in members)
    assert [group[0] for group in members] == sorted(group[0] for group in members)


@given(some_events)
def test_no_group_breaks_a_limit(events: list[Event]) -> None:
    """Targets at most everybody's `max_targets`, and a request line of at most 8,000 bytes."""
    for group in groups(events):
        request = merged_request(group)
        targets = str(request.param["uuids"]).split(",")

        assert len(targets) <= min(member.max_targets for member in group)
        assert request.line_bytes() <= REQUEST_LINE_BYTES


@given(some_events)
def test_a_group_asks_for_exactly_its_events_targets(events: list[Event]) -> None:
    """Unique, in order of arrival, nobody's left out, and nothing else changed."""
    for group in groups(events):
        request = merged_request(group)

        arrived = [target for member in group for target in targets_of(member)]
        assert str(request.param["uuids"]).split(",") == list(dict.fromkeys(arrived))
        for member in group:
            param = request.param | {"uuids": member.request.param["uuids"]}
            assert request.model_copy(update={"param": param}) == member.request
            assert (member.route, member.part) == (group[0].route, group[0].part)


@given(some_events)
def test_only_what_coalesces_shares(events: list[Event]) -> None:
    """An event of a `now` route is always alone."""
    assert all(len(group) == 1 or all(member.coalesces for member in group) for group in groups(events))


@given(st.lists(st.integers(0, 400), max_size=300), st.integers(1, 30))
def test_events_of_one_target_each_become_the_fewest_tasks(numbers: list[int], max_targets: int) -> None:
    """As few tasks as `max_targets` allows."""
    events = [event(str(n), f"t{number}", max_targets=max_targets) for n, number in enumerate(numbers)]

    assert len(groups(events)) == -(-len(set(numbers)) // max_targets)
