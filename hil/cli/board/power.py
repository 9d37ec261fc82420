"""`hil board power` and `reset`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from hil.cli.completion import board_names
from hil.cli.output import JSON_OPTION, print_json
from hil.cli.select_bench import attach, bench_option, board_of

if TYPE_CHECKING:
    from hil.boards.protocol import Board

WAIT = click.option("--wait", is_flag=True, help="After on and reset: wait until the OS answers.")


@click.command()
@click.argument("name", shell_complete=board_names)
@click.argument("action", type=click.Choice(["state", "on", "off", "cut", "reset"]))
@bench_option
@WAIT
@JSON_OPTION
def power(name: str, action: str, bench_name: str | None, wait: bool, as_json: bool) -> None:
    """Power of a board: state, on, off (asks the OS first), cut (at once; loses what is not on disk), reset.

    \b
    Examples:
      hil board power a1 state
      hil board power a1 cut
      hil board power a1 on --wait
    """
    with attach(bench_name) as bench:
        _switch(board_of(bench, name), action, wait=wait, as_json=as_json)


@click.command()
@click.argument("name", shell_complete=board_names)
@bench_option
@WAIT
@JSON_OPTION
def reset(name: str, bench_name: str | None, wait: bool, as_json: bool) -> None:
    """Cut the power of a board, and switch it on again: what is not on disk is lost.

    \b
    Example:
      hil board reset a1 --wait
    """
    with attach(bench_name) as bench:
        _switch(board_of(bench, name), "reset", wait=wait, as_json=as_json)


def _switch(one: Board, action: str, *, wait: bool, as_json: bool) -> None:
    match action:
        case "on":
            one.supervisor.on()
        case "off":
            one.supervisor.off()
        case "cut":
            one.supervisor.cut()
        case "reset":
            one.supervisor.reset()
    told: dict[str, Any] = {"name": one.name, "power": str(one.supervisor.state())}
    if not as_json:
        click.echo(f"{one.name}: {told['power']}")
    if wait and action in ("on", "reset"):
        who = one.wait_booted()
        told |= {"os_version": who.os_version, "slot": who.slot, "boot_id": who.boot_id}
        if not as_json:
            click.echo(f"{one.name}: runs {who.os_version} from slot {who.slot}")
    if as_json:
        print_json(told)
