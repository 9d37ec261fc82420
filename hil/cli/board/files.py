"""`hil board push` and `pull`: files to and from a board."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from hil.cli.output import JSON_OPTION, duration_option, print_result, say
from hil.cli.select_bench import on_board

if TYPE_CHECKING:
    from hil.boards.protocol import Board
    from hil.boards.ssh.transfer import Transferred


TIMEOUT = duration_option("--timeout", "Give up after so long.", default="15m")


@click.command()
@on_board
@click.argument("local", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("remote")
@TIMEOUT
@JSON_OPTION
def push(board: Board, local: Path, remote: str, timeout_s: float, as_json: bool) -> None:
    """Copy a file to a board, to a file or into a folder.

    A connection that breaks is opened again and goes on where it was, until --timeout.
    """
    from hil.boards.ssh import transfer

    opener = transfer.opener_of(board)
    done = transfer.push(opener, local, remote, deadline_s=timeout_s, progress=_percent())
    _print_transfer(done, f"{board.name}: {remote}", as_json)


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


def _print_transfer(done: Transferred, target: str, as_json: bool) -> None:
    text = f"{target}: {done.size_bytes:,} bytes, digest compared; {done.sent_bytes:,} sent"
    if (kept := done.size_bytes - done.sent_bytes) > 0:
        text += f", {kept:,} were there already"
    if done.connections > 1:
        text += f", {done.connections} connections"
    print_result(as_json, asdict(done), text)


def _percent() -> Callable[[int, int], None]:
    """Return a function that prints each tenth of the transfer on stderr."""
    printed = -1

    def progress(there: int, size: int) -> None:
        nonlocal printed
        if size and (tenth := 10 * there // size) > printed:
            printed = tenth
            say(f"  {10 * tenth} %")

    return progress
