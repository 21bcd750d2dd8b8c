"""How one of our calls travels, by Tea's only seam.

    Client.call_api → DaraCore.do_action → DaraCore._get_session → our Session → our connections

Tea makes its sessions in that one function and offers no option. It is the one name of Tea's that is replaced
here; urllib3 and requests are used as they are. A call without an `Exchange` is none of ours and travels as
Tea would have it.

    no redirect is followed                 it would send a create a second time
    the answer ends with its call           a socket's own time-out begins again with every byte
    who is connected too late asks nothing  a name's lookup knows no time-out
    certificates are read once              requests would read them for each connection: 20 ms of a processor
    proxies as `Proxies` says               Tea's own know neither NO_PROXY nor loopback
"""

import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from http.client import HTTPResponse
from io import BufferedReader, RawIOBase
from socket import socket
from typing import TYPE_CHECKING, Any

from oncetask.alibaba.tea import (
    ConnectTimeoutError,
    DaraCore,
    HTTPAdapter,
    HTTPConnection,
    HTTPConnectionPool,
    HTTPSConnection,
    HTTPSConnectionPool,
    PoolManager,
    PreparedRequest,
    Response,
    Session,
    certificates_path,
)
from oncetask.proxies import Proxy

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

SHORTEST_ANSWER_S = 0.1
"""Who has less left after connecting sends nothing."""
AT_HAND_S = 0.01
MOST_LATE_READS = 16
"""What arrives within that time, so often, was there already."""


@dataclass(slots=True)
class Exchange:
    """One call on the wire: what Tea cannot be told, and what it forgets.

    `left_s`: until the call must have ended, whatever its time-outs are. `connected`: the request may have
    been sent; before that nothing was. `status`: the HTTP answer's, None without one.
    """

    session: "CallSession"
    left_s: Callable[[], float]
    connected: bool = False
    certificate_refused: bool = False
    status: int | None = None


_exchange: ContextVar[Exchange] = ContextVar("exchange")


@contextmanager
def on_the_wire(exchange: Exchange) -> Iterator[Exchange]:
    """Inside the block every call of Tea's is this one. Blocks may nest: keys are fetched within a call."""
    token = _exchange.set(exchange)
    try:
        yield exchange
    finally:
        _exchange.reset(token)


class CallSession(Session):
    """The connections of one client towards one endpoint, kept alive."""

    def __init__(self, *, tls: bool, proxy: Proxy | None) -> None:
        super().__init__()
        scheme = "https" if tls else "http"
        self._proxies = {scheme: proxy.url} if proxy else {}
        self.mount(f"{scheme}://", _Adapter(_trusting_context() if tls else None))

    def get_redirect_target(self, resp: Response) -> None:
        """None: a redirect is an answer like any other."""

    def send(self, request: PreparedRequest, **kwargs: Any) -> Response:  # noqa: ANN401 - requests' signature
        """One request of the call. Tea's own proxies are left out."""
        response = super().send(request, **kwargs | {"proxies": self._proxies})
        _exchange.get().status = response.status_code
        return response


def _trusting_context() -> ssl.SSLContext:
    """It trusts whom the machine trusts and whom certifi does, as Tea's own."""
    context = ssl.create_default_context()
    context.load_verify_locations(certificates_path())
    return context


class _Adapter(HTTPAdapter):
    """requests', whose connections are ours; with TLS they share one context."""

    def __init__(self, context: ssl.SSLContext | None) -> None:
        self._context = context
        super().__init__()

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - requests' signature
        super().init_poolmanager(*args, ssl_context=self._context, **kwargs)
        _use_our_connections(self.poolmanager)

    def proxy_manager_for(self, proxy: str, **kwargs: Any) -> PoolManager:  # noqa: ANN401 - likewise
        manager: PoolManager = super().proxy_manager_for(proxy, ssl_context=self._context, **kwargs)
        _use_our_connections(manager)
        return manager

    def cert_verify(self, conn: Any, url: str, verify: object, cert: object) -> None:  # noqa: ANN401
        """The context, which verifies, holds the certificates already."""


class _Received(RawIOBase):
    """What a socket receives for one answer: for its time-out in all, and not past the end of the call.

    What is there already when the time is up is still taken: the process may have been frozen meanwhile.
    """

    def __init__(self, raw: RawIOBase, connection: socket) -> None:
        self._raw = raw
        self._connection = connection
        self._left_s = _exchange.get().left_s
        self._late_reads = 0
        timeout_s = connection.gettimeout()
        self._unused_s = 0.0 if timeout_s is None else max(0.0, self._left_s() - timeout_s)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "WriteableBuffer") -> int | None:
        left_s = self._left_s() - self._unused_s
        self._late_reads += left_s <= 0
        if self._late_reads > MOST_LATE_READS:
            raise TimeoutError("the answer has not ended in time")
        self._connection.settimeout(max(left_s, AT_HAND_S))
        return self._raw.readinto(buffer)

    def close(self) -> None:
        self._raw.close()
        super().close()


class _Response(HTTPResponse):
    """http.client's, read through `_Received`."""

    def __init__(self, sock: socket, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - http.client's signature
        super().__init__(sock, *args, **kwargs)
        self.fp = BufferedReader(_Received(self.fp.detach(), sock))


class _Connection(HTTPConnection):
    """urllib3's, which notes on the call how far it came."""

    response_class = _Response

    def connect(self) -> None:
        """Name, address, proxy and TLS; nothing of the request is sent before that has ended in time.

        Each address of a name has a connect time-out of its own, and the name's lookup has none.
        """
        of_call = _exchange.get()
        try:
            super().connect()
        except ssl.SSLCertVerificationError:
            of_call.certificate_refused = True
            raise
        if of_call.left_s() < SHORTEST_ANSWER_S:
            self.close()
            raise ConnectTimeoutError(self, "connected too late to ask")
        of_call.connected = True

    def request(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - urllib3's signature
        """By a connection that was kept alive, or else by one that `connect` opens now."""
        _exchange.get().connected = self.sock is not None
        super().request(*args, **kwargs)


class _TlsConnection(_Connection, HTTPSConnection):
    """The same with TLS."""


class _Pool(HTTPConnectionPool):
    ConnectionCls = _Connection


class _TlsPool(HTTPSConnectionPool):
    ConnectionCls = _TlsConnection


def _use_our_connections(manager: PoolManager) -> None:
    manager.pool_classes_by_scheme = {"http": _Pool, "https": _TlsPool}


_session_of_tea = DaraCore._get_session


def _session(*args: Any, **kwargs: Any) -> Session:  # noqa: ANN401 - Tea's signature
    of_call = _exchange.get(None)
    session: Session = _session_of_tea(*args, **kwargs) if of_call is None else of_call.session
    return session


DaraCore._get_session = staticmethod(_session)
