"""Security Center behind one door: the only module that knows Tea.

A call goes out at most once: Tea has no retry options here, redirects are not followed, and the
nonce is ours. Whatever comes back, or does not, becomes an `Answer`: by the service's code first,
by what Tea raised where there is none. Facts about Tea: alibabacloud_tea_openapi 0.4.6 `Client.do_request`,
darabonba-core 1.0.9 `DaraCore.do_action`.
"""

import logging
import re
import secrets
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import darabonba.core
from alibabacloud_credentials.models import CredentialModel
from alibabacloud_tea_openapi.client import Client
from alibabacloud_tea_openapi.utils_models import Config, OpenApiRequest, Params
from darabonba.exceptions import RetryError
from darabonba.runtime import RuntimeOptions
from pydantic import ValidationError
from requests import Response, Session
from requests.exceptions import ConnectTimeout, ProxyError
from Tea.exceptions import TeaException, UnretryableException
from urllib3.exceptions import ConnectTimeoutError, MaxRetryError, NewConnectionError

from oncetask.clock import Deadline
from oncetask.credentials import Credentials, Keys
from oncetask.errors import Code, CredentialsUnavailable, Kind
from oncetask.models import Answer, ErrorInfo, Outcome, TaskRequest, TaskResponse

VERSION = "2018-12-03"
MESSAGE_CHARS = 300

MARGIN_S = 1.0
"""A call ends this long before the invocation does, so that its answer can still be recorded."""
SHORTEST_CALL_S = 0.1

OUTCOME_OF_CODE: tuple[tuple[Outcome, re.Pattern[str]], ...] = (
    (Outcome.THROTTLED, re.compile(r"Throttling")),
    (Outcome.CAP_REACHED, re.compile(r".*(Limit|Quota|Exceed)")),
    (Outcome.LOST, re.compile(r"SignatureNonceUsed$")),
    (Outcome.REFUSED, re.compile(r"InvalidParameter|IllegalParam|MissingParameter")),
    (Outcome.REFUSED, re.compile(r"Missing(TaskType|TaskName|Param|Source)$")),
    (Outcome.OPERATOR, re.compile(r"InvalidSecurityToken|NoPermission|Forbidden|InvalidAccessKeyId")),
    (Outcome.OPERATOR, re.compile(r"SignatureDoesNotMatch|IncompleteSignature|InvalidTimeStamp")),
)
"""The first that matches the code's beginning decides, whatever the HTTP status."""

_GRANT = "allow the RAM user or role both yundun-aegis:GenerateOnceTask and yundun-sas:GenerateOnceTask"
ADVICE = {
    "NoPermission": _GRANT,
    "Forbidden": _GRANT,
    "InvalidAccessKeyId": "check that the access key exists and is enabled",
    "SignatureDoesNotMatch": "check the access key's secret",
    "InvalidSecurityToken": "check the role and the source of its temporary credentials",
    "InvalidTimeStamp": "check this machine's clock",
}
"""What the operator can do, by the start of the code."""


class _SessionWithoutRedirects(Session):
    """A redirect would send a create a second time, so it is an answer like any other."""

    def get_redirect_target(self, resp: Response) -> str | None:  # noqa: ARG002 - requests' signature
        return None


def _tame_tea() -> None:
    """Take away what Tea does to its whole process: log handlers at import, and redirects.

    DaraCore makes its sessions from its module's own name `Session` and offers no option.
    Its loggers print every header, the signature and the token, where the environment says DEBUG=sdk.
    """
    for name in ("darabonba-core", "alibabacloud-tea", "credentials"):
        logger = logging.getLogger(name)
        logger.handlers = [logging.NullHandler()]
        logger.propagate = False
    darabonba.core.Session = _SessionWithoutRedirects


_tame_tea()


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where Security Center listens: host, or host:port, and whether with TLS."""

    host: str
    tls: bool = True

    @property
    def protocol(self) -> str:
        """Tea's word for it."""
        return "HTTPS" if self.tls else "HTTP"


