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

from oncetask.later import left_for_later, uncollected

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

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

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


@dataclass(slots=True)
class Exchange:
    """One call on the wire: what Tea cannot be told, and what it forgets.

    `left_s`: how long its answer may still take, to the last byte.
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
    """What a socket receives for one answer, until the call has to end.

    A socket's own time-out begins anew with every byte, so that a peer could hold a call for ever.
    """

    def __init__(self, raw: RawIOBase, connection: socket) -> None:
        self._raw = raw
        self._connection = connection

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "WriteableBuffer") -> int | None:
        of_call, timeout_s = exchange.get(), self._connection.gettimeout()
        if of_call is not None and timeout_s is not None:
            left_s = of_call.left_s()
            if left_s <= 0:
                raise TimeoutError("the answer has not ended in time")
            self._connection.settimeout(min(timeout_s, left_s))
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
    darabonba.core.DaraCore.get_adapter = staticmethod(_adapter)


_tame_tea()
