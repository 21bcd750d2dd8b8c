"""How a task's end becomes each of its events' own: pure."""

import json
from collections.abc import Collection, Sequence

from oncetask.models import Ended, Finish, HostOutcome, Progress, instant

MOST_SWEEPS = 3
"""So many sweeps an end waits for DetailData, which may come late, or never."""
MOST_HOSTS = 100
HOSTS_BYTES = 120_000
"""What the hosts of one event may take of its record, as JSON; a record ends at 200 KB."""


def finish_for(  # noqa: PLR0913 - each names one fact about the end
    targets: Collection[str] | None,
    ended: Ended,
    hosts: Sequence[HostOutcome],
    *,
    served_alone: bool,
    now_s: float,
    hosts_bytes: int = HOSTS_BYTES,
) -> Finish:
    """The end of a task as one of its events sees it.

    `targets` are the event's own; None: it named none, so that a task that served it alone tells it of every
    host, and a shared one of none. `now_s` is when the end was seen, for a service that tells no time.
    """
    own = _own(targets, hosts, served_alone=served_alone)
    shown = _shown(own, hosts_bytes)
    return Finish(
        state=ended.state,
        ok=_is_well(ended, served_alone=served_alone),
        finished_at=instant(now_s if ended.finished_s is None else ended.finished_s),
        success_count=ended.success_count,
        fail_count=ended.fail_count,
        total_count=ended.total_count,
        hosts=shown,
        hosts_left_out=len(own) - len(shown),
    )


def awaits_details(targets: Collection[str], progress: Progress, *, sweeps: int) -> bool:
    """Whether more may still be told of the hosts of a task that has ended: while fewer than three sweeps
    have seen its end, and not each of its targets (of one without any, not a single host) is told of.

    Of a type that no operation tells hosts of, nothing is awaited: that is for the caller to know.
    """
    told = {host.uuid for host in progress.hosts}
    return sweeps < MOST_SWEEPS and not (told.issuperset(targets) if targets else told)


def lost(now_s: float) -> Finish:
    """The end of a task that nobody has seen end within a day."""
    return Finish(state="LOST", ok=False, finished_at=instant(now_s))


def _own(
    targets: Collection[str] | None, hosts: Sequence[HostOutcome], *, served_alone: bool
) -> list[HostOutcome]:
    if targets is None:
        return list(hosts) if served_alone else []
    return [host for host in hosts if host.uuid in targets]


def _shown(own: list[HostOutcome], hosts_bytes: int) -> tuple[HostOutcome, ...]:
    """Those with a code first, since they are what somebody must look at; as many as there is room for."""
    shown: list[HostOutcome] = []
    for host in sorted(own, key=lambda host: not (host.codes or host.causes))[:MOST_HOSTS]:
        hosts_bytes -= len(json.dumps(host.model_dump()))
        if hosts_bytes < 0:
            break
        shown.append(host)
    return tuple(shown)


def _is_well(ended: Ended, *, served_alone: bool) -> bool | None:
    """By the counts alone: a host's code is no proof either way, since only 1003 is documented."""
    if ended.state != "SUCCESS":
        return False
    if ended.fail_count:
        return False if served_alone else None
    return True if _only_succeeded(ended) else None


def _only_succeeded(ended: Ended) -> bool:
    if not ended.success_count or (ended.fail_count is None and ended.total_count is None):
        return False
    return ended.total_count in {None, ended.success_count}
