"""What a SQLite ledger promises to several processes on one file."""

import contextlib
import multiprocessing
from collections.abc import Callable
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from oncetask.ledger.ledger import Ledger
from oncetask.ledger.records import Event
from oncetask.ledger.sqlite import SqlStore
from oncetask.models import Status, TaskRequest, Trigger
from tests.clocks import NOW_S, FakeClock

if TYPE_CHECKING:
    from multiprocessing.queues import Queue

PROCESSES = 8
ROUNDS = 25
type Work = Callable[[Path, Barrier, Queue[list[bool]]], None]


def event(event_id: str) -> Event:
    """An event that was just accepted."""
    return Event(
        event_id=event_id,
        status=Status.PENDING,
        trigger=Trigger.TIMER,
        route="r",
        request=TaskRequest(task_type="IMAGE_SCAN", task_name="n", param={}, source="oncetask"),
        submit="now",
        order=0,
        received_s=NOW_S,
        due_s=NOW_S,
        give_up_s=NOW_S + 60,
        keep_s=600,
    )


def record_the_same(path: Path, start: Barrier, found: "Queue[list[bool]]") -> None:
    """In one process: record every round's event together with the others."""
    store = SqlStore(path)
    ledger = Ledger(store, FakeClock())
    mine = []
    for number in range(ROUNDS):
        start.wait()
        mine.append(ledger.record(event(f"e{number}"))[1])
    store.close()
    found.put(mine)


def open_fresh_files(folder: Path, start: Barrier, found: "Queue[list[bool]]") -> None:
    """In one process: open every round's new file together with the others, and write a row of one's own."""
    mine = []
    for number in range(ROUNDS):
        start.wait()
        store = SqlStore(folder / f"{number}.sqlite")
        mine.append(Ledger(store, FakeClock()).record(event(f"e{multiprocessing.current_process().pid}"))[1])
        store.close()
    found.put(mine)


def in_eight_processes(work: Work, path: Path) -> list[list[bool]]:
    """What each of eight processes found."""
    fresh = multiprocessing.get_context("spawn")
    start, found = fresh.Barrier(PROCESSES, timeout=60), fresh.Queue()
    processes = [fresh.Process(target=work, args=(path, start, found)) for _ in range(PROCESSES)]
    for process in processes:
        process.start()
    each = [found.get(timeout=60) for _ in processes]
    for process in processes:
        process.join(timeout=60)
    return each


def rows_in(path: Path) -> int:
    """How many open events a file holds."""
    with contextlib.closing(SqlStore(path)) as store:
        return len(list(store.queued("event/r")))


@pytest.mark.slow
def test_of_eight_processes_one_records_an_event(tmp_path: Path) -> None:
    """Eight deliveries of one id at the same moment, each in its own process: exactly one is the first."""
    SqlStore(tmp_path / "ledger.sqlite").close()

    each = in_eight_processes(record_the_same, tmp_path / "ledger.sqlite")

    assert [sum(mine) for mine in zip(*each, strict=True)] == [1] * ROUNDS


@pytest.mark.slow
def test_eight_processes_open_a_fresh_file_at_once(tmp_path: Path) -> None:
    """The process that comes first makes the tables; nobody fails, and everybody's row is there."""
    each = in_eight_processes(open_fresh_files, tmp_path)

    assert each == [[True] * ROUNDS] * PROCESSES
    assert [rows_in(tmp_path / f"{number}.sqlite") for number in range(ROUNDS)] == [PROCESSES] * ROUNDS
