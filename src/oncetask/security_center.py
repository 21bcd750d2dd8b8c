"""Security Center behind one door; `tea` imports and tames the client that stands behind it.

    SecurityCenter   calls: one client, its keys, its time-outs; asks for tasks and looks at them
    Translator       what came back, or did not: by the service's code first, by what Tea raised else
    (functions)      what a body shows, tolerantly read

A call goes out at most once: Tea has no retry options here, redirects are not followed, and the
nonce is ours. Whatever becomes of a create is an `Answer`; a query without a usable one raises
QueryFailed. Facts about Tea: alibabacloud_tea_openapi 0.4.6 `Client.do_request`, darabonba-core
1.0.9 `DaraCore.do_action`.
"""

import itertools
import json
import math
import re
import ssl
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from http import HTTPStatus
from typing import Any, NamedTuple, get_args

from pydantic import ValidationError

from oncetask.clock import Deadline
from oncetask.credentials import Credentials, Keys
from oncetask.errors import Code, CredentialsUnavailable, Kind, QueryFailed
from oncetask.models import (
    Answer,
    Ended,
    EndState,
    ErrorInfo,
    Outcome,
    Progress,
    Task,
    TaskRequest,
    TaskResponse,
)
from oncetask.tea import (
    Client,
    Config,
    ContentDecodingError,
    CredentialException,
    CredentialModel,
    Exchange,
    HTTPConnection,
    HTTPSConnection,
    InvalidHeader,
    OldRetryError,
    OpenApiRequest,
    Params,
    RetryError,
    RuntimeOptions,
    TeaException,
    UnretryableException,
    exchange,
)

VERSION = "2018-12-03"
MESSAGE_CHARS = 300
WORD_CHARS = 100
"""Codes and request ids from outside are cut to this."""

MARGIN_S = 1.0
"""A call ends this long before the invocation does, so that its answer can still be recorded."""
SHORTEST_CALL_S = 0.1
LONGEST_RETRY_AFTER_MS = 86_400_000

IDLE_S = 10.0
"""A connection that idled for longer is not used again. While the process was frozen its peer may have
hung up unnoticed, and a create into it would be lost."""

DESCRIBED_TYPES = frozenset(
    {"VUL_CHECK_TASK", "CLIENT_PROBLEM_CHECK", "CLIENT_DEV_OPS", "ASSET_SECURITY_CHECK"}
)
"""The task types that DescribeOnceTask knows."""
PAGE_SIZE = 20
"""DescribeOnceTask's own default; its maximum is not documented."""

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

