"""`hil board console`, `shell` and `run`."""

from __future__ import annotations

import math
import shlex
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import click

from hil.cli.board.live_output import Cleaned, Lines, Raw
from hil.cli.board.targets import boards_of, target_argument
from hil.cli.output import JSON_OPTION, duration_option, print_json, say
from hil.cli.select_bench import (
    BENCH,
    FORCE,
    Claim,
    attach,
    board_argument,
    board_of,
    claim,
    on_bench,
    on_board_to_change,
)
from hil.errors import ConfigurationError, HarnessError, HilError

if TYPE_CHECKING:
    from hil.bench.bench import Bench
    from hil.boards.capabilities import Streaming
    from hil.boards.protocol import Board, Via
    from hil.boards.ssh.stream import Sink

VIA = click.option(
    "--via",
    type=click.Choice(["management", "flight"]),
    default="management",
    show_default=True,
    help="Network to use.",
)
TIMEOUT = duration_option("--timeout", "Time that COMMAND may take; it is ended then (default: no limit).")
TIMED_OUT = 124
"""As timeout(1) has it."""


@click.command()
@board_argument
@BENCH
@click.option("--log", "mode", flag_value="log", help="Print the log so far, and end.")
@click.option("--follow", "mode", flag_value="follow", help="Print the log and go on with new lines, read-only.")
@click.option("--url", "mode", flag_value="url", help="Print the URL for pyserial, and end.")
@click.option("--stamps", is_flag=True, help="With --log and --follow: the time (UTC) before each line.")
@FORCE
def console(name: str, bench_name: str | None, mode: str | None, stamps: bool, force: bool) -> None:
    """Open the serial console of a board; Ctrl-] ends it. It survives power cycles of the board.

    It begins with the last lines so far. Several people can use it at once: each sees everything, and every key is
    sent. To a Jetson nothing is sent before `login:`, because a key would open its set-up menu. While another
    person or a run holds the board, only --log and --follow work, unless --force is given.
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
            claim(bench, [name], f"{name}: console", force=force, verb="console", about=name)
            greeting = f"[console of {name}: Enter wakes it up, Ctrl-] ends it]\r\n"
            terminal.interact(serial_console.url, serial_console.log, greeting=greeting)
            say("\nconsole closed")


@click.command()
@on_board_to_change("shell")
@click.argument("command", nargs=-1)
@VIA
@TIMEOUT
def shell(board: Board, claim: Claim, command: tuple[str, ...], via: str, timeout_s: float | None) -> int:
    """Open a root shell on a board, or run one command: its output as it comes, its exit code, 124 after --timeout.

    Ctrl-C ends the command on the board, too. On a terminal its output is cleaned of control sequences.
    """
    from hil.boards.protocol import Via
    from hil.cli.board import terminal

    if not command and not sys.stdin.isatty():
        raise ConfigurationError("a shell needs a terminal", remedy="give a command: `hil board shell NAME -- COMMAND`")
    claim(shlex.join(command))
    if not command:
        return terminal.ssh(board, Via(via))
    stdin: bytes | int = b"" if sys.stdin.isatty() else sys.stdin.fileno()
    clean_up = Cleaned if sys.stdout.isatty() else Raw
    said, complained = clean_up(sys.stdout), Cleaned(sys.stderr) if sys.stderr.isatty() else Raw(sys.stderr)
    with streaming(board, Via(via)) as opened:
        code = opened.stream(command, out=said, err=complained, stdin=stdin, timeout_s=timeout_s or math.inf)
    said.end()
    complained.end()
    if code is None:
        click.echo(f"hil: the command did not end within {timeout_s:g} s and was ended", err=True)
    return TIMED_OUT if code is None else code


@contextmanager
def streaming(board: Board, via: Via) -> Iterator[Streaming]:
    """Open a shell that gives on output as it comes. HarnessError when the board's driver has none."""
    from hil.boards.capabilities import Streaming

    with board.shell(via) as shell:
        if not isinstance(shell, Streaming):
            raise HarnessError(f"board {board.name}: its driver cannot show a command's output as it comes")
        yield shell


@click.command()
@target_argument
@click.argument("command", nargs=-1, required=True)
@on_bench
@VIA
@TIMEOUT
@FORCE
@JSON_OPTION
def run(
    bench: Bench, target: str, command: tuple[str, ...], via: str, timeout_s: float | None, force: bool, as_json: bool
) -> int:
    """Run one command on several boards at once, each line with its board's name before it, as it comes.

    The exit code is 0 when all of them gave 0, else 1; 3 when a board could not be reached. Ctrl-C ends the command
    on all of them. For one board, with its exit code and stdin, there is `hil board shell NAME -- COMMAND`.
    With --json a command is ended when it has said 16 MiB.
    """
    from concurrent.futures import ThreadPoolExecutor, as_completed

    from hil.boards.protocol import Via

    boards = boards_of(bench, target)
    chosen = [board.name for board in boards]
    words = f"{', '.join(chosen)}: {shlex.join(command)}"
    claim(bench, chosen, words, force=force, verb="run", about=",".join(chosen))
    stop = threading.Event()
    with ThreadPoolExecutor(len(boards)) as pool:
        jobs = [
            pool.submit(_run_on, board, command, Via(via), timeout_s or math.inf, stop, live=not as_json)
            for board in boards
        ]
        try:
            for job in as_completed(jobs):
                job.result()
        except BaseException:
            stop.set()
            raise
    rows = [job.result() for job in jobs]
    if as_json:
        print_json(rows)
    if any(row["exit_code"] is None for row in rows):
        return 3
    return int(any(row["exit_code"] for row in rows))


def _run_on(
    one: Board, command: tuple[str, ...], via: Via, timeout_s: float, stop: threading.Event, *, live: bool
) -> dict[str, Any]:
    """Run it on one board: print its lines as they come, or only keep them."""
    from hil.boards.ssh.shell import LONGEST_OUTPUT

    row: dict[str, Any] = {"board": one.name, "exit_code": None, "stdout": "", "stderr": "", "problem": None}
    kept = {"stdout": bytearray(), "stderr": bytearray()}
    lines = {"stdout": Lines(sys.stdout, one.name), "stderr": Lines(sys.stderr, one.name)}

    def room_b() -> int:
        return LONGEST_OUTPUT - sum(map(len, kept.values()))

    def keep(name: str) -> Sink:
        return lambda data: kept[name].extend(data[: room_b()])

    out, err = lines.values() if live else (keep("stdout"), keep("stderr"))
    try:
        with streaming(one, via) as opened:
            code = opened.stream(
                command, out=out, err=err, timeout_s=timeout_s, stop=lambda: stop.is_set() or not room_b()
            )
        row["exit_code"] = code
        if code is None and not stop.is_set():
            why = f"did not end within {timeout_s:g} s" if room_b() else f"said {LONGEST_OUTPUT >> 20} MiB"
            row["problem"] = f"{why} and was ended"
    except HilError as exc:  # the other boards' answers count nevertheless
        row["problem"] = exc.message
    for each in lines.values():
        each.end()
    if live and row["problem"]:
        lines["stderr"](f"{row['problem']}\n".encode())
    elif live and row["exit_code"]:
        lines["stderr"](f"exit code {row['exit_code']}\n".encode())
    return row | {name: data.decode("utf-8", "replace") for name, data in kept.items()}
