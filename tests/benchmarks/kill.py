"""Kill the campaign again and again, and see that nothing is left and that the next one passes.

    python -m tests.benchmarks.kill [--times 10] [--lab lab/virtual.yaml] [--seed 1]

Each round starts ``pytest testplans/six_gpu``, sends SIGKILL to its whole process group and to the keeper at a random
moment, runs ``hil clean``, and lists what is still there. At the end one campaign runs to its end. Exit code 1 when
anything was left or the last campaign did not pass.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

from hil.bench.clean import clean
from hil.bench.state import known_benches, read_state
from hil.core import paths
from hil.core.processes import identify
from hil.core.wait import wait_until
from tests.kits.host_state import leftovers, network_of_this_host

LONGEST_S = 60.0


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.kill", description=__doc__.split("\n")[0])
    parser.add_argument("--times", type=int, default=10)
    parser.add_argument("--lab", type=Path, default=paths.ROOT / "lab/virtual.yaml")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    chance = random.Random(args.seed)
    before = network_of_this_host()
    pytest = [sys.executable, "-m", "pytest", "-q", "testplans/six_gpu", "--lab", str(args.lab)]
    failed = 0
    for number in range(1, args.times + 1):
        moment_s = chance.uniform(0.5, LONGEST_S)
        run = subprocess.Popen(
            pytest, cwd=paths.ROOT, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        time.sleep(moment_s)
        _kill(run)
        removed = clean()
        left = leftovers()
        same = network_of_this_host() == before
        failed += bool(left or removed.failed or not same)
        print(
            f"{number}: killed after {moment_s:.1f} s; hil clean removed {len(removed.removed)} things; "
            f"left: {left or 'nothing'}; host network {'unchanged' if same else 'CHANGED'}",
            flush=True,
        )
    last = subprocess.run(pytest, cwd=paths.ROOT)
    print(f"{failed} of {args.times} rounds left something; the next campaign ended with {last.returncode}")
    return 1 if failed or last.returncode else 0


def _kill(run: subprocess.Popen[bytes]) -> None:
    """SIGKILL to the run's whole process group and to every keeper; returns when they are gone."""
    states = [state for name in known_benches() if (state := read_state(name))]
    keepers = [keeper for state in states if (keeper := identify(state.keeper_pid))]
    os.killpg(run.pid, signal.SIGKILL)
    for keeper in keepers:
        os.kill(keeper.pid, signal.SIGKILL)
    run.wait()
    wait_until(lambda: not any(k.alive() for k in keepers), what="killed keepers to be gone", deadline_s=10)


if __name__ == "__main__":
    sys.exit(main())
