"""The one door to Security Center, alone: what goes out, how long, and what comes of whatever comes back."""

import inspect
import json
import os
import socket
import ssl
import struct
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType

import alibabacloud_credentials.exceptions
import alibabacloud_tea_openapi.exceptions
import darabonba.exceptions
import pytest
import Tea.exceptions
import urllib3
from darabonba.policy.retry import RetryPolicyContext

from local.emulator import (
    ACCESS_KEY_ID,
    ACCESS_KEY_SECRET,
    Emulator,
    EndState,
    Fault,
    Redirect,
    Refuse,
    ResetAfter,
    ResetBefore,
    Silence,
    Slow,
    Throttle,
    Unreadable,
)
from local.emulator.behaviour import DescribeId
from local.emulator.server import VERSION
from oncetask.alibaba.answers import LONGEST_RETRY_AFTER_MS, MESSAGE_CHARS, Translator
from oncetask.alibaba.security_center import DESCRIBED_TYPES, IDLE_S, PAGE_SIZE, Endpoint, SecurityCenter
from oncetask.alibaba.session import Exchange
from oncetask.app import SystemClock
from oncetask.clock import Clock, Deadline
from oncetask.credentials import Credentials, FixedKeys, Keys
from oncetask.errors import Code, CredentialsUnavailable, Kind, QueryFailed
from oncetask.models import Answer, Ended, Outcome, Progress, TaskRequest
from oncetask.proxies import Proxies
from tests.answers import ROWS, Row
from tests.clocks import FakeClock
from tests.conftest import MakeApp
from tests.loopback import answering_by_tls, listening, self_signed, tunnel_proxy

KEYS = Keys(ACCESS_KEY_ID, ACCESS_KEY_SECRET)
CHECK = TaskRequest(
    task_type="CLIENT_PROBLEM_CHECK",
    task_name="CLIENT_PROBLEM_CHECK",
    param={"mode": 1, "problemType": "offline", "uuids": "inet-1,inet-2"},
    source="oncetask",
)
COLLECTION = TaskRequest(
    task_type="ASSETS_COLLECTION",
    task_name="ASSETS_COLLECTION",
    param={"items": "PORT_SNAPSHOT"},
    source="oncetask",
)


def door(
    url: str,
    *,
    tls: bool = False,
    credentials: Credentials | None = None,
    connect_timeout_ms: int = 2000,
    read_timeout_ms: int = 5000,
) -> SecurityCenter:
    """A client of its own towards that URL's host."""
    return SecurityCenter(
        endpoint=Endpoint(url.removeprefix("http://"), tls=tls),
        credentials=credentials or FixedKeys(KEYS),
        connect_timeout_ms=connect_timeout_ms,
        read_timeout_ms=read_timeout_ms,
    )


def soon(seconds: float = 30, clock: Clock | None = None) -> Deadline:
    """The end of an invocation that has so many seconds left."""
    return Deadline.after(seconds, clock or SystemClock())


def told(answer: Answer) -> tuple[Outcome, str | None, Kind | None]:
    """What decides over the event."""
    error = answer.error
    return answer.outcome, error and error.code, error and error.kind


NOT_CONNECTED = (Outcome.NOT_CONNECTED, "NotConnected", Kind.REMOTE)
NO_ANSWER = (Outcome.LOST, "NoAnswer", Kind.UNKNOWN)
UNREADABLE = (Outcome.LOST, "AnswerUnreadable", Kind.UNKNOWN)


def answering(raw: bytes) -> Callable[[socket.socket], object]:
    """Reads a request, sends exactly these bytes, hangs up."""

    def serve(connection: socket.socket) -> None:
        connection.recv(65_536)
        connection.sendall(raw)

    return serve


def trickling(raw: bytes) -> Callable[[socket.socket], object]:
    """Reads a request and sends these bytes so slowly that no single receive times out."""

    def serve(connection: socket.socket) -> None:
        connection.recv(65_536)
        for byte in raw:
            connection.sendall(bytes([byte]))
            time.sleep(0.05)

    return serve


def hang_up(connection: socket.socket) -> None:
    """A reset at once, before anything is read."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def closed_port() -> int:
    """A port of loopback that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


# -- the contract's table -------------------------------------------------------------------------


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_each_answer_of_the_contract_is_told_by_its_code(
    row: Row, make_app: MakeApp, emulator: Emulator
) -> None:
    """Outcome, code, kind and whether asks may go on are the table's, after one call at most."""
    environment = row.arrange(emulator)
    center = make_app(**environment).security_center

    answer = center.generate(COLLECTION, soon())

    assert told(answer) == (row.outcome, row.code, row.kind)
    assert (answer.closes_type, answer.ends_asking) == (row.ends == "type", row.ends == "everything")
    assert len(emulator.calls) == row.calls
    assert Answer.model_validate_json(answer.model_dump_json(by_alias=True)) == answer


def test_every_outcome_is_in_the_table() -> None:
    """No outcome exists that the contract does not speak of."""
    assert {row.outcome for row in ROWS} == set(Outcome)


# -- what goes out --------------------------------------------------------------------------------


def test_a_request_travels_as_it_was_meant(emulator: Emulator) -> None:
    """The four fields arrive as text, Param as compact JSON with every character intact."""
    request = CHECK.model_copy(update={"param": {"uuids": "a,b", "note": 'é & "=+/?'}})

    door(emulator.url).generate(request, soon())

    parameters = emulator.calls[0].parameters
    assert parameters == {
        "TaskType": "CLIENT_PROBLEM_CHECK",
        "TaskName": "CLIENT_PROBLEM_CHECK",
        "Param": '{"uuids":"a,b","note":"é & \\"=+/?"}',
        "Source": "oncetask",
    }


def test_a_nonce_is_new_and_not_teas(emulator: Emulator) -> None:
    """It is from the system's randomness: Tea's own repeats itself in two restored snapshots."""
    center = door(emulator.url)

    for _ in range(2):
        center.generate(CHECK, soon())

    first, second = (uuid.UUID(call.headers["x-acs-signature-nonce"]) for call in emulator.calls)
    assert first != second
    assert first.version == second.version == 4


def test_calls_share_one_connection(emulator: Emulator) -> None:
    """Creating, searching and following go over one kept-alive connection."""
    center = door(emulator.url)

    answer = center.generate(CHECK, soon())
    center.follow("CLIENT_PROBLEM_CHECK", answer.task_id or "", "CLIENT_PROBLEM_CHECK", soon())
    center.last_task("ASSETS_COLLECTION", "ASSETS_COLLECTION", soon())
    center.generate(COLLECTION, soon())

    assert (len(emulator.calls), emulator.connections) == (4, 1)


def test_a_connection_that_idled_is_not_asked_over(emulator: Emulator) -> None:
    """After a freeze its peer may be gone, and a create into it would be lost: a new one is opened."""
    clock = FakeClock()
    center = door(emulator.url)
    center.generate(CHECK, soon(clock=clock))
    clock.advance(IDLE_S + 1)

    answer = center.generate(CHECK, soon(clock=clock))

    assert (answer.outcome, emulator.connections) == (Outcome.CREATED, 2)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed(emulator: Emulator, status: int) -> None:
    """The host that a redirect points to hears nothing; the answer is unreadable, and its status known."""
    with Emulator() as elsewhere:
        emulator.script(Redirect(status, f"{elsewhere.url}/"))

        answer = door(emulator.url).generate(CHECK, soon())

        assert elsewhere.calls == []
    assert told(answer) == UNREADABLE
    assert answer.error is not None
    assert answer.error.http_status == status


