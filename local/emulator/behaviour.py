"""What the emulated service is like, where the real one is undocumented or may change."""

from dataclasses import dataclass, field
from typing import Literal

EndState = Literal["SUCCESS", "FAIL", "TIMEOUT", "NEVER"]
CapAnswer = Literal["code", "quota", "can_create_false"]
Codes = Literal["product", "gateway"]
Details = Literal["usual", "none", "empty", "absent", "odd"]
Ids = Literal["text", "number", "line end"]
HostTokens = Literal["absent at the end", "empty at the end", "repeated", "none"]
DescribeId = Literal["both", "TaskId", "RootTaskId"]


@dataclass(slots=True)
class Behaviour:
    """Switches that may be set at any time; they hold from the next call on.

    `task_duration_s`, `task_end` and `list_lag_s` are a task's own from its creation.
    """

    cap: int = 10
    """Tasks that may run at once, foreign ones included."""

    cap_answer: CapAnswer = "code"
    """HTTP 400 with a code that holds "Limit", or with the product's own -110 ("quota full"), or 200 without
    TaskId and with CanCreate false."""

    codes: Codes = "product"
    """A wrong parameter's code: the product's own number, or the gateway's words (InvalidParameter.X)."""

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

    broken: dict[str, tuple[int, str]] = field(default_factory=dict)
    """Targets and task types to the status and code (500, "ServerError") with which every request for them is
    answered, for ever; no task is made."""

    ids: Ids = "text"
    """How a task's id is shown: as text, as a number (tasks made from then on have such ids), with a line end
    behind it."""

    init_text: str = "INIT"
    """TaskStatusText of a task that does not run yet; a self-check that was sent says DISPATCH."""

    running_text: str = "START"
    """TaskStatusText of a task that runs; a vulnerability scan says PROCESSING."""

    end_text: str | None = None
    """TaskStatusText of a task that has ended; None: SUCCESS, FAIL or TIMEOUT."""

    shows_counts: bool = True
    """False: a task tells no SuccessCount, FailCount or TotalCount."""

    failing_hosts: set[str] = field(default_factory=set)
    """Targets that a task that ends well counts as failed, and for which its details have a code."""

    all_hosts_fail: bool = False
    """True: every target is such a one."""

    host_details: dict[str, dict[str, object]] = field(default_factory=dict)
    """What else a host's entry in the details says, once the task has ended."""

    details: Details = "usual"
    """An ended task's DetailData: an entry a host; `[]`; no text; no such key; text that is no JSON."""

    details_lag_s: float = 0.0
    """How long after its end a task's details stay `[]`."""

    details_below: bool = False
    """True: a task's own record says `[]`, and RootTaskId lists a task below it for each host."""

    criteria_match: Literal["exact", "parts"] = "parts"
    """Whether a criterion that is typed in (an address, a name, an id) matches parts of a host's."""

    dropped_criteria: set[str] = field(default_factory=set)
    """Criteria that this site does not know; with none left, all hosts come."""

    no_hosts_yet: bool = False
    """True: the list of hosts lags so far behind that it shows none."""

    most_hosts_a_page: int = 100
    """Rows on one page, whatever is asked for."""

    repeated_rows: int = 0
    """How many rows of a page come again on the next."""

    host_tokens: HostTokens = "absent at the end"
    """How a list read by tokens ends; none: the service knows page numbers alone."""

    def fails(self, target: str) -> bool:
        """Whether a task that ends well counts that host as failed."""
        return self.all_hosts_fail or target in self.failing_hosts
