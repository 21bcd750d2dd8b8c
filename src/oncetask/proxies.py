"""Which proxy an outgoing call takes: one rule for every client of this project."""

from collections.abc import Mapping
from ipaddress import ip_address, ip_network
from urllib.parse import SplitResult, urlsplit

from oncetask.errors import SettingsError

PROXY_PORT = 80
"""Of a proxy that was named without one, as requests has it."""


class Proxy:
    """An HTTP proxy. Nothing that shows one shows the password that its URL may hold."""

    def __init__(self, url: str) -> None:
        """`url` as the environment gives it, with or without `http://`. Raises ValueError."""
        parts = urlsplit(url if "://" in url else f"http://{url}")
        if parts.scheme != "http" or not parts.hostname:
            raise ValueError("it is no HTTP proxy")
        self.url = parts.geturl()
        self.place = _place(parts)
        self.user = parts.username
        self.password = parts.password


class Proxies:
    """HTTPS_PROXY, HTTP_PROXY and NO_PROXY of an environment, where names in small letters come first."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        """Raises SettingsError, which names the variable."""
        self._proxies = {scheme: _proxy(f"{scheme}_proxy", environment) for scheme in ("https", "http")}
        self._exceptions = _value("no_proxy", environment).lower().replace(",", " ").split()

    def towards(self, url: str) -> Proxy | None:
        """None where the call goes straight there, as it always does towards loopback."""
        there = urlsplit(url)
        is_exception = is_loopback(there.hostname or "") or any(
            _covers(exception, there) for exception in self._exceptions
        )
        return None if is_exception else self._proxies[there.scheme]


def is_loopback(host: str) -> bool:
    """Whether a name, or an address without brackets, is this machine's own: 127.0.0.0/8, ::1, localhost."""
    try:
        return host.lower() == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def _value(name: str, environment: Mapping[str, str]) -> str:
    return environment.get(name) or environment.get(name.upper()) or ""


def _proxy(name: str, environment: Mapping[str, str]) -> Proxy | None:
    url = _value(name, environment)
    try:
        return Proxy(url) if url else None
    except ValueError:
        text = f"{name.upper()} must be the URL of an HTTP proxy, such as http://proxy.example:3128"
        raise SettingsError(text) from None


def _place(parts: SplitResult) -> str:
    """`host:port`, an IPv6 address in brackets."""
    host = f"[{parts.hostname}]" if ":" in str(parts.hostname) else parts.hostname
    return f"{host}:{parts.port or PROXY_PORT}"


def _covers(exception: str, there: SplitResult) -> bool:
    """One entry of NO_PROXY: `*`, an address, a network, or a name (with its port or without) that covers all
    names below it.
    """
    host = there.hostname or ""
    try:
        return ip_address(host) in ip_network(exception.strip("[]"), strict=False)
    except ValueError:  # one of the two is a name
        name = exception.removeprefix("*").removeprefix(".")
        places = (host, f"{host}:{there.port}")
        return not name or any(place == name or place.endswith(f".{name}") for place in places)


DIRECT = Proxies({})
"""No proxy towards anybody."""
