"""`routes check`: every mistake at once, each with its place; and what never does what it looks like."""

from pathlib import Path

import pytest

from local.mistakes import Mistake, mistakes
from local.toml_lines import lines_of
from local.traps import traps
from oncetask.errors import SettingsError
from oncetask.models import TASK_TYPES
from oncetask.routing.routes import load_routes

TIMER = '[routes.t]\ntrigger = "timer"\ntask_type = "IMAGE_SCAN"\n'
WEBHOOK = (
    '[routes.w]\ntrigger = "webhook"\ntask_type = "IMAGE_SCAN"\n{more}[routes.w.verify]\nscheme = "none"\n'
)


def found(text: str, folder: Path) -> list[Mistake]:
    """The mistakes of a routes file with that text."""
    path = folder / "routes.toml"
    path.write_text(text, encoding="utf-8")
    return mistakes(path, TASK_TYPES)


def trapped(text: str, folder: Path) -> list[tuple[str, str, int | None]]:
    """Key, message and place of the traps of a routes file with that text."""
    path = folder / "routes.toml"
    path.write_text(text, encoding="utf-8")
    return [(trap.key, trap.message, trap.at) for trap in traps(load_routes(path, TASK_TYPES))]


def test_the_routes_that_load_have_no_mistake(tmp_path: Path) -> None:
    """Exactly those."""
    assert found(TIMER, tmp_path) == []


def test_all_mistakes_are_told_at_once_each_with_its_line(tmp_path: Path) -> None:
    """Of several routes, in the order of the file."""
    text = TIMER.replace("IMAGE_SCAN", "IMAGE_SCN") + WEBHOOK.format(more='tagets = "a"\nwhen = "a ="\n')

    told = found(text, tmp_path)

    assert [(one.route, one.key, one.line) for one in told] == [
        ("t", "task_type", 3),
        ("w", "tagets", 7),
        ("w", "when", 8),
    ]
    assert "did you mean IMAGE_SCAN?" in told[0].message
    assert "did you mean targets?" in told[1].message
    assert (told[2].expression, told[2].at, "write ==" in told[2].message) == ("a =", 2, True)


@pytest.mark.parametrize(
    ("expression", "at", "says"),
    [
        ("a.b[", 4, "ends too early"),
        ("a..b", 2, "dot"),
        ("joins('/', a)", 0, "did you mean join?"),
        ("x.lenght(y)", 2, "did you mean length?"),
        ("a ^ b", 2, "means nothing"),
    ],
)
def test_a_mistake_in_an_expression_has_its_character(
    expression: str, at: int, says: str, tmp_path: Path
) -> None:
    """And the parser's own words."""
    [told] = found(WEBHOOK.format(more=f'when = "{expression}"\n'), tmp_path)

    assert (told.key, told.expression, told.at) == ("when", expression, at)
    assert says in told.message


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        (TIMER.replace("IMAGE_SCAN", "IMAGE_SCN"), "did you mean IMAGE_SCAN?"),
        (WEBHOOK.format(more='tagets = "a"\n'), "did you mean targets?"),
        (WEBHOOK.format(more='when = "a = b"\n'), "to compare, write =="),
        (WEBHOOK.format(more='id = "joins(a, b)"\n'), "did you mean join?"),
        (WEBHOOK.format(more='each = "a["\n'), "from character 3 on: it ends too early"),
        (WEBHOOK.format(more="").replace('"none"', '"standard-webhook"'), "did you mean standard-webhooks?"),
        (WEBHOOK.format(more="").replace('"none"', '"bearer"\nsecret = ["env:A"]'), "is missing"),
        (
            WEBHOOK.format(more="").replace('"none"', '"bearer"\nsecrets = ["env:A"]\nhandshak = "slack"'),
            "did you mean handshake?",
        ),
    ],
)
def test_the_process_stops_with_the_words_of_the_first_mistake(text: str, meant: str, tmp_path: Path) -> None:
    """What `routes check` says of it is what a handler says at its start, and what was probably meant."""
    first = found(text, tmp_path)[0]

    with pytest.raises(SettingsError) as stopped:
        load_routes(tmp_path / "routes.toml", TASK_TYPES)

    assert str(stopped.value).endswith(first.message)
    assert meant in first.message


def test_a_wrong_scheme_does_not_hide_the_other_mistakes(tmp_path: Path) -> None:
    """Nor do its own keys hide each other."""
    text = WEBHOOK.format(more='id = "a["\n').replace('"none"', '"hmac"\nsecret = ["env:A"]')

    assert {one.key for one in found(text, tmp_path)} == {
        "id",
        "verify.secret",
        "verify.secrets",
        "verify.header",
    }


def test_a_file_that_is_no_toml_is_one_mistake_with_its_line(tmp_path: Path) -> None:
    """Nothing more can be known of it."""
    [told] = found("[routes.a]\nx = \n", tmp_path)

    assert (told.route, told.line) == (None, 2)


@pytest.mark.parametrize(
    ("when", "at", "says"),
    [
        ('status == \\"firing\\"', 10, "'firing'"),
        ("alerts[?status == 'firing']", 0, "never be true"),
        ("length(alerts)", 0, "never be true"),
        ("length(alerts) == '1'", 0, "never be true"),
        ("severity > 'high'", 0, "never be true"),
        ("status == 'firing' && join(',', a)", 0, "never be true"),
        ("'a' == 'b'", 0, "never be true"),
    ],
)
def test_a_when_that_never_acts_is_warned_of(when: str, at: int, says: str, tmp_path: Path) -> None:
    """It is no mistake: the file loads."""
    [(key, message, place)] = trapped(WEBHOOK.format(more=f'when = "{when}"\n'), tmp_path)

    assert (key, place) == ("when", at)
    assert says in message


@pytest.mark.parametrize(
    "when",
    [
        "enabled",
        "status == 'firing'",
        "length(a) == `1`",
        "contains(a, 'b')",
        "!a",
        "a || b",
        "a.b && c == d",
    ],
)
def test_a_when_that_may_be_true_is_not_warned_of(when: str, tmp_path: Path) -> None:
    """A warning that cries wolf is worse than none."""
    assert trapped(WEBHOOK.format(more=f'when = "{when}"\n'), tmp_path) == []


def test_one_secret_of_two_routes_is_warned_of(tmp_path: Path) -> None:
    """Who may speak for one may speak for the other."""
    text = "".join(
        f'[routes.{name}]\ntrigger = "webhook"\ntask_type = "IMAGE_SCAN"\n[routes.{name}.verify]\n'
        'scheme = "bearer"\nsecrets = ["env:SHARED"]\n'
        for name in ("a", "b")
    )

    [(key, message, _)] = trapped(text, tmp_path)

    assert (key, message) == ("verify.secrets", "env:SHARED is also the secret of route a")


def test_the_line_of_every_key_is_found_whatever_toml_allows() -> None:
    """Dotted keys, quotes, inline tables, long texts."""
    places = lines_of(
        'a.b = 1\n[x."y"]\nz = {q = 1, r = 2}\ntext = """\n[no]\nno = 1\n"""\n[[list]]\nk = 1\n'
    )

    assert places[("a", "b")] == 1
    assert places[("x", "y", "z")] == 3
    assert places[("x", "y", "z", "r")] == 3
    assert ("no",) not in places
    assert places[("list", "k")] == 9
