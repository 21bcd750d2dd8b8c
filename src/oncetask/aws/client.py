"""One AWS service over one kept-alive connection, for the JSON and the query protocol. Resends nothing.

    AwsFailure          a call gave no result
    ├── AwsError            the service answered, with an error
    └── AwsUnreachable      no answer: not connected, lost, silent or cut short

Texts hold names and codes, never a key, a signature or a session token.
"""

import base64
import http.client
import json
import re
import select
import ssl
import threading
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import unquote, urlencode, urlsplit
from xml.etree import ElementTree as ET

from oncetask.aws.sigv4 import AwsKeys, sign
from oncetask.clock import Clock
from oncetask.errors import Code, OnceTaskError
from oncetask.proxies import DIRECT, Proxies, Proxy

MESSAGE_CHARS = 300
_JSON_1_0 = {"dynamodb", "sqs"}
"""The others of ours (events, secretsmanager, ssm) speak 1.1: models of botocore 1.44.5."""
_SIGNATURE = re.compile(r"[0-9a-f]{64}")
_XML_CODE = re.compile(r"<Code>([\w.]+)</Code>")


type Read = Callable[[bytes], dict[str, Any] | None]
"""From an answer's body to what it says; None where it cannot be read."""


class AwsFailure(OnceTaskError):  # noqa: N818 - it names the family
    """A call gave no result. `in_doubt`: it may have taken effect all the same."""

    in_doubt: bool


class AwsError(AwsFailure):
    """The service answered with an error. `code` is its own; AnswerUnreadable where it gave none."""

    def __init__(self, code: str, http_status: int, message: str) -> None:
        super().__init__(f"{code} (HTTP {http_status}): {message}")
        self.code = code
        self.http_status = http_status
        self.message = message
        self.in_doubt = http_status >= 500 or http_status < 300  # noqa: PLR2004 - HTTP's classes


class AwsUnreachable(AwsFailure):
    """No answer. `in_doubt`: the request may have arrived; `was_idle`: the connection had served before."""

    def __init__(self, message: str, *, in_doubt: bool, was_idle: bool) -> None:
        super().__init__(message)
        self.in_doubt = in_doubt
        self.was_idle = was_idle


