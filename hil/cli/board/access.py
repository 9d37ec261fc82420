"""`hil board console`, `shell` and `run`."""

from __future__ import annotations

import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import click

from hil.cli.completion import board_names
from hil.cli.output import JSON_OPTION, duration_option, print_json, say
from hil.cli.select_bench import BENCH, attach, board_argument, board_of, on_bench, on_board
from hil.errors import ConfigurationError, HilError
from hil.text import clean

if TYPE_CHECKING:
    from hil.bench.bench import Bench
    from hil.boards.protocol import Board, Via

VIA = click.option(
    "--via",
    type=click.Choice(["management", "flight"]),
    default="management",
    show_default=True,
    help="Network to use.",
)
TIMEOUT = duration_option("--timeout", "Time that COMMAND may take.", default="60s")


@click.command()
@board_argument
@BENCH
@click.option("--log", "mode", flag_value="log", help="Print the log so far, and end.")
@click.option("--follow", "mode", flag_value="follow", help="Print the log and go on with new lines, read-only.")
@click.option("--url", "mode", flag_value="url", help="Print the URL for pyserial, and end.")
@click.option("--stamps", is_flag=True, help="With --log and --follow: the time (UTC) before each line.")
def console(name: str, bench_name: str | None, mode: str | None, stamps: bool) -> None:
    """Open the serial console of a board; Ctrl-] ends it. It survives power cycles of the board.

    It begins with the last lines so far. Several people can use it at once: each sees everything, and every key is
    sent. To a Jetson nothing is sent before `login:`, because a key would open its set-up menu.
    """
    from hil.cli.board import terminal

    if stamps and mode not in ("log", "follow"):
        raise ConfigurationError("--stamps is for the log", remedy=f"hil board console {name} --follow --stamps")
    with attach(bench_name) as bench:
        serial_console = board_of(bench, name).console
        if mode == "url":
            click.echo(serial_console.url)
        elif mode in ("log", "follow"):
            with suppress(KeyboardInterrupt):  # the usual end of --follow
                terminal.print_log(serial_console.log, follow=mode == "follow", stamps=stamps)
        elif not sys.stdin.isatty():
            raise ConfigurationError(
                "the console needs a terminal", remedy="for scripts: `hil board console NAME --log`, --follow"
            )
        else:
            greeting = f"[console of {name}: Enter wakes it up, Ctrl-] ends it]\r\n"
            terminal.interact(serial_console.url, serial_console.log, greeting=greeting)
            say("\nconsole closed")


@click.command()
@on_board
@click.argument("command", nargs=-1)
@VIA
@TIMEOUT
def shell(board: Board, command: tuple[str, ...], via: str, timeout_s: float) -> int:
    """Open a root shell on a board, or run one command; its exit code is this command's."""
    from hil.boards.protocol import Via
    from hil.cli.board import terminal

    if not command:
        if not sys.stdin.isatty():
            raise ConfigurationError(
                "a shell needs a terminal", remedy="give a command: `hil board shell NAME -- COMMAND`"
            )
        return terminal.ssh(board, Via(via))
    with board.shell(Via(via)) as opened:
        stdin = b"" if sys.stdin.isatty() else sys.stdin.buffer.read()
        done = opened.run(command, timeout_s=timeout_s, stdin=stdin, check=False)
    click.echo(done.stdout, nl=False)
    click.echo(done.stderr, nl=False, err=True)
    return done.returncode


@click.command()
@click.argument("names", metavar="NAME[,NAME...]|all", shell_complete=board_names)
@click.argument("command", nargs=-1, required=True)
@on_bench
@VIA
@TIMEOUT
@JSON_OPTION
def run(bench: Bench, names: str, command: tuple[str, ...], via: str, timeout_s: float, as_json: bool) -> int:
    """Run one command on several boards at once, each line with its board's name before it.

    The exit code is 0 when all of them gave 0, else 1; 3 when a board could not be reached. For one board, with its
    exit code and stdin, there is `hil board shell NAME -- COMMAND`.
    """
    from concurrent.futures import ThreadPoolExecutor

    from hil.boards.protocol import Via

    every = names == "all"
    boards = [board_of(bench, name) for name in (bench.boards if every else dict.fromkeys(names.split(",")))]
    with ThreadPoolExecutor(len(boards)) as pool:
        rows = list(pool.map(lambda board: _run_on(board, command, Via(via), timeout_s), boards))
    if as_json:
        print_json(rows)
    else:
        for row in rows:
            _print_run(row)
    if any(row["exit_code"] is None for row in rows):
        return 3
    return int(any(row["exit_code"] for row in rows))


def _run_on(one: Board, command: tuple[str, ...], via: Via, timeout_s: float) -> dict[str, Any]:
    row: dict[str, Any] = {"board": one.name, "exit_code": None, "stdout": "", "stderr": "", "problem": None}
    try:
        with one.shell(via) as opened:
            done = opened.run(command, timeout_s=timeout_s, check=False)
    except HilError as exc:  # the other boards' answers count nevertheless
        return row | {"problem": exc.message}
    return row | {"exit_code": done.returncode, "stdout": done.stdout, "stderr": done.stderr}


def _print_run(row: dict[str, Any]) -> None:
    for stream, is_error in (("stdout", False), ("stderr", True)):
        for line in row[stream].splitlines():
            click.echo(f"{row['board']}: {clean(line)}", err=is_error)
    if row["problem"]:
        click.echo(f"{row['board']}: could not run it: {row['problem']}", err=True)
    elif row["exit_code"]:
        click.echo(f"{row['board']}: exit code {row['exit_code']}", err=True)
