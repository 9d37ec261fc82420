"""The loss of a whole spacecraft: its terminals go dark, and its boards may lose power."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from hil.boards.protocol import PowerState
from hil.faults.fault import Fault
from hil.faults.links import SpacecraftDark
from hil.faults.power import BOOT_S

if TYPE_CHECKING:
    from hil.bench.bench import Bench


class SpacecraftLost(SpacecraftDark):
    """As :class:`SpacecraftDark`, and the boards lose power; those that were on are booted again afterwards."""

    description = "loses all links of a spacecraft, and the power of its boards"
    parameters = (BOOT_S,)

    @contextmanager
    def inject(self, bench: Bench, target: str, values: Mapping[str, float]) -> Iterator[None]:
        """Cut the links and the power of the boards that are on; afterwards the other way round."""
        boot_s = values[BOOT_S.name]
        boards = [
            board
            for board in bench.boards.values()
            if board.spacecraft == target and board.supervisor.state() is PowerState.ON
        ]
        with ExitStack() as stack:
            pool = stack.enter_context(ThreadPoolExecutor(max(1, len(boards))))
            # Called last to first: links back, power on, wait.
            stack.callback(lambda: list(pool.map(lambda board: board.wait_booted(deadline_s=boot_s), boards)))
            stack.callback(lambda: list(pool.map(lambda board: board.supervisor.on(), boards)))
            stack.enter_context(super().inject(bench, target, values))
            list(pool.map(lambda board: board.supervisor.cut(), boards))
            yield


SPACECRAFT_LOST: Fault = SpacecraftLost()
