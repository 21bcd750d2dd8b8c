"""What is open in a ledger, in the words of tests."""

from oncetask.ledger.ledger import Ledger, Waiting
from oncetask.ledger.records import Lane, LostCall, TaskRecord
from oncetask.ledger.rows import Kept
from oncetask.models import TASK_TYPES


def lanes(ledger: Ledger) -> list[Kept[Lane]]:
    """Every lane that is taken and can be read."""
    return ledger.taken(TASK_TYPES).lanes


def waiting(ledger: Ledger) -> list[Waiting]:
    """Every open event, queue by queue."""
    return [event for queue in ledger.taken(()).queues for event in ledger.waiting(queue)]


def running(ledger: Ledger) -> list[TaskRecord]:
    """Every task that has not ended."""
    return ledger.running()[0].records


def watched(ledger: Ledger) -> list[LostCall]:
    """Every lost call whose own task may still show."""
    return ledger.running()[1].records
