"""The hosts that an emulator lists: the sample's, a file's, or made up."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from local.emulator import SAMPLE, Host, made_up_hosts, read_hosts
from local.errors import CommandError

MOST_MADE_UP = 100_000


def inventory(given: str | None = None) -> list[Host]:
    """What `--hosts` says: a number makes so many up, the same each time; else it is a JSON file of rows.

    Without it: a dozen. Raises CommandError.
    """
    if given is None:
        return read_hosts(SAMPLE)
    if given.isascii() and given.isdecimal():
        if int(given) > MOST_MADE_UP:
            raise CommandError(f"--hosts: at most {MOST_MADE_UP} are made up")
        return made_up_hosts(int(given))
    try:
        return read_hosts(Path(given))
    except OSError as error:
        raise CommandError(f"--hosts must be a number or a readable JSON file: {error.strerror}") from None
    except ValueError as error:
        raise CommandError(f"--hosts: {error}") from None


def such_as(hosts: Sequence[Host]) -> str:
    """What to name in a first try: a host whose name and address mean it alone; empty where there is none."""
    pairs = [(str(host.row["InstanceName"]), str(host.row["IntranetIp"])) for host in hosts]
    names, addresses = Counter(name for name, _ in pairs), Counter(address for _, address in pairs)
    for name, address in pairs:
        if name and address and names[name] == addresses[address] == 1:
            return f", such as {name}, {address}"
    return ""
