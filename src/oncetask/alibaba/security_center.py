"""Security Center behind one door.

One client, its keys, its time-outs; it asks for tasks and looks at them. A call goes out at most once: Tea
has no retry options here, redirects are not followed (`session`), and the nonce is ours. Whatever becomes of
a create is an `Answer`; a query without a usable one raises QueryFailed.
"""

import itertools
import math
import re
import uuid
from collections.abc import Callable, Mapping
from contextlib import suppress
from http import HTTPStatus
from typing import Any, NamedTuple, Self
from urllib.parse import urlsplit

from oncetask.alibaba.answers import Reply, Translator, query_failed, refusal, refuses_token, unreadable
from oncetask.alibaba.fields import (
    code_of,
    count_of,
    ended_by_result_info,
    id_of,
    object_of,
    progress_of,
    seconds_of,
    tasks_of,
    text_of,
)
from oncetask.alibaba.instances import ACTION, Ask, Instance, all_instances, instance_count
from oncetask.alibaba.session import CallSession, Exchange, on_the_wire
from oncetask.alibaba.tea import (
    Client,
    Config,
    CredentialModel,
    OpenApiRequest,
    Params,
    RuntimeOptions,
    TeaException,
)
from oncetask.clock import Deadline
from oncetask.credentials import Credentials, Keys
from oncetask.errors import Code, CredentialsUnavailable, QueryFailed
from oncetask.models import Answer, Outcome, Progress, Task, TaskRequest
from oncetask.proxies import Proxies, Proxy

VERSION = "2018-12-03"
MARGIN_S = 1.0
"""A call ends this long before the invocation does, so that its answer can still be recorded."""
SHORTEST_CALL_S = 0.1

IDLE_S = 10.0
"""A connection that idled for longer is not used again. While the process was frozen its peer may have
hung up unnoticed, and a create into it would be lost."""

DESCRIBED_TYPES = frozenset(
    {"VUL_CHECK_TASK", "CLIENT_PROBLEM_CHECK", "CLIENT_DEV_OPS", "ASSET_SECURITY_CHECK"}
)
"""The task types that DescribeOnceTask knows."""
PAGE_SIZE = 20
"""DescribeOnceTask's own default; its maximum is not documented."""

_NO_TIME = "there is no time left to ask Security Center"


class _TeaCredential:
    """Our credentials as Tea asks for them, so that renewed keys need no new client."""

    def __init__(self, credentials: Credentials) -> None:
        self._credentials = credentials
        self._given: Keys | None = None

    def get_credential(self) -> CredentialModel:
        """The keys of this moment. Raises CredentialsUnavailable."""
        keys = self._given = self._credentials.keys()
        for value in (keys.access_key_id, keys.access_key_secret, keys.security_token or "-"):
            if not re.fullmatch(r"[!-~]+", value):
                raise CredentialsUnavailable(
                    "the access key for Security Center is empty, or holds characters that no key has,"
                    " such as a line break: check what ONCETASK_CREDENTIALS names"
                )
        return CredentialModel(
            access_key_id=keys.access_key_id,
            access_key_secret=keys.access_key_secret,
            security_token=keys.security_token,
            type="sts" if keys.security_token else "access_key",
        )

    def hide(self, text: str) -> str:
        """The text without the keys that were given last."""
        return self._given.hide(text) if self._given else text


class Endpoint(NamedTuple):
    """Where a service listens: host, or host:port, whether with TLS, and the proxy on the way there."""

    host: str
    tls: bool = True
    proxy: Proxy | None = None

    @classmethod
    def of(cls, url: str, proxies: Proxies) -> Self:
        """Of a URL without a path."""
        there = urlsplit(url)
        return cls(there.netloc, there.scheme == "https", proxies.towards(url))

    @property
    def protocol(self) -> str:
        """Tea's word for it."""
        return "HTTPS" if self.tls else "HTTP"

    def session(self) -> CallSession:
        """Connections towards it, none of them opened yet."""
        return CallSession(tls=self.tls, proxy=self.proxy)


