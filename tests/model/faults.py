"""Every scripted fault of the emulator under a name, counted when it strikes."""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from local.clocks import FakeClock
from local.emulator import (
    CanCreateFalse,
    CapReached,
    Fault,
    LateTask,
    NoTaskId,
    Redirect,
    Refuse,
    ResetAfter,
    ResetBefore,
    Silence,
    Throttle,
    Unreadable,
)
from local.emulator.answers import accepted
from local.emulator.faults import Operation, Outcome
from tests.model.deliveries import markers


@dataclass(frozen=True, slots=True)
class Usual:
    """No fault, except that it may last."""

    arrives: bool = True

    def strike(self, operation: Operation) -> Outcome:
        return accepted(operation.run())


CREATE_FAULTS: Mapping[str, Fault] = {
    "slow answer": Usual(),
    "reset after": ResetAfter(),
    "reset before": ResetBefore(),
    "silent, task made": Silence(task_made=True),
    "silent, no task": Silence(task_made=False),
    "5xx, task made": Refuse(500, "ServerError", task_made=True),
    "5xx, no task": Refuse(503, "ServiceUnavailable"),
    "nonce used": Refuse(400, "SignatureNonceUsed"),
    "unreadable, task made": Unreadable(task_made=True),
    "unreadable, no task": Unreadable(),
    "unreadable 403": Unreadable(403, "null", "application/json"),
    "no TaskId, task made": NoTaskId(task_made=True),
    "no TaskId": NoTaskId(),
    "redirect": Redirect(307, "/"),
    "task 1 s late": LateTask(1),
    "task 20 s late": LateTask(20),
    "task 100 s late": LateTask(100),
    "task 150 s late": LateTask(150),
    "cap reached": CapReached(),
    "quota code": Refuse(403, "QuotaFull"),
    "CanCreate false": CanCreateFalse(),
    "throttled": Throttle(),
    "throttled for a time": Throttle(retry_after_ms=40_000),
    "throttled with 503": Refuse(503, "Throttling.Api"),
    "InvalidParameter": Refuse(400, "InvalidParameter.Param"),
    "MissingParam": Refuse(400, "MissingParam"),
    "IllegalParam": Refuse(400, "IllegalParam"),
    "NoPermission": Refuse(403, "NoPermission"),
    "InvalidAccessKeyId": Refuse(404, "InvalidAccessKeyId.NotFound"),
    "InvalidSecurityToken": Refuse(400, "InvalidSecurityToken.Expired"),
    "InvalidTimeStamp": Refuse(400, "InvalidTimeStamp.Expired"),
    "unknown 4xx code": Refuse(418, "NobodyKnowsThisCode"),
}
FOR_EVER: Mapping[str, Fault] = {
    "5xx for ever": Refuse(500, "ServerError"),
    "unreadable for ever": Unreadable(),
    "reset for ever, task made": ResetAfter(),
    "unknown 4xx for ever": Refuse(400, "PushTaskError"),
    "InvalidParameter for ever": Refuse(400, "InvalidParameter"),
    "NoPermission for ever": Refuse(403, "NoPermission"),
}
"""What strikes one target, task type or route whenever it is asked for; it does not heal."""
OF_A_TYPE = frozenset({"NoPermission for ever"})
"""What is answered for the whole type alike; it never is for one target."""
BEYOND_THE_LOOK: Mapping[str, Fault] = {
    "task 200 s late": LateTask(200),
    "task 400 s late": LateTask(400),
}
QUERY_FAULTS: Mapping[str, Fault] = {
    "query reset": ResetBefore(),
    "query forbidden": Refuse(403, "NoPermission"),
    "query throttled": Throttle(),
    "query 5xx": Refuse(500, "ServerError"),
    "query unreadable": Unreadable(),
}
SILENT = frozenset({"silent, task made", "silent, no task"})
"""They cost real time, so that only worlds with a short read time-out meet them."""


@dataclass(slots=True)
class FaultLog:
    """What has struck in a world, and whether faults still strike."""

    clock: FakeClock
    counts: Counter[str]
    note: Callable[[str], None]
    healed: bool = False
    is_down: bool = False
    """Whether nothing listens where the service was."""
    failed_queries_s: list[float] = field(default_factory=list)
    """When a query failed, by the injected clock's wall time."""
    asked_late_s: dict[float, float] = field(default_factory=dict)
    """When a late task comes to exist, to when it was asked for; both by the service's clock."""


@dataclass(frozen=True, slots=True)
class Injected:
    """A named fault that is counted when it strikes; the call lasts so long by the injected clock."""

    name: str
    fault: Fault
    log: FaultLog
    lasts_s: float

    @property
    def arrives(self) -> bool:
        return self.log.healed or self.fault.arrives

    def strike(self, operation: Operation) -> Outcome:
        if self.log.healed:
            return accepted(operation.run())
        self.log.counts[self.name] += 1
        self.log.note(f"answered: {self.name}, lasting {self.lasts_s} s")
        if self.name in QUERY_FAULTS:
            self.log.failed_queries_s.append(self.log.clock.now_s())
        outcome = self.fault.strike(operation)
        self.log.clock.advance(self.lasts_s)
        return outcome


type Strikes = Callable[[str, str], bool]
"""Whether a fault strikes what asks for a task of that type with that marker."""


@dataclass(frozen=True, slots=True)
class Haunt:
    """A fault that strikes every create for one target, task type or route."""

    name: str
    fault: Fault
    strikes: Strikes


@dataclass(slots=True)
class Haunted:
    """The account's faults for ever: what each create meets for which nothing else is scripted."""

    log: FaultLog
    haunts: list[Haunt] = field(default_factory=list)
    arrives: bool = True

    def strikes_marker(self, task_type: str, marker: str) -> bool:
        """Whether any of them strikes an event."""
        return any(haunt.strikes(task_type, marker) for haunt in self.haunts)

    def strike(self, operation: Operation) -> Outcome:
        parameters: Mapping[str, str] = operation.call.parameters  # type: ignore[attr-defined]
        task_type, param = parameters.get("TaskType", ""), parameters.get("Param", "")
        for haunt in self.haunts:
            if any(haunt.strikes(task_type, marker) for marker in markers(param)):
                self.log.counts[haunt.name] += 1
                self.log.note(f"answered: {haunt.name}")
                return haunt.fault.strike(operation)
        return accepted(operation.run())


@dataclass(frozen=True, slots=True)
class Late:
    """A `LateTask` that notes when its task was asked for."""

    fault: LateTask
    log: FaultLog
    start_s: float
    """What the service's clock showed when the injected one had not yet run."""
    arrives: bool = True

    def strike(self, operation: Operation) -> Outcome:
        now_s = self.start_s + self.log.clock.elapsed_s()
        self.log.asked_late_s[now_s + self.fault.delay_s] = now_s
        return self.fault.strike(operation)
