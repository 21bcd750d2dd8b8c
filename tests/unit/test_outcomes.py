"""How a task's end is told of each of its events: whose hosts, how many, and whether it ended well."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oncetask.alibaba.fields import CODE_CHARS, CODES, hosts_of
from oncetask.models import Ended, Finish, HostOutcome, Progress
from oncetask.sweep.outcomes import MOST_HOSTS, awaits_details, finish_for, lost

NOW_S = 1_800_000_000.0
WELL = Ended("SUCCESS", finished_s=1_700_000_000, success_count=2, fail_count=0, total_count=2)


def host(uuid: str, *codes: str) -> HostOutcome:
    """What the record says of that host."""
    return HostOutcome(uuid=uuid, codes=codes)


def finish(ended: Ended = WELL, *, alone: bool = True, hosts: tuple[HostOutcome, ...] = ()) -> Finish:
    """The end as an event with the targets `a` and `b` sees it."""
    return finish_for({"a", "b"}, ended, hosts, served_alone=alone, now_s=NOW_S)


@pytest.mark.parametrize(
    ("ended", "alone", "ok"),
    [
        (WELL, True, True),
        (WELL, False, True),
        (Ended("FAIL", success_count=2, fail_count=0), True, False),
        (Ended("TIMEOUT"), False, False),
        (WELL._replace(success_count=1, fail_count=1), True, False),
        (WELL._replace(success_count=1, fail_count=1), False, None),
        (WELL._replace(success_count=1), True, None),
        (WELL._replace(total_count=None), True, True),
        (WELL._replace(fail_count=None), True, True),
        (WELL._replace(fail_count=None, total_count=None), True, None),
        (WELL._replace(success_count=None), True, None),
        (WELL._replace(success_count=0), True, None),
        (Ended("SUCCESS"), True, None),
        (Ended("SUCCESS", total_count=2), True, None),
    ],
)
def test_it_ended_well_where_the_service_counts_only_succeeded_machines(
    ended: Ended,
    alone: bool,  # noqa: FBT001 - the table's columns
    ok: bool | None,  # noqa: FBT001
) -> None:
    """A failed machine is this event's where the task served it alone, and perhaps another's where not."""
    assert finish(ended, alone=alone).ok is ok


def test_a_code_alone_tells_nothing() -> None:
    """What the codes mean is not public."""
    coded = (host("a", "1003: run this"),)

    assert finish(hosts=coded).ok is True
    assert finish(Ended("SUCCESS"), hosts=coded).ok is None


def test_an_event_sees_its_own_hosts_alone_those_with_a_code_first() -> None:
    """A task of a hundred may serve a hundred senders."""
    seen = finish(hosts=(host("a"), host("c", "1003"), host("b", "7"))).hosts

    assert seen == (host("b", "7"), host("a"))


def test_an_event_that_names_no_target_sees_all_hosts_of_a_task_of_its_own() -> None:
    """A scan of everything was asked for by this event; a shared task's hosts could be anybody's."""
    hosts = (host("a"), host("c"))

    seen = [
        finish_for(None, WELL, hosts, served_alone=alone, now_s=NOW_S).hosts == hosts
        for alone in (True, False)
    ]

    assert seen == [True, False]


@given(
    count=st.integers(0, 250),
    text=st.text(max_size=200),
    hosts_bytes=st.integers(0, 30_000),
)
def test_what_is_left_out_is_counted(count: int, text: str, hosts_bytes: int) -> None:
    """At most a hundred, and as many as there is room for; none is lost silently."""
    hosts = [host(f"h{n}", text) if n % 3 else host(f"h{n}") for n in range(count)]

    seen = finish_for(None, WELL, hosts, served_alone=True, now_s=NOW_S, hosts_bytes=hosts_bytes)

    assert len(seen.hosts) + seen.hosts_left_out == count
    assert len(seen.hosts) <= MOST_HOSTS
    assert sum(len(json.dumps(each.model_dump())) for each in seen.hosts) <= hosts_bytes
    coded = [bool(each.codes) for each in seen.hosts]
    assert coded == sorted(coded, reverse=True)


def test_the_end_is_the_services_or_when_it_was_seen() -> None:
    """Some operations tell no end time, and nobody sees the end of what is lost."""
    times = [
        finish().finished_at,
        finish(Ended("SUCCESS")).finished_at,
        lost(NOW_S).finished_at,
    ]

    assert times == ["2023-11-14T22:13:20.000Z", "2027-01-15T08:00:00.000Z", "2027-01-15T08:00:00.000Z"]
    assert (lost(NOW_S).state, lost(NOW_S).ok) == ("LOST", False)


@pytest.mark.parametrize(
    ("targets", "told", "sweeps", "awaits"),
    [
        ("ab", "", 1, True),
        ("ab", "a", 1, True),
        ("ab", "ab", 1, False),
        ("ab", "abc", 1, False),
        ("ab", "a", 3, False),
        ("", "", 2, True),
        ("", "c", 1, False),
        ("", "", 3, False),
    ],
)
def test_an_end_waits_for_its_hosts_three_sweeps_at_most(
    targets: str,
    told: str,
    sweeps: int,
    awaits: bool,  # noqa: FBT001 - the table's column
) -> None:
    """They may come late, a few at a time, or never."""
    progress = Progress("SUCCESS", WELL, tuple(host(uuid) for uuid in told))

    assert awaits_details(targets, progress, sweeps=sweeps) is awaits


# -- DetailData -----------------------------------------------------------------------------------

SAMPLE = {
    "dispatchType": "manual",
    "causeMsg": [],
    "causeCode": [],
    "resCode": ["1003"],
    "resMsg": ["powershell aegis_checker.exe"],
    "problemType": "offline",
    "uuid": "inet-1",
    "url": "https://logs.example.com/1",
}


def test_the_published_sample_is_read() -> None:
    """Text that holds an array of objects; code and message are paired."""
    assert hosts_of(json.dumps([SAMPLE])) == (
        HostOutcome(
            uuid="inet-1",
            problem="offline",
            dispatch="manual",
            codes=("1003: powershell aegis_checker.exe",),
            report_url="https://logs.example.com/1",
        ),
    )


@pytest.mark.parametrize(
    "details", [None, "", "[]", "not JSON", "{}", "[[]]", "[7]", 7, "[" * 100_000, "1e999"]
)
def test_details_that_say_nothing_name_no_host(details: object) -> None:
    """Absent, empty and unreadable are one."""
    assert hosts_of(details) == ()


@pytest.mark.parametrize(
    ("codes", "messages", "told"),
    [
        (["1", "2"], ["a", "b"], ("1: a", "2: b")),
        (["1", "2"], ["a"], ("1", "2")),
        ([], ["a"], ()),
        ("1", "a", ("1: a",)),
        ([1003], None, ("1003",)),
        ([None, "2"], ["a", ""], ("a", "2")),
        ({"odd": 1}, True, ()),
    ],
)
def test_a_code_has_a_message_only_where_they_are_as_many(
    codes: object, messages: object, told: tuple[str, ...]
) -> None:
    """Else nobody says whose a message is."""
    [seen] = hosts_of([{"uuid": "a", "resCode": codes, "resMsg": messages}])

    assert seen.codes == told


def test_codes_are_bounded() -> None:
    """A message can be a whole script, and there can be any number of them."""
    [seen] = hosts_of([{"uuid": "a", "causeCode": list("123456789"), "causeMsg": ["x" * 9_999] * 9}])

    assert len(seen.causes) == CODES
    assert {len(cause) for cause in seen.causes} == {CODE_CHARS}


def test_a_host_that_is_named_twice_is_one_outcome() -> None:
    """A task's own record and those below it, or one entry a problem."""
    entries = [
        {"uuid": "a", "resCode": ["1"]},
        {"uuid": "b"},
        {"uuid": "a", "resCode": ["2", "1"], "url": "u"},
    ]

    assert hosts_of(entries) == (HostOutcome(uuid="a", codes=("1", "2"), report_url="u"), host("b"))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from([*SAMPLE, "x"]), inner),
    max_leaves=10,
)


@given(JSON | st.lists(st.dictionaries(st.sampled_from([*SAMPLE]), JSON)))
def test_nothing_that_is_in_details_raises(details: object) -> None:
    """They are data of somebody else."""
    for seen in hosts_of(details):
        json.dumps(seen.model_dump()).encode()
