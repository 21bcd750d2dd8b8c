"""What an operator reads of a whole table, whatever keeps its rows."""

from oncetask.ledger.ledger import Ledger
from oncetask.ledger.records import DAMAGED_QUEUE
from oncetask.ledger.store import Row, Store

ROW = Row(key="event/a", version="1", queue=None, due=None, expires_s=None, body="{}")


def test_the_rows_whose_keys_begin_so_are_read_open_or_not(store: Store) -> None:
    """And no others: a pattern's characters are none."""
    wanted = [
        ROW,
        ROW._replace(key="event/b", queue="event/r", due="1"),
        ROW._replace(key="event/%_c", expires_s=1),
    ]
    for row in (*wanted, ROW._replace(key="events/d"), ROW._replace(key="task/event/")):
        assert store.put(row, replacing=None)

    assert sorted(store.rows("event/")) == sorted(wanted)
    assert sorted(store.rows("event/%")) == [wanted[2]]
    assert len(list(store.rows(""))) == 5
    assert list(store.rows("call/")) == []


def test_more_than_a_page_of_rows_is_read_while_they_are_written(store: Store) -> None:
    """Each row once; DynamoDB's page is a megabyte, SQLite's is 500 rows."""
    large = [ROW._replace(key=f"event/large{number:02}", body="x" * 190_000) for number in range(12)]
    small = [ROW._replace(key=f"event/small{number:03}") for number in range(600)]
    for row in (*large, *small):
        assert store.put(row, replacing=None)

    found = []
    for row in store.rows("event/"):
        found.append(row)
        if len(found) == 1:
            store.put(row._replace(version="2"), replacing=row.version)

    assert sorted(found) == sorted([*large, *small])


def test_a_damaged_record_that_was_set_aside_is_found_in_a_queue_of_its_own(ledger: Ledger) -> None:
    """As it was, but for where it stands: no operator has to read the whole table for it."""
    ledger.store.put(ROW._replace(queue="event/r", due="1", body="{"), replacing=None)

    assert [ledger.set_aside("event/a"), ledger.set_aside("event/a")] == [True, False]

    stored = ledger.store.get("event/a")
    assert stored is not None
    assert stored.body == "{"
    assert list(ledger.store.queued("event/r")) == []
    assert [key for _, key in ledger.store.queued(DAMAGED_QUEUE)] == ["event/a"]
