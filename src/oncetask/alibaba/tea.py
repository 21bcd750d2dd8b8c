"""Tea's import, and its taming: every name of Tea's that is used here comes from this module.

Tea's client is a synchronous and an asynchronous one, speaks WebSocket and knows a dozen sources of
credentials. We use the synchronous one with our own credentials, so that two fifths of what its import
loads would never run: aiohttp and asyncio (the other client), APScheduler (refreshes the keys of an ECS
machine), cryptography (RSA and SM2 signatures; ours is an HMAC), websocket, aiofiles, configparser and
xml. They are left for later, and nothing that the client does changes. Where a newer Tea needs one of
them at once, the whole import is the plain one, slower and otherwise the same; a test notices.

Facts about Tea: alibabacloud_tea_openapi 0.4.6, darabonba-core 1.0.9, alibabacloud_credentials 1.0.12.
"""

import logging
from collections.abc import Callable
from contextlib import suppress
from contextvars import ContextVar
from dataclasses import dataclass
from http.client import HTTPResponse
from importlib import import_module
from io import BufferedReader, RawIOBase
from socket import socket
from typing import TYPE_CHECKING, Any

from oncetask.alibaba.lazy_imports import left_for_later, uncollected

with (
    uncollected(),
    suppress(ImportError, AttributeError, TypeError),  # whatever the use of a stand-in comes to
    left_for_later(
        *("aiohttp", "asyncio", "aiofiles", "apscheduler"),
        *("cryptography", "websocket", "configparser", "xml"),
    ),
):
    import_module("alibabacloud_tea_openapi.client")

import darabonba.core
from alibabacloud_credentials.exceptions import CredentialException
from alibabacloud_credentials.models import CredentialModel
from alibabacloud_tea_openapi.client import Client
from alibabacloud_tea_openapi.utils_models import Config, OpenApiRequest, Params
from darabonba.exceptions import RetryError
from darabonba.runtime import RuntimeOptions
from requests import PreparedRequest, Response, Session
from requests.adapters import HTTPAdapter
from requests.exceptions import ContentDecodingError, InvalidHeader
from Tea.exceptions import RetryError as OldRetryError
from Tea.exceptions import TeaException, UnretryableException
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPSConnectionPool
from urllib3.exceptions import ConnectTimeoutError

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

    type Connect = Callable[[HTTPConnection], None]

__all__ = [
    "Client",
    "Config",
    "ContentDecodingError",
    "CredentialException",
    "CredentialModel",
    "Exchange",
    "HTTPConnection",
    "HTTPSConnection",
    "InvalidHeader",
    "OldRetryError",
    "OpenApiRequest",
    "Params",
    "RetryError",
    "RuntimeOptions",
    "TeaException",
    "UnretryableException",
    "exchange",
]


SHORTEST_ANSWER_S = 0.1
"""Who has less left after connecting sends nothing."""
AT_HAND_S = 0.01
MOST_LATE_READS = 16
"""What arrives within that time, so often, was there already."""


@dataclass(slots=True)
class Exchange:
    """One call on the wire: what Tea cannot be told, and what it forgets.

    `left_s`: until the call must have ended, whatever its time-outs are.
    """

    left_s: Callable[[], float]
    on_new_connection: bool = False
    status: int | None = None


exchange: ContextVar[Exchange | None] = ContextVar("exchange", default=None)


class _Session(Session):
    """A redirect would send a create a second time, so it is an answer like any other."""

    def get_redirect_target(self, resp: Response) -> str | None:  # noqa: ARG002 - requests' signature
        return None

    def send(self, request: PreparedRequest, **kwargs: Any) -> Response:  # noqa: ANN401 - requests' signature
        of_call = exchange.get()
        if of_call is None:
            return super().send(request, **kwargs)
        if of_call.on_new_connection:
            self.close()
        response = super().send(request, **kwargs)
        of_call.status = response.status_code
        return response


class _Received(RawIOBase):
    """What a socket receives for one answer: for its time-out in all, and not past the end of the call.

    A socket's own time-out begins anew with every byte, so that a peer could hold a call for ever. What is
    there already when the time is up is still taken: the process may have been frozen meanwhile.
    """

    def __init__(self, raw: RawIOBase, connection: socket) -> None:
        self._raw = raw
        self._connection = connection
        self._of_call = exchange.get()
        self._unused_s = 0.0
        self._late_reads = 0
        timeout_s = connection.gettimeout()
        if self._of_call is not None and timeout_s is not None:
            self._unused_s = max(0.0, self._of_call.left_s() - timeout_s)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "WriteableBuffer") -> int | None:
        if self._of_call is not None:
            left_s = self._of_call.left_s() - self._unused_s
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


class _TlsAdapter(darabonba.core._TLSAdapter):  # type: ignore[misc] # Tea ships without types
    """Tea's, whose context holds certifi's certificates. requests would read them anew for each connection,
    20 ms of a processor; a proxy's connections have another context, and go on as they did.
    """

    def cert_verify(self, conn: HTTPSConnectionPool, url: str, verify: object, cert: object) -> None:
        super().cert_verify(conn, url, verify, cert)
        if verify is True and conn.conn_kw.get("ssl_context") is self.ssl_context is not None:
            conn.ca_certs = None


def _in_time(connect: "Connect") -> "Connect":
    """The same; but who is connected too late for an answer asks nothing. A name's lookup knows no time-out,
    and each of its addresses takes one of its own.
    """

    def connected_in_time(connection: HTTPConnection) -> None:
        connect(connection)
        of_call = exchange.get()
        if of_call is not None and of_call.left_s() < SHORTEST_ANSWER_S:
            connection.close()
            raise ConnectTimeoutError(connection, "connected too late to ask")

    return connected_in_time


_adapter_of_tea = darabonba.core.DaraCore.get_adapter


def _adapter(protocol: str, tls_min_version: str | None = None, pool_size: int | None = None) -> HTTPAdapter:
    """Tea's own for TLS. Without TLS, Tea's reads all the certificates of the machine for nothing."""
    if protocol.upper() == "HTTPS":
        adapter: HTTPAdapter = _adapter_of_tea(protocol, tls_min_version, pool_size)
        return adapter
    most_connections = pool_size or darabonba.core.DEFAULT_POOL_MAXSIZE
    return HTTPAdapter(darabonba.core.DEFAULT_POOL_SIZE, most_connections)


def _tame_tea() -> None:
    """Take away what Tea does to its whole process: log handlers at import, redirects, endless answers.

    DaraCore makes its sessions from its module's own name `Session` and offers no option. Its loggers
    print every header, the signature and the token, where the environment says DEBUG=sdk; urllib3's
    print the query.
    """
    for name in ("darabonba-core", "alibabacloud-tea", "credentials", "urllib3"):
        logger = logging.getLogger(name)
        logger.handlers = [logging.NullHandler()]
        logger.propagate = False
    darabonba.core.Session = _Session
    darabonba.core._TLSAdapter = _TlsAdapter
    HTTPConnection.response_class = _Response
    for kind in (HTTPConnection, HTTPSConnection):
        kind.connect = _in_time(kind.connect)  # type: ignore[method-assign, assignment]
    darabonba.core.DaraCore.get_adapter = staticmethod(_adapter)


_tame_tea()
