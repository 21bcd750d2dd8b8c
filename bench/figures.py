"""What `make bench` found, shown: a table on the screen, docs/bench.md, and its picture docs/bench.svg."""

import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from rich.console import Console
from rich.table import Table

DOCS = Path(__file__).resolve().parents[1] / "docs"
NAMES = ("name", "measured", "ratio", "goal", "met")

LINE_PX = 26
TEXT_PX = 430
GOAL_PX = 260
"""From a bar's beginning to the line that it should not cross."""
WIDEST = 1.6
"""Where a bar is cut, in goals."""


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table; `ratio` and `goal` are texts, `met` None where there is no goal.

    `of_goal`: how much of what the goal allows was taken, for the picture; None: it is not in there.
    """

    name: str
    measured: str
    ratio: str = ""
    goal: str = ""
    met: bool | None = None
    of_goal: float | None = None

    @classmethod
    def at_most(cls, name: str, measured: str, value: float, goal: float, unit: str = "") -> "Row":
        """A line whose value should not be over its goal."""
        shown = f"{value:.2f}{unit}"
        return cls(name, measured, shown, f"<= {goal:g}{unit}", value <= goal, value / goal)

    def cells(self) -> tuple[str, ...]:
        """The line as it is shown."""
        met = "" if self.met is None else ("yes" if self.met else "NO")
        return (self.name, self.measured, self.ratio, self.goal, met)


def show(rows: Iterable[Row]) -> None:
    """The table; tab-separated where nobody sees it."""
    lines = [row.cells() for row in rows]
    if not sys.stdout.isatty():
        print(*("\t".join(line) for line in (NAMES, *lines)), sep="\n")
        return
    table = Table(*NAMES)
    for line in lines:
        table.add_row(*line)
    Console().print(table)


def write(rows: Sequence[Row], *, machine: str, folder: Path = DOCS) -> None:
    """The page and its picture."""
    (folder / "bench.svg").write_text(picture(rows), encoding="utf-8")
    (folder / "bench.md").write_text(page(rows, machine), encoding="utf-8")


def page(rows: Sequence[Row], machine: str) -> str:
    """The table in Markdown."""
    lines = [_markdown(NAMES), _markdown(["---"] * len(NAMES)), *(_markdown(row.cells()) for row in rows)]
    table = "\n".join(lines)
    return f"""# What `make bench` measured

Written by `make bench`. How to read it, and what was done about it: [performance.md](performance.md).

{machine}

![each figure beside its goal](bench.svg)

{table}
"""


def _markdown(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cell.replace('|', '¦') for cell in cells)} |"


def picture(rows: Sequence[Row]) -> str:
    """A bar a figure, as long as what it takes of its goal; the goal is the line."""
    bars = [row for row in rows if row.of_goal is not None]
    width, height = TEXT_PX + int(GOAL_PX * WIDEST) + 90, LINE_PX * (len(bars) + 2)
    parts = [_bar(row, place) for place, row in enumerate(bars, start=1)]
    goal_px = TEXT_PX + GOAL_PX
    size = f'viewBox="0 0 {width} {height}" width="{width}" height="{height}"'
    ends = f'x1="{goal_px}" y1="{LINE_PX}" x2="{goal_px}" y2="{height - LINE_PX}"'
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif" font-size="13">',
            f'<rect width="{width}" height="{height}" fill="#fff"/>',
            f'<text x="{goal_px}" y="16" text-anchor="middle" fill="#555">goal: at most</text>',
            *parts,
            f'<line {ends} stroke="#333" stroke-dasharray="4 3"/>',
            "</svg>\n",
        ]
    )


def _bar(row: Row, place: int) -> str:
    top_px, share = LINE_PX * place, row.of_goal or 0.0
    length_px = GOAL_PX * min(share, WIDEST)
    color = "#2a7f62" if row.met else "#c0492f"
    base_px = top_px + 17
    told = f"{row.ratio} ({row.goal.removeprefix('<= ')})"
    return (
        f'<text x="{TEXT_PX - 8}" y="{base_px}" text-anchor="end" fill="#222">{escape(row.name)}</text>'
        f'<rect x="{TEXT_PX}" y="{top_px + 4}" width="{length_px:.0f}" height="18" fill="{color}"/>'
        f'<text x="{TEXT_PX + length_px + 6:.0f}" y="{base_px}" fill="#222">{escape(told)}</text>'
    )
