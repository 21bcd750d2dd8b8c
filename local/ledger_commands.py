"""`oncetask ledger`: its sub-commands and their words."""

from collections.abc import Callable
from typing import Any

import click

from local.arguments import SETTINGS, Commands, Duration, as_json


def filters(command: Callable[..., None]) -> Callable[..., None]:
    """The options that choose events."""
    for option in (
        click.option(
            "--limit", type=click.IntRange(1), metavar="N", help="The oldest N of them; default: all."
        ),
        click.option(
            "--older-than", type=Duration(), metavar="DURATION", help="Received longer ago: 30s, 10m, 2h, 1d."
        ),
        click.option("--code", metavar="CODE", help="Whose error has that code."),
        click.option("--state", metavar="STATE", help="Such as pending, unknown, finished."),
        click.option("--route", metavar="ROUTE", help="Of that route."),
    ):
        command = option(command)
    return command


def choice(
    route: str | None, state: str | None, code: str | None, older_than: int | None, limit: int | None
) -> Any:  # noqa: ANN401 - imported where it is made
    """The filter that the options say."""
    from local.ledger_queries import Filter  # noqa: PLC0415

    return Filter(route=route, state=state, code=code, older_than_s=older_than, limit=limit)


@click.group(
    "ledger",
    context_settings=SETTINGS,
    cls=Commands,
    invoke_without_command=True,
    short_help="An operator's hands on the ledger.",
)
@as_json
@click.pass_context
def ledger(context: click.Context, *, as_json: bool) -> None:
    """Look at the ledger that the environment names, and decide what nobody else can.

    Without a command: the summary. `memory://` is refused, since another process's memory cannot be seen.
    """
    from local import ledger as command  # noqa: PLC0415

    context.obj = as_json
    if context.invoked_subcommand is None:
        command.summary(as_json=as_json)


def ledger_json(command: Callable[..., None]) -> Callable[..., None]:
    """`--json`, before or behind the sub-command."""
    return as_json(command)


@ledger.command("summary")
@ledger_json
@click.pass_obj
def ledger_summary(outer_json: bool, /, *, as_json: bool) -> None:  # noqa: FBT001 - click's object
    """Count what is open by route, state and code; oldest ages, what runs, damaged records."""
    from local import ledger as command  # noqa: PLC0415

    command.summary(as_json=as_json or outer_json)


@ledger.command("list")
@filters
@ledger_json
@click.pass_obj
def ledger_list(outer_json: bool, /, *, as_json: bool, **chosen: Any) -> None:  # noqa: ANN401, FBT001
    """List open events, oldest first, each with why it waits, and records that cannot be read.

    With a --state such as created, finished or failed: events that have ended, as long as they are kept.
    That, and --code RecordDamaged, read the whole table; of DynamoDB they need the right to Scan it.
    """
    from local import ledger as command  # noqa: PLC0415

    command.listed(choice(**chosen), as_json=as_json or outer_json)


@ledger.command("show")
@click.argument("event_id", metavar="ID")
@ledger_json
@click.pass_obj
def ledger_show(outer_json: bool, /, event_id: str, *, as_json: bool) -> None:  # noqa: FBT001
    """Show one event whole, its last call and what happened to it; of a damaged record, what is in it."""
    from local import ledger as command  # noqa: PLC0415

    command.show(event_id, as_json=as_json or outer_json)


@ledger.command("adopt")
@click.argument("event_id", metavar="ID")
@click.argument("task_id", metavar="TASK", required=False)
@click.option("--force", is_flag=True, help="TASK although it is no candidate.")
@click.option("--reason", metavar="TEXT", help="Why, for the record.")
@ledger_json
@click.pass_obj
def ledger_adopt(  # noqa: PLR0913 - one for each option
    outer_json: bool,  # noqa: FBT001
    /,
    event_id: str,
    task_id: str | None,
    *,
    force: bool,
    reason: str | None,
    as_json: bool,
) -> None:
    """Say which TASK is the event's; without TASK: list the candidates."""
    from local import ledger as command  # noqa: PLC0415

    command.adopt(event_id, task_id, force=force, reason=reason, as_json=as_json or outer_json)


def changes(command: Callable[..., None]) -> Callable[..., None]:
    """What `retry` and `give-up` share: ids or filters, and consent."""
    for option in (
        click.option("--reason", metavar="TEXT", help="Why, for the record."),
        click.option("--yes", is_flag=True, help="Change more than one."),
        click.option("--dry-run", is_flag=True, help="Show what would be changed; change nothing."),
        filters,
        click.argument("event_ids", nargs=-1, metavar="[ID]..."),
        ledger_json,
        click.pass_obj,
    ):
        command = option(command)
    return command


@ledger.command("retry")
@click.option("--force", is_flag=True, help="Although a task may be there that runs on hosts.")
@changes
def ledger_retry(outer_json: bool, /, **given: Any) -> None:  # noqa: ANN401, FBT001
    """Let the next sweep ask for events again: you know that no task was made."""
    _change("retry", outer_json=outer_json, **given)


@ledger.command("give-up")
@changes
def ledger_give_up(outer_json: bool, /, **given: Any) -> None:  # noqa: ANN401, FBT001
    """End events: nobody asks for them any more. With --yes, remove a record that cannot be read."""
    _change("give-up", outer_json=outer_json, **given)


def _change(  # noqa: PLR0913 - one for each option
    action: str,
    *,
    outer_json: bool,
    event_ids: tuple[str, ...],
    dry_run: bool,
    yes: bool,
    reason: str | None,
    as_json: bool,
    force: bool = False,
    **chosen: Any,  # noqa: ANN401
) -> None:
    from local import ledger as command  # noqa: PLC0415

    consent = command.Consent(dry_run=dry_run, yes=yes, force=force, reason=reason)
    command.change(action, event_ids, choice(**chosen), consent, as_json=as_json or outer_json)
