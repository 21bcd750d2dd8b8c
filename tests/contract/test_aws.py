"""What the connection to an AWS service promises, seen on a loopback endpoint."""

import hashlib
import json
import socket
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from local.aws_servers import DynamoDb, free_port
from oncetask.aws.client import MESSAGE_CHARS, AwsError, AwsService, AwsUnreachable, default_endpoint
from oncetask.aws.sigv4 import AwsKeys, sign
from oncetask.proxies import DIRECT, Proxies
from tests.clocks import NOW_S, FakeClock
from tests.contract.scripted_aws import KEYS, HangsUp, IsSilent, Says, Script, Step, error, ok, scripted
from tests.loopback import answering_by_tls, listening, self_signed, tunnel_proxy


@pytest.mark.parametrize(
    ("service", "content_type"),
    [("dynamodb", "application/x-amz-json-1.0"), ("secretsmanager", "application/x-amz-json-1.1")],
)
def test_a_call_travels_as_signed_json(service: str, content_type: str) -> None:
    """Target, content type and body are the protocol's; the signature is over exactly what arrives."""
    with scripted(ok({"a": 1})) as script:
        answer = script.service(FakeClock(), service).call("Service.Act", {"name": "Łódź"})

    sent = script.headers[0]
    assert answer == {"a": 1}
    assert json.loads(script.bodies[0]) == {"name": "Łódź"}
    assert sent["content-type"] == content_type
    assert sent["authorization"] == resigned(script, service, "content-type", "x-amz-target")


def test_a_query_travels_as_a_signed_form() -> None:
    """Action, version and parameters are form fields; JSON is asked for."""
    with scripted(ok({"R": {}})) as script:
        answer = script.service(FakeClock(), "sts").query(
            "GetCallerIdentity", "2011-06-15", {"A.member.1": "b&c"}
        )

    assert answer == {"R": {}}
    assert script.bodies == [b"Action=GetCallerIdentity&Version=2011-06-15&A.member.1=b%26c"]
    assert script.headers[0]["authorization"] == resigned(script, "sts", "content-type", "accept")


def resigned(script: Script, service: str, *names: str) -> str:
    """The signature over the first request as it arrived."""
    headers = {name: script.headers[0][name] for name in names}
    url = f"{script.url}/"
    return sign(
        "POST", url, headers, script.bodies[0], service=service, region="eu-central-1", keys=KEYS, now_s=NOW_S
    )["authorization"]


@pytest.mark.parametrize(
    ("answer", "code", "message"),
    [
        (error("ValidationException", message="bad"), "ValidationException", "bad"),
        (Says(400, b'{"__type":"Plain","Message":"bad"}'), "Plain", "bad"),
        (
            Says(403, b'{"Error":{"Code":"AccessDenied","Message":"bad"},"RequestId":"1"}'),
            "AccessDenied",
            "bad",
        ),
        (Says(403, b"<R><Error><Code>ExpiredToken</Code></Error></R>"), "ExpiredToken", ""),
        (Says(502, b"<html>Bad Gateway</html>"), "AnswerUnreadable", ""),
        (Says(404, b"[]"), "AnswerUnreadable", ""),
        (Says(200, b'{"cut'), "AnswerUnreadable", ""),
        (Says(302, b"{}"), "AnswerUnreadable", ""),
    ],
)
def test_an_error_is_named_by_the_services_code(answer: Says, code: str, message: str) -> None:
    """Of either protocol, in JSON or XML; an answer without a code is unreadable."""
    with scripted(answer) as script, pytest.raises(AwsError) as raised:
        script.service(FakeClock()).call("T.A", {})

    assert (raised.value.code, raised.value.message) == (code, message)
    assert raised.value.http_status == answer.status


def test_an_errors_message_is_bounded_and_holds_no_secret() -> None:
    """AWS quotes the request where a signature does not match: its key, token and signature stay out."""
    quoted = hashlib.sha256(b"a signature").hexdigest()
    message = f"{KEYS.secret_access_key} {KEYS.session_token} {quoted} {'x' * 1000}\nCanonical String"

    with (
        scripted(error("InvalidSignatureException", message=message)) as script,
        pytest.raises(AwsError) as raised,
    ):
        script.service(FakeClock()).call("T.A", {})

    assert raised.value.message.startswith("*** *** *** xxx")
    assert len(raised.value.message) == MESSAGE_CHARS
    assert str(raised.value) == f"InvalidSignatureException (HTTP 400): {raised.value.message}"


@pytest.mark.parametrize("step", [HangsUp(), IsSilent()], ids=["hung up", "silent"])
def test_a_lost_answer_leaves_doubt(step: Step) -> None:
    """The request may have arrived; the next call connects again."""
    with scripted(step, ok({"a": 1})) as script:
        service = script.service(FakeClock(), read_timeout_s=0.2)

        with pytest.raises(AwsUnreachable) as raised:
            service.call("T.A", {})

        assert raised.value.in_doubt
        assert not raised.value.was_idle
        assert service.call("T.A", {}) == {"a": 1}


def test_silence_ends_with_the_read_timeout() -> None:
    """Not with the connect time-out, which is ten times as long here."""
    with scripted(IsSilent()) as script:
        service = script.service(FakeClock(), read_timeout_s=0.2)

        began_s = time.monotonic()
        with pytest.raises(AwsUnreachable, match="TimeoutError"):
            service.call("T.A", {})

        assert 0.2 <= time.monotonic() - began_s < 1.5


def test_a_connection_that_was_seen_to_close_is_opened_anew_unseen() -> None:
    """Nothing is sent on it, so nothing is in doubt."""
    with scripted(ok({"n": 1}, then_closes=True), ok({"n": 2})) as script:
        service = script.service(FakeClock())

        first = service.call("T.A", {})
        time.sleep(0.2)  # the end of the connection has arrived by then
        second = service.call("T.A", {})

    assert (first, second) == ({"n": 1}, {"n": 2})


