"""The routes file, checked once: every key of it, and the words for what is wrong."""

import re
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

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

from oncetask.errors import SettingsError
from oncetask.models import LOST_AFTER_S, RUNS_ON_HOSTS, Trigger, compact_json
from oncetask.routing.expressions import Expression
from oncetask.routing.hosts import Hosts
from oncetask.routing.params import lack_of
from oncetask.routing.suggestions import among, suggestion
from oncetask.webhooks.schemes import SCHEMES, keys_of, scheme_of
from oncetask.webhooks.verification import HeaderName, Scheme

WEEK_S = 604_800
DAY_S = 86_400
MOST_OPEN = 5000
MORE_S = 3600
"""For the sweeps that tell of an end."""
LONGEST_S = 100 * 365 * DAY_S
"""What a database's integer and a date still hold."""
SOURCE = "oncetask"
HOST_OPERATIONS_TOLERANCE_S = 300
"""The oldest signed time that may ask for operations on hosts."""

_ROUTE_NAME = re.compile(r"[a-z0-9-]{1,64}")
_PLAIN_KEY = re.compile(r"[A-Za-z0-9_-]{1,64}")
_SCHEDULE = re.compile(
    r"cron\((?:[0-9A-Za-z*?,/#-]+ ){5}[0-9*,/-]+\)"
    r"|rate\((?:1 (?:minute|hour|day)|(?!1 )[1-9][0-9]* (?:minutes|hours|days))\)"
    r"|at\(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\)",
    re.ASCII,
)
"""The three forms of EventBridge Scheduler."""
_ZONE = re.compile(r"[A-Za-z0-9_+-]+(?:/[A-Za-z0-9_+-]+)*")
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
        says = among("this task type is not known", value, known)
        raise ValueError(f"{says}; a newer one goes into ONCETASK_EXTRA_TASK_TYPES")
    return value


def _of_scheduler(value: str) -> str:
    if _SCHEDULE.fullmatch(value) is None:
        raise ValueError(
            "must be cron(minute hour day month weekday year), rate(5 minutes) or at(2026-11-24T05:00:00)"
        )
    return value


