"""What stands before every operation: which there are, and who may call them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from . import acs3
from .answers import Answer, ApiError
from .calls import Call
from .faults import Fault
from .wire import Request

type Run = Callable[[Call], Answer]


@dataclass(frozen=True, slots=True)
class Operation:
    """What one action of one product version does, and whether it must be signed."""

    run: Run
    signed: bool


class Gateway:
    """The table of operations, and the signature check before them; not thread-safe."""

    def __init__(
        self,
        signature_clock: Callable[[], float],
        credentials: Mapping[str, tuple[str, str | None]],
    ) -> None:
        self.credentials = dict(credentials)
        self.expired_tokens: set[str] = set()
        self._signature_clock = signature_clock
        self._nonces = acs3.Nonces()
        self._operations: dict[tuple[str, str], Operation] = {}

    def add(self, version: str, action: str, operation: Operation) -> None:
        """From now on that action of that version is this operation."""
        self._operations[version, action] = operation

    def actions(self, version: str) -> set[str]:
        """The operations that there are of a product's version."""
        return {action for known, action in self._operations if known == version}

    def admitted(self, request: Request, call: Call, fault: Fault | None) -> Run:
        """The operation, once the signature is right; raises ApiError.

        Unverified, and its nonce unused, stays a request that a fault keeps from arriving.
        """
        operation = self._found(request, call)
        if operation.signed and (fault is None or fault.arrives):
            self._verify(request)
        return operation.run

    def _found(self, request: Request, call: Call) -> Operation:
        if request.method not in {"GET", "POST"}:
            raise ApiError(405, "UnsupportedHTTPMethod", "This HTTP method is not supported.")
        operation = self._operations.get((call.version, call.action))
        if operation is None or request.path != "/":
            message = "Specified api is not found, please check your url and method."
            raise ApiError(404, "InvalidApi.NotFound", message)
        return operation

    def _verify(self, request: Request) -> None:
        now_s = self._signature_clock()
        nonce = acs3.verify(request, self.credentials, now_s=now_s, expired_tokens=self.expired_tokens)
        self._nonces.use(nonce, now_s)
