"""What the Security Center emulator promises, seen through the real Tea client and raw HTTP."""

import hashlib
import hmac
import http.client
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote, urlencode

import pytest
import requests
from alibabacloud_tea_openapi import utils_models as tea
from alibabacloud_tea_openapi.client import Client
from alibabacloud_tea_openapi.exceptions import (
    AlibabaCloudException,
    ServerException,
    ThrottlingException,
)
from darabonba.exceptions import UnretryableException
from darabonba.runtime import RuntimeOptions

from local.emulator import (
    ACCESS_KEY_ID,
    ACCESS_KEY_SECRET,
    Behaviour,
    CanCreateFalse,
    CapReached,
    Emulator,
    EndState,
    Fault,
    LateTask,
    NoTaskId,
    Redirect,
    Refuse,
    ResetAfter,
    ResetBefore,
    Silence,
    Slow,
    Throttle,
    Unreadable,
)
from local.emulator.acs3 import Nonces
from local.emulator.answers import ApiError
from local.emulator.behaviour import CapAnswer, DescribeId

# Tea 0.4.6 dates its requests with datetime.utcnow().
pytestmark = pytest.mark.filterwarnings("ignore:datetime.datetime.utcnow:DeprecationWarning")

CHECK = "CLIENT_PROBLEM_CHECK"
NOW_S = 1_800_000_000.25
Call = Callable[..., dict[str, Any]]


class Clock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now_s = NOW_S

    def __call__(self) -> float:
        """Epoch seconds."""
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    """The tasks' clock."""
    return Clock()


@pytest.fixture
def emulator(clock: Clock) -> Iterator[Emulator]:
    """An emulator whose tasks live by `clock`."""
    with Emulator(clock=clock) as running:
        yield running


@pytest.fixture
def call(emulator: Emulator) -> Call:
    """Calls an action through the Tea client, with the right credentials."""
    return caller(emulator)


def caller(
    emulator: Emulator,
    *,
    access_key_id: str = ACCESS_KEY_ID,
    secret: str = ACCESS_KEY_SECRET,
    token: str | None = None,
) -> Call:
    """Calls an action through the Tea client and gives the answer's body."""
    config = tea.Config(
        access_key_id=access_key_id,
        access_key_secret=secret,
        security_token=token,
        endpoint=emulator.url.removeprefix("http://"),
        protocol="HTTP",
        region_id="cn-shanghai",
    )
    client = Client(config)

    def call(
        action: str, *, version: str = "2018-12-03", method: str = "POST", **query: str
    ) -> dict[str, Any]:
        params = tea.Params(
            action=action,
            version=version,
            protocol="HTTP",
            method=method,
            auth_type="AK",
            style="RPC",
            pathname="/",
            req_body_type="formData",
            body_type="json",
        )
        runtime = RuntimeOptions(read_timeout=300)
        body: dict[str, Any] = client.call_api(params, tea.OpenApiRequest(query=query), runtime)["body"]
        return body

    return call


def wanted(task_type: str = CHECK, *, uuids: str = "inet-1", **more: str) -> dict[str, str]:
    """A complete GenerateOnceTask."""
    param = json.dumps({"mode": 1, "problemType": "offline", "uuids": uuids})
    return {"TaskType": task_type, "TaskName": task_type, "Param": param} | more


def refusal(call: Call, action: str = "GenerateOnceTask", **query: str) -> tuple[int, str]:
    """Status and code of the refusal that the call meets."""
    with pytest.raises(AlibabaCloudException) as caught:
        call(action, **query)
    return caught.value.status_code, caught.value.code


def signed_headers(
    emulator: Emulator,
    query: dict[str, str],
    *,
    action: str = "DescribeOnceTask",
    body: bytes = b"",
    unsigned: frozenset[str] = frozenset(),
    **replaced: str,
) -> dict[str, str]:
    """Headers of a request signed by the book, independent of any client; an empty one is left out."""
    headers = {
        "host": emulator.url.removeprefix("http://"),
        "x-acs-action": action,
        "x-acs-version": "2018-12-03",
        "x-acs-date": stamp(time.time()),
        "x-acs-signature-nonce": f"nonce-{time.perf_counter_ns()}",
        "x-acs-content-sha256": hashlib.sha256(body).hexdigest(),
    } | {name.replace("_", "-"): value for name, value in replaced.items()}
    headers = {name: value for name, value in headers.items() if value}
    names = sorted({*headers} - unsigned)
    pairs = "&".join(f"{quote(k, safe='~')}={quote(v, safe='~')}" for k, v in sorted(query.items()))
    lines = "".join(f"{name}:{headers[name]}\n" for name in names)
    canonical = "\n".join(["POST", "/", pairs, lines, ";".join(names), hashlib.sha256(body).hexdigest()])
    to_sign = f"ACS3-HMAC-SHA256\n{hashlib.sha256(canonical.encode()).hexdigest()}"
    signature = hmac.new(ACCESS_KEY_SECRET.encode(), to_sign.encode(), hashlib.sha256).hexdigest()
    scope = f"Credential={ACCESS_KEY_ID},SignedHeaders={';'.join(names)}"
    return headers | {"authorization": f"ACS3-HMAC-SHA256 {scope},Signature={signature}"}


