"""Faults of a whole OS: its kernel panics, it hangs, or its watchdog is no longer fed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from hil.boards.capabilities import Crashable
from hil.boards.protocol import Board
from hil.errors import DeviceError
from hil.evidence.events import RestartOrdered
from hil.faults.fault import Bite, Fault, Parameter, Proof
from hil.faults.power_kinds import BOOT_S

if TYPE_CHECKING:
    from hil.bench.bench import Bench

CONSOLE_S = 5.0


class KernelPanic:
    """The kernel of a board's OS panics; the board boots again."""

    description = "lets the kernel of a board panic; the board boots again"
    works_on = "container boards"
    parameters: Sequence[Parameter] = (BOOT_S,)
    sign = r"Kernel panic - not syncing"
    within_s = CONSOLE_S

    def targets(self, bench: Bench) -> Sequence[str]:
        """Return the boards whose OS can be made to crash."""
        return tuple(name for name, board in bench.boards.items() if isinstance(board, Crashable))

    def inject(self, bench: Bench, target: str, values: Mapping[str, float]) -> Bite:
        """Crash it, and wait for what the console must show."""
        board = bench.boards[target]
        since = board.console.size()
        bench.sink.emit(RestartOrdered(target, "fault"))
        self.bite(board)

        def prove() -> Proof:
            try:
                shown = board.console.wait_for(self.sign, deadline_s=self.within_s, since=since)
            except DeviceError:
                return Proof.of(False, f"its console does not show {self.sign!r}")
            return Proof.of(True, f"its console shows {shown!r}")

        return Bite(prove)

    def bite(self, board: Board) -> None:
        """Let the kernel panic."""
        assert isinstance(board, Crashable)
        board.panic()

    def heal(self, bench: Bench, target: str, values: Mapping[str, float]) -> None:
        """Let what was frozen go on, and wait until the board has booted."""
        board = bench.boards[target]
        assert isinstance(board, Crashable)
        board.thaw()
        board.wait_booted(deadline_s=values[BOOT_S.name])


class WatchdogReset(KernelPanic):
    """The watchdog is no longer fed, and resets the board."""

    description = "stops what feeds the watchdog of a board, which then resets it"
    works_on = "container boards"
    sign = r"watchdog expired|CPU watchdog"
    within_s = 30.0

    def targets(self, bench: Bench) -> Sequence[str]:
        """Return the boards whose OS can be frozen from outside."""
        return tuple(n for n in super().targets(bench) if getattr(bench.boards[n], "can_freeze", False))

    def bite(self, board: Board) -> None:
        """Freeze init, which feeds it; everything else goes on until the reset."""
        assert isinstance(board, Crashable)
        board.freeze(only_init=True)


class Hang(WatchdogReset):
    """All processes of an OS stand still, until the watchdog resets the board."""

    description = "freezes a board's whole OS; its watchdog resets it, unless it is healed before"

    def inject(self, bench: Bench, target: str, values: Mapping[str, float]) -> Bite:
        """Freeze it; the proof is read from its processes."""
        board = bench.boards[target]
        assert isinstance(board, Crashable)
        bench.sink.emit(RestartOrdered(target, "fault"))
        self.bite(board)
        return Bite(lambda: Proof.of(*board.frozen()))

    def bite(self, board: Board) -> None:
        """Freeze all processes."""
        assert isinstance(board, Crashable)
        board.freeze()


KERNEL_PANIC: Fault = KernelPanic()
WATCHDOG_RESET: Fault = WatchdogReset()
HANG: Fault = Hang()
