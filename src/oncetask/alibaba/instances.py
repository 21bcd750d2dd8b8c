"""The hosts that Security Center knows: a row each, by what each can be asked for, and how a list is read.

The pairs of criterion and row field stand in no document: they follow from equal names (DescribeCriteria
and DescribeCloudCenterInstances of alibabacloud-sas20181203 10.3.2). What a row does not show cannot be
checked, and is not asked for: the service drops a criterion that it does not know, and then gives every host.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from ipaddress import ip_address
from typing import Any, NamedTuple

from oncetask.alibaba.fields import count_of, object_of, text_of
from oncetask.errors import Code, Kind, QueryFailed
from oncetask.models import compact_json

ACTION = "DescribeCloudCenterInstances"
PAGE_SIZE = 100
"""The documents' own example; the maximum is not documented."""
MOST_PAGES = 300
"""Where a list is taken for endless: 30,000 hosts."""

_UNREADABLE = "Security Center answered a list of hosts that cannot be read"
_ENDLESS = f"Security Center's list of hosts has not ended after {MOST_PAGES} pages"
_FIELDS = (
    "InstanceId",
    "InstanceName",
    "InternetIp",
    "IntranetIp",
    "IpListString",
    "VpcInstanceId",
    "RegionId",
    "Os",
    "OsName",
    "ClientStatus",
    "ClientSubStatus",
    "Status",
    "GroupId",
    "GroupTrace",
    "Tag",
    "Importance",
    "Vendor",
    "VendorUid",
    "VendorUserName",
    "AuthVersion",
    "RiskStatus",
    "AlarmStatus",
    "VulStatus",
    "HcStatus",
    "ExposedStatus",
    "HasContainer",
    "ClusterId",
    "Namespace",
    "AppName",
)
"""What a row is checked by; it has some forty fields more."""


class Instance(NamedTuple):
    """One host as the service lists it: its uuid, and what else it shows, every value as text."""

    uuid: str
    fields: Mapping[str, str]

    @property
    def runs(self) -> bool:
        """Whether the machine itself is on; a released one may stay in the list."""
        return self.fields.get("Status") == "Running"


# -- what can be asked for and checked ---------------------------------------------------------------

type Normal = Callable[[str], str]
"""A value in the service's own spelling."""


def _as_it_is(text: str) -> str:
    return text


def _yes_or_no(text: str) -> str:
    return {"TRUE": "YES", "1": "YES", "FALSE": "NO", "0": "NO"}.get(text.upper(), text.upper())


def plain_address(text: str) -> str | None:
    """An IPv4 or IPv6 address in its one spelling; None where the text is none."""
    if "%" in text:  # the name of an interface, which means nothing on another host
        return None
    try:
        return str(ip_address(text))
    except ValueError:
        return None


def _address(text: str) -> str:
    return plain_address(text) or text


def _importance(text: str) -> str:
    return {"2": "important", "1": "general", "0": "test"}.get(text, text)


class Criterion(NamedTuple):
    """A criterion's row field, its values' spelling, and whether the row holds several, comma-joined."""

    field: str
    normal: Normal = _as_it_is
    several: bool = False

    def holds(self, instance: Instance, value: str) -> bool:
        """Whether exactly that is so of the host."""
        return self.normal(value) in self.values(instance)

    def values(self, instance: Instance) -> set[str]:
        """What the host's row says, in the service's own spelling; empty where it says nothing."""
        shown = instance.uuid if self.field == "Uuid" else instance.fields.get(self.field, "")
        values = (each.strip() for each in shown.split(",")) if self.several else [shown]
        return {self.normal(each) for each in values if each}


CRITERIA: Mapping[str, Criterion] = {
    "uuidList": Criterion("Uuid"),
    "instanceId": Criterion("InstanceId"),
    "instanceName": Criterion("InstanceName"),
    "internetIp": Criterion("InternetIp", _address),
    "intranetIp": Criterion("IntranetIp", _address),
    "ipList": Criterion("IpListString", _address, several=True),
    "vpcInstanceId": Criterion("VpcInstanceId"),
    "regionId": Criterion("RegionId"),
    "osType": Criterion("Os", str.lower),
    "osName": Criterion("OsName"),
    "clientStatus": Criterion("ClientStatus"),
    "clientSubStatus": Criterion("ClientSubStatus"),
    "runningStatus": Criterion("Status"),
    "groupId": Criterion("GroupId"),
    "groupName": Criterion("GroupTrace"),
    "tagName": Criterion("Tag", several=True),
    "importance": Criterion("Importance", _importance),
    "flag": Criterion("Vendor"),
    "authVersion": Criterion("AuthVersion"),
    "riskStatus": Criterion("RiskStatus", _yes_or_no),
    "alarmStatus": Criterion("AlarmStatus", _yes_or_no),
    "vulStatus": Criterion("VulStatus", _yes_or_no),
    "hcStatus": Criterion("HcStatus", _yes_or_no),
    "exposedStatus": Criterion("ExposedStatus", _yes_or_no),
    "containerStatus": Criterion("HasContainer", _yes_or_no),
    "clusterId": Criterion("ClusterId"),
    "clusterIdList": Criterion("ClusterId"),
    "vendorUid": Criterion("VendorUid"),
    "vendorUserName": Criterion("VendorUserName"),
    "namespace": Criterion("Namespace"),
    "appName": Criterion("AppName"),
}