KIND_OF_OUTCOME = {
    Outcome.CAP_REACHED: Kind.REMOTE,
    Outcome.THROTTLED: Kind.REMOTE,
    Outcome.NOT_CONNECTED: Kind.REMOTE,
    Outcome.OPERATOR: Kind.OPERATOR,
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
_NO_TIME = "there is no time left to ask Security Center"


class _TeaCredential:
    """Our credentials as Tea asks for them, so that renewed keys need no new client."""

    def __init__(self, credentials: Credentials) -> None:
        self._credentials = credentials
        self._given: Keys | None = None

    def get_credential(self) -> CredentialModel:
        """The keys of this moment. Raises CredentialsUnavailable."""
        keys = self._given = self._credentials.keys()
        for value in (keys.access_key_id, keys.access_key_secret, keys.security_token or "-"):
            if not re.fullmatch(r"[!-~]+", value):
                raise CredentialsUnavailable(
                    "the access key for Security Center is empty, or holds characters that no key has,"
                    " such as a line break: check what ONCETASK_CREDENTIALS names"
                )
        return CredentialModel(
            access_key_id=keys.access_key_id,
            access_key_secret=keys.access_key_secret,
            security_token=keys.security_token,
            type="sts" if keys.security_token else "access_key",
        )

    def hide(self, text: str) -> str:
        """The text without the keys that were given last."""
        return self._given.hide(text) if self._given else text


# -- calls ----------------------------------------------------------------------------------------


class Endpoint(NamedTuple):
    """Where Security Center listens: host, or host:port, and whether with TLS."""

    host: str
    tls: bool = True

    @property
    def protocol(self) -> str:
        """Tea's word for it."""
        return "HTTPS" if self.tls else "HTTP"


class _Reply(NamedTuple):
    """An answer below HTTP status 400: any JSON."""

    body: object
    status: int


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
        self._last_call_s = 0.0
        credential = _TeaCredential(credentials)
        self._translator = Translator(cap_codes, credential.hide)
        self._client = Client(
            Config(
                credential=credential,
                endpoint=endpoint.host,
                protocol=endpoint.protocol,
                user_agent="oncetask",
            )
        )

    def call_timeout_s(self) -> float:
        """The longest that one call may take, connecting and reading."""
        return (self._connect_timeout_ms + self._read_timeout_ms) / 1000

    def ask_timeout_s(self) -> float:
        """The longest that one ask may take: its call, and a second one where keys can be renewed."""
        return self.call_timeout_s() * (2 if self._credentials.renewable else 1)

    def has_time(self, deadline: Deadline) -> bool:
        """Whether a call may still begin."""
        return deadline.left_s() - MARGIN_S >= SHORTEST_CALL_S

    def generate(self, request: TaskRequest, deadline: Deadline) -> Answer:
        """Ask for one task, once; a refused security token is renewed and asked with once more.

        Raises nothing that the service or the network can cause.
        """
        reply = self._call("GenerateOnceTask", request.query(), deadline)
        return reply if isinstance(reply, Answer) else self._translator.of_create(reply)

    def describes(self, task_type: str) -> bool:
        """Whether `tasks_started_since` can be asked about tasks of this type."""
        return task_type in DESCRIBED_TYPES

    def tasks_started_since(self, task_type: str, since_s: float, deadline: Deadline) -> list[Task]:
        """Every task of a described type that started in that second or later, by the service's clock.

        Raises QueryFailed: nothing then is known about any task.
        """
        since_ms = math.floor(since_s) * 1000
        shown = self._described({"TaskType": task_type, "StartTimeQuery": str(since_ms)}, deadline)
        return [
            task
            for task in shown
            if task.task_type == task_type and (task.started_s is None or task.started_s * 1000 >= since_ms)
        ]

    def last_task(self, task_type: str, task_name: str, deadline: Deadline) -> Task | None:
        """The newest task of a type, described or not; None where the service says that there is none.

        Raises QueryFailed.
        """
        query = {"TaskType": task_type, "TaskName": task_name}
        body = self._query("GetLastOnceTaskInfo", query, deadline)
        info = _object(body.get("TaskInfo"))
        result = _text(info.get("Result"))
        if result == "TASK_NOT_EXISTS":
            return None
        if result not in {None, "SUCCESS"}:
            raise _query_failed(_refusal(Outcome.OPERATOR, result, f"GetLastOnceTaskInfo answered {result}"))
        task_id = _id(body.get("TaskId"))
        if task_id is None:
            raise _query_failed(_unreadable())
        return Task(
            task_id=task_id,
            task_type=task_type,
            started_s=_seconds(body.get("CollectTime")),
            state=_text(info.get("Status")),
            ended=_ended_by_result_info(body),
        )

    def follow(self, task_type: str, task_id: str, task_name: str, deadline: Deadline) -> Progress:
        """How far a task is. Raises QueryFailed, which says nothing about the task."""
        shown = self._shown_by_id(task_type, task_id, deadline) if self.describes(task_type) else []
        if shown:
            return _progress(shown)
        query = {"TaskType": task_type, "TaskName": task_name, "TaskId": task_id}
        body = self._query("GetOnceTaskResultInfo", query, deadline)
        state = _text(_object(body.get("TaskInfo")).get("Status"))
        return Progress(state, _ended_by_result_info(body))

    def _shown_by_id(self, task_type: str, task_id: str, deadline: Deadline) -> list[Task]:
        """The task's own entry, else those of the tasks below it; which of the two ids of
        DescribeOnceTask a created task's is, nobody documents.
        """
        by_id = self._described({"TaskType": task_type, "TaskId": task_id}, deadline)
        own = [task for task in by_id if task.task_id == task_id]
        return own or self._described({"RootTaskId": task_id}, deadline)

    def _described(self, query: Mapping[str, str], deadline: Deadline) -> list[Task]:
        """All pages of DescribeOnceTask; tasks that move to a later page meanwhile are there once."""
        found: dict[str, Task] = {}
        for page in itertools.count(1):
            paged = {**query, "CurrentPage": str(page), "PageSize": str(PAGE_SIZE)}
            body = self._query("DescribeOnceTask", paged, deadline)
            shown = _tasks(body, query.get("TaskType"))
            known = len(found)
            found.update({task.task_id: task for task in shown})
            total = _count(_object(body.get("PageInfo")).get("TotalCount"))
            complete = len(shown) < PAGE_SIZE if total is None else len(found) >= total
            if complete or len(found) == known:
                break
        return list(found.values())

    def _query(self, action: str, query: dict[str, str], deadline: Deadline) -> dict[str, Any]:
        """A query operation's answer. Raises QueryFailed."""
        if not self.has_time(deadline):
            raise _query_failed(_refusal(Outcome.LOST, Code.NO_ANSWER, _NO_TIME))
        reply = self._call(action, query, deadline)
        if isinstance(reply, Answer):
            raise _query_failed(reply)
        if not isinstance(reply.body, dict) or reply.status >= HTTPStatus.MULTIPLE_CHOICES:
            raise _query_failed(_unreadable(reply.status))
        if _code(reply.body):
            raise _query_failed(self._translator.of_code(action, reply.body, reply.status))
        return reply.body

    def _call(self, action: str, query: dict[str, str], deadline: Deadline) -> _Reply | Answer:
        """The reply, or what else the call came to; with renewed keys where the token was refused."""
        reply = self._call_once(action, query, deadline)
        if _refuses_token(reply) and self._credentials.renew() and self.has_time(deadline):
            return self._call_once(action, query, deadline)
        return reply

    def _call_once(self, action: str, query: dict[str, str], deadline: Deadline) -> _Reply | Answer:
        clock = deadline.clock
        ends = Deadline.after(sum(self._timeouts_ms(deadline)) / 1000, clock)
        of_call = Exchange(ends.left_s, on_new_connection=self._has_idled(clock.now_s()))
        token = exchange.set(of_call)
        try:
            reply = self._send(action, query, deadline)
        except TeaException as error:
            return self._translator.of_error(action, error, of_call.status)
        finally:
            exchange.reset(token)
            self._last_call_s = deadline.clock.now_s()
        return _Reply(reply["body"], reply["statusCode"])

    def _has_idled(self, now_s: float) -> bool:
        return abs(now_s - self._last_call_s) > IDLE_S

    def _send(self, action: str, query: dict[str, str], deadline: Deadline) -> dict[str, Any]:
        """One signed call: Tea's `{"body", "headers", "statusCode"}`. Raises TeaException."""
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
            OpenApiRequest(query=query, headers={"x-acs-signature-nonce": str(uuid.uuid4())}),
            RuntimeOptions(connect_timeout=connect_ms, read_timeout=read_ms),
        )
        return reply

    def _timeouts_ms(self, deadline: Deadline) -> tuple[int, int]:
        """Connect and read time-outs, shortened alike where the invocation ends before they would."""
        left_s = max(deadline.left_s() - MARGIN_S, SHORTEST_CALL_S)
        share = min(1.0, left_s / self.call_timeout_s())
        return max(1, int(self._connect_timeout_ms * share)), max(1, int(self._read_timeout_ms * share))


