"""What comes in: ticks and deliveries of every kind, each item with a marker that its task will carry."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from local.events import json_delivery
from oncetask.app import App
from oncetask.handlers import timer, webhook
from oncetask.models import Result

ROUTES = """
[routes.nightly]
trigger = "timer"
task_type = "ASSETS_COLLECTION"
[routes.nightly.param_from]
items = "items[0].hosts[0]"

[routes.ops]
trigger = "timer"
task_type = "CLIENT_DEV_OPS"
allow = ["CLIENT_DEV_OPS"]
param_from = {what = "items[0].hosts[0]"}

[routes.hosts]
trigger = "timer"
task_type = "CLIENT_PROBLEM_CHECK"
each = "items"
id = "id"
targets = "hosts"
param = {mode = 1, problemType = "offline"}

[routes.whole]
trigger = "webhook"
task_type = "CLIENT_PROBLEM_CHECK"
targets = "items[].hosts[]"
param = {mode = 1, problemType = "offline"}
verify = {scheme = "bearer", secrets = ["env:TOKEN"]}

[routes.listed]
trigger = "webhook"
each = "items"
task_type = "ASSET_SECURITY_CHECK"
targets = "hosts"
verify = {scheme = "bearer", secrets = ["env:TOKEN"]}

[routes.alerts]
trigger = "webhook"
each = "items"
id = "id"
task_type = "CLIENT_PROBLEM_CHECK"
targets = "hosts"
max_targets = 6
submit = "sweep"
param = {mode = 1, problemType = "offline"}
verify = {scheme = "bearer", secrets = ["env:TOKEN"]}

[routes.brief]
trigger = "webhook"
each = "items"
id = "id"
task_type = "VUL_CHECK_TASK"
targets = "hosts"
max_targets = 6
submit = "sweep"
expire_s = 500
verify = {scheme = "bearer", secrets = ["env:TOKEN"]}

[routes.probe]
trigger = "webhook"
expire_s = 900
task_type = "IDC_PROBE_SCAN"
submit = "sweep"
param_from = {probe = "items[0].hosts[0]"}
verify = {scheme = "bearer", secrets = ["env:TOKEN"]}
"""
TOKEN = "model-token"
MOST_TARGETS = 6
"""Of the routes `alerts` and `brief`, whose events share tasks."""
WEBHOOK_ROUTES = ("alerts", "whole", "listed", "brief", "probe")
TIMER_ROUTES = ("nightly", "hosts", "ops", None)
"""None: inline tasks."""
ONE_ITEM_ROUTES = ("nightly", "ops", "whole", "probe")
OWN_ID_ROUTES = ("alerts", "brief", "hosts")
INLINE_TYPES = ("ASSETS_COLLECTION", "IDC_PROBE_SCAN", "VUL_CHECK_TASK")
_SCHEDULE = "arn:aws:scheduler:eu-central-1:123456789012:schedule/default/model"
_MARKER = re.compile(r"\bm[0-9]+\b")


def markers(text: str) -> list[str]:
    """The markers in a task's Param, each as often as it is there."""
    return _MARKER.findall(text)


@dataclass(frozen=True, slots=True)
class Item:
    """One thing that is asked for: its marker, which is its id and its first host, and further hosts."""

    marker: str
    hosts: tuple[str, ...] = ()
    task_type: str = "ASSETS_COLLECTION"

    def document(self) -> dict[str, Any]:
        """As a route's item."""
        return {"id": self.marker, "hosts": [self.marker, *self.hosts]}

    def task(self) -> dict[str, Any]:
        """As an inline task."""
        key = "items" if self.task_type == "ASSETS_COLLECTION" else "what"
        return {"TaskType": self.task_type, "Param": {key: ",".join((self.marker, *self.hosts))}}


@dataclass(frozen=True, slots=True)
class Coming:
    """A tick or a delivery; `number` makes its moment or its delivery id."""

    number: int
    route: str | None
    items: tuple[Item, ...]
    has_delivery_id: bool = False

    @property
    def is_tick(self) -> bool:
        """Whether the timer brings it."""
        return self.route in TIMER_ROUTES

    def changed(self) -> "Coming":
        """The same ids with another content."""
        return replace(self, items=tuple(replace(i, hosts=(*i.hosts, "changed")) for i in self.items))

    def bring(self, app: App, left_s: float) -> list[Result] | None:
        """Hand it to its handler: the results; None where a webhook's sender is told to come again.

        Raises LedgerUnavailable.
        """
        deadline = app.deadline(int(left_s * 1000))
        if self.is_tick:
            return timer.handle(app, self._tick(), deadline).results
        outcome = webhook.handle(app, self._delivery(), deadline)
        if isinstance(outcome, webhook.Accepted):
            return outcome.report.results
        assert isinstance(outcome, webhook.Refusal)
        assert outcome.status == 503, outcome
        return None

    def _tick(self) -> dict[str, Any]:
        hours, minutes = divmod(self.number, 60)
        moment = f"2026-11-{1 + hours // 24:02d}T{hours % 24:02d}:{minutes:02d}:00Z"
        common = {"schedule": _SCHEDULE, "scheduled_time": moment}
        if self.route is None:
            return common | {"tasks": [item.task() for item in self.items]}
        return common | {"route": self.route, "items": [item.document() for item in self.items]}

    def _delivery(self) -> dict[str, Any]:
        body = json.dumps({"items": [item.document() for item in self.items]})
        return json_delivery(str(self.route), body, self._headers())

    def _headers(self) -> Mapping[str, str]:
        headers = {"content-type": "application/json", "authorization": f"Bearer {TOKEN}"}
        return headers | ({"idempotency-key": f"d{self.number}"} if self.has_delivery_id else {})
