"""What the timer function promises, against a real ledger and the
emulator; and, in processes of their own, what it prints and how it starts.
"""

import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from local.emulator import (
    ACCESS_KEY_ID,
    ACCESS_KEY_SECRET,
    CanCreateFalse,
    CapReached,
    Emulator,
    Refuse,
    ResetAfter,
    Silence,
    Throttle,
)
from oncetask.app import App
from oncetask.errors import LedgerUnavailable
from oncetask.handlers.timer import drafts_of, handle
from oncetask.ledger.ledger import Ledger
from oncetask.ledger.records import Lane
from oncetask.ledger.sqlite import SqlStore
from oncetask.ledger.store import Row, Store
from tests.clocks import NOW_S, FakeClock
from tests.conftest import MakeApp
from tests.open_records import lanes, waiting

ROOT = Path(__file__).resolve().parents[2]
SCHEDULES = "arn:aws:scheduler:eu-central-1:111122223333:schedule"
T1, T2, T3 = "2026-11-24T05:00:00Z", "2026-11-24T05:01:00Z", "2026-11-24T05:02:00Z"
LONG_MS = 30_000

ROUTES = """
[routes.nightly]
trigger   = "timer"
task_type = "ASSETS_COLLECTION"
[routes.nightly.param]
items = "PORT_SNAPSHOT"

[routes.hosts]
trigger   = "timer"
each      = "hosts"
id        = "name"
task_type = "CLIENT_PROBLEM_CHECK"
targets   = "uuid"
[routes.hosts.param]
mode = 1
problemType = "offline"

[routes.scan]
trigger    = "timer"
task_type  = "IMAGE_SCAN"
task_name  = "a b+c%20~*'()!@:/?#[]&=;,$"
source     = "blåbær 漢字"
param_from = {given = "given"}
"""

# Tea 0.4.6 dates its requests with datetime.utcnow().
pytestmark = pytest.mark.filterwarnings("ignore:datetime.datetime.utcnow:DeprecationWarning")


def tick(route: str = "nightly", at: str = T1, **payload: object) -> dict[str, Any]:
    """What EventBridge Scheduler hands over for that route at that scheduled time."""
    return {"route": route, "schedule": f"{SCHEDULES}/default/{route}", "scheduled_time": at, **payload}


def results(app: App, event: object, *, remaining_ms: int = LONG_MS) -> list[dict[str, Any]]:
    """The results of one invocation, as JSON data."""
    report = handle(app, event, app.deadline(remaining_ms))
    return [result.document() for result in report.results]


def only_result(app: App, event: object, *, remaining_ms: int = LONG_MS) -> dict[str, Any]:
    """The one result of one invocation."""
    (result,) = results(app, event, remaining_ms=remaining_ms)
    return result


@pytest.fixture
def make_app(make_app: MakeApp) -> Iterator[MakeApp]:
    """As everywhere, and every ledger is closed in the end."""
    apps: list[App] = []

    def make(*routes: str, **keys: Any) -> App:  # noqa: ANN401 - handed through
        apps.append(make_app(*routes, **keys))
        return apps[-1]

    yield make
    for app in apps:
        if "ledger" in vars(app):
            app.ledger.store.close()


@pytest.fixture
def clock() -> FakeClock:
    """The app's clock."""
    return FakeClock()


@pytest.fixture(params=["memory", "sqlite"])
def ledger_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Either ledger of one's own machine."""
    return "memory://" if request.param == "memory" else f"sqlite://{tmp_path}/ledger"


@pytest.fixture
def app(make_app: MakeApp, clock: FakeClock, ledger_url: str) -> App:
    """An app of the routes above, with either ledger."""
    return make_app(ROUTES, clock=clock, ONCETASK_LEDGER=ledger_url)


# --- what a timer event may look like


def scheduled_event(arn: object, *, at: object = T1) -> dict[str, Any]:
    """What EventBridge hands over for a rule, or Scheduler for a schedule without an input."""
    return {"detail-type": "Scheduled Event", "id": "e-1", "time": at, "resources": [arn], "detail": {}}


