"""What `oncetask.webhooks.secrets` promises: values where they can be read, and never in a text."""

from pathlib import Path

import pytest

from oncetask.errors import Code, SecretUnavailable
from oncetask.webhooks.secrets import (
    FAILURE_S,
    FRESH_S,
    GOOD_S,
    Found,
    SecretValues,
    environment_reader,
    read_file,
)
from tests.clocks import FakeClock


class Cabinet:
    """Secrets that come and go, and how often each was asked for."""

    def __init__(self, **values: bytes) -> None:
        self.values = values
        self.asked: list[str] = []
        self.clock = FakeClock()

    def read(self, name: str) -> tuple[bytes, ...]:
        self.asked.append(name)
        if name not in self.values:
            raise SecretUnavailable(f"the secret {name} cannot be read")
        return (self.values[name],)

    def secret_values(self) -> SecretValues:
        """Values of references `x:NAME`."""
        return SecretValues({"x": self.read}, self.clock)


def test_values_come_in_the_order_of_their_references() -> None:
    """All of them: a rotation accepts either."""
    found = Cabinet(new=b"n", old=b"o").secret_values().find(("x:new", "x:old"))

    assert (found.values, found.missing) == ((b"n", b"o"), None)


def test_every_value_that_a_reader_gives_is_good() -> None:
    """The current one and the previous one, while the senders change over."""
    values = SecretValues({"x": lambda _: (b"current", b"", b"previous")}, FakeClock())

    assert values.find(("x:a",)).values == (b"current", b"previous")


def test_a_value_is_read_once_while_it_is_fresh() -> None:
    """At the first delivery; then it stays in memory, and a rotation takes effect in time."""
    cabinet = Cabinet(a=b"1")
    values = cabinet.secret_values()

    for _ in range(3):
        values.find(("x:a",))
    cabinet.values["a"] = b"2"
    cabinet.clock.advance(FRESH_S)
    later = values.find(("x:a",))

    assert (later.values, cabinet.asked) == ((b"2",), ["a", "a"])


def test_what_was_read_outlives_a_reader_that_fails() -> None:
    """For an hour, and with the reason beside it: a newer value might verify what this one does not."""
    cabinet = Cabinet(a=b"1")
    values = cabinet.secret_values()
    values.find(("x:a",))
    cabinet.values.clear()

    cabinet.clock.advance(FRESH_S)
    old = values.find(("x:a",))
    cabinet.clock.advance(GOOD_S)

    assert old.values == (b"1",)
    assert old.missing is not None
    with pytest.raises(SecretUnavailable):
        values.find(("x:a",))


def test_what_could_not_be_had_is_tried_again() -> None:
    """A failure, and an empty value, are remembered for seconds: strangers must not cause calls."""
    cabinet = Cabinet(there=b"1", empty=b"")
    values = cabinet.secret_values()
    references = ("x:there", "x:gone", "x:empty")
    before = values.find(references)
    cabinet.values |= {"gone": b"2", "empty": b"3"}
    soon = values.find(references)
    cabinet.clock.advance(FAILURE_S)

    after = values.find(references)

    assert (before.values, soon.values) == ((b"1",), (b"1",))
    assert cabinet.asked.count("gone") == 2
    assert after.values == (b"1", b"2", b"3")


def test_the_other_values_are_given_beside_why_one_is_missing() -> None:
    """A sender who shows the one that is there can be believed."""
    found = Cabinet(a=b"1").secret_values().find(("x:a", "x:b"))

    assert found.values == (b"1",)
    assert found.missing is not None


def test_an_empty_value_is_no_secret_and_nothing_missing() -> None:
    """It changes nothing for senders; the operator is told which one it is."""
    found = Cabinet(a=b"1", b=b"").secret_values().find(("x:a", "x:b"))

    assert found == Found((b"1",), None, ("the secret x:b is not set or empty",))


def test_what_can_be_no_key_is_no_secret() -> None:
    """The scheme says what can be one."""
    values = Cabinet(a=b"short", b=b"long enough").secret_values()

    found = values.find(("x:a", "x:b"), lambda value: value if len(value) > 8 else None)

    assert found == Found((b"long enough",), None, ("the secret x:a is no key of this scheme",))


def test_line_ends_around_a_secret_are_no_part_of_it() -> None:
    """From wherever it comes; spaces are."""
    found = Cabinet(a=b"\r\n s \r\n").secret_values().find(("x:a",))

    assert found.values == (b" s ",)


def test_the_operator_is_told_once_a_minute() -> None:
    """Of each route."""
    cabinet = Cabinet()
    values = cabinet.secret_values()

    told = [values.is_to_be_told(route) for route in ("r", "r", "s")]
    cabinet.clock.advance(60)

    assert [*told, values.is_to_be_told("r")] == [True, False, True, True]


@pytest.mark.parametrize("cabinet", [Cabinet(a=b""), Cabinet()], ids=["empty", "missing"])
def test_without_any_value_the_secret_is_unavailable(cabinet: Cabinet) -> None:
    """The operator must act; the text names the reference."""
    with pytest.raises(SecretUnavailable, match="a") as caught:
        cabinet.secret_values().find(("x:a",))

    assert caught.value.code == Code.SECRET_UNAVAILABLE


def test_a_scheme_without_secrets_finds_none() -> None:
    """Scheme `none` asks for nothing."""
    assert Cabinet().secret_values().find(()) == Found((), None)


def test_a_value_shows_in_no_text() -> None:
    """Neither found nor kept."""
    values = Cabinet(a=b"hunter2").secret_values()

    found = values.find(("x:a",))

    assert "hunter2" not in repr(found) + repr(values)


def test_a_variable_is_its_bytes() -> None:
    """As the operating system gave them; one that is not set is empty."""
    read = environment_reader({"SET": "pässword", "RAW": b"\xff".decode(errors="surrogateescape")})

    assert [read(name) for name in ("SET", "RAW", "NOT_SET")] == [
        ("pässword".encode(),),
        (b"\xff",),
        (b"",),
    ]


def test_a_file_is_its_bytes(tmp_path: Path) -> None:
    """Whatever they are."""
    (tmp_path / "secret").write_bytes(b"\xff\x00 ")

    assert read_file(str(tmp_path / "secret")) == (b"\xff\x00 ",)


@pytest.mark.parametrize("name", ["missing", "folder", "null\0character"])
def test_a_file_that_cannot_be_read_is_unavailable(name: str, tmp_path: Path) -> None:
    """Missing, a folder, or no path at all; the text names the file."""
    (tmp_path / "folder").mkdir()

    with pytest.raises(SecretUnavailable, match="cannot be read"):
        read_file(str(tmp_path / name))
