"""Names become hosts by asking the service: a few one by one, many by reading the list of all hosts once.

Reading the whole list is right under every reading of the API, and 5,000 hosts are 50 calls. What was found
is remembered for minutes: a host's uuid can change with a new installation, and new hosts appear.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import NamedTuple, Protocol

from oncetask.alibaba.instances import CRITERIA, PAGE_SIZE, Instance
from oncetask.clock import Clock, Deadline
from oncetask.errors import Code, Kind, QueryFailed
from oncetask.models import By
from oncetask.routing.hosts import CRITERION_OF, criteria_of, name_of
from oncetask.submit.hosts import Found, What, host_of, hosts_of

LOOKUPS_S = 15.0
"""What a sweep spends on lookups at most."""
FOUND_S = 300.0
MISSED_S = 60.0
REMEMBERED = 20_000
FEW = 10
"""So many names are asked for one by one without a thought for the list."""
CALLS_A_SECOND = 10
"""The product's limit for an operation and an account; another operation's calls do not count."""
LIST_AVOIDED_S = 600.0
"""How long the list is not tried again after it did not fit into the time."""
FAILURES_A_ROUTE = 3
"""A single name that always fails must not keep the names of its route behind it waiting."""
_SAFE_SHARE = 0.8


class HostList(Protocol):
    """Security Center's list of hosts."""

    def has_time(self, deadline: Deadline) -> bool:
        """Whether a call may still begin."""

    def instances(
        self, criteria: Mapping[str, str], deadline: Deadline, *, before_call: Callable[[], None]
    ) -> list[Instance]:
        """The hosts for these criteria, all pages. Raises QueryFailed."""

    def instance_count(self, deadline: Deadline, *, before_call: Callable[[], None]) -> int | None:
        """How many hosts there are. Raises QueryFailed."""


class Key(NamedTuple):
    """What is asked for: two events that name a host alike share it."""

    by: By
    name: str
    where: tuple[tuple[str, str], ...] = ()

    @property
    def criteria(self) -> Mapping[str, str]:
        """All that must be so of the host."""
        return criteria_of(self.by, self.name, dict(self.where))

    @property
    def asked(self) -> Mapping[str, str]:
        """What of it the service can be asked for: `|` and `!` in a name would mean any-of and not to it."""
        return dict(self.where) if {"|", "!"} & {*self.name} else self.criteria


class Wanted(NamedTuple):
    """A host that an event of a route names, as its sender wrote it.

    `asks_again`: the event was told before that there is no such host, so a remembered miss is no answer.
    """

    route: str
    by: By
    text: str
    where: tuple[tuple[str, str], ...] = ()
    asks_again: bool = False

    @property
    def key(self) -> Key:
        """What is asked for."""
        return Key(self.by, name_of(self.text, self.by), self.where)


