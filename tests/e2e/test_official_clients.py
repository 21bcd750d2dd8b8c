"""The emulator is Security Center enough for Alibaba Cloud's own clients, unchanged."""

import json
import subprocess
from pathlib import Path

from local.emulator import ACCESS_KEY_ID, ACCESS_KEY_SECRET, Emulator

HERE = Path(__file__).parent


def output_of(*command: str | Path) -> dict[str, object]:
    """The JSON object that the driver prints."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    answer: dict[str, object] = json.loads(done.stdout)
    return answer


def test_the_product_sdk_creates_a_task_and_reads_its_state(emulator: Emulator, product_sdk: Path) -> None:
    """All four operations answer in the shape that the SDK's typed models expect."""
    endpoint = emulator.url.removeprefix("http://")

    seen = output_of(
        product_sdk / "python",
        HERE / "product_sdk_driver.py",
        endpoint,
        ACCESS_KEY_ID,
        ACCESS_KEY_SECRET,
    )

    (task,) = emulator.tasks
    assert seen == {
        "task_id": task.task_id,
        "can_create": True,
        "listed": [[task.task_id, "INIT"]],
        "result": "INIT",
        "last": task.task_id,
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
