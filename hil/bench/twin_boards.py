"""What the twin of a bench has in its hands: boards in containers, and real ones beside which it predicts."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from hil.boards.linux_board import KeptShell
from hil.core.cgroups import CpuGroup
from hil.core.processes import ProcessId, identify
from hil.errors import BenchError, HilError
from hil.evidence.twin import BoardHeat
from hil.onboard.twin.jetson_files import SensorFiles, Shown
from hil.onboard.twin.modules import Module
from hil.onboard.twin.spacecraft import Demand, binding

if TYPE_CHECKING:
    from hil.boards.linux_board import LinuxBoard

SILENT_S = 5.0
"""A real board whose sensors do not answer for so long is taken for one without power."""


class TwinBoard(Protocol):
    """One board, as the twin meets it."""

    measured: BoardHeat | None
    """What its own sensors say; None for a board that has none of its own, and while it does not answer."""

    def look(self, seconds: float) -> Demand:
        """Return what it did in the last ``seconds``."""

    def act(self, shown: Shown) -> None:
        """Let it see its sensors, and slow it down to its clock."""

    def close(self) -> None: ...


class ContainerTwin:
    """A board in a container: its load is its control group's, its clock is what that may use."""

    def __init__(self, module: Module, files: Path, cores: float, firmware_pid: Callable[[], int | None]) -> None:
        """``cores``: of this host, at full clock; ``firmware_pid`` is asked while the board seems to be off.

        It may raise BenchError: then it is asked again at the next look.
        """
        self.measured: BoardHeat | None = None
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
        try:
            pid = self._firmware_pid()
        except BenchError:
            pid = None
        self._process = identify(pid) if pid else None
        if self._process is None:
            return
        try:
            self._group = CpuGroup.of(self._process.pid)
            self._used_s = self._group.used_s()
        except (OSError, BenchError, ValueError):
            self._group = None
            if self._process.alive():
                raise

    def close(self) -> None:
        self._files.close()


class RealTwin:
    """A real board: the twin takes its measured power, and says what temperature that should give."""

    def __init__(self, board: LinuxBoard, module: Module) -> None:
        self._board, self._module = board, module
        self._shell = KeptShell(board.shell)
        self._pool = ThreadPoolExecutor(1, thread_name_prefix=f"twin-{board.name}")
        self._asked: Future[dict[str, float]] | None = None
        self._waits_s = 0.0
        self._sums = BoardHeat(on=False)
        self.measured: BoardHeat | None = None

    def look(self, seconds: float) -> Demand:
        """Return what it did, by the sensors that were asked at the last look: a board that hangs delays no other."""
        self._waits_s += seconds
        if self._asked is None or self._asked.done():
            if self._asked is not None:
                self._take(self._asked, min(self._waits_s, SILENT_S))
            self._asked, self._waits_s = self._pool.submit(self._shell.use, self._board.sensors_over), 0.0
        elif self._waits_s > SILENT_S:
            self.measured = None
        if self.measured is None:
            return Demand(on=False)
        return Demand(True, self.measured.busy, 1.0, power_w=self.measured.power_w or None)

    def _take(self, asked: Future[dict[str, float]], seconds: float) -> None:
        try:
            read = asked.result()
            junction_c = read["tj_c"]
        except (HilError, KeyError):
            self.measured = None
            return
        watts = read.get("board_mw", 0.0) / 1000
        busy = min(1.0, read.get("gpu_load_percent", 0.0) / 100)
        clock = min(1.0, read.get("gpu_mhz", self._module.top_mhz) / self._module.top_mhz)
        hot = read.get("throttle_state", 0.0) > 0
        sums = self._sums
        self.measured = self._sums = BoardHeat(
            junction_c=round(junction_c, 2),
            power_w=round(watts, 2),
            busy=round(busy, 3),
            clock=round(clock, 3),
            binding=binding(hot, True, busy, clock),
            peak_c=max(junction_c, sums.peak_c) if sums.on else junction_c,
            throttled_s=sums.throttled_s + hot * seconds,
            energy_wh=sums.energy_wh + watts * seconds / 3600,
        )

    def act(self, shown: Shown) -> None:
        """Nothing: it has sensors and a governor of its own."""

    def close(self) -> None:
        self._shell.close()
        self._pool.shutdown(wait=False, cancel_futures=True)