class Memory:
    """What a process has found, for minutes."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._found: dict[Key, tuple[Found, float]] = {}
        self._list_from_s = 0.0

    def recall(self, key: Key, *, asks_again: bool) -> Found | None:
        """What was found, while that holds; a miss only for those that have not met it before."""
        found, until_s = self._found.get(key, (None, 0.0))
        if found is None or until_s <= self._clock.elapsed_s():
            return None
        return None if asks_again and found.what is not What.ONE else found

    def keep(self, key: Key, found: Found) -> None:
        """Remember it; what could not be read is not known."""
        if found.what in {What.FAILED, What.FILTER_IGNORED}:
            return
        if len(self._found) >= REMEMBERED:
            self._forget_some()
        lasts_s = FOUND_S if found.what is What.ONE else MISSED_S
        self._found.pop(key, None)
        self._found[key] = found, self._clock.elapsed_s() + lasts_s

    def _forget_some(self) -> None:
        """What holds no longer; where that is nothing, the older half."""
        now_s = self._clock.elapsed_s()
        held = {key: kept for key, kept in self._found.items() if kept[1] > now_s}
        newer = list(held.items())[len(held) // 2 :] if len(held) >= REMEMBERED else held.items()
        self._found = dict(newer)

    @property
    def list_fits(self) -> bool:
        """Whether reading the list is worth a try."""
        return self._clock.elapsed_s() >= self._list_from_s

    def avoid_list(self) -> None:
        """It did not fit into the time."""
        self._list_from_s = self._clock.elapsed_s() + LIST_AVOIDED_S


class Lookups:
    """The lookups of one invocation: together within LOOKUPS_S, and none after `invocation`. `memory` is the
    process' own.

    `ended`: what stopped them all, throttling or no connection; None while they go on.
    """

    def __init__(self, hosts: HostList, memory: Memory, invocation: Deadline) -> None:
        self.ended: QueryFailed | None = None
        self._hosts = hosts
        self._memory = memory
        self._invocation = invocation
        self._left_s = LOOKUPS_S
        self._deadline = invocation
        self._pace = _Pace(invocation)
        self._index: _Index | None = None
        self._failures: dict[str, int] = {}
        self._refused: dict[str, Found] = {}

    def resolve(self, wanted: Sequence[Wanted]) -> dict[Wanted, Found]:
        """What each means, asked for in this order; without those that there was no time for."""
        keys: dict[Key, list[Wanted]] = {}
        found: dict[Wanted, Found] = {}
        for each in wanted:
            known = self._known(each)
            if known is None:
                keys.setdefault(each.key, []).append(each)
            else:
                found[each] = known
        with self._timed():
            asked = self._asked(keys)
        for key, meaning in asked.items():
            found.update(dict.fromkeys(keys[key], meaning))
        return found

    def select(self, route: str, where: Mapping[str, str]) -> Found | None:
        """Every host for which all of it is so; None: there was no time."""
        if self.ended is not None or route in self._refused:
            return self._refused.get(route)
        with self._timed():
            rows = self._rows(where, [route])
        if rows is None or isinstance(rows, Found):
            return rows
        return hosts_of(rows, where)

    @contextmanager
    def _timed(self) -> Iterator[None]:
        """What the block takes is taken from the time that all of them have."""
        clock = self._invocation.clock
        before_s = clock.elapsed_s()
        self._deadline = Deadline.after(min(self._left_s, self._invocation.left_s()), clock)
        try:
            yield
        finally:
            self._left_s -= clock.elapsed_s() - before_s

    def _known(self, wanted: Wanted) -> Found | None:
        if wanted.by == "uuid" and not wanted.where:
            return Found(What.ONE, (wanted.text,))
        return self._memory.recall(wanted.key, asks_again=wanted.asks_again)

    def _asked(self, keys: Mapping[Key, Sequence[Wanted]]) -> dict[Key, Found]:
        """By the list of all hosts, where this invocation has read it or may; else one by one."""
        if self._index is None:
            rows = self._whole_list(keys)
            if isinstance(rows, Found):
                return dict.fromkeys(keys, rows)
            if rows is None:
                return self._one_by_one(keys)
            self._index = _Index(rows)
        index = self._index
        return {key: self._kept(key, index.host_of(key)) for key in keys}

    def _kept(self, key: Key, found: Found) -> Found:
        self._memory.keep(key, found)
        return found

    # -- one by one --------------------------------------------------------------------------------

    def _one_by_one(self, keys: Mapping[Key, Sequence[Wanted]]) -> dict[Key, Found]:
        found: dict[Key, Found] = {}
        for key, wanted in keys.items():
            meaning = self._one(key, [each.route for each in wanted])
            if meaning is not None:
                found[key] = self._kept(key, meaning)
        return found

    def _one(self, key: Key, routes: Sequence[str]) -> Found | None:
        """What it means; None where nobody was asked: no time, or its routes have failed too often."""
        if all(route in self._refused for route in routes):
            return self._refused[routes[0]]
        if all(self._failures.get(route, 0) >= FAILURES_A_ROUTE for route in routes):
            return None
        rows = self._rows(key.asked, routes)
        if rows is None or isinstance(rows, Found):
            return rows
        return host_of(rows, key.criteria, is_filtered=key.asked == key.criteria)

    def _rows(self, asked: Mapping[str, str], routes: Sequence[str]) -> list[Instance] | Found | None:
        """The service's rows, or how that has failed; None: there is no time."""
        if self.ended is not None or not self._hosts.has_time(self._deadline):
            return None
        try:
            return self._hosts.instances(asked, self._deadline, before_call=self._pace.wait)
        except QueryFailed as error:
            if not self._hosts.has_time(self._deadline):
                return None
            return self._failed(error, routes)

    def _failed(self, error: QueryFailed, routes: Sequence[str]) -> Found:
        """A refused permission is refused to all of the route; a refused name is that name's own."""
        found = Found(What.FAILED, error=error)
        if _ends_all(error):
            self.ended = error
        for route in routes:
            if error.kind is Kind.OPERATOR:
                self._refused[route] = found
            elif error.kind is not Kind.SENDER:
                self._failures[route] = self._failures.get(route, 0) + 1
        return found

    # -- by the list of all hosts ------------------------------------------------------------------

    def _whole_list(self, keys: Mapping[Key, Sequence[Wanted]]) -> list[Instance] | Found | None:
        """Every host, where that is cheaper and fits into the time; else None, or how it failed for all."""
        if len(keys) <= FEW or not self._memory.list_fits:
            return None
        try:
            if not self._is_worth_reading(len(keys)):
                return None
            return self._hosts.instances({}, self._deadline, before_call=self._pace.wait)
        except QueryFailed as error:
            if not self._hosts.has_time(self._deadline):
                self._memory.avoid_list()
            elif _ends_all(error) or error.kind is Kind.OPERATOR:
                routes = {each.route for wanted in keys.values() for each in wanted}
                return self._failed(error, sorted(routes))
            return None

    def _is_worth_reading(self, names: int) -> bool:
        if self.ended is not None or not self._hosts.has_time(self._deadline):
            return False
        before_s = self._deadline.left_s()
        count = self._hosts.instance_count(self._deadline, before_call=self._pace.wait)
        if count is None:
            return False
        left_s = self._deadline.left_s()
        pages = math.ceil(count / PAGE_SIZE) + 1
        call_s = max(before_s - left_s, 1 / CALLS_A_SECOND)
        return pages < names and pages * call_s <= left_s * _SAFE_SHARE


