"""Runs trials of a series on one bench, one after the other, until its rule ends it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from hil.bench.bench import Bench
from hil.bench.clean import clean
from hil.bench.state import require_state
from hil.core.command import Progress, silent
from hil.core.files import sha256_of
from hil.errors import BenchError, ConfigurationError, HilError
from hil.evidence.environment import host_facts, lab_facts
from hil.evidence.model import Verdict
from hil.faults.fault import all_faults
from hil.lab.model import Lab, load_lab
from hil.trials.page import write_page
from hil.trials.planted_bugs import CANARY as CANARY_PLANT
from hil.trials.planted_bugs import CANARY_CHECKERS
from hil.trials.profile import Profile
from hil.trials.schedule import Strike, draw
from hil.trials.series import CANARY, Following, Series, Standing
from hil.trials.shrink import smallest
from hil.trials.trial import SwitchedSink, TrialBench, TrialInput, TrialResult

BRING_UPS = 3
"""A bench that is lost is brought up again; so often in a row it may be lost in its first trial."""


class Runner:
    """Where trials run: a bench that this process brings up, and again when it was lost, or one that is kept up."""

    def __init__(self, lab: Lab, profile: Profile, *, kept: str = "", tell: Progress = silent) -> None:
        """``kept`` names a bench that is up and stays up; else the lab is brought up when it is needed."""
        if kept and require_state(kept).lab_path != str(lab.file):
            raise ConfigurationError(f"bench {kept} was brought up from another lab file than {lab.file}")
        self.lab, self.profile, self._kept, self._tell = lab, profile, kept, tell
        self._sink = SwitchedSink()
        self._bench: Bench | None = None
        self._meta: dict[str, Any] = {}

    @classmethod
    def of(cls, series: Series, lab_file: Path | None = None, *, kept: str = "", tell: Progress = silent) -> Runner:
        """Return the runner of a series.  ConfigurationError when its lab file is another one than at its beginning."""
        document = dict(series.facts.profile)
        lab = load_lab(lab_file or Path(document["lab_file"]))
        if sha256_of(lab.file) != series.facts.lab_sha256:
            raise ConfigurationError(
                f"{lab.file} is not the lab file with which the series began", remedy="begin another series"
            )
        del document["lab_file"]
        return cls(lab, Profile.model_validate(document), kept=kept, tell=tell)

    def __enter__(self) -> Runner:
        return self

    def __exit__(self, *exc: object) -> None:
        self.drop()

    def bench(self) -> Bench:
        """Return the bench, brought up if need be. Raises what the bring-up raises."""
        if self._bench is None:
            if self._kept:
                self._bench = Bench.attach(self._kept, sink=self._sink)
            else:
                self._tell(f"bringing up {self.lab.name}")
                bench = Bench(self.lab, sink=self._sink)
                bench.up()
                self._bench = bench
            self._meta = {
                **host_facts(self.lab.file.parent),
                **lab_facts(self.lab, self.lab.file),
                "engine": self._bench.state.engine,
                "bench": self._bench.name,
            }
        return self._bench

    def drop(self) -> None:
        """Let go of the bench; one that this object brought up goes down."""
        bench, self._bench = self._bench, None
        if bench is not None:
            bench.close()

    def schedule(self, seed: int) -> tuple[Strike, ...]:
        """Draw the faults of a seed on this bench."""
        faults = all_faults()
        bench = self.bench()
        names = {kind.fault for kind in self.profile.kinds}
        targets = {name: faults[name].targets(bench) for name in sorted(names)}
        return draw(self.profile, seed, faults, targets, self.lab)

    def run(self, given: TrialInput, folder: Path, ended: Callable[[TrialResult], object] | None = None) -> TrialResult:
        """Run one trial; a bench that it has lost is taken down, so that the next one brings up another.

        ``ended`` is called before that. BenchError when the bench is lost and is not to go down, or does not.
        """
        bench = self.bench()
        result = TrialBench(bench, self._sink, self.profile).run(given, folder, self._meta)
        if ended is not None:
            ended(result)
        if result.lost:
            self._tell(f"the bench was lost ({result.lost}): it is brought up again")
            self._give_up()
        return result

    def _give_up(self) -> None:
        if self._kept:
            raise BenchError(
                f"bench {self._kept} was lost", remedy="bring it up again, then `hil trials resume` goes on"
            )
        try:
            self.drop()
        except HilError as exc:
            self._tell(f"it did not go down as it should: {exc.message}")
        self._bench = None
        clean()


def run_trial(series: Series, runner: Runner, following: Following) -> TrialResult:
    """Run a trial of a series, and write down what it came to before anybody is told."""
    role, number, attempt, seed = following
    planted = CANARY_PLANT if role == CANARY else series.facts.planted
    strikes = () if role == CANARY else runner.schedule(seed)
    given = TrialInput(number, attempt, seed, strikes, planted)
    series.begin(role, number, attempt)
    folder = series.folder / "trials" / given.directory
    return runner.run(given, folder, lambda result: series.add(role, _as_counted(role, result)))


def go_on(series: Series, runner: Runner, *, said: Callable[[str], object], most: int | None = None) -> Standing:
    """Run trials until the series is over, or ``most`` of them; write its page after each. Return how it stands."""
    lost_in_a_row = ran = 0
    while (following := series.next_trial()) is not None and (most is None or ran < most):
        try:
            result = run_trial(series, runner, following)
        except HilError:  # the bench is lost, but the trial may have its line
            write_page(series)
            raise
        ran += 1
        said(in_one_line(following.role, result))
        lost_in_a_row = lost_in_a_row + 1 if result.lost else 0
        write_page(series)
        if lost_in_a_row >= BRING_UPS:
            raise BenchError(f"the bench was lost {lost_in_a_row} times in a row: {result.lost}")
    write_page(series)
    return series.standing()


def _as_counted(role: str, result: TrialResult) -> dict[str, Any]:
    """Return what is kept of a trial; a canary trial that failed for another reason than its bug shows nothing."""
    document = result.document()
    found = result.judged.found
    named = all(any(result.planted_in in text for text in found.get(checker, ())) for checker in CANARY_CHECKERS)
    if role == CANARY and result.judged.verdict is Verdict.FAIL and not named:
        reason = f"it failed, but not by the bug planted in {result.planted_in}: {result.judged.reason}"
        document |= {"verdict": Verdict.INCONCLUSIVE.value, "reason": reason}
    return document


def in_one_line(role: str, result: TrialResult) -> str:
    """Return one line for people about a trial that ended."""
    given, judged = result.given, result.judged
    seconds = sum(result.phases_s.values())
    struck = sum(each.began_s is not None for each in result.history.struck)
    what = f"{struck} of {len(given.strikes)} faults struck" if given.strikes else "no faults"
    name = f"trial {given.number}" if role == "counted" else role
    again = f", attempt {given.attempt}" if given.attempt > 1 else ""
    reason = f": {judged.reason[:200]}" if judged.reason else ""
    return f"{name}{again}: {judged.verdict} ({what}, {seconds:.1f} s){reason}"


def fails_again(
    runner: Runner, seed: int, strikes: Sequence[Strike], folder: Path, *, planted: str, times: int, needed: int = 1
) -> tuple[int, int]:
    """Run a schedule up to ``times`` times; (failures, conclusive runs). It ends early at ``needed`` failures."""
    failures = conclusive = 0
    for _ in range(2 * times):
        if conclusive >= times or failures >= needed:
            break
        number = 1 + len(list(folder.glob("*-1")))
        given = TrialInput(number, 1, seed, tuple(strikes), planted)
        verdict = runner.run(given, folder / given.directory).judged.verdict
        conclusive += verdict is not Verdict.INCONCLUSIVE
        failures += verdict is Verdict.FAIL
    return failures, conclusive


def explain(
    runner: Runner,
    seed: int,
    strikes: Sequence[Strike],
    folder: Path,
    *,
    planted: str = "",
    times: int = 2,
    said: Callable[[str], object] = silent,
) -> tuple[list[Strike], int, int]:
    """Return the smallest part of a schedule that still fails, and (k, n): it failed in k of n runs.

    A failure of a trial need not repeat: each part runs up to ``times`` times, and fails when one run does.
    """

    def runs_of(part: Sequence[Strike]) -> tuple[int, int]:
        k, n = fails_again(runner, seed, part, folder, planted=planted, times=times)
        said(f"{len(part)} faults: failed in {k} of {n}: {'; '.join(map(str, part)) or 'none'}")
        return k, n

    k, n = runs_of(strikes)
    if not k:
        return list(strikes), k, n
    kept = smallest(strikes, lambda part: runs_of(part)[0] > 0)
    k, n = fails_again(runner, seed, kept, folder, planted=planted, times=times + 1, needed=times + 1)
    return kept, k, n


def replayed(given: TrialInput, attempt: int) -> TrialInput:
    """Return the same trial as another attempt."""
    return replace(given, attempt=attempt)