def test_a_redirect_that_tells_a_task_id_is_unreadable_all_the_same() -> None:
    """Only an answer of success tells a task."""
    body = b'{"TaskId": "0a"}'
    head = b"HTTP/1.1 307 Temporary Redirect\r\nContent-Length: %d\r\nLocation: /\r\n\r\n" % len(body)
    with listening(answering(head + body)) as url:
        answer = door(url).generate(CHECK, soon())

    assert told(answer) == UNREADABLE


def test_a_programming_error_is_no_answer(emulator: Emulator) -> None:
    """A value that cannot be sent is raised, nothing is sent, and the next call works."""
    broken = TaskRequest.model_construct(task_type=7, task_name="x", param={}, source="x")
    center = door(emulator.url)

    with pytest.raises(TypeError):
        center.generate(broken, soon())

    assert emulator.calls == []
    assert center.generate(CHECK, soon()).outcome is Outcome.CREATED


def test_a_client_starts_no_thread() -> None:
    """Explicit keys keep Tea's credential chain, its scheduler and its metadata probes away."""
    before = set(threading.enumerate())

    door("http://127.0.0.1:1")

    assert set(threading.enumerate()) == before


# -- time -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("left_s", "longest_s"), [(1.4, 0.2), (1.2, 0.1), (30, 1.0)])
def test_a_silent_call_ends_one_second_before_the_invocation(
    emulator: Emulator, left_s: float, longest_s: float
) -> None:
    """Connecting and reading are shortened together; with time left they end by their own time-outs."""
    emulator.script(Silence(task_made=True))
    center = door(emulator.url, connect_timeout_ms=1000, read_timeout_ms=1000)
    deadline = soon(left_s)
    began_s = time.monotonic()

    answer = center.generate(CHECK, deadline)

    assert told(answer) == NO_ANSWER
    assert time.monotonic() - began_s < longest_s + 0.5


@pytest.mark.parametrize(("left_s", "may_begin"), [(1.05, False), (1.2, True), (-3, False)])
def test_no_call_begins_in_an_invocations_last_second(left_s: float, *, may_begin: bool) -> None:
    """The last second is for the ledger."""
    center = door("http://127.0.0.1:1")

    assert center.has_time(soon(left_s, FakeClock())) == may_begin


def test_a_connect_time_out_is_not_connected() -> None:
    """A peer that never accepts was never asked."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(0)
        address = server.getsockname()
        waiting = [socket.socket() for _ in range(3)]
        for each in waiting:
            each.setblocking(False)  # noqa: FBT003 - the socket module's own signature
            each.connect_ex(address)

        answer = door(f"127.0.0.1:{address[1]}", connect_timeout_ms=150).generate(CHECK, soon())

        for each in waiting:
            each.close()
    assert told(answer) == NOT_CONNECTED


# -- connections that break -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (b"", NO_ANSWER),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 40\r\n\r\n{", NO_ANSWER),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{", NO_ANSWER),
        (b"no such protocol\r\n\r\n", NO_ANSWER),
        (b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 2\r\n\r\n{}", UNREADABLE),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n\xff\xfe", UNREADABLE),
        (b"HTTP/1.1 599 Odd\r\nContent-Length: 0\r\n\r\n", UNREADABLE),
    ],
)
def test_a_broken_answer_is_unknown(raw: bytes, expected: tuple[object, ...]) -> None:
    """What was sent may have made a task, however little of the answer arrives."""
    with listening(answering(raw)) as url:
        answer = door(url).generate(CHECK, soon())

    assert told(answer) == expected


@pytest.mark.parametrize(
    "head", [b"HTTP/1.1 200 OK\r\nX-Filler: ", b"HTTP/1.1 200 OK\r\nContent-Length: 400\r\n\r\n"]
)
def test_an_answer_that_trickles_ends_with_its_call(head: bytes) -> None:
    """However it is fed, headers or body: the read time-out holds for all of it."""
    with listening(trickling(head + b"x" * 40)) as url:
        began_s = time.monotonic()
        answer = door(url, connect_timeout_ms=150, read_timeout_ms=300).generate(CHECK, soon())
        took_s = time.monotonic() - began_s

    assert told(answer) == NO_ANSWER
    assert 0.25 < took_s < 1.5


def test_an_answer_that_is_there_is_taken_however_late() -> None:
    """A process that was frozen while it waited finds it, and the time up."""
    clock = FakeClock()
    body = json.dumps({"TaskId": "t-1", "Filler": "x" * 40_000}).encode()
    head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body)

    def serve(connection: socket.socket) -> None:
        connection.recv(65_536)
        clock.advance(3600)
        connection.sendall(head + body)

    with listening(serve) as url:
        answer = door(url).generate(CHECK, soon(clock=clock))

    assert answer.task_id == "t-1"


def test_an_answer_that_trickles_ends_a_second_before_the_invocation() -> None:
    """Whatever its own time-outs are."""
    with listening(trickling(b"HTTP/1.1 200 OK\r\nContent-Length: 400\r\n\r\n" + b"x" * 40)) as url:
        began_s = time.monotonic()
        answer = door(url).generate(CHECK, soon(1.5))
        took_s = time.monotonic() - began_s

    assert told(answer) == NO_ANSWER
    assert took_s < 1.4


def test_a_reset_while_connecting_with_tls_is_not_connected() -> None:
    """Before the handshake has ended nothing is sent, so nothing can have been made."""
    with listening(hang_up) as url:
        answer = door(url, tls=True).generate(CHECK, soon())

    assert told(answer) == NOT_CONNECTED


def test_a_silent_tls_handshake_is_not_connected() -> None:
    """Waiting for the peer's part of the handshake is connecting, not asking."""
    with listening(lambda connection: [connection.recv(65_536) for _ in range(2)]) as url:
        answer = door(url, tls=True, connect_timeout_ms=150, read_timeout_ms=150).generate(CHECK, soon())

    assert told(answer) == NOT_CONNECTED


def test_tls_towards_plain_http_is_not_connected(emulator: Emulator) -> None:
    """A peer that does not speak TLS is never asked."""
    answer = door(emulator.url, tls=True).generate(CHECK, soon())

    assert told(answer) == NOT_CONNECTED
    assert emulator.calls == []


def test_a_certificate_that_nobody_signed_is_the_operators(tmp_path: Path) -> None:
    """It is not connected, and waiting alone mends nothing."""
    context = self_signed(tmp_path)

    def serve(connection: socket.socket) -> None:
        context.wrap_socket(connection, server_side=True).close()

    with listening(serve) as url:
        answer = door(url, tls=True).generate(CHECK, soon())

    assert told(answer) == (Outcome.NOT_CONNECTED, "NotConnected", Kind.OPERATOR)
    assert answer.closes_type or answer.ends_asking


def test_plain_http_towards_tls_is_unknown(tmp_path: Path) -> None:
    """Who answered is not known, so neither is what was done: the sending counts."""
    context = self_signed(tmp_path)

    def serve(connection: socket.socket) -> None:
        with suppress(ssl.SSLError):
            context.wrap_socket(connection, server_side=True)

    with listening(serve) as url:
        answer = door(url).generate(CHECK, soon())

    assert told(answer) == NO_ANSWER