def _of_iana(value: str) -> str:
    if _ZONE.fullmatch(value) is None:
        raise ValueError("must be a zone of the IANA database, such as Asia/Singapore")
    return value


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
    expire_s: Annotated[Seconds, Field(ge=5)] = WEEK_S
    max_open: WholeNumber = MOST_OPEN
    schedule: Annotated[str, AfterValidator(_of_scheduler)] | None = None
    timezone: Annotated[str, AfterValidator(_of_iana)] | None = None
    media: Annotated[str, Field(pattern=r"^(json|form|form:.+)$")] = "json"
    headers: tuple[HeaderName, ...] = ()
    verify: Annotated[Scheme, PlainValidator(scheme_of)] | None = None

    @model_validator(mode="after")
    def _keys_fit_together(self) -> Self:
        """Each message begins with the key that must change."""
        if self.trigger is Trigger.WEBHOOK and self.verify is None:
            raise ValueError("verify: a webhook's route needs it; scheme `none` must be written out")
        if self.trigger is Trigger.TIMER and self.verify is not None:
            raise ValueError("verify: only a webhook's route has it")
        self._schedule_fits()
        for key in {"media", "headers", "max_open"} & self.model_fields_set:
            if self.trigger is Trigger.TIMER:
                raise ValueError(f"{key}: only a webhook's route has it")
        if self.direct:
            self._direct_fits()
        elif self.task_type is None:
            raise ValueError("task_type: a route needs it unless it is direct")
        if self.target_key in self.param_from or (self.takes_hosts and self.target_key in self.param):
            raise ValueError("target_key: it is also under param or param_from")
        if self.hosts is not None:
            self.hosts.refuse_unfit(self.task_type, has_targets=self.targets is not None)
        self._param_is_complete()
        self._replays_are_remembered()
        self._host_operations_are_guarded()
        return self

    def _param_is_complete(self) -> None:
        """As far as the item does not give it."""
        if self.task_type is None:
            return
        given = {*self.param_from, *([self.target_key] if self.takes_hosts else [])}
        lack = lack_of(self.task_type, self.param, given)
        if lack is not None:
            raise ValueError(f"param.{lack.key}: {self.task_type} needs it, {lack.words}")

    def _schedule_fits(self) -> None:
        if self.trigger is not Trigger.TIMER and (self.schedule or self.timezone):
            raise ValueError(f"{'schedule' if self.schedule else 'timezone'}: only a timer's route has it")
        if self.timezone and not self.schedule:
            raise ValueError("timezone: it is that of a schedule, and there is none")

    def _direct_fits(self) -> None:
        extra = sorted(_REQUEST_KEYS & self.model_fields_set)
        if extra:
            raise ValueError(f"{extra[0]}: a direct route takes the request from the item")
        if not self.allow:
            raise ValueError("allow: a direct route must list the task types that may be asked for")

    def _host_operations_are_guarded(self) -> None:
        if RUNS_ON_HOSTS not in (self.task_type, *(self.allow if self.direct else ())):
            return
        signed_s = self.verify.signed_time_s if self.verify is not None else 0
        if signed_s is None or signed_s > HOST_OPERATIONS_TOLERANCE_S:
            raise ValueError(
                f"verify: {RUNS_ON_HOSTS} runs operations on hosts and needs a scheme that signs a time "
                f"at most {HOST_OPERATIONS_TOLERANCE_S} s old"
            )
        if (self.takes_hosts or self.param_from) and RUNS_ON_HOSTS not in self.allow:
            raise ValueError(
                f'allow: {RUNS_ON_HOSTS} with values of the sender needs allow = ["{RUNS_ON_HOSTS}"]'
            )

    def longest_bound_s(self) -> int:
        """How long an id of the route may be bound, from its event's receipt, searches for a lost answer
        aside: waiting, then its task's day, then remembered.
        """
        return self.expire_s + LOST_AFTER_S + MORE_S + self.remembered_s()

    def _replays_are_remembered(self) -> None:
        tolerance_s = self.verify.signed_time_s if self.verify is not None else None
        if tolerance_s is None or self.verify is None:
            return
        kept_s = self.remembered_s(by_body_hash=self.id is None and not self.verify.gives_ids)
        if tolerance_s > kept_s:
            raise ValueError(f"verify.tolerance_s: it is over keep_s, which is {kept_s}")

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
        raise SettingsError(f"{place}: {_in_one_line(error, table)}") from None


def _in_one_line(error: ValidationError, table: Mapping[str, Any]) -> str:
    """The first mistake as `key: what is wrong`, without the value that is wrong."""
    first = error.errors(include_url=False, include_input=False)[0]
    keys = [_shown(key) for key in first["loc"]]
    says = words_for(first, table)
    return f"{'.'.join(keys)}: {says}" if keys else says


def words_for(error: Any, table: Mapping[str, Any]) -> str:  # noqa: ANN401 - one of pydantic's errors
    """What is wrong at a key of the route's table, and what was probably meant; never the value there."""
    keys = error["loc"]
    if error["type"] == "missing":
        return "is missing"
    if error["type"] == "extra_forbidden":
        return f"there is no such key{suggestion(str(keys[-1]), _keys_beside(keys, table))}"
    if error["type"] == "string_pattern_mismatch":
        return f"must have the form {error['ctx']['pattern']}"
    says = str(error["msg"]).removeprefix("Value error, ")
    scheme = _scheme_named(table)
    if keys == ("verify",) and scheme is not None and scheme not in SCHEMES:
        says += suggestion(scheme, map(str, SCHEMES))
    return says


def _keys_beside(keys: tuple[Any, ...], table: Mapping[str, Any]) -> Sequence[str]:
    """The keys that may stand where the last of these does, as far as it is a table of ours."""
    match keys[:-1]:
        case ():
            return [key for key in Route.model_fields if key != "name"]
        case ("hosts",):
            return list(Hosts.model_fields)
        case ("verify",):
            return keys_of(_scheme_named(table))
    return ()


def _scheme_named(table: Mapping[str, Any]) -> str | None:
    """What stands at `verify.scheme`; None where it is nothing that can be looked for."""
    verify = table.get("verify")
    scheme = verify.get("scheme") if isinstance(verify, dict) else None
    return scheme if isinstance(scheme, str) else None


def _shown(key: object) -> str:
    """A key as one bounded word of a line, whatever TOML's quotes let into it."""
    text = str(key)
    return text if _PLAIN_KEY.fullmatch(text) else ascii(text[:64])
