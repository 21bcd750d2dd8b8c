"""What one invocation did, and how long it may go on."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from oncetask.clock import Deadline
from oncetask.models import Answer, Result

ODD_ANSWERS = 10
"""So many refusals with codes that no list knows close their task type for the invocation."""


@dataclass(slots=True)
class Report:
    """For the reply, the log and the metrics.

    `ambiguous_hosts`: event id to what its sender wrote and the uuids that this could be; for the log alone.
    """

    results: list[Result] = field(default_factory=list)
    create_latencies_ms: list[float] = field(default_factory=list)
    adopted: int = 0
    asked_again: int = 0
    second_tasks: int = 0
    ambiguous_hosts: dict[str, Mapping[str, Sequence[str]]] = field(default_factory=dict)


class Limits(NamedTuple):
    """How long one call may take.

    `last_call`: nothing is sent later. `patience_s`: how long a lane that is taken is waited for.
    """

    deadline: Deadline
    last_call: Deadline | None = None
    patience_s: float = 0.0


@dataclass(slots=True)
class Heeded:
    """What the answers of this invocation say of further calls."""

    closed_types: set[str] = field(default_factory=set)
    odd_answers: dict[str, int] = field(default_factory=dict)
    ended: bool = False

    def heed(self, task_type: str, answer: Answer) -> None:
        """Take one answer in."""
        self.ended = self.ended or answer.ends_asking
        if answer.closes_type:
            self.closed_types.add(task_type)
        if answer.is_odd:
            self.odd_answers[task_type] = self.odd_answers.get(task_type, 0) + 1
            if self.odd_answers[task_type] >= ODD_ANSWERS:
                self.closed_types.add(task_type)

    def allows(self, task_type: str) -> bool:
        """Whether a call of the type may be made."""
        return not self.ended and task_type not in self.closed_types