def test_a_lost_answer_stays_lost_while_another_failure_is_handled(emulator: Emulator) -> None:
    """A connection that the caller could not open elsewhere says nothing about this call."""
    emulator.script(ResetAfter())
    center = door(emulator.url)
    refused = f"http://127.0.0.1:{closed_port()}"

    with urllib3.PoolManager(retries=False) as pool:
        try:
            pool.request("GET", refused)
        except urllib3.exceptions.HTTPError:
            answer = center.generate(CHECK, soon())

    assert told(answer) == NO_ANSWER


# -- in a process of its own ----------------------------------------------------------------------

PROGRAM = """
import logging, os, socket, sys, time
logging.basicConfig(level=logging.DEBUG)
look_up = socket.getaddrinfo
def look_up_slowly(*args, **kwargs):
    time.sleep(float(os.environ.get("LOOKUP_S", "0")))
    return look_up(*args, **kwargs)
socket.getaddrinfo = look_up_slowly
from oncetask.clock import Deadline
from oncetask.credentials import FixedKeys, Keys
from oncetask.models import TaskRequest
from oncetask.proxies import Proxies
from oncetask.alibaba.security_center import Endpoint, SecurityCenter
from oncetask.app import SystemClock
host, tls, path = sys.argv[1:]
read = 0
def count(frame, event, called):
    global read
    names = ("load_verify_locations", "set_default_verify_paths")
    read += event == "c_call" and called.__name__ in names
sys.setprofile(count if "COUNT" in os.environ else None)
url = f"{'https' if tls == 'tls' else 'http'}://{host}"
center = SecurityCenter(
    endpoint=Endpoint.of(url, Proxies(os.environ)),
    credentials=FixedKeys(Keys("LTAIemulator", "emulator-secret")),
    connect_timeout_ms=int(os.environ.get("CONNECT_MS", "2000")), read_timeout_ms=2000,
)
request = TaskRequest(task_type="IMAGE_SCAN", task_name="IMAGE_SCAN", param={}, source="oncetask")
left_s = float(os.environ.get("LEFT_S", "30"))
with open(path, "w") as out:
    for _ in range(2):
        answer = center.generate(request, Deadline.after(left_s, SystemClock()))
        if "COUNT" in os.environ:
            print(read)
        print(answer.model_dump_json(by_alias=True), file=out)
"""


@dataclass(frozen=True)
class Ran:
    """What a process printed, and its answers."""

    printed: str
    answers: list[Answer]


def run(path: Path, host: str, *, tls: bool = False, **environment: str) -> Ran:
    """Two calls in a process with these variables."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, host, "tls" if tls else "plain", str(path)],
        env={**os.environ, "PYTHONPATH": "src", **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    lines = path.read_text().splitlines()
    return Ran(done.stdout + done.stderr, [Answer.model_validate_json(line) for line in lines])


def test_certificates_are_read_once_and_hold_for_every_connection(tmp_path: Path) -> None:
    """An authority of the machine's is trusted, also by the second connection, for which no file is read."""
    serve = answering_by_tls(self_signed(tmp_path), b'{"TaskId":"t-1"}')

    with listening(serve) as url:
        host = url.removeprefix("http://")
        ran = run(tmp_path / "out", host, tls=True, SSL_CERT_FILE=str(tmp_path / "server.pem"), COUNT="1")

    assert [answer.task_id for answer in ran.answers] == ["t-1", "t-1"]
    assert ran.printed.split() == ["2", "2"]  # the machine's and certifi's


def test_without_tls_no_certificate_is_read(emulator: Emulator, tmp_path: Path) -> None:
    """Reading all of the machine's takes longer than the call."""
    ran = run(tmp_path / "out", emulator.url.removeprefix("http://"), COUNT="1")

    assert [answer.outcome for answer in ran.answers] == [Outcome.CREATED] * 2
    assert ran.printed.split() == ["0", "0"]


def test_a_name_that_is_found_late_takes_nothing_from_its_answer(emulator: Emulator, tmp_path: Path) -> None:
    """No time-out covers a lookup; what was asked after it gets its whole read time-out."""
    emulator.script(Slow(1.5), Slow(1.5))

    ran = run(tmp_path / "out", emulator.url.removeprefix("http://"), LOOKUP_S="1", CONNECT_MS="150")

    assert [answer.outcome for answer in ran.answers] == [Outcome.CREATED] * 2


def test_who_is_connected_too_late_for_an_answer_asks_nothing(emulator: Emulator, tmp_path: Path) -> None:
    """The call had 0.5 s: it would have had to end before."""
    ran = run(tmp_path / "out", emulator.url.removeprefix("http://"), LOOKUP_S="0.8", LEFT_S="1.5")

    assert [told(answer) for answer in ran.answers] == [NOT_CONNECTED] * 2
    assert emulator.calls == []


def test_nothing_is_printed_although_the_environment_asks_tea_to(emulator: Emulator, tmp_path: Path) -> None:
    """DEBUG=sdk, a root logger at DEBUG and a failing call: not a line, so no signature or query either."""
    emulator.script(None, ResetBefore())

    ran = run(tmp_path / "out", emulator.url.removeprefix("http://"), DEBUG="sdk")

    assert ran.printed == ""
    assert [answer.outcome for answer in ran.answers] == [Outcome.CREATED, Outcome.LOST]


# -- proxies --------------------------------------------------------------------------------------

ELSEWHERE = "security-center.invalid"


def test_a_call_goes_by_tls_through_the_proxy_of_the_environment(tmp_path: Path) -> None:
    """By CONNECT, one tunnel a connection; certificates are read once here, too."""
    serve = answering_by_tls(self_signed(tmp_path, ELSEWHERE), b'{"TaskId":"t-1"}')

    with listening(serve) as url, tunnel_proxy(url) as proxy:
        ran = run(
            tmp_path / "out",
            ELSEWHERE,
            tls=True,
            HTTPS_PROXY=proxy.url,
            SSL_CERT_FILE=str(tmp_path / "server.pem"),
            COUNT="1",
        )

    assert [answer.task_id for answer in ran.answers] == ["t-1", "t-1"]
    assert proxy.places == [f"{ELSEWHERE}:443"] * 2
    assert ran.printed.split() == ["2", "2"]


def test_a_proxy_is_told_who_asks(tmp_path: Path) -> None:
    """User and password of its URL, as a proxy of that kind wants them."""
    serve = answering_by_tls(self_signed(tmp_path), b"{}")

    with listening(serve) as url, tunnel_proxy(url) as proxy:
        door_by(proxy.url.replace("//", "//me:s%20t@")).generate(CHECK, soon())

    assert [line for line in proxy.asked[0] if line.lower().startswith("proxy-auth")] == [
        "Proxy-Authorization: Basic bWU6cyB0"
    ]


def test_whom_the_proxy_connects_with_must_prove_itself(tmp_path: Path) -> None:
    """A proxy that listens in gets no request."""
    serve = answering_by_tls(self_signed(tmp_path, ELSEWHERE), b'{"TaskId":"t-1"}')

    with listening(serve) as url, tunnel_proxy(url) as proxy:
        answer = door_by(proxy.url).generate(CHECK, soon())

    assert told(answer) == (Outcome.NOT_CONNECTED, "NotConnected", Kind.OPERATOR)


