"""Hosts at the command line: an emulator's list and what it does wrong, `explain`, and the doctor."""

import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from local.doctor import HOSTS, examined
from local.emulator import ACCESS_KEY_ID, ACCESS_KEY_SECRET, Emulator, Refuse
from local.emulator.plans import WORDS
from local.errors import CommandError
from local.explain import explain
from local.inventories import inventory, such_as
from oncetask.app import App, app_of
from oncetask.handlers import timer

ROUTES = """
[routes.by-address]
trigger = "timer"
task_type = "CLIENT_PROBLEM_CHECK"
targets = "instance"
param = {mode = 1, problemType = "offline"}
hosts = {by = "private-ip", where = {vpcInstanceId = "vpc-1"}, wait_s = 60}

[routes.selected]
trigger = "timer"
task_type = "CLIENT_PROBLEM_CHECK"
param = {mode = 1, problemType = "offline"}
hosts = {where = {groupName = "prod", clientStatus = "offline"}, most = 7}
"""
WITHOUT_HOSTS = """
[routes.collect]
trigger = "timer"
task_type = "ASSETS_COLLECTION"
param = {items = "PROC_SNAPSHOT"}
"""
CHECK = "CLIENT_PROBLEM_CHECK"


def test_a_host_to_begin_with_is_named_that_its_name_and_address_mean_alone() -> None:
    """Of the dozen, one name stands for two hosts; and an empty list has none to name."""
    assert such_as(inventory()) == ", such as web-10, 10.0.0.51"
    assert such_as([]) == ""


@pytest.fixture
def emulator(emulator: Emulator) -> Iterator[Emulator]:
    """With the dozen of the sample."""
    emulator.hosts[:] = inventory()
    yield emulator
    emulator.hosts.clear()


def environment(folder: Path, emulator: Emulator, routes: str = ROUTES) -> dict[str, str]:
    """Of a process with these routes."""
    file = folder / "routes.toml"
    file.write_text(routes, encoding="utf-8")
    return {
        "ONCETASK_ROUTES": str(file),
        "ONCETASK_ENDPOINT": emulator.url,
        "ALIBABA_CLOUD_ACCESS_KEY_ID": ACCESS_KEY_ID,
        "ALIBABA_CLOUD_ACCESS_KEY_SECRET": ACCESS_KEY_SECRET,
    }


@pytest.fixture
def app(tmp_path: Path, emulator: Emulator) -> Iterator[App]:
    """One with these routes."""
    with closing(app_of(environment(tmp_path, emulator))) as opened:
        yield opened


def tick(route: str, **more: object) -> dict[str, object]:
    """Of that route's schedule."""
    arn = f"arn:aws:scheduler:ap-southeast-1:111122223333:schedule/default/{route}"
    return {"schedule": arn, "scheduled_time": "2026-11-24T05:00:00Z", "route": route, **more}


# -- explain ------------------------------------------------------------------------------------


def test_explain_says_by_what_a_name_would_be_looked_up(app: App, emulator: Emulator) -> None:
    """After what is done to it: the port is gone; nobody is asked."""
    said = [
        text for name, text in explain(app, tick("by-address", instance="10.0.0.5:9100")) if name == "hosts"
    ]

    host = 'intranetIp is "10.0.0.5" and vpcInstanceId is "vpc-1"'
    assert said == [f'"10.0.0.5:9100" would be looked up: the host for which {host}']
    assert emulator.calls == []


def test_explain_says_what_would_be_selected(app: App, emulator: Emulator) -> None:
    """And over which number none would be."""
    said = dict(explain(app, tick("selected")))

    hosts = 'clientStatus is "offline" and groupName is "prod"'
    assert said["hosts"] == f"would be selected: every host for which {hosts}; over 7, none"
    assert emulator.calls == []


# -- doctor -------------------------------------------------------------------------------------


def test_the_doctor_tries_the_list_of_hosts_where_a_route_needs_it(
    tmp_path: Path, emulator: Emulator
) -> None:
    """By one row."""
    found = {finding.what: finding for finding in examined(environment(tmp_path, emulator))}

    [call] = [call for call in emulator.calls if call.action == HOSTS]
    assert found[HOSTS].verdict == "ok"
    assert call.parameters["PageSize"] == "1"


def test_the_doctor_says_what_allows_the_list_of_hosts(tmp_path: Path, emulator: Emulator) -> None:
    """Both prefixes."""
    emulator.script(Refuse(403, "NoPermission"), action=HOSTS)

    found = {finding.what: finding for finding in examined(environment(tmp_path, emulator))}

    assert found[HOSTS].verdict == "wrong"
    assert found[HOSTS].do == f"allow yundun-aegis:{HOSTS} and yundun-sas:{HOSTS} in RAM"


