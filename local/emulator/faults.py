"""Things that go wrong, scripted: each strikes one call."""

import contextlib
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from enum import Enum
from typing import ClassVar, Protocol

from .answers import Answer, ApiError, Reply, accepted, refused


class Conduct(Enum):
    """What becomes of a connection that gets no answer."""

    RESET = "reset by RST"
    SILENCE = "held open without an answer until the client goes away or the emulator closes"


type Outcome = Reply | Conduct


class Operation(Protocol):
    """The call that a fault strikes, not yet performed."""

    def run(self) -> Answer:
        """Performs it; raises ApiError."""

    def run_late(self, delay_s: float) -> None:
        """Accepts it now; its task is made `delay_s` later by the injected clock."""

    def behaving(self, changes: Mapping[str, object]) -> AbstractContextManager[None]:
        """While the block runs, the service's switches of these names stand so."""

    def at_cap(self) -> Answer:
        """The answer at the cap, whatever runs; may be a raised ApiError."""


class Fault(Protocol):
    """One scripted fault."""

    @property
    def arrives(self) -> bool:
        """Whether the service sees the request, and so verifies its signature first."""

    def strike(self, operation: Operation) -> Outcome:
        """What the client sees; raises ApiError for an error body."""


@dataclass(frozen=True, slots=True)
class Refuse:
    """An error body with this status and code; `task_made`: the work was done all the same."""

    status: int
    code: str
    message: str = "Refused by script."
    task_made: bool = False
    arrives: ClassVar[bool] = True

    def strike(self, operation: Operation) -> Outcome:
        """The error body."""
        if self.task_made:
            _run_quietly(operation)
        return refused(ApiError(self.status, self.code, self.message))


@dataclass(frozen=True, slots=True)
class Throttle:
    """HTTP 400 with a throttling code, and `x-acs-retry-after` in ms unless that is None."""

    retry_after_ms: int | None = None
    code: str = "Throttling.User"
    arrives: ClassVar[bool] = True

    def strike(self, operation: Operation) -> Outcome:  # noqa: ARG002 - refused unperformed
        """The error body."""
        after_ms = self.retry_after_ms
        headers = {} if after_ms is None else {"x-acs-retry-after": str(after_ms)}
        error = ApiError(400, self.code, "Request was denied due to user flow control.")
        return refused(error, headers)


@dataclass(frozen=True, slots=True)
class ResetBefore:
    """The connection is reset after the request was sent; nothing is done."""

    arrives: ClassVar[bool] = False

    def strike(self, operation: Operation) -> Outcome:  # noqa: ARG002 - never performed
        """No answer."""
        return Conduct.RESET


@dataclass(frozen=True, slots=True)
class ResetAfter:
    """The work is done and the connection reset before the answer."""

    arrives: ClassVar[bool] = True

    def strike(self, operation: Operation) -> Outcome:
        """No answer."""
        _run_quietly(operation)
        return Conduct.RESET


@dataclass(frozen=True, slots=True)
class Silence:
    """No answer until the client goes away or the emulator closes."""

    task_made: bool

    @property
    def arrives(self) -> bool:
        """Only where the work is done."""
        return self.task_made

    def strike(self, operation: Operation) -> Outcome:
        """No answer."""
        if self.task_made:
            _run_quietly(operation)
        return Conduct.SILENCE


@dataclass(frozen=True, slots=True)
class Unreadable:
    """An answer that no client can read, such as a gateway's HTML."""

    status: int = 502
    body: str = "<html><body><h1>502 Bad Gateway</h1></body></html>"
    content_type: str = "text/html"
    task_made: bool = False
    arrives: ClassVar[bool] = True

    def strike(self, operation: Operation) -> Outcome:
        """The body as it stands."""
        if self.task_made:
            _run_quietly(operation)
        return Reply(self.status, self.body.encode(), self.content_type)


@dataclass(frozen=True, slots=True)
class LateTask:
    """The connection is reset; the task is made, and starts, `delay_s` later by `clock`."""

    delay_s: float
    arrives: ClassVar[bool] = True

    def strike(self, operation: Operation) -> Outcome:
        """No answer."""
        with contextlib.suppress(ApiError):
            operation.run_late(self.delay_s)
        return Conduct.RESET


@dataclass(frozen=True, slots=True)
class Redirect:
    """A redirect to `location`, which some clients follow by sending the request again."""

    status: int
    location: str
    arrives: ClassVar[bool] = True

    def strike(self, operation: Operation) -> Outcome:  # noqa: ARG002 - refused unperformed
        """An empty answer with a Location."""
        return Reply(self.status, b"", headers={"Location": self.location})


@dataclass(frozen=True, slots=True)
class CapReached:
    """The answer at the cap, whatever runs."""

    arrives: ClassVar[bool] = True

    def strike(self, operation: Operation) -> Outcome:
        """As `Behaviour.cap_answer` has it."""
        return accepted(operation.at_cap())


@dataclass(frozen=True, slots=True)
class CanCreateFalse:
    """The task is made and its id told, with CanCreate false: this was the last for now."""

    arrives: ClassVar[bool] = True

    def strike(self, operation: Operation) -> Outcome:
        """200 with TaskId."""
        return accepted(operation.run() | {"CanCreate": False})


@dataclass(frozen=True, slots=True)
class NoTaskId:
    """200 without TaskId although CanCreate is true; whether a task was made is `task_made`."""

    task_made: bool = False
    arrives: ClassVar[bool] = True

    def strike(self, operation: Operation) -> Outcome:
        """200 without TaskId."""
        if self.task_made:
            _run_quietly(operation)
        return accepted({"CanCreate": True})


@dataclass(frozen=True, slots=True)
class Behave:
    """A call of that action meets a service whose switches, by name, stand otherwise for it alone."""

    action: str
    changes: tuple[tuple[str, object], ...]
    arrives: ClassVar[bool] = True

    def strike(self, operation: Operation) -> Outcome:
        """As that service answers."""
        with operation.behaving(dict(self.changes)):
            return _usual(operation)


@dataclass(frozen=True, slots=True)
class Slow:
    """The work is done at once, the answer is sent after so many real seconds."""

    seconds: float
    arrives: ClassVar[bool] = True

    def strike(self, operation: Operation) -> Outcome:
        """The usual answer, late."""
        return replace(_usual(operation), delay_s=self.seconds)


def _usual(operation: Operation) -> Reply:
    try:
        return accepted(operation.run())
    except ApiError as error:
        return refused(error)


def _run_quietly(operation: Operation) -> None:
    with contextlib.suppress(ApiError):
        operation.run()
