"""The emulator as its users see it: a URL to call, and everything about the service behind it."""

import socket
import struct
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from local.loopback import is_ours

from .answers import Answer, ApiError, Reply, accepted, json_reply, refused
from .behaviour import Behaviour, EndState
from .calls import Call, call_of
from .faults import Conduct, Fault, Outcome
from .gateway import Gateway, Operation, Run
from .hosts import Host, Inventory
from .listener import Listener
from .plans import planned, struck_by
from .task import Task
from .tasks import Tasks
from .wire import Malformed, Request, read_request, written

ACCESS_KEY_ID = "LTAIemulator"
ACCESS_KEY_SECRET = "emulator-secret"  # noqa: S105 - made up, and printed in the README
VERSION = "2018-12-03"
CALLS_KEPT = 10_000
OPERATOR_PATH = "/_emulator/"
"""What is asked of the emulator itself, not of the service that it emulates."""

type Watch = Callable[[Call, Outcome], None]
"""Is told each call and what became of it."""


class Emulator:
    """An embedded Security Center on 127.0.0.1, listening from its making until `close`.

    `clock` (epoch seconds) drives the tasks, `signature_clock` judges signatures. `port` 0 is any
    free one. One lock makes every call and every method a step of its own.
    """

    def __init__(  # noqa: PLR0913 - each is a switch of its own
        self,
        *,
        port: int = 0,
        clock: Callable[[], float] = time.time,
        signature_clock: Callable[[], float] = time.time,
        behaviour: Behaviour | None = None,
        credentials: Mapping[str, tuple[str, str | None]] | None = None,
        watch: Watch | None = None,
        always: Fault | None = None,
    ) -> None:
        """`always` is the fault that each call meets for which no other is scripted: GenerateOnceTask, or the
        operation that the fault is about.
        """
        known = {ACCESS_KEY_ID: (ACCESS_KEY_SECRET, None)} if credentials is None else credentials
        self._behaviour = Behaviour() if behaviour is None else behaviour
        self._gateway = Gateway(signature_clock, known)
        self._tasks = Tasks(clock, self._behaviour)
        self._calls: deque[Call] = deque(maxlen=CALLS_KEPT)
        self._call_count = 0
        self._scripts: defaultdict[str, deque[Fault | None]] = defaultdict(deque)
        self._lock = threading.RLock()
        self._watch = watch
        self._always = always
        self._going_down = threading.Event()
        self._inventory = Inventory(clock, self._behaviour)
        for action, run in _security_center(self._tasks, self._inventory).items():
            self.add_operation(VERSION, action, run)
        self._listener = Listener(port, self._serve)
        self.up()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def url(self) -> str:
        """Where it listens, or will again after `up`."""
        return f"http://127.0.0.1:{self._listener.port}"

    @property
    def behaviour(self) -> Behaviour:
        """Its switches, to be set at any time."""
        return self._behaviour

    @property
    def credentials(self) -> dict[str, tuple[str, str | None]]:
        """Access key id to (secret, security token or None), to be changed at any time."""
        return self._gateway.credentials

    @property
    def expired_tokens(self) -> set[str]:
        """Security tokens that are refused as expired, to be added to at any time."""
        return self._gateway.expired_tokens

    @property
    def connections(self) -> int:
        """TCP connections accepted so far."""
        return self._listener.accepted

    @property
    def calls(self) -> list[Call]:
        """The last 10,000 calls, oldest first, refused ones included."""
        with self._lock:
            return list(self._calls)

    @property
    def tasks(self) -> list[Task]:
        """Every task that exists by now, foreign ones included, in the order they came to exist."""
        with self._lock:
            return self._tasks.all()

    @property
    def hosts(self) -> list[Host]:
        """The hosts it lists, to be changed at any time; they outlive `forget`."""
        return self._inventory.hosts

    def script(self, *faults: Fault | None, action: str = "GenerateOnceTask") -> None:
        """The next calls of that action meet these faults, one each, in order; None: none.

        A call whose signature is refused has met its fault too.
        """
        with self._lock:
            self._scripts[action].extend(faults)

    def plan(self, body: bytes) -> int:
        """Script the faults that a JSON list names by their words, all or none; how many calls they meet.

        Raises ValueError, which says what would be right.
        """
        with self._lock:
            plans = planned(body, self._gateway.actions(VERSION))
            for plan in plans:
                self._scripts[plan.action].extend([plan.fault] * plan.times)
        return sum(plan.times for plan in plans)

    def add_foreign(
        self,
        task_type: str,
        *,
        name: str | None = None,
        source: str | None = None,
        started_s: float | None = None,
    ) -> Task:
        """A task of another tool, made now or at `started_s` by `clock`; it counts for the cap."""
        with self._lock:
            return self._tasks.add_foreign(task_type, name=name, source=source, started_s=started_s)

    def finish(self, task_id: str, end_state: EndState = "SUCCESS") -> None:
        """Ends that task now; KeyError if it does not exist."""
        with self._lock:
            self._tasks.finish(task_id, end_state)

    def add_operation(self, version: str, action: str, run: Run, *, signed: bool = True) -> None:
        """One more operation behind the same URL; `run` may raise ApiError."""
        with self._lock:
            self._gateway.add(version, action, Operation(run, signed))

    def forget(self) -> None:
        """No tasks, calls or scripts any more; nonces stay used, behaviour stays as it is."""
        with self._lock:
            self._tasks.forget()
            self._calls.clear()
            self._scripts.clear()

    def down(self) -> None:
        """Every connection is closed and connects are refused, until `up`."""
        self._going_down.set()
        self._listener.down()

    def up(self) -> None:
        """Listens again, on the same port."""
        self._going_down.clear()
        self._listener.up()

    def close(self) -> None:
        """Down for good; no thread is left."""
        self._going_down.set()
        self._listener.close()

    def _serve(self, connection: socket.socket) -> None:
        with connection.makefile("rb") as stream:
            try:
                while request := read_request(stream):
                    if not self._respond(connection, request):
                        return
            except Malformed as malformed:
                reply = refused(ApiError(malformed.status, "MalformedRequest", str(malformed)))
                connection.sendall(written(reply, closes=True))

    def _respond(self, connection: socket.socket, request: Request) -> bool:
        """Answers, or not; whether the connection lives on."""
        outcome = (
            self._operated(request) if request.path.startswith(OPERATOR_PATH) else self._outcome(request)
        )
        if not isinstance(outcome, Reply):
            _leave_unanswered(connection, outcome)
            return False
        if outcome.delay_s and self._going_down.wait(outcome.delay_s):
            return False
        connection.sendall(written(outcome, closes=request.closes))
        return not request.closes

    def _operated(self, request: Request) -> Reply:
        """What somebody on this machine wants of the emulator itself."""
        if not is_ours(request.headers.get("host"), request.headers.get("origin")):
            return json_reply(403, {"error": "only a loopback Host, and no foreign Origin"})
        if request.path != f"{OPERATOR_PATH}faults":
            return json_reply(404, {"error": f"there is {OPERATOR_PATH}faults alone"})
        if request.method != "POST":
            return json_reply(405, {"error": "faults are planned by POST"})
        try:
            return json_reply(200, {"planned": self.plan(request.body)})
        except ValueError as error:
            return json_reply(400, {"error": str(error)})

    def _outcome(self, request: Request) -> Outcome:
        with self._lock:
            call = self._recorded(request)
            outcome = self._struck(request, call)
        if self._watch is not None:
            self._watch(call, outcome)
        return outcome

    def _struck(self, request: Request, call: Call) -> Outcome:
        script = self._scripts.get(call.action)
        fault = script.popleft() if script else None
        if fault is None and self._always is not None and call.action == struck_by(self._always):
            fault = self._always
        try:
            run = self._gateway.admitted(request, call, fault)
            if fault is None:
                return accepted(run(call))
            return fault.strike(_Struck(call, run, self._tasks, self._behaviour))
        except ApiError as error:
            return refused(error)

    def _recorded(self, request: Request) -> Call:
        self._call_count += 1
        call = call_of(request, self._call_count)
        self._calls.append(call)
        return call


