"""Durations as a person writes them: `30s`, `10m`, `2h`, `1d`."""

import re

_UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_DURATION = re.compile(r"([0-9]{1,9})([smhd])", re.ASCII)


def duration_s(text: str) -> int:
    """Seconds. Raises ValueError, which says what a duration looks like."""
    match = _DURATION.fullmatch(text)
    if match is None:
        raise ValueError("a duration is a number and its unit: 30s, 10m, 2h or 1d")
    return int(match[1]) * _UNITS_S[match[2]]


def shown(seconds: float) -> str:
    """The two largest units that say something: `2h 5m`, `41s`."""
    left_s, parts = int(max(0, seconds)), []
    for unit, size_s in sorted(_UNITS_S.items(), key=lambda pair: -pair[1]):
        count, left_s = divmod(left_s, size_s)
        if count:
            parts.append(f"{count}{unit}")
    return " ".join(parts[:2]) or "0s"