def test_the_apps_environment_names_the_proxy(make_app: MakeApp, tmp_path: Path) -> None:
    """Beside its other variables."""
    serve = answering_by_tls(self_signed(tmp_path), b"{}")

    with listening(serve) as url, tunnel_proxy(url) as proxy:
        app = make_app(ONCETASK_ENDPOINT=ELSEWHERE, HTTPS_PROXY=proxy.url)
        app.security_center.generate(CHECK, soon())

    assert proxy.places == [f"{ELSEWHERE}:443"]


def test_who_is_an_exception_is_reached_without_a_proxy() -> None:
    """NO_PROXY holds, which Tea itself does not honour; and nobody has that name."""
    with listening(hang_up) as nobody, tunnel_proxy(nobody) as proxy:
        answer = door_by(proxy.url, no_proxy=".invalid").generate(CHECK, soon())

    assert told(answer) == NOT_CONNECTED
    assert proxy.asked == []


@pytest.mark.parametrize("variable", ["HTTP_PROXY", "http_proxy"])
def test_loopback_is_reached_without_a_proxy(emulator: Emulator, tmp_path: Path, variable: str) -> None:
    """Also where nothing says so."""
    proxy = f"http://127.0.0.1:{closed_port()}"

    ran = run(tmp_path / "out", emulator.url.removeprefix("http://"), **{variable: proxy})

    assert [answer.outcome for answer in ran.answers] == [Outcome.CREATED] * 2


def test_a_proxy_that_refuses_is_not_connected() -> None:
    """HTTPS_PROXY towards nobody: nothing was sent."""
    answer = door_by(f"http://127.0.0.1:{closed_port()}").generate(CHECK, soon())

    assert told(answer) == NOT_CONNECTED


def test_a_proxy_that_opens_no_tunnel_is_not_connected() -> None:
    """A proxy that answers CONNECT with an error has sent nothing on."""
    with listening(answering(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n")) as proxy:
        answer = door_by(proxy).generate(CHECK, soon())

    assert told(answer) == NOT_CONNECTED


def door_by(proxy: str, no_proxy: str = "") -> SecurityCenter:
    """A client towards a host that only the proxy knows."""
    proxies = Proxies({"HTTPS_PROXY": proxy, "NO_PROXY": no_proxy})
    return SecurityCenter(
        endpoint=Endpoint.of(f"https://{ELSEWHERE}", proxies),
        credentials=FixedKeys(KEYS),
        connect_timeout_ms=2000,
        read_timeout_ms=5000,
    )


# -- what is told ---------------------------------------------------------------------------------

TOKEN = "sts-token-of-the-test"
SIGNATURE = "0f" * 32


@pytest.mark.parametrize("code", ["SignatureDoesNotMatch", "IncompleteSignature", "InvalidParameter", "Odd"])
def test_a_message_holds_no_key_and_no_signature(emulator: Emulator, code: str) -> None:
    """The service may echo what was signed; it ends here."""
    keys = Keys(ACCESS_KEY_ID, ACCESS_KEY_SECRET, TOKEN)
    emulator.credentials[ACCESS_KEY_ID] = (ACCESS_KEY_SECRET, TOKEN)
    echo = f"signed: x-acs-security-token:{TOKEN} {ACCESS_KEY_ID} {ACCESS_KEY_SECRET} Signature={SIGNATURE}"
    emulator.script(Refuse(400, code, echo))

    answer = door(emulator.url, credentials=FixedKeys(keys)).generate(CHECK, soon())

    text = answer.model_dump_json()
    assert answer.error is not None
    assert answer.error.code == code
    assert not [secret for secret in (TOKEN, ACCESS_KEY_ID, ACCESS_KEY_SECRET, SIGNATURE) if secret in text]


def test_texts_from_outside_are_bounded(emulator: Emulator) -> None:
    """A service that talks without end fills no ledger."""
    emulator.script(Refuse(403, "NoPermission" + "x" * 10_000, "y" * 100_000))

    answer = door(emulator.url).generate(CHECK, soon())

    assert answer.error is not None
    assert len(answer.error.code) == 100
    assert len(answer.error.message) < MESSAGE_CHARS + 200


def test_texts_that_utf8_cannot_hold_are_kept_readable() -> None:
    """Lone surrogates in an answer do not keep it from being recorded."""
    body = rb'{"Code": "Odd\ud800", "Message": "\udfff", "RequestId": "\ud800"}'
    head = b"HTTP/1.1 400 Bad Request\r\nContent-Length: %d\r\n\r\n" % len(body)
    with listening(answering(head + body)) as url:
        answer = door(url).generate(CHECK, soon())

    assert told(answer) == (Outcome.UNLISTED, "Odd?", Kind.OPERATOR)
    assert answer.model_dump_json()


@pytest.mark.parametrize("code", ["NoPermission", "Forbidden.RAM"])
def test_a_missing_permission_says_what_to_allow(emulator: Emulator, code: str) -> None:
    """Both names of the action are told, because the service has two."""
    emulator.script(Refuse(403, code, "caller has no permission"))

    answer = door(emulator.url).generate(CHECK, soon())

    assert answer.error is not None
    assert "yundun-aegis:GenerateOnceTask" in answer.error.message
    assert "yundun-sas:GenerateOnceTask" in answer.error.message


def test_an_unreadable_answers_status_is_told(emulator: Emulator) -> None:
    """The operator sees that a gateway answered 502."""
    emulator.script(Unreadable(502))

    answer = door(emulator.url).generate(CHECK, soon())

    assert answer.error is not None
    assert answer.error.http_status == 502


def test_an_error_carries_the_services_own_words(emulator: Emulator) -> None:
    """Code, message, HTTP status and request id are the service's."""
    emulator.script(Refuse(400, "IllegalParam", "uuid inet-1 is unknown"))

    answer = door(emulator.url).generate(CHECK, soon())

    error = answer.error
    assert error is not None
    assert (error.message, error.http_status) == ("uuid inet-1 is unknown", 400)
    assert error.request_id


def test_an_odd_field_does_not_cost_the_others() -> None:
    """A created task's response keeps whatever has a shape that can be told."""
    body = b'{"TaskId": 12, "LastTask": {}, "TotalCount": 100, "FinishCount": "61", "CanCreate": true}'
    head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body)
    with listening(answering(head + body)) as url:
        answer = door(url).generate(CHECK, soon())

    response = answer.response
    assert response is not None
    assert (answer.task_id, response.last_task, response.total_count) == ("12", None, 100)
    assert (response.finish_count, response.can_create) == ("61", True)


def test_a_created_tasks_response_can_always_be_told() -> None:
    """Whatever stands in a field beside the id, lone surrogates included; empty texts stay."""
    body = (
        rb'{"TaskId":"t-1","LastTask":"\ud800","TotalCount":"\udfff","CollectTime":"\ud800","FinishCount":""}'
    )
    head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body)
    with listening(answering(head + body)) as url:
        answer = door(url).generate(CHECK, soon())

    told_again = Answer.model_validate_json(answer.model_dump_json())
    assert told_again == answer
    assert answer.response is not None
    assert (answer.task_id, answer.response.last_task, answer.response.finish_count) == ("t-1", "?", "")