def test_the_doctor_does_not_try_the_list_where_no_route_needs_it(tmp_path: Path, emulator: Emulator) -> None:
    """Who names no hosts needs no such permission."""
    found = [finding.what for finding in examined(environment(tmp_path, emulator, WITHOUT_HOSTS))]

    assert HOSTS not in found


# -- an emulator's hosts ------------------------------------------------------------------------


def test_so_many_hosts_are_made_up_and_are_the_same_again() -> None:
    """`--hosts N`."""
    assert len(inventory("250")) == 250
    assert inventory("250") == inventory("250")


def test_a_file_gives_the_hosts(tmp_path: Path) -> None:
    """`--hosts FILE`: rows in the API's own words."""
    file = tmp_path / "hosts.json"
    file.write_text('[{"Uuid": "u-1", "IntranetIp": "10.9.9.9"}]')

    [only] = inventory(str(file))

    assert (only.uuid, only.row["IntranetIp"]) == ("u-1", "10.9.9.9")


@pytest.mark.parametrize("content", [None, "{}", "[", '[{"IntranetIp": "10.9.9.9"}]'])
def test_a_file_that_gives_none_is_told(content: str | None, tmp_path: Path) -> None:
    """In one line that names the option."""
    file = tmp_path / "hosts.json"
    if content is not None:
        file.write_text(content)

    with pytest.raises(CommandError, match=r"^--hosts"):
        inventory(str(file))


# -- what an emulator can do wrong about hosts --------------------------------------------------


def planned(emulator: Emulator, word: str, times: int = 1) -> None:
    """As an operator plans it."""
    emulator.plan(json.dumps([{"fault": word, "times": times}]).encode())


def listed(app: App, **criteria: str) -> list[str]:
    """What the last part of each host's uuid says that the service gives for these."""
    return [row.uuid[-2:] for row in app.security_center.instances(criteria, app.deadline(20_000))]


@pytest.mark.parametrize(
    ("word", "found"),
    [
        ("hosts-match-parts", ["01", "02"]),
        ("hosts-match-exactly", ["01"]),
        ("hosts-drop-criteria", [f"{number:02}" for number in range(1, 13)]),
        ("hosts-lag", []),
        ("hosts-repeat", ["01", "02"]),
    ],
)
def test_a_word_changes_one_list_of_hosts(word: str, found: list[str], app: App, emulator: Emulator) -> None:
    """By its own operation, without naming it; the call after it is as usual."""
    planned(emulator, word)

    lists = [listed(app, intranetIp="10.0.0.5") for _ in range(2)]

    assert lists == [found, ["01", "02"]]


def test_rows_repeat_over_pages_by_their_word(emulator: Emulator, app: App) -> None:
    """The pages overlap by a row; whoever reads them all has each host once."""
    emulator.behaviour.most_hosts_a_page = 5
    planned(emulator, "hosts-repeat", times=10)

    found = listed(app)

    assert (len(found), len(set(found)), len(emulator.calls)) == (12, 12, 3)


@pytest.mark.parametrize(
    ("word", "calls", "hosts_and_failed"),
    [
        ("hosts-fail", 1, (1, 1)),
        ("details-late", 2, (0, 0)),
        ("details-empty", 2, (0, 0)),
        ("details-absent", 2, (0, 0)),
        ("details-odd", 2, (0, 0)),
    ],
)
def test_a_word_changes_what_is_told_of_an_ended_task(
    word: str, calls: int, hosts_and_failed: tuple[int, int], app: App, emulator: Emulator
) -> None:
    """Its end is told all the same, and what comes of its hosts once the words are used up."""
    [made] = timer.handle(app, tick("by-address", instance="10.0.0.5"), app.deadline(20_000)).results
    task_id = str(made.task_id)
    emulator.finish(task_id)
    planned(emulator, word, times=calls)

    first, then = (app.security_center.follow(CHECK, task_id, CHECK, app.deadline(20_000)) for _ in range(2))

    assert first.ended
    assert (len(first.hosts), first.ended.fail_count) == hosts_and_failed
    assert then.ended
    assert (len(then.hosts), then.ended.fail_count) == (1, 0)


def test_a_word_that_always_holds_is_about_its_own_operation(tmp_path: Path) -> None:
    """`--fail hosts-lag`: every list is empty, and tasks are made."""
    fault, _ = WORDS["hosts-lag"]
    with Emulator(always=fault) as emulator:
        emulator.hosts[:] = inventory()
        with closing(app_of(environment(tmp_path, emulator, ROUTES + WITHOUT_HOSTS))) as app:
            [made] = timer.handle(app, tick("collect"), app.deadline(20_000)).results

            assert made.status == "created"
            assert [listed(app), listed(app)] == [[], []]
