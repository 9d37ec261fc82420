"""The bench as it was at the beginning, between two trials."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hil.bench.reset import is_virtual, renew
from hil.boards.capabilities import Crashable, MemoryBounded
from hil.errors import ConfigurationError

if TYPE_CHECKING:
    from hil.bench.bench import Bench


def put_back(bench: Bench) -> None:
    """Bring all links and boards to what the lab file says, by the boards' disks; they have booted then.

    Raises ConfigurationError for a real board: it would have to be flashed.  DeviceError or BenchError when one does
    not come back.
    """
    if real := [name for name in bench.boards if not is_virtual(bench, name)]:
        raise ConfigurationError(
            f"trials put boards back by their disks; {', '.join(real)} cannot be",
            remedy="use a lab of container boards",
        )
    for link in bench.links.differences():
        bench.links.reset(link)
    for board in bench.boards.values():
        if isinstance(board, Crashable):
            board.thaw()
        if isinstance(board, MemoryBounded):
            board.bound_memory(None)
    renew(bench, dict.fromkeys(bench.boards, "a trial begins"))