class SecurityCenter:
    """One client for the process; its connection is kept alive."""

    def __init__(
        self,
        *,
        endpoint: Endpoint,
        credentials: Credentials,
        connect_timeout_ms: int,
        read_timeout_ms: int,
        cap_codes: frozenset[str] = frozenset(),
    ) -> None:
        self._endpoint = endpoint
        self._credentials = credentials
        self._connect_timeout_ms = connect_timeout_ms
        self._read_timeout_ms = read_timeout_ms
        self._cap_codes = cap_codes
        self._client = Client(
            Config(
                credential=_TeaCredential(credentials),
                endpoint=endpoint.host,
                protocol=endpoint.protocol,
                user_agent="oncetask",
            )
        )

    def call_timeout_s(self) -> float:
        """The longest that one call may take, connecting and reading."""
        return (self._connect_timeout_ms + self._read_timeout_ms) / 1000

    def has_time(self, deadline: Deadline) -> bool:
        """Whether a call may still begin."""
        return deadline.left_s() - MARGIN_S >= SHORTEST_CALL_S

    def generate(self, request: TaskRequest, deadline: Deadline) -> Answer:
        """Ask for one task, once; a refused security token is renewed and asked with once more.

        Raises nothing that the service or the network can cause.
        """
        answer = self._generate_once(request, deadline)
        if _starts(answer, "InvalidSecurityToken") and self._credentials.renew() and self.has_time(deadline):
            return self._generate_once(request, deadline)
        return answer

    def _generate_once(self, request: TaskRequest, deadline: Deadline) -> Answer:
        try:
            reply = self._call("GenerateOnceTask", request.query(), deadline)
        except CredentialsUnavailable as error:
            return _unanswered(Outcome.OPERATOR, Kind.OPERATOR, str(error.code), error.message)
        except UnretryableException as error:
            return _answer_to_broken_call(error)
        except TeaException as error:
            return self._answer_to_error(error)
        return self._answer_to_reply(reply)

    def _call(self, action: str, query: dict[str, str], deadline: Deadline) -> dict[str, Any]:
        """One signed call: Tea's `{"body", "headers", "statusCode"}`. Raises what Tea raises."""
        connect_ms, read_ms = self._timeouts_ms(deadline)
        reply: dict[str, Any] = self._client.call_api(
            Params(
                action=action,
                version=VERSION,
                protocol=self._endpoint.protocol,
                pathname="/",
                method="POST",
                auth_type="AK",
                style="RPC",
                req_body_type="formData",
                body_type="json",
            ),
            OpenApiRequest(query=query, headers={"x-acs-signature-nonce": secrets.token_hex(16)}),
            RuntimeOptions(connect_timeout=connect_ms, read_timeout=read_ms),
        )
        return reply

    def _timeouts_ms(self, deadline: Deadline) -> tuple[int, int]:
        """Connect and read time-outs, shortened alike where the invocation ends before they would."""
        left_s = max(deadline.left_s() - MARGIN_S, SHORTEST_CALL_S)
        share = min(1.0, left_s / self.call_timeout_s())
        return max(1, int(self._connect_timeout_ms * share)), max(1, int(self._read_timeout_ms * share))

    def _answer_to_reply(self, reply: dict[str, Any]) -> Answer:
        body = reply.get("body")
        status = int(reply.get("statusCode") or 0)
        if not isinstance(body, dict):
            return _unreadable(status)
        response = _response(body)
        if response.task_id:
            return Answer(outcome=Outcome.CREATED, task_id=response.task_id, response=response)
        if response.can_create is False:
            return _refusal(
                Outcome.CAP_REACHED,
                Kind.REMOTE,
                Code.CAP_REACHED,
                "Security Center runs as many tasks as it allows; the next sweep asks again",
                http_status=status,
                request_id=response.request_id,
            )
        outcome = self._outcome_of_known_code(_text(body.get("Code")))
        if outcome is None:
            return _unreadable(status, request_id=response.request_id)
        return self._answer_with_code(outcome, body, status)

    def _answer_to_error(self, error: TeaException) -> Answer:
        """What an answer with an error's status came to. Tea turns missing fields into the text `None`."""
        data = getattr(error, "data", None)
        body = data if isinstance(data, dict) else {"Code": getattr(error, "code", None)}
        status = getattr(error, "status_code", None)
        status = status if isinstance(status, int) else None
        code = _text(body.get("Code") or body.get("code"))
        if not code:
            return _unreadable(status, request_id=_text(body.get("RequestId")))
        of_status = Outcome.LOST if (status or 0) >= HTTPStatus.INTERNAL_SERVER_ERROR else Outcome.OPERATOR
        outcome = self._outcome_of_known_code(code) or of_status
        return self._answer_with_code(outcome, body, status, getattr(error, "retry_after", None))

    def _outcome_of_known_code(self, code: str | None) -> Outcome | None:
        """What the code says; None where nobody knows it."""
        if not code:
            return None
        if code in self._cap_codes:
            return Outcome.CAP_REACHED
        return next((outcome for outcome, pattern in OUTCOME_OF_CODE if pattern.match(code)), None)

    def _answer_with_code(
        self,
        outcome: Outcome,
        body: dict[str, Any],
        status: int | None,
        retry_after_ms: int | None = None,
    ) -> Answer:
        code = _text(body.get("Code") or body.get("code")) or ""
        return _refusal(
            outcome,
            KIND_OF_OUTCOME[outcome],
            code,
            self._message(code, _text(body.get("Message") or body.get("message")) or ""),
            http_status=status,
            request_id=_text(body.get("RequestId") or body.get("requestId")),
            retry_after_ms=retry_after_ms,
        )

    def _message(self, code: str, message: str) -> str:
        """The service's words, bounded, without our keys, and with what the operator can do.

        Signature errors answer with the string that was signed, which holds the security token.
        """
        if code.startswith(("SignatureDoesNotMatch", "IncompleteSignature")):
            message = "the signature was not accepted"
        advice = next((text for start, text in ADVICE.items() if code.startswith(start)), "")
        try:
            message = self._credentials.keys().hide(message)
        except CredentialsUnavailable:
            message = code
        message = message[:MESSAGE_CHARS] or code
        return f"{message}: {advice}" if advice else message


