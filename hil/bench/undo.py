"""What a test changed by hand, undone at its end: links and power, as ``monkeypatch`` does it with attributes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING

from hil.bench.journal import POWER_OFF
from hil.core.command import Progress, silent
from hil.evidence.events import BenchPutBack

if TYPE_CHECKING:
    from hil.bench.bench import Bench


@contextmanager
def undoing(bench: Bench, tell: Progress = silent) -> Iterator[None]:
    """Put back, when the block ends, what this process changed meanwhile of links and of the power of boards.

    Boards that it switched off have booted again then.  Raises the first error of what cannot be put back.
    """
    before, switched = bench.links.remembered(), dict(bench.switched)
    try:
        yield
    finally:
        try:
            for link in before:
                if bench.links.put_back(link, why="at the end of the test"):
                    note_put_back(bench, tell, f"link {link.name}", "the test left it changed")
        finally:
            off = [b for b, action in bench.switched.items() if action in POWER_OFF and switched.get(b) != action]
            power_on(bench, off, "the test left it without power", tell)


def power_on(bench: Bench, boards: Iterable[str], was: str, tell: Progress = silent) -> None:
    """Give boards power, all at once, and wait until each has booted."""
    names = [name for name in boards if name in bench.boards]
    if not names:
        return
    for name in names:
        note_put_back(bench, tell, f"board {name}", was)

    def on(name: str) -> None:
        bench.boards[name].supervisor.on()
        bench.boards[name].wait_booted()

    with ThreadPoolExecutor(len(names)) as pool:
        list(pool.map(on, names))


def note_put_back(bench: Bench, tell: Progress, part: str, was: str) -> None:
    """Say on the terminal and in the evidence that a link or a board is put back, and how it was."""
    tell(f"{part}: {was}; put back")
    bench.sink.emit(BenchPutBack(part, was))