@dataclass(frozen=True, slots=True)
class _Struck:
    """The call that a fault strikes; only GenerateOnceTask is ever late or at the cap."""

    call: Call
    perform: Run
    tasks: Tasks
    behaviour: Behaviour

    def run(self) -> Answer:
        return self.perform(self.call)

    def run_late(self, delay_s: float) -> None:
        number = self.call.number
        self.tasks.generate(self.call.parameters, late_s=delay_s, call_number=number)

    @contextmanager
    def behaving(self, changes: Mapping[str, object]) -> Iterator[None]:
        before = {name: getattr(self.behaviour, name) for name in changes}
        self._set(changes)
        try:
            yield
        finally:
            self._set(before)

    def _set(self, switches: Mapping[str, object]) -> None:
        for name, value in switches.items():
            setattr(self.behaviour, name, value)

    def at_cap(self) -> Answer:
        return self.tasks.at_cap()


def _security_center(tasks: Tasks, inventory: Inventory) -> dict[str, Run]:
    return {
        "GenerateOnceTask": lambda c: tasks.generate(c.parameters, call_number=c.number),
        "DescribeOnceTask": lambda c: tasks.describe(c.parameters),
        "GetOnceTaskResultInfo": lambda c: tasks.result_info(c.parameters),
        "GetLastOnceTaskInfo": lambda c: tasks.last_info(c.parameters),
        "DescribeCloudCenterInstances": lambda c: inventory.describe(c.parameters),
    }


def _leave_unanswered(connection: socket.socket, conduct: Conduct) -> None:
    if conduct is Conduct.RESET:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        return
    while connection.recv(4096):  # silence, until the peer closes or `down` shuts the connection
        pass
