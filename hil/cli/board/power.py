"""`hil board power` and `mode`: the power of a board, and its power modes by name."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from hil.cli.board.targets import Targets, Tell, on_boards, target_argument
from hil.cli.completion import mode_names
from hil.cli.output import JSON_OPTION, RenamedOptions, note, print_table
from hil.cli.select_bench import BENCH, FORCE
from hil.errors import ConfigurationError

if TYPE_CHECKING:
    from hil.boards.protocol import Board

UNTIL_BOOTED = click.option("--until-booted", is_flag=True, help="After on and reset: return when the OS answers.")
RENAMED = {"--wait": ("--until-booted", None)}


@click.command(cls=RenamedOptions, renamed=RENAMED)
@on_boards
@click.argument("action", type=click.Choice(["state", "on", "off", "cut", "reset"]))
@UNTIL_BOOTED
@JSON_OPTION
def power(targets: Targets, action: str, until_booted: bool, as_json: bool) -> int:
    """Switch or read the power of a board, of a spacecraft's boards, or of all.

    \b
    state   read it
    on      give power
    off     ask the OS to shut down, then remove power
    cut     remove power at once: what is not on disk is lost
    reset   cut, then on
    """

    if action != "state":
        targets.claim("power", f"power {action}")

    def switch(board: Board, tell: Tell) -> dict[str, Any]:
        if action != "state":
            getattr(board.supervisor, action)()
        result: dict[str, Any] = {"name": board.name, "power": str(board.supervisor.state())}
        tell(f"{board.name}: {result['power']}")
        if until_booted and action in ("on", "reset"):
            identity = board.wait_booted()
            result |= {key: getattr(identity, key) for key in ("os_version", "slot", "boot_id")}
            tell(f"{board.name}: runs {identity.os_version} from slot {identity.slot}")
        return result

    return targets.do(switch, as_json=as_json)


@click.command(cls=RenamedOptions, renamed=RENAMED, hidden=True)
@target_argument
@BENCH
@FORCE
@UNTIL_BOOTED
@JSON_OPTION
@click.pass_context
def reset(ctx: click.Context, /, target: str, **options: Any) -> Any:
    """Reset a board: the former spelling of `hil board power NAME reset`."""
    note(f"`hil board reset {target}` is now `hil board power {target} reset`")
    return ctx.invoke(power, target=target, action="reset", **options)


@click.command()
@on_boards
@click.argument("wanted", required=False, metavar="[MODE]", shell_complete=mode_names)
@click.option("--reboot", is_flag=True, help="Reboot the board where the change needs it, and wait for it.")
@JSON_OPTION
def mode(targets: Targets, wanted: str | None, reboot: bool, as_json: bool) -> int:
    """List the power modes of a board, or switch to one by its name.

    The numbers of nvpmodel differ between modules and JetPack versions, so only names are accepted: in any case, and
    `50w` finds MODE_50W. `power_mode` in the lab file sets one each time the bench comes up.
    """
    from hil.boards.jetson.power_modes import NvpModel, choose_mode

    if wanted is not None:
        targets.claim("mode", f"power mode {wanted}")

    def choose(board: Board, tell: Tell) -> dict[str, Any]:
        name = board.name
        done = choose_mode(board, wanted or "", reboot=reboot)
        if done.reboot_pending:
            raise ConfigurationError(
                f"{name}: power mode {done.mode} needs a reboot; nothing was changed",
                remedy=f"hil board mode {name} {done.mode} --reboot",
            )
        how = " after a reboot" if done.rebooted else "" if done.changed else ", as before"
        tell(f"{name}: {done.mode}{how}")
        return {"name": name, **asdict(done)}

    def look(board: Board, tell: Tell) -> dict[str, Any]:
        with board.shell() as shell:
            tool = NvpModel(shell, board=board.name)
            modes, current = tool.modes(), tool.current()
        if targets.alone and not as_json:
            rows = [(m, "now" if m == current else "", "default" if m == modes.default else "") for m in modes.ids]
            print_table(["mode", "", ""], rows)
        else:
            tell(f"{board.name}: {current} of {', '.join(modes.ids)}")
        return {"name": board.name, "mode": current, "default": modes.default, "modes": list(modes.ids)}

    return targets.do(look if wanted is None else choose, as_json=as_json)
