"""`./oncetask`: its commands and their words. What a command does is its module's, imported when it runs.

Nothing of an argument is evaluated. A mistake is one line on stderr and a status that is not 0; 0 is only
for what was done.
"""

import os
import sys
import traceback
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

import click

from local.arguments import (
    FILE,
    SETTINGS,
    Commands,
    Duration,
    WithWords,
    as_json,
    hosts_listed,
    port,
    routes_file,
)
from local.errors import NotDone
from local.ledger_commands import ledger
from local.text import in_one_line
from oncetask.errors import OnceTaskError

NOT_DONE, MISUSED, INTERRUPTED = 1, 2, 130


def main(arguments: list[str] | None = None) -> NoReturn:
    """Run one command and end the process with its status."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    sys.exit(_status(arguments))


def _status(arguments: list[str] | None) -> int:  # noqa: PLR0911 - a line for each way to end
    try:
        oncetask.main(args=arguments, prog_name="oncetask", standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:
        print(error.format_message(), file=sys.stderr)
        return MISUSED
    except click.ClickException as error:
        return _said(error.format_message(), MISUSED)
    except (click.Abort, KeyboardInterrupt):
        print(file=sys.stderr)
        return INTERRUPTED
    except NotDone:
        return NOT_DONE
    except OnceTaskError as error:
        return _said(str(error), NOT_DONE)
    except BrokenPipeError:  # who read our lines, such as `head`, has had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:  # noqa: BLE001 - the outermost edge: no traceback reaches a person
        at = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{Path(at.filename).name}:{at.lineno}"
        return _said(f"a fault of oncetask's own: {type(error).__name__}: {error} ({where})", NOT_DONE)
    return 0


def _said(text: str, status: int) -> int:
    print(f"oncetask: {in_one_line(text)}", file=sys.stderr)
    return status


@click.group(cls=Commands, context_settings=SETTINGS)
def oncetask() -> None:
    """Timers and webhooks become Alibaba Cloud Security Center one-time tasks.

    Begin with `oncetask run`: the sample events through the real handlers, against an emulator.
    """


@oncetask.command(short_help="Run events through the real handlers; without any: the samples.")
@click.argument("events", nargs=-1, type=FILE, metavar="[EVENT]...")
@click.option("--keyless", is_flag=True, help="The samples without any stored key.")
@click.option("--live", is_flag=True, help="Ask the real Security Center with the environment's credentials.")
@click.option("--yes", is_flag=True, help="With --live: do not ask before sending.")
@routes_file
@as_json
def run(  # noqa: PLR0913 - one for each option
    events: tuple[Path, ...], *, keyless: bool, live: bool, yes: bool, routes: Path | None, as_json: bool
) -> None:
    """Run events through the real handlers, each compared with what is expected of it.

    Without EVENT: every sample under events/, against the embedded emulator; no account, no cloud. An EVENT
    is a file that holds what AWS hands over; what is expected stands beside it in NAME.expected.json.

    The status is not 0 where an event did not come to what was expected or, without an expectation, was
    rejected.
    """
    from local import run as command  # noqa: PLC0415

    command.main(command.Wanted(events, keyless=keyless, live=live, yes=yes, routes=routes, as_json=as_json))


@oncetask.command(short_help="What would become of a payload or an event, and why.")
@click.argument("route_or_event")
@click.argument("payload", type=FILE, required=False)
@click.option("--content-type", metavar="TYPE", help="Of PAYLOAD; default: JSON where it is, else a form.")
@routes_file
@as_json
def explain(
    route_or_event: str, payload: Path | None, *, content_type: str | None, routes: Path | None, as_json: bool
) -> None:
    """Say what would become of a sender's PAYLOAD at a ROUTE, or of an AWS EVENT, and why; send nothing.

    \b
    oncetask explain ROUTE PAYLOAD   a sender's own JSON or form body, or a tick's JSON for a timer's route
    oncetask explain EVENT           a file that holds what AWS hands over

    Verified or not and why, what each expression found, where every field of the request came from, and what
    the sender would be told.
    """  # noqa: D301 - click's mark for lines that stay as they are
    from local import explain as command  # noqa: PLC0415

    command.main(route_or_event, payload, content_type=content_type, routes=routes, as_json=as_json)


@oncetask.command(short_help="Deliver a payload as its sender would, signed.")
@click.argument("route", required=False)
@click.argument("payload", type=FILE, required=False)
@click.option("--to", "url", default="http://127.0.0.1:8080", show_default=True, metavar="URL",
              help="What stands before /webhooks/ROUTE, or the whole.")  # fmt: skip
@click.option("--id", "delivery_id", metavar="ID", help="The delivery's id; default: a new one.")
@click.option("--content-type", metavar="TYPE", help="Of PAYLOAD; default: JSON where it is, else a form.")
@click.option("--replay", type=FILE, metavar="FILE", help="A delivery that `serve --save` kept, once more.")
@routes_file
@as_json
def send(  # noqa: PLR0913 - one for each option
    route: str | None,
    payload: Path | None,
    *,
    url: str,
    delivery_id: str | None,
    content_type: str | None,
    replay: Path | None,
    routes: Path | None,
    as_json: bool,
) -> None:
    """Deliver PAYLOAD as its sender would, signed with the ROUTE's own scheme and secret.

    To `oncetask serve`, or to a deployment with --to. The status is 0 where the answer is a 2xx.
    """
    from local import send as command  # noqa: PLC0415

    given = command.Given(route, payload, delivery_id, content_type, replay)
    command.main(given, url=url, routes=routes, as_json=as_json)


@oncetask.group(
    cls=Commands,
    invoke_without_command=True,
    short_help="Every route; `routes check`: all mistakes of the file.",
)
@routes_file
@as_json
@click.pass_context
def routes(context: click.Context, *, routes: Path | None, as_json: bool) -> None:
    """List every route: trigger, scheme, whether its secrets are there, schedule.

    `oncetask routes check` tells all mistakes of the routes file, each with its place and what would be
    right, and what is no mistake but never does what it looks like.
    """
    from local import routes as command  # noqa: PLC0415

    context.obj = (routes, as_json)
    if context.invoked_subcommand is None:
        command.listed(routes, as_json=as_json)


@routes.command("check")
@routes_file
@as_json
@click.pass_context
def routes_check(context: click.Context, *, routes: Path | None, as_json: bool) -> None:
    """Tell all mistakes of the routes file, and its traps as warnings; not 0 where there is a mistake."""
    from local import routes as command  # noqa: PLC0415

    outer_routes, outer_json = context.obj
    command.checked(routes or outer_routes, as_json=as_json or outer_json)


@oncetask.command(short_help="Webhooks, timers, a sweep and a page on this machine.")
@port(8080)
@click.option("--ledger", metavar="URL", help="memory:// or sqlite:///PATH; default: the environment's.")
@click.option("--live", is_flag=True, help="Ask the real Security Center instead of the emulator.")
@click.option("--save", type=FILE, metavar="DIR", help="Keep every delivery there, for `send --replay`.")
@click.option("--sweep-every", type=Duration(), default=3, metavar="DURATION", help="Default: 3s.")
@hosts_listed
@routes_file
@as_json
def serve(  # noqa: PLR0913 - one for each option
    *,
    hosts: str | None,
    port: int,
    ledger: str | None,
    live: bool,
    save: Path | None,
    sweep_every: int,
    routes: Path | None,
    as_json: bool,
) -> None:
    """Take webhooks and fire timers on this machine, with a sweep every few seconds and a page to look at.

    It listens on 127.0.0.1 alone, asks an embedded emulator of Security Center unless --live, and prints a
    line a delivery (refused ones, too) and a line a change; with --json that goes to stderr, and each result
    to stdout, a document a line. Ctrl-C ends it.
    """
    from local import serve as command  # noqa: PLC0415

    wanted = command.Wanted(
        port,
        ledger,
        live=live,
        save=save,
        sweep_every_s=sweep_every,
        routes=routes,
        as_json=as_json,
        hosts=hosts,
    )
    with suppress(KeyboardInterrupt):  # how it is meant to be ended
        command.main(wanted)


@oncetask.command(cls=WithWords, short_help="The Security Center emulator alone.")
@port(18_080)
@click.option(
    "--cap", type=click.IntRange(0), default=10, show_default=True, help="Tasks that may run at once."
)
@click.option(
    "--task-s", type=click.FloatRange(0), default=30.0, show_default=True, help="How long a task runs."
)
@click.option("--fail", metavar="WORD", help="What every GenerateOnceTask meets; the words stand below.")
@hosts_listed
def emulator(*, port: int, cap: int, task_s: float, fail: str | None, hosts: str | None) -> None:
    """Run the Security Center emulator alone, for any official Alibaba Cloud SDK; print each call.

    `POST /_emulator/faults` with a JSON list of {"fault": WORD, "action"?: OPERATION, "times"?: N} plans what
    comes next; --fail WORD is what always comes.
    """
    from local import emulate as command  # noqa: PLC0415

    with suppress(KeyboardInterrupt):  # how it is meant to be ended
        command.main(port=port, cap=cap, task_s=task_s, fail=fail, hosts=hosts)


@oncetask.command(short_help="The page of serve, read-only, for a deployed ledger.")
@port(8081)
def console(*, port: int) -> None:
    """Show the page of `serve`, read-only, for the ledger that the environment names."""
    from local import console as command  # noqa: PLC0415

    with suppress(KeyboardInterrupt):  # how it is meant to be ended
        command.main(port)


@oncetask.command(short_help="Try what a deployment needs; change nothing.")
@routes_file
@as_json
def doctor(*, routes: Path | None, as_json: bool) -> None:
    """Try what a deployment needs, by calls that change nothing, and say what to do where one fails."""
    from local import doctor as command  # noqa: PLC0415

    command.main(routes, as_json=as_json)


oncetask.add_command(ledger)
