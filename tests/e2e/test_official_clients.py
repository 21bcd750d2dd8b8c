"""The emulator is Security Center enough for Alibaba Cloud's own clients, unchanged."""

import json
import subprocess
from pathlib import Path
from typing import Any

from local.emulator import ACCESS_KEY_ID, ACCESS_KEY_SECRET, SAMPLE, Emulator, read_hosts
from tests.contract.test_security_center import door, soon

HERE = Path(__file__).parent


def output_of(*command: str | Path) -> dict[str, Any]:
    """The JSON object that the driver prints."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def test_the_product_sdk_creates_a_task_and_reads_its_state(emulator: Emulator, product_sdk: Path) -> None:
    """All operations answer in the shape that the SDK's typed models expect; our client reads the same."""
    emulator.hosts[:] = read_hosts(SAMPLE)
    emulator.behaviour.details_below = True
    endpoint = emulator.url.removeprefix("http://")

    seen = output_of(
        product_sdk / "python",
        HERE / "product_sdk_driver.py",
        endpoint,
        ACCESS_KEY_ID,
        ACCESS_KEY_SECRET,
    )

    (task,) = emulator.tasks
    details, by_token = seen.pop("details"), seen.pop("by_token")
    read = door(emulator.url).instances({"clientStatus": "offline"}, soon())
    assert by_token == [
        {"uuid": row.uuid} | {name: row.fields[name] for name in by_token[0] if name != "uuid"}
        for row in read
    ]
    assert [[entry["uuid"] for entry in each] for each in details] == [["inet-1"], ["inet-2"]]
    assert seen == {
        "task_id": task.task_id,
        "can_create": True,
        "listed": [[task.task_id, "INIT"]],
        "result": "INIT",
        "last": task.task_id,
        "by_number": [12, 2],
    }
    assert (task.source, task.targets) == ("sdk", ("inet-1", "inet-2"))


def test_the_product_sdk_is_refused_with_a_wrong_secret(emulator: Emulator, product_sdk: Path) -> None:
    """A signature by another secret makes no task."""
    endpoint = emulator.url.removeprefix("http://")

    seen = output_of(
        product_sdk / "python",
        HERE / "product_sdk_driver.py",
        endpoint,
        ACCESS_KEY_ID,
        "another-secret",
    )

    assert seen == {"code": "SignatureDoesNotMatch", "status": 400}
    assert emulator.tasks == []


def test_the_node_client_creates_a_task_and_reads_its_state(emulator: Emulator, node_tools: Path) -> None:
    """A client in another language, which signs other headers, is understood just as well."""
    endpoint = emulator.url.removeprefix("http://")

    seen = output_of(
        "node",
        HERE / "node_client_driver.mjs",
        node_tools,
        endpoint,
        ACCESS_KEY_ID,
        ACCESS_KEY_SECRET,
    )

    (task,) = emulator.tasks
    assert seen == {"task_id": task.task_id, "listed": [[task.task_id, "INIT"]]}