@pytest.mark.parametrize(
    ("event", "event_id"),
    [
        (tick(), f"timer:nightly:{T1}"),
        (tick() | {"schedule": f"{SCHEDULES}/default/other"}, f"timer:nightly@other:{T1}"),
        (tick() | {"schedule": f"{SCHEDULES}/g.1/nightly"}, f"timer:nightly@g.1/nightly:{T1}"),
        (tick() | {"schedule": "arn:aws:events:eu-west-1:1:rule/nightly"}, f"timer:nightly:{T1}"),
        (tick() | {"schedule": "arn:aws:events:eu-west-1:1:rule/a-bus/nightly"}, f"timer:nightly:{T1}"),
        (
            tick() | {"schedule": "arn:aws-cn:scheduler:cn-north-1:1:schedule/default/nightly"},
            f"timer:nightly:{T1}",
        ),
        (tick(at="2026-11-24T05:00:00.123+01:00"), "timer:nightly:2026-11-24T05:00:00.123+01:00"),
        (scheduled_event("arn:aws:events:eu-west-1:1:rule/nightly"), f"timer:nightly:{T1}"),
        (scheduled_event(f"{SCHEDULES}/default/nightly"), f"timer:nightly:{T1}"),
        (scheduled_event(f"{SCHEDULES}/g/nightly"), f"timer:nightly@g/nightly:{T1}"),
        (tick() | {"tasks": [7]}, f"timer:nightly:{T1}"),
        (tick() | {"detail-type": "Scheduled Event"}, f"timer:nightly:{T1}"),
    ],
)
def test_an_event_of_any_form_has_the_documented_id(make_app: MakeApp, event: object, event_id: str) -> None:
    """Route, schedule where it has another name, and scheduled time; other keys are the payload."""
    (draft,) = drafts_of(make_app(ROUTES), event)

    assert (draft.event_id, draft.status) == (event_id, "pending")


@pytest.mark.parametrize(
    "event",
    [
        *(None, [], "nightly", 7, True, {}, {"route": "nightly"}, {"detail-type": "Scheduled Event"}),
        *(tick() | {"route": route} for route in (None, 7, "", "Nightly", ["nightly"])),
        *(
            tick() | {"schedule": schedule}
            for schedule in (
                *(None, 7, "", "nightly", "<aws.scheduler.schedule-arn>", SCHEDULES, f"{SCHEDULES}/default/"),
                *(f"{SCHEDULES}/default/a b", f"{SCHEDULES}/default/a/b", f"{SCHEDULES}/nightly"),
                *(
                    f"{SCHEDULES}/default/nightly\n",
                    "arn:aws:events:eu-west-1:1:rule/",
                    "arn:aws:s3:::nightly",
                ),
            )
        ),
        *(
            tick() | {"scheduled_time": at}
            for at in (
                *(None, 7, "", "<aws.scheduler.scheduled-time>", "tomorrow", "2026-11-24", "05:00:00"),
                *("2026-02-30T05:00:00Z", "2026-11-24T25:00:00Z", "2026-11-24\n05:00:00Z", f"{T1}\n"),
                *("2026-11-24\ud80005:00:00", "٢٠٢٦-11-24T05:00:00Z", 1_795_500_000),
            )
        ),
        *(
            {"tasks": tasks, "schedule": f"{SCHEDULES}/default/a", "scheduled_time": T1}
            for tasks in (None, [], {}, "x")
        ),
        *(scheduled_event(arn) for arn in (None, 7, "nightly", f"{SCHEDULES}/default/nobody")),
        scheduled_event("arn:aws:events:eu-west-1:1:rule/nightly", at="<now>"),
        scheduled_event("arn:aws:events:eu-west-1:1:rule/nightly") | {"resources": []},
        scheduled_event("arn:aws:events:eu-west-1:1:rule/nightly") | {"resources": "nightly"},
        scheduled_event("arn:aws:events:eu-west-1:1:rule/nightly") | {"detail-type": "Scheduled"},
    ],
)
def test_anything_else_is_not_understood(make_app: MakeApp, event: object) -> None:
    """One `rejected` result, and nothing is recorded."""
    (result,) = drafts_of(make_app(ROUTES), event)

    assert result.status == "rejected"
    assert result.error.code == "EventNotUnderstood"
    assert (result.event_id, result.route, result.request) == (None, None, None)


# --- what is rejected is recorded


