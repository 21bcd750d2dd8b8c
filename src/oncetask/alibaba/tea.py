"""Tea's import, and its loggers' taming: every name of Tea's, requests' and urllib3's comes from this module.

Tea's client is a synchronous and an asynchronous one, speaks WebSocket and knows a dozen sources of
credentials. We use the synchronous one with our own credentials, so that two fifths of what its import
loads would never run: aiohttp and asyncio (the other client), APScheduler (refreshes the keys of an ECS
machine), cryptography (RSA and SM2 signatures; ours is an HMAC), websocket, aiofiles, configparser and
xml. They are left for later, and nothing that the client does changes. Where a newer Tea needs one of
them at once, the whole import is the plain one, slower and otherwise the same; a test notices.

Facts about Tea: alibabacloud_tea_openapi 0.4.6, darabonba-core 1.0.9, alibabacloud_credentials 1.0.12.
"""

import logging
from contextlib import suppress
from importlib import import_module

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

from alibabacloud_credentials.exceptions import CredentialException
from alibabacloud_credentials.models import CredentialModel
from alibabacloud_tea_openapi.client import Client
from alibabacloud_tea_openapi.utils_models import Config, OpenApiRequest, Params
from certifi import where as certificates_path
from darabonba.core import DaraCore
from darabonba.exceptions import RetryError
from darabonba.runtime import RuntimeOptions
from requests import PreparedRequest, Response, Session
from requests.adapters import HTTPAdapter
from requests.exceptions import ContentDecodingError, InvalidHeader
from Tea.exceptions import RetryError as OldRetryError
from Tea.exceptions import TeaException, UnretryableException
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool, PoolManager
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import ConnectTimeoutError

__all__ = [
    "Client",
    "Config",
    "ConnectTimeoutError",
    "ContentDecodingError",
    "CredentialException",
    "CredentialModel",
    "DaraCore",
    "HTTPAdapter",
    "HTTPConnection",
    "HTTPConnectionPool",
    "HTTPSConnection",
    "HTTPSConnectionPool",
    "InvalidHeader",
    "OldRetryError",
    "OpenApiRequest",
    "Params",
    "PoolManager",
    "PreparedRequest",
    "Response",
    "RetryError",
    "RuntimeOptions",
    "Session",
    "TeaException",
    "UnretryableException",
    "certificates_path",
]


def _silence() -> None:
    """Tea's loggers get their handlers at import and print every header, the signature and the token, where
    the environment says DEBUG=sdk; urllib3's print the query.
    """
    for name in ("darabonba-core", "alibabacloud-tea", "credentials", "urllib3"):
        logger = logging.getLogger(name)
        logger.handlers = [logging.NullHandler()]
        logger.propagate = False


_silence()