@pytest.mark.parametrize(
    ("fault", "expected_ms"),
    [
        (Throttle(), None),
        (Throttle(retry_after_ms=1500), 1500),
        (Throttle(retry_after_ms=0), None),
        (Throttle(retry_after_ms=10**400), LONGEST_RETRY_AFTER_MS),
        (Throttle(retry_after_ms=1500, code="NoPermission"), None),
        (Throttle(retry_after_ms=1500, code="ServiceBusy"), None),
    ],
)
def test_the_service_says_how_long_throttling_lasts(
    emulator: Emulator, fault: Throttle, expected_ms: int | None
) -> None:
    """`x-acs-retry-after` counts for throttling alone, in milliseconds, and a day at most."""
    emulator.script(fault)

    answer = door(emulator.url).generate(CHECK, soon())

    assert answer.retry_after_ms == expected_ms


# -- keys -----------------------------------------------------------------------------------------


@dataclass
class LentKeys:
    """Keys that take a time to fetch, once, or cannot be fetched."""

    clock: FakeClock
    takes_s: float = 0.0
    is_open: bool = True
    fetched: int = 0
    renewable: bool = True

    def keys(self) -> Keys:
        """Fetched by the first who asks."""
        if self.fetched == 0 or not self.is_open:
            self.fetched += 1
            self.clock.advance(self.takes_s)
        if not self.is_open:
            raise CredentialsUnavailable("closed", code="Closed")
        return KEYS

    def renew(self) -> bool:
        """There are no newer ones."""
        return False


def test_keys_are_fetched_by_preparing_and_not_by_asking_for_the_time(emulator: Emulator) -> None:
    """Reading how much time is left calls nobody; what preparing took is seen in it."""
    clock = FakeClock()
    keys = LentKeys(clock, takes_s=29.5)
    center = door(emulator.url, credentials=keys)
    deadline = soon(30, clock)

    before = center.has_time(deadline), keys.fetched
    center.prepare(deadline)

    assert before == (True, 0)
    assert (center.has_time(deadline), keys.fetched) == (False, 1)


def test_preparing_raises_nothing_and_the_call_says_why(emulator: Emulator) -> None:
    """Who prepares has no answer to give."""
    center = door(emulator.url, credentials=LentKeys(FakeClock(), is_open=False))

    center.prepare(soon())

    assert told(center.generate(CHECK, soon())) == (Outcome.OPERATOR, "Closed", Kind.OPERATOR)
    assert emulator.calls == []


def test_nothing_is_fetched_without_time_for_a_call() -> None:
    """In an invocation's last second."""
    clock = FakeClock()
    keys = LentKeys(clock)

    door("http://127.0.0.1:1", credentials=keys).prepare(soon(1.0, clock))

    assert keys.fetched == 0


def test_keys_that_took_all_the_time_send_nothing(emulator: Emulator) -> None:
    """The event waits, and nothing is wrong."""
    clock = FakeClock()
    keys = LentKeys(clock, takes_s=29.5)

    answer = door(emulator.url, credentials=keys).generate(CHECK, soon(30, clock))

    assert (answer.outcome, answer.error, emulator.calls) == (Outcome.NOT_CONNECTED, None, [])


@dataclass
class RenewableKeys:
    """Temporary keys, of which each renewal gives the next."""

    tokens: list[str]
    lasting_s: float = 0.0
    clock: FakeClock = field(default_factory=FakeClock)
    renewals: int = 0
    renewable: bool = True

    def keys(self) -> Keys:
        return Keys(ACCESS_KEY_ID, ACCESS_KEY_SECRET, self.tokens[min(self.renewals, len(self.tokens) - 1)])

    def renew(self) -> bool:
        self.clock.advance(self.lasting_s)
        self.renewals += 1
        return True


@pytest.fixture
def fresh_token(emulator: Emulator) -> str:
    """The emulator's own token; "old" is expired."""
    emulator.credentials[ACCESS_KEY_ID] = (ACCESS_KEY_SECRET, "fresh")
    emulator.expired_tokens.add("old")
    return "fresh"


def test_a_refused_token_is_renewed_and_asked_with_at_once(emulator: Emulator, fresh_token: str) -> None:
    """An expired token costs one more call, not an event's time."""
    keys = RenewableKeys(["old", fresh_token])

    answer = door(emulator.url, credentials=keys).generate(CHECK, soon())

    assert (answer.outcome, len(emulator.calls), keys.renewals) == (Outcome.CREATED, 2, 1)


@pytest.mark.usefixtures("fresh_token")
def test_a_token_is_renewed_once(emulator: Emulator) -> None:
    """Where the renewed token is refused as well, the operator is told."""
    keys = RenewableKeys(["old"])

    answer = door(emulator.url, credentials=keys).generate(CHECK, soon())

    assert told(answer) == (Outcome.OPERATOR, "InvalidSecurityToken.Expired", Kind.OPERATOR)
    assert (len(emulator.calls), keys.renewals) == (2, 1)


def test_a_renewal_that_took_the_time_asks_no_more(emulator: Emulator, fresh_token: str) -> None:
    """Where renewing lasted into the invocation's last second, the next sweep asks."""
    clock = FakeClock()
    keys = RenewableKeys(["old", fresh_token], lasting_s=29.5, clock=clock)

    answer = door(emulator.url, credentials=keys).generate(CHECK, soon(30, clock))

    assert (answer.outcome, len(emulator.calls)) == (Outcome.OPERATOR, 1)


@pytest.mark.usefixtures("fresh_token")
def test_a_query_renews_a_refused_token_too(emulator: Emulator) -> None:
    """A query is asked again with renewed keys."""
    keys = RenewableKeys(["old", "fresh"])

    last = door(emulator.url, credentials=keys).last_task("IMAGE_SCAN", "IMAGE_SCAN", soon())

    assert (last, len(emulator.calls)) == (None, 2)


@pytest.mark.parametrize("keys", [Keys("", "b"), Keys("a\n", "b"), Keys("a", "b", "c\r\nd"), Keys("a", "é")])
def test_keys_that_no_header_can_carry_are_the_operators(emulator: Emulator, keys: Keys) -> None:
    """A line break from a secret store is named, and nothing is sent."""
    answer = door(emulator.url, credentials=FixedKeys(keys)).generate(CHECK, soon())

    assert told(answer) == (Outcome.OPERATOR, "CredentialsUnavailable", Kind.OPERATOR)
    assert emulator.calls == []


# -- every exception of the vendors ---------------------------------------------------------------

VENDOR_MODULES = (
    Tea.exceptions,
    darabonba.exceptions,
    alibabacloud_tea_openapi.exceptions,
    alibabacloud_credentials.exceptions,
)


def of_response(kind: type[Exception]) -> Exception:
    """As Tea raises it for an error's body."""
    error: Exception = kind(
        status_code=404, code="InvalidApi.NotFound", message="?", data={"Code": "InvalidApi.NotFound"}
    )
    return error


def wrapped(inner: Exception) -> Exception:
    """As Tea wraps what is no answer."""
    context = RetryPolicyContext(retries_attempted=1, exception=inner)
    error: Exception = darabonba.exceptions.UnretryableException(context)
    return error