@pytest.mark.parametrize("url", ["http://127.0.0.1:{}", "https://127.0.0.1:{}"])
def test_a_refused_connection_leaves_no_doubt(url: str) -> None:
    """Nothing was sent."""
    service = service_at(url.format(free_port()))

    with pytest.raises(AwsUnreachable) as raised:
        service.call("T.A", {})

    assert not raised.value.in_doubt


def test_an_endpoint_that_cannot_prove_itself_gets_no_request() -> None:
    """Over https nothing is sent before the other side's certificate is verified."""
    with scripted() as script, pytest.raises(AwsUnreachable, match="SSL") as raised:
        service_at(script.url.replace("http:", "https:")).call("T.A", {})

    assert not raised.value.in_doubt
    assert script.asked == []


def service_at(url: str, proxies: Proxies = DIRECT) -> AwsService:
    """A service there."""
    return AwsService(
        "dynamodb", region="eu-central-1", keys=KEYS, clock=FakeClock(), endpoint_url=url, proxies=proxies
    )


ELSEWHERE = "dynamodb.invalid"


def test_a_call_goes_by_tls_through_the_proxy_of_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By CONNECT, with the proxy's user and password; the service must prove itself all the same."""
    serve = answering_by_tls(self_signed(tmp_path, ELSEWHERE), b'{"a": 1}')

    with listening(serve) as url, tunnel_proxy(url) as proxy:
        proxies = Proxies({"HTTPS_PROXY": proxy.url.replace("//", "//me:s%20t@")})
        service = service_at(f"https://{ELSEWHERE}", proxies)
        with pytest.raises(AwsUnreachable) as raised:
            service.call("T.A", {})
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "server.pem"))
        answer = service.call("T.A", {})
        service.close()

    assert answer == {"a": 1}
    assert proxy.places == [f"{ELSEWHERE}:443"] * 2
    assert "proxy-authorization: Basic bWU6cyB0" in proxy.asked[1]
    assert not raised.value.in_doubt
    assert "s%20t" not in str(raised.value)


def test_who_is_an_exception_is_reached_without_a_proxy() -> None:
    """NO_PROXY holds; and nobody has that name."""
    with scripted() as nobody, tunnel_proxy(nobody.url) as proxy:
        proxies = Proxies({"HTTPS_PROXY": proxy.url, "NO_PROXY": "localhost,.invalid"})
        with pytest.raises(AwsUnreachable) as raised:
            service_at(f"https://{ELSEWHERE}", proxies).call("T.A", {})

    assert not raised.value.in_doubt
    assert proxy.asked == []


def test_loopback_is_reached_without_a_proxy() -> None:
    """Also where nothing says so."""
    nobody = f"http://127.0.0.1:{free_port()}"
    with scripted(ok({"a": 1})) as script:
        service = service_at(script.url, Proxies({"HTTP_PROXY": nobody, "HTTPS_PROXY": nobody}))
        answer = service.call("T.A", {})
        service.close()

    assert answer == {"a": 1}


@pytest.mark.parametrize("answer", [b"HTTP/1.1 502 Bad Gateway\r\n\r\n", b"", b"no such protocol\r\n\r\n"])
def test_a_proxy_that_opens_no_tunnel_leaves_no_doubt(answer: bytes) -> None:
    """It has sent nothing on; the operator is told which one it was."""

    def refuse(connection: socket.socket) -> None:
        connection.recv(65_536)
        connection.sendall(answer)

    with listening(refuse) as proxy, pytest.raises(AwsUnreachable) as raised:
        service_at(f"https://{ELSEWHERE}", Proxies({"HTTPS_PROXY": proxy})).call("T.A", {})

    assert not raised.value.in_doubt
    assert f"{ELSEWHERE} cannot be reached through the proxy {proxy.removeprefix('http://')}" in str(
        raised.value
    )


def test_threads_share_one_connection_without_mixing_answers() -> None:
    """Each gets the answer to its own call."""
    calls = 40
    with scripted(*[ok({"n": n}) for n in range(calls)]) as script:
        service = script.service(FakeClock())
        with ThreadPoolExecutor(8) as threads:
            answers = list(threads.map(lambda _: service.call("T.A", {})["n"], range(calls)))

    assert sorted(answers) == list(range(calls))
    assert len(set(script.connections)) == 1


@pytest.mark.parametrize(
    ("service", "region", "url"),
    [
        ("dynamodb", "eu-central-1", "https://dynamodb.eu-central-1.amazonaws.com"),
        ("sts", "cn-north-1", "https://sts.cn-north-1.amazonaws.com.cn"),
    ],
)
def test_a_service_has_its_regions_own_endpoint(service: str, region: str, url: str) -> None:
    """China's regions have a domain of their own."""
    assert default_endpoint(service, region) == url


@pytest.mark.parametrize(
    ("keys", "code"),
    [
        (lambda moto: replace(moto.keys, secret_access_key="wrong"), "SignatureDoesNotMatch"),
        (lambda moto: moto.keys, "AccessDenied"),
    ],
    ids=["wrong secret", "missing permission"],
)
def test_a_service_that_checks_refuses_what_it_must(
    moto: DynamoDb, keys: Callable[[DynamoDb], AwsKeys], code: str
) -> None:
    """The ledger's tests on moto mean something: it verifies signatures and permissions."""
    service = moto.service(keys(moto))

    with pytest.raises(AwsError) as raised:
        service.call("DynamoDB_20120810.ListTables", {})

    assert raised.value.code == code
    service.close()
