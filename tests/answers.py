"""What Security Center answers, and what becomes of the event, as data.

One table for every test that is about answers, and for the table of docs/results.md (`says`).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from local.emulator import (
    ACCESS_KEY_ID,
    ACCESS_KEY_SECRET,
    CanCreateFalse,
    CapReached,
    Emulator,
    Fault,
    NoTaskId,
    Redirect,
    Refuse,
    ResetAfter,
    ResetBefore,
    Silence,
    Throttle,
    Unreadable,
)
from oncetask.errors import Kind
from oncetask.models import Outcome, Status

type Arrange = Callable[[Emulator], Mapping[str, str]]
"""Makes the emulator answer so, once; gives the environment variables that the app needs for it."""

type Ends = Literal["nothing", "type", "everything"]

EXPIRED_TOKEN = "expired-token"


@dataclass(frozen=True, slots=True)
class Row:
    """One answer and its consequence.

    `wait_s`: bounds of how long the event then waits; None where it does not. `calls`: how many reach
    the service for one event. `ends`: what the same invocation asks for no more.
    """

    name: str
    says: str
    arrange: Arrange
    status: Status
    code: str | None
    kind: Kind | None
    outcome: Outcome
    ends: Ends
    wait_s: tuple[float, float] | None = None
    calls: int = 1


SOON = (0, 5)
"""The first backoff of what is remote: up to 5 s."""
LATER = (0, 15)
"""The first backoff of what is the operator's: up to 15 s."""
AT_ONCE = (0, 0)


def scripted(fault: Fault, **environment: str) -> Arrange:
    """The next create meets this fault."""

    def arrange(emulator: Emulator) -> Mapping[str, str]:
        emulator.script(fault)
        return environment

    return arrange


def body(text: str, status: int = 200, content_type: str = "application/json") -> Arrange:
    """The next create is answered with exactly this."""
    return scripted(Unreadable(status=status, body=text, content_type=content_type))


def _usual(_: Emulator) -> Mapping[str, str]:
    return {}


def _can_create_false_at_cap(emulator: Emulator) -> Mapping[str, str]:
    emulator.behaviour.cap_answer = "can_create_false"
    emulator.script(CapReached())
    return {}


def _down(emulator: Emulator) -> Mapping[str, str]:
    emulator.down()
    return {}


def _no_such_host(_: Emulator) -> Mapping[str, str]:
    return {"ONCETASK_ENDPOINT": "https://security-center.invalid"}


def _redirected_to_itself(status: int) -> Arrange:
    def arrange(emulator: Emulator) -> Mapping[str, str]:
        emulator.script(Redirect(status, f"{emulator.url}/"))
        return {}

    return arrange


def _wrong_secret(_: Emulator) -> Mapping[str, str]:
    return {"ALIBABA_CLOUD_ACCESS_KEY_SECRET": "not-the-secret"}


def _no_keys(_: Emulator) -> Mapping[str, str]:
    return {"ALIBABA_CLOUD_ACCESS_KEY_ID": "", "ALIBABA_CLOUD_ACCESS_KEY_SECRET": ""}


def _expired_token(emulator: Emulator) -> Mapping[str, str]:
    emulator.credentials[ACCESS_KEY_ID] = (ACCESS_KEY_SECRET, EXPIRED_TOKEN)
    emulator.expired_tokens.add(EXPIRED_TOKEN)
    return {"ALIBABA_CLOUD_SECURITY_TOKEN": EXPIRED_TOKEN}


def _created(name: str, says: str, arrange: Arrange, *, ends: Ends = "nothing") -> Row:
    return Row(name, says, arrange, Status.CREATED, None, None, Outcome.CREATED, ends)


def _at_cap(name: str, says: str, arrange: Arrange, code: str = "CapReached") -> Row:
    outcome = Outcome.CAP_REACHED
    return Row(name, says, arrange, Status.PENDING, code, Kind.REMOTE, outcome, "type", AT_ONCE)


def _throttled(
    name: str, arrange: Arrange, wait_s: tuple[float, float], code: str = "Throttling.User"
) -> Row:
    says = "code `Throttling*`, 429 with an unknown code: after `x-acs-retry-after` ms, else backoff"
    outcome = Outcome.THROTTLED
    return Row(name, says, arrange, Status.PENDING, code, Kind.REMOTE, outcome, "everything", wait_s)


