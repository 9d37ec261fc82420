"""The twin of heat and power: a day of the constellation predicted, and what it costs in the loop with forty boards."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from hil.bench.state import bench_dir
from hil.bench.twin import TwinRunner
from hil.bench.twin_journal import Journal
from hil.core import paths
from hil.evidence.twin import BoardHeat
from hil.lab.model import load_lab
from hil.lab.twin import TwinSpec
from hil.onboard.twin.jetson_files import SensorFiles, Shown, lay_out
from hil.onboard.twin.modules import MODULES, Module
from hil.onboard.twin.spacecraft import Demand
from hil.twin.prediction import predict
from tests.benchmarks.figures import Figure

LAB = paths.ROOT / "lab/kepler.yaml"
DAY_S = 86_400.0
TICKS = 120


class _Busy:
    """A board that is busy, whose sensors are files, and whose counter of processor time is one, too."""

    def __init__(self, folder: Path, module: Module) -> None:
        self.measured: BoardHeat | None = None
        lay_out(folder, module)
        self._files = SensorFiles(folder, module)
        self._counter = folder / "cpuacct.usage"
        self._counter.write_text("123456789012\n")
        self._looks = 0

    def look(self, seconds: float) -> Demand:
        self._looks += 1
        int(self._counter.read_text())
        return Demand(True, (self._looks % 10) / 10, self._files.cap())

    def act(self, shown: Shown) -> None:
        self._files.show(shown)

    def close(self) -> None:
        self._files.close()


def twin(_lab: Path) -> Iterator[Figure]:
    """A day of forty boards at one second, predicted; processor time of the twin of a bench with forty boards."""
    lab = load_lab(LAB)
    begin = time.monotonic()
    predict(lab, span_s=DAY_S, step_s=1.0, every_s=10.0)
    took_s = time.monotonic() - begin
    yield Figure("twin: a day of 40 boards at 1 s", round(took_s, 1), "s", "<= 10", "issue limit; one run")
    for factor in (1.0, 30.0):
        share = _loop_cost(factor)
        yield Figure(f"twin of 40 boards in the loop, x{factor:g}", round(100 * share, 2), "% of a core", "<= 2", "CPU")


def _loop_cost(factor: float) -> float:
    """Return the share of a core that the twin uses: CPU seconds of this process per second of the bench."""
    lab = load_lab(LAB)
    lab = lab.model_copy(update={"twin": (lab.twin or TwinSpec()).model_copy(update={"time_factor": factor})})
    before = os.environ.get("HIL_RUN")
    with tempfile.TemporaryDirectory(prefix="hil-twin-") as scratch:
        os.environ["HIL_RUN"] = scratch
        try:
            bench_dir("cost").mkdir(parents=True)
            boards = {b.name: _Busy(Path(scratch) / b.name, MODULES[b.module]) for b in lab.boards}
            runner = TwinRunner(lab, Journal("cost"), boards, {}, print)
            runner.tick(1.0)  # the first one computes what all others use
            begin_s = time.process_time()
            for _ in range(TICKS):
                runner.tick(1.0)
            used_s = time.process_time() - begin_s
            runner.close()
        finally:
            if before is None:
                del os.environ["HIL_RUN"]
            else:
                os.environ["HIL_RUN"] = before
    return used_s / TICKS