OPERATORS = (Outcome.UNLISTED, "InvalidApi.NotFound", Kind.OPERATOR)
OF_VENDORS: Mapping[type, tuple[Callable[[type], Exception], object]] = {
    Tea.exceptions.TeaException: (lambda kind: kind({"code": "InvalidApi.NotFound"}), OPERATORS),
    Tea.exceptions.ValidateException: (lambda kind: wrapped(kind("x")), "raised"),
    Tea.exceptions.RequiredArgumentException: (lambda kind: wrapped(kind("x")), "raised"),
    Tea.exceptions.RetryError: (lambda kind: wrapped(kind("x")), NO_ANSWER),
    Tea.exceptions.UnretryableException: (lambda kind: kind(None, TypeError("x")), "raised"),
    darabonba.exceptions.DaraException: (lambda kind: kind({"code": "InvalidApi.NotFound"}), OPERATORS),
    darabonba.exceptions.ResponseException: (of_response, OPERATORS),
    darabonba.exceptions.ValidateException: (lambda kind: wrapped(kind("x")), "raised"),
    darabonba.exceptions.RequiredArgumentException: (lambda kind: wrapped(kind("x")), "raised"),
    darabonba.exceptions.RetryError: (lambda kind: wrapped(kind("x")), NO_ANSWER),
    darabonba.exceptions.UnretryableException: (lambda _: wrapped(TypeError("x")), "raised"),
    alibabacloud_tea_openapi.exceptions.AlibabaCloudException: (of_response, OPERATORS),
    alibabacloud_tea_openapi.exceptions.ClientException: (of_response, OPERATORS),
    alibabacloud_tea_openapi.exceptions.ServerException: (of_response, OPERATORS),
    alibabacloud_tea_openapi.exceptions.ThrottlingException: (of_response, OPERATORS),
    alibabacloud_credentials.exceptions.CredentialException: (
        lambda kind: wrapped(kind("x")),
        (Outcome.OPERATOR, "CredentialsUnavailable", Kind.OPERATOR),
    ),
}


def on_the_way(status: int | None = None) -> Exchange:
    """A call that was sent."""
    return Exchange(Endpoint("127.0.0.1:1", tls=False).session(), lambda: 1.0, connected=True, status=status)


def exception_classes(module: ModuleType) -> set[type]:
    """Every exception class that the module names."""
    found = (each for _, each in inspect.getmembers(module, inspect.isclass))
    return {each for each in found if issubclass(each, Exception)}


def test_every_exception_of_the_vendors_is_known() -> None:
    """A new version of Tea with one more class fails here, before it fails in production."""
    found = set[type]().union(*map(exception_classes, VENDOR_MODULES))

    assert found == set(OF_VENDORS)


@pytest.mark.parametrize("kind", OF_VENDORS, ids=lambda kind: f"{kind.__module__}.{kind.__name__}")
def test_every_exception_of_the_vendors_is_translated(kind: type) -> None:
    """Each becomes an answer; what went wrong before anything was sent is raised."""
    make, expected = OF_VENDORS[kind]
    translator = Translator(frozenset(), KEYS.hide)

    error = make(kind)

    assert isinstance(error, Tea.exceptions.TeaException)
    if expected == "raised":
        with pytest.raises(Exception, match="x"):
            translator.of_error("GenerateOnceTask", error, on_the_way())
    else:
        assert told(translator.of_error("GenerateOnceTask", error, on_the_way())) == expected


def test_what_tea_met_after_an_answer_came_is_no_programming_error() -> None:
    """Whatever Tea stumbles over in an answer, the answer came: it is unreadable, not raised."""
    translator = Translator(frozenset(), KEYS.hide)
    error = wrapped(AttributeError("'list' object has no attribute 'get'"))

    assert isinstance(error, Tea.exceptions.TeaException)
    assert told(translator.of_error("GenerateOnceTask", error, on_the_way(status=404))) == UNREADABLE


# -- searching ------------------------------------------------------------------------------------


def scripted(emulator: Emulator, action: str, answer: dict[str, object]) -> None:
    """From now on that action is answered so."""
    emulator.add_operation(VERSION, action, lambda _: answer)


def test_a_task_is_shown_with_all_that_tells_whose_it_is(emulator: Emulator) -> None:
    """Id, type, name, Source, targets, start and state."""
    center = door(emulator.url)
    created = center.generate(CHECK, soon())

    [task] = center.tasks_started_since("CLIENT_PROBLEM_CHECK", time.time() - 5, soon())

    assert (task.task_id, task.task_type) == (created.task_id, "CLIENT_PROBLEM_CHECK")
    assert (task.name, task.source) == ("CLIENT_PROBLEM_CHECK", "oncetask")
    assert task.targets == {"inet-1", "inet-2"}
    assert task.started_s == pytest.approx(time.time(), abs=3)
    assert (task.state, task.ended) == ("INIT", None)


def test_what_is_not_shown_is_none(emulator: Emulator) -> None:
    """Empty texts and empty details tell nothing, and do not differ from anything."""
    emulator.behaviour.keeps_source = False
    emulator.behaviour.shows_name = False
    emulator.behaviour.shows_targets = False
    center = door(emulator.url)
    center.generate(CHECK, soon())

    [task] = center.tasks_started_since("CLIENT_PROBLEM_CHECK", time.time() - 5, soon())

    assert (task.name, task.source, task.targets) == (None, None, None)


