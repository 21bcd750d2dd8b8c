"""What a start loads and leaves: what is certain of docs/performance.md. The times are `make bench`'s."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bench import startup
from local.emulator import ACCESS_KEY_ID, ACCESS_KEY_SECRET, Emulator
from oncetask.alibaba.lazy_imports import NeededAtOnce, left_for_later

PROJECT = Path(__file__).resolve().parents[2]
NOT_FOR_US = {
    *("aiohttp", "asyncio", "aiofiles", "apscheduler"),
    *("cryptography", "websocket", "configparser", "xml"),
}
TEA = {"Tea", "darabonba", "alibabacloud_tea_openapi", "alibabacloud_credentials", "requests", "urllib3"}

RUN = """
import json, os, sys
from importlib import import_module
told = os.fdopen(os.dup(1), "w")
os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
handler = import_module(sys.argv[1]).handler
answers = [handler(event, None) for event in json.loads(sys.argv[2])]
print(json.dumps([answers, sorted(sys.modules)]), file=told, flush=True)
"""

GROW = """
import gc, json, os, sys, tracemalloc
from bench import startup
told = os.fdopen(os.dup(1), "w")
os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
from oncetask.handlers import webhook

def traced(first, last):
    for number in range(first, last):
        assert webhook.handler(startup.signed(number), None)["statusCode"] == 201
    gc.collect()
    return tracemalloc.get_traced_memory()[0]

webhook.handler(startup.signed(0), None)
tracemalloc.start()
few, many = traced(1, 200), traced(200, 600)
print(json.dumps(many - few), file=told, flush=True)
"""

COLLECTS = """
import gc, json
from oncetask.handlers import {name}
print(json.dumps([gc.isenabled(), gc.get_freeze_count()]))
"""

PLUGINS = """
import sys, warnings
warnings.simplefilter("error")  # pydantic warns of plugins that fail
sys.path.append({folder!r})
from oncetask.handlers import {name}
from oncetask.models import ErrorInfo
ErrorInfo(kind="sender", code="a", message="b")
print("[]")
"""

OTHERS_CLASSES = """
import dataclasses, json, typing
python = typing.TypedDict, dataclasses.dataclass
from oncetask.handlers import {name}
from annotated_types import Gt
from pydantic_core import core_schema

told = [
    (typing.TypedDict, dataclasses.dataclass) == python,
    typing.is_typeddict(core_schema.IntSchema),
    repr(Gt(1)),
    Gt.__dataclass_params__.frozen,
]
print(json.dumps(told))
"""

ASYNC = """
import asyncio, json, os
from oncetask.alibaba.tea import Client, Config, OpenApiRequest, Params, RuntimeOptions

key_id, secret, host = (os.environ[name] for name in ("KEY_ID", "KEY_SECRET", "ENDPOINT"))
client = Client(Config(access_key_id=key_id, access_key_secret=secret, endpoint=host, protocol="HTTP"))
params = Params(
    action="GenerateOnceTask", version="2018-12-03", protocol="HTTP", pathname="/", method="POST",
    auth_type="AK", style="RPC", req_body_type="formData", body_type="json",
)
request = OpenApiRequest(query={
    "TaskType": "CLIENT_PROBLEM_CHECK", "TaskName": "CLIENT_PROBLEM_CHECK", "Source": "test",
    "Param": '{"mode":1,"problemType":"offline","uuids":"inet-1"}',
})
call = client.call_api_async(params, request, RuntimeOptions())
print(json.dumps(asyncio.run(call)["body"]["TaskId"]))
"""

NAMES_HELD = """
import json, sys
from importlib import import_module
import_module(sys.argv[1])
from oncetask.alibaba.lazy_imports import _Attribute

print(json.dumps(sorted({
    ".".join(value._place)
    for name, module in sys.modules.items() if name.startswith(tuple(sys.argv[2:]))
    for value in vars(module).values() if isinstance(value, _Attribute)
})))
"""

A_NEWER_TEA = """
import json, sys
from oncetask.alibaba import lazy_imports as later

