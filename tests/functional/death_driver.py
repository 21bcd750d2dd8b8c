"""A process that is about to die: it records events, sweeps, and stops for good where it is told to."""

import argparse
import sys
import time
from pathlib import Path

from local.emulator import ACCESS_KEY_ID, ACCESS_KEY_SECRET, Emulator
from oncetask.app import App, SystemClock
from oncetask.ledger.ledger import Ledger
from oncetask.settings import Settings
from tests.functional.sweeps import HookedStore, World


def main(given: argparse.Namespace) -> None:
    """Do what is told, saying HELD where it stops."""
    environment = {
        "ONCETASK_ENDPOINT": given.endpoint,
        "ALIBABA_CLOUD_ACCESS_KEY_ID": ACCESS_KEY_ID,
        "ALIBABA_CLOUD_ACCESS_KEY_SECRET": ACCESS_KEY_SECRET,
        "ONCETASK_READ_TIMEOUT_MS": "60000",
        "AGENT_OFFLINE_TOKEN": "token",
    }
    clock = SystemClock()
    app = App(Settings.from_environment(environment), environment=environment)
    store = HookedStore(given.ledger)
    app.ledger = Ledger(store, clock)
    world = World(app, clock, _no_emulator())

    def hold(number: int) -> None:
        if number == given.write:
            say("HELD")
            time.sleep(60)

    if given.hold == "before":
        store.before_put = hold
    elif given.hold == "after":
        store.after_put = hold
    names = [str(n) for n in range(given.events)]
    world.record(*(world.draft(name, targets=f"inet-{name}", submit=given.submit) for name in names))
    world.sweep()
    say("ENDED")


def say(word: str) -> None:
    """One line for the process that started this."""
    sys.stdout.write(f"{word}\n")
    sys.stdout.flush()


def arguments() -> argparse.Namespace:
    """What is told: where, what, and before or after which write to stop."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--ledger", type=Path)
    parser.add_argument("--endpoint")
    parser.add_argument("--events", type=int)
    parser.add_argument("--submit", choices=["now", "sweep"])
    parser.add_argument("--hold", choices=["before", "after", "never"])
    parser.add_argument("--write", type=int)
    return parser.parse_args()


def _no_emulator() -> Emulator:
    """The emulator is another process's."""
    emulator = Emulator()
    emulator.close()
    return emulator


if __name__ == "__main__":
    main(arguments())
