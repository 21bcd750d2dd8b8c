"""The command line: `python -m local COMMAND`; the Makefile's targets are these."""

import argparse
import os
import sys
from pathlib import Path

from local import emulate, explain, ledger, run, serve
from oncetask.errors import OnceTaskError


def main() -> None:
    """Run one command; what the user can mend is said in one line."""
    arguments = _parser().parse_args()
    try:
        arguments.command(arguments)
    except OnceTaskError as error:
        sys.exit(f"oncetask: {error}")
    except BrokenPipeError:  # who read our lines, such as `head`, has had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except KeyboardInterrupt:
        print()  # how the servers are meant to be ended


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m local")
    commands = parser.add_subparsers(required=True)

    command = commands.add_parser("run", help="events through the real handlers")
    command.add_argument("event", nargs="?", type=Path, help="one event document; default: all under events/")
    command.add_argument("--live", action="store_true", help="ask the real Security Center")
    command.add_argument("--keyless", action="store_true", help="the samples without any stored key")
    command.set_defaults(command=lambda given: run.main(given.event, live=given.live, keyless=given.keyless))

    command = commands.add_parser("explain", help="what an event would ask for, and why; nothing is sent")
    command.add_argument("event", type=Path)
    command.set_defaults(command=lambda given: explain.main(given.event))

    command = commands.add_parser("serve", help="the webhook handler behind a local HTTP server")
    command.add_argument("--port", type=int, default=8080)
    command.set_defaults(command=lambda given: serve.main(given.port))

    command = commands.add_parser("emulator", help="the Security Center emulator alone")
    command.add_argument("--port", type=int, default=18080)
    command.set_defaults(command=lambda given: emulate.main(given.port))

    command = commands.add_parser(
        "ledger", help="an operator's hands on the ledger that the environment names"
    )
    command.add_argument("action", choices=ledger.ACTIONS)
    command.add_argument("--id", help="an event's id")
    command.add_argument("--task", help="a task's id, for adopt")
    command.set_defaults(command=lambda given: ledger.main(given.action, given.id, given.task))
    return parser


if __name__ == "__main__":
    main()
