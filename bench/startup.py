"""What a start, a warm event, memory and the bundle cost, beside the official clients doing the same.

Everything runs in processes of its own, by `bench/peers/drive.py`, from folders as `sam build` packs
them: ours, a five-line handler on the bare Tea client, and one on Alibaba Cloud's own SDK. They take turns,
so that what else the machine does meets them alike; the emulator is a process of its own, too.
"""

import base64
import contextlib
import hashlib
import hmac
import itertools
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Self

from bench.bundle import MB, bundles
from bench.figures import Row
from local.emulator import ACCESS_KEY_ID, ACCESS_KEY_SECRET, Behaviour, Emulator
from local.events import json_delivery
from local.tools import PROJECT, TOOLS

PLACE = TOOLS / "bench"
PEERS = PROJECT / "bench" / "peers"
PLATFORM = f"{platform.machine()}-manylinux2014"
PYTHON = Path(sys.base_prefix) / "bin" / f"python{sys.version_info.major}.{sys.version_info.minor}"

STARTS = 15
PLAIN_STARTS = 5
WARM_ROUNDS = 20
CALLS_PER_ROUND = 25
FEW, MANY = 1_000, 10_000

KEY = b"the key of check-host"
TOKEN = "the token of agent-offline"  # noqa: S105 - made up
BARE = {
    "TaskType": "CLIENT_PROBLEM_CHECK",
    "TaskName": "CLIENT_PROBLEM_CHECK",
    "Param": '{"mode":1,"problemType":"offline","uuids":"inet-00000001"}',
    "Source": "bench",
}

type Event = dict[str, Any]


# -- events ---------------------------------------------------------------------------------------


def tick() -> Event:
    """One tick of the schedule in the example routes."""
    return {
        "route": "nightly-assets",
        "schedule": "arn:aws:scheduler:eu-central-1:123456789012:schedule/default/nightly-assets",
        "scheduled_time": "2026-11-24T05:00:00Z",
    }


def signed(number: int, *, key: bytes = KEY) -> Event:
    """A delivery to `check-host`, which is asked for at once."""
    body = json.dumps({"data": {"uuid": f"inet-{number:08}", "problem": "offline"}})
    message_id, now = f"msg-{number}", str(int(time.time()))
    digest = hmac.digest(key, f"{message_id}.{now}.{body}".encode(), "sha256")
    return json_delivery(
        "check-host",
        body,
        {
            "webhook-id": message_id,
            "webhook-timestamp": now,
            "webhook-signature": f"v1,{base64.b64encode(digest).decode()}",
        },
    )


def unverified() -> Event:
    """The same with another's signature."""
    return signed(1, key=b"the key of a stranger")


def alert(number: int) -> Event:
    """A delivery to `agent-offline`, which is recorded for the sweep."""
    firing = {
        "status": "firing",
        "fingerprint": f"f-{number}",
        "startsAt": "2026-11-24T05:00:00Z",
        "labels": {"instance": f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}:9100"},
    }
    body = json.dumps({"version": "4", "status": "firing", "alerts": [firing]})
    return json_delivery("agent-offline", body, {"authorization": f"Bearer {TOKEN}"})


# -- folders --------------------------------------------------------------------------------------


@cache
def ours() -> Path:
    """What `make build` makes of each function, for this machine."""
    folder = _emptied("ours")
    _make(f"ARTIFACTS_DIR={folder}", f"BUNDLE_PLATFORM={PLATFORM}", "build-BenchFunction")
    return folder


@cache
def bare_tea() -> Path:
    """The bare Tea client's handler, compiled."""
    return _peer("tea", "bare_tea", "src/requirements.txt")


@cache
def plain_tea() -> Path:
    """The same as plain `sam build` packs it: nothing compiled, in a folder that cannot be written to."""
    folder = _emptied("tea-plain")
    shutil.copytree(bare_tea(), folder, ignore=shutil.ignore_patterns("__pycache__"), dirs_exist_ok=True)
    return folder


@cache
def product_sdk() -> Path:
    """The handler on Alibaba Cloud's own SDK, compiled."""
    return _peer("sdk", "product_sdk", "local/tools/product-sdk.txt")


@cache
def product_sdk_and_ours() -> Path:
    """The same with what we have besides Tea: pydantic and Powertools."""
    return _peer("sdk-all", "product_sdk", "local/tools/product-sdk.txt", "src/requirements.txt")