def digest_of(event: object) -> str:
    """Of the event as canonical JSON."""
    return hashlib.sha256(json.dumps(event, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


@pytest.mark.parametrize("event", [None, {}, tick() | {"schedule": 7}, tick("nobody")])
def test_a_tick_that_is_not_understood_is_kept_by_its_content(app: App, event: object) -> None:
    """Closed, for a week, so that it is handed on like every result."""
    result = only_result(app, event)

    kept = app.ledger.event(f"timer:sha256-{digest_of(event)}")
    assert kept is not None
    assert kept.result().document() == result
    assert (result["request"], result["sequence"]) == (None, 1)
    assert kept.expires_s == int(app.clock.now_s()) + 604_800
    assert waiting(app.ledger) == []


def test_a_rejected_tick_that_comes_again_is_told_the_same_and_written_no_second_time(
    app: App, clock: FakeClock
) -> None:
    """What is not written is not handed on."""
    store = failing(app, lambda _: False)
    first = only_result(app, tick("nobody"))
    clock.advance(60)
    written: list[str] = []
    store.fails = lambda key: bool(written.append(key))

    again = only_result(app, tick("nobody"))
    store.fails = lambda _: False

    kept = store.get(written[0])
    assert (again, len(written)) == (first, 1)
    assert kept is not None
    assert '"sequence":1' in kept.body


def test_a_tick_that_is_mended_takes_the_id_of_its_rejection(app: App) -> None:
    """And its results are counted on."""
    rejected = only_result(app, tick("hosts", hosts=[{"name": "a"}]))

    mended = only_result(app, tick("hosts", hosts=[{"name": "a", "uuid": "i-1"}]))

    assert (rejected["status"], rejected["sequence"]) == ("rejected", 1)
    assert (mended["event_id"], mended["status"]) == (rejected["event_id"], "created")
    assert mended["sequence"] == 3


def test_a_rejection_leaves_a_bound_event_as_it_is(app: App) -> None:
    """The id is the created one's."""
    good = tick("hosts", hosts=[{"name": "a", "uuid": "i-1"}])
    made = only_result(app, good)

    assert only_result(app, tick("hosts", hosts=[{"name": "a"}]))["status"] == "rejected"
    assert only_result(app, good) == made | {"status": "duplicate"}


def test_a_tick_that_no_json_can_carry_is_rejected_all_the_same(app: App) -> None:
    """Nothing raises."""
    deep: list[object] = []
    for _ in range(100_000):
        deep = [deep]

    assert only_result(app, {"x": deep})["status"] == "rejected"


# --- ids and duplicates


def test_the_same_tick_again_is_a_duplicate_with_the_first_results_task(
    app: App, emulator: Emulator, clock: FakeClock
) -> None:
    """Task, response and time of receipt are the first's, the error is null, and nothing is asked."""
    first = only_result(app, tick())
    clock.advance(60)

    again = only_result(app, tick())

    assert first["status"] == "created"
    assert again == first | {"status": "duplicate"}
    assert again["error"] is None
    assert again["task_id"] == emulator.tasks[0].task_id
    assert len(emulator.calls) == 1


def test_a_restarted_process_knows_what_a_file_has_kept(
    make_app: MakeApp, emulator: Emulator, tmp_path: Path
) -> None:
    """A ledger of SQLite outlives its process."""
    url = f"sqlite://{tmp_path}/ledger"
    first = only_result(make_app(ROUTES, ONCETASK_LEDGER=url), tick())

    again = only_result(make_app(ROUTES, ONCETASK_LEDGER=url), tick())

    assert (again["status"], again["task_id"]) == ("duplicate", first["task_id"])
    assert len(emulator.tasks) == 1


def test_another_item_under_the_same_tick_is_rejected(app: App, emulator: Emulator) -> None:
    """The item is compared, not the request: both map to the same here. The first stays as it was."""
    first = only_result(app, tick())

    other = only_result(app, tick(note="edited"))

    assert (other["status"], other["error"]["code"]) == ("rejected", "EventIdReused")
    assert other["event_id"] == first["event_id"]
    assert only_result(app, tick())["status"] == "duplicate"
    assert len(emulator.calls) == 1


def test_of_equal_ids_within_one_tick_the_first_counts(app: App, emulator: Emulator) -> None:
    """The rest are duplicates of it, with its request and its task."""
    hosts = [{"name": "web", "uuid": f"inet-{number}"} for number in range(3)]

    first, *rest = results(app, tick("hosts", hosts=hosts))

    assert first["status"] == "created"
    assert first["request"]["Param"]["uuids"] == "inet-0"
    assert rest == [first | {"status": "duplicate"}] * 2
    assert len(emulator.tasks) == 1


def test_a_rejected_id_is_free_again(app: App, emulator: Emulator) -> None:
    """Once the sender has put it right, the same tick makes its task."""
    emulator.script(Refuse(400, "InvalidParameter"))
    assert only_result(app, tick(note="wrong"))["status"] == "rejected"

    mended = only_result(app, tick(note="right"))

    assert mended["status"] == "created"


def test_while_it_is_open_a_tick_is_answered_as_it_stands(app: App, emulator: Emulator) -> None:
    """Pending or unknown, with its error; nothing is asked by the second delivery."""
    emulator.script(Throttle(), ResetAfter())
    pending = only_result(app, tick())
    unknown = only_result(app, tick("scan"))

    assert (pending["status"], unknown["status"]) == ("pending", "unknown")
    assert only_result(app, tick()) == pending
    assert only_result(app, tick("scan")) == unknown
    assert len(emulator.calls) == 2


# --- recorded, then asked, in order


def test_nothing_is_asked_before_all_is_recorded(
    make_app: MakeApp, emulator: Emulator, tmp_path: Path
) -> None:
    """At the first call, another process finds both events and the call that is out."""
    path = tmp_path / "ledger"
    app = make_app(ROUTES, ONCETASK_LEDGER=f"sqlite://{path}")
    seen: list[tuple[list[str], list[tuple[str, ...]]]] = []

    def look(_: object) -> dict[str, object]:
        store = SqlStore(path)
        ledger = Ledger(store, FakeClock(time.time()))
        calls = [lane.record.call for lane in lanes(ledger) if lane.record.is_unresolved]
        seen.append(
            ([event.event_id for event in waiting(ledger)], [call.event_ids for call in calls if call])
        )
        store.close()
        return {"CanCreate": True, "TaskId": f"task-{len(seen)}"}

    emulator.add_operation("2018-12-03", "GenerateOnceTask", look)
    made = results(app, tick("hosts", hosts=[{"name": "a", "uuid": "i-1"}, {"name": "b", "uuid": "i-2"}]))

    ids = [f"timer:hosts:{T1}/a", f"timer:hosts:{T1}/b"]
    assert [result["task_id"] for result in made] == ["task-1", "task-2"]
    assert seen == [(ids, [(ids[0],)]), ([ids[1]], [(ids[1],)])]


def test_results_stand_in_the_order_of_the_items(app: App, emulator: Emulator) -> None:
    """Whatever becomes of each."""
    results(app, tick("hosts", hosts=[{"name": "old", "uuid": "i-0"}]))
    hosts = [
        {"name": "bad", "uuid": "no target"},
        {"name": "new", "uuid": "i-1"},
        {"name": "old", "uuid": "i-0"},
        {"name": "refused", "uuid": "i-2"},
        {"name": "throttled", "uuid": "i-3"},
        {"name": "late", "uuid": "i-4"},
    ]
    emulator.script(None, Refuse(400, "InvalidParameter"), Throttle())

    made = results(app, tick("hosts", hosts=hosts))

    assert [result["event_id"].rpartition("/")[2] for result in made] == [host["name"] for host in hosts]
    assert [result["status"] for result in made] == [
        *("rejected", "created", "duplicate", "rejected", "pending", "pending")
    ]
    assert [result["attempts"] for result in made] == [0, 1, 1, 1, 1, 0]


def test_after_the_last_free_slot_the_rest_of_a_tick_waits(app: App, emulator: Emulator) -> None:
    """CanCreate false with a TaskId is a created task, and the end of asking."""
    emulator.script(CanCreateFalse())

    first, second = results(
        app, tick("hosts", hosts=[{"name": "a", "uuid": "i-1"}, {"name": "b", "uuid": "i-2"}])
    )

    assert (first["status"], first["response"]["CanCreate"]) == ("created", False)
    assert (second["status"], second["error"], second["attempts"]) == ("pending", None, 0)
    assert len(emulator.calls) == 1


@pytest.mark.parametrize(
    "given", ["plain", "a b+c%20~*'()!@:/?#[]&=;,$", "blåbær 漢字 🎈", '"\\\n\t\x00\x7f']
)
def test_the_request_line_is_as_long_as_it_was_measured(
    make_app: MakeApp, emulator: Emulator, given: str
) -> None:
    """The bound of RequestTooLarge speaks of the bytes that really travel."""
    app = make_app(ROUTES)
    event = tick("scan", given=given)
    (draft,) = drafts_of(app, event)

    assert only_result(app, event)["status"] == "created"

    (call,) = emulator.calls
    assert len("POST /? HTTP/1.1") + call.query_bytes == draft.request.line_bytes()
    assert call.parameters == draft.request.query()


# --- nobody overtakes


def test_behind_an_older_due_event_of_its_type_a_tick_waits(
    app: App, emulator: Emulator, clock: FakeClock
) -> None:
    """`now` behaves as `sweep` while something of the type waits that is due."""
    emulator.script(CapReached())
    older = only_result(app, tick(at=T1))
    clock.advance(60)

    newer = only_result(app, tick(at=T2))

    assert (older["status"], older["error"]["kind"]) == ("pending", "remote")
    assert (newer["status"], newer["error"], newer["attempts"]) == ("pending", None, 0)
    assert len(emulator.calls) == 1


def test_another_type_is_not_held_up(app: App, emulator: Emulator, clock: FakeClock) -> None:
    """Each type has its own queue."""
    emulator.script(CapReached())
    results(app, tick(at=T1))
    clock.advance(1)

    assert only_result(app, tick("scan"))["status"] == "created"


def test_what_waits_for_its_backoff_does_not_count(app: App, emulator: Emulator, clock: FakeClock) -> None:
    """Until it is due: then nobody overtakes it any more."""
    emulator.script(Throttle(retry_after_ms=60_000))
    assert only_result(app, tick(at=T1))["status"] == "pending"
    clock.advance(1)

    in_backoff = only_result(app, tick(at=T2))
    clock.advance(60)
    due = only_result(app, tick(at=T3))

    assert in_backoff["status"] == "created"
    assert (due["status"], due["error"]) == ("pending", None)


# --- the lane of a task type


class WatchedClock(FakeClock):
    """A clock that tells somebody whenever it lets time pass."""

    on_sleep: Callable[[], object] = staticmethod(lambda: None)

    def sleep(self, seconds: float) -> None:
        """Let that much time pass."""
        super().sleep(seconds)
        self.on_sleep()


def test_a_lane_that_stays_taken_is_waited_for_one_second(
    make_app: MakeApp, emulator: Emulator, ledger_url: str
) -> None:
    """Then the event is left pending, and nothing was asked."""
    clock = FakeClock()
    app = make_app(ROUTES, clock=clock, ONCETASK_LEDGER=ledger_url)
    app.ledger.take_lane(Lane(task_type="ASSETS_COLLECTION", claim_ends_s=NOW_S + 60))

    result = only_result(app, tick())

    assert (result["status"], result["error"], result["attempts"]) == ("pending", None, 0)
    assert 1.0 <= clock.elapsed_s() < 1.1
    assert emulator.calls == []


def test_a_lane_that_comes_free_in_time_is_taken(make_app: MakeApp, ledger_url: str) -> None:
    """The wait is worth it."""
    clock = WatchedClock()
    app = make_app(ROUTES, clock=clock, ONCETASK_LEDGER=ledger_url)
    other = app.ledger.take_lane(Lane(task_type="ASSETS_COLLECTION", claim_ends_s=NOW_S + 60))
    assert other is not None

    def give_back_after_half_a_second() -> None:
        if clock.elapsed_s() > 0.5:
            app.ledger.release_lane(other)

    clock.on_sleep = give_back_after_half_a_second

    assert only_result(app, tick())["status"] == "created"
    assert 0.5 < clock.elapsed_s() < 0.6


def test_behind_a_lost_call_of_its_type_a_tick_waits(app: App, emulator: Emulator, clock: FakeClock) -> None:
    """At most one call of a type is unresolved; the next one would hide its task."""
    emulator.script(ResetAfter())
    assert only_result(app, tick(at=T1))["status"] == "unknown"
    clock.advance(1)

    behind = only_result(app, tick(at=T2))

    assert (behind["status"], behind["error"], behind["attempts"]) == ("pending", None, 0)
    assert len(emulator.calls) == 1


# --- time


def test_a_call_ends_one_second_before_the_invocation_does(make_app: MakeApp, emulator: Emulator) -> None:
    """So that its outcome can still be recorded: `unknown`, to be searched for."""
    app = make_app(ROUTES)
    assert app.security_center  # importing Tea is no part of the call
    emulator.script(Silence(task_made=False))
    began_s = time.monotonic()

    result = only_result(app, tick(), remaining_ms=1500)

    assert (result["status"], result["error"]["code"], result["error"]["kind"]) == (
        *("unknown", "NoAnswer", "unknown"),
    )
    assert 0.2 < time.monotonic() - began_s < 1.0
    assert len(emulator.calls) == 1


def test_without_time_left_a_tick_is_recorded_and_not_asked_for(app: App, emulator: Emulator) -> None:
    """`pending` with no error: the sweep takes it from here."""
    result = only_result(app, tick(), remaining_ms=1000)

    assert (result["status"], result["error"], result["attempts"]) == ("pending", None, 0)
    assert [event.event_id for event in waiting(app.ledger)] == [result["event_id"]]
    assert emulator.calls == []


# --- the operator's trouble


def test_without_credentials_a_tick_waits_for_the_operator(make_app: MakeApp, emulator: Emulator) -> None:
    """Recorded, and told by its code."""
    app = make_app(ROUTES, ALIBABA_CLOUD_ACCESS_KEY_SECRET="")

    result = only_result(app, tick())

    assert (result["status"], result["error"]["kind"], result["error"]["code"]) == (
        *("pending", "operator", "CredentialsUnavailable"),
    )
    assert emulator.calls == []


def test_a_ledger_that_cannot_be_opened_is_raised(
    make_app: MakeApp, emulator: Emulator, tmp_path: Path
) -> None:
    """AWS delivers the tick again; nothing was asked."""
    app = make_app(ROUTES, ONCETASK_LEDGER=f"sqlite://{tmp_path}/no-such-folder/ledger")

    with pytest.raises(LedgerUnavailable):
        results(app, tick())

    assert emulator.calls == []


@dataclass
class FailingStore:
    """A `Store` over another one, whose writes fail where it is told to, by their keys."""

    store: Store
    fails: Callable[[str], bool]

    def get(self, key: str) -> Row | None:
        return self.store.get(key)

    def get_many(self, keys: Sequence[str]) -> list[Row]:
        return self.store.get_many(keys)

    def put(self, row: Row, *, replacing: str | None) -> bool:
        self._may_fail(row.key)
        return self.store.put(row, replacing=replacing)

    def delete(self, key: str, *, version: str) -> bool:
        self._may_fail(key)
        return self.store.delete(key, version=version)

    def queued(self, queue: str, most: int | None = None) -> Iterator[tuple[str, str]]:
        return self.store.queued(queue, most)

    def forget_expired(self, now_s: float) -> None:
        self.store.forget_expired(now_s)

    def close(self) -> None:
        self.store.close()

    def _may_fail(self, key: str) -> None:
        if self.fails(key):
            raise LedgerUnavailable("the ledger fails as told")


def failing(app: App, fails: Callable[[str], bool]) -> FailingStore:
    """The store of the app's ledger from now on; before anything has used that."""
    store = FailingStore(app.ledger.store, fails)
    app.ledger = Ledger(store, app.clock)
    return store


@pytest.mark.parametrize(("kind", "status_when_delivered_again"), [("event", "created"), ("lane", "pending")])
def test_a_ledger_that_fails_before_asking_is_raised(
    app: App, emulator: Emulator, kind: str, status_when_delivered_again: str
) -> None:
    """Nothing was asked; and the delivery that AWS repeats finds what was recorded."""
    store = failing(app, lambda key: key.startswith(f"{kind}/"))

    with pytest.raises(LedgerUnavailable):
        results(app, tick())
    store.fails = lambda _: False

    assert emulator.calls == []
    assert only_result(app, tick())["status"] == status_when_delivered_again


@pytest.mark.parametrize("kind", ["lane/", "task/", "event/", ""])
def test_a_ledger_that_fails_after_the_answer_does_not_change_what_is_reported(
    app: App, emulator: Emulator, kind: str
) -> None:
    """The task is there: `created` is told, and a repeated delivery asks for no second one."""
    store = failing(app, lambda key: bool(emulator.calls) and key.startswith(kind))

    result = only_result(app, tick())
    store.fails = lambda _: False
    again = only_result(app, tick())

    assert (result["status"], result["task_id"]) == ("created", emulator.tasks[0].task_id)
    assert again["status"] in {"pending", "duplicate"}
    assert len(emulator.tasks) == 1


def test_a_ledger_that_fails_between_two_items_reports_both(app: App, emulator: Emulator) -> None:
    """Once somebody has answered, what cannot be asked for any more is `pending`."""
    store = failing(app, lambda _: bool(emulator.calls))

    made = results(app, tick("hosts", hosts=[{"name": "a", "uuid": "i-1"}, {"name": "b", "uuid": "i-2"}]))
    store.fails = lambda _: False

    assert [result["status"] for result in made] == ["created", "pending"]
    assert len(emulator.tasks) == 1
    assert [event.event_id for event in waiting(app.ledger)] == [result["event_id"] for result in made]


# --- processes

DRIVER = """
import json, sys
from oncetask.handlers import timer
import oncetask.alibaba.security_center

print("ready", file=sys.stderr, flush=True)
for line in sys.stdin:
    print(json.dumps(timer.handler(json.loads(line), None)), file=sys.stderr, flush=True)
"""
"""Answers each event that comes on stdin by one line on stderr; stdout is the function's own."""


@dataclass
class Function:
    """The timer function in a process of its own, warmed up."""

    process: subprocess.Popen[str]

    def send(self, event: object) -> None:
        """Hand over an event and do not wait."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(event) + "\n")
        self.process.stdin.flush()

    def line(self) -> str:
        """The next line on stderr."""
        assert self.process.stderr is not None
        return self.process.stderr.readline().strip()

    def returned(self) -> dict[str, Any]:
        """What the handler returned for the next event."""
        document: dict[str, Any] = json.loads(self.line())
        return document

    def ended(self) -> list[dict[str, Any]]:
        """The lines of its stdout, once it has ended by itself and well."""
        printed, complaints = self.process.communicate(timeout=20)
        assert (complaints, self.process.returncode) == ("", 0)
        return [json.loads(line) for line in printed.splitlines()]


type StartFunction = Callable[..., Function]


@pytest.fixture
def environment(emulator: Emulator, tmp_path: Path) -> dict[str, str]:
    """The variables of a process that asks the test's emulator."""
    routes = tmp_path / "process-routes.toml"
    routes.write_text(ROUTES, encoding="utf-8")
    return {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(ROOT / "src"),
        "ONCETASK_ENDPOINT": emulator.url,
        "ONCETASK_ROUTES": str(routes),
        "ALIBABA_CLOUD_ACCESS_KEY_ID": ACCESS_KEY_ID,
        "ALIBABA_CLOUD_ACCESS_KEY_SECRET": ACCESS_KEY_SECRET,
    }


@pytest.fixture
def start_function(environment: dict[str, str], tmp_path: Path) -> Iterator[StartFunction]:
    """`start_function(**environment)`: the function in a process that is not ready yet."""
    processes: list[subprocess.Popen[str]] = []

    def start(**more: str) -> Function:
        process = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", DRIVER],
            env=environment | more,
            cwd=tmp_path,
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        processes.append(process)
        return Function(process)

    yield start
    for process in processes:
        process.kill()
        process.communicate()


@pytest.mark.slow
def test_eight_processes_that_deliver_one_tick_at_once_make_one_task(
    start_function: StartFunction, emulator: Emulator, tmp_path: Path
) -> None:
    """One of them tells of it; to the others it is pending or a duplicate."""
    functions = [start_function(ONCETASK_LEDGER=f"sqlite://{tmp_path}/ledger") for _ in range(8)]
    assert [function.line() for function in functions] == ["ready"] * 8

    for function in functions:
        function.send(tick())
    found = [result for function in functions for result in function.returned()["results"]]

    statuses = [result["status"] for result in found]
    assert len(emulator.tasks) == len(emulator.calls) == 1
    assert statuses.count("created") == 1
    assert set(statuses) <= {"created", "pending", "duplicate"}
    assert {result["event_id"] for result in found} == {f"timer:nightly:{T1}"}
    assert {result["task_id"] for result in found} <= {None, emulator.tasks[0].task_id}


@pytest.fixture
def talk(start_function: StartFunction, emulator: Emulator) -> tuple[list[Any], list[Any]]:
    """What the function returned for four ticks, and the lines that it printed meanwhile."""
    function = start_function()
    assert function.line() == "ready"
    emulator.script(None, Refuse(403, "NoPermission"))
    returned = []
    for event in (
        tick(at=T1),
        tick(at=T1),
        tick("scan"),
        tick("hosts", hosts=[{"name": "a", "uuid": "no target"}, {"name": "b", "uuid": ""}]),
        {"route": "nobody"},
    ):
        function.send(event)
        returned.append(function.returned())
    return returned, function.ended()


def test_what_is_printed_is_one_line_a_result_and_the_metrics(talk: tuple[list[Any], list[Any]]) -> None:
    """The line holds the result as it was returned; the metrics have their names, units and dimensions."""
    returned, printed = talk

    expected = [result for document in returned for result in document["results"]]
    logged = [line for line in printed if "_aws" not in line]
    assert [result["status"] for result in expected] == [
        *("created", "duplicate", "pending", "rejected", "rejected", "rejected")
    ]
    assert [line["message"] for line in logged] == ["result"] * len(expected)
    assert [line["result"] for line in logged] == expected
    assert {(line["service"], line["level"]) for line in logged} == {("oncetask", "INFO")}

    metrics = [metric for line in printed if "_aws" in line for metric in metrics_of(line)]
    assert [name for name, *_ in metrics].count("CreateLatencyMs") == 2
    assert [metric for metric in metrics if metric[0] != "CreateLatencyMs"] == [
        ("Created", "Count", 1, {"service": "oncetask"}),
        ("Duplicate", "Count", 1, {"service": "oncetask"}),
        ("Pending", "Count", 1, {"service": "oncetask"}),
        ("OperatorError", "Count", 1, {"service": "oncetask"}),
        ("OperatorError", "Count", 1, {"service": "oncetask", "route": "scan"}),
        ("Rejected", "Count", 2, {"service": "oncetask"}),
        ("Rejected", "Count", 2, {"service": "oncetask", "route": "hosts"}),
        ("Rejected", "Count", 1, {"service": "oncetask"}),
    ]


def metrics_of(line: dict[str, Any]) -> Iterator[tuple[str, str, float, dict[str, str]]]:
    """Name, unit, sum and dimensions of every metric of an EMF line of namespace OnceTask."""
    (directive,) = line["_aws"]["CloudWatchMetrics"]
    assert directive["Namespace"] == "OnceTask"
    (names,) = directive["Dimensions"]
    for metric in directive["Metrics"]:
        values = line[metric["Name"]]
        total = sum(values) if isinstance(values, list) else values
        yield metric["Name"], metric["Unit"], total, {name: line[name] for name in names}


def test_nothing_printed_or_returned_holds_a_secret(talk: tuple[list[Any], list[Any]]) -> None:
    """Neither the key's secret nor a signature."""
    everything = json.dumps(talk)

    assert ACCESS_KEY_SECRET not in everything
    assert "Signature=" not in everything


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"ONCETASK_REGION": "atlantis-1"}, "ONCETASK_REGION"),
        ({"ONCETASK_ROUTES": "/atlantis/routes.toml"}, "ONCETASK_ROUTES"),
        ({"AWS_LAMBDA_FUNCTION_NAME": "atlantis"}, "ONCETASK_LEDGER"),
        ({}, "process-routes.toml: routes.broken: when"),
    ],
)
def test_a_wrong_setting_or_route_stops_the_process_at_start_with_one_line(
    environment: dict[str, str], wrong: dict[str, str], named: str
) -> None:
    """It names what is wrong and never shows its value; importing the handler is the start."""
    if not wrong:
        broken = '\n[routes.broken]\ntrigger = "timer"\ntask_type = "IMAGE_SCAN"\nwhen = "atlantis("\n'
        Path(environment["ONCETASK_ROUTES"]).write_text(ROUTES + broken, encoding="utf-8")

    ended = subprocess.run(
        [sys.executable, "-c", "import oncetask.handlers.timer"],
        env=environment | wrong,
        capture_output=True,
        text=True,
        check=False,
    )

    assert ended.returncode != 0
    assert ended.stdout == ""
    assert len(ended.stderr.splitlines()) == 1
    assert named in ended.stderr
    assert "atlantis" not in ended.stderr
