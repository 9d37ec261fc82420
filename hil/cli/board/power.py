"""`hil board power`: switch and read the power of a board."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from hil.cli.output import JSON_OPTION, RenamedOptions, note, print_json
from hil.cli.select_bench import bench_option, board_argument, on_board

if TYPE_CHECKING:
    from hil.boards.protocol import Board

UNTIL_BOOTED = click.option(
    "--until-booted", is_flag=True, help="After on and reset: return when the OS answers."
)
RENAMED = {"--wait": ("--until-booted", None)}


@click.command(cls=RenamedOptions, renamed=RENAMED)
@on_board
@click.argument("action", type=click.Choice(["state", "on", "off", "cut", "reset"]))
@UNTIL_BOOTED
@JSON_OPTION
def power(board: Board, action: str, until_booted: bool, as_json: bool) -> None:
    """Switch or read the power of a board.

    \b
    state   read it
    on      give power
    off     ask the OS to shut down, then remove power
    cut     remove power at once: what is not on disk is lost
    reset   cut, then on
    """
    if action != "state":
        getattr(board.supervisor, action)()
    result: dict[str, Any] = {"name": board.name, "power": str(board.supervisor.state())}
    if not as_json:
        click.echo(f"{board.name}: {result['power']}")
    if until_booted and action in ("on", "reset"):
        identity = board.wait_booted()
        result |= {key: getattr(identity, key) for key in ("os_version", "slot", "boot_id")}
        if not as_json:
            click.echo(f"{board.name}: runs {identity.os_version} from slot {identity.slot}")
    if as_json:
        print_json(result)


@click.command(cls=RenamedOptions, renamed=RENAMED, hidden=True)
@board_argument
@bench_option
@UNTIL_BOOTED
@JSON_OPTION
@click.pass_context
def reset(ctx: click.Context, /, name: str, **options: Any) -> None:
    """Reset a board: the former spelling of `hil board power NAME reset`."""
    note(f"`hil board reset {name}` is now `hil board power {name} reset`")
    ctx.invoke(power, name=name, action="reset", **options)