def _peer(name: str, handler: str, *locks: str) -> Path:
    folder = _emptied(name)
    command = [
        *(str(TOOLS / "uv" / "bin" / "uv"), "pip", "install", "-q", "--no-deps", "--require-hashes"),
        *("--only-binary", ":all:", "--no-binary", "alibabacloud-tea"),
        *("--build-constraints", "local/tools/sam.txt", "--target", str(folder)),
        *("--python-platform", PLATFORM, "--python-version", "3.13"),
        *itertools.chain.from_iterable(("-r", lock) for lock in locks),
    ]
    subprocess.run(command, cwd=PROJECT, check=True)  # noqa: S603 - the project's own tool
    shutil.rmtree(folder / "bin", ignore_errors=True)  # as `make build` does: nobody calls them there
    shutil.copy(PEERS / f"{handler}.py", folder)
    compiling = ["-m", "compileall", "-q", "-j", "0", "--invalidation-mode", "unchecked-hash", str(folder)]
    subprocess.run([sys.executable, *compiling], check=True)  # noqa: S603 - this Python
    return folder


def _emptied(name: str) -> Path:
    folder = PLACE / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def _make(*arguments: str) -> None:
    """As on a command line of its own, though it may be make that started this."""
    outside = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    command = ["make", *arguments]
    subprocess.run(command, cwd=PROJECT, env=outside, check=True, stdout=sys.stderr)  # noqa: S603 - our own


# -- processes ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Told:
    """What `drive.py` tells of some events."""

    took_ms: list[float]
    answer: Any
    now_mb: float
    peak_mb: float


