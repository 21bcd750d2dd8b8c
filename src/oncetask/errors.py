"""Everything that can go wrong, by who must act.

    OnceTaskError
    ├── SettingsError            the operator: environment or routes file; the process stops at start
    ├── Rejection                the sender: this event will never work as it is
    ├── QueryFailed              whom `kind` says: a query gave nothing; no event changes by it
    ├── Unavailable              the operator: something that we need is not there now
    │   ├── LedgerUnavailable        nothing can be recorded, so nothing is asked
    │   ├── TooManyOpen              a route has as many open events as it may
    │   ├── SecretUnavailable        a webhook cannot be verified
    │   └── CredentialsUnavailable   Security Center cannot be asked; the event waits
    └── DamagedRecord            the operator: one record of the ledger cannot be read; the rest goes on
        └── RecordTooLarge           it can be read, and not written any more

What Security Center answers is no exception: it is an `Answer` (models), because it is recorded.
Texts hold names, codes and what to do; never a secret, a signature or a payload.
"""

from enum import StrEnum


class Kind(StrEnum):
    """Who must act."""

    SENDER = "sender"
    OPERATOR = "operator"
    REMOTE = "remote"
    UNKNOWN = "unknown"


class Code(StrEnum):
    """Our own codes, all of them: stable words that a dashboard may count."""

    EVENT_NOT_UNDERSTOOD = "EventNotUnderstood"
    EXPRESSION_FAILED = "ExpressionFailed"
    NO_EVENT_ID = "NoEventId"
    NO_TARGETS = "NoTargets"
    BAD_TARGET = "BadTarget"
    TOO_MANY_TARGETS = "TooManyTargets"
    REQUEST_TOO_LARGE = "RequestTooLarge"
    BAD_PARAM = "BadParam"
    TASK_TYPE_NOT_ALLOWED = "TaskTypeNotAllowed"
    EVENT_ID_REUSED = "EventIdReused"
    HOST_NOT_FOUND = "HostNotFound"
    HOST_AMBIGUOUS = "HostAmbiguous"
    TOO_MANY_HOSTS = "TooManyHosts"
    RECORD_TOO_LARGE = "RecordTooLarge"

    UNVERIFIED = "Unverified"
    BODY_UNREADABLE = "BodyUnreadable"
    BODY_TOO_LARGE = "BodyTooLarge"
    TOO_MANY_ITEMS = "TooManyItems"
    MEDIA_TYPE = "MediaType"
    METHOD = "Method"

    LEDGER_UNAVAILABLE = "LedgerUnavailable"
    SECRET_UNAVAILABLE = "SecretUnavailable"  # noqa: S105 - a code, not a secret
    TOO_MANY_OPEN = "TooManyOpen"
    CREDENTIALS_UNAVAILABLE = "CredentialsUnavailable"
    HOST_FILTER_IGNORED = "HostFilterIgnored"

    CAP_REACHED = "CapReached"
    NOT_CONNECTED = "NotConnected"
    NO_ANSWER = "NoAnswer"
    ANSWER_UNREADABLE = "AnswerUnreadable"

    AMBIGUOUS = "Ambiguous"
    OUTCOME_UNKNOWN = "OutcomeUnknown"
    SECOND_TASK = "SecondTask"
    RECORD_DAMAGED = "RecordDamaged"
    EXPIRED = "Expired"


class OnceTaskError(Exception):
    """The root of what one part of oncetask raises for another; a module's own errors stay inside it."""


class SettingsError(OnceTaskError):
    """A setting or a route is missing or wrong; the text is one line that names it."""


class Rejection(OnceTaskError):  # noqa: N818 - the contract's word is `rejected`
    """The event will never work as it is; the sender or the routes file must change."""

    def __init__(self, code: Code, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class Unavailable(OnceTaskError):  # noqa: N818 - a state, not a fault of the code
    """Something that we need is not there now; `code` is the failing service's where it gave one."""

    default_code = Code.LEDGER_UNAVAILABLE

    def __init__(self, message: str, *, code: str | None = None) -> None:
        super().__init__(message)
        self.code = code or self.default_code
        self.message = message


class LedgerUnavailable(Unavailable):
    """The ledger cannot be reached or refuses us; nothing was asked since."""


class TooManyOpen(Unavailable):
    """The route has as many open events as it may; nothing of the delivery was recorded."""

    default_code = Code.TOO_MANY_OPEN


class SecretUnavailable(Unavailable):
    """A route's webhook secret could not be read."""

    default_code = Code.SECRET_UNAVAILABLE


class CredentialsUnavailable(Unavailable):
    """No credentials for Security Center could be fetched; the text names the step that failed."""

    default_code = Code.CREDENTIALS_UNAVAILABLE


class DamagedRecord(OnceTaskError):  # noqa: N818 - named as the contract names it
    """A record that a newer version wrote, or that is damaged; `key` finds it."""

    def __init__(self, key: str, what: str = "cannot be read") -> None:
        super().__init__(f"the ledger's record {key} {what}")
        self.key = key


class RecordTooLarge(DamagedRecord):
    """A record that has grown over what every store takes."""

    def __init__(self, key: str) -> None:
        super().__init__(key, "is too large to be written")


class QueryFailed(OnceTaskError):  # noqa: N818 - named for what happened, not for a class of things
    """A query of Security Center gave nothing usable; the fields are those of an ErrorInfo."""

    def __init__(
        self, *, kind: Kind, code: str, message: str, http_status: int | None, request_id: str | None
    ) -> None:
        super().__init__(f"{code}: {message}")
        self.kind = kind
        self.code = code
        self.message = message
        self.http_status = http_status
        self.request_id = request_id
