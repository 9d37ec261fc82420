"""Plant each bug of the OS in trials until it is found; reduce the schedule, and run the same seed without the bug.

    python -m tests.benchmarks.os_bugs [--bugs forgets-epoch,boots-old] [--lab lab/virtual.yaml] [--trials 60]

A bug counts as found when a trial FAILs with the device blamed within ``--trials`` trials of the default profile, the
schedule can be reduced to three faults or fewer with which it still fails, and the OS without the bug passes the same
seed. Exit code 1 when one is not.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from random import Random

from hil.core import paths
from hil.errors import Blame
from hil.evidence.model import Verdict
from hil.images.planted import BUGS
from hil.lab.model import load_lab
from hil.trials.profile import load_profile
from hil.trials.run import Runner, explain
from hil.trials.trial import TrialInput, TrialResult

AGAIN = 4
"""So often a trial may be INCONCLUSIVE on a busy host before its seed is passed over."""
MOST_FAULTS = 3


class Search:
    """Trials of one bug on one bench."""

    def __init__(self, runner: Runner, bug: str, folder: Path) -> None:
        self._runner, self._bug, self._folder = runner, bug, folder
        self.run_trials = 0

    def trial(self, seed: int, planted: str) -> TrialResult:
        """Run the trial of a seed, again where it is INCONCLUSIVE."""
        for _ in range(AGAIN):
            self.run_trials += 1
            given = TrialInput(self.run_trials, 1, seed, self._runner.schedule(seed), planted)
            result = self._runner.run(given, self._folder / given.directory)
            if result.judged.verdict is not Verdict.INCONCLUSIVE:
                break
            print(f"  seed {seed}: INCONCLUSIVE: {result.judged.reason[:200]}", flush=True)
        return result

    def found(self, seeds: Sequence[tuple[int, int]]) -> tuple[int, TrialResult] | None:
        """Return how many trials it took, and the one that failed."""
        for number, seed in seeds:
            result = self.trial(seed, self._bug)
            print(f"  {number}: seed {seed}: {result.judged.verdict}: {result.judged.reason[:200]}", flush=True)
            if result.judged.verdict is Verdict.FAIL:
                return number, result
        return None


def play(runner: Runner, bug: str, seeds: Sequence[tuple[int, int]], folder: Path) -> bool:
    """Find one bug, reduce it, and run its seed without it; whether all of that came out as it should."""
    print(f"{bug}: {BUGS[bug].description}", flush=True)
    search = Search(runner, bug, folder / bug)
    if (found := search.found(seeds)) is None:
        print(f"{bug}: NOT FOUND in {len(seeds)} trials", flush=True)
        return False
    number, failed = found
    seed, strikes = failed.given.seed, failed.given.strikes
    kept, k, n = explain(runner, seed, strikes, folder / f"{bug}-smaller", planted=bug, times=3, said=print)
    without = search.trial(seed, "")
    right = failed.judged.blame is Blame.DEVICE and k > 0 and len(kept) <= MOST_FAULTS
    right &= without.judged.verdict is Verdict.PASS
    print(
        f"{bug}: {'right' if right else 'WRONG'}: found by {', '.join(failed.judged.found)} in trial {number} "
        f"(seed {seed}), {failed.judged.blame} blamed; {len(strikes)} faults reduced to {len(kept)} "
        f"({'; '.join(map(str, kept)) or 'none'}), failed {k} of {n}; without the bug: {without.judged.verdict}",
        flush=True,
    )
    return right


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.os_bugs", description=__doc__.split("\n")[0])
    parser.add_argument("--bugs", default=",".join(BUGS))
    parser.add_argument("--lab", type=Path, default=paths.ROOT / "lab/virtual.yaml")
    parser.add_argument("--trials", type=int, default=60)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--first", type=int, default=1, help="begin with this trial: it is found in it or before")
    args = parser.parse_args(argv)
    folder = paths.reports_out() / "os-bugs"
    shutil.rmtree(folder, ignore_errors=True)
    chance = Random(args.seed)
    seeds = list(enumerate([chance.randrange(2**31) for _ in range(args.trials)], start=1))[args.first - 1 :]
    with Runner(load_lab(args.lab), load_profile("default"), tell=print) as runner:
        wrong = [bug for bug in args.bugs.split(",") if not play(runner, bug, seeds, folder)]
    print(f"not found as they should be: {', '.join(wrong) or 'none'}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
