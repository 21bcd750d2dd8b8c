"""The service's hosts, and how it lists them: what is documented, and what may be so (hosts-facts 1)."""

import json
import random
import secrets
import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from .answers import Answer
from .behaviour import Behaviour
from .refusals import Parameters, invalid, whole

SAMPLE = Path(__file__).parent / "hosts.json"
"""A dozen hosts to begin with: one address in two VPCs, names of which one holds another, hosts without an
agent, and one that was released."""

_EXACT, _PARTS = False, True
CRITERIA: Mapping[str, tuple[str, bool]] = {
    "uuidList": ("Uuid", _EXACT),
    "instanceId": ("InstanceId", _PARTS),
    "instanceName": ("InstanceName", _PARTS),
    "internetIp": ("InternetIp", _PARTS),
    "intranetIp": ("IntranetIp", _PARTS),
    "ipList": ("IpListString", _PARTS),
    "vpcInstanceId": ("VpcInstanceId", _PARTS),
    "regionId": ("RegionId", _EXACT),
    "osType": ("Os", _EXACT),
    "osName": ("OsName", _PARTS),
    "clientStatus": ("ClientStatus", _EXACT),
    "clientSubStatus": ("ClientSubStatus", _EXACT),
    "runningStatus": ("Status", _EXACT),
    "groupId": ("GroupId", _EXACT),
    "groupName": ("GroupTrace", _PARTS),
    "tagName": ("Tag", _PARTS),
    "importance": ("Importance", _EXACT),
    "flag": ("Vendor", _EXACT),
    "authVersion": ("AuthVersion", _EXACT),
    "riskStatus": ("RiskStatus", _EXACT),
    "alarmStatus": ("AlarmStatus", _EXACT),
    "vulStatus": ("VulStatus", _EXACT),
    "hcStatus": ("HcStatus", _EXACT),
    "exposedStatus": ("ExposedStatus", _EXACT),
    "containerStatus": ("HasContainer", _EXACT),
    "clusterId": ("ClusterId", _EXACT),
    "clusterIdList": ("ClusterId", _EXACT),
    "vendorUid": ("VendorUid", _EXACT),
    "vendorUserName": ("VendorUserName", _PARTS),
    "namespace": ("Namespace", _PARTS),
    "appName": ("AppName", _PARTS),
}
"""Name to row field, and whether the service may match parts of it: those that are typed, not chosen."""
_SPELT = {
    "importance": {2: "important", 1: "general", 0: "test"},
    "exposedStatus": {1: "YES", 0: "NO"},
}
"""What a criterion calls a row's number."""


@dataclass(slots=True)
class Host:
    """One row of the list. `appears_s`: not listed before, by the emulator's clock, in epoch seconds.

    `kind`: what MachineTypes asks for; hosts of other kinds come where it is left out.
    """

    uuid: str
    row: dict[str, object] = field(default_factory=dict)
    appears_s: float = 0.0
    kind: str = "ecs"

    def shown(self) -> Answer:
        """The row as it is listed."""
        return {"Uuid": self.uuid, **self.row}


def host(host_uuid: str, *, appears_s: float = 0.0, **row: object) -> Host:
    """A Linux server that runs, with its agent online; `row` says what else is so, or otherwise."""
    usual: dict[str, object] = {
        "InstanceId": "",
        "InstanceName": "",
        "InternetIp": "",
        "IntranetIp": "",
        "RegionId": "ap-southeast-1",
        "VpcInstanceId": "vpc-1",
        "Os": "linux",
        "OsName": "Debian 13",
        "Status": "Running",
        "ClientStatus": "online",
        "ClientSubStatus": "online",
        "GroupId": 1,
        "GroupTrace": "default",
        "Tag": "",
        "Importance": 1,
        "Flag": 0,
        "FlagName": "ALIYUN",
        "Vendor": 0,
        "AuthVersion": 3,
        "RiskStatus": "NO",
        "ExposedStatus": 0,
        "HasContainer": "NO",
        "AssetType": "0",
    }
    return Host(host_uuid, usual | row, appears_s)


def read_hosts(path: Path) -> list[Host]:
    """The hosts of a JSON file: a list of rows in the API's own words. Raises OSError, ValueError."""
    rows = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(rows, list) or not all(isinstance(row, dict) and row.get("Uuid") for row in rows):
        raise ValueError("a file of hosts is a JSON list of rows, each with its Uuid")
    return [host(str(row["Uuid"]), **{name: row[name] for name in row if name != "Uuid"}) for row in rows]


def made_up_hosts(count: int, seed: int = 0) -> list[Host]:
    """So many hosts, the same for the same seed, with all that makes a host hard to tell.

    Of each hundred: two have the address of another VPC's host, two the address of a released one, three have
    no agent, and names run on (`web-1`, `web-10`).
    """
    dice = random.Random(seed)  # noqa: S311 - the same again for the same seed
    return [_made_up(number, dice) for number in range(count)]


