"""A series: many trials under one rule, kept in a folder that survives SIGKILL at any moment.

``<reports out>/series/<id>/``

- ``series.json``: what was fixed before the first trial: seed, profile, lab, commit, rule
- ``trials.jsonl``: one line per trial that ended, in order; the truth about what counts.  Of a series that began with
  ``HIL_STORE`` these lines are in that store, and so is which attempts have begun: workers of other hosts need no
  common folder
- ``trials/<number>-<attempt>/``: the evidence of each trial, also of those that were killed
- ``index.html``: the page
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

from hil.core import paths
from hil.core.pick import pick
from hil.database.connection import shared
from hil.errors import ConfigurationError
from hil.evidence.model import Verdict
from hil.evidence.record import read_json, write_json
from hil.evidence.stats import reliability_lower_bound
from hil.trials.lines import TrialFile, TrialLines, TrialRows
from hil.trials.stopping_rules import Count, Decision, Goal, Rule, anytime_lower_bound, rule_of

SERIES = "series"
FACTS = "series.json"
ATTEMPTS = 2
"""A trial that was INCONCLUSIVE is repeated with the same seed, once, and both are shown."""
COUNTED, CANARY, CORPUS = "counted", "canary", "corpus"
SHOWN_CONFIDENCE = 0.90


@dataclass(frozen=True)
class SeriesFacts:
    """What was fixed before the first trial."""

    id: str
    started_utc: str
    seed: int
    lab: str
    lab_sha256: str
    commit: str
    rule: str
    most: int
    goal: tuple[float, float] | None
    failures: int
    profile: Mapping[str, Any]
    canary: bool = True
    planted: str = ""
    """A bug planted in every counted trial (to test the series itself)."""
    shared: bool = False
    """Whether what its trials came to is in the store that several hosts share."""

    def make_rule(self) -> Rule:
        """Return the rule."""
        if self.goal is None:
            return Count(self.most)
        return rule_of(self.rule, Goal(*self.goal), failures=self.failures)

    @classmethod
    def read(cls, document: Mapping[str, Any]) -> SeriesFacts:
        """Read what is in ``series.json``."""
        goal = document.get("goal")
        return cls(**{**document, "goal": tuple(goal) if goal else None})


@dataclass(frozen=True)
class Standing:
    """How a series stands."""

    passes: int
    trials: int
    """That count: PASS or FAIL."""
    inconclusive: int
    decision: Decision
    canary: str
    """Verdict of the canary: FAIL is what it must be; empty while it has not run."""
    verdict: Verdict | None
    """None while it goes on."""
    reason: str

    @property
    def failures(self) -> int:
        return self.trials - self.passes

    def bound(self, confidence: float = SHOWN_CONFIDENCE) -> float:
        """Return the one-sided Clopper-Pearson lower bound; it holds only for a number of trials fixed beforehand."""
        return reliability_lower_bound(self.passes, self.trials, confidence) if self.trials else 0.0

    def bound_at_any_time(self, confidence: float = SHOWN_CONFIDENCE) -> float:
        """Return the lower bound that holds however often one looks."""
        return anytime_lower_bound(self.passes, self.trials, confidence) if self.trials else 0.0


class Following(NamedTuple):
    """A trial that is to run."""

    role: str
    number: int
    attempt: int
    seed: int


class Series:
    """One series in its folder."""

    def __init__(self, folder: Path) -> None:
        """Open it. ConfigurationError when there is none."""
        self.folder = folder
        document = read_json(folder / FACTS) if (folder / FACTS).is_file() else None
        if not document:
            raise ConfigurationError(f"{folder} is no series", remedy="`hil trials list` shows those that there are")
        self.facts = SeriesFacts.read(document)
        self.rule = self.facts.make_rule()
        self._trials: TrialLines = TrialRows(self.facts.id) if self.facts.shared else TrialFile(folder)

    @classmethod
    def create(cls, folder: Path, facts: SeriesFacts) -> Series:
        """Begin one. ConfigurationError when the folder exists."""
        try:
            (folder / "trials").mkdir(parents=True)
        except FileExistsError as exc:
            raise ConfigurationError(f"series {folder.name} exists already", remedy="choose another id") from exc
        facts.make_rule()
        document = {**vars(facts), "shared": shared() is not None}
        if document["shared"]:
            TrialRows(facts.id).create(document)
        write_json(folder / FACTS, document)
        return cls(folder)

    @classmethod
    def join(cls, folder: Path) -> Series:
        """Open a series that another host leads: in its folder, or in one of this host when they share the store.

        ConfigurationError when neither is there.
        """
        if (folder / FACTS).is_file() or shared() is None:
            return cls(folder)
        own = series_folder() / folder.name
        document = TrialRows(folder.name).facts()
        (own / "trials").mkdir(parents=True, exist_ok=True)
        write_json(own / FACTS, document)
        return cls(own)

    def lines(self) -> list[dict[str, Any]]:
        """Return the trials that ended, in order."""
        # One line per (number, attempt): the first one counts, whatever a late writer adds.
        found = self._trials.lines()
        return list({(d["number"], d["attempt"]): d for d in reversed(found)}.values())[::-1]

    def begin(self, role: str, number: int, attempt: int) -> None:
        """Write down that an attempt begins, so that it is not begun again."""
        self._trials.begin(role, number, attempt)

    def add(self, role: str, document: Mapping[str, Any]) -> None:
        """Append a trial that ended, durably; several processes may do so at once."""
        self._trials.add(role, document)

    def begun(self, number: int) -> list[int]:
        """Return the attempts of a trial that have begun."""
        return self._trials.begun(number)

    def line(self, role: str, number: int, attempt: int) -> dict[str, Any] | None:
        """Return what counts of an attempt; None while it has not ended."""
        wanted = (role, number, attempt)
        return next((each for each in self.lines() if (each["role"], each["number"], each["attempt"]) == wanted), None)

    def seed_of(self, number: int) -> int:
        """Return the seed of a trial by its number."""
        return Random(f"{self.facts.seed} trial {number}").randrange(2**32)

    def standing(self) -> Standing:
        """Return how it stands now.

        Trials count in the order of their numbers, whichever bench ended first, and the rule looks after each: a trial
        that is still out holds those behind it back, and what ended after the decision counts no more.
        """
        lines = self.lines()
        ended: dict[int, list[str]] = {}
        for line in lines:
            if line["role"] == COUNTED:
                ended.setdefault(line["number"], []).append(line["verdict"])
        passes = trials = inconclusive = 0
        decision = Decision.GO_ON
        for number in count(1):
            verdicts = ended.get(number, [])
            final = next((v for v in verdicts if v != Verdict.INCONCLUSIVE.value), "")
            inconclusive += len(verdicts) - bool(final)
            if final:
                passes += final == Verdict.PASS.value
                trials += 1
                decision = self.rule.decide(passes, trials)
            if decision is not Decision.GO_ON or not (final or len(verdicts) >= ATTEMPTS):
                break
        canaries = [line["verdict"] for line in lines if line["role"] == CANARY]
        canary = next((v for v in canaries if v != Verdict.INCONCLUSIVE.value), canaries[-1] if canaries else "")
        verdict, reason = self._verdict(passes, trials, decision, canary, len(canaries), inconclusive)
        return Standing(passes, trials, inconclusive, decision, canary, verdict, reason)

    def _verdict(
        self, passes: int, trials: int, decision: Decision, canary: str, canaries: int, inconclusive: int
    ) -> tuple[Verdict | None, str]:
        if self.facts.canary and canary != Verdict.FAIL.value and (canary == "PASS" or canaries >= ATTEMPTS):
            return Verdict.INCONCLUSIVE, f"the canary, a trial with a planted bug, ended {canary}: nothing is proven"
        if self.facts.canary and canary != Verdict.FAIL.value and decision is not Decision.GO_ON:
            return None, "waits for its canary"
        if inconclusive > max(10, 2 * self.rule.most):
            return Verdict.INCONCLUSIVE, f"{inconclusive} trials were INCONCLUSIVE: mend the bench first"
        if decision is Decision.GO_ON:
            return None, "goes on"
        failures = trials - passes
        if self.facts.goal is None:
            verdict = Verdict.FAIL if failures else Verdict.PASS
            return verdict, f"{passes} of {trials} trials passed"
        goal = Goal(*self.facts.goal)
        if decision is Decision.SHOWN:
            return Verdict.PASS, f"{goal} is shown: {passes} of {trials} trials passed"
        return Verdict.FAIL, f"{goal} is not shown: {failures} of {trials} trials failed"

    def next_trial(self, out: Collection[tuple[str, int]] = ()) -> Following | None:
        """Return what runs next; None when it is over.  ``out``: (role, number) of trials that run elsewhere now.

        The canary first, then the seeds that failed before (corpus), then counted trials.  An attempt whose folder
        is there without a line was killed: it is fenced off by the next attempt's number.
        """
        standing = self.standing()
        if standing.verdict is not None:
            return None
        lines = self.lines()
        done = {(line["role"], line["number"]): line for line in lines}
        counted = sum(
            role == COUNTED and line["verdict"] != Verdict.INCONCLUSIVE.value for (role, _), line in done.items()
        )
        enough = standing.decision is not Decision.GO_ON
        enough |= counted + sum(role == COUNTED for role, _ in out) >= self.rule.most
        for role, number, seed in self._order():
            line = done.get((role, number))
            attempts = [line["attempt"] for line in lines if (line["role"], line["number"]) == (role, number)]
            if line is not None and (line["verdict"] != Verdict.INCONCLUSIVE.value or len(attempts) >= ATTEMPTS):
                continue
            if (role, number) in out:
                continue
            if role == COUNTED and enough:
                return None  # those that run elsewhere may be the last that are needed
            return Following(role, number, max([*self.begun(number), *attempts], default=0) + 1, seed)
        return None

    def _order(self) -> Iterator[tuple[str, int, int]]:
        if self.facts.canary:
            yield CANARY, 0, self.seed_of(0)
        corpus = read_json(self.folder / "corpus.json") if (self.folder / "corpus.json").is_file() else {}
        for place, seed in enumerate(corpus.get("seeds", ())):
            yield CORPUS, 9000 + place, int(seed)
        number = 0
        while True:
            number += 1
            yield COUNTED, number, self.seed_of(number)


def series_folder(out: Path | None = None) -> Path:
    """Return where series are kept."""
    return (out or paths.reports_out()).absolute() / SERIES


def all_series(out: Path | None = None) -> list[Series]:
    """Return all series, newest first; folders that are none are left out."""
    found = []
    for facts in sorted(series_folder(out).glob(f"*/{FACTS}"), reverse=True):
        try:
            found.append(Series(facts.parent))
        except (ConfigurationError, TypeError, ValueError):
            continue
    return sorted(found, key=lambda each: each.facts.started_utc, reverse=True)


def get_series(name: str, out: Path | None = None) -> Series:
    """Return a series by id, an unambiguous part of it, or ``last``. ConfigurationError otherwise."""
    return pick(
        name,
        all_series(out),
        lambda series: series.facts.id,
        what="series",
        listed_by="hil trials list",
        made_by="hil trials run --lab virtual --trials 5",
    )


def corpus_of(profile: str, lab_sha256: str, out: Path | None = None, *, most: int = 5) -> list[int]:
    """Return seeds that failed in earlier series of this profile on this lab, the latest first, each once."""
    seeds: dict[int, None] = {}
    for series in all_series(out):
        if series.facts.profile.get("name") != profile or series.facts.lab_sha256 != lab_sha256 or series.facts.planted:
            continue
        for line in series.lines():
            if line["role"] != CANARY and line["verdict"] == Verdict.FAIL.value:
                seeds[int(line["seed"])] = None
    return list(seeds)[:most]
