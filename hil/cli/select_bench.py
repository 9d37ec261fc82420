"""The choice of the bench that a command uses: the one named, else the only one that is up."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, cast

import click

from hil.cli.completion import bench_names, board_names
from hil.cli.output import F
from hil.errors import ConfigurationError

if TYPE_CHECKING:
    from hil.bench.bench import Bench
    from hil.boards.protocol import Board


def bench_option(help: str, *, envvar: str | None = None) -> Callable[[F], F]:
    """Make ``--bench NAME``; the command's function gets ``bench_name``."""
    return click.option("--bench", "bench_name", envvar=envvar, metavar="NAME", shell_complete=bench_names, help=help)


BENCH = bench_option("Bench to use; not needed while only one is up.", envvar="HIL_BENCH")


def bench_argument(command: F) -> F:
    """Take the bench as an argument or with ``--bench``; the command's function gets it as ``name``."""

    @wraps(command)
    def with_name(*args: object, name: str | None, bench_name: str | None, **options: object) -> object:
        return command(*args, name=name or bench_name, **options)

    argument = click.argument("name", required=False, metavar="[BENCH]", shell_complete=bench_names)
    return cast(F, argument(BENCH(with_name)))


def on_bench(command: F) -> F:
    """Take ``--bench``; the command's function gets ``bench``, the bench that is up, and leaves it up."""

    @wraps(command)
    def attached(*args: object, bench_name: str | None, **options: object) -> object:
        with attach(bench_name) as bench:
            return command(*args, bench=bench, **options)

    return cast(F, BENCH(attached))


FORCE = click.option(
    "--force", is_flag=True, help="Also while another holds it; the journal notes that, and a run learns of it."
)

Claim = Callable[[str], None]
"""``claim(what)``: raises LeaseTaken when the board is somebody else's; called before the board is changed."""


def claim(bench: Bench, boards: Iterable[str], what: str, *, force: bool, verb: str, about: str = "") -> None:
    """Raise LeaseTaken when one of the boards is somebody else's; ``verb`` and ``about`` are for the journal."""
    from hil.bench.ownership import may_change

    may_change(bench.state, bench.lab, boards, what, force=force, verb=verb, about=about)


def on_board_to_change(verb: str) -> Callable[[F], F]:
    """As :func:`on_board`, with ``--force``; the command's function also gets ``claim`` (:data:`Claim`)."""

    def decorate(command: F) -> F:
        @wraps(command)
        def with_claim(*args: object, bench: Bench, name: str, force: bool, **options: object) -> object:
            def claimed(what: str) -> None:
                claim(bench, [name], f"{name}: {what}", force=force, verb=verb, about=name)

            return command(*args, board=board_of(bench, name), claim=claimed, **options)

        return cast(F, board_argument(on_bench(FORCE(with_claim))))

    return decorate


board_argument = click.argument("name", metavar="BOARD", shell_complete=board_names)


def on_board(command: F) -> F:
    """Take a board as an argument and ``--bench``; the command's function gets ``board``."""

    @wraps(command)
    def with_board(*args: object, bench: Bench, name: str, **options: object) -> object:
        return command(*args, board=board_of(bench, name), **options)

    return cast(F, board_argument(on_bench(with_board)))


def pick(name: str | None) -> str:
    """Return the name of the bench that is meant; see :func:`hil.bench.state.pick`."""
    from hil.bench import state

    return state.pick(name)


@contextmanager
def attach(name: str | None) -> Iterator[Bench]:
    """Use a bench that is up; it stays up when the block ends."""
    from hil.bench.bench import Bench

    with closing(Bench.attach(pick(name))) as bench:
        yield bench


def board_of(bench: Bench, name: str) -> Board:
    """Return a board by name; ConfigurationError lists the names there are."""
    if name not in bench.boards:
        raise ConfigurationError(f"bench {bench.name} has no board {name}", remedy=f"boards: {', '.join(bench.boards)}")
    return bench.boards[name]


def default_name(lab_path: Path) -> str:
    """Return a bench name made from a lab file's name: lower case letters and digits only."""
    kept = "".join(c for c in lab_path.stem.lower() if c.isascii() and c.isalnum())
    return kept[:20] or "bench"
