"""The environment's variables, with what a command was told instead of them."""

import os
from pathlib import Path

from local.emulator import ACCESS_KEY_ID, ACCESS_KEY_SECRET
from local.errors import CommandError

LASTS_NOT = "memory://"


def told(routes: Path | None = None, ledger: str | None = None) -> dict[str, str]:
    """The process's variables; a routes file and a ledger that were named count instead of theirs.

    Raises CommandError: there is no such routes file.
    """
    environment = dict(os.environ)
    if routes is not None:
        if not routes.is_file():
            raise CommandError(f"--routes must be a readable TOML file: there is none at {routes}")
        environment["ONCETASK_ROUTES"] = str(routes.resolve())
    if ledger is not None:
        environment["ONCETASK_LEDGER"] = ledger
    return environment


def with_emulator(environment: dict[str, str], url: str) -> dict[str, str]:
    """The same, but what is asked is the emulator at that URL, with its own keys."""
    return environment | {
        "ONCETASK_ENDPOINT": url,
        "ONCETASK_CREDENTIALS": "env",
        "ALIBABA_CLOUD_ACCESS_KEY_ID": ACCESS_KEY_ID,
        "ALIBABA_CLOUD_ACCESS_KEY_SECRET": ACCESS_KEY_SECRET,
        "ALIBABA_CLOUD_SECURITY_TOKEN": "",
    }


def ledger_that_is_there(environment: dict[str, str]) -> str:
    """The same, for who only looks at one. Raises CommandError: its file is not there, and none is made."""
    named = lasting_ledger(environment)
    path = named.removeprefix("sqlite://")
    if path != named and not Path(path).is_file():
        raise CommandError(f"there is no ledger at {path}: ONCETASK_LEDGER must name one that is in use")
    return named


def lasting_ledger(environment: dict[str, str]) -> str:
    """The ledger that the environment names. Raises CommandError: none that another process can see."""
    named = environment.get("ONCETASK_LEDGER") or LASTS_NOT
    if named.startswith(LASTS_NOT):
        raise CommandError(
            "ONCETASK_LEDGER must name a ledger that lasts: sqlite:///ABSOLUTE/PATH or dynamodb://TABLE"
        )
    return named
