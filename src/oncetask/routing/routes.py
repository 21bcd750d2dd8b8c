"""The routes file, checked once; and payload to events by its rules. Pure: no clock, no ledger.

The only module that knows JMESPath. Every expression is compiled at start; a call of an unknown
function, or with too few arguments, is found there and not at the first alert.
"""

import hashlib
import json
import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple, Self

import jmespath
from jmespath.exceptions import JMESPathError
from jmespath.functions import Functions
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainValidator,
    ValidationError,
    ValidationInfo,
    model_validator,
)

from oncetask.errors import Code, Rejection, SettingsError
from oncetask.models import (
    RUNS_ON_HOSTS,
    Result,
    Status,
    TaskRequest,
    Trigger,
    compact_json,
    ignored,
    rejection,
)
from oncetask.routing.hosts import Hosts, refuse_bad_targets
from oncetask.routing.suggestions import suggestion
from oncetask.webhooks.body import is_deeper_than
from oncetask.webhooks.schemes import Scheme, scheme_of

if TYPE_CHECKING:  # the ledger is not imported before there is something to record
    from oncetask.ledger.records import Event

EVENT_ID_BYTES = 512
REQUEST_LINE_BYTES = 8000
"""Param travels in the query string; the gateway's own limit is not documented, so ours is cautious."""
PARAM_LEVELS = 64
"""How deep Param may nest: the ledger's and the log's own JSON ends at some 200 levels."""
WEEK_S = 604_800
DAY_S = 86_400
LONGEST_S = 100 * 365 * DAY_S
"""What a database's integer and a date still hold."""
SOURCE = "oncetask"

_ROUTE_NAME = re.compile(r"[a-z0-9-]{1,64}")
_PLAIN_KEY = re.compile(r"[A-Za-z0-9_-]{1,64}")
_REQUEST_KEYS = frozenset(
    {
        "task_type",
        "task_name",
        "source",
        "targets",
        "hosts",
        "target_key",
        "max_targets",
        "param",
        "param_from",
    }
)
_SEARCH_FAILS_WITH = (
    JMESPathError,
    TypeError,
    ValueError,
    ArithmeticError,
    AttributeError,
    LookupError,
    RecursionError,
)
"""JMESPath's own errors, and what its functions let through on odd data."""


class Expression:
    """A JMESPath expression, compiled."""

    def __init__(self, text: str) -> None:
        """Raises ValueError where it cannot be compiled, or has a call that can never work."""
        self.text = text
        try:
            self._compiled = jmespath.compile(text)
        except (ValueError, RecursionError):  # JMESPathError, and `int` of too many digits
            raise ValueError("this is no JMESPath expression") from None
        _check_calls(self._compiled.parsed)

    def search(self, value: object) -> Any:  # noqa: ANN401 - JSON data
        """What it finds in the value. Raises Rejection ExpressionFailed."""
        try:
            return self._compiled.search(value)
        except _SEARCH_FAILS_WITH as error:
            raise Rejection(
                Code.EXPRESSION_FAILED,
                f"an expression failed on this payload ({type(error).__name__})",
            ) from error


def _check_calls(tree: Any) -> None:  # noqa: ANN401 - JMESPath's tree
    """JMESPath itself would find these only when it searches."""
    nodes = [tree]
    while nodes:
        node = nodes.pop()
        inner = [child for child in node["children"] if isinstance(child, dict)]
        if node["type"] == "expref":
            raise ValueError("in this JMESPath expression an &expression is not what is wanted there")
        if node["type"] == "function_expression":
            inner = _checked_arguments(node["value"], inner)
        nodes += inner


