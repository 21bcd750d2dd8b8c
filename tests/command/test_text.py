"""What others wrote is shown as text, and durations are what people write."""

import json
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from local.durations import duration_s, shown
from local.text import in_one_line, json_text, nearest, visible

DANGEROUS = {"Cc", "Cf", "Cs", "Zl", "Zp"}
ANY_TEXT = st.text(st.characters(), max_size=30)


@given(ANY_TEXT)
def test_nothing_that_moves_hides_or_turns_text_is_left(text: str) -> None:
    """Controls, formats, bidi, surrogates and line ends are gone, whatever the text."""
    assert not DANGEROUS & {unicodedata.category(one) for one in visible(text)}


@given(st.recursive(ANY_TEXT, lambda inner: st.lists(inner) | st.dictionaries(ANY_TEXT, inner), max_leaves=5))
def test_json_is_as_safe_and_reads_back_as_it_was(document: object) -> None:
    """On one line and on several."""
    for indent in (None, 2):
        text = json_text(document, indent=indent)
        assert json.loads(text) == document
        assert not DANGEROUS & {unicodedata.category(one) for one in text if one != "\n"}


def test_what_cannot_be_seen_is_written_out() -> None:
    """As the contract has it; letters, marks and wide spaces of any language stay."""
    assert visible("a\u202eb\x1b[2J\x9b") == "a\\u202eb\\u001b[2J\\u009b"
    assert visible("Größe 主机\u3000ü") == "Größe 主机\u3000ü"
    assert in_one_line("two\nlines  here") == "two lines here"


def test_the_nearest_word_is_named_only_where_one_is_near() -> None:
    """Else nothing is guessed."""
    assert nearest("task_typ", ["task_type", "targets"]) == "; did you mean task_type?"
    assert nearest("zzz", ["task_type"]) == ""


def test_durations_are_a_number_and_a_unit() -> None:
    """Shown by the two largest."""
    assert [duration_s(text) for text in ("30s", "10m", "2h", "1d")] == [30, 600, 7200, 86_400]
    assert [shown(seconds) for seconds in (0, 41, 7500, 90_061)] == ["0s", "41s", "2h 5m", "1d 1h"]


@pytest.mark.parametrize("text", ["", "30", "s", "-1s", "1.5h", "1w", "1h30m", " 1s", "\u0661s"])
def test_what_is_no_duration_is_told_what_one_is(text: str) -> None:
    """By example."""
    with pytest.raises(ValueError, match="30s, 10m, 2h or 1d"):
        duration_s(text)