plainly = later.left_for_later
later.left_for_later = lambda *names: plainly(*names, "charset_normalizer")  # requests calls it at import
import oncetask.alibaba.tea
print(json.dumps([name for name in sorted(sys.modules) if name in ("aiohttp", "charset_normalizer")]))
"""


def printed_by(program: str, *arguments: str, **environment: str) -> Any:  # noqa: ANN401 - JSON
    """The JSON that the program prints in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        env={"PYTHONPATH": f"{PROJECT / 'src'}:{PROJECT}", "PATH": os.environ["PATH"], **environment},
        cwd=PROJECT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def ran(emulator: Emulator, name: str, *events: dict[str, Any]) -> tuple[list[Any], set[str]]:
    """What a handler answered in a new process, and the modules that were loaded in the end."""
    environment = startup.environment(emulator.url.removeprefix("http://"))
    answers, modules = printed_by(RUN, f"oncetask.handlers.{name}", json.dumps(events), **environment)
    return answers, set(modules)


def tops(modules: set[str]) -> set[str]:
    """The packages that the modules are of."""
    return {name.partition(".")[0] for name in modules}


# -- what is loaded -------------------------------------------------------------------------------


def test_a_refusal_loads_no_ledger_and_no_client(emulator: Emulator) -> None:
    """Nor what makes tasks, nor what pydantic would look for plugins with."""
    (answer,), modules = ran(emulator, "webhook", startup.unverified())

    assert answer["statusCode"] == 401
    assert not tops(modules) & (TEA | NOT_FOR_US | {"sqlite3", "http.client"})
    assert not modules & {
        "oncetask.ledger",
        "oncetask.submit",
        "oncetask.sweep",
        "oncetask.alibaba.security_center",
    }
    assert "importlib.metadata" not in modules


def test_a_sweep_of_nothing_loads_no_client(emulator: Emulator) -> None:
    """It reads the ledger, and that is all."""
    (answer,), modules = ran(emulator, "sweep", {})

    assert answer["waiting"] == 0
    assert not tops(modules) & (TEA | NOT_FOR_US)
    assert "importlib.metadata" not in modules


@pytest.mark.parametrize("name", ["timer", "webhook"])
def test_a_created_task_loads_what_the_synchronous_client_needs(emulator: Emulator, name: str) -> None:
    """A newer Tea that needs more at once would be imported plainly, and be noticed here."""
    event = startup.tick() if name == "timer" else startup.signed(1)

    _, modules = ran(emulator, name, event)

    assert len(emulator.tasks) == 1
    assert tops(modules) >= TEA
    assert not tops(modules) & NOT_FOR_US


@pytest.mark.parametrize("name", ["timer", "webhook", "sweep"])
def test_no_plugin_of_pydantics_is_loaded(name: str, tmp_path: Path) -> None:
    """The lock holds none; pydantic would look through every installed package for them."""
    (tmp_path / "a_plugin.py").write_text("raise RuntimeError('loaded')")
    (tmp_path / "a_plugin-1.dist-info").mkdir()
    (tmp_path / "a_plugin-1.dist-info" / "METADATA").write_text("Name: a_plugin\nVersion: 1\n")
    (tmp_path / "a_plugin-1.dist-info" / "entry_points.txt").write_text("[pydantic]\nours = a_plugin\n")

    printed_by(PLUGINS.format(name=name, folder=str(tmp_path)))


@pytest.mark.parametrize("name", ["timer", "webhook", "sweep"])
def test_a_start_changes_no_class_of_others(name: str) -> None:
    """What python and pydantic give everybody is what they give us."""
    assert printed_by(OTHERS_CLASSES.format(name=name)) == [True, True, "Gt(gt=1)", True]


def test_one_connection_serves_all_events_of_a_process(emulator: Emulator) -> None:
    """It is kept alive."""
    emulator.behaviour.cap = 100

    ran(emulator, "webhook", *(startup.signed(number) for number in range(5)))

    assert len(emulator.tasks) == 5
    assert emulator.connections == 1


# -- what stays -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["timer", "webhook", "sweep"])
def test_a_started_handler_collects_its_garbage(name: str) -> None:
    """It is not looked for during the start, and what the start made is never looked through again."""
    enabled, frozen = printed_by(COLLECTS.format(name=name))

    assert enabled
    assert frozen > 10_000


