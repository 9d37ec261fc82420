"""LoadGen's scenarios over the boards: MLCommons' generator of load asks, the boards answer.

SingleStream asks for one tile at a time, Offline for all at once, Server at random moments (Poisson) at a rate.  The
runs are short, so they are no results of MLPerf.
"""

from __future__ import annotations

import tempfile
import threading
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Literal

from hil.errors import HilError
from hil.workload.stream_report import quantile
from hil.workload.tile import Tile, TileServer

Scenario = Literal["SingleStream", "Offline", "Server"]
SCENARIOS: dict[Scenario, float] = {"SingleStream": 1.0, "Offline": 1.0, "Server": 0.6}
"""What is run, in this order, each with the share of the full rate that is asked for."""

TRIES, AGAIN_S = 8, 0.25
"""How often a tile is asked for, and the time after a refusal: together longer than a board's lease."""


@dataclass
class ScenarioResult:
    """What the boards did under one scenario."""

    scenario: Scenario
    seconds: float = 0.0
    took_s: list[float] = field(default_factory=list)
    """Of each tile, from LoadGen's question to the answer; with Offline all are asked at the start."""
    errors: list[str] = field(default_factory=list)
    """Of tiles that no board computed."""

    @property
    def tiles_per_s(self) -> float:
        return len(self.took_s) / self.seconds if self.seconds > 0 else 0.0

    def latency_s(self, share: float) -> float:
        """Return the time within which a share of the tiles was answered."""
        return quantile(self.took_s, share)


def run_scenario(
    scenario: Scenario, servers: Sequence[TileServer], pictures: Sequence[bytes], *, seconds: float, per_s: float
) -> ScenarioResult:
    """Let LoadGen ask for about so long; ``per_s``: tiles per second that the boards can do (Offline) or get (Server).

    A tile goes to the board that has the least in work, from a camera on its own spacecraft; when it fails, to another
    one.  ImportError where there is no LoadGen for this machine.
    """
    import mlperf_loadgen as loadgen

    result, changed = ScenarioResult(scenario), threading.Condition()
    free, asked = list(servers), Counter[str]()
    busy: Counter[str] = Counter()

    def ask(sample: Any, failed: Counter[str]) -> None:
        with changed:
            server = min(free, key=lambda each: (failed[each.board], busy[each.board], asked[each.board]))
            free.remove(server)
            busy[server.board] += 1
            asked[server.board] += 1
        try:
            server.compute(Tile(server.spacecraft, asked[server.board], sample.index, pictures[sample.index]))
        except HilError:
            failed[server.board] += 1
            raise
        finally:
            with changed:
                busy[server.board] -= 1
                free.append(server)

    def one(sample: Any, asked_s: float) -> None:
        failed = Counter[str]()
        try:
            while True:
                try:
                    ask(sample, failed)
                    result.took_s.append(time.monotonic() - asked_s)
                    return
                except HilError as exc:
                    if failed.total() >= TRIES:
                        result.errors.append(exc.message)
                        return
                time.sleep(AGAIN_S)
        finally:
            loadgen.QuerySamplesComplete([loadgen.QuerySampleResponse(sample.id, 0, 0)])  # else it waits for ever

    settings = loadgen.TestSettings()
    settings.scenario = getattr(loadgen.TestScenario, scenario)
    settings.mode = loadgen.TestMode.PerformanceOnly
    settings.min_duration_ms, settings.max_duration_ms = int(1000 * seconds), int(2000 * seconds)
    settings.min_query_count = 1
    settings.single_stream_expected_latency_ns = int(1e9 * len({s.board for s in servers}) / per_s)
    settings.offline_expected_qps = settings.server_target_qps = per_s
    settings.server_target_latency_ns = int(60e9)
    with ThreadPoolExecutor(len(servers)) as pool, tempfile.TemporaryDirectory(prefix="hil-loadgen-") as scratch:
        output = loadgen.LogOutputSettings()
        output.outdir, output.copy_summary_to_stdout = scratch, False
        logs = loadgen.LogSettings()
        logs.log_output, logs.enable_trace = output, False

        def issue(samples: Any) -> None:
            now_s = time.monotonic()
            for sample in samples:
                pool.submit(one, sample, now_s)

        library = loadgen.ConstructQSL(len(pictures), len(pictures), lambda _: None, lambda _: None)
        system = loadgen.ConstructSUT(issue, lambda: None)
        begin_s = time.monotonic()
        try:
            loadgen.StartTestWithLogSettings(system, library, settings, logs)
        finally:
            loadgen.DestroySUT(system)
            loadgen.DestroyQSL(library)
        result.seconds = time.monotonic() - begin_s
    return result