@pytest.mark.parametrize("count", [0, 1, PAGE_SIZE, PAGE_SIZE + 1, 2 * PAGE_SIZE + 5])
def test_all_pages_are_read(emulator: Emulator, count: int) -> None:
    """However many tasks started meanwhile, none is overlooked, and no page is asked for in vain."""
    ids = {emulator.add_foreign("VUL_CHECK_TASK").task_id for _ in range(count)}

    tasks = door(emulator.url).tasks_started_since("VUL_CHECK_TASK", time.time() - 60, soon())

    assert {task.task_id for task in tasks} == ids
    assert len(tasks) == count
    assert len(emulator.calls) == max(1, -(-count // PAGE_SIZE))


def test_tasks_that_started_before_are_not_shown(emulator: Emulator) -> None:
    """The start is asked for in milliseconds, from the whole second on."""
    now_s = time.time()
    emulator.add_foreign("CLIENT_DEV_OPS", started_s=now_s - 100)
    recent = emulator.add_foreign("CLIENT_DEV_OPS", started_s=now_s - 10)

    tasks = door(emulator.url).tasks_started_since("CLIENT_DEV_OPS", now_s - 10, soon())

    assert [task.task_id for task in tasks] == [recent.task_id]
    assert emulator.calls[0].parameters["StartTimeQuery"] == f"{int(now_s - 10)}000"


def test_a_service_that_ignores_filters_and_pages_is_seen_through(emulator: Emulator) -> None:
    """Tasks of another type or too old are left out, and the same page for ever ends the reading."""
    page = [
        {"TaskId": "new", "TaskType": "CLIENT_DEV_OPS", "TaskStartTime": 2_000_000},
        {"TaskId": "old", "TaskType": "CLIENT_DEV_OPS", "TaskStartTime": 1_000_000},
        {"TaskId": "other", "TaskType": "VUL_CHECK_TASK", "TaskStartTime": 2_000_000},
        {"TaskId": "undated"},
    ]
    answer = {"PageInfo": {"TotalCount": "9999"}, "TaskManageResponseList": page}
    scripted(emulator, "DescribeOnceTask", answer)

    tasks = door(emulator.url).tasks_started_since("CLIENT_DEV_OPS", 1500.9, soon())

    assert [task.task_id for task in tasks] == ["new", "undated"]


@pytest.mark.parametrize(
    "answer",
    [
        {"PageInfo": {"TotalCount": 0}},
        {"PageInfo": {"TotalCount": 0}, "TaskManageResponseList": None},
        {"TaskManageResponseList": []},
    ],
)
def test_an_empty_list_may_be_left_out(emulator: Emulator, answer: dict[str, object]) -> None:
    """No tasks, said in any of the ways in which the service may say it."""
    scripted(emulator, "DescribeOnceTask", answer)

    assert door(emulator.url).tasks_started_since("CLIENT_DEV_OPS", 0, soon()) == []


@pytest.mark.parametrize(
    "answer",
    [
        {},
        {"PageInfo": {"TotalCount": 3}},
        {"TaskManageResponseList": {}},
        {"TaskManageResponseList": [{"TaskType": "CLIENT_DEV_OPS"}]},
        {"TaskManageResponseList": ["x"]},
    ],
)
def test_a_list_that_cannot_be_read_is_not_an_empty_one(
    emulator: Emulator, answer: dict[str, object]
) -> None:
    """A task that nobody can identify might be ours, so the search has failed."""
    scripted(emulator, "DescribeOnceTask", answer)

    with pytest.raises(QueryFailed) as failed:
        door(emulator.url).tasks_started_since("CLIENT_DEV_OPS", 0, soon())

    assert (failed.value.code, failed.value.kind) == (Code.ANSWER_UNREADABLE, Kind.UNKNOWN)


def test_ids_counts_and_states_are_read_in_any_type(emulator: Emulator) -> None:
    """Numbers as text, ids as numbers, details as an array: each is what it says."""
    entry = {
        "TaskId": 12,
        "TaskStatus": "3",
        "SuccessCount": "1",
        "FailCount": 2,
        "TotalCount": "3",
        "TaskStartTime": "1000000",
        "TaskEndTime": "2000000",
        "DetailData": [{"uuid": "inet-1"}, {"uuid": ""}, "odd"],
    }
    scripted(emulator, "DescribeOnceTask", {"TaskManageResponseList": [entry]})

    [task] = door(emulator.url).tasks_started_since("CLIENT_DEV_OPS", 0, soon())

    assert (task.task_id, task.started_s, task.targets) == ("12", 1000, {"inet-1"})
    assert task.ended == Ended("FAIL", finished_s=2000, success_count=1, fail_count=2, total_count=3)


@pytest.mark.parametrize("details", [None, "", "{", "7", "[" * 100_000, 7, {"uuid": "inet-1"}, [[]]])
def test_details_of_another_shape_tell_no_targets(emulator: Emulator, details: object) -> None:
    """Undocumented details never fail a search."""
    scripted(
        emulator,
        "DescribeOnceTask",
        {"TaskManageResponseList": [{"TaskId": "a", "DetailData": details}]},
    )

    [task] = door(emulator.url).tasks_started_since("CLIENT_DEV_OPS", 0, soon())

    assert task.targets is None


def test_only_described_types_can_be_listed() -> None:
    """Four of the ten types have a list; the sweep searches for the others by their last task."""
    center = door("http://127.0.0.1:1")

    assert {name for name in (*DESCRIBED_TYPES, "IMAGE_SCAN") if center.describes(name)} == {
        "VUL_CHECK_TASK",
        "CLIENT_PROBLEM_CHECK",
        "CLIENT_DEV_OPS",
        "ASSET_SECURITY_CHECK",
    }


def test_the_last_task_is_the_newest_of_its_type(emulator: Emulator) -> None:
    """Its id and start are told, and that it runs."""
    center = door(emulator.url)
    center.generate(COLLECTION, soon())
    newest = emulator.add_foreign("ASSETS_COLLECTION", started_s=time.time())

    task = center.last_task("ASSETS_COLLECTION", "ASSETS_COLLECTION", soon())

    assert task is not None
    assert (task.task_id, task.task_type) == (newest.task_id, "ASSETS_COLLECTION")
    assert task.started_s == int(newest.created_s)
    assert task.ended is None


def test_there_may_be_no_last_task(emulator: Emulator) -> None:
    """TASK_NOT_EXISTS is an answer: none."""
    assert door(emulator.url).last_task("IMAGE_SCAN", "IMAGE_SCAN", soon()) is None


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        ({"TaskId": 0, "TaskInfo": {"Result": "TASK_NOT_SUPPORT_REGION"}}, "TASK_NOT_SUPPORT_REGION"),
        ({"TaskId": 0, "TaskInfo": {"Result": "A_NEW_WORD"}}, "A_NEW_WORD"),
        ({"TaskId": 0, "TaskInfo": {"Result": "SUCCESS"}}, "AnswerUnreadable"),
        ({}, "AnswerUnreadable"),
    ],
)
def test_a_last_task_that_is_not_told_is_not_none(
    emulator: Emulator, answer: dict[str, object], code: str
) -> None:
    """Only TASK_NOT_EXISTS says that there is no task; anything else has told nothing."""
    scripted(emulator, "GetLastOnceTaskInfo", answer)

    with pytest.raises(QueryFailed) as failed:
        door(emulator.url).last_task("IMAGE_SCAN", "IMAGE_SCAN", soon())

    assert failed.value.code == code


def test_a_word_that_no_page_explains_hides_no_task_that_is_told(emulator: Emulator) -> None:
    """Where there is a task's id, the task is there, whatever the word says."""
    scripted(emulator, "GetLastOnceTaskInfo", {"TaskId": "t-1", "TaskInfo": {"Result": "A_NEW_WORD"}})

    task = door(emulator.url).last_task("IMAGE_SCAN", "IMAGE_SCAN", soon())

    assert task is not None
    assert task.task_id == "t-1"


# -- following ------------------------------------------------------------------------------------


@pytest.mark.parametrize("describe_id", ["both", "TaskId", "RootTaskId"])
@pytest.mark.parametrize("state", ["SUCCESS", "FAIL", "TIMEOUT"])
def test_a_described_task_is_followed_to_its_end(
    emulator: Emulator, describe_id: DescribeId, state: EndState
) -> None:
    """State, end time and counts are told, whichever of the two ids finds the task."""
    emulator.behaviour.describe_id = describe_id
    center = door(emulator.url)
    task_id = center.generate(CHECK, soon()).task_id or ""
    emulator.finish(task_id, state)

    progress = center.follow("CLIENT_PROBLEM_CHECK", task_id, "CLIENT_PROBLEM_CHECK", soon())

    assert progress.ended is not None
    assert progress.ended.state == state
    assert progress.ended.finished_s == pytest.approx(time.time(), abs=3)
    counts = (2, 0) if state == "SUCCESS" else (0, 2)
    assert (progress.ended.success_count, progress.ended.fail_count) == counts
    assert progress.ended.total_count == 2
    assert [host.uuid for host in progress.hosts] == ["inet-1", "inet-2"]
    assert len(emulator.calls) == (3 if describe_id == "RootTaskId" else 2)


def test_other_types_are_followed_by_their_result(emulator: Emulator) -> None:
    """No end time is told there, and no list is asked."""
    center = door(emulator.url)
    task_id = center.generate(COLLECTION, soon()).task_id or ""
    emulator.finish(task_id)

    progress = center.follow("ASSETS_COLLECTION", task_id, "ASSETS_COLLECTION", soon())

    assert progress == Progress("SUCCESS", Ended("SUCCESS", total_count=1))
    assert [call.action for call in emulator.calls[1:]] == ["GetOnceTaskResultInfo"]