@pytest.mark.slow
def test_events_leave_nothing_in_memory(emulator: Emulator, tmp_path: Path) -> None:
    """Four hundred more of them, on a SQLite file: less than what one alone would leave in 64 KB."""
    emulator.behaviour.cap = 10**9
    host = emulator.url.removeprefix("http://")
    environment = startup.environment(host, ledger=f"sqlite://{tmp_path / 'ledger.sqlite'}")

    grown_bytes = printed_by(GROW, **environment)

    assert grown_bytes < 64 * 1024


# -- stand-ins ------------------------------------------------------------------------------------


def test_the_asynchronous_client_is_there_when_it_is_used(emulator: Emulator) -> None:
    """Nothing was taken from Tea: aiohttp and asyncio are loaded at their first use."""
    keys = {"KEY_ID": ACCESS_KEY_ID, "KEY_SECRET": ACCESS_KEY_SECRET}

    task_id = printed_by(ASYNC, ENDPOINT=emulator.url.removeprefix("http://"), **keys)

    assert task_id == emulator.tasks[0].task_id


def test_teas_modules_hold_these_names_only() -> None:
    """A name that `from … import` bound stays a stand-in: good to be called or looked into, and not for
    `isinstance`, `except` or a comparison. Each of these was looked at; what a newer Tea adds must be.
    """
    assert printed_by(NAMES_HELD, "oncetask.alibaba.tea", "Tea", "darabonba", "alibabacloud_") == [
        "aiohttp.ClientResponse",  # in annotations that nothing evaluates
        "apscheduler.schedulers.background.BackgroundScheduler",  # called
        "cryptography.hazmat.primitives.asymmetric.padding",  # looked into
        "cryptography.hazmat.primitives.hashes",  # looked into
        "cryptography.hazmat.primitives.serialization.load_pem_private_key",  # called
        "websocket._abnf.ABNF",  # looked into
        "xml.etree.ElementTree",  # looked into
    ]


def test_where_a_stand_in_is_not_enough_the_import_is_the_plain_one() -> None:
    """Slower, and otherwise the same."""
    assert printed_by(A_NEWER_TEA) == ["aiohttp", "charset_normalizer"]


def test_a_stand_in_is_named_inside_and_loaded_outside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Import, `from … import` and annotations of a module that loads itself at the first use."""
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "heavy_one.py").write_text("class Thing:\n    size = 3\nloaded = True\n")
    (tmp_path / "user_one.py").write_text(
        "import heavy_one\nfrom heavy_one import Thing\ndef make(kind: Thing | None = None): return Thing()\n"
        "def loaded(): return heavy_one.loaded\n"
    )
    (tmp_path / "user_two.py").write_text("import heavy_one\ndef make(kind: heavy_one.Thing): return 1\n")

    with pytest.raises(TypeError), left_for_later("heavy_one"):
        __import__("user_one")  # an annotation with `|` is more than a name
    with left_for_later("heavy_one"):
        user = __import__("user_two")
    assert "heavy_one" not in sys.modules

    assert user.heavy_one.loaded
    assert user.heavy_one.Thing.size == 3
    assert user.make.__annotations__["kind"].size == 3
    assert isinstance(user.make.__annotations__["kind"](), sys.modules["heavy_one"].Thing)
    del sys.modules["heavy_one"], sys.modules["user_two"]


@pytest.mark.parametrize(
    "use",
    [
        "class Own(heavy_two.Thing): ...",
        "made = heavy_two.Thing()",
        "size = heavy_two.Thing.size",
        "from heavy_two.inner import Thing\n@Thing\ndef decorated(): ...",
    ],
)
def test_more_than_a_name_is_missed_inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, use: str) -> None:
    """And nothing half-imported is left."""
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "user_three.py").write_text(f"import heavy_two\n{use}\n")

    with pytest.raises(NeededAtOnce), left_for_later("heavy_two"):
        __import__("user_three")

    assert not {"heavy_two", "heavy_two.inner", "user_three"} & set(sys.modules)


def test_what_is_loaded_already_has_no_stand_in() -> None:
    """The module that imported it keeps it, and so does each other."""
    with left_for_later("json"):
        import json as within  # noqa: PLC0415 - this is the block

    assert within is json
