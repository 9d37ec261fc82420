"""Six boards kept busy: tiles per second against six bare processes on the same cores, and LoadGen's scenarios."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

from hil.bench.bench import Bench
from hil.core import paths
from hil.core.command import silent
from hil.images import rootfs
from hil.rollout.fleet import Fleet
from hil.rollout.rollout import Rollout
from hil.rollout.tile_servers import NodeTileServer
from hil.workload import ensure_artefacts
from hil.workload.pictures import pictures_of
from hil.workload.stream import Tile, TileStream
from tests.benchmarks.figures import Figure

IN_WORK = 2
ROUND_S, ROUNDS = 15.0, 3
"""Bare processes and boards take turns, so that what else this host does meets both."""
BARE = Path(__file__).with_name("bare_inference.py")


def busy_boards(lab: Path) -> Iterator[Figure]:
    """Six boards against six bare processes, in turns; then LoadGen's SingleStream, Offline and Server."""
    built = ensure_artefacts()
    pictures, _ = pictures_of(built)
    with Bench(lab) as bench, ExitStack() as stack:
        fleet = Fleet.of(bench.boards, bench.lab.gateway, operator=bench.operator)
        rollout = Rollout(fleet, bench.images.bundles.os_v2)
        rollout.distribute(built.model)
        version = bench.gateway.identity().os_version
        epoch = rollout.configure(fleet.config(os_version=version, model=built.model.sha256))
        servers = [
            stack.enter_context(closing(NodeTileServer(fleet, name, epoch, bench.plumbing.namespace)))
            for name in fleet.names
            for _ in range(IN_WORK)
        ]
        with ThreadPoolExecutor(len(servers)) as pool:
            list(pool.map(lambda server: server.warm_up(pictures[0]), servers))
        alone = boards = 0.0
        for _ in range(ROUNDS):
            alone += _bare_per_s(str(built.model.path), str(built.scene.path), len(fleet))
            boards += TileStream(servers, pictures).run(ROUND_S).tiles_per_s
        yield Figure("six bare processes", round(alone / ROUNDS, 2), "tiles/s", "", f"mean of {ROUNDS} x {ROUND_S:g} s")
        yield Figure("six boards", round(boards / ROUNDS, 2), "tiles/s", "", "in turns with them")
        yield Figure("six boards / six bare processes", round(boards / alone, 3), "", ">= 0.9", "same run, same cores")
        yield from _scenarios(servers, pictures)


def _bare_per_s(model: str, scene: str, processes: int) -> float:
    """Return the tiles per second of so many bare processes at once, with the boards' Python and packages."""
    tree = rootfs.ensure_base(paths.cache(), silent) / "tree"
    argv, environment = rootfs.python_argv(
        tree,
        ["-B", "-P", str(BARE), model, scene, str(ROUND_S)],
        PYTHONPATH=f"{tree / 'usr/lib/python3/dist-packages'}:{paths.ROOT}",
    )
    running = [
        subprocess.Popen(argv, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(processes)
    ]
    for each in running:
        assert each.stdout is not None and each.stdout.readline() == "ready\n"
    begin = time.monotonic()
    for each in running:
        assert each.stdin is not None
        each.stdin.write("go\n")
        each.stdin.flush()
    tiles = sum(int(each.communicate()[0]) for each in running)
    return tiles / (time.monotonic() - begin)


def _scenarios(servers: list[NodeTileServer], pictures: list[bytes]) -> Iterator[Figure]:
    """Run LoadGen's scenarios over all boards: short ones, so no results of MLPerf."""
    try:
        import mlperf_loadgen as loadgen
    except ImportError:
        return  # no wheel for this machine
    free = list(servers)
    pool = ThreadPoolExecutor(len(servers))
    took: list[float] = []

    def one(sample: Any) -> None:
        begin = time.monotonic()
        server = free.pop()
        try:
            server.compute(Tile(server.spacecraft, sample.id, sample.index, pictures[sample.index]))
        finally:
            free.append(server)
        took.append(time.monotonic() - begin)
        loadgen.QuerySamplesComplete([loadgen.QuerySampleResponse(sample.id, 0, 0)])

    def issue(samples: Any) -> None:
        for sample in samples:
            pool.submit(one, sample)

    library = loadgen.ConstructQSL(len(pictures), len(pictures), lambda _: None, lambda _: None)
    system = loadgen.ConstructSUT(issue, lambda: None)
    rate = 0.0
    try:
        for scenario in ("SingleStream", "Offline", "Server"):
            settings = loadgen.TestSettings()
            settings.scenario = getattr(loadgen.TestScenario, scenario)
            settings.mode = loadgen.TestMode.PerformanceOnly
            settings.min_duration_ms, settings.max_duration_ms = 15_000, 30_000
            settings.min_query_count, settings.max_query_count = 1, 300
            settings.single_stream_expected_latency_ns = 200_000_000
            settings.offline_expected_qps = 5.0
            settings.server_target_qps = max(0.5, 0.6 * rate)
            settings.server_target_latency_ns = 3_000_000_000
            took.clear()
            begin = time.monotonic()
            _run_quietly(loadgen, system, library, settings)
            seconds, ordered = time.monotonic() - begin, sorted(took)
            note = f"{len(ordered)} tiles; LoadGen scenario, short: no result of MLPerf"
            if scenario == "Offline":
                rate = len(ordered) / seconds
                yield Figure("LoadGen Offline", round(rate, 2), "tiles/s", "", note)
            else:
                for share in (0.5, 0.9, 0.99):
                    value = ordered[min(len(ordered) - 1, int(share * len(ordered)))]
                    yield Figure(f"LoadGen {scenario}, p{100 * share:g}", round(1000 * value), "ms", "", note)
    finally:
        pool.shutdown()
        loadgen.DestroySUT(system)
        loadgen.DestroyQSL(library)


def _run_quietly(loadgen: Any, system: Any, library: Any, settings: Any) -> None:
    """Start a test whose own logs go to a folder that is deleted."""
    import tempfile

    with tempfile.TemporaryDirectory(prefix="hil-loadgen-") as scratch:
        output = loadgen.LogOutputSettings()
        output.outdir, output.copy_summary_to_stdout = scratch, False
        logs = loadgen.LogSettings()
        logs.log_output, logs.enable_trace = output, False
        loadgen.StartTestWithLogSettings(system, library, settings, logs)
