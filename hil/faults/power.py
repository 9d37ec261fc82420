"""The loss of power: of one board, or of a whole spacecraft, whose terminals go dark too."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from hil.boards.protocol import PowerState
from hil.faults.fault import Fault, Parameter
from hil.faults.links import SPACECRAFT_DARK

if TYPE_CHECKING:
    from hil.bench.bench import Bench

BOOT_S = Parameter("boot_s", 60.0, 1.0, 1800.0, "how long a board may take to boot when its power is back, seconds")


class PowerCut:
    """A board loses power at once (what was not on disk is lost); healed, it is switched on and has booted."""

    description = "cuts the power of a board; what it had not written to disk is lost"
    parameters = (BOOT_S,)

    def targets(self, bench: Bench) -> Sequence[str]:
        """Return all boards."""
        return tuple(bench.boards)

    @contextmanager
    def inject(self, bench: Bench, target: str, values: Mapping[str, float]) -> Iterator[None]:
        """Cut the power; afterwards switch it on and wait until the OS answers, for ``boot_s`` seconds at most."""
        board = bench.boards[target]
        try:
            board.supervisor.cut()
            yield
        finally:
            board.supervisor.on()
            board.wait_booted(deadline_s=values[BOOT_S.name])


class SpacecraftLost:
    """As ``spacecraft-dark``, and the boards lose power; those that were on are booted again afterwards."""

    description = "loses all links of a spacecraft, and the power of its boards"
    parameters = (BOOT_S,)
    targets = staticmethod(SPACECRAFT_DARK.targets)

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
            stack.enter_context(SPACECRAFT_DARK.inject(bench, target, values))
            list(pool.map(lambda board: board.supervisor.cut(), boards))
            yield


POWER_CUT: Fault = PowerCut()
SPACECRAFT_LOST: Fault = SpacecraftLost()
