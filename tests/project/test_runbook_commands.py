"""The runbook's commands as an operator types them: bash, the real jq, and a file for what AWS's CLI says."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.project.test_runbook import RUNBOOK, blocks

AWS = """
of() { echo "https://sqs.eu-central-1.amazonaws.com/123456789012/$1.fifo"; }
aws() {
  case "$2" in
    receive-message) cat messages.json ;;
    *) printf '%s\\n' "$*" >>asked.txt ;;
  esac
}
"""
"""The shell that a block runs in: `aws` answers with the file, and writes down what else it was asked."""


@pytest.fixture
def bash(tmp_path: Path) -> Path:
    """A folder in which blocks are run."""
    if shutil.which("jq") is None:
        pytest.skip("there is no jq here")
    return tmp_path


def run(folder: Path, *texts: str) -> str:
    """What the blocks print, one after the other in one shell."""
    script = "\n".join(("set -euo pipefail", AWS, *texts))
    done = subprocess.run(
        ["bash", "-c", script],  # noqa: S607 - from PATH, as an operator's
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def block_with(words: str) -> str:
    """The runbook's one shell block that holds these words."""
    [found] = [block for block in blocks(RUNBOOK, "sh") if words in block]
    return found


def test_results_among_the_dead_letters_are_handed_on_whole_and_in_order(bash: Path) -> None:
    """Ids and codes are shown; then each message is an entry, and is deleted. Hostile ids are only data."""
    ids = ["webhook:r:1", "webhook:r:$(touch hacked)`touch hacked`", 'webhook:r:"quoted" \\ and\ttabbed']
    messages = [
        {
            "Body": json.dumps({"event_id": event_id, "sequence": 1}),
            "ReceiptHandle": f"handle+/{number}=",
            "MessageAttributes": {"ERROR_CODE": {"StringValue": "MalformedDetail", "DataType": "String"}},
        }
        for number, event_id in enumerate(ids)
    ]
    (bash / "messages.json").write_text(json.dumps({"Messages": messages}))

    shown = run(bash, block_with(">dead.json"), block_with("put-events"))

    assert shown.splitlines()[0] == "webhook:r:1\tMalformedDetail"
    assert len(shown.splitlines()) == len(ids)
    entries = json.loads((bash / "entries.json").read_text())
    assert [json.loads(entry["Detail"])["event_id"] for entry in entries] == ids
    assert {entry["Source"] for entry in entries} == {"oncetask"}
    asked = (bash / "asked.txt").read_text().splitlines()
    assert [line.rpartition(" ")[2] for line in asked[1:]] == [f"handle+/{n}=" for n in range(len(ids))]
    assert not (bash / "hacked").exists()


def test_rows_that_only_the_copy_has_are_found(bash: Path) -> None:
    """`scan` of both tables, and what the second has beyond the first."""
    tables = """
of() { echo ledger; }
aws() {
  case "$*" in
    *ledger-copy*) printf 'event/a\\tevent/b\\tlease/sweep\\n' ;;
    *) printf 'event/a\\ttask/t\\n' ;;
  esac
}
"""
    found = run(bash, tables, block_with("comm -13"))

    assert found.splitlines() == ["event/b", "lease/sweep"]


def test_the_key_reaches_secrets_manager_and_nothing_else(bash: Path) -> None:
    """From the keyboard to the CLI's standard input: no argument and no file holds it."""
    deploy = (RUNBOOK.parent / "deploy.md").read_text(encoding="utf-8")
    block = deploy.split("```sh\n   read -r")[1].split("```")[0]
    aws = 'aws() { printf "%s\\n" "$*" >asked.txt; cat >stdin.txt; }'
    typed = "<<'TYPED'\nLTAI-id\na-secret\nTYPED"
    script = f"{aws}\ntyped() {{\nread -r{block}\n}}\ntyped {typed}"

    run(bash, script)

    assert json.loads((bash / "stdin.txt").read_text()) == {
        "ALIBABA_CLOUD_ACCESS_KEY_ID": "LTAI-id",
        "ALIBABA_CLOUD_ACCESS_KEY_SECRET": "a-secret",
    }
    assert "a-secret" not in (bash / "asked.txt").read_text()
