"""Boards that a command is for: one by its name, or several, with one result line each and the worst exit code."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import wraps
from typing import TYPE_CHECKING, Any, cast

import click

from hil.cli.completion import target_names
from hil.cli.output import F, print_json
from hil.cli.select_bench import FORCE, claim, on_bench
from hil.errors import ConfigurationError, HilError
from hil.text import clean

if TYPE_CHECKING:
    from hil.bench.bench import Bench
    from hil.boards.protocol import Board

Tell = Callable[[str], None]
Job = Callable[["Board", Tell], Mapping[str, Any]]
"""Does it with one board: tells what a person shall see, returns the row for JSON."""

Result = tuple[str, tuple[Mapping[str, Any], int]]
"""Name of a board, its row, its exit code."""

target_argument = click.argument("target", metavar="BOARD[,BOARD...]|SPACECRAFT|all", shell_complete=target_names)


def boards_of(bench: Bench, target: str) -> list[Board]:
    """Return the boards that ``target`` names, in the order of the lab file.

    It has names of boards or spacecraft, patterns such as ``a*``, or ``all``, with commas between.  ConfigurationError
    for a word that fits nothing.
    """
    chosen: set[str] = set()
    for word in target.split(","):
        found = {
            name
            for name, board in bench.boards.items()
            if word == "all" or fnmatchcase(name, word) or fnmatchcase(board.spacecraft, word)
        }
        if not found:
            craft = ", ".join(dict.fromkeys(board.spacecraft for board in bench.boards.values()))
            raise ConfigurationError(
                f"bench {bench.name} has no board {word!r}",
                remedy=f"boards: {', '.join(bench.boards)}; spacecraft: {craft}; or a pattern, or all",
            )
        chosen |= found
    return [board for name, board in bench.boards.items() if name in chosen]


@dataclass(frozen=True)
class Targets:
    """The boards of a command. ``alone``: it was given the name of one board."""

    bench: Bench
    boards: tuple[Board, ...]
    alone: bool
    force: bool = False

    def claim(self, verb: str, what: str) -> None:
        """Raise LeaseTaken, before anything is changed, when one of the boards is somebody else's."""
        names = [board.name for board in self.boards]
        claim(self.bench, names, f"{', '.join(names)}: {what}", force=self.force, verb=verb, about=",".join(names))

    def do(self, job: Job, *, as_json: bool) -> int:
        """Do a job with all boards at once, print what it tells and returns, and return the worst exit code.

        The error of a board that was named alone is raised; of several, each board's is printed and the others go on.
        """
        if self.alone:
            row = job(self.boards[0], _tell(as_json))
            if as_json:
                print_json(row)
            return 0
        results = dict(_at_once(self.boards, job, as_json=as_json))
        if as_json:
            print_json([results[board.name][0] for board in self.boards])
        return max(code for _, code in results.values())


def on_boards(command: F) -> F:
    """Take boards as an argument, ``--bench`` and ``--force``; the command's function gets ``targets``."""

    @wraps(command)
    def with_boards(*args: object, bench: Bench, target: str, force: bool, **options: object) -> object:
        targets = Targets(bench, tuple(boards_of(bench, target)), alone=target in bench.boards, force=force)
        return command(*args, targets=targets, **options)

    return cast(F, target_argument(on_bench(FORCE(with_boards))))


def _tell(as_json: bool) -> Tell:
    """Return what prints a line for a person; nothing with ``--json``."""
    return (lambda _text: None) if as_json else (lambda text: click.echo(clean(text)))


def _at_once(boards: tuple[Board, ...], job: Job, *, as_json: bool) -> Iterator[Result]:
    """Yield (name, (row, exit code)) of each board as it is done.

    The threads are daemons: after Ctrl-C nobody waits for a transfer of minutes.
    """
    from hil.cli.app import EXIT_CODES, error_document

    context = click.get_current_context()
    done: queue.SimpleQueue[tuple[Board, Mapping[str, Any] | BaseException]] = queue.SimpleQueue()

    def one(board: Board) -> None:
        try:
            with context.scope(cleanup=False):  # its -q and -v hold here, too
                done.put((board, job(board, _tell(as_json))))
        except BaseException as exc:
            done.put((board, exc))

    for board in boards:
        threading.Thread(target=one, args=(board,), name=f"board {board.name}", daemon=True).start()
    for _ in boards:
        board, result = done.get()
        if isinstance(result, HilError):
            if not as_json:
                click.echo(clean(f"{board.name}: error ({result.blame.value}): {result}"), err=True)
            yield board.name, ({"name": board.name, **error_document(result)}, EXIT_CODES[result.blame])
        elif isinstance(result, BaseException):
            raise result
        else:
            yield board.name, (result, 0)