def stamp(instant_s: float) -> str:
    """An x-acs-date."""
    return datetime.fromtimestamp(instant_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def send(
    emulator: Emulator,
    headers: dict[str, str],
    query: dict[str, str] | None = None,
    *,
    method: str = "POST",
    body: bytes = b"",
) -> tuple[int, dict[str, Any]]:
    """Status and JSON body of one raw request."""
    connection = http.client.HTTPConnection(emulator.url.removeprefix("http://"), timeout=5)
    try:
        target = "/?" + urlencode(query or {}, quote_via=quote)
        connection.putrequest(method, target, skip_host="host" in headers)
        for name, value in headers.items():
            connection.putheader(name, value)
        connection.putheader("content-length", str(len(body)))
        connection.endheaders(body)
        response = connection.getresponse()
        return response.status, json.loads(response.read())
    finally:
        connection.close()


class TestSignature:
    """Only who knows the secret is heard, and each request once."""

    def test_the_published_example_is_accepted(self) -> None:
        """Alibaba's own documented request and signature verify."""
        instant_s = datetime(2023, 10, 26, 10, 22, 32, tzinfo=UTC).timestamp()
        names = "host;x-acs-action;x-acs-content-sha256;x-acs-date;x-acs-signature-nonce;x-acs-version"
        signature = "06563a9e1b43f5dfe96b81484da74bceab24a1d853912eee15083a6f0f3283c0"
        headers = {
            "host": "ecs.cn-shanghai.aliyuncs.com",
            "x-acs-action": "RunInstances",
            "x-acs-version": "2014-05-26",
            "x-acs-date": "2023-10-26T10:22:32Z",
            "x-acs-signature-nonce": "3156853299f313e23d1673dc12e1703d",
            "x-acs-content-sha256": hashlib.sha256(b"").hexdigest(),
            "authorization": (
                f"ACS3-HMAC-SHA256 Credential=YourAccessKeyId,SignedHeaders={names},Signature={signature}"
            ),
        }
        query = {
            "ImageId": "win2019_1809_x64_dtc_zh-cn_40G_alibase_20230811.vhd",
            "RegionId": "cn-shanghai",
        }
        known = {"YourAccessKeyId": ("YourAccessKeySecret", None)}

        with Emulator(signature_clock=lambda: instant_s, credentials=known) as emulator:
            emulator.add_operation("2014-05-26", "RunInstances", lambda _: {"Heard": True})
            status, body = send(emulator, headers, query)

        assert (status, body["Heard"]) == (200, True)

    def test_a_wrong_secret_is_refused(self, emulator: Emulator) -> None:
        """Another secret signs in vain."""
        call = caller(emulator, secret="another")

        seen = refusal(call, **wanted())

        assert seen == (400, "SignatureDoesNotMatch")
        assert emulator.tasks == []

    def test_an_unknown_key_is_refused(self, emulator: Emulator) -> None:
        """A key that is not there is told from a wrong secret."""
        call = caller(emulator, access_key_id="LTAInobody")

        assert refusal(call, **wanted()) == (404, "InvalidAccessKeyId.NotFound")

    @pytest.mark.parametrize(("off_s", "status"), [(-899, 200), (-902, 400), (899, 200), (902, 400)])
    def test_clocks_may_differ_by_fifteen_minutes(self, emulator: Emulator, off_s: int, status: int) -> None:
        """Both ways; beyond that the stamp is expired."""
        query = {"TaskType": CHECK}
        headers = signed_headers(emulator, query, x_acs_date=stamp(time.time() + off_s))

        seen, body = send(emulator, headers, query)

        assert seen == status
        assert body.get("Code", "InvalidTimeStamp.Expired") == "InvalidTimeStamp.Expired"

    def test_a_stamp_in_another_form_is_refused(self, emulator: Emulator) -> None:
        """Only `yyyy-MM-ddTHH:mm:ssZ` is a stamp."""
        headers = signed_headers(emulator, {}, x_acs_date="yesterday")

        assert send(emulator, headers)[1]["Code"] == "InvalidTimeStamp.Format"

    def test_a_replayed_nonce_is_refused(self, emulator: Emulator) -> None:
        """The very same request is heard once, also after `forget`."""
        query = {"TaskType": CHECK}
        headers = signed_headers(emulator, query)

        first, _ = send(emulator, headers, query)
        emulator.forget()
        second, body = send(emulator, headers, query)

        assert (first, second, body["Code"]) == (200, 400, "SignatureNonceUsed")

    def test_nonces_are_kept_for_half_an_hour(self) -> None:
        """Longer than any stamp is good; then they are forgotten, so that memory is bounded."""
        nonces = Nonces()
        nonces.use("one", now_s=0)
        nonces.use("two", now_s=1)

        nonces.use("one", now_s=1800)
        with pytest.raises(ApiError) as caught:
            nonces.use("two", now_s=1800)

        assert caught.value.code == "SignatureNonceUsed"

    def test_a_refused_signature_uses_no_nonce(self, emulator: Emulator) -> None:
        """Nobody without the secret can use up another's nonce."""
        query = {"TaskType": CHECK}
        headers = signed_headers(emulator, query)

        forged, _ = send(emulator, headers, query | {"PageSize": "1"})
        genuine, _ = send(emulator, headers, query)

        assert (forged, genuine) == (400, 200)

    @pytest.mark.parametrize(
        ("name", "code"),
        [
            ("authorization", "IncompleteSignature"),
            ("x-acs-date", "MissingTimestamp"),
            ("x-acs-signature-nonce", "MissingSignatureNonce"),
        ],
    )
    def test_missing_parts_are_named(self, emulator: Emulator, name: str, code: str) -> None:
        """Each missing header has its code."""
        headers = signed_headers(emulator, {}, **{name.replace("-", "_"): ""})
        headers.pop(name, None)

        assert send(emulator, headers)[1]["Code"] == code

    def test_what_is_not_signed_is_not_believed(self, emulator: Emulator) -> None:
        """A nonce or action outside of SignedHeaders is refused."""
        headers = signed_headers(emulator, {}, unsigned=frozenset({"x-acs-signature-nonce"}))

        assert send(emulator, headers)[1]["Code"] == "IncompleteSignature"

    def test_a_form_body_is_signed_too(self, emulator: Emulator) -> None:
        """Parameters may come in a form; another body under the same signature is refused."""
        body = urlencode(wanted()).encode()
        form = {"content_type": "application/x-www-form-urlencoded"}
        headers = signed_headers(emulator, {}, action="GenerateOnceTask", body=body, **form)

        forged, _ = send(emulator, headers, body=body.replace(b"inet-1", b"inet-2"))
        genuine, _ = send(emulator, headers, body=body)

        assert (forged, genuine) == (400, 200)
        assert emulator.tasks[0].targets == ("inet-1",)

    def test_temporary_credentials_need_their_token(self, emulator: Emulator) -> None:
        """The token belongs to the key; missing, foreign and expired ones are told apart."""
        emulator.credentials["STS.1"] = ("secret", "token")
        temporary = {"access_key_id": "STS.1", "secret": "secret"}

        good = caller(emulator, **temporary, token="token")("GenerateOnceTask", **wanted())
        missing = refusal(caller(emulator, **temporary), **wanted())
        foreign = refusal(caller(emulator, **temporary, token="other"), **wanted())
        emulator.expired_tokens.add("token")
        expired = refusal(caller(emulator, **temporary, token="token"), **wanted())

        assert good["TaskId"]
        assert missing == (400, "MissingSecurityToken")
        assert foreign == (400, "InvalidSecurityToken.Malformed")
        assert expired == (400, "InvalidSecurityToken.Expired")

    def test_a_permanent_key_takes_no_token(self, emulator: Emulator) -> None:
        """A token where none belongs is malformed."""
        call = caller(emulator, token="token")

        assert refusal(call, **wanted()) == (400, "InvalidSecurityToken.Malformed")

    def test_unsigned_operations_need_no_signature(self, emulator: Emulator) -> None:
        """An operation may be open to all; its version and action then stand in the query."""
        emulator.add_operation(
            "2015-04-01",
            "AssumeRoleWithOIDC",
            lambda call: {"Role": call.parameters["RoleArn"]},
            signed=False,
        )
        query = {"Action": "AssumeRoleWithOIDC", "Version": "2015-04-01", "RoleArn": "r"}

        status, body = send(emulator, {}, query, method="GET")

        assert (status, body["Role"]) == (200, "r")


class TestErrors:
    """Refusals look like the real service's."""

    def test_an_error_body_has_five_fields(self, emulator: Emulator) -> None:
        """Whatever the error, its body has the documented form."""
        status, body = send(emulator, {"x-acs-action": "Nothing"})

        assert status == 404
        assert {*body} == {"RequestId", "HostId", "Code", "Message", "Recommend"}

    @pytest.mark.parametrize(
        "call_of",
        [{"action": "StartVirusScanTask"}, {"action": "GenerateOnceTask", "version": "2014-05-26"}],
    )
    def test_unknown_actions_and_versions_are_not_found(self, call: Call, call_of: dict[str, str]) -> None:
        """An action exists in its version only."""
        assert refusal(call, **call_of, **wanted()) == (404, "InvalidApi.NotFound")

    def test_other_methods_are_refused(self, emulator: Emulator) -> None:
        """RPC is GET or POST."""
        status, body = send(emulator, {"x-acs-action": "DescribeOnceTask"}, method="PUT")

        assert (status, body["Code"]) == (405, "UnsupportedHTTPMethod")

    @pytest.mark.parametrize(
        ("sent", "status"),
        [
            (b"what\r\n\r\n", 400),
            (b"GET / HTTP/1.1\r\nno colon\r\n\r\n", 400),
            (b"GET /" + b"x" * 70_000 + b" HTTP/1.1\r\n\r\n", 414),
            (b"POST / HTTP/1.1\r\ncontent-length: many\r\n\r\n", 400),
            (b"POST / HTTP/1.1\r\ncontent-length: 9999999999999\r\n\r\n", 413),
            (b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n", 411),
            (b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 201 + b"\r\n", 431),
        ],
    )
    def test_malformed_http_is_answered(self, emulator: Emulator, sent: bytes, status: int) -> None:
        """Bytes that are no request end the connection, never the emulator."""
        address = ("127.0.0.1", int(emulator.url.rpartition(":")[2]))

        with socket.create_connection(address, timeout=5) as connection:
            connection.sendall(sent)
            line = connection.recv(1024).splitlines()[0]

        assert line.split()[1] == str(status).encode()


class TestGenerate:
    """GenerateOnceTask."""

    def test_a_created_task_is_told_as_documented(self, emulator: Emulator, call: Call) -> None:
        """Every documented field, TaskId in 32 hexadecimal digits."""
        answer = call("GenerateOnceTask", **wanted(uuids="inet-1,inet-2", Source="test"))

        (task,) = emulator.tasks
        assert answer["RequestId"]
        assert int(answer["TaskId"], 16) >= 0
        assert len(answer["TaskId"]) == 32
        assert answer["TaskId"] == task.task_id
        assert (answer["CanCreate"], answer["LastTask"]) == (True, "")
        assert answer["CollectTime"] == 1_800_000_000_000
        assert (answer["TotalCount"], answer["FinishCount"]) == (2, 0)
        assert (task.type, task.name, task.source, task.foreign) == (CHECK, CHECK, "test", False)
        assert task.created_by_call == emulator.calls[-1].number

    def test_get_does_as_well_as_post(self, emulator: Emulator, call: Call) -> None:
        """Parameters stand in the query either way."""
        call("GenerateOnceTask", method="GET", **wanted())

        assert len(emulator.tasks) == 1

    @pytest.mark.parametrize("name", ["TaskType", "TaskName", "Param"])
    def test_required_parameters_are_missed_by_name(self, emulator: Emulator, call: Call, name: str) -> None:
        """Missing and empty are the same; by the product's own number, or in the gateway's words."""
        complete = wanted()

        assert refusal(call, **(complete | {name: ""})) == (400, "-101")
        emulator.behaviour.codes = "gateway"
        assert refusal(call, **(complete | {name: ""})) == (400, f"Missing{name}")

    @pytest.mark.parametrize(
        "wrong",
        [
            {"TaskType": "COFFEE"},
            {"Param": "not json"},
            {"Param": "[1]"},
            {"Param": "[" * 20_000},
        ],
    )
    def test_wrong_parameters_are_invalid(
        self, emulator: Emulator, call: Call, wrong: dict[str, str]
    ) -> None:
        """Types are the ten documented ones, Param is the text of a JSON object."""
        (name,) = wrong

        assert refusal(call, **(wanted() | wrong)) == (400, "-101")
        emulator.behaviour.codes = "gateway"
        assert refusal(call, **(wanted() | wrong)) == (400, f"InvalidParameter.{name}")

    def test_a_type_may_be_added(self, emulator: Emulator, call: Call) -> None:
        """Beyond the ten, what the test allows."""
        emulator.behaviour.extra_task_types.add("COFFEE")

        assert call("GenerateOnceTask", **wanted("COFFEE"))["TaskId"]

    def test_ten_tasks_run_at_once(self, emulator: Emulator, call: Call) -> None:
        """The tenth says that no more can be created, the eleventh is refused by a Limit code."""
        answers = [call("GenerateOnceTask", **wanted()) for _ in range(10)]

        status, code = refusal(call, **wanted())

        assert [answer["CanCreate"] for answer in answers] == [True] * 9 + [False]
        assert status == 400
        assert "Limit" in code
        assert len(emulator.tasks) == 10

    def test_at_the_cap_the_answer_may_be_can_create_false(self, emulator: Emulator, call: Call) -> None:
        """The other way to refuse: 200 without TaskId."""
        emulator.behaviour.cap = 0
        emulator.behaviour.cap_answer = "can_create_false"

        answer = call("GenerateOnceTask", **wanted())

        assert answer["CanCreate"] is False
        assert "TaskId" not in answer
        assert emulator.tasks == []

    def test_at_the_cap_the_code_may_be_the_products_own(self, emulator: Emulator, call: Call) -> None:
        """A number whose text, elsewhere, is "quota full"."""
        emulator.behaviour.cap = 0
        emulator.behaviour.cap_answer = "quota"

        assert refusal(call, **wanted()) == (400, "-110")

    @pytest.mark.parametrize("word", ["inet-2", CHECK])
    def test_a_request_may_be_answered_5xx_for_ever(self, emulator: Emulator, call: Call, word: str) -> None:
        """For one target, or for a type; everything else is made."""
        emulator.behaviour.broken[word] = (503, "ServiceUnavailable")

        answers = [refusal(call, **wanted(uuids="inet-1,inet-2")) for _ in range(3)]
        call("GenerateOnceTask", **wanted("CLIENT_DEV_OPS", uuids="inet-1"))

        assert answers == [(503, "ServiceUnavailable")] * 3
        assert [task.type for task in emulator.tasks] == ["CLIENT_DEV_OPS"]

    def test_the_cap_gives_way_when_tasks_end(self, emulator: Emulator, call: Call, clock: Clock) -> None:
        """An ended task no longer counts, however it ended."""
        emulator.behaviour.cap = 2
        emulator.add_foreign("IMAGE_SCAN")
        first = call("GenerateOnceTask", **wanted())
        full = refusal(call, **wanted())
        emulator.finish(first["TaskId"], "FAIL")

        call("GenerateOnceTask", **wanted())
        full_again = refusal(call, **wanted())
        clock.now_s += 30

        assert call("GenerateOnceTask", **wanted())["TaskId"]
        assert full == full_again

    @pytest.mark.parametrize("named", [True, False])
    def test_one_poisonous_target_spoils_the_request(
        self, emulator: Emulator, call: Call, *, named: bool
    ) -> None:
        """A group with a bad target is refused whole, with or without its name."""
        emulator.behaviour.poison.add("inet-bad")
        emulator.behaviour.poison_named = named

        call("GenerateOnceTask", **wanted(uuids="inet-1,inet-2"))
        with pytest.raises(AlibabaCloudException) as caught:
            call("GenerateOnceTask", **wanted(uuids="inet-1,inet-bad"))

        assert caught.value.code == "-101"
        assert ("inet-bad" in caught.value.message) is named
        assert len(emulator.tasks) == 1


class TestStates:
    """Tasks start, run and end by the injected clock."""

    @pytest.mark.parametrize(
        ("after_s", "status", "text"),
        [(0, 0, "INIT"), (3, 1, "START"), (29.9, 1, "START"), (30, 2, "SUCCESS")],
    )
    def test_a_task_goes_through_its_states(
        self, call: Call, clock: Clock, after_s: float, status: int, text: str
    ) -> None:
        """INIT, START, SUCCESS in thirty seconds, the same in every query."""
        created = call("GenerateOnceTask", **wanted())
        clock.now_s += after_s

        (item,) = described(call, TaskId=created["TaskId"])
        ids = {"TaskType": CHECK, "TaskName": CHECK}
        result = call("GetOnceTaskResultInfo", **ids, TaskId=created["TaskId"])
        last = call("GetLastOnceTaskInfo", **ids)

        assert (item["TaskStatus"], item["TaskStatusText"]) == (status, text)
        assert result["TaskInfo"] == {"Status": text}
        assert (last["TaskId"], last["TaskInfo"]["Status"]) == (created["TaskId"], text)

    @pytest.mark.parametrize(
        ("end", "shown"),
        [
            ("SUCCESS", (2, "SUCCESS", 2, 0, "SUCCESS")),
            ("FAIL", (3, "FAIL", 0, 2, "TIMEOUT")),
            ("TIMEOUT", (4, "TIMEOUT", 0, 2, "TIMEOUT")),
        ],
    )
    def test_a_task_ends_as_scripted(
        self, emulator: Emulator, clock: Clock, end: EndState, shown: tuple[int, str, int, int, str]
    ) -> None:
        """Only DescribeOnceTask knows FAIL; it shows the end time and the counts."""
        call = caller(emulator)
        emulator.behaviour.task_end = end
        emulator.behaviour.task_duration_s = 5
        created = call("GenerateOnceTask", **wanted(uuids="inet-1,inet-2"))
        clock.now_s += 6

        (item,) = described(call)
        by_id = call("GetOnceTaskResultInfo", TaskType=CHECK, TaskName=CHECK, TaskId=created["TaskId"])

        fields = ("TaskStatus", "TaskStatusText", "SuccessCount", "FailCount")
        assert (*(item[name] for name in fields), by_id["TaskInfo"]["Status"]) == shown
        assert item["TaskEndTime"] == 1_800_000_005_000
        assert (by_id["FinishCount"], by_id["TotalCount"]) == (2, 2)

    def test_a_task_may_never_end(self, emulator: Emulator, call: Call, clock: Clock) -> None:
        """NEVER runs on; its end time stays 0."""
        emulator.behaviour.task_end = "NEVER"
        call("GenerateOnceTask", **wanted())
        clock.now_s += 1_000_000

        (item,) = described(call)

        assert (item["TaskStatusText"], item["TaskEndTime"], item["Progress"]) == ("START", 0, "0%")


def described(call: Call, **query: str) -> list[dict[str, Any]]:
    """DescribeOnceTask's items."""
    if "RootTaskId" not in query:
        query = {"TaskType": CHECK} | query
    items: list[dict[str, Any]] = call("DescribeOnceTask", **query)["TaskManageResponseList"]
    return items


def ids_of(items: list[dict[str, Any]]) -> list[str]:
    """Their task ids, in order."""
    return [item["TaskId"] for item in items]


class TestQueries:
    """DescribeOnceTask, GetOnceTaskResultInfo, GetLastOnceTaskInfo."""

    def test_a_listing_is_newest_first_and_paged(self, call: Call, clock: Clock) -> None:
        """PageInfo counts what was found and what is on the page."""
        made = []
        for _ in range(5):
            made.append(call("GenerateOnceTask", **wanted())["TaskId"])
            clock.now_s += 1

        answer = call("DescribeOnceTask", TaskType=CHECK, CurrentPage="2", PageSize="2")

        assert answer["PageInfo"] == {
            "CurrentPage": 2,
            "PageSize": 2,
            "TotalCount": 5,
            "Count": 2,
        }
        assert ids_of(answer["TaskManageResponseList"]) == [made[2], made[1]]

    def test_an_item_shows_name_source_and_targets(self, call: Call) -> None:
        """What a client needs to know its own task again; start in whole seconds, no end yet."""
        call("GenerateOnceTask", **wanted(uuids="inet-1,inet-2", TaskName="mine", Source="me"))

        (item,) = described(call)

        assert (item["TaskName"], item["Source"]) == ("mine", "me")
        assert [d["uuid"] for d in json.loads(item["DetailData"])] == ["inet-1", "inet-2"]
        assert (item["TaskStartTime"], item["TaskEndTime"]) == (1_800_000_000_000, 0)

    def test_an_item_may_tell_nothing_of_itself(self, emulator: Emulator, call: Call) -> None:
        """Name, Source and targets can each be kept back."""
        emulator.behaviour.keeps_source = False
        emulator.behaviour.shows_name = False
        emulator.behaviour.shows_targets = False
        call("GenerateOnceTask", **wanted(Source="me"))

        (item,) = described(call)

        assert (item["TaskName"], item["Source"], item["DetailData"]) == ("", "", "[]")
        assert described(call, Source="me") == []

    def test_a_listing_can_be_narrowed(self, emulator: Emulator, call: Call, clock: Clock) -> None:
        """By Source and by start time, both ends included."""
        old = emulator.add_foreign(CHECK, source="console", started_s=NOW_S - 10)
        new = call("GenerateOnceTask", **wanted(Source="me"))["TaskId"]
        start_ms = str(int(clock.now_s) * 1000)

        by_source = described(call, Source="console")
        since = described(call, StartTimeQuery=start_ms)
        until = described(call, EndTimeQuery=str(int(start_ms) - 1))

        assert ids_of(by_source) == [old.task_id]
        assert ids_of(since) == [new]
        assert ids_of(until) == [old.task_id]

    @pytest.mark.parametrize(
        ("describe_id", "found_by"),
        [("both", ["TaskId", "RootTaskId"]), ("TaskId", ["TaskId"]), ("RootTaskId", ["RootTaskId"])],
    )
    def test_which_id_finds_a_task_can_be_set(
        self, emulator: Emulator, call: Call, describe_id: DescribeId, found_by: list[str]
    ) -> None:
        """The documents do not say which; the emulator can be either."""
        emulator.behaviour.describe_id = describe_id
        task_id = call("GenerateOnceTask", **wanted())["TaskId"]

        finding = [name for name in ("TaskId", "RootTaskId") if described(call, **{name: task_id})]

        assert finding == found_by

    @pytest.mark.parametrize(
        ("query", "code"),
        [
            ({"TaskId": "1"}, "-101"),
            ({"TaskType": "ASSETS_COLLECTION"}, "-101"),
            ({"TaskType": CHECK, "PageSize": "all"}, "InvalidParameter.PageSize"),
            ({"TaskType": CHECK, "CurrentPage": "0"}, "InvalidParameter.CurrentPage"),
        ],
    )
    def test_describe_refuses_what_it_does_not_know(
        self, call: Call, query: dict[str, str], code: str
    ) -> None:
        """A type or root id must be given, and only five types are described."""
        assert refusal(call, "DescribeOnceTask", **query) == (400, code)

    def test_tasks_of_any_type_are_found_by_id(self, call: Call) -> None:
        """Also those that DescribeOnceTask does not know."""
        task_id = call("GenerateOnceTask", **wanted("IMAGE_SCAN"))["TaskId"]
        names = {"TaskType": "IMAGE_SCAN", "TaskName": "IMAGE_SCAN"}

        known = call("GetOnceTaskResultInfo", **names, TaskId=task_id)
        unknown = call("GetOnceTaskResultInfo", **names, TaskId="0" * 32)

        assert known["TaskInfo"] == {"Status": "INIT"}
        assert unknown["TaskInfo"] == {}

    def test_the_last_task_is_the_newest(self, emulator: Emulator, call: Call) -> None:
        """Of its type, and of its Source where one is given."""
        names = {"TaskType": "IMAGE_SCAN", "TaskName": "IMAGE_SCAN"}
        none = call("GetLastOnceTaskInfo", **names)
        mine = call("GenerateOnceTask", **wanted("IMAGE_SCAN", Source="me"))["TaskId"]
        foreign = emulator.add_foreign("IMAGE_SCAN", source="console")

        last = call("GetLastOnceTaskInfo", **names)
        last_of_mine = call("GetLastOnceTaskInfo", **names, Source="me")

        assert none["TaskInfo"]["Result"] == "TASK_NOT_EXISTS"
        assert last["TaskId"] == foreign.task_id
        assert last_of_mine["TaskId"] == mine

    def test_listings_may_lag(self, emulator: Emulator, call: Call, clock: Clock) -> None:
        """For so long no query knows the task, though it runs."""
        emulator.behaviour.list_lag_s = 7
        emulator.behaviour.cap = 1
        task_id = call("GenerateOnceTask", **wanted())["TaskId"]
        names = {"TaskType": CHECK, "TaskName": CHECK}

        early = (
            described(call),
            call("GetOnceTaskResultInfo", **names, TaskId=task_id)["TaskInfo"],
            call("GetLastOnceTaskInfo", **names)["TaskId"],
        )
        full = refusal(call, **wanted())
        clock.now_s += 7

        assert early == ([], {}, "")
        assert full[0] == 400
        assert ids_of(described(call)) == [task_id]

    def test_the_services_clock_may_be_off(self, emulator: Emulator, call: Call) -> None:
        """Shown and compared times are the skewed clock's, in whole seconds."""
        emulator.behaviour.clock_skew_s = -3.5
        call("GenerateOnceTask", **wanted())

        (item,) = described(call, StartTimeQuery="1799999996000")
        later = described(call, StartTimeQuery="1799999997000")

        assert item["TaskStartTime"] == 1_799_999_996_000
        assert later == []

    def test_foreign_tasks_look_like_any_other(self, emulator: Emulator, call: Call) -> None:
        """A foreign task is listed by name and start; only the test knows that it is foreign."""
        task = emulator.add_foreign(CHECK, name="theirs", started_s=NOW_S - 2)

        (item,) = described(call)

        assert (item["TaskId"], item["TaskName"]) == (task.task_id, "theirs")
        assert item["TaskStartTime"] == 1_799_999_998_000
        assert (task.foreign, task.created_by_call) == (True, None)


class TestFaults:
    """Scripted faults strike the next calls, one each."""

    def test_faults_come_in_order_and_end(self, emulator: Emulator, call: Call) -> None:
        """None lets a call pass; afterwards all is well."""
        emulator.script(Refuse(403, "NoPermission"), None, Refuse(500, "ServerError"))

        first = refusal(call, **wanted())
        call("GenerateOnceTask", **wanted())
        third = refusal(call, **wanted())
        call("GenerateOnceTask", **wanted())

        assert (first, third) == ((403, "NoPermission"), (500, "ServerError"))
        assert len(emulator.tasks) == 2

    def test_a_fault_strikes_its_action_only(self, emulator: Emulator, call: Call) -> None:
        """Queries fail apart from creations."""
        emulator.script(Refuse(500, "ServerError"), action="DescribeOnceTask")

        call("GenerateOnceTask", **wanted())

        assert refusal(call, "DescribeOnceTask", TaskType=CHECK) == (500, "ServerError")
        assert len(described(call)) == 1

    def test_forget_drops_scripts_tasks_and_calls(self, emulator: Emulator, call: Call) -> None:
        """A clean start on the same port."""
        call("GenerateOnceTask", **wanted())
        emulator.script(Refuse(500, "ServerError"))

        emulator.forget()

        assert (emulator.tasks, emulator.calls) == ([], [])
        assert call("GenerateOnceTask", **wanted())["TaskId"]

    def test_a_5xx_may_hide_a_task(self, emulator: Emulator, call: Call) -> None:
        """The error is told, the work done."""
        emulator.script(Refuse(503, "ServiceUnavailable", task_made=True))

        with pytest.raises(ServerException):
            call("GenerateOnceTask", **wanted())

        assert len(emulator.tasks) == 1

    def test_throttling_may_tell_how_long(self, emulator: Emulator, call: Call) -> None:
        """With the header Tea knows it for throttling, without it only by its code."""
        emulator.script(Throttle(retry_after_ms=700), Throttle(code="Throttling.Api"))

        with pytest.raises(ThrottlingException) as told:
            call("GenerateOnceTask", **wanted())
        untold = refusal(call, **wanted())

        assert (told.value.code, told.value.retry_after) == ("Throttling.User", 700)
        assert untold == (400, "Throttling.Api")

    @pytest.mark.parametrize(
        ("fault", "tasks"),
        [
            (ResetBefore(), 0),
            (ResetAfter(), 1),
            (Silence(task_made=False), 0),
            (Silence(task_made=True), 1),
            (Unreadable(), 0),
            (Unreadable(200, "", "application/json", task_made=True), 1),
        ],
    )
    def test_an_answer_may_be_lost(self, emulator: Emulator, call: Call, fault: Fault, tasks: int) -> None:
        """Reset, silence and nonsense look alike to the client, task or no task."""
        emulator.script(fault)

        with pytest.raises(UnretryableException):
            call("GenerateOnceTask", **wanted())

        assert len(emulator.tasks) == tasks
        assert call("GenerateOnceTask", **wanted())["TaskId"]

    def test_a_reset_is_a_reset(self, emulator: Emulator) -> None:
        """RST, not an orderly end."""
        emulator.script(ResetBefore(), action="DescribeOnceTask")
        address = ("127.0.0.1", int(emulator.url.rpartition(":")[2]))
        emulator.add_operation("1", "DescribeOnceTask", lambda _: {})

        with socket.create_connection(address, timeout=5) as connection:
            connection.sendall(b"GET /?Action=DescribeOnceTask&Version=1 HTTP/1.1\r\n\r\n")
            with pytest.raises(ConnectionResetError):
                connection.recv(1)

    def test_a_wrong_signature_makes_no_task_by_any_fault(self, emulator: Emulator) -> None:
        """Faults that do the work come after the signature."""
        call = caller(emulator, secret="another")
        emulator.script(ResetAfter(), Refuse(500, "ServerError", task_made=True))

        seen = [refusal(call, **wanted()), refusal(call, **wanted())]

        assert seen == [(400, "SignatureDoesNotMatch")] * 2
        assert emulator.tasks == []

    def test_silence_leaves_no_thread(self, clock: Clock) -> None:
        """A client that still waits when the emulator closes is hung up on."""
        before = threading.active_count()
        with Emulator(clock=clock) as emulator:
            emulator.script(Silence(task_made=True))
            with pytest.raises(UnretryableException):
                caller(emulator)("GenerateOnceTask", **wanted())
            emulator.script(Silence(task_made=False))
            connection = http.client.HTTPConnection(emulator.url.removeprefix("http://"))
            headers = signed_headers(emulator, {}, action="GenerateOnceTask")
            connection.request("POST", "/", headers=headers)
            while len(emulator.calls) < 2:
                time.sleep(0.001)

        with pytest.raises(http.client.RemoteDisconnected):
            connection.getresponse()
        connection.close()
        assert threading.active_count() == before

    def test_a_task_may_come_late(self, emulator: Emulator, call: Call, clock: Clock) -> None:
        """The connection is gone, and so long after it the task starts."""
        emulator.script(LateTask(delay_s=40))

        with pytest.raises(UnretryableException):
            call("GenerateOnceTask", **wanted())
        early = emulator.tasks
        clock.now_s += 41
        (item,) = described(call)

        assert early == []
        assert item["TaskStartTime"] == 1_800_000_040_000
        assert item["TaskStatusText"] == "INIT"
        assert emulator.tasks[0].created_by_call == 1

    def test_a_redirect_is_one_that_clients_follow(self, emulator: Emulator) -> None:
        """A client that follows a 307 sends its request again; the same nonce betrays it."""
        query = wanted()
        emulator.script(Redirect(307, f"{emulator.url}/?{urlencode(query)}"))
        headers = signed_headers(emulator, query, action="GenerateOnceTask")

        answer = requests.post(emulator.url, params=query, headers=headers, timeout=5)

        assert (answer.status_code, answer.json()["Code"]) == (400, "SignatureNonceUsed")
        assert len(emulator.calls) == 2

    @pytest.mark.parametrize("answer", ["code", "can_create_false"])
    def test_the_cap_can_be_played(self, emulator: Emulator, call: Call, answer: CapAnswer) -> None:
        """At the cap though nothing runs."""
        emulator.behaviour.cap_answer = answer
        emulator.script(CapReached())

        if answer == "code":
            assert "Limit" in refusal(call, **wanted())[1]
        else:
            assert call("GenerateOnceTask", **wanted())["CanCreate"] is False

        assert emulator.tasks == []

    @pytest.mark.parametrize(
        ("fault", "seen"),
        [
            (CanCreateFalse(), {"has_id": True, "can_create": False, "tasks": 1}),
            (NoTaskId(), {"has_id": False, "can_create": True, "tasks": 0}),
            (NoTaskId(task_made=True), {"has_id": False, "can_create": True, "tasks": 1}),
        ],
    )
    def test_id_and_can_create_need_not_agree(
        self, emulator: Emulator, call: Call, fault: Fault, seen: dict[str, int]
    ) -> None:
        """The documents leave open what the two mean together."""
        emulator.script(fault)

        answer = call("GenerateOnceTask", **wanted())

        assert {
            "has_id": "TaskId" in answer,
            "can_create": answer["CanCreate"],
            "tasks": len(emulator.tasks),
        } == seen

    def test_a_refusal_may_be_slow_too(self, emulator: Emulator, call: Call) -> None:
        """Slow is about time, not about what is said."""
        emulator.script(Slow(0.01))

        assert refusal(call, TaskType=CHECK) == (400, "-101")

    def test_an_answer_may_be_slow(self, emulator: Emulator, call: Call) -> None:
        """The work is done at once, the answer comes in its own time, and nobody else waits."""
        emulator.script(Slow(0.15), Slow(60))
        started_s = time.monotonic()

        answer = call("GenerateOnceTask", **wanted())
        took_s = time.monotonic() - started_s
        with pytest.raises(UnretryableException):
            call("GenerateOnceTask", **wanted())

        assert answer["TaskId"]
        assert took_s >= 0.15
        assert len(emulator.tasks) == 2


class TestConnections:
    """A real server, that can go away and come back."""

    def test_a_connection_is_kept_alive(self, emulator: Emulator, call: Call) -> None:
        """Many calls, one connection."""
        for _ in range(5):
            call("DescribeOnceTask", TaskType=CHECK)

        assert emulator.connections == 1
        assert len(emulator.calls) == 5

    def test_a_client_may_ask_for_the_end(self, emulator: Emulator) -> None:
        """`Connection: close` and HTTP/1.0 are obeyed."""
        address = ("127.0.0.1", int(emulator.url.rpartition(":")[2]))

        with socket.create_connection(address, timeout=5) as connection:
            connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
            answer = b"".join(iter(lambda: connection.recv(4096), b""))

        assert b"\r\nConnection: close\r\n" in answer

    def test_down_is_refused_and_up_is_the_same_again(self, emulator: Emulator, call: Call) -> None:
        """Connects are refused meanwhile; port, tasks and nonces are as they were."""
        call("GenerateOnceTask", **wanted())
        url = emulator.url
        address = ("127.0.0.1", int(url.rpartition(":")[2]))

        emulator.down()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(address, timeout=5)
        with pytest.raises(UnretryableException):
            call("GenerateOnceTask", **wanted())
        emulator.up()

        assert emulator.url == url
        assert call("GenerateOnceTask", **wanted())["TaskId"]
        assert len(emulator.tasks) == 2

    def test_down_and_up_may_be_said_twice(self, emulator: Emulator, call: Call) -> None:
        """Both say what shall be, not what shall change."""
        emulator.down()
        emulator.down()
        emulator.up()
        emulator.up()

        assert call("GenerateOnceTask", **wanted())["TaskId"]

    def test_a_given_port_is_used(self, emulator: Emulator) -> None:
        """Also right after another emulator left it."""
        url = emulator.url
        caller(emulator)("GenerateOnceTask", **wanted())
        emulator.close()

        with Emulator(port=int(url.rpartition(":")[2])) as another:
            assert another.url == url

    def test_many_clients_at_once_are_counted_right(self, emulator: Emulator) -> None:
        """The cap holds however many ask at the same moment."""
        emulator.behaviour.cap_answer = "can_create_false"
        answers: list[dict[str, Any]] = []

        def ask() -> None:
            query = wanted()
            for number in range(5):
                headers = signed_headers(
                    emulator,
                    query,
                    action="GenerateOnceTask",
                    x_acs_signature_nonce=f"{threading.get_ident()}-{number}",
                )
                answers.append(send(emulator, headers, query)[1])

        threads = [threading.Thread(target=ask) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert len(answers) == 40
        assert sum("TaskId" in answer for answer in answers) == 10 == len(emulator.tasks)

    def test_a_call_tells_what_arrived(self, emulator: Emulator, call: Call) -> None:
        """Action, parameters, headers in lower case, and the query's length."""
        call("DescribeOnceTask", TaskType=CHECK)

        (seen,) = emulator.calls

        assert (seen.action, seen.version) == ("DescribeOnceTask", "2018-12-03")
        assert seen.parameters == {"TaskType": CHECK}
        assert seen.headers["x-acs-action"] == "DescribeOnceTask"
        assert seen.query_bytes == len(f"TaskType={CHECK}")

    def test_calls_are_quick(self) -> None:
        """A thousand calls in a few seconds, the client's own work included."""
        with Emulator(behaviour=Behaviour(cap=10_000)) as emulator:
            call = caller(emulator)
            started_s = time.monotonic()

            for _ in range(500):
                call("GenerateOnceTask", **wanted())

            assert time.monotonic() - started_s < 5
