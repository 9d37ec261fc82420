"""Which bench a command means: the one named, else the only one that is up."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import click

from hil.cli.completion import bench_names
from hil.errors import ConfigurationError

if TYPE_CHECKING:
    from hil.bench.bench import Bench
    from hil.boards.protocol import Board

F = TypeVar("F", bound=Callable[..., object])


def bench_option(command: F) -> F:
    """``--bench NAME``."""
    return click.option(
        "--bench",
        "bench_name",
        envvar="HIL_BENCH",
        metavar="NAME",
        shell_complete=bench_names,
        help="Which bench; not needed while one is up.",
    )(command)


def pick(
    name: str | None, *, how: str = "name one with --bench NAME, or HIL_BENCH in the environment"
) -> str:
    """The bench's name: the one named, else the only one that is kept up, else the only one that is up.

    ``how``: how this command is told, for the message.  ConfigurationError when none or several could be meant.
    """
    from hil.bench.state import is_live, known_benches, read_state

    if name:
        return name
    up = [n for n in known_benches() if is_live(n)]
    # A bench that a campaign brought up for itself is not in the way of the one that somebody keeps up.
    kept = [n for n in up if (state := read_state(n)) and not state.tied]
    if len(kept or up) == 1:
        return (kept or up)[0]
    if not up:
        raise ConfigurationError(
            "no bench is up", remedy="`hil bench up --lab lab/virtual.yaml` brings one up"
        )
    raise ConfigurationError(f"several benches are up: {', '.join(up)}", remedy=how)


@contextmanager
def attach(name: str | None) -> Iterator[Bench]:
    """A bench that is up, and stays up when the block ends."""
    from hil.bench.bench import Bench

    bench = Bench.attach(pick(name))
    try:
        yield bench
    finally:
        bench.close()


def board_of(bench: Bench, name: str) -> Board:
    """A board by name.  ConfigurationError lists the names there are."""
    if name not in bench.boards:
        raise ConfigurationError(
            f"bench {bench.name} has no board {name}", remedy=f"boards: {', '.join(bench.boards)}"
        )
    return bench.boards[name]


def default_name(lab_path: Path) -> str:
    """A bench name made from a lab file's name: letters and digits only."""
    kept = "".join(c for c in lab_path.stem if c.isalnum())
    return kept[:20] or "bench"