def _lost(
    name: str,
    says: str,
    arrange: Arrange,
    code: Literal["AnswerUnreadable", "NoAnswer"] | str,  # noqa: PYI051 - ours, and the service's
) -> Row:
    return Row(name, says, arrange, Status.UNKNOWN, code, Kind.UNKNOWN, Outcome.LOST, "nothing")


def _unreadable(name: str, arrange: Arrange) -> Row:
    says = "200 otherwise without TaskId, or unreadable; any status without a readable JSON body or a code"
    return _lost(name, says, arrange, "AnswerUnreadable")


def _not_connected(name: str, arrange: Arrange) -> Row:
    says = "not connected (refused, name not resolved, connect time-out, proxy, certificate)"
    return Row(
        name,
        says,
        arrange,
        Status.PENDING,
        "NotConnected",
        Kind.REMOTE,
        Outcome.NOT_CONNECTED,
        "everything",
        wait_s=SOON,
        calls=0,
    )


def _no_answer(name: str, arrange: Arrange, code: str = "NoAnswer") -> Row:
    says = "connection lost or silent after sending, 5xx with a code, `SignatureNonceUsed`"
    return _lost(name, says, arrange, code)


def _refused(code: str) -> Row:
    says = (
        "codes `InvalidParameter*`, `InvalidParam`, `IllegalParam*`, `HcIllegalParameter`, `-101`, `-102`,"
        " `MissingParameter*`, `missingParam*`, `MissingTaskType`, `MissingTaskName`, `MissingParam`,"
        " `MissingSource`, whatever else they hold"
    )
    return Row(
        f"refused with {code}",
        says,
        scripted(Refuse(400, code)),
        Status.REJECTED,
        code,
        Kind.SENDER,
        Outcome.REFUSED,
        "nothing",
    )


def _operator(name: str, arrange: Arrange, code: str, *, calls: int = 1) -> Row:
    says = (
        "`InvalidSecurityToken*` that cannot be renewed, `NoPermission`, `Forbidden*`,"
        " `InvalidAccessKeyId*`, `SignatureDoesNotMatch`, `IncompleteSignature`, `InvalidTimeStamp*`,"
        " no credentials"
    )
    return Row(
        name,
        says,
        arrange,
        Status.PENDING,
        code,
        Kind.OPERATOR,
        Outcome.OPERATOR,
        "type",
        wait_s=LATER,
        calls=calls,
    )


_OPERATOR_CODES = (
    ("NoPermission", 403),
    ("Forbidden.RAM", 403),
    ("InvalidAccessKeyId.NotFound", 404),
    ("InvalidAccessKeyId.Inactive", 400),
    ("IncompleteSignature", 400),
    ("InvalidTimeStamp.Expired", 400),
)

_UNLISTED_CODES = (
    ("MissingSecurityToken", 400),
    ("InvalidApi.NotFound", 404),
    ("PushTaskError", 400),
    ("FreeVersionNotPermit", 400),
    ("NobodyKnowsThisCode", 418),
)


def _unlisted(code: str, status: int) -> Row:
    return Row(
        f"{status} with {code}",
        "any other 4xx code: this event's own",
        scripted(Refuse(status, code)),
        Status.PENDING,
        code,
        Kind.OPERATOR,
        Outcome.UNLISTED,
        "nothing",
        wait_s=LATER,
    )


