"""`hil board push`, `pull` and `cp`: files to and from a board."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hil.cli.board.targets import Targets, Tell, on_boards
from hil.cli.completion import board_names
from hil.cli.output import JSON_OPTION, duration_option, print_result, say
from hil.cli.select_bench import FORCE, board_of, claim, on_bench, on_board
from hil.errors import ConfigurationError

if TYPE_CHECKING:
    from hil.bench.bench import Bench
    from hil.boards.protocol import Board
    from hil.boards.ssh.transfer import Transferred


TIMEOUT = duration_option("--timeout", "Give up after so long.", default="15m")


@click.command()
@on_boards
@click.argument("local", type=click.Path(exists=True, path_type=Path))
@click.argument("remote")
@TIMEOUT
@JSON_OPTION
def push(targets: Targets, local: Path, remote: str, timeout_s: float, as_json: bool) -> int:
    """Copy a file or a folder to a board, to a path or into a folder; to several boards at once.

    A connection that breaks is opened again and goes on where it was, until --timeout.
    """
    from hil.boards.ssh import transfer

    targets.claim("push", f"push {local.name} to {remote}")

    def copy(board: Board, tell: Tell) -> dict[str, Any]:
        opener = transfer.opener_of(board)
        progress = _percent("" if targets.alone else f"{board.name}: ")
        done = transfer.push(opener, local, remote, deadline_s=timeout_s, progress=progress)
        tell(_line(done, f"{board.name}: {remote}"))
        return asdict(done) if targets.alone else {"name": board.name, **asdict(done)}

    return targets.do(copy, as_json=as_json)


@click.command()
@on_board
@click.argument("remote")
@click.argument("local", type=click.Path(path_type=Path))
@TIMEOUT
@JSON_OPTION
def pull(board: Board, remote: str, local: Path, timeout_s: float, as_json: bool) -> None:
    """Copy a file from a board, to a file or into a folder; a broken connection is opened again, as with `push`."""
    from hil.boards.ssh import transfer

    opener = transfer.opener_of(board)
    done = transfer.pull(opener, remote, local, deadline_s=timeout_s, progress=_percent())
    _print_transfer(done, str(local), as_json)


@click.command()
@on_bench
@click.argument("source", metavar="[BOARD:]SOURCE", shell_complete=board_names)
@click.argument("target", metavar="[BOARD:]TARGET", shell_complete=board_names)
@TIMEOUT
@FORCE
@JSON_OPTION
def cp(bench: Bench, source: str, target: str, timeout_s: float, force: bool, as_json: bool) -> None:
    """Copy files and folders to or from a board, in the form of scp: `hil board cp app a1:/data`, `cp a1:/data/log .`.

    A broken connection is opened again, as with `push` and `pull`.
    """
    from hil.boards.ssh import transfer

    (near, here), (far, there) = _side(source), _side(target)
    if bool(near) == bool(far):
        raise ConfigurationError(
            f"from {source} to {target}: one of them is on a board, the other one here",
            remedy="write BOARD:/path for the board's side; a file here with a colon in its name is ./na:me",
        )
    opener = transfer.opener_of(board_of(bench, near or far))
    if far:
        if not Path(here).exists():
            raise ConfigurationError(f"there is no {here} on this machine", remedy="check its name")
        claim(bench, [far], f"{far}: copy {here} to {there}", force=force, verb="push", about=far)
        done = transfer.push(opener, Path(here), there or ".", deadline_s=timeout_s, progress=_percent())
    else:
        done = transfer.pull(opener, here or ".", Path(there), deadline_s=timeout_s, progress=_percent())
    _print_transfer(done, target, as_json)


def _side(text: str) -> tuple[str, str]:
    """Return board and path of one side of a copy; no board where a slash comes before the first colon."""
    name, colon, path = text.partition(":")
    return (name, path) if colon and "/" not in name else ("", text)


def _print_transfer(done: Transferred, target: str, as_json: bool) -> None:
    print_result(as_json, asdict(done), _line(done, target))


def _line(done: Transferred, target: str) -> str:
    """Return the result of a transfer for people."""
    text = f"{target}: {done.size_bytes:,} bytes, digest compared; {done.sent_bytes:,} sent"
    if (kept := done.size_bytes - done.sent_bytes) > 0:
        text += f", {kept:,} were there already"
    if done.connections > 1:
        text += f", {done.connections} connections"
    return text


def _percent(whose: str = "") -> Callable[[int, int], None]:
    """Return a function that prints each tenth of the transfer on stderr."""
    printed = -1

    def progress(there: int, size: int) -> None:
        nonlocal printed
        if size and (tenth := 10 * there // size) > printed:
            printed = tenth
            say(f"  {whose}{10 * tenth} %")

    return progress