UNCHECKABLE = frozenset(
    {
        "tagKeyValue",
        "ecsType",
        "asapVulStatus",
        "aiStatus",
        "newInstance",
        "clusterNodeStatus",
        "machineType",
        "vendorAuthAlias",
        "alisecguardStatus",
        "alihipsStatus",
        "alinetStatus",
        "alidetectStatus",
        "yundunMonitorStatus",
    }
)
"""Criteria that no row field answers, or only in part."""


# -- reading the list --------------------------------------------------------------------------------

type Ask = Callable[[dict[str, str]], Mapping[str, Any]]
"""One call with these parameters: its answer's body. Raises QueryFailed."""


def all_instances(ask: Ask, criteria: Mapping[str, str]) -> list[Instance]:
    """Every host that the service lists for these criteria, each once; with none, every host there is.

    Raises QueryFailed: a list that was not read to its end is none.
    """
    found: dict[str, Instance] = {}
    for rows in _pages(ask, criteria):
        for instance in rows:
            found.setdefault(instance.uuid, instance)
    return list(found.values())


def instance_count(ask: Ask) -> int | None:
    """How many hosts there are; None where the service does not say. Raises QueryFailed."""
    body = ask({**_asked({}), "CurrentPage": "1", "PageSize": "1"})
    return count_of(object_of(body.get("PageInfo")).get("TotalCount"))


def _pages(ask: Ask, criteria: Mapping[str, str]) -> Iterator[list[Instance]]:
    """By tokens, as the API's page recommends; by page numbers where the service gives a total instead.

    How long a token lives, and in which order rows come, is not documented: the list ends without a token,
    with a page of no rows, or with a token that came before, and never because a page is short.
    """
    query = {**_asked(criteria), "PageSize": str(PAGE_SIZE)}
    by: dict[str, str] = {"UseNextToken": "true"}
    tokens: set[str] = set()
    seen: set[str] = set()
    for page in range(1, MOST_PAGES + 1):
        body = ask({**query, **by})
        entries = _entries(body, is_first=page == 1)
        rows = _instances(entries)
        yield rows
        known = len(seen)
        seen.update(row.uuid for row in rows)
        info = object_of(body.get("PageInfo"))
        token, total = text_of(info.get("NextToken")), count_of(info.get("TotalCount"))
        if not entries or token in tokens:
            return
        if token is not None:
            tokens.add(token)
            by = {"UseNextToken": "true", "NextToken": token}
        elif total is not None and known < len(seen) < total:
            by = {"CurrentPage": str(page + 1)}
        else:
            return
    raise _failed(_ENDLESS)


def _asked(criteria: Mapping[str, str]) -> dict[str, str]:
    """Servers only, and all of what is asked for: the default joins criteria by OR."""
    query = {"MachineTypes": "ecs", "LogicalExp": "AND"}
    if criteria:
        query["Criteria"] = compact_json([{"name": name, "value": each} for name, each in criteria.items()])
    return query


def _entries(body: Mapping[str, Any], *, is_first: bool) -> list[Any]:
    """A page's rows. Raises QueryFailed: an answer without a list is not "no hosts"."""
    entries = body.get("Instances")
    if body.get("Success") is False or str(body.get("Success")).lower() == "false":
        raise _failed(_UNREADABLE)
    if entries is None and not is_first and count_of(object_of(body.get("PageInfo")).get("Count")) == 0:
        return []
    if not isinstance(entries, list):
        raise _failed(_UNREADABLE)
    return entries


def _instances(entries: list[Any]) -> list[Instance]:
    """The rows that name a host. Raises QueryFailed where there are rows and none does."""
    found = [instance for entry in entries if (instance := _instance(object_of(entry))) is not None]
    if entries and not found:
        raise _failed(_UNREADABLE)
    return found


def _instance(entry: Mapping[str, Any]) -> Instance | None:
    uuid = text_of(entry.get("Uuid"))
    if uuid is None or re.fullmatch(r"[A-Za-z0-9._:-]{1,128}", uuid) is None:
        return None
    fields = {name: text for name in _FIELDS if (text := _text(entry.get(name))) is not None}
    return Instance(uuid, fields)


def _text(value: object) -> str | None:
    return str(value).lower() if isinstance(value, bool) else text_of(value)


def _failed(message: str) -> QueryFailed:
    return QueryFailed(
        kind=Kind.UNKNOWN, code=Code.ANSWER_UNREADABLE, message=message, http_status=None, request_id=None
    )