def test_a_task_that_no_list_shows_is_followed_by_its_result(emulator: Emulator) -> None:
    """The list may lag; the result is asked then."""
    center = door(emulator.url)
    scripted(emulator, "DescribeOnceTask", {"TaskManageResponseList": []})
    task_id = center.generate(CHECK, soon()).task_id or ""

    progress = center.follow("CLIENT_PROBLEM_CHECK", task_id, "CLIENT_PROBLEM_CHECK", soon())

    assert progress == Progress("INIT", None)
    described = [call.parameters for call in emulator.calls if call.action == "DescribeOnceTask"]
    assert [("TaskId" in each, "RootTaskId" in each) for each in described] == [(True, False), (False, True)]


@pytest.mark.parametrize("task_type", ["CLIENT_PROBLEM_CHECK", "ASSETS_COLLECTION"])
def test_an_unknown_task_has_no_progress(emulator: Emulator, task_type: str) -> None:
    """Nothing shows it, so nothing is known."""
    assert door(emulator.url).follow(task_type, "0" * 32, task_type, soon()) == Progress()


@pytest.mark.parametrize("state", ["INIT", "START", "DISPATCH", "PROCESSING", "CANCELLED", "", 7, None])
def test_a_state_that_is_no_end_is_still_running(emulator: Emulator, state: object) -> None:
    """Unknown states end no task, in either operation."""
    center = door(emulator.url)
    listed = {"TaskId": "a", "TaskStatusText": state, "TaskStatus": 9}
    scripted(emulator, "DescribeOnceTask", {"TaskManageResponseList": [listed]})
    scripted(emulator, "GetOnceTaskResultInfo", {"TaskInfo": {"Status": state}})

    ends = [center.follow(name, "a", name, soon()).ended for name in ("CLIENT_DEV_OPS", "IMAGE_SCAN")]

    assert ends == [None, None]


def test_an_end_of_zero_is_none(emulator: Emulator) -> None:
    """The service's zero is no instant."""
    listed = {"TaskId": "a", "TaskStatusText": "SUCCESS", "TaskEndTime": 0}
    scripted(emulator, "DescribeOnceTask", {"TaskManageResponseList": [listed]})

    progress = door(emulator.url).follow("CLIENT_DEV_OPS", "a", "CLIENT_DEV_OPS", soon())

    assert progress == Progress("SUCCESS", Ended("SUCCESS"))


def test_only_the_list_reports_a_failure(emulator: Emulator) -> None:
    """FAIL is no state of GetOnceTaskResultInfo, so there it is unknown: still running."""
    scripted(emulator, "GetOnceTaskResultInfo", {"TaskInfo": {"Status": "FAIL"}})

    progress = door(emulator.url).follow("IMAGE_SCAN", "a", "IMAGE_SCAN", soon())

    assert progress == Progress("FAIL", None)


@pytest.mark.parametrize(
    ("states", "expected"),
    [
        (["SUCCESS", "START"], None),
        (["SUCCESS", "SUCCESS"], "SUCCESS"),
        (["SUCCESS", "TIMEOUT"], "TIMEOUT"),
        (["FAIL", "TIMEOUT"], "FAIL"),
    ],
)
def test_a_root_task_ends_with_the_last_and_as_the_worst_of_its_parts(
    emulator: Emulator, states: list[str], expected: str | None
) -> None:
    """Where its id finds the tasks below it, all of them count."""
    listed = [
        {"TaskId": f"part-{n}", "TaskStatusText": state, "TaskEndTime": n * 1000, "SuccessCount": 1}
        for n, state in enumerate(states)
    ]
    scripted(emulator, "DescribeOnceTask", {"TaskManageResponseList": listed})

    ended = door(emulator.url).follow("CLIENT_DEV_OPS", "root", "CLIENT_DEV_OPS", soon()).ended

    assert (ended and ended.state) == expected
    assert (ended and (ended.finished_s, ended.success_count)) == (expected and (1, 2))


# -- queries that fail ----------------------------------------------------------------------------

QUERIES: Mapping[str, Callable[[SecurityCenter, Deadline], object]] = {
    "DescribeOnceTask": lambda c, end: c.tasks_started_since("CLIENT_DEV_OPS", 0, end),
    "GetLastOnceTaskInfo": lambda c, end: c.last_task("IMAGE_SCAN", "IMAGE_SCAN", end),
    "GetOnceTaskResultInfo": lambda c, end: c.follow("IMAGE_SCAN", "a", "IMAGE_SCAN", end),
}


@pytest.mark.parametrize("action", QUERIES)
@pytest.mark.parametrize(
    ("fault", "code", "kind"),
    [
        (Throttle(), "Throttling.User", Kind.REMOTE),
        (Refuse(403, "NoPermission"), "NoPermission", Kind.OPERATOR),
        (Refuse(500, "ServerError"), "ServerError", Kind.UNKNOWN),
        (Refuse(400, "InvalidParameter"), "InvalidParameter", Kind.SENDER),
        (ResetBefore(), "NoAnswer", Kind.UNKNOWN),
        (Silence(task_made=False), "NoAnswer", Kind.UNKNOWN),
        (Unreadable(), "AnswerUnreadable", Kind.UNKNOWN),
        (Unreadable(200, "[]"), "AnswerUnreadable", Kind.UNKNOWN),
        (Unreadable(200, '{"Code": "NoPermission"}'), "NoPermission", Kind.OPERATOR),
        (Unreadable(200, '{"Code": "Whatever"}'), "AnswerUnreadable", Kind.UNKNOWN),
        (Redirect(307, "/"), "AnswerUnreadable", Kind.UNKNOWN),
    ],
    ids=str,
)
def test_a_query_without_a_usable_answer_raises_one_thing(
    emulator: Emulator, action: str, fault: Fault, code: str, kind: Kind
) -> None:
    """QueryFailed holds what an answer's error would; it is asked once, and no task is made by it."""
    emulator.script(fault, action=action)
    center = door(emulator.url, read_timeout_ms=150)

    with pytest.raises(QueryFailed) as failed:
        QUERIES[action](center, soon())

    assert (failed.value.code, failed.value.kind) == (code, kind)
    assert (len(emulator.calls), emulator.tasks) == (1, [])


@pytest.mark.parametrize("action", QUERIES)
def test_a_query_begins_only_while_there_is_time(emulator: Emulator, action: str) -> None:
    """In an invocation's last second nothing is asked."""
    with pytest.raises(QueryFailed, match="no time"):
        QUERIES[action](door(emulator.url), soon(1.0))

    assert emulator.calls == []


def test_a_missing_permission_to_search_names_the_query(emulator: Emulator) -> None:
    """The operator is told the action that is missing, not another."""
    emulator.script(Refuse(403, "NoPermission"), action="GetLastOnceTaskInfo")

    with pytest.raises(QueryFailed, match="yundun-aegis:GetLastOnceTaskInfo"):
        door(emulator.url).last_task("IMAGE_SCAN", "IMAGE_SCAN", soon())


def test_a_failed_query_prints_no_key(emulator: Emulator) -> None:
    """The exception's text is as clean as an answer's."""
    emulator.script(
        Refuse(400, "SignatureDoesNotMatch", f"{ACCESS_KEY_SECRET} {SIGNATURE}"), action="GetLastOnceTaskInfo"
    )

    with pytest.raises(QueryFailed) as failed:
        door(emulator.url).last_task("IMAGE_SCAN", "IMAGE_SCAN", soon())

    shown = json.dumps([str(failed.value), repr(failed.value), failed.value.message])
    assert ACCESS_KEY_SECRET not in shown
    assert SIGNATURE not in shown
