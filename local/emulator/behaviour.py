"""What the emulated service is like, where the real one is undocumented or may change."""

from dataclasses import dataclass, field
from typing import Literal

EndState = Literal["SUCCESS", "FAIL", "TIMEOUT", "NEVER"]
CapAnswer = Literal["code", "can_create_false"]
DescribeId = Literal["both", "TaskId", "RootTaskId"]


@dataclass(slots=True)
class Behaviour:
    """Switches that may be set at any time; they hold from the next call on.

    `task_duration_s`, `task_end` and `list_lag_s` are a task's own from its creation.
    """

    cap: int = 10
    """Tasks that may run at once, foreign ones included."""

    cap_answer: CapAnswer = "code"
    """HTTP 400 with a code that holds "Limit", or 200 without TaskId and with CanCreate false."""

    task_duration_s: float = 30.0
    """From creation to the end; the first tenth, 3 s at most, is INIT."""

    task_end: EndState = "SUCCESS"
    """How tasks end; "NEVER": they do not."""

    list_lag_s: float = 0.0
    """A task is unknown to the query operations for so long after its creation."""

    clock_skew_s: float = 0.0
    """Added to every time that the service shows or compares; start times stay whole seconds."""

    keeps_source: bool = True
    """False: Source is empty in listings and no Source filter finds anything."""

    shows_name: bool = True
    """False: TaskName is empty in listings."""

    shows_targets: bool = True
    """False: DetailData names no uuid."""

    describe_id: DescribeId = "both"
    """Which parameter of DescribeOnceTask finds a created task by its id."""

    poison: set[str] = field(default_factory=set)
    """Targets in `Param.uuids` that make GenerateOnceTask refuse the whole request."""

    poison_named: bool = True
    """Whether that refusal's message names the target."""

    failing: dict[str, tuple[int, str]] = field(default_factory=dict)
    """Task types, or targets in `Param.uuids`, whose GenerateOnceTask is answered with this HTTP status and
    code for ever; nothing is made."""

    extra_task_types: set[str] = field(default_factory=set)
    """Task types allowed beside the ten documented ones."""
