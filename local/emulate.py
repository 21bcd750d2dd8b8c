"""`oncetask emulator`: the Security Center emulator alone, for any official Alibaba Cloud SDK."""

import threading
from datetime import datetime

from local.emulator import ACCESS_KEY_ID, ACCESS_KEY_SECRET, Behaviour, Call, Emulator
from local.emulator.answers import Reply
from local.emulator.faults import Outcome
from local.emulator.plans import fault_of
from local.errors import CommandError
from local.inventories import inventory
from local.ports import bound
from local.screen import Screen


def main(*, port: int, cap: int, task_s: float, fail: str | None, hosts: str | None) -> None:
    """Serve until interrupted. Raises CommandError: no such fault, hosts or port."""
    try:
        always = fault_of(fail) if fail is not None else None
    except ValueError as error:
        raise CommandError(f"--fail: {error}") from None
    listed = inventory(hosts)
    bound(port).close()
    screen = Screen()
    behaviour = Behaviour(cap=cap, task_duration_s=task_s)
    with Emulator(
        port=port, behaviour=behaviour, watch=lambda *told: show(screen, *told), always=always
    ) as emulator:
        emulator.hosts[:] = listed
        screen.line(f"Security Center emulator at {emulator.url}", style="bold")
        screen.line(f"access key id {ACCESS_KEY_ID}, secret {ACCESS_KEY_SECRET}")
        screen.line(f"{cap} tasks may run at once, each for {task_s:g} s; Ctrl-C ends it")
        screen.line(f"{len(listed)} hosts are listed")
        screen.line(f'plan faults:  curl -d \'[{{"fault": "cap-reached"}}]\' {emulator.url}/_emulator/faults')
        threading.Event().wait()


def show(screen: Screen, call: Call, outcome: Outcome) -> None:
    """One line: when, which operation, what it was told."""
    told = str(outcome.status) if isinstance(outcome, Reply) else outcome.value
    asked = " ".join(
        call.parameters[name] for name in ("TaskType", "TaskId", "RootTaskId") if call.parameters.get(name)
    )
    screen.line(
        datetime.now().astimezone().strftime("%H:%M:%S"), told, call.action or "(no operation)", asked
    )