ROWS: tuple[Row, ...] = (
    _created("a task", "200 with a TaskId", _usual),
    _created(
        "a task, the last for now",
        "200 with a TaskId and CanCreate false",
        scripted(CanCreateFalse()),
        ends="type",
    ),
    _created(
        "a task with fields of surprising types",
        "200 with a TaskId, whatever CanCreate says",
        body('{"TaskId": 77, "CanCreate": "perhaps", "TotalCount": [], "LastTask": {}}'),
    ),
    _at_cap(
        "no TaskId and CanCreate false",
        "200, no TaskId, CanCreate false",
        _can_create_false_at_cap,
    ),
    *(
        _at_cap(f"cap code {code}", "code `-110`, or one holding `Limit`, `Quota` or `Exceed`", arrange, code)
        for code, arrange in (
            ("OnceTaskLimitExceeded", scripted(CapReached())),
            ("-110", scripted(Refuse(400, "-110"))),
            ("QuotaFull", scripted(Refuse(403, "QuotaFull"))),
            ("Task.TooManyExceed", scripted(Refuse(500, "Task.TooManyExceed"))),
        )
    ),
    _at_cap(
        "a cap code of the operator's own",
        "one of `ONCETASK_CAP_CODES`",
        scripted(Refuse(400, "TooManyTasks"), ONCETASK_CAP_CODES="TooManyTasks,Another"),
        "TooManyTasks",
    ),
    _throttled("throttled without a time", scripted(Throttle()), SOON),
    _throttled("throttled with a time", scripted(Throttle(retry_after_ms=1500)), (1.5, 1.5)),
    _throttled(
        "throttled with a code that names a limit",
        scripted(Throttle(code="Throttling.LimitExceeded")),
        SOON,
        "Throttling.LimitExceeded",
    ),
    _throttled("429 with an unknown code", scripted(Refuse(429, "SlowDown")), SOON, "SlowDown"),
    _throttled("throttled with 503", scripted(Refuse(503, "Throttling.Api")), SOON, "Throttling.Api"),
    _unreadable("200 without TaskId", scripted(NoTaskId())),
    _unreadable("200 without TaskId, task made", scripted(NoTaskId(task_made=True))),
    _unreadable("200 empty", body("")),
    _unreadable("200 HTML", body("<html></html>", content_type="text/html")),
    _unreadable("200 null", body("null")),
    _unreadable("200 list", body("[]")),
    _unreadable("200 text", body('"TaskId"')),
    _unreadable("200 number for null id", body('{"TaskId": 0, "CanCreate": true}')),
    _unreadable("200 nested too deep", body("[" * 100_000)),
    _unreadable("200 with an unknown code", body('{"Code": "Whatever"}')),
    _unreadable("400 HTML", body("<html></html>", 400, "text/html")),
    _unreadable("403 null", body("null", 403)),
    _unreadable("404 list", body("[1]", 404)),
    _unreadable("400 empty object", body("{}", 400)),
    _unreadable("400 with an empty code", body('{"Code": "", "Message": "?"}', 400)),
    _unreadable("400 with a code that is a list", body('{"Code": ["NoPermission"]}', 400)),
    _unreadable("502 HTML", scripted(Unreadable())),
    _unreadable("502 HTML, task made", scripted(Unreadable(task_made=True))),
    _unreadable("503 empty", body("", 503)),
    _unreadable("500 with a TaskId and no code", body('{"TaskId": "0a"}', 500)),
    _unreadable("302 to itself", _redirected_to_itself(302)),
    _unreadable("307 to itself", _redirected_to_itself(307)),
    _unreadable("308 to itself", _redirected_to_itself(308)),
    _not_connected("connection refused", _down),
    _not_connected("name not resolved", _no_such_host),
    _no_answer("reset before the task", scripted(ResetBefore())),
    _no_answer("reset after the task", scripted(ResetAfter())),
    _no_answer("silence", scripted(Silence(task_made=False), ONCETASK_READ_TIMEOUT_MS="150")),
    _no_answer("silence, task made", scripted(Silence(task_made=True), ONCETASK_READ_TIMEOUT_MS="150")),
    *(
        _no_answer(f"{status} with {code}", scripted(Refuse(status, code)), code)
        for status, code in (
            (500, "ServerError"),
            (500, "InternalError"),
            (503, "ServiceUnavailable"),
            (400, "SignatureNonceUsed"),
        )
    ),
    *(
        _refused(code)
        for code in (
            "InvalidParameter",
            "InvalidParameter.Param",
            "InvalidParameter.LengthExceed",
            "InvalidParam",
            "HcIllegalParameter",
            "-101",
            "-102",
            "missingParams",
            "IllegalParam",
            "IllegalParameter",
            "MissingParameter",
            "MissingParameter.TaskType",
            "MissingTaskType",
            "MissingTaskName",
            "MissingParam",
            "MissingSource",
        )
    ),
    _operator("an expired token", _expired_token, "InvalidSecurityToken.Expired"),
    *(
        _operator(f"{status} with {code}", scripted(Refuse(status, code)), code)
        for code, status in _OPERATOR_CODES
    ),
    *(_unlisted(code, status) for code, status in _UNLISTED_CODES),
    _operator("a wrong secret", _wrong_secret, "SignatureDoesNotMatch"),
    _operator("no keys", _no_keys, "CredentialsUnavailable", calls=0),
    _operator("NoPermission with 500", scripted(Refuse(500, "NoPermission")), "NoPermission"),
)
"""Every row of the contract's table, each at least once."""
