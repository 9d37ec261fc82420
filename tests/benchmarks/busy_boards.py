"""Six boards kept busy: tiles per second against six bare processes on the same cores, and LoadGen's scenarios."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path

from hil.bench.bench import Bench
from hil.core import paths
from hil.core.command import silent
from hil.images import rootfs
from hil.rollout.fleet import Fleet
from hil.rollout.rollout import Rollout
from hil.rollout.tile_servers import NodeTileServer
from hil.workload import ensure_artefacts
from hil.workload.loadgen import SCENARIOS, run_scenario
from hil.workload.pictures import pictures_of
from hil.workload.stream import TileStream
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
        yield from _scenarios(servers, pictures, boards / ROUNDS)


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


def _scenarios(servers: list[NodeTileServer], pictures: list[bytes], per_s: float) -> Iterator[Figure]:
    """Run LoadGen's scenarios over all boards."""
    for scenario, share in SCENARIOS.items():
        try:
            found = run_scenario(scenario, servers, pictures, seconds=ROUND_S, per_s=share * per_s)
        except ImportError:
            return  # no wheel for this machine
        note = f"{len(found.took_s)} tiles; LoadGen scenario, short: no result of MLPerf"
        if scenario == "Offline":
            yield Figure("LoadGen Offline", round(found.tiles_per_s, 2), "tiles/s", "", note)
        else:
            for part in (0.5, 0.9, 0.99):
                milliseconds = round(1000 * found.latency_s(part))
                yield Figure(f"LoadGen {scenario}, p{100 * part:g}", milliseconds, "ms", "", note)