class _Index:
    """All hosts by what they are called, so that a thousand names are not each compared with each of them."""

    def __init__(self, rows: list[Instance]) -> None:
        self._rows = rows
        self._by: dict[By, dict[str, list[Instance]]] = {}

    def host_of(self, key: Key) -> Found:
        """What it means among all hosts; whatever else must be so is compared by `host_of`."""
        return host_of(self._called(key.by).get(key.name, []), key.criteria, is_filtered=False)

    def _called(self, by: By) -> dict[str, list[Instance]]:
        if by not in self._by:
            called = self._by[by] = {}
            for row in self._rows:
                for name in _names_of(row, by):
                    called.setdefault(name, []).append(row)
        return self._by[by]


def _names_of(row: Instance, by: By) -> set[str]:
    """What a host is called by."""
    return CRITERIA[CRITERION_OF[by]].values(row)


class _Pace:
    """Ten calls at once, and then ten a second."""

    def __init__(self, deadline: Deadline) -> None:
        self._clock = deadline.clock
        self._next_s = self._clock.elapsed_s()

    def wait(self) -> None:
        """Until the next call may begin."""
        now_s = self._clock.elapsed_s()
        self._next_s = max(self._next_s, now_s - 1) + 1 / CALLS_A_SECOND
        if self._next_s > now_s:
            self._clock.sleep(self._next_s - now_s)


def _ends_all(error: QueryFailed) -> bool:
    return (
        error.code.startswith("Throttling") or error.code == Code.NOT_CONNECTED or error.kind is Kind.REMOTE
    )