@dataclass(frozen=True, slots=True)
class Process:
    """One handler's process."""

    process: subprocess.Popen[str]

    @classmethod
    @contextlib.contextmanager
    def of(cls, folder: Path, module: str, environment: Mapping[str, str]) -> Iterator[Self]:
        """Started as on AWS Lambda: nothing of this machine's is on its path, and it compiles nothing."""
        command = [str(PYTHON), "-I", "-B", str(PEERS / "drive.py"), str(folder), module]
        with subprocess.Popen(  # noqa: S603 - our own
            command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as process:
            yield cls(process)

    def handle(self, events: Sequence[Event]) -> Told:
        """What came of the events, one after the other."""
        if self.process.stdin is None or self.process.stdout is None:
            raise AssertionError("it was started with pipes")
        self.process.stdin.write(json.dumps(events) + "\n")
        self.process.stdin.flush()
        return Told(**json.loads(self.process.stdout.readline()))


@contextlib.contextmanager
def emulator() -> Iterator[str]:
    """An emulator in a process of its own: its host and port."""
    command = [sys.executable, "-m", "bench.startup"]
    with subprocess.Popen(  # noqa: S603 - our own
        command, cwd=PROJECT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        if process.stdout is None:
            raise AssertionError("it was started with pipes")
        yield process.stdout.readline().strip()


def _serve() -> None:
    with Emulator(behaviour=Behaviour(cap=10**9)) as running:
        print(running.url.removeprefix("http://"), flush=True)
        sys.stdin.read()


def environment(host: str, *, ledger: str = "memory://") -> dict[str, str]:
    """What every handler is given."""
    return {
        "PATH": os.environ["PATH"],
        "AWS_LAMBDA_FUNCTION_NAME": "bench",
        "ENDPOINT": host,
        "KEY_ID": ACCESS_KEY_ID,
        "KEY_SECRET": ACCESS_KEY_SECRET,
        "ONCETASK_ENDPOINT": f"http://{host}",
        "ONCETASK_LEDGER": ledger,
        "ALIBABA_CLOUD_ACCESS_KEY_ID": ACCESS_KEY_ID,
        "ALIBABA_CLOUD_ACCESS_KEY_SECRET": ACCESS_KEY_SECRET,
        "CHECK_HOST_SECRET": f"whsec_{base64.b64encode(KEY).decode()}",
        "AGENT_OFFLINE_TOKEN": TOKEN,
    }


# -- starts ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Start:
    """How long from the interpreter's start to the first answer, on the clock and on the processor."""

    wall_ms: float
    cpu_ms: float

    @classmethod
    def median(cls, starts: Sequence[Self]) -> Self:
        """Of both on their own."""
        return cls(
            statistics.median(start.wall_ms for start in starts),
            statistics.median(start.cpu_ms for start in starts),
        )

    def __str__(self) -> str:
        return f"{self.wall_ms:.0f} ms ({self.cpu_ms:.0f} of the processor)"


@dataclass(frozen=True, slots=True)
class Case:
    """One kind of start: a handler, its first event, and what its answer says."""

    folder: Callable[[], Path]
    module: str
    event: Callable[[], Event]
    expected: str

    def start(self, host: str) -> Start:
        """One, in a new process. Raises RuntimeError where it answers something else."""
        began_s = time.perf_counter()
        with Process.of(self.folder(), self.module, environment(host)) as started:
            told = started.handle([self.event()])
            wall_ms = (time.perf_counter() - began_s) * 1000
            started.process.stdin.close()  # type: ignore[union-attr] # it has one
            _, status, usage = os.wait4(started.process.pid, 0)
            started.process.returncode = os.waitstatus_to_exitcode(status)
        if self.expected not in json.dumps(told.answer):
            raise RuntimeError(f"{self.module} answered {told.answer}")
        return Start(wall_ms, (usage.ru_utime + usage.ru_stime) * 1000)


CASES = {
    "tea": Case(bare_tea, "bare_tea", lambda: BARE, "TaskId"),
    "plain": Case(plain_tea, "bare_tea", lambda: BARE, "TaskId"),
    "sdk": Case(product_sdk, "product_sdk", lambda: BARE, "TaskId"),
    "timer": Case(ours, "oncetask.handlers.timer", tick, "created"),
    "webhook": Case(ours, "oncetask.handlers.webhook", lambda: signed(1), '"statusCode": 201'),
    "refusal": Case(ours, "oncetask.handlers.webhook", unverified, '"statusCode": 401'),
    "sweep": Case(ours, "oncetask.handlers.sweep", dict, '"waiting": 0'),
}

GOALS = (
    ("timer to its first task : bare Tea, not compiled", "timer", "plain", 0.5),
    ("webhook to its first task : bare Tea, not compiled", "webhook", "plain", 0.5),
    ("timer to its first task : bare Tea", "timer", "tea", 0.9),
    ("webhook to its first task : bare Tea", "webhook", "tea", 0.9),
    ("timer to its first task : product SDK", "timer", "sdk", 0.4),
    ("webhook to its first task : product SDK", "webhook", "sdk", 0.4),
    ("a start that refuses a delivery : bare Tea", "refusal", "tea", 0.45),
    ("a start that sweeps nothing : bare Tea", "sweep", "tea", 0.5),
)


def start_rows() -> Iterator[Row]:
    """Cold starts, from the interpreter to the first answer."""
    starts: dict[str, list[Start]] = {name: [] for name in CASES}
    with emulator() as host:
        for case in CASES.values():
            case.start(host)  # the files are read, and nothing else
        for round_number in range(STARTS):
            for name, case in CASES.items():
                if name != "plain" or round_number < PLAIN_STARTS:
                    starts[name].append(case.start(host))
    medians = {name: Start.median(found) for name, found in starts.items()}
    for title, one, other, goal in GOALS:
        ratio = medians[one].wall_ms / medians[other].wall_ms
        yield Row.at_most(title, f"{medians[one]} : {medians[other]}, {len(starts[other])} runs", ratio, goal)


# -- warm -----------------------------------------------------------------------------------------


def warm_rows() -> Iterator[Row]:
    """Warm deliveries, beside bare calls."""
    kinds: dict[str, tuple[Path, str, Callable[[int], Event]]] = {
        "call": (bare_tea(), "bare_tea", lambda _: BARE),
        "created": (ours(), "oncetask.handlers.webhook", signed),
        "recorded": (ours(), "oncetask.handlers.webhook", alert),
        "refused": (ours(), "oncetask.handlers.webhook", lambda _: unverified()),
    }
    took_ms: dict[str, list[float]] = {name: [] for name in kinds}
    with emulator() as host, contextlib.ExitStack() as stack:
        processes = {
            name: stack.enter_context(Process.of(folder, module, environment(host)))
            for name, (folder, module, _) in kinds.items()
        }
        for round_number in range(-1, WARM_ROUNDS):
            for name, (_, _, event) in kinds.items():
                first = (round_number + 1) * CALLS_PER_ROUND
                told = processes[name].handle([event(first + n) for n in range(CALLS_PER_ROUND)])
                if round_number >= 0:
                    took_ms[name] += told.took_ms
        for name, status in (("created", 201), ("recorded", 202), ("refused", 401)):
            _expect(processes[name].handle([kinds[name][2](10**7)]), status)
    p50 = {name: statistics.median(times) for name, times in took_ms.items()}
    for name, title, goal in (
        ("created", "a warm signed delivery, asked for : a bare call", 1.3),
        ("recorded", "a warm delivery, recorded for the sweep : a bare call", 0.3),
        ("refused", "a warm delivery that nothing vouches for : a bare call", None),
    ):
        measured = f"{p50[name]:.2f} ms : {p50['call']:.2f} ms, p50 of {len(took_ms[name])}"
        ratio = p50[name] / p50["call"]
        yield (
            Row(title, measured, f"{ratio:.2f}")
            if goal is None
            else Row.at_most(title, measured, ratio, goal)
        )


def _expect(told: Told, status: int) -> None:
    if told.answer["statusCode"] != status:
        raise RuntimeError(f"a delivery was answered {told.answer}")


# -- memory ---------------------------------------------------------------------------------------


def memory_of_events_rows() -> Iterator[Row]:
    """Memory after many events."""
    with emulator() as host:
        with Process.of(bare_tea(), "bare_tea", environment(host)) as process:
            bare = process.handle([BARE] * FEW)
        with Process.of(ours(), "oncetask.handlers.webhook", environment(host)) as process:
            few = process.handle([signed(number) for number in range(FEW)])
            _expect(few, 201)
        few_on_file, many_on_file = _on_file(host)
    measured = f"{few.peak_mb:.1f} MB : {bare.peak_mb:.1f} MB"
    yield Row.at_most(
        f"peak memory after {FEW:,} events : bare Tea", measured, few.peak_mb / bare.peak_mb, 1.25
    )
    grown_mb = many_on_file.now_mb - few_on_file.now_mb
    measured = f"{few_on_file.now_mb:.1f} MB, then {many_on_file.now_mb:.1f} MB"
    title = f"memory grown from event {FEW:,} to {MANY:,}, SQLite file"
    yield Row.at_most(title, measured, grown_mb, 2, " MB")


def _on_file(host: str) -> tuple[Told, Told]:
    """After few and after many events, on a SQLite file."""
    with (
        tempfile.TemporaryDirectory() as folder,
        Process.of(
            ours(),
            "oncetask.handlers.webhook",
            environment(host, ledger=f"sqlite://{folder}/ledger.sqlite"),
        ) as process,
    ):
        few = many = process.handle([signed(number) for number in range(FEW)])
        for first in range(FEW, MANY, FEW):
            many = process.handle([signed(number) for number in range(first, first + FEW)])
            _expect(many, 201)
    return few, many


# -- the bundle -----------------------------------------------------------------------------------


def bundle_rows() -> Iterator[Row]:
    """The bundle's size."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "mine").symlink_to(ours())
        (Path(folder) / "theirs").symlink_to(product_sdk_and_ours())
        mine, theirs = bundles(Path(folder))
    measured = f"{mine.zipped_bytes / MB:.1f} MB : {theirs.zipped_bytes / MB:.1f} MB"
    title = "zipped bundle : product SDK, pydantic, Powertools"
    yield Row.at_most(title, measured, mine.zipped_bytes / theirs.zipped_bytes, 0.8)


def machine() -> str:
    """Where and with what this was measured, in one line."""
    locked = hashlib.sha256((PROJECT / "src" / "requirements.txt").read_bytes()).hexdigest()
    return (
        f"{os.cpu_count()} processors of {_processor()}, {platform.system()} {platform.machine()},"
        f" Python {platform.python_version()}; src/requirements.txt {locked[:12]}, {_versions()}."
    )


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or "unknown kind"
    return next(
        (line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown"
    )


def _versions() -> str:
    shown = ("alibabacloud-tea-openapi", "alibabacloud-sas20181203", "pydantic", "aws-lambda-powertools")
    locks = [PROJECT / "src/requirements.txt", PROJECT / "local/tools/product-sdk.txt"]
    lines = [line for lock in locks for line in lock.read_text(encoding="utf-8").splitlines()]
    pins = dict(line.split(" ")[0].split("==") for line in lines if "==" in line.split(" ")[0])
    return ", ".join(f"{name} {pins[name]}" for name in shown)


if __name__ == "__main__":
    _serve()
