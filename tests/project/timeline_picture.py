"""One event from its delivery to its task's end, as a picture: `docs/timeline.svg`.

The story is that of a `submit = "sweep"` event whose answer is lost; the letters are the moments at which its
process may die. What is told of each is what `tests/functional/test_deaths.py` does to real processes.
"""

from typing import NamedTuple
from xml.sax.saxutils import escape

WIDTH, HEIGHT = 1000, 580
SENDER_Y, LEDGER_Y, SERVICE_Y, DEATHS_Y = 56, 152, 268, 322
CARDS_Y, CARD_WIDTH, CARD_HEIGHT, GAP = 362, 312, 92, 12
LEFT, TRACKS_X, RIGHT = 20, 164, 980

STYLE = """\
svg { color-scheme: light dark }
.page { fill: #ffffff; stroke: #d8dee6 }
.card { fill: #f5f7fa; stroke: #d8dee6 }
.track { stroke: #c3cbd6; stroke-width: 2 }
.arrow { stroke: #4a5568; stroke-width: 1.6; fill: none; marker-end: url(#head) }
.lost { stroke: #c0392b; stroke-width: 1.6; fill: none; stroke-dasharray: 4 3 }
.cross { stroke: #c0392b; stroke-width: 2.4 }
.tick { stroke: #ffffff; stroke-width: 2 }
.head { fill: #4a5568 }
.pending { fill: #d99a1c }
.unknown { fill: #8e5bb5 }
.created { fill: #2a9d5c }
.task { fill: #d6e4f5; stroke: #7aa5d6 }
.death { fill: #c0392b }
.when { stroke: #c0392b; stroke-width: 1.2; stroke-dasharray: 2 4 }
text { font: 13px system-ui, "Segoe UI", "DejaVu Sans", sans-serif; fill: #1f2733 }
.who { font-weight: 600 }
.small { font-size: 12px; fill: #4a5568 }
.mark { font-size: 12px; font-weight: 700; fill: #ffffff; text-anchor: middle }
.state { font-size: 12px; font-weight: 600; fill: #ffffff; text-anchor: middle }
.middle { text-anchor: middle }
.end { text-anchor: end }
.bold { font-weight: 600 }
@media (prefers-color-scheme: dark) {
  .page { fill: #0f141b; stroke: #2d3642 }
  .card { fill: #18202a; stroke: #2d3642 }
  .track { stroke: #3d4857 }
  .arrow { stroke: #aeb9c7 }
  .head { fill: #aeb9c7 }
  .lost, .cross, .when { stroke: #ef6b5e }
  .pending { fill: #b27c10 }
  .unknown { fill: #8a5cb0 }
  .created { fill: #23854d }
  .task { fill: #1d3047; stroke: #47719f }
  text { fill: #e4e9f0 }
  .small { fill: #aeb9c7 }
  .mark, .state { fill: #ffffff }
}
"""


class Death(NamedTuple):
    """A moment at which the process may die: where it stands, when it is, and what happens then."""

    letter: str
    x: int
    when: str
    then: tuple[str, str]


DEATHS = (
    Death(
        "A",
        216,
        "before it is recorded",
        ("Nothing was accepted: the sender gets no", "2xx. Most retry; AWS retries a tick."),
    ),
    Death("B", 328, "recorded, no call yet", ("Nothing was sent. The next sweep", "sends it.")),
    Death(
        "C",
        436,
        "call recorded, not sent",
        ("Nobody can tell that it was not sent. It is", "searched for, not found, and then sent."),
    ),
    Death(
        "D",
        514,
        "sent, answer not recorded",
        ("As a lost answer: the next sweeps search for", "the task, find it, and make no other."),
    ),
    Death(
        "E",
        718,
        "answer recorded, event not settled",
        ("The next sweep reads the answer in the", "ledger, and sends nothing."),
    ),
    Death(
        "F",
        806,
        "while the task runs",
        ("The task is on record. The next sweep", "follows it to its end."),
    ),
)


RECORDED, CALL, SENT, SEARCHED, SETTLED, ENDED = 240, 414, 476, 622, 772, 916


def picture() -> str:
    """The SVG."""
    parts = [*_tracks()]
    for number, death in enumerate(DEATHS):
        parts += [*_mark(death), *_card(number, death)]
    parts += [*_ledger(), *_service(), *_arrows()]
    return "\n".join([_head(), *parts, "</svg>\n"])


def _head() -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img"'
        ' aria-labelledby="title">\n'
        '<title id="title">An event is recorded, sent, its answer lost, its task found and followed to'
        " its end; below, what happens if the process dies at each point</title>\n"
        f"<style>\n{STYLE}</style>\n"
        '<defs><marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7"'
        ' orient="auto"><path class="head" d="M0 0 8 4 0 8z"/></marker></defs>\n'
        f'<rect class="page" x="0.5" y="0.5" width="{WIDTH - 1}" height="{HEIGHT - 1}" rx="10"/>'
    )


def _tracks() -> list[str]:
    lines = [
        f'<line class="track" x1="{TRACKS_X}" y1="{y}" x2="{RIGHT}" y2="{y}"/>'
        for y in (SENDER_Y, LEDGER_Y, SERVICE_Y)
    ]
    named = (
        (SENDER_Y, "sender"),
        (LEDGER_Y, "oncetask's ledger"),
        (SERVICE_Y, "Security Center"),
        (DEATHS_Y, "if oncetask dies at"),
    )
    return lines + [_text(LEFT, y + 4, name, "who") for y, name in named]


