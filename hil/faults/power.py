"""The loss of a board's power."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from hil.faults.fault import Fault, Parameter

if TYPE_CHECKING:
    from hil.bench.bench import Bench

BOOT_S = Parameter(
    "boot_s", 60.0, 1.0, 1800.0, "how long a board may take to boot when its power is back, seconds"
)


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


POWER_CUT: Fault = PowerCut()
