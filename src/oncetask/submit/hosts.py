"""Which hosts an event means, from the rows that the service gave: pure.

The service may match parts of a text, and drops a criterion that it does not know; so every row is compared
here, exactly, with all that was asked for; one that holds nothing of it shows that nothing was filtered.
"""

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import NamedTuple

from oncetask.alibaba.instances import CRITERIA, Instance
from oncetask.errors import Code, Kind, QueryFailed
from oncetask.models import ErrorInfo

MEANINGFUL_CHARS = 3
"""A shorter value stands somewhere in almost every row, so that only its own field tells anything."""


class What(StrEnum):
    """What a lookup of hosts came to."""

    ONE = "one"
    NONE = "none"
    SEVERAL = "several"
    FILTER_IGNORED = "filter ignored"
    FAILED = "failed"


class Found(NamedTuple):
    """What a name, or a selection, means. `uuids`: the host, or all that it could be, or that were selected.

    `error`: where it has failed, what the service said.
    """

    what: What
    uuids: tuple[str, ...] = ()
    error: QueryFailed | None = None


def host_of(rows: Sequence[Instance], criteria: Mapping[str, str], *, is_filtered: bool) -> Found:
    """The one host for which all of it is so; of several the one that runs, since a released host may still
    be listed beside the one that has its address now. `is_filtered`: whether these criteria were asked for.
    """
    exact = _exact(rows, criteria)
    if not exact:
        return _nothing(rows, criteria, is_filtered=is_filtered)
    running = [row for row in exact if row.runs]
    meant = running if len(running) == 1 else exact
    return Found(What.ONE if len(meant) == 1 else What.SEVERAL, tuple(row.uuid for row in meant))


def hosts_of(rows: Sequence[Instance], where: Mapping[str, str]) -> Found:
    """Every host for which all of it is so: SEVERAL, however many, in the order of their uuids; or NONE."""
    exact = _exact(rows, where)
    if not exact:
        return _nothing(rows, where, is_filtered=True)
    return Found(What.SEVERAL, tuple(sorted(row.uuid for row in exact)))


def _exact(rows: Sequence[Instance], criteria: Mapping[str, str]) -> list[Instance]:
    """Each host once, by its uuid."""
    exact = (row for row in rows if all(CRITERIA[name].holds(row, each) for name, each in criteria.items()))
    return list({row.uuid: row for row in exact}.values())


def _nothing(rows: Sequence[Instance], criteria: Mapping[str, str], *, is_filtered: bool) -> Found:
    is_ignored = is_filtered and any(_is_foreign(row, criteria) for row in rows)
    return Found(What.FILTER_IGNORED if is_ignored else What.NONE)


def _is_foreign(row: Instance, criteria: Mapping[str, str]) -> bool:
    """Whether some criterion's value stands in none of its fields, not even in part: it was dropped."""
    shown = [row.uuid.casefold(), *(text.casefold() for text in row.fields.values())]
    return any(
        not CRITERIA[name].holds(row, value)
        and (len(value) < MEANINGFUL_CHARS or not any(value.casefold() in text for text in shown))
        for name, value in criteria.items()
    )


# -- an event ----------------------------------------------------------------------------------------


class Step(StrEnum):
    """What an event does next."""

    GO = "go"
    WAIT = "wait"
    REJECT = "reject"
    NOT_YET = "not yet"


class Decision(NamedTuple):
    """What becomes of an event whose targets were looked up.

    `uuids`: its hosts, unique, in order of arrival. `missing`: what no host was found for, or several, as the
    sender wrote it. `ambiguous`: of these the ones that could be several, and which; for a log line alone.
    """

    step: Step
    uuids: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    ambiguous: Mapping[str, tuple[str, ...]] = {}
    error: ErrorInfo | None = None


def decision(
    targets: Sequence[str], found: Mapping[str, Found], *, waited_s: float, wait_s: float
) -> Decision:
    """Of an event with these targets, recorded `waited_s` ago, on a route that waits `wait_s` for a host.

    `found` lacks what was not looked up: the event's turn is not over then. What could not be read stops it
    without an end, and a missing host until it has waited long enough; then it goes without, if any is left.
    """
    looked_up = [found[target] for target in targets if target in found]
    stopped = next((each for each in looked_up if each.what in {What.FAILED, What.FILTER_IGNORED}), None)
    if stopped is not None:
        return Decision(Step.WAIT, error=error_of(stopped))
    if len(looked_up) < len(targets):
        return Decision(Step.NOT_YET)
    uuids = tuple(dict.fromkeys(each.uuids[0] for each in looked_up if each.what is What.ONE))
    missing = tuple(target for target in targets if found[target].what is not What.ONE)
    ambiguous = {target: found[target].uuids for target in missing if found[target].what is What.SEVERAL}
    not_found = len(ambiguous) < len(missing)
    error = error_of(Found(What.NONE if not_found else What.SEVERAL))
    if not_found and waited_s < wait_s:
        return Decision(Step.WAIT, missing=missing, ambiguous=ambiguous, error=error)
    if not uuids:
        return Decision(Step.REJECT, missing=missing, ambiguous=ambiguous, error=error)
    return Decision(Step.GO, uuids, missing, ambiguous)


def selection(found: Found, most: int) -> Decision:
    """Of an event that selects hosts: GO with all of them, also where that is none; more than `most` are
    refused, never cut.
    """
    if found.what in {What.FAILED, What.FILTER_IGNORED}:
        return Decision(Step.WAIT, error=error_of(found))
    if len(found.uuids) > most:
        return Decision(Step.REJECT, error=_too_many(len(found.uuids), most))
    return Decision(Step.GO, found.uuids)


# -- in words ----------------------------------------------------------------------------------------

_REFUSED = frozenset({Kind.OPERATOR, Kind.SENDER})
_WORDS: Mapping[What, tuple[Kind, Code, str]] = {
    What.NONE: (
        Kind.SENDER,
        Code.HOST_NOT_FOUND,
        "Security Center lists no host of this name, or none for which the route's `hosts.where` is so",
    ),
    What.SEVERAL: (
        Kind.SENDER,
        Code.HOST_AMBIGUOUS,
        "Security Center lists several hosts of this name: narrow them in the route by `hosts.where`",
    ),
    What.FILTER_IGNORED: (
        Kind.OPERATOR,
        Code.HOST_FILTER_IGNORED,
        "Security Center ignores a criterion of `hosts.where` and gives other hosts, too: use another one",
    ),
}


def error_of(found: Found) -> ErrorInfo:
    """Why an event has no host; of what has failed, with the answer's own code."""
    if found.error is None:
        kind, code, message = _WORDS[found.what]
        return ErrorInfo(kind=kind, code=code, message=message)
    failed = found.error
    return ErrorInfo(
        kind=Kind.OPERATOR if failed.kind in _REFUSED else Kind.REMOTE,
        code=failed.code,
        message=failed.message,
        http_status=failed.http_status,
        request_id=failed.request_id,
    )


def _too_many(count: int, most: int) -> ErrorInfo:
    return ErrorInfo(
        kind=Kind.SENDER,
        code=Code.TOO_MANY_HOSTS,
        message=f"`hosts.where` selects {count} hosts, over `hosts.most` of {most}: none was asked for",
    )