def _checked_arguments(name: str, given: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The call's arguments, with what stands behind each `&` that the function wants."""
    function = Functions.FUNCTION_TABLE.get(name)
    if function is None:
        raise ValueError(f"in this JMESPath expression {name}() is no function")
    wanted = function["signature"]
    variadic = bool(wanted) and wanted[-1].get("variadic", False)
    if len(given) < len(wanted) or (len(given) > len(wanted) and not variadic):
        raise ValueError(f"in this JMESPath expression {name}() has the wrong number of arguments")
    for index, argument in enumerate(wanted):
        if "expref" in argument["types"]:
            if given[index]["type"] != "expref":
                raise ValueError(f"in this JMESPath expression {name}() wants an &expression")
            given[index] = given[index]["children"][0]
    return given


def _compiled(value: object) -> Expression:
    if not isinstance(value, str):
        raise ValueError("a JMESPath expression is a text")
    return Expression(value)


def _json_only(value: object) -> object:
    """TOML holds dates, inf and nan, which JSON does not."""
    try:
        compact_json(value)
    except (TypeError, ValueError, RecursionError):
        raise ValueError("JSON has no such value") from None
    return value


def _known_task_type(value: str, info: ValidationInfo) -> str:
    known = (info.context or {}).get("task_types", ())
    if value not in known:
        says = _unknown_type("this task type is not known", value, known)
        raise ValueError(f"{says}; a newer one goes into ONCETASK_EXTRA_TASK_TYPES")
    return value


def _unknown_type(says: str, task_type: str, known: Sequence[str]) -> str:
    """What is wrong with it, which was probably meant, and all that there are."""
    meant = suggestion(task_type, known) or ";"
    return f"{says}{meant} these may: {', '.join(known)}"


Jmespath = Annotated[Expression, BeforeValidator(_compiled)]
TaskType = Annotated[str, AfterValidator(_known_task_type)]
Text = Annotated[str, Field(min_length=1)]
JsonValue = Annotated[Any, AfterValidator(_json_only)]
WholeNumber = Annotated[int, Field(strict=True, ge=1)]
Seconds = Annotated[int, Field(strict=True, le=LONGEST_S)]


class Route(BaseModel):
    """One table `[routes.NAME]`, every key of it."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        arbitrary_types_allowed=True,
        hide_input_in_errors=True,
        defer_build=True,
    )

    name: str
    trigger: Trigger
    task_type: TaskType | None = None
    task_name: Text | None = None
    source: Text = SOURCE
    when: Jmespath | None = None
    each: Jmespath | None = None
    id: Jmespath | None = None
    targets: Jmespath | None = None
    hosts: Hosts | None = None
    target_key: Text = "uuids"
    max_targets: WholeNumber = 100
    param: dict[str, JsonValue] = {}
    param_from: dict[str, Jmespath] = {}
    submit: Literal["now", "sweep"] = "now"
    direct: Annotated[bool, Field(strict=True)] = False
    allow: tuple[TaskType, ...] = ()
    keep_s: Annotated[Seconds, Field(ge=600)] | None = None
    expire_s: Annotated[Seconds, Field(ge=1)] = WEEK_S
    verify: Annotated[Scheme, PlainValidator(scheme_of)] | None = None

    @model_validator(mode="after")
    def _keys_fit_together(self) -> Self:
        """Each message begins with the key that must change."""
        if self.trigger is Trigger.WEBHOOK and self.verify is None:
            raise ValueError("verify: a webhook's route needs it; scheme `none` must be written out")
        if self.trigger is Trigger.TIMER and self.verify is not None:
            raise ValueError("verify: only a webhook's route has it")
        if self.direct:
            self._direct_fits()
        elif self.task_type is None:
            raise ValueError("task_type: a route needs it unless it is direct")
        if self.takes_hosts and (self.target_key in self.param or self.target_key in self.param_from):
            raise ValueError("target_key: it is also under param or param_from")
        if self.hosts is not None:
            self.hosts.refuse_unfit(self.task_type, has_targets=self.targets is not None)
        self._host_operations_are_guarded()
        return self

    def _direct_fits(self) -> None:
        extra = sorted(_REQUEST_KEYS & self.model_fields_set)
        if extra:
            raise ValueError(f"{extra[0]}: a direct route takes the request from the item")
        if not self.allow:
            raise ValueError("allow: a direct route must list the task types that may be asked for")

    def _host_operations_are_guarded(self) -> None:
        if RUNS_ON_HOSTS not in (self.task_type, *(self.allow if self.direct else ())):
            return
        if self.verify is not None and not self.verify.fit_for_host_operations:
            raise ValueError(
                f"verify: {RUNS_ON_HOSTS} runs operations on hosts and needs more than token or none"
            )
        if (self.takes_hosts or self.param_from) and RUNS_ON_HOSTS not in self.allow:
            raise ValueError(
                f'allow: {RUNS_ON_HOSTS} with values of the sender needs allow = ["{RUNS_ON_HOSTS}"]'
            )

    @property
    def takes_hosts(self) -> bool:
        """Whether its hosts come from the item, or from a selection."""
        return self.targets is not None or self.hosts is not None

    @property
    def selects_hosts(self) -> bool:
        """Whether an event of it becomes one event for each host that is selected."""
        return self.hosts is not None and self.targets is None

    def remembered_s(self, *, by_body_hash: bool = False) -> int:
        """How long an id is remembered after its event has ended."""
        if self.keep_s is not None:
            return self.keep_s
        return DAY_S if by_body_hash else WEEK_S


type Routes = Mapping[str, Route]


def load_routes(path: Path, task_types: Sequence[str]) -> Routes:
    """The file's routes by name. Raises SettingsError: one line naming file, route and key."""
    tables = _tables(path)
    return {name: _route(path.name, name, table, task_types) for name, table in tables.items()}


def _tables(path: Path) -> dict[str, object]:
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(
            f"ONCETASK_ROUTES must be the path of a readable TOML file in UTF-8 ({type(error).__name__})"
        ) from None
    except (ValueError, RecursionError) as error:  # not only TOML's own: numbers and nesting have ends too
        line = re.search(r"line \d+", str(error))
        raise SettingsError(f"{path.name}: this is no TOML{f' ({line[0]})' if line else ''}") from None
    tables = document.pop("routes", {})
    if document or not isinstance(tables, dict):
        key = _shown(next(iter(document), "routes"))
        raise SettingsError(f"{path.name}: {key}: only tables [routes.NAME] stand here")
    return tables


def _route(file: str, name: str, table: object, task_types: Sequence[str]) -> Route:
    place = f"{file}: routes.{_shown(name)}"
    if _ROUTE_NAME.fullmatch(name) is None:
        raise SettingsError(f"{place}: a route's name is 1 to 64 of a-z, 0-9 and -")
    if not isinstance(table, dict):
        raise SettingsError(f"{place}: a route is a table [routes.NAME]")
    if "name" in table:
        raise SettingsError(f"{place}: name: there is no such key")
    try:
        return Route.model_validate({**table, "name": name}, context={"task_types": task_types})
    except ValidationError as error:
        raise SettingsError(f"{place}: {_in_one_line(error)}") from None


def _in_one_line(error: ValidationError) -> str:
    """The first mistake as `key: what is wrong`, without the value that is wrong."""
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    keys = [_shown(key) for key in first["loc"]]
    says = {
        "missing": "is missing",
        "extra_forbidden": "there is no such key",
    }.get(first["type"], first["msg"].removeprefix("Value error, "))
    return f"{'.'.join(keys)}: {says}" if keys else says


def _shown(key: object) -> str:
    """A key as one bounded word of a line, whatever TOML's quotes let into it."""
    text = str(key)
    return text if _PLAIN_KEY.fullmatch(text) else ascii(text[:64])


class Origin(NamedTuple):
    """Where a payload came from: what its events' ids and times are made of.

    `changing_keys`: the item's keys that may differ between two deliveries of the same event.
    """

    trigger: Trigger
    base_id: str
    name: str
    now_s: float
    by_body_hash: bool = False
    changing_keys: frozenset[str] = frozenset()

    def bounded(self, event_id: str) -> str:
        """The id, or its hash where it is too long to be kept. Raises Rejection."""
        try:
            encoded = event_id.encode()
        except UnicodeEncodeError:
            raise Rejection(Code.EXPRESSION_FAILED, "the event's id is no Unicode text") from None
        if len(encoded) <= EVENT_ID_BYTES:
            return event_id
        return f"{self.trigger}:{self.name}:sha256-{hashlib.sha256(encoded).hexdigest()}"


class InlineTask(BaseModel):
    """A request that the event itself holds: `{TaskType, TaskName?, Param, Source?}`.

    Other keys are let pass: a sender's own id, for the route's `id`, stands among them.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True, defer_build=True)

    TaskType: Text
    TaskName: Text | None = None
    Param: Any = None
    Source: Text | None = None


def events_of_route(
    route: Route, payload: object, origin: Origin, *, most_items: int | None = None
) -> "list[Event | Result]":
    """What a payload asks for by its route: new events, and results for what will never be one.

    Raises Rejection where the payload as a whole fails: `when` or `each` does, or gives too many items.
    """
    if route.when is not None and route.when.search(payload) is not True:
        return [_ignored(route, origin)]
    items = _items(route, payload)
    if not items:
        return [_ignored(route, origin)]
    if most_items is not None and len(items) > most_items:
        raise Rejection(Code.TOO_MANY_ITEMS, f"`each` gives {len(items)} items, over {most_items}")
    return [_event_or_rejection(route, item, index, origin) for index, item in enumerate(items)]


def events_of_tasks(
    tasks: Iterable[object], task_types: Sequence[str], origin: Origin
) -> "list[Event | Result]":
    """The same for tasks that stand in the event itself, without a route."""
    return [_inline_event_or_rejection(task, index, task_types, origin) for index, task in enumerate(tasks)]


def _items(route: Route, payload: object) -> list[Any]:
    if route.each is None:
        return [payload]
    found = route.each.search(payload)
    if found is None:
        return []
    if not isinstance(found, list):
        raise Rejection(Code.EXPRESSION_FAILED, "`each` gave something that is no list")
    return found


def _ignored(route: Route, origin: Origin) -> Result:
    return ignored(
        trigger=origin.trigger,
        route=route.name,
        event_id=origin.bounded(origin.base_id),
        now_s=origin.now_s,
    )


def _event_or_rejection(route: Route, item: object, index: int, origin: Origin) -> "Event | Result":
    from oncetask.ledger.records import Event  # noqa: PLC0415 - see the top

    event_id: str | None = None
    try:
        event_id = _event_id(route, item, index, origin)
        request, targets = _request(route, item)
        return Event(
            event_id=event_id,
            status=Status.PENDING,
            trigger=origin.trigger,
            route=route.name,
            item_sha256=None if _is_own_id(route, origin) else _digest(item, origin.changing_keys),
            request=request,
            submit=route.submit,
            target_key=route.target_key if targets else None,
            max_targets=route.max_targets,
            order=index,
            received_s=origin.now_s,
            due_s=origin.now_s,
            give_up_s=origin.now_s + route.expire_s,
            keep_s=route.remembered_s(by_body_hash=origin.by_body_hash and route.id is None),
        )
    except Rejection as error:
        return rejection(
            error, trigger=origin.trigger, route=route.name, event_id=event_id, now_s=origin.now_s
        )


def _inline_event_or_rejection(
    task: object, index: int, task_types: Sequence[str], origin: Origin
) -> "Event | Result":
    from oncetask.ledger.records import Event  # noqa: PLC0415 - see the top

    event_id: str | None = None
    try:
        event_id = origin.bounded(f"{origin.base_id}/{index}")
        return Event(
            event_id=event_id,
            status=Status.PENDING,
            trigger=origin.trigger,
            route=None,
            item_sha256=_digest(task),
            request=_inline_request(task, task_types),
            submit="now",
            order=index,
            received_s=origin.now_s,
            due_s=origin.now_s,
            give_up_s=origin.now_s + WEEK_S,
            keep_s=WEEK_S,
        )
    except Rejection as error:
        return rejection(error, trigger=origin.trigger, route=None, event_id=event_id, now_s=origin.now_s)


# -- ids ------------------------------------------------------------------------------------------


def _is_own_id(route: Route, origin: Origin) -> bool:
    """Whether the event's id is the item's own identity: then the first wins, whatever the second says."""
    return route.id is not None and (origin.trigger is Trigger.WEBHOOK or route.each is not None)


def _event_id(route: Route, item: object, index: int, origin: Origin) -> str:
    if _is_own_id(route, origin):
        own = _own_id(route, item)
        if origin.trigger is Trigger.WEBHOOK:
            return origin.bounded(f"webhook:{route.name}:{own}")
        return origin.bounded(f"{origin.base_id}/{own}")
    return origin.bounded(f"{origin.base_id}/{index}" if route.each else origin.base_id)


def _own_id(route: Route, item: object) -> str:
    found = route.id.search(item) if route.id else None
    if found is None or found == "":
        raise Rejection(Code.NO_EVENT_ID, "`id` gave nothing for this item")
    if isinstance(found, str):
        return found
    if isinstance(found, bool) or not isinstance(found, int | float):
        raise Rejection(Code.EXPRESSION_FAILED, "`id` gave neither a text nor a number")
    try:
        return compact_json(found)
    except ValueError:
        raise Rejection(Code.EXPRESSION_FAILED, "`id` gave a number that JSON cannot carry") from None


def _digest(item: object, changing_keys: frozenset[str] = frozenset()) -> str:
    """SHA-256 of the item as canonical JSON. Raises Rejection."""
    if changing_keys and isinstance(item, dict):
        item = {key: value for key, value in item.items() if key not in changing_keys}
    try:
        canonical = json.dumps(item, sort_keys=True, separators=(",", ":"))
    except (ValueError, RecursionError):
        raise Rejection(Code.EVENT_NOT_UNDERSTOOD, "the item holds what JSON cannot carry") from None
    return hashlib.sha256(canonical.encode()).hexdigest()


# -- requests -------------------------------------------------------------------------------------


def _request(route: Route, item: object) -> tuple[TaskRequest, bool]:
    """The item's request, and whether it has targets. Raises Rejection."""
    if route.task_type is None:
        return _inline_request(item, route.allow), False
    param = dict(route.param)
    for key, expression in route.param_from.items():
        value = expression.search(item)
        if value is not None:
            param[key] = value
    if route.targets is not None:
        param[route.target_key] = ",".join(_targets(route, item))
    selected = (route.target_key,) if route.selects_hosts else ()
    request = _checked_request(route.task_type, route.task_name, param, route.source, selected)
    return request, route.targets is not None


def _targets(route: Route, item: object) -> list[str]:
    """Unique, in order of arrival. Raises Rejection."""
    found = route.targets.search(item) if route.targets else None
    texts = [found] if isinstance(found, str) else found
    if texts is None:
        texts = []
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise Rejection(Code.EXPRESSION_FAILED, "`targets` gave neither a text nor a list of texts")
    targets = list(dict.fromkeys(part for text in texts for raw in text.split(",") if (part := raw.strip())))
    if not targets:
        raise Rejection(Code.NO_TARGETS, "`targets` gave no target for this item")
    refuse_bad_targets(targets, route.hosts.by if route.hosts else "uuid")
    if len(targets) > route.max_targets:
        raise Rejection(
            Code.TOO_MANY_TARGETS,
            f"the item has {len(targets)} targets, over max_targets of {route.max_targets}",
        )
    return targets


def _inline_request(task: object, allowed: Sequence[str]) -> TaskRequest:
    try:
        given = InlineTask.model_validate(task, strict=True)
    except ValidationError:
        raise Rejection(
            Code.EVENT_NOT_UNDERSTOOD,
            "a task is an object of TaskType, Param and perhaps TaskName and Source",
        ) from None
    if given.TaskType not in allowed:
        says = _unknown_type("this task type may not be asked for here", given.TaskType, allowed)
        raise Rejection(Code.TASK_TYPE_NOT_ALLOWED, says)
    return _checked_request(given.TaskType, given.TaskName, _inline_param(given.Param), given.Source)


def _inline_param(param: object) -> dict[str, Any]:
    if isinstance(param, str):
        try:
            param = json.loads(param, parse_constant=_no_constant)
        except (ValueError, RecursionError):
            raise Rejection(Code.BAD_PARAM, "Param is neither an object nor its JSON text") from None
    if not isinstance(param, dict):
        raise Rejection(Code.BAD_PARAM, "Param is neither an object nor its JSON text")
    return param


def _no_constant(name: str) -> float:
    raise ValueError(name)


def _checked_request(
    task_type: str,
    task_name: str | None,
    param: dict[str, Any],
    source: str | None,
    selected: Sequence[str] = (),
) -> TaskRequest:
    """The request, if it can be sent and kept as it is, but for the keys that selected hosts will fill.

    Raises Rejection BadParam or RequestTooLarge.
    """
    check = _PARAM_CHECKS.get(task_type)
    if check is not None:
        check(param | dict.fromkeys(selected, "selected"))
    try:
        request = TaskRequest(
            task_type=task_type, task_name=task_name or task_type, param=param, source=source or SOURCE
        )
        size_bytes = request.line_bytes()
    except (ValueError, RecursionError):  # numbers that are none, lone surrogates
        raise Rejection(Code.BAD_PARAM, "Param holds what JSON cannot carry") from None
    if size_bytes > REQUEST_LINE_BYTES:
        raise Rejection(
            Code.REQUEST_TOO_LARGE,
            f"the request line would have {size_bytes} bytes, over {REQUEST_LINE_BYTES}",
        )
    if is_deeper_than(PARAM_LEVELS, param):
        raise Rejection(Code.BAD_PARAM, f"Param nests deeper than {PARAM_LEVELS} levels")
    return request


def _check_problem_check(param: Mapping[str, Any]) -> None:
    mode = param.get("mode")
    if isinstance(mode, bool) or not isinstance(mode, int):
        raise Rejection(Code.BAD_PARAM, "CLIENT_PROBLEM_CHECK needs Param.mode, an integer")
    _check_texts(param, "CLIENT_PROBLEM_CHECK", "problemType", "uuids")


def _check_assets_collection(param: Mapping[str, Any]) -> None:
    _check_texts(param, "ASSETS_COLLECTION", "items")


def _check_texts(param: Mapping[str, Any], task_type: str, *keys: str) -> None:
    for key in keys:
        value = param.get(key)
        if not isinstance(value, str) or not value.strip():
            raise Rejection(Code.BAD_PARAM, f"{task_type} needs Param.{key}, a text that is not empty")


_PARAM_CHECKS = {
    "CLIENT_PROBLEM_CHECK": _check_problem_check,
    "ASSETS_COLLECTION": _check_assets_collection,
}
"""The two shapes that are public; every other Param is any JSON object."""
