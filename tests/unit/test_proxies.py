"""Which calls take a proxy: as the environment says, and never towards this machine."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oncetask.errors import SettingsError
from oncetask.proxies import Proxies, is_loopback

PROXY = "http://proxy.example:3128"
AWS = "https://dynamodb.eu-central-1.amazonaws.com/"
LOOPBACK = ("127.0.0.1", "127.255.0.3", "[::1]", "localhost", "LocalHost")


def place(environment: dict[str, str], url: str = AWS) -> str | None:
    """The proxy on the way there."""
    proxy = Proxies(environment).towards(url)
    return proxy and proxy.place


@pytest.mark.parametrize(
    ("environment", "url", "expected"),
    [
        ({}, AWS, None),
        ({"HTTPS_PROXY": PROXY}, AWS, "proxy.example:3128"),
        ({"https_proxy": PROXY}, AWS, "proxy.example:3128"),
        ({"https_proxy": PROXY, "HTTPS_PROXY": "http://other.example:1"}, AWS, "proxy.example:3128"),
        ({"HTTPS_PROXY": "proxy.example:3128"}, AWS, "proxy.example:3128"),
        ({"HTTPS_PROXY": "http://proxy.example"}, AWS, "proxy.example:80"),
        ({"HTTPS_PROXY": "http://[2001:db8::1]:3128/"}, AWS, "[2001:db8::1]:3128"),
        ({"HTTPS_PROXY": ""}, AWS, None),
        ({"HTTP_PROXY": PROXY}, AWS, None),
        ({"HTTP_PROXY": PROXY}, AWS.replace("https", "http"), "proxy.example:3128"),
        ({"HTTPS_PROXY": PROXY}, AWS.replace("https", "http"), None),
    ],
)
def test_a_proxy_is_the_one_of_the_urls_scheme(
    environment: dict[str, str], url: str, expected: str | None
) -> None:
    """In capitals or not, with http:// before it or not."""
    assert place(environment, url) == expected


@pytest.mark.parametrize("host", LOOPBACK)
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_no_proxy_stands_before_loopback(host: str, scheme: str) -> None:
    """Whatever the environment says, also without NO_PROXY."""
    given_proxies = {"HTTPS_PROXY": PROXY, "HTTP_PROXY": PROXY}

    assert place(given_proxies, f"{scheme}://{host}:8000/") is None


@pytest.mark.parametrize(
    ("no_proxy", "host", "is_exception"),
    [
        ("*", "a.example", True),
        ("a.example", "a.example", True),
        ("A.Example", "a.example", True),
        ("b.example, a.example", "a.example", True),
        ("b.example a.example", "a.example", True),
        ("example", "a.example", True),
        (".example", "a.example", True),
        ("*.example", "a.example", True),
        ("ample", "a.example", False),
        ("a.example", "b.a.example", True),
        ("b.a.example", "a.example", False),
        ("a.example:443", "a.example:443", True),
        ("a.example:443", "a.example:444", False),
        ("192.0.2.0/24", "192.0.2.7", True),
        ("192.0.2.0/24", "192.0.3.7", False),
        ("192.0.2.7", "192.0.2.7", True),
        ("2001:db8::/32", "[2001:db8::1]", True),
        ("[2001:db8::1]", "[2001:db8::1]", True),
        ("192.0.2.0/24", "a.example", False),
        ("", "a.example", False),
        (",,", "a.example", False),
        ("a.example/24", "192.0.2.7", False),
    ],
)
def test_no_proxy_names_who_is_reached_without_one(no_proxy: str, host: str, *, is_exception: bool) -> None:
    """Names with all below them, ports, addresses, networks, and everybody."""
    environment = {"HTTPS_PROXY": PROXY, "NO_PROXY": no_proxy}

    assert (place(environment, f"https://{host}/") is None) == is_exception


@given(st.text(max_size=30), st.text(max_size=30))
def test_any_environment_gives_proxies_or_names_its_variable(proxy: str, no_proxy: str) -> None:
    """Nothing else is raised, whatever stands there."""
    with suppress(SettingsError):
        place({"HTTPS_PROXY": proxy, "NO_PROXY": no_proxy})


@pytest.mark.parametrize(
    "value", ["socks5://hidden.example:1080", "https://hidden.example", "http://", "hidden.example:port"]
)
@pytest.mark.parametrize("variable", ["HTTPS_PROXY", "HTTP_PROXY"])
def test_a_proxy_of_another_kind_stops_the_process(variable: str, value: str) -> None:
    """The variable is named, its value, which may hold a password, is not."""
    with pytest.raises(SettingsError, match=f"^{variable} must be") as raised:
        Proxies({variable: value})

    assert "hidden" not in str(raised.value)


def test_a_proxys_password_is_not_shown() -> None:
    """Its host and port are."""
    proxy = Proxies({"HTTPS_PROXY": "http://me:hidden@proxy.example:3128"}).towards(AWS)

    assert proxy is not None
    assert "hidden" not in f"{proxy!r} {proxy} {proxy.place}"


@pytest.mark.parametrize("host", ["127.1", "10.0.0.1", "localhost.example", "0.0.0.0", "::2", ""])  # noqa: S104
def test_what_only_looks_like_loopback_is_none(host: str) -> None:
    """Only 127.0.0.0/8, ::1 and localhost are."""
    assert not is_loopback(host)
