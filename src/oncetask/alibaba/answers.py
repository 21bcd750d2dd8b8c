"""What an answer of Security Center means, or its absence: by its code first, by what Tea raised else.

Facts about Tea: alibabacloud_tea_openapi 0.4.6 `Client.do_request`, darabonba-core 1.0.9
`DaraCore.do_action`.
"""

import re
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any, NamedTuple

from oncetask.alibaba.fields import code_of, response_of, text_of
from oncetask.alibaba.session import Exchange
from oncetask.alibaba.tea import (
    ContentDecodingError,
    CredentialException,
    InvalidHeader,
    OldRetryError,
    RetryError,
    TeaException,
    UnretryableException,
)
from oncetask.errors import Code, CredentialsUnavailable, Kind, QueryFailed
from oncetask.models import Answer, ErrorInfo, Outcome

MESSAGE_CHARS = 300
WORD_CHARS = 100
"""Codes and request ids from outside are cut to this."""

LONGEST_RETRY_AFTER_MS = 86_400_000

OUTCOME_OF_CODE: tuple[tuple[Outcome, re.Pattern[str]], ...] = (
    (Outcome.THROTTLED, re.compile(r"Throttling")),
    (Outcome.REFUSED, re.compile(r"InvalidParameter|InvalidParam$|IllegalParam|HcIllegalParameter$")),
    (Outcome.REFUSED, re.compile(r"-10[12]$|MissingParameter|missingParam")),
    (Outcome.REFUSED, re.compile(r"Missing(TaskType|TaskName|Param|Source)$")),
    (Outcome.OPERATOR, re.compile(r"InvalidSecurityToken|NoPermission|Forbidden|InvalidAccessKeyId")),
    (Outcome.OPERATOR, re.compile(r"SignatureDoesNotMatch|IncompleteSignature|InvalidTimeStamp")),
    (Outcome.LOST, re.compile(r"SignatureNonceUsed$")),
    (Outcome.CAP_REACHED, re.compile(r"-110$|.*(Limit|Quota|Exceed)")),
)
"""The first that matches the code's beginning decides, whatever the HTTP status: the gateway's words, and the
product's own numbers (docstrings of alibabacloud-sas20181203 10.3.2; that -110 is the cap is inferred)."""

KIND_OF_OUTCOME = {
    Outcome.CAP_REACHED: Kind.REMOTE,
    Outcome.THROTTLED: Kind.REMOTE,
    Outcome.NOT_CONNECTED: Kind.REMOTE,
    Outcome.OPERATOR: Kind.OPERATOR,
    Outcome.UNLISTED: Kind.OPERATOR,
    Outcome.REFUSED: Kind.SENDER,
    Outcome.LOST: Kind.UNKNOWN,
}

_GRANT = "allow the RAM user or role both yundun-aegis:{action} and yundun-sas:{action}"
ADVICE = {
    "NoPermission": _GRANT,
    "Forbidden": _GRANT,
    "InvalidAccessKeyId": "check that the access key exists and is enabled",
    "SignatureDoesNotMatch": "check the access key's secret",
    "InvalidSecurityToken": "check the role and the source of its temporary credentials",
    "InvalidTimeStamp": "check this machine's clock",
}
"""What the operator can do, by the start of the code."""

_NO_ANSWER = "Security Center was asked and did not answer"
_NOT_CONNECTED = "Security Center could not be connected to"
_CERTIFICATE = "the certificate of Security Center's endpoint was not accepted: check ONCETASK_ENDPOINT"
_UNREADABLE = "Security Center answered something that cannot be read"
_AT_CAP = "Security Center runs as many tasks as it allows"


class Reply(NamedTuple):
    """An answer below HTTP status 400: any JSON."""

    body: object
    status: int


