"""Bring a bench up, roll an OS out, take it down, again and again: nothing may grow.

    python -m tests.benchmarks.soak [--cycles 200] [--lab tests/data/two_boards.yaml] [--csv FILE]

One process does all of it, with namespaces, a home and a container engine of its own, so that what it counts after
each cycle is its own: descriptors and resident memory of itself and of the engine, threads, processes, network
namespaces, mounts, loop devices, containers, files of its run-time folder. Exit code 1 when a count at the end is above
that after the first cycles, or memory has grown by more than ``GROWTH_KB`` a cycle.
"""

from __future__ import annotations

import argparse
import csv
import gc
import os
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import linear_regression, median

from hil.bench.bench import Bench
from hil.core import netns, paths
from hil.core.mounts import mounts_under
from hil.core.processes import processes
from hil.errors import HilError
from hil.host.engine import dockerd, engine
from hil.host.engine.dockerd import EngineFiles
from hil.rollout.fleet import Fleet
from hil.rollout.rollout import Rollout
from hil.trials.trial import POLICY
from tests.benchmarks.alone import alone, is_alone

WARM = 5
"""Cycles before memory and caches have their size."""
GROWTH_KB = 20.0
MEMORY = ("own memory, kB", "engine memory, kB")
PAUSE_S = 2.0
"""So long after a bench is down the engine may still be at work."""


def counts() -> dict[str, int]:
    """Return what there is now, by name; garbage that Python has only not collected yet is not there."""
    gc.collect()
    files = EngineFiles.default()
    daemon = dockerd.started(files)
    status, listed = dockerd.call(files.socket, "GET", "/containers/json?all=1", 10.0)
    found = {
        "own descriptors": _descriptors(os.getpid()),
        "own threads": threading.active_count(),
        MEMORY[0]: _resident_kb(os.getpid()),
        "engine descriptors": _descriptors(daemon.pid) if daemon else 0,
        MEMORY[1]: _resident_kb(daemon.pid) if daemon else 0,
        "processes": sum(1 for _ in processes()),
        "network namespaces": len(list(netns.names(""))),
        "mounts": len(list(mounts_under(paths.home(), paths.run_dir()))),
        "loop devices": _loop_devices(),
        "containers": len(listed) if status == 200 and isinstance(listed, list) else -1,
        "run-time files": sum(1 for path in paths.run_dir().rglob("*") if files.exec_root not in path.parents),
    }
    return found


def _descriptors(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def _resident_kb(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS:"))


def _loop_devices() -> int:
    """Return the loop devices with a file below our home."""
    backed = Path("/sys/block").glob("loop*/loop/backing_file")
    return sum(f"{paths.home()}/" in file.read_text() for file in backed)


def cycle(lab: Path) -> float:
    """Bring the lab up, roll out and configure, and take it down; the seconds of that."""
    begun_s = time.monotonic()
    with Bench(lab) as bench:
        fleet = Fleet.of(bench.boards, bench.lab.gateway, cluster=bench.lab.name)
        bundle = bench.images.bundles.os_v2
        config = fleet.config(os_version=bundle.version, image_sha256=bundle.image_sha256)
        Rollout(fleet, bundle, policy=POLICY).run(config)
    return time.monotonic() - begun_s


def judge(rows: Sequence[Mapping[str, float]]) -> list[str]:
    """Return what has grown, in words; each count after the warm-up against its median at the end."""
    grown = []
    for name in [key for key in rows[0] if key not in ("cycle", "seconds")]:
        values = [row[name] for row in rows[WARM:]]
        edge = max(1, len(values) // 5)
        first, last = median(values[:edge]), median(values[-edge:])
        slope = linear_regression(range(len(values)), values).slope if len(values) > 1 else 0.0
        kb = name in MEMORY
        bad = slope > GROWTH_KB if kb else last > first
        per = f", {slope:+.1f} kB a cycle" if kb else ""
        print(f"{name:>22}: {first:,.0f} -> {last:,.0f} (worst {max(values):,.0f}{per}){'  GROWN' if bad else ''}")
        if bad:
            grown.append(name)
    return grown


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.soak", description=__doc__.split("\n")[0])
    parser.add_argument("--cycles", type=int, default=200)
    parser.add_argument("--lab", type=Path, default=paths.ROOT / "tests/data/two_boards.yaml")
    parser.add_argument("--csv", type=Path, default=paths.reports_out() / "soak.csv")
    parser.add_argument(
        "--until-s", type=float, default=0.0, help="begin no cycle after so many seconds; 0: all of them"
    )
    args = parser.parse_args(argv)
    if not is_alone():
        return alone(["tests.benchmarks.soak", *(argv if argv is not None else sys.argv[1:])])
    args.csv.parent.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, float]] = []
    failed, begun_s = 0, time.monotonic()
    with engine.engine(), args.csv.open("w", newline="") as file:  # our engine stays up between the cycles
        for number in range(1, args.cycles + 1):
            if args.until_s and time.monotonic() - begun_s > args.until_s:
                break
            try:
                seconds = cycle(args.lab)
            except HilError as exc:  # what it leaves counts all the same
                failed, seconds = failed + 1, 0.0
                print(f"cycle {number}: {exc.message}", flush=True)
            time.sleep(PAUSE_S)
            row: dict[str, float] = {"cycle": number, "seconds": round(seconds, 1), **counts()}
            rows.append(row)
            if number == 1:
                writer = csv.DictWriter(file, list(row))
                writer.writeheader()
            writer.writerow(row)
            file.flush()
            print(" ".join(f"{value:g}" for value in row.values()), flush=True)
    grown = judge(rows) if len(rows) > WARM + 1 else ["too few cycles"]
    print(f"{len(rows)} cycles, {failed} of them failed; grown: {', '.join(grown) or 'nothing'}")
    return 1 if grown else 0


if __name__ == "__main__":
    sys.exit(main())
