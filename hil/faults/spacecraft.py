"""The loss of a whole spacecraft: its terminals go dark and its boards lose power."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING

from hil.boards.protocol import PowerState
from hil.errors import ConfigurationError

if TYPE_CHECKING:
    from hil.bench.bench import Bench


@contextmanager
def lost_spacecraft(bench: Bench, name: str, *, power: bool = True) -> Iterator[list[str]]:
    """While the block runs the spacecraft is gone: names of the links that were cut.

    Afterwards the links are what they were (a link cut by hand before stays cut) and boards that were on are
    switched on again and awaited.  ``power`` False leaves the boards running behind dark terminals.
    """
    if name not in {craft.name for craft in bench.lab.spacecraft}:
        known = ", ".join(craft.name for craft in bench.lab.spacecraft)
        raise ConfigurationError(
            f"no spacecraft {name} in lab {bench.lab.name}", remedy=f"choose one of {known}"
        )
    already = bench.links.cut_links()
    links = [link.name for link in bench.lab.links if name in link.between and link.name not in already]
    boards = [
        b
        for b in bench.boards.values()
        if b.spacecraft == name and power and b.supervisor.state() is PowerState.ON
    ]
    try:
        for link in links:
            bench.links.cut(link, why=f"{name} lost")
        with ThreadPoolExecutor(max(1, len(boards))) as pool:
            list(pool.map(lambda board: board.supervisor.cut(), boards))
        yield links
    finally:
        for link in links:
            bench.links.restore(link, why=f"{name} is back")
        with ThreadPoolExecutor(max(1, len(boards))) as pool:
            list(pool.map(lambda board: board.supervisor.on(), boards))
            list(pool.map(lambda board: board.wait_booted(deadline_s=60), boards))
