"""The pages that a stranger reads, and what in them is made from the code: `make pages` writes that again."""

import re
from collections.abc import Callable, Mapping
from pathlib import Path

from local.tools import PROJECT
from oncetask.errors import Code
from tests.answers import ROWS
from tests.project import terminal_picture, timeline_picture

DOCS = PROJECT / "docs"
README = PROJECT / "README.md"
CONTRIBUTING = PROJECT / "CONTRIBUTING.md"
RESULTS = DOCS / "results.md"
PAGES = (README, CONTRIBUTING, PROJECT / "CHANGELOG.md", *sorted(DOCS.glob("*.md")))

PICTURES: Mapping[Path, Callable[[], str]] = {
    DOCS / "run.svg": terminal_picture.picture,
    DOCS / "timeline.svg": timeline_picture.picture,
}
"""What each is drawn by; docs/bench.svg is drawn by what it measures."""

_ANSWERS = re.compile(
    r"(?<=<!-- answers: written by `make pages`, from tests/answers.py -->\n).*?(?=<!-- /answers -->)",
    re.DOTALL,
)


def read(page: Path) -> str:
    """A page's text."""
    return page.read_text(encoding="utf-8")


def section(page: Path, title: str) -> str:
    """What stands under that heading, up to the next one of its level or above."""
    [(level, text)] = re.findall(
        rf"^(#+) {re.escape(title)}\n(.*?)(?=^#{{1,2}} |\Z)", read(page), re.DOTALL | re.MULTILINE
    )
    return str(re.split(rf"^{level} ", text, maxsplit=1, flags=re.MULTILINE)[0])


def first_cells(text: str) -> list[str]:
    """The words in backticks in the first column of its tables, in order."""
    rows = re.findall(r"^\| ((?:`[^`]+`[^|]*)+)\|", text, re.MULTILINE)
    return [word for row in rows for word in re.findall(r"`([^`]+)`", row)]


def slug(title: str) -> str:
    """A heading's anchor, as GitHub makes it."""
    return re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")


def answers_shown() -> str:
    """The table of answers as it stands in its page."""
    shown = _ANSWERS.search(read(RESULTS))
    assert shown is not None
    return shown[0]


_GOES_ON = {
    "nothing": "goes on",
    "type": "makes no more calls of the type",
    "everything": "makes no more calls",
}


def answers_table() -> str:
    """The table of answers, a line for each that the contract tells apart."""
    lines: dict[str, str] = {}
    for row in ROWS:
        code = f" `{row.code}`" if row.code in set(Code) else ""
        asks = _GOES_ON[row.ends]
        lines.setdefault(row.says, f"| {row.says} | `{row.status}`{code} | {row.kind or ''} | {asks} |")
    head = "| Security Center's answer | the event is | who must act | this invocation |\n|---|---|---|---|\n"
    return head + "\n".join(lines.values()) + "\n"


def write() -> None:
    """Write the table and the pictures."""
    RESULTS.write_text(_ANSWERS.sub(lambda _: answers_table(), read(RESULTS)), encoding="utf-8")
    for path, picture in PICTURES.items():
        path.write_text(picture(), encoding="utf-8")


if __name__ == "__main__":
    write()