def _made_up(number: int, dice: random.Random) -> Host:
    of_hundred = number % 100
    shares_address = of_hundred in {50, 51, 60, 61} and number > 0
    address_of = number - 1 if shares_address and of_hundred % 2 else number
    online = dice.random() < 0.8  # noqa: PLR2004 - a guess at a fleet
    without_agent = of_hundred in {70, 71, 72}
    status = "online" if online and not without_agent else "offline"
    prod = dice.random() < 0.6  # noqa: PLR2004 - likewise
    return host(
        f"inet-{uuid.UUID(int=dice.getrandbits(128), version=4)}",
        InstanceId=f"i-{dice.getrandbits(64):016x}",
        InstanceName=f"{'web' if number % 2 else 'db'}-{number}",
        IntranetIp=f"10.{address_of >> 16 & 255}.{address_of >> 8 & 255}.{address_of & 255}",
        InternetIp="" if number % 3 else f"47.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}",
        VpcInstanceId="vpc-2" if of_hundred == 51 else "vpc-1",  # noqa: PLR2004 - see the docstring
        Status="notRunning" if of_hundred == 60 else "Running",  # noqa: PLR2004 - likewise
        ClientStatus=status,
        ClientSubStatus="uninstalled" if without_agent else status,
        GroupId=1 if prod else 2,
        GroupTrace="prod" if prod else "default",
        Tag="InternetIp,test" if number % 7 == 0 else "",
        Os="windows" if number % 11 == 0 else "linux",
        Importance=number % 3,
    )


class Inventory:
    """All hosts of one account, and the tokens of the lists that are being read; not thread-safe."""

    def __init__(self, clock: Callable[[], float], behaviour: Behaviour) -> None:
        self.hosts: list[Host] = []
        self._clock = clock
        self._behaviour = behaviour
        self._offsets: dict[str, int] = {}

    def describe(self, parameters: Parameters) -> Answer:
        """DescribeCloudCenterInstances: one page, by number or by token."""
        found = self._asked_for(parameters)
        size = min(whole(parameters, "PageSize", 20, at_least=1), self._behaviour.most_hosts_a_page)
        asked = parameters.get("UseNextToken", "").lower() == "true"  # the Python SDK says "True"
        by_token = asked and self._behaviour.host_tokens != "none"
        first = self._first_by_token(parameters) if by_token else self._first_by_number(parameters, size)
        page = found[first : first + size]
        info: Answer = {"CurrentPage": 1, "PageSize": size, "Count": len(page)}
        if by_token:
            info |= self._token(first, size, len(found))
        else:
            number = whole(parameters, "CurrentPage", 1, at_least=1)
            info |= {"CurrentPage": number, "TotalCount": len(found)}
        return {"Success": True, "PageInfo": info, "Instances": [each.shown() for each in page]}

    def _listed(self, parameters: Parameters) -> Iterable[Host]:
        if self._behaviour.no_hosts_yet:
            return ()
        kinds = {*parameters.get("MachineTypes", "").split(",")} - {""}
        now_s = self._clock()
        return (each for each in self.hosts if each.appears_s <= now_s and (not kinds or each.kind in kinds))

    def _asked_for(self, parameters: Parameters) -> list[Host]:
        importance = parameters.get("Importance")
        criteria = [each for each in _criteria(parameters) if self._knows(each[0])]
        joined = all if parameters.get("LogicalExp") == "AND" else any
        return [
            each
            for each in self._listed(parameters)
            if (not importance or str(each.row.get("Importance")) == importance)
            and (not criteria or joined(self._holds(each, name, value) for name, value in criteria))
        ]

    def _knows(self, name: str) -> bool:
        """An unknown criterion is dropped, without a word."""
        return name in CRITERIA and name not in self._behaviour.dropped_criteria

    def _holds(self, listed: Host, name: str, value: str) -> bool:
        """`|` is any of, `!` is not."""
        row_field, typed = CRITERIA[name]
        shown = listed.uuid if row_field == "Uuid" else listed.row.get(row_field, "")
        spelt = _SPELT.get(name, {})
        text = spelt.get(shown, "") if isinstance(shown, int) and spelt else str(shown)
        if value.startswith("!"):
            return text not in value[1:].split("|")
        if typed and self._behaviour.criteria_match == "parts":
            return any(each in text for each in value.split("|"))
        return any(each in {text, *text.split(",")} for each in value.split("|"))

    def _stride(self, size: int) -> int:
        """How far one page is from the next: rows that repeat make it shorter than a page."""
        return max(1, size - self._behaviour.repeated_rows)

    def _first_by_number(self, parameters: Parameters, size: int) -> int:
        return (whole(parameters, "CurrentPage", 1, at_least=1) - 1) * self._stride(size)

    def _first_by_token(self, parameters: Parameters) -> int:
        token = parameters.get("NextToken")
        if not token:
            return 0
        if token not in self._offsets:
            raise invalid("NextToken", self._behaviour)
        return self._offsets[token]

    def _token(self, first: int, size: int, total: int) -> Answer:
        """The next page's, or how a list ends: a token that is empty, absent, or the same for ever."""
        if first + size < total:
            token = secrets.token_hex(16).upper()
            self._offsets[token] = first + self._stride(size)
            return {"NextToken": token}
        match self._behaviour.host_tokens:
            case "repeated" if self._offsets:
                return {"NextToken": next(reversed(self._offsets))}
            case "empty at the end":
                return {"NextToken": ""}
        return {}


def _criteria(parameters: Parameters) -> list[tuple[str, str]]:
    """Name and value of each; what is no list of such objects asks for nothing."""
    try:
        given = json.loads(parameters.get("Criteria") or "[]")
    except ValueError:
        return []
    entries = given if isinstance(given, list) else []
    return [
        (str(entry["name"]), str(entry["value"]))
        for entry in entries
        if isinstance(entry, dict) and "name" in entry and "value" in entry
    ]
