"""Who may ask a server on this machine for what only this machine's people may see or change.

A page of a stranger can send requests to 127.0.0.1, and a name that a stranger owns can point there: the
first shows in `Origin`, the second in `Host`.
"""

from ipaddress import ip_address
from urllib.parse import urlsplit


def is_ours(host: str | None, origin: str | None) -> bool:
    """Whether `Host` names this machine's loopback, and `Origin`, where there is one, likewise."""
    return _is_loopback(f"//{host or ''}") and (origin is None or _is_our_origin(origin))


def _is_our_origin(origin: str) -> bool:
    return origin.startswith(("http://", "https://")) and _is_loopback(origin)


def _is_loopback(url: str) -> bool:
    try:
        name = urlsplit(url).hostname or ""
        return name == "localhost" or ip_address(name).is_loopback
    except ValueError:
        return False