class _TeaCredential:
    """Our credentials as Tea asks for them, so that renewed keys need no new client."""

    def __init__(self, credentials: Credentials) -> None:
        self._credentials = credentials

    def get_credential(self) -> CredentialModel:
        """The keys of this moment. Raises CredentialsUnavailable."""
        keys: Keys = self._credentials.keys()
        return CredentialModel(
            access_key_id=keys.access_key_id,
            access_key_secret=keys.access_key_secret,
            security_token=keys.security_token,
            type="sts" if keys.security_token else "access_key",
        )


KIND_OF_OUTCOME = {
    Outcome.CAP_REACHED: Kind.REMOTE,
    Outcome.THROTTLED: Kind.REMOTE,
    Outcome.NOT_CONNECTED: Kind.REMOTE,
    Outcome.OPERATOR: Kind.OPERATOR,
    Outcome.REFUSED: Kind.SENDER,
    Outcome.LOST: Kind.UNKNOWN,
}


def _refusal(  # noqa: PLR0913 - each names one field of the error
    outcome: Outcome,
    kind: Kind,
    code: str,
    message: str,
    *,
    http_status: int | None = None,
    request_id: str | None = None,
    retry_after_ms: int | None = None,
) -> Answer:
    return Answer(
        outcome=outcome,
        error=ErrorInfo(
            kind=kind, code=code, message=message, http_status=http_status, request_id=request_id
        ),
        retry_after_ms=retry_after_ms,
    )


def _unanswered(outcome: Outcome, kind: Kind, code: str, message: str) -> Answer:
    return _refusal(outcome, kind, code, message)


def _unreadable(status: int | None, *, request_id: str | None = None) -> Answer:
    return _refusal(
        Outcome.LOST,
        Kind.UNKNOWN,
        Code.ANSWER_UNREADABLE,
        "Security Center answered something that cannot be read; the sweep looks for the task",
        http_status=status,
        request_id=request_id,
    )


def _answer_to_broken_call(error: UnretryableException) -> Answer:
    """What a call without a usable answer came to. Anything wrong before sending is raised: it is a bug."""
    inner = error.inner_exception
    if isinstance(inner, CredentialsUnavailable):
        return _unanswered(Outcome.OPERATOR, Kind.OPERATOR, str(inner.code), inner.message)
    if isinstance(inner, RetryError):
        return _answer_to_broken_connection(inner.__context__)
    if getattr(error, "last_request", None) is None and inner is not None:
        raise inner
    return _unreadable(None)


def _answer_to_broken_connection(cause: BaseException | None) -> Answer:
    """Tea makes one class of a refused connection and a lost answer; requests' own exception tells."""
    if any(isinstance(link, ssl.SSLCertVerificationError) for link in _causes(cause)):
        return _unanswered(
            Outcome.NOT_CONNECTED,
            Kind.OPERATOR,
            Code.NOT_CONNECTED,
            "the certificate of Security Center's endpoint was not accepted: check ONCETASK_ENDPOINT",
        )
    if _was_never_sent(cause):
        return _unanswered(
            Outcome.NOT_CONNECTED,
            Kind.REMOTE,
            Code.NOT_CONNECTED,
            "Security Center could not be connected to; it is asked again",
        )
    return _unanswered(
        Outcome.LOST,
        Kind.UNKNOWN,
        Code.NO_ANSWER,
        "Security Center was asked and did not answer; the sweep looks for the task",
    )


def _was_never_sent(cause: BaseException | None) -> bool:
    if isinstance(cause, ConnectTimeout | ProxyError):
        return True
    wrapped = cause.args[0] if cause is not None and cause.args else None
    return isinstance(wrapped, MaxRetryError) and isinstance(
        wrapped.reason, NewConnectionError | ConnectTimeoutError
    )


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """The exception and everything that it was raised from or holds as its reason."""
    seen: list[object] = [error]
    while seen:
        link = seen.pop()
        if isinstance(link, BaseException):
            yield link
            seen += [link.__cause__, getattr(link, "reason", None), *link.args]


def _response(body: dict[str, Any]) -> TaskResponse:
    """The seven fields; only the ids where another field has a shape that nobody foresaw."""
    try:
        return TaskResponse.model_validate(body)
    except ValidationError:
        return TaskResponse(
            request_id=_text(body.get("RequestId")),
            task_id=_text(body.get("TaskId")),
            can_create=False if body.get("CanCreate") is False else None,
        )


def _text(value: object) -> str | None:
    """A text or a number as text; None for anything else, and for the empty text."""
    if isinstance(value, str):
        return value or None
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else None


def _starts(answer: Answer, prefix: str) -> bool:
    return answer.error is not None and answer.error.code.startswith(prefix)