class Translator(NamedTuple):
    """What an answer means, or its absence. `hide` takes the keys out of a text."""

    cap_codes: frozenset[str]
    hide: Callable[[str], str]

    def of_create(self, reply: Reply) -> Answer:
        """What GenerateOnceTask's reply came to: a task exactly where it tells an id."""
        if not isinstance(reply.body, dict) or reply.status >= HTTPStatus.MULTIPLE_CHOICES:
            return unreadable(reply.status)
        response = response_of(reply.body)
        if response.task_id:
            return Answer(outcome=Outcome.CREATED, task_id=response.task_id, response=response)
        if response.can_create is False:
            code = code_of(reply.body) or Code.CAP_REACHED
            return self._with_code(Outcome.CAP_REACHED, code, reply.body, reply.status, default=_AT_CAP)
        return self.of_code("GenerateOnceTask", reply.body, reply.status)

    def of_error(self, action: str, error: TeaException, exchange: Exchange) -> Answer:
        """What a call came to that Tea raised for.

        Raises what was wrong before anything was sent: that is a bug.
        """
        if isinstance(error, UnretryableException):
            return _of_broken_call(error.inner_exception, exchange)
        body = error.data if isinstance(error.data, dict) else {"Code": error.code}
        return self.of_code(action, body, exchange.status, getattr(error, "retry_after", None))

    def of_code(
        self, action: str, body: Mapping[str, Any], status: int | None, retry_after_ms: int | None = None
    ) -> Answer:
        """What an answer without a task came to, by its code."""
        code = code_of(body)
        outcome = self._outcome(code, status)
        if code is None or outcome is None:
            return unreadable(status, text_of(body.get("RequestId")))
        if outcome is not Outcome.THROTTLED:
            retry_after_ms = None
        return self._with_code(outcome, code, body, status, action=action, retry_after_ms=retry_after_ms)

    def _outcome(self, code: str | None, status: int | None) -> Outcome | None:
        """What the code says; by the status where nobody knows it, and None where that says nothing."""
        if code is None:
            return None
        if code in self.cap_codes:
            return Outcome.CAP_REACHED
        known = next((outcome for outcome, pattern in OUTCOME_OF_CODE if pattern.match(code)), None)
        if known is not None:
            return known
        if status is not None and status < HTTPStatus.BAD_REQUEST:
            return None
        if status == HTTPStatus.TOO_MANY_REQUESTS:
            return Outcome.THROTTLED
        return Outcome.LOST if (status or 0) >= HTTPStatus.INTERNAL_SERVER_ERROR else Outcome.UNLISTED

    def _with_code(  # noqa: PLR0913 - each names one part of the answer
        self,
        outcome: Outcome,
        code: str,
        body: Mapping[str, Any],
        status: int | None,
        *,
        action: str = "",
        default: str = "",
        retry_after_ms: int | None = None,
    ) -> Answer:
        told = text_of(body.get("Message") or body.get("message")) or default
        answer = refusal(
            outcome,
            code,
            self._message(code, told, action),
            status=status,
            request_id=text_of(body.get("RequestId") or body.get("requestId")),
        )
        if retry_after_ms is None:
            return answer
        bounded_ms = min(retry_after_ms, LONGEST_RETRY_AFTER_MS)
        return answer.model_copy(update={"retry_after_ms": bounded_ms})

    def _message(self, code: str, message: str, action: str) -> str:
        """The service's words, bounded, without keys and signatures, and with what the operator can do.

        Signature errors answer with the string that was signed, which holds the security token.
        """
        if code.startswith(("SignatureDoesNotMatch", "IncompleteSignature")):
            message = "the signature was not accepted"
        message = re.sub(r"\b[0-9A-Fa-f]{64}\b", "***", self.hide(message))[:MESSAGE_CHARS] or code
        advice = next((text for start, text in ADVICE.items() if code.startswith(start)), None)
        return message if advice is None else f"{message}: {advice.format(action=action)}"


def _of_broken_call(inner: BaseException | None, exchange: Exchange) -> Answer:
    """What a call without a usable answer came to, by what Tea met inside."""
    match inner:
        case CredentialsUnavailable():
            return refusal(Outcome.OPERATOR, str(inner.code), inner.message)
        case CredentialException():
            return refusal(
                Outcome.OPERATOR,
                Code.CREDENTIALS_UNAVAILABLE,
                "no access key for Security Center could be read",
            )
        case RetryError() | OldRetryError():
            return _of_broken_connection(inner.__context__, exchange)
    if exchange.status is None and inner is not None:
        raise inner
    return unreadable(exchange.status)


def _of_broken_connection(cause: BaseException | None, exchange: Exchange) -> Answer:
    """By the call's own notes: Tea makes one class of a refused connection and a lost answer, and urllib3 one
    of a reset before and after the request was sent.
    """
    if exchange.certificate_refused:
        return refusal(Outcome.NOT_CONNECTED, Code.NOT_CONNECTED, _CERTIFICATE, kind=Kind.OPERATOR)
    if not exchange.connected:
        return refusal(Outcome.NOT_CONNECTED, Code.NOT_CONNECTED, _NOT_CONNECTED)
    if isinstance(cause, ContentDecodingError | InvalidHeader):
        return unreadable()
    return refusal(Outcome.LOST, Code.NO_ANSWER, _NO_ANSWER)


def refuses_token(reply: Reply | Answer) -> bool:
    """Whether newer keys would help."""
    error = reply.error if isinstance(reply, Answer) else None
    return error is not None and error.code.startswith("InvalidSecurityToken")


def refusal(  # noqa: PLR0913 - each names one field of the error
    outcome: Outcome,
    code: str,
    message: str,
    *,
    kind: Kind | None = None,
    status: int | None = None,
    request_id: str | None = None,
) -> Answer:
    """An answer that is no task; who must act is its outcome's unless another is named."""
    return Answer(
        outcome=outcome,
        error=ErrorInfo(
            kind=kind or KIND_OF_OUTCOME[outcome],
            code=code[:WORD_CHARS],
            message=message,
            http_status=status,
            request_id=request_id and request_id[:WORD_CHARS],
        ),
    )


def unreadable(status: int | None = None, request_id: str | None = None) -> Answer:
    """Somebody answered, and nobody knows what."""
    return refusal(Outcome.LOST, Code.ANSWER_UNREADABLE, _UNREADABLE, status=status, request_id=request_id)


def query_failed(answer: Answer) -> QueryFailed:
    """The same of a query, to be raised."""
    if answer.error is None:
        raise AssertionError("a query makes no task")
    return QueryFailed(**dict(answer.error))
