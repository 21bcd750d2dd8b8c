"""What is given to make's targets is data: neither make nor a shell evaluates anything of it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from local.tools import PROJECT

HOSTILE = ["$(touch {})", "`touch {}`", "; touch {} #", "$(shell touch {})", "'; touch {} #", '"; touch {} #']


def given(tmp_path: Path, target: str, variable: str, value: str) -> subprocess.CompletedProcess[str]:
    """The target with that value; a program in Python's place prints the words that it is given."""
    program = tmp_path / "python"
    program.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n', encoding="utf-8")
    program.chmod(0o755)
    makefile = tmp_path / "Makefile"
    makefile.write_text(
        (PROJECT / "Makefile").read_text(encoding="utf-8").replace("@local/tools/setup\n", "@true\n"),
        encoding="utf-8",
    )
    return subprocess.run(
        ["make", "-f", str(makefile), target, f"PYTHON={program}", f"{variable}={value}"],  # noqa: S607 - from PATH
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("hostile", HOSTILE)
@pytest.mark.parametrize(
    ("target", "variable"), [("bench", "MEASURE"), ("soak", "FOR"), ("soak", "SEED"), ("fuzz", "COUNT")]
)
def test_a_hostile_value_reaches_the_program_as_one_word(
    tmp_path: Path, target: str, variable: str, hostile: str
) -> None:
    """It is not run, and the program can say what is wrong with it."""
    value = hostile.format(tmp_path / "hacked")

    done = given(tmp_path, target, variable, value)

    assert value in done.stdout.splitlines(), done.stderr
    assert not (tmp_path / "hacked").exists()


def test_without_a_value_there_is_the_default(tmp_path: Path) -> None:
    """As the help says."""
    assert "100000" in given(tmp_path, "fuzz", "OTHER", "").stdout.splitlines()


def test_a_measure_that_is_not_there_is_said_in_one_line() -> None:
    """With the nearest name; nothing is measured."""
    done = subprocess.run(
        [sys.executable, "-m", "bench.bench", "storm_row"],
        cwd=PROJECT,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": "src:."},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert (done.returncode, done.stdout) == (1, "")
    assert "did you mean storm_rows?" in done.stderr
    assert len(done.stderr.splitlines()) == 1