def _ledger() -> list[str]:
    """The event's states as bars on the ledger's track."""
    bars = (
        (RECORDED, SENT, "pending", "pending"),
        (SENT, SETTLED, "unknown", "unknown"),
        (SETTLED, ENDED, "created", "created"),
        (ENDED, RIGHT, "created", "finished"),
    )
    parts = []
    for x, until, kind, name in bars:
        parts.append(_bar(kind, x + 1, LEDGER_Y, until - x - 2))
        parts.append(_text((x + until) // 2, LEDGER_Y + 4, name, "state"))
    return parts


def _bar(kind: str, x: int, y: int, width: int) -> str:
    return f'<rect class="{kind}" x="{x}" y="{y - 11}" width="{width}" height="22" rx="4"/>'


def _service() -> list[str]:
    return [
        _bar("task", SENT + 12, SERVICE_Y, ENDED - SENT - 30),
        _text((SENT + ENDED) // 2, SERVICE_Y + 4, "the task runs", "small middle"),
    ]


def _arrows() -> list[str]:
    above, below = LEDGER_Y - 14, LEDGER_Y + 14
    service = SERVICE_Y - 14
    return [
        _arrow(RECORDED - 34, SENDER_Y + 6, RECORDED, above),
        _text(RECORDED - 30, SENDER_Y - 12, "POST", "small middle"),
        _arrow(RECORDED + 8, above, RECORDED + 42, SENDER_Y + 6),
        _text(RECORDED + 52, SENDER_Y - 12, "202", "small middle"),
        _text(RECORDED + 4, LEDGER_Y + 32, "recorded", "bold"),
        f'<line class="tick" x1="{CALL}" y1="{LEDGER_Y - 11}" x2="{CALL}" y2="{LEDGER_Y + 11}"/>',
        _text(CALL, LEDGER_Y - 22, "call recorded", "bold middle"),
        _arrow(SENT - 2, below, SENT + 20, service),
        _text(SENT - 6, LEDGER_Y + 58, "sent", "bold end"),
        f'<path class="lost" d="M{SENT + 56} {service} L{SENT + 72} {LEDGER_Y + 66}"/>',
        *_cross(SENT + 75, LEDGER_Y + 58),
        _text(SENT + 86, LEDGER_Y + 56, "answer", "small"),
        _text(SENT + 86, LEDGER_Y + 71, "lost", "small"),
        _arrow(SEARCHED + 2, below, SEARCHED + 18, service),
        _arrow(SEARCHED + 36, service, SEARCHED + 52, below),
        _text(SEARCHED + 58, LEDGER_Y + 58, "found", "bold"),
        _text(SEARCHED + 2, LEDGER_Y - 22, "searched for after 5, 30, 90, 180 s", "small middle"),
        _text(SETTLED, LEDGER_Y - 22, "settled", "bold middle"),
        _arrow(ENDED - 34, below, ENDED - 24, service),
        _arrow(ENDED - 10, service, ENDED, below),
        _text(ENDED + 8, LEDGER_Y + 58, "ended", "bold"),
        _text(ENDED - 42, LEDGER_Y + 58, "followed", "small end"),
    ]


def _mark(death: Death) -> list[str]:
    """Its letter on the lowest track, and where that is on the ledger's."""
    line = f'<line class="when" x1="{death.x}" y1="{LEDGER_Y - 16}" x2="{death.x}" y2="{DEATHS_Y}"/>'
    return [line, *_letter(death.x, DEATHS_Y, death.letter)]


def _card(number: int, death: Death) -> list[str]:
    x = LEFT + (number % 3) * (CARD_WIDTH + GAP)
    y = CARDS_Y + (number // 3) * (CARD_HEIGHT + GAP)
    return [
        f'<rect class="card" x="{x}" y="{y}" width="{CARD_WIDTH}" height="{CARD_HEIGHT}" rx="6"/>',
        *_letter(x + 22, y + 24, death.letter),
        _text(x + 40, y + 28, death.when, "bold"),
        *(_text(x + 14, y + 53 + 18 * line, text) for line, text in enumerate(death.then)),
    ]


def _letter(x: int, y: int, letter: str) -> list[str]:
    return [f'<circle class="death" cx="{x}" cy="{y}" r="10"/>', _text(x, y + 4, letter, "mark")]


def _arrow(x: int, y: int, to_x: int, to_y: int) -> str:
    return f'<path class="arrow" d="M{x} {y} L{to_x} {to_y}"/>'


def _cross(x: int, y: int) -> list[str]:
    arms = ((x - 5, y - 5, x + 5, y + 5), (x - 5, y + 5, x + 5, y - 5))
    return [f'<line class="cross" x1="{a}" y1="{b}" x2="{c}" y2="{d}"/>' for a, b, c, d in arms]


def _text(x: int, y: int, text: str, kind: str = "") -> str:
    named = f' class="{kind}"' if kind else ""
    return f'<text{named} x="{x}" y="{y}">{escape(text)}</text>'
