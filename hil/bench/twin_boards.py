"""What the twin of a bench has in its hands: boards in containers, and real ones beside which it predicts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from hil.boards.linux_board import KeptShell
from hil.core.cgroups import CpuGroup
from hil.core.processes import ProcessId, identify
from hil.errors import BenchError, HilError
from hil.onboard.twin.jetson_files import SensorFiles, Shown
from hil.onboard.twin.modules import Module
from hil.onboard.twin.spacecraft import Demand

if TYPE_CHECKING:
    from hil.boards.linux_board import LinuxBoard


class TwinBoard(Protocol):
    """One board, as the twin meets it."""

    measured_c: float | None
    """Its own sensor's junction temperature; None for a board that has none of its own."""

    def look(self, seconds: float) -> Demand:
        """Return what it did in the last ``seconds``."""

    def act(self, shown: Shown) -> None:
        """Let it see its sensors, and slow it down to its clock."""

    def close(self) -> None: ...


class ContainerTwin:
    """A board in a container: its load is its control group's, its clock is what that may use."""

    def __init__(self, module: Module, files: Path, cores: float, firmware_pid: Callable[[], int | None]) -> None:
        """``cores``: of this host, at full clock; ``firmware_pid`` is asked while the board seems to be off."""
        self.measured_c: float | None = None
        self._cores = cores
        self._files = SensorFiles(files, module)
        self._firmware_pid = firmware_pid
        self._process: ProcessId | None = None
        self._group: CpuGroup | None = None
        self._used_s = 0.0
        self._allowed = -1.0

    def look(self, seconds: float) -> Demand:
        if self._process is None or not self._process.alive():
            self._find()
        if self._group is None:
            return Demand(on=False)
        try:
            used_s = self._group.used_s()
        except (OSError, ValueError, StopIteration):  # it went this moment
            self._group = None
            return Demand(on=False)
        clock = self._allowed if self._allowed > 0 else 1.0
        share = (used_s - self._used_s) / max(1e-3, seconds * self._cores * clock)
        self._used_s = used_s
        return Demand(True, min(1.0, max(0.0, share)), self._files.cap())

    def act(self, shown: Shown) -> None:
        self._files.show(shown)
        if self._group is None or abs(shown.clock - self._allowed) < 0.005:
            return
        try:
            self._group.allow(self._cores * shown.clock)
            self._allowed = shown.clock
        except OSError:
            self._group = None

    def _find(self) -> None:
        self._group, self._allowed = None, -1.0
        pid = self._firmware_pid()
        self._process = identify(pid) if pid else None
        if self._process is None:
            return
        try:
            self._group = CpuGroup.of(self._process.pid)
            self._used_s = self._group.used_s()
        except (OSError, BenchError, ValueError):
            self._group = None
            raise

    def close(self) -> None:
        self._files.close()


class RealTwin:
    """A real board: the twin takes its measured power, and says what temperature that should give."""

    def __init__(self, board: LinuxBoard) -> None:
        self._board = board
        self._shell = KeptShell(board.shell)
        self.measured_c: float | None = None

    def look(self, seconds: float) -> Demand:
        try:
            read: Mapping[str, float] = self._shell.use(self._board.sensors_over)
        except HilError:
            self.measured_c = None
            return Demand(on=False)
        self.measured_c = read.get("tj_c")
        return Demand(True, read.get("gpu_load_percent", 0.0) / 100, 1.0, power_w=_watts(read.get("board_mw")))

    def act(self, shown: Shown) -> None:
        """Nothing: it has sensors and a governor of its own."""

    def close(self) -> None:
        self._shell.close()


def _watts(milliwatts: float | None) -> float | None:
    return None if milliwatts is None else milliwatts / 1000