class AwsService:
    """One service in one region. Its threads share one connection, one call at a time.

    A connection that the other side has closed while it was idle is opened again, unseen, where
    that can be told before sending; else the call ends with AwsUnreachable and the next one connects.
    """

    def __init__(  # noqa: PLR0913 - what a service is, by name
        self,
        service: str,
        *,
        region: str,
        keys: AwsKeys,
        clock: Clock,
        endpoint_url: str | None = None,
        proxies: Proxies = DIRECT,
        connect_timeout_s: float = 2.0,
        read_timeout_s: float = 3.0,
    ) -> None:
        """Nothing is opened yet. `endpoint_url` None: the region's own endpoint."""
        self.service = service
        self.region = region
        self._url = (endpoint_url or default_endpoint(service, region)).rstrip("/") + "/"
        self._there = urlsplit(self._url)
        self._proxy = proxies.towards(self._url)
        self._keys = keys
        self._clock = clock
        self._connect_timeout_s = connect_timeout_s
        self._read_timeout_s = read_timeout_s
        self._lock = threading.Lock()
        self._connection: http.client.HTTPConnection | None = None

    def call(self, target: str, document: Mapping[str, Any]) -> dict[str, Any]:
        """The answer to one `X-Amz-Target` call. Raises AwsFailure."""
        version = "1.0" if self.service in _JSON_1_0 else "1.1"
        headers = {"content-type": f"application/x-amz-json-{version}", "x-amz-target": target}
        return self._answer(headers, json.dumps(document, separators=(",", ":")).encode())

    def query(self, action: str, version: str, parameters: Mapping[str, str]) -> dict[str, Any]:
        """The answer to one call of the query protocol, in JSON where the service can, else in XML: its
        elements by their names, each a text or an object of the same kind. Raises AwsFailure.
        """
        headers = {
            "content-type": "application/x-www-form-urlencoded; charset=utf-8",
            "accept": "application/json",
        }
        body = urlencode({"Action": action, "Version": version, **parameters})
        return self._answer(
            headers, body.encode(), lambda answer: _json_object(answer) or _xml_object(answer)
        )

    def close(self) -> None:
        """Close the connection; the next call opens another."""
        with self._lock:
            self._drop()

    def _answer(self, headers: Mapping[str, str], body: bytes, read: Read | None = None) -> dict[str, Any]:
        with self._lock:
            status, answer = self._exchange(headers, body)
        found = (read or _json_object)(answer)
        if status == http.client.OK and found is not None:
            return found
        code, message = _error(answer, _json_object(answer))
        raise AwsError(code, status, self._safe(message))

    def _exchange(self, headers: Mapping[str, str], body: bytes) -> tuple[int, bytes]:
        """Send one request and read its answer to the end, so that the connection can serve again."""
        was_idle = self._is_alive()
        connection = self._connection if was_idle else None
        try:
            connection = connection or self._connect()
            # Signed only now: connecting may have taken seconds.
            connection.request("POST", "/", body, self._sign(headers, body))
            response = connection.getresponse()
            return response.status, response.read()
        except (OSError, http.client.HTTPException) as error:
            self._drop()
            raise self._unreachable(error, in_doubt=connection is not None, was_idle=was_idle) from error

    def _sign(self, headers: Mapping[str, str], body: bytes) -> dict[str, str]:
        return sign(
            "POST",
            self._url,
            headers,
            body,
            service=self.service,
            region=self.region,
            keys=self._keys,
            now_s=self._clock.now_s(),
        )

    def _is_alive(self) -> bool:
        """Whether there is a connection that the other side has not closed (then it would be readable)."""
        sock = self._connection.sock if self._connection else None
        if sock is None:
            return False
        poll = select.poll()
        poll.register(sock, select.POLLIN)
        if poll.poll(0):
            self._drop()
            return False
        return True

    def _connect(self) -> http.client.HTTPConnection:
        connection = self._connection = self._new_connection()
        connection.connect()  # http.client itself sets TCP_NODELAY
        connection.sock.settimeout(self._read_timeout_s)
        return connection

    def _new_connection(self) -> http.client.HTTPConnection:
        """Not connected yet; through a proxy by CONNECT."""
        there, timeout_s = self._there, self._connect_timeout_s
        first = self._proxy.place if self._proxy else there.netloc
        connection = (
            http.client.HTTPConnection(first, timeout=timeout_s)
            if there.scheme == "http"
            else http.client.HTTPSConnection(first, timeout=timeout_s, context=ssl.create_default_context())
        )
        if self._proxy is not None:
            connection.set_tunnel(there.netloc, headers=_authorization(self._proxy))
        return connection

    def _drop(self) -> None:
        if self._connection is not None:
            self._connection.close()
        self._connection = None

    def _unreachable(self, error: Exception, *, in_doubt: bool, was_idle: bool) -> AwsUnreachable:
        by = f" through the proxy {self._proxy.place}" if self._proxy else ""
        return AwsUnreachable(
            f"{self.service} at {self._there.netloc} cannot be reached{by} ({type(error).__name__})",
            in_doubt=in_doubt,
            was_idle=was_idle,
        )

    def _safe(self, message: str) -> str:
        """The message's first line without our keys and without signatures; some errors quote the request."""
        text = message.strip().partition("\n")[0]
        for value in (self._keys.secret_access_key, self._keys.session_token, self._keys.access_key_id):
            text = text.replace(value, "***") if value else text
        return _SIGNATURE.sub("***", text)[:MESSAGE_CHARS]


def _authorization(proxy: Proxy) -> dict[str, str]:
    """The header that a proxy wants which knows its users."""
    if proxy.user is None:
        return {}
    user_and_password = f"{unquote(proxy.user)}:{unquote(proxy.password or '')}"
    return {"proxy-authorization": f"Basic {base64.b64encode(user_and_password.encode()).decode()}"}


def default_endpoint(service: str, region: str) -> str:
    """The service's own endpoint in a region; China's regions have a domain of their own."""
    suffix = "amazonaws.com.cn" if region.startswith("cn-") else "amazonaws.com"
    return f"https://{service}.{region}.{suffix}"


def _json_object(answer: bytes) -> dict[str, Any] | None:
    try:
        read = json.loads(answer)
    except (ValueError, RecursionError):
        return None
    return read if isinstance(read, dict) else None


def _xml_object(answer: bytes) -> dict[str, Any] | None:
    try:
        root = ET.fromstring(answer)  # noqa: S314 - AWS's own answer, over TLS
    except ET.ParseError:
        return None
    return {_name(root): _content(root)}


def _content(element: ET.Element) -> str | dict[str, Any]:
    return {_name(child): _content(child) for child in element} or element.text or ""


def _name(element: ET.Element) -> str:
    return element.tag.rpartition("}")[2]


def _error(answer: bytes, read: dict[str, Any] | None) -> tuple[str, str]:
    """The code and message of an error's body: JSON of either protocol, or the query protocol's XML."""
    if read is None:
        found = _XML_CODE.search(answer.decode("utf-8", "replace"))
        return (found[1] if found else Code.ANSWER_UNREADABLE), ""
    error = read.get("Error")
    fields = {name.lower(): value for name, value in (error if isinstance(error, dict) else read).items()}
    code = str(fields.get("__type") or fields.get("code") or Code.ANSWER_UNREADABLE)
    return code.rpartition("#")[2], str(fields.get("message") or "")
