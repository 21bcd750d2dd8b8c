"""What others wrote, shown as text: nothing in it moves a cursor, or hides or turns round its neighbours."""

import json
import unicodedata
from collections.abc import Callable, Iterable
from difflib import get_close_matches


def visible(text: object) -> str:
    r"""The text with each control, format and bidi character, and each line end, as `\u202e`."""
    return _with_each_invisible(_escaped, str(text))


def in_one_line(text: object) -> str:
    """The same, where line ends and runs of spaces are one space: for errors, which are one line."""
    return visible(" ".join(str(text).split()))


def json_text(document: object, *, indent: int | None = None) -> str:
    """JSON that reads back as it was, with the same characters visible: inside strings, as JSON's escapes."""
    separators = (",", ":") if indent is None else None
    plain = json.dumps(document, ensure_ascii=False, separators=separators, indent=indent)
    lines = plain.split("\n")  # the document's own: inside strings JSON has escaped them
    return "\n".join(_with_each_invisible(_escaped_for_json, line) for line in lines)


def nearest(word: str, known: Iterable[str]) -> str:
    """`; did you mean …?` where one of the known words is like it, else nothing."""
    found = get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f"; did you mean {found[0]}?" if found else ""


def _with_each_invisible(change: Callable[[str], str], text: str) -> str:
    if text.isprintable():
        return text
    return "".join(one if _is_visible(one) else change(one) for one in text)


def _is_visible(character: str) -> bool:
    """What Unicode calls printable, and its spaces: nothing that moves a cursor, hides or turns round."""
    return character.isprintable() or unicodedata.category(character) == "Zs"


def _escaped(character: str) -> str:
    number = ord(character)
    return f"\\u{number:04x}" if number <= 0xFFFF else f"\\U{number:08x}"  # noqa: PLR2004 - the first plane


def _escaped_for_json(character: str) -> str:
    return json.dumps(character)[1:-1] if character != "\x7f" else "\\u007f"
