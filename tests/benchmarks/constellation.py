"""The whole constellation of ``lab/kepler.yaml`` on this machine."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from pathlib import Path

from hil.bench.bench import Bench
from hil.bench.state import routes_log
from hil.core import paths
from tests.benchmarks.figures import Figure

LAB = paths.ROOT / "lab/kepler.yaml"


def constellation(_lab: Path) -> Iterator[Figure]:
    """Bring-up of 40 boards, 20 links and their routes from warm images, memory, and what a lost link costs."""
    took = []
    for attempt in range(2):
        begin = time.monotonic()
        with Bench(LAB) as bench:
            took.append(time.monotonic() - begin)
            if attempt == 0:
                memory_mb = [size / 1e6 for size in bench.memory_b().values()]
                reroutes_s = [_reroute_s(bench) for _ in range(5)]
    yield Figure("40 boards, ring and ground up", round(min(took), 1), "s", "<= 45", "best of 2")
    yield Figure("memory per board", round(statistics.median(memory_mb), 1), "MB", "", "Pss, median of 40")
    yield Figure("memory of 40 boards", round(sum(memory_mb)), "MB", "", "Pss")
    yield Figure("crosslink lost to rerouted", round(max(reroutes_s), 3), "s", "<= 1", "worst of 5")


def _reroute_s(bench: Bench) -> float:
    """From the cut of a crosslink to the moment when all routes avoid it."""
    log = routes_log(bench.name)
    known = log.read_text().count("\n")
    begin = time.monotonic()
    bench.links.cut("isl-03-04")
    while log.read_text().count("\n") == known and time.monotonic() - begin < 10:
        time.sleep(0.005)
    rerouted = time.monotonic()
    bench.links.restore("isl-03-04")
    time.sleep(0.5)
    return rerouted - begin
