"""Where each key of a TOML document stands: tomllib reads values and forgets lines."""

import re
from collections.abc import Iterator

_HEADER = re.compile(r"\s*\[\[?\s*(?P<path>[^\[\]]+?)\s*\]\]?\s*(?:#.*)?$")
_KEY = re.compile(
    r"""\s*(?P<path>(?:[A-Za-z0-9_-]+|"[^"]*"|'[^']*')(?:\s*\.\s*(?:[A-Za-z0-9_-]+|"[^"]*"|'[^']*'))*)\s*="""
)
_PART = re.compile(r"""[A-Za-z0-9_-]+|"[^"]*"|'[^']*'""")
_QUOTES = ('"""', "'''")


def lines_of(text: str) -> dict[tuple[str, ...], int]:
    """The first line, from 1, of each table and key, by its path; keys within inline tables stand with it."""
    places: dict[tuple[str, ...], int] = {}
    table: tuple[str, ...] = ()
    for number, line in _outside_long_texts(text):
        header, key = _HEADER.match(line), _KEY.match(line)
        if header is not None:
            table = _parts(header["path"])
            places.setdefault(table, number)
        elif key is not None:
            path = (*table, *_parts(key["path"]))
            places.setdefault(path, number)
            for inner in re.findall(r"[{,]\s*([A-Za-z0-9_-]+)\s*=", line):
                places.setdefault((*path, inner), number)
    return places


def _outside_long_texts(text: str) -> Iterator[tuple[int, str]]:
    """Lines with their numbers, but for those within a text of several lines."""
    closing: str | None = None
    for number, line in enumerate(text.splitlines(), 1):
        if closing is not None:
            if closing in line:
                closing = None
            continue
        yield number, line
        for quotes in _QUOTES:
            if line.count(quotes) % 2:
                closing = quotes


def _parts(path: str) -> tuple[str, ...]:
    return tuple(part.strip("\"'") for part in _PART.findall(path))