class SecurityCenter:
    """One client for the process; its connection is kept alive."""

    def __init__(
        self,
        *,
        endpoint: Endpoint,
        credentials: Credentials,
        connect_timeout_ms: int,
        read_timeout_ms: int,
        cap_codes: frozenset[str] = frozenset(),
    ) -> None:
        self._endpoint = endpoint
        self._credentials = credentials
        self._connect_timeout_ms = connect_timeout_ms
        self._read_timeout_ms = read_timeout_ms
        self._last_call_s = 0.0
        self._session = endpoint.session()
        credential = _TeaCredential(credentials)
        self._translator = Translator(cap_codes, credential.hide)
        self._client = Client(
            Config(
                credential=credential,
                endpoint=endpoint.host,
                protocol=endpoint.protocol,
                user_agent="oncetask",
            )
        )

    def call_timeout_s(self) -> float:
        """The longest that one call may take, connecting and reading."""
        return (self._connect_timeout_ms + self._read_timeout_ms) / 1000

    def ask_timeout_s(self) -> float:
        """The longest that a create may take: its call, and a second one where keys can be renewed."""
        return self.call_timeout_s() * (2 if self._credentials.renewable else 1)

    def prepare(self, deadline: Deadline) -> None:
        """Fetch the keys where none are at hand, if there is time; `has_time` tells what is left after it.

        Raises nothing: the next call says why there are no keys. Every call begins with this itself.
        """
        if self.has_time(deadline):
            with suppress(CredentialsUnavailable):
                self._credentials.keys()

    def has_time(self, deadline: Deadline) -> bool:
        """Whether a call may still begin."""
        return deadline.left_s() - MARGIN_S >= SHORTEST_CALL_S

    def generate(self, request: TaskRequest, deadline: Deadline) -> Answer:
        """Ask for one task, once; a refused security token is renewed and asked with once more.

        Where the time is up, or fetching the keys took it, nothing is sent and there is no error. Raises
        nothing that the service or the network can cause.
        """
        self.prepare(deadline)
        if not self.has_time(deadline):
            return Answer(outcome=Outcome.NOT_CONNECTED)
        reply = self._call("GenerateOnceTask", request.query(), deadline)
        return reply if isinstance(reply, Answer) else self._translator.of_create(reply)

    def describes(self, task_type: str) -> bool:
        """Whether `tasks_started_since` can be asked about tasks of this type."""
        return task_type in DESCRIBED_TYPES

    def tasks_started_since(self, task_type: str, since_s: float, deadline: Deadline) -> list[Task]:
        """Every task of a described type that started in that second or later, by the service's clock.

        Raises QueryFailed: nothing then is known about any task.
        """
        since_ms = math.floor(since_s) * 1000
        shown = self._described({"TaskType": task_type, "StartTimeQuery": str(since_ms)}, deadline)
        return [
            task
            for task in shown
            if task.task_type == task_type and (task.started_s is None or task.started_s * 1000 >= since_ms)
        ]

    def last_task(self, task_type: str, task_name: str, deadline: Deadline) -> Task | None:
        """The newest task of a type, described or not; None where the service says that there is none.

        Raises QueryFailed.
        """
        query = {"TaskType": task_type, "TaskName": task_name}
        body = self._query("GetLastOnceTaskInfo", query, deadline)
        info = object_of(body.get("TaskInfo"))
        result = text_of(info.get("Result"))
        if result == "TASK_NOT_EXISTS":
            return None
        task_id = id_of(body.get("TaskId"))
        is_refused = result == "TASK_NOT_SUPPORT_REGION" or (task_id is None and result != "SUCCESS")
        if result is not None and is_refused:
            raise query_failed(refusal(Outcome.OPERATOR, result, f"GetLastOnceTaskInfo answered {result}"))
        if task_id is None:
            raise query_failed(unreadable())
        return Task(
            task_id=task_id,
            task_type=task_type,
            started_s=seconds_of(body.get("CollectTime")),
            state=text_of(info.get("Status")),
            ended=ended_by_result_info(body),
        )

    def follow(self, task_type: str, task_id: str, task_name: str, deadline: Deadline) -> Progress:
        """How far a task is. Raises QueryFailed, which says nothing about the task."""
        if self.describes(task_type):
            shown = self._described({"TaskType": task_type, "TaskId": task_id}, deadline)
            own = [task for task in shown if task.task_id == task_id]
            if own:
                return self._with_hosts(progress_of(own), task_id, deadline)
            below = self._progress_below(task_id, deadline)
            if below is not None:
                return below
        query = {"TaskType": task_type, "TaskName": task_name, "TaskId": task_id}
        body = self._query("GetOnceTaskResultInfo", query, deadline)
        state = text_of(object_of(body.get("TaskInfo")).get("Status"))
        return Progress(state, ended_by_result_info(body))

    def instances(
        self,
        criteria: Mapping[str, str],
        deadline: Deadline,
        *,
        before_call: Callable[[], None] = lambda: None,
    ) -> list[Instance]:
        """Every host that is listed for these criteria, each once; the service may have matched parts, or
        dropped a criterion: see whether a row holds. Raises QueryFailed.
        """
        return all_instances(self._instances_asked(deadline, before_call), criteria)

    def instance_count(
        self, deadline: Deadline, *, before_call: Callable[[], None] = lambda: None
    ) -> int | None:
        """How many hosts there are; None where the service does not say. Raises QueryFailed."""
        return instance_count(self._instances_asked(deadline, before_call))

    def _instances_asked(self, deadline: Deadline, before_call: Callable[[], None]) -> Ask:
        def ask(query: dict[str, str]) -> Mapping[str, Any]:
            before_call()
            return self._query(ACTION, query, deadline)

        return ask

    def _progress_below(self, task_id: str, deadline: Deadline) -> Progress | None:
        """Of the tasks below that one: a created task's id may be either of DescribeOnceTask's two."""
        below = self._described({"RootTaskId": task_id}, deadline)
        return progress_of(below) if below else None

    def _with_hosts(self, progress: Progress, task_id: str, deadline: Deadline) -> Progress:
        """Where a task has ended whose own record names no host: with the hosts of the tasks below it."""
        if progress.ended is None or progress.hosts:
            return progress
        try:
            below = self._progress_below(task_id, deadline)
        except QueryFailed as error:
            return progress._replace(unread=error)
        return progress if below is None else progress._replace(hosts=below.hosts)

    def _described(self, query: Mapping[str, str], deadline: Deadline) -> list[Task]:
        """All pages of DescribeOnceTask; tasks that move to a later page meanwhile are there once."""
        found: dict[str, Task] = {}
        for page in itertools.count(1):
            paged = {**query, "CurrentPage": str(page), "PageSize": str(PAGE_SIZE)}
            body = self._query("DescribeOnceTask", paged, deadline)
            shown = tasks_of(body, query.get("TaskType"))
            if shown is None:
                raise query_failed(unreadable())
            known = len(found)
            found.update({task.task_id: task for task in shown})
            total = count_of(object_of(body.get("PageInfo")).get("TotalCount"))
            complete = len(shown) < PAGE_SIZE if total is None else len(found) >= total
            if complete or len(found) == known:
                break
        return list(found.values())

    def _query(self, action: str, query: dict[str, str], deadline: Deadline) -> dict[str, Any]:
        """A query operation's answer. Raises QueryFailed."""
        self.prepare(deadline)
        if not self.has_time(deadline):
            raise query_failed(refusal(Outcome.LOST, Code.NO_ANSWER, _NO_TIME))
        reply = self._call(action, query, deadline)
        if isinstance(reply, Answer):
            raise query_failed(reply)
        if not isinstance(reply.body, dict) or reply.status >= HTTPStatus.MULTIPLE_CHOICES:
            raise query_failed(unreadable(reply.status))
        if code_of(reply.body):
            raise query_failed(self._translator.of_code(action, reply.body, reply.status))
        return reply.body

    def _call(self, action: str, query: dict[str, str], deadline: Deadline) -> Reply | Answer:
        """The reply, or what else the call came to; with renewed keys where the token was refused."""
        reply = self._call_once(action, query, deadline)
        if refuses_token(reply) and self._credentials.renew() and self.has_time(deadline):
            return self._call_once(action, query, deadline)
        return reply

    def _call_once(self, action: str, query: dict[str, str], deadline: Deadline) -> Reply | Answer:
        clock = deadline.clock
        ends = Deadline.after(_for_call_s(deadline), clock)
        if self._has_idled(clock.now_s()):
            self._session.close()
        with on_the_wire(Exchange(self._session, ends.left_s)) as exchange:
            try:
                reply = self._send(action, query, deadline)
            except TeaException as error:
                return self._translator.of_error(action, error, exchange)
            finally:
                self._last_call_s = clock.now_s()
        return Reply(reply["body"], reply["statusCode"])

    def _has_idled(self, now_s: float) -> bool:
        return abs(now_s - self._last_call_s) > IDLE_S

    def _send(self, action: str, query: dict[str, str], deadline: Deadline) -> dict[str, Any]:
        """One signed call: Tea's `{"body", "headers", "statusCode"}`. Raises TeaException."""
        connect_ms, read_ms = self._timeouts_ms(deadline)
        reply: dict[str, Any] = self._client.call_api(
            Params(
                action=action,
                version=VERSION,
                protocol=self._endpoint.protocol,
                pathname="/",
                method="POST",
                auth_type="AK",
                style="RPC",
                req_body_type="formData",
                body_type="json",
            ),
            OpenApiRequest(query=query, headers={"x-acs-signature-nonce": str(uuid.uuid4())}),
            RuntimeOptions(connect_timeout=connect_ms, read_timeout=read_ms),
        )
        return reply

    def _timeouts_ms(self, deadline: Deadline) -> tuple[int, int]:
        """Connect and read time-outs, shortened alike where the invocation ends before they would."""
        share = min(1.0, _for_call_s(deadline) / self.call_timeout_s())
        return max(1, int(self._connect_timeout_ms * share)), max(1, int(self._read_timeout_ms * share))


def _for_call_s(deadline: Deadline) -> float:
    return max(deadline.left_s() - MARGIN_S, SHORTEST_CALL_S)