# -- what it came to ------------------------------------------------------------------------------


class Translator(NamedTuple):
    """What an answer means, or its absence. `hide` takes the keys out of a text."""

    cap_codes: frozenset[str]
    hide: Callable[[str], str]

    def of_create(self, reply: _Reply) -> Answer:
        """What GenerateOnceTask's reply came to: a task exactly where it tells an id."""
        if not isinstance(reply.body, dict) or reply.status >= HTTPStatus.MULTIPLE_CHOICES:
            return _unreadable(reply.status)
        response = _response(reply.body)
        if response.task_id:
            return Answer(outcome=Outcome.CREATED, task_id=response.task_id, response=response)
        if response.can_create is False:
            code = _code(reply.body) or Code.CAP_REACHED
            return self._with_code(Outcome.CAP_REACHED, code, reply.body, reply.status, default=_AT_CAP)
        return self.of_code("GenerateOnceTask", reply.body, reply.status)

    def of_error(self, action: str, error: TeaException, status: int | None) -> Answer:
        """What a call came to that Tea raised for; `status` is the HTTP answer's, None if there was none.

        Raises what was wrong before anything was sent: that is a bug.
        """
        if isinstance(error, UnretryableException):
            return _of_broken_call(error.inner_exception, status)
        body = error.data if isinstance(error.data, dict) else {"Code": error.code}
        return self.of_code(action, body, status, getattr(error, "retry_after", None))

    def of_code(
        self, action: str, body: Mapping[str, Any], status: int | None, retry_after_ms: int | None = None
    ) -> Answer:
        """What an answer without a task came to, by its code."""
        code = _code(body)
        outcome = self._outcome(code, status)
        if code is None or outcome is None:
            return _unreadable(status, _text(body.get("RequestId")))
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
        return Outcome.LOST if (status or 0) >= HTTPStatus.INTERNAL_SERVER_ERROR else Outcome.OPERATOR

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
        told = _text(body.get("Message") or body.get("message")) or default
        answer = _refusal(
            outcome,
            code,
            self._message(code, told, action),
            status=status,
            request_id=_text(body.get("RequestId") or body.get("requestId")),
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


def _of_broken_call(inner: BaseException | None, status: int | None) -> Answer:
    """What a call without a usable answer came to, by what Tea met inside."""
    match inner:
        case CredentialsUnavailable():
            return _refusal(Outcome.OPERATOR, str(inner.code), inner.message)
        case CredentialException():
            return _refusal(
                Outcome.OPERATOR, Code.CREDENTIALS_UNAVAILABLE, "no access key for Security Center can be had"
            )
        case RetryError() | OldRetryError():
            return _of_broken_connection(inner.__context__)
    if status is None and inner is not None:
        raise inner
    return _unreadable(status)


def _of_broken_connection(cause: BaseException | None) -> Answer:
    """Tea makes one class of a refused connection and a lost answer; requests' own exception tells."""
    links = list(_links(cause))
    if any(isinstance(link, ssl.SSLCertVerificationError) for link in links):
        return _refusal(Outcome.NOT_CONNECTED, Code.NOT_CONNECTED, _CERTIFICATE, kind=Kind.OPERATOR)
    if any(_is_of_connecting(link) for link in links):
        return _refusal(Outcome.NOT_CONNECTED, Code.NOT_CONNECTED, _NOT_CONNECTED)
    if isinstance(cause, ContentDecodingError | InvalidHeader):
        return _unreadable()
    return _refusal(Outcome.LOST, Code.NO_ANSWER, _NO_ANSWER)


_CONNECTING = {HTTPConnection.connect.__code__, HTTPSConnection.connect.__code__}


def _is_of_connecting(error: BaseException) -> bool:
    """Whether it was raised while connecting: name, address, proxy, TLS. Nothing is sent before that ends.

    Its class does not tell: a reset during the TLS handshake looks like one after the request was sent.
    """
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code in _CONNECTING:
            return True
        trace = trace.tb_next
    return False


def _links(error: BaseException | None) -> Iterator[BaseException]:
    """The exception and everything that it was raised from or holds as its reason.

    Never `__context__`: that also reaches what the caller was handling, which is none of this call's.
    """
    ahead: list[object] = [error]
    while ahead:
        link = ahead.pop()
        if isinstance(link, BaseException):
            yield link
            ahead += [link.__cause__, getattr(link, "reason", None), *link.args]


def _refuses_token(reply: _Reply | Answer) -> bool:
    error = reply.error if isinstance(reply, Answer) else None
    return error is not None and error.code.startswith("InvalidSecurityToken")


def _refusal(  # noqa: PLR0913 - each names one field of the error
    outcome: Outcome,
    code: str,
    message: str,
    *,
    kind: Kind | None = None,
    status: int | None = None,
    request_id: str | None = None,
) -> Answer:
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


def _unreadable(status: int | None = None, request_id: str | None = None) -> Answer:
    return _refusal(Outcome.LOST, Code.ANSWER_UNREADABLE, _UNREADABLE, status=status, request_id=request_id)


def _query_failed(answer: Answer) -> QueryFailed:
    if answer.error is None:
        raise AssertionError("a query makes no task")
    return QueryFailed(**dict(answer.error))


# -- reading, tolerantly --------------------------------------------------------------------------

_FROM_BEST_TO_WORST: tuple[EndState, ...] = ("SUCCESS", "TIMEOUT", "FAIL")
_STATE_OF_NUMBER: Mapping[str, EndState] = {"2": "SUCCESS", "3": "FAIL", "4": "TIMEOUT"}


def _response(body: Mapping[str, Any]) -> TaskResponse:
    """The seven fields; without those that have a shape which nobody foresaw."""
    fields = {**body, "TaskId": _id(body.get("TaskId")), "RequestId": _text(body.get("RequestId"))}
    try:
        return TaskResponse.model_validate(fields)
    except ValidationError as error:
        odd = {detail["loc"][0] for detail in error.errors()}
        return TaskResponse.model_validate({k: v for k, v in fields.items() if k not in odd})


def _tasks(body: Mapping[str, Any], task_type: str | None) -> list[Task]:
    """DescribeOnceTask's entries. An entry without an id could be any task: QueryFailed."""
    entries = body.get("TaskManageResponseList")
    if entries is None and _count(_object(body.get("PageInfo")).get("TotalCount")) == 0:
        return []
    if not isinstance(entries, list):
        raise _query_failed(_unreadable())
    return [_task(_object(entry), task_type) for entry in entries]


def _task(entry: Mapping[str, Any], task_type: str | None) -> Task:
    task_id = _id(entry.get("TaskId"))
    if task_id is None:
        raise _query_failed(_unreadable())
    state = _text(entry.get("TaskStatusText"))
    return Task(
        task_id=task_id,
        task_type=_text(entry.get("TaskType")) or task_type or "",
        name=_text(entry.get("TaskName")),
        source=_text(entry.get("Source")),
        targets=_targets(entry.get("DetailData")),
        started_s=_seconds(entry.get("TaskStartTime")),
        state=state,
        ended=_ended_by_entry(entry, state),
    )


def _ended_by_entry(entry: Mapping[str, Any], state: str | None) -> Ended | None:
    number = _text(entry.get("TaskStatus")) or ""
    end_state = _end_state(state) or _STATE_OF_NUMBER.get(number)
    if end_state is None:
        return None
    succeeded, failed = _count(entry.get("SuccessCount")), _count(entry.get("FailCount"))
    return Ended(
        end_state,
        finished_s=_seconds(entry.get("TaskEndTime")),
        finish_count=_sum(succeeded, failed),
        total_count=_count(entry.get("TotalCount")),
    )


def _ended_by_result_info(body: Mapping[str, Any]) -> Ended | None:
    """GetOnceTaskResultInfo and GetLastOnceTaskInfo know neither FAIL nor an end time."""
    end_state = _end_state(_text(_object(body.get("TaskInfo")).get("Status")))
    if end_state is None or end_state == "FAIL":
        return None
    finish_count, total_count = _count(body.get("FinishCount")), _count(body.get("TotalCount"))
    return Ended(end_state, finish_count=finish_count, total_count=total_count)


def _progress(parts: Sequence[Task]) -> Progress:
    """Of a task's own entry, or of all below it: it has ended once all have, as badly as the worst."""
    running = [part for part in parts if part.ended is None]
    if running:
        return Progress(running[0].state)
    ends = [part.ended for part in parts if part.ended is not None]
    worst = max((end.state for end in ends), key=_FROM_BEST_TO_WORST.index)
    return Progress(
        worst,
        Ended(
            worst,
            finished_s=max((end.finished_s for end in ends if end.finished_s is not None), default=None),
            finish_count=_sum(*(end.finish_count for end in ends)),
            total_count=_sum(*(end.total_count for end in ends)),
        ),
    )


def _end_state(text: str | None) -> EndState | None:
    """The end state that a text names; None for every other, known or not: the task runs."""
    return next((state for state in get_args(EndState.__value__) if state == text), None)


def _targets(detail_data: object) -> frozenset[str] | None:
    """The uuids that DetailData names: JSON text, or its array; None where it names none."""
    if isinstance(detail_data, str):
        detail_data = _array(detail_data)
    entries = detail_data if isinstance(detail_data, list) else []
    uuids = (_text(_object(entry).get("uuid")) for entry in entries)
    return frozenset(uuid for uuid in uuids if uuid is not None) or None


def _array(text: str) -> object:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _object(value: object) -> Mapping[str, Any]:
    """The object; an empty one for anything else."""
    return value if isinstance(value, dict) else {}


def _code(body: Mapping[str, Any]) -> str | None:
    return _text(body.get("Code") or body.get("code"))


def _text(value: object) -> str | None:
    """A text, or a whole number as text, that UTF-8 can hold; None for anything else, and for no text."""
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode() or None
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else None


def _id(value: object) -> str | None:
    """A task's id; the service's types call it a number, so none is 0 there."""
    text = _text(value)
    return None if text == "0" else text


def _count(value: object) -> int | None:
    """A whole number, not below 0, that came as a number or as text."""
    text = _text(value) or ""
    return int(text) if re.fullmatch(r"[0-9]{1,18}", text) else None


def _seconds(value: object) -> float | None:
    """Epoch milliseconds as seconds; an instant of 0 is none."""
    at_ms = _count(value)
    return at_ms / 1000 if at_ms else None


def _sum(*counts: int | None) -> int | None:
    """Of those that are known; None where none is."""
    known = [count for count in counts if count is not None]
    return sum(known) if known else None
