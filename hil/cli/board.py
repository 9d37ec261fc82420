"""`hil board`: the boards of a bench that is up."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hil.cli.benches import attach, bench_option, board_of
from hil.cli.completion import board_names
from hil.cli.output import JSON_OPTION, print_json, print_table
from hil.errors import ConfigurationError, HilError

if TYPE_CHECKING:
    from hil.boards.protocol import Board, Via
    from hil.boards.transfer import Transferred

VIA = click.Choice(["management", "flight"])


@click.group()
def board() -> None:
    """The boards of a bench that is up.

    \b
    Examples:
      hil board list
      hil board console a1                   Ctrl-] ends it
      hil board shell a1
      hil board shell a1 -- rauc status
      hil board power a1 cut
      hil board push a1 os.raucb /data/os.raucb
      hil board qualify b1 --by "A. Technician"
    """


@board.command("list")
@bench_option
@JSON_OPTION
def list_boards(bench_name: str | None, as_json: bool) -> None:
    """Boards with power, slots and addresses."""
    from concurrent.futures import ThreadPoolExecutor

    with attach(bench_name) as bench, ThreadPoolExecutor(len(bench.boards)) as pool:
        rows = list(pool.map(_row, bench.boards.values()))
    if as_json:
        print_json(rows)
        return
    print_table(
        [
            "board",
            "spacecraft",
            "fidelity",
            "power",
            "runs slot",
            "starts next",
            "confirmed",
            "management",
            "flight",
        ],
        [
            (
                r["name"],
                r["spacecraft"],
                r["fidelity"],
                r["power"] or "?",
                r["running"] or "-",
                r["active"] or "-",
                ", ".join(r["good"]) or "-",
                r["addresses"]["management"] or "-",
                r["addresses"]["flight"] or "-",
            )
            for r in rows
        ],
    )
    for problem in (problem for r in rows for problem in r["problems"]):
        click.echo(f"note: {problem}", err=True)


def _row(one: Board) -> dict[str, Any]:
    from hil.boards.protocol import Via

    problems = []
    power = state = None
    try:
        power = str(one.supervisor.state())
    except HilError as exc:
        problems.append(exc.message)
    try:
        state = one.boot.state()
    except HilError as exc:
        if power != "off":  # then a board that tells its slots only while it runs says nothing new
            problems.append(exc.message)
    return {
        "name": one.name,
        "spacecraft": one.spacecraft,
        "fidelity": str(one.fidelity),
        "power": power,
        "running": state.running if state else None,
        "active": state.active if state else None,
        "good": [s.slot for s in state.slots if s.good] if state else [],
        "retries": {s.slot: s.retries for s in state.slots} if state else {},
        "addresses": {str(via): _address(one, via) for via in Via},
        "problems": problems,
    }


def _address(one: Board, via: Via) -> str | None:
    """None: no way of that kind leads to it."""
    try:
        return one.address(via)[1]
    except HilError:
        return None


@board.command()
@click.argument("name", shell_complete=board_names)
@bench_option
@click.option("--log", "mode", flag_value="log", help="Print what it said so far, and end.")
@click.option(
    "--follow", "mode", flag_value="follow", help="Print what it said, then what it says, read-only."
)
@click.option("--url", "mode", flag_value="url", help="Print what pyserial opens, and end.")
def console(name: str, bench_name: str | None, mode: str | None) -> None:
    """The serial console of a board; Ctrl-] ends it. It survives power cycles of the board."""
    from hil.cli import terminal

    with attach(bench_name) as bench:
        serial_console = board_of(bench, name).console
        if mode == "url":
            click.echo(serial_console.url)
        elif mode in ("log", "follow"):
            terminal.print_log(serial_console.log, follow=mode == "follow")
        elif not sys.stdin.isatty():
            raise ConfigurationError(
                "the console needs a terminal",
                remedy="for scripts: `hil board console NAME --log` or --follow",
            )
        else:
            greeting = f"console of {name}: {serial_console.url}; Ctrl-] ends it\r\n"
            terminal.interact(serial_console.url, greeting=greeting)
            click.echo("\r\nconsole closed", err=True)


@board.command()
@click.argument("name", shell_complete=board_names)
@click.argument("command", nargs=-1)
@bench_option
@click.option("--via", type=VIA, default="management", show_default=True, help="Which way to the board.")
@click.option("--timeout", "timeout_s", type=float, default=60.0, show_default=True, help="Of COMMAND, in s.")
def shell(name: str, command: tuple[str, ...], bench_name: str | None, via: str, timeout_s: float) -> int:
    """A root shell on a board, or one command; its exit code is this command's.

    \b
    Examples:
      hil board shell a1
      hil board shell a1 -- nvbootctrl dump-slots-info
      hil board shell b2 --via flight -- uptime
    """
    from hil.boards.protocol import Via
    from hil.cli import terminal

    with attach(bench_name) as bench:
        one = board_of(bench, name)
        if not command:
            if not sys.stdin.isatty():
                raise ConfigurationError(
                    "a shell needs a terminal", remedy="give a command: `hil board shell NAME -- COMMAND`"
                )
            return terminal.ssh(one, Via(via))
        with one.shell(Via(via)) as opened:
            stdin = b"" if sys.stdin.isatty() else sys.stdin.buffer.read()
            done = opened.run(command, timeout_s=timeout_s, stdin=stdin, check=False)
        click.echo(done.stdout, nl=False)
        click.echo(done.stderr, nl=False, err=True)
        return done.returncode


@board.command()
@click.argument("name", shell_complete=board_names)
@click.argument("action", type=click.Choice(["state", "on", "off", "cut", "reset"]))
@bench_option
@click.option("--wait", is_flag=True, help="After on and reset: wait until the OS answers.")
def power(name: str, action: str, bench_name: str | None, wait: bool) -> None:
    """Power of a board: state, on, off (asks the OS first), cut (at once; loses what is not on disk), reset."""
    with attach(bench_name) as bench:
        one = board_of(bench, name)
        match action:
            case "on":
                one.supervisor.on()
            case "off":
                one.supervisor.off()
            case "cut":
                one.supervisor.cut()
            case "reset":
                one.supervisor.reset()
        click.echo(f"{name}: {one.supervisor.state()}")
        if wait and action in ("on", "reset"):
            who = one.wait_booted()
            click.echo(f"{name}: runs {who.os_version} from slot {who.slot}")


@board.command()
@click.argument("name")
@click.argument("local", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("remote")
@bench_option
def push(name: str, local: Path, remote: str, bench_name: str | None) -> None:
    """Copy a file to a board; a connection that breaks is opened again and goes on where it was.

    \b
    Example:
      hil board push b1 os.raucb /data/os.raucb
    """
    from hil.boards import transfer

    with attach(bench_name) as bench:
        done = transfer.push(transfer.opener_of(board_of(bench, name)), local, remote, progress=_percent())
    click.echo(f"{name}: {remote}: {done.size_bytes:,} bytes, digest compared; {_sent(done)}")


@board.command()
@click.argument("name")
@click.argument("remote")
@click.argument("local", type=click.Path(dir_okay=False, path_type=Path))
@bench_option
def pull(name: str, remote: str, local: Path, bench_name: str | None) -> None:
    """Copy a file from a board, as `push` the other way round."""
    from hil.boards import transfer

    with attach(bench_name) as bench:
        done = transfer.pull(transfer.opener_of(board_of(bench, name)), remote, local, progress=_percent())
    click.echo(f"{local}: {done.size_bytes:,} bytes, digest compared; {_sent(done)}")


def _sent(done: Transferred) -> str:
    kept = done.size_bytes - done.sent_bytes
    again = f", {done.connections} connections" if done.connections > 1 else ""
    return f"{done.sent_bytes:,} sent" + (f", {kept:,} were there already" if kept > 0 else "") + again


def _percent() -> Callable[[int, int], None]:
    """Tells every tenth of the way, on stderr."""
    told = -1

    def tell(there: int, size: int) -> None:
        nonlocal told
        if size and (now := 10 * there // size) > told:
            told = now
            click.echo(f"  {10 * now} %", err=True)

    return tell


@board.command()
@click.argument("name")
@bench_option
@click.option("--by", required=True, metavar="PERSON", help="Who signs for it.")
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    help="Where page and JSON go; default: reports/out/qualifications.",
)
def qualify(name: str, bench_name: str | None, by: str, out: Path | None) -> int:
    """Bring a board in: the conformance suite on it, and a page to sign with what it is and how long it takes.

    The board is rebooted and loses its power many times. The exit code is 0 when it passed, 1 when the board failed,
    3 when the bench was at fault.

    \b
    Example:
      hil board qualify b1 --by "A. Technician"
    """
    from hil.boards.qualify import qualify as run
    from hil.paths import ROOT
    from hil.report.qualification import write_qualification

    def tell(number: int, of: int, what: str) -> None:
        click.echo(f"[{number:2d}/{of}] {what}", err=True)

    with attach(bench_name) as bench:
        found = run(board_of(bench, name), by=by, bench=bench.name, progress=tell)
    for check in found.checks:
        if check.outcome != "PASS":
            click.echo(f"{check.outcome}: {check.name}: {check.said}")
    page = write_qualification(found.document(), out or ROOT / "reports" / "out" / "qualifications")
    click.echo(f"{name}: {found.outcome}; page to sign: {page}")
    return {"PASS": 0, "FAIL": 1, "INCONCLUSIVE": 3}[found.outcome]
