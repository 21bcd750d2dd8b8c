"""Many waiting events, few requests. Pure."""

from collections.abc import Sequence

from oncetask.ledgers import Event
from oncetask.models import TaskRequest


def merged_request(events: Sequence[Event]) -> TaskRequest:
    """The one request that serves these events: alike but for their targets, which are unique in it
    and in order of arrival.
    """
    first = events[0]
    if first.target_key is None or len(events) == 1:
        return first.request
    targets = dict.fromkeys(
        target for event in events for target in event.request.param[first.target_key].split(",")
    )
    param = first.request.param | {first.target_key: ",".join(targets)}
    return first.request.model_copy(update={"param": param})
