"""A route's table `hosts`: by what name hosts are given, or which hosts are selected; checked once. Pure."""

import re
from collections.abc import Mapping
from typing import Annotated, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from oncetask.alibaba.instances import CRITERIA, UNCHECKABLE, plain_address
from oncetask.errors import Code, Rejection
from oncetask.models import TASK_TYPES, By
from oncetask.routing.suggestions import suggestion

HOST_TYPES = (
    "CLIENT_PROBLEM_CHECK",
    "CLIENT_DEV_OPS",
    "ASSET_SECURITY_CHECK",
    "ASSETS_COLLECTION",
    "VUL_CHECK_TASK",
)
"""The built-in types that are about hosts; the others are about images, networks and accounts."""

CRITERION_OF: Mapping[By, str] = {
    "uuid": "uuidList",
    "instance-id": "instanceId",
    "private-ip": "intranetIp",
    "public-ip": "internetIp",
    "name": "instanceName",
}
"""By what the service is asked for a host of that name."""

WAIT_S = 900
MOST = 1_000
MOST_EVER = 4_000
LONGEST_WAIT_S = 604_800
NAME_CHARS = 128
VALUE_CHARS = 256

_ALIASES = {
    "uuid": "uuidList",
    "ip": "intranetIp",
    "privateIp": "intranetIp",
    "publicIp": "internetIp",
    "name": "instanceName",
    "hostName": "instanceName",
    "status": "clientStatus",
    "group": "groupName",
    "groupTrace": "groupName",
    "tag": "tagName",
    "os": "osType",
    "vpc": "vpcInstanceId",
    "vpcId": "vpcInstanceId",
    "region": "regionId",
}
"""Names that are near for a reader, and not in their letters."""
_WORD = re.compile(r"[A-Za-z0-9._:-]{1,128}")
_BRACKETED = re.compile(r"\[([^\]]*)\](?::[0-9]{1,5})?")
_WITH_PORT = re.compile(r"([^:]*):[0-9]{1,5}")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")


def _checked_where(value: object) -> dict[str, str]:
    """Criterion to text, as the service is asked. Raises ValueError."""
    if not isinstance(value, dict) or not value:
        raise ValueError('must be a table of criteria, such as {clientStatus = "offline"}')
    return {name: _checked_value(_checked_criterion(name), each) for name, each in value.items()}


def _checked_criterion(name: str) -> str:
    if name in CRITERIA:
        return name
    if name in UNCHECKABLE:
        raise ValueError(
            f"{name} cannot be checked, because no row of the service shows it, and a criterion that it does"
            " not know gives every host; use what a row shows, such as groupName or tagName"
        )
    shown = name if _WORD.fullmatch(name) else ascii(name[:64])
    alias = next((meant for each, meant in _ALIASES.items() if each.lower() == name.lower()), None)
    meant = f"; did you mean {alias}?" if alias else suggestion(name, CRITERIA)
    raise ValueError(f"there is no criterion {shown}{meant}")


def _checked_value(name: str, value: object) -> str:
    """In the service's own spelling. Raises ValueError."""
    if isinstance(value, bool):
        text = "true" if value else "false"
    elif isinstance(value, int):
        text = str(value)
    elif isinstance(value, str):
        text = value.strip()
    else:
        raise ValueError(f"{name} must be a text, a boolean or a whole number")
    if not text or len(text) > VALUE_CHARS or _CONTROL.search(text):
        raise ValueError(f"{name} must be 1 to {VALUE_CHARS} characters without control characters")
    if "|" in text or "!" in text:
        raise ValueError(f"{name} must be one value: `|` and `!` mean any-of and not to the service")
    if name.endswith("List") and "," in text:
        raise ValueError(f"{name} must be one value: how several are written is not documented")
    return CRITERIA[name].normal(text)


def _checked_by(value: object) -> object:
    known = get_args(By.__value__)
    if value not in known:
        meant = suggestion(value, known) if isinstance(value, str) else ""
        raise ValueError(f"must be one of {', '.join(known)}{meant}")
    return value


class Hosts(BaseModel):
    """The table `[routes.NAME.hosts]`."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True, defer_build=True)

    by: Annotated[By, BeforeValidator(_checked_by)] = "uuid"
    where: Annotated[dict[str, str], BeforeValidator(_checked_where)] = {}
    wait_s: Annotated[int, Field(strict=True, ge=0, le=LONGEST_WAIT_S)] = WAIT_S
    most: Annotated[int, Field(strict=True, ge=1, le=MOST_EVER)] = MOST

    @property
    def looks_up(self) -> bool:
        """Whether names must be looked up: Security Center's own ids need it only to be narrowed."""
        return self.by != "uuid" or bool(self.where)

    def refuse_unfit(self, task_type: str | None, *, has_targets: bool) -> None:
        """Raises ValueError, beginning with the key at fault, where the route can have no such table."""
        if task_type in TASK_TYPES and task_type not in HOST_TYPES:
            raise ValueError(
                f"hosts: {task_type} takes no hosts; these types and ONCETASK_EXTRA_TASK_TYPES do:"
                f" {', '.join(HOST_TYPES)}"
            )
        given = self.model_fields_set
        if has_targets and "most" in given:
            raise ValueError(
                "hosts.most: only hosts that `where` selects are counted; here `targets` names them"
            )
        if not has_targets and not self.where:
            raise ValueError("hosts: needs `targets` beside it, or `where` to select hosts by")
        for key in ("by", "wait_s"):
            if not has_targets and key in given:
                raise ValueError(f"hosts.{key}: it is about what `targets` names, and there is no `targets`")


def refuse_bad_targets(targets: list[str], by: By) -> None:
    """Raises Rejection BadTarget where a target cannot be the name of a host."""
    if not all(is_name(target, by) for target in targets):
        raise Rejection(Code.BAD_TARGET, _MUST_BE[by])


_MUST_BE: Mapping[By, str] = {
    "uuid": "a target is 1 to 128 of letters, digits and . _ : -",
    "instance-id": "a target is 1 to 128 of letters, digits and . _ : -",
    "private-ip": "a target is an IP address, perhaps with a port behind it",
    "public-ip": "a target is an IP address, perhaps with a port behind it",
    "name": f"a target is a name of 1 to {NAME_CHARS} characters without control characters",
}


def is_name(text: str, by: By) -> bool:
    """Whether a host can be called so."""
    if by == "name":
        return 0 < len(text) <= NAME_CHARS and _CONTROL.search(text) is None
    if by in {"private-ip", "public-ip"}:
        return address_of(text) is not None
    return _WORD.fullmatch(text) is not None


def name_of(text: str, by: By) -> str:
    """The name that is looked up: an address without its port, in its one spelling; else as it is."""
    return (address_of(text) or text) if by in {"private-ip", "public-ip"} else text


def address_of(text: str) -> str | None:
    """The address of `10.0.0.5:9100`, `[2001:db8::1]:9100`, or of either without its port; else None."""
    bracketed = _BRACKETED.fullmatch(text)
    if bracketed:
        return plain_address(bracketed[1]) if ":" in bracketed[1] else None
    with_port = _WITH_PORT.fullmatch(text)
    return plain_address(with_port[1] if with_port else text)


def criteria_of(by: By, name: str, where: Mapping[str, str]) -> dict[str, str]:
    """What the service is asked for one host: its name, and what else must be so."""
    return {**where, CRITERION_OF[by]: name}
