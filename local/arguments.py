"""The kinds of commands, arguments and options that `oncetask` has."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from local.durations import duration_s
from local.text import nearest


class Commands(click.Group):
    """A group that names the nearest command where one is not known."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click's, but for the words."""
        if self.get_command(ctx, args[0]) is None and not args[0].startswith("-"):
            known = self.list_commands(ctx)
            hint = nearest(args[0], known) or f"; there are {', '.join(known)}"
            raise click.UsageError(f"there is no command {args[0]}{hint}")
        return super().resolve_command(ctx, args)


class WithWords(click.Command):
    """A command whose help ends with the words of the emulator's faults."""

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """The words, a line each."""
        from local.emulator.plans import WORDS  # noqa: PLC0415 - for this help alone

        with formatter.section("Faults"):
            formatter.write_dl([(word, meaning) for word, (_, meaning) in WORDS.items()])


class Duration(click.ParamType[int]):
    """`30s`, `10m`, `2h`, `1d`: a number of seconds."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:  # noqa: ANN401
        """Seconds, from a text or from a default that is a number already."""
        if isinstance(value, int):
            return value
        try:
            return duration_s(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


PORT = click.IntRange(0, 65_535)
FILE = click.Path(path_type=Path)
SETTINGS = {"help_option_names": ["-h", "--help"], "max_content_width": 110}

as_json = click.option("--json", "as_json", is_flag=True, help='One document {"results", "counts"}.')
routes_file = click.option(
    "--routes", type=FILE, metavar="FILE", help="The routes file, instead of ONCETASK_ROUTES."
)
hosts_listed = click.option(
    "--hosts",
    metavar="FILE|N",
    help="The emulator's hosts: a JSON file of rows, or so many made up; default: a dozen.",
)


def port(default: int) -> Callable[[Any], Any]:
    """`--port`, with the default that it has there."""
    return click.option(
        "--port", type=PORT, default=default, show_default=True, help="On 127.0.0.1; 0: any free one."
    )
