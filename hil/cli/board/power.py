"""`hil board power` and `mode`: the power of a board, and its power modes by name."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from hil.cli.completion import mode_names
from hil.cli.output import JSON_OPTION, RenamedOptions, note, print_json, print_result, print_table
from hil.cli.select_bench import BENCH, board_argument, on_board
from hil.errors import ConfigurationError

if TYPE_CHECKING:
    from hil.boards.protocol import Board

UNTIL_BOOTED = click.option("--until-booted", is_flag=True, help="After on and reset: return when the OS answers.")
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
@BENCH
@UNTIL_BOOTED
@JSON_OPTION
@click.pass_context
def reset(ctx: click.Context, /, name: str, **options: Any) -> None:
    """Reset a board: the former spelling of `hil board power NAME reset`."""
    note(f"`hil board reset {name}` is now `hil board power {name} reset`")
    ctx.invoke(power, name=name, action="reset", **options)


@click.command()
@on_board
@click.argument("wanted", required=False, metavar="[MODE]", shell_complete=mode_names)
@click.option("--reboot", is_flag=True, help="Reboot the board where the change needs it, and wait for it.")
@JSON_OPTION
def mode(board: Board, wanted: str | None, reboot: bool, as_json: bool) -> None:
    """List the power modes of a board, or switch to one by its name.

    The numbers of nvpmodel differ between modules and JetPack versions, so only names are accepted: in any case, and
    `50w` finds MODE_50W. `power_mode` in the lab file sets one each time the bench comes up.
    """
    from hil.boards.jetson.power_modes import NvpModel, choose_mode

    name = board.name
    if wanted is not None:
        done = choose_mode(board, wanted, reboot=reboot)
        if done.reboot_pending:
            raise ConfigurationError(
                f"{name}: power mode {done.mode} needs a reboot; nothing was changed",
                remedy=f"hil board mode {name} {done.mode} --reboot",
            )
        how = " after a reboot" if done.rebooted else "" if done.changed else ", as before"
        print_result(as_json, {"name": name, **asdict(done)}, f"{name}: {done.mode}{how}")
        return
    with board.shell() as shell:
        tool = NvpModel(shell, board=name)
        modes, current = tool.modes(), tool.current()
    if as_json:
        print_json({"name": name, "mode": current, "default": modes.default, "modes": list(modes.ids)})
        return
    rows = [(m, "now" if m == current else "", "default" if m == modes.default else "") for m in modes.ids]
    print_table(["mode", "", ""], rows)
