"""Plant faults of the bench in trials: each must be INCONCLUSIVE with the bench blamed, and the next trial must pass.

    python -m tests.benchmarks.bench_faults [--rounds 20] [--seed 1] [--lab tests/data/two_boards.yaml]

Each round is one trial with one fault of the bench at a moment drawn from the seed (link box killed and frozen,
container engine stopped, keeper killed and frozen, the disks of this host full, this host's clock jumps), and one
trial without faults. A busy host makes the second one INCONCLUSIVE; it is repeated then, and that is counted. Exit
code 1 when a round was not right.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import struct
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from hil.core import paths
from hil.errors import Blame
from hil.evidence.model import Verdict
from hil.faults.clock_kinds import CLOCK_PLACE, library
from hil.faults.fault import load_fault
from hil.lab.model import load_lab
from hil.trials.profile import load_profile
from hil.trials.run import Runner
from hil.trials.schedule import Strike
from hil.trials.trial import TrialInput, TrialResult
from tests.benchmarks.alone import SIGN, alone, is_alone

KINDS = [
    ("bench-part-killed", "link-box", 1.0),
    ("bench-part-frozen", "link-box", 7.0),
    ("bench-part-frozen", "engine", 7.0),
    ("bench-part-killed", "keeper", 1.0),
    ("bench-part-frozen", "keeper", 7.0),
    ("bench-disks-full", "disks", 6.0),
    ("bench-clock-jump", "clock", 4.0),
]
"""Fault, target, how long it lasts, seconds."""
MOMENTS = ("start", "upload", "install", "boot", "configure", "prepared")
AGAIN = 5
"""So often a trial without faults may be INCONCLUSIVE on a busy host."""


def _strike(number: int, chance: random.Random, possible: Sequence[tuple[str, str, float]]) -> Strike:
    fault, target, lasts_s = possible[number % len(possible)]
    return Strike(0, fault, target, {}, chance.choice(MOMENTS), round(chance.random(), 3), lasts_s)


def _told(result: TrialResult) -> str:
    judged = result.judged
    return f"{judged.verdict} ({judged.blame or 'nobody'} blamed): {judged.reason[:160]}"


def play(rounds: int, seed: int, lab: Path, out: Path) -> int:
    """Run the rounds; return how many were right."""
    chance, right, busy, trials = random.Random(seed), 0, 0, 0
    verdicts: Counter[str] = Counter()

    def trial(*strikes: Strike) -> TrialResult:
        nonlocal trials
        trials += 1
        given = TrialInput(trials, 1, seed + trials, strikes)
        return runner.run(given, out / given.directory)

    with Runner(load_lab(lab), load_profile("links"), tell=print) as runner:
        bench = runner.bench()
        possible = [kind for kind in KINDS if kind[1] in load_fault(kind[0]).targets(bench)]
        print(f"engine {bench.state.engine.get('kind')}; not on this host: {[k for k in KINDS if k not in possible]}")
        for number in range(rounds):
            strike = _strike(number, chance, possible)
            hit = trial(strike)
            struck = hit.history.struck[0].began_s is not None if hit.history.struck else False
            blamed = hit.judged.verdict is Verdict.INCONCLUSIVE and hit.judged.blame is Blame.BENCH
            for _ in range(AGAIN):
                following = trial()
                if following.judged.verdict is not Verdict.INCONCLUSIVE:
                    break
                busy += 1
                print(f"  (again: {_told(following)})", flush=True)
            good = struck and blamed and following.judged.verdict is Verdict.PASS
            right += good
            verdicts[hit.judged.verdict.value] += 1
            grade = "right" if good else "WRONG"
            print(
                f"{number + 1}: {grade}: {strike}: {'struck' if struck else 'NEVER STRUCK'}: {_told(hit)}", flush=True
            )
            print(f"   next trial: {_told(following)}", flush=True)
    print(
        f"{right} of {rounds} rounds right; verdicts under faults: {dict(verdicts)}; {trials} trials, {busy} repeated"
    )
    return right


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.bench_faults", description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--lab", type=Path, default=paths.ROOT / "tests/data/two_boards.yaml")
    args = parser.parse_args(argv)
    if not is_alone():
        words = ["tests.benchmarks.bench_faults", *(argv if argv is not None else sys.argv[1:])]
        return alone(words, environment={"PYTHONUNBUFFERED": "1"})
    if CLOCK_PLACE not in os.environ:  # once more, with a clock that can be moved
        clock = Path(os.environ[SIGN]) / "clock"
        clock.write_bytes(struct.pack("<q", 0))
        moved: Mapping[str, str] = {CLOCK_PLACE: str(clock), "LD_PRELOAD": str(library())}
        words = [sys.executable, "-m", "tests.benchmarks.bench_faults", *(argv if argv is not None else sys.argv[1:])]
        os.execve(sys.executable, words, {**os.environ, **moved})
    out = paths.reports_out() / "bench-faults"
    shutil.rmtree(out, ignore_errors=True)
    return 0 if play(args.rounds, args.seed, args.lab, out) == args.rounds else 1


if __name__ == "__main__":
    sys.exit(main())
