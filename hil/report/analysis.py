"""Everything the outputs say about a run, worked out once from its run directory."""

from __future__ import annotations

import datetime
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from hil.core.files import sha256_of
from hil.errors import Blame
from hil.evidence.campaign_verdict import NO_BENCH, CampaignVerdict, Finding, judge
from hil.evidence.carriers import dead_threads, differences, unordered_restarts
from hil.evidence.events import ArtefactStored, BenchUp, LinkFigure, TestEnded, WatchSummary, WatchViolation
from hil.evidence.model import Verdict, plural
from hil.evidence.readback import LinkFacts, RunRecord, TestOutcome
from hil.evidence.record import ARTEFACTS, RESULT, read_json
from hil.evidence.stats import reliability_lower_bound, runs_still_needed
from hil.evidence.store import Run
from hil.evidence.test_plan import Plan
from hil.report.calibration.page import latest_figures
from hil.report.history import RunComparison, compare
from hil.report.risks import RiskResult, place_risks
from hil.report.units import quantity

UNVERIFIABLE = "The lines of this run's evidence carry no digests: nothing shows whether it was changed since"
CONCLUSIVE = frozenset({Verdict.PASS.value, Verdict.FAIL.value})


@dataclass(frozen=True)
class Statistics:
    """What repeated runs of the same plan, lab file and boards demonstrate, this run included."""

    passes: int
    runs: int  # conclusive ones: PASS or FAIL
    inconclusive: int
    commits: int
    confidence: float
    goal: float
    lower_bound: float
    still_needed: int
    left_out: tuple[str, ...] = ()
    """Why runs are not counted, a sentence each."""

    @property
    def sentence(self) -> str:
        """E.g. ``demonstrated 4/4 ..., reliability >= 0.562 at 90 %; 18 more passes for 0.9``."""
        if not self.runs:
            text = "No conclusive run of this plan, lab file and boards yet, so nothing is demonstrated statistically."
            return " ".join([text, *self.left_out])
        text = (
            f"Demonstrated {self.passes}/{self.runs} over all stored runs of this plan, lab file and boards: "
            f"reliability >= {self.lower_bound:.3f} at {self.confidence:.0%} confidence."
        )
        if self.still_needed:
            text += f" {self.still_needed} more without a failure would show {self.goal:g}."
        else:
            text += f" The goal of {self.goal:g} is reached."
        if self.inconclusive:
            are = "is" if self.inconclusive == 1 else "are"
            text += f" {plural(self.inconclusive, 'inconclusive run')} {are} not counted."
        if self.commits > 1:
            text += f" The runs span {self.commits} commits."
        return " ".join([text, *self.left_out])


@dataclass(frozen=True)
class Analysis:
    """A run, judged from its directory alone; also one that was killed half-way."""

    run: RunRecord
    known: Mapping[str, Run] | None = None
    """The runs in the store, by id; None without a store."""

    @cached_property
    def heads(self) -> tuple[str, ...]:
        """Heads of the chain of evidence that the store and the last ``result.json`` have kept."""
        mine = self.known.get(self.run.run_id) if self.known else None
        kept = (mine and mine.evidence, read_json(self.run.directory / RESULT).get("evidence"))
        return tuple(str(each.get("head") or "") for each in kept if isinstance(each, dict))

    @cached_property
    def changes(self) -> tuple[str, ...]:
        """What was changed in the run's files after it was written."""
        return tuple(self.run.changes(*self.heads))

    @property
    def notes(self) -> list[str]:
        """What a reader must know of the evidence itself."""
        return [f"{UNVERIFIABLE}."] if self.run.unverifiable else []

    @cached_property
    def counted(self) -> tuple[Mapping[str, Any], ...]:
        """The earlier runs that count with this one: the whole campaign, on the same inputs.

        Where nothing shows that ``history.json`` is what was written, the run store must know them.
        """
        past = [h for h in self.run.history if h.get("same_inputs")]
        if self.run.end is not None and self.run.end.files:
            return () if self.changes else tuple(past)
        if self.known is None:
            return tuple(past)
        verdicts = {name: run.verdict for name, run in self.known.items()}
        return tuple(h for h in past if verdicts.get(str(h.get("run_id"))) == h.get("verdict"))

    @property
    def plan(self) -> Plan | None:
        return self.run.plan

    @property
    def verdict(self) -> Verdict:
        return self.result.verdict

    @property
    def fidelity(self) -> str:
        """The lowest class of its boards; ``NO_BENCH`` when none was up in this run."""
        if not (self.run.meta.get("engine") or self.run.last(BenchUp)):
            return NO_BENCH
        boards: Mapping[str, Mapping[str, Any]] = self.run.meta.get("boards") or {}
        classes = {self.run.meta.get("fidelity")} | {board.get("fidelity") for board in boards.values()}
        return "hardware" if classes == {"hardware"} else "virtual"

    @cached_property
    def figures(self) -> tuple[LinkFigure, ...]:
        """The last figure of each quantity of each direction of a link."""
        return tuple(latest_figures(self.run.of(LinkFigure)))

    @cached_property
    def result(self) -> CampaignVerdict:
        """The verdict of the campaign, its requirements and its criteria."""
        plan, run, findings = self.plan, self.run, tuple(_findings(self.run, self.figures, self.changes))
        if plan is not None:
            return judge(plan, run.outcomes, fidelity=self.fidelity, day=day_of(run), findings=findings)
        if run.damage:
            return CampaignVerdict(Verdict.INCONCLUSIVE, f"The run is damaged: {run.damage[-1]}.", (), (), findings, ())
        text = "The run ended before its plan was written."
        return CampaignVerdict(Verdict.NOT_RUN, text, (), (), findings, ())

    @cached_property
    def outcomes(self) -> tuple[TestOutcome, ...]:
        """The tests' outcomes for other programs; a failure on an untrusted bench is not the device's."""
        if not any(finding.overrides for finding in self.result.findings):
            return tuple(self.run.outcomes)
        return tuple(
            replace(o, verdict=Verdict.INCONCLUSIVE, blame=Blame.BENCH.value) if o.verdict is Verdict.FAIL else o
            for o in self.run.outcomes
        )

    @cached_property
    def cases(self) -> tuple[TestOutcome, ...]:
        """The outcomes, and after them each finding about the whole run as one more, for programs that only count."""
        findings = [
            TestOutcome(f"campaign::finding {n}", "The run as a whole", verdict=finding.verdict, message=finding.text)
            for n, finding in enumerate(self.result.findings, start=1)
        ]
        return (*self.outcomes, *findings)

    @cached_property
    def counts(self) -> Mapping[str, int]:
        """Number of tests by verdict."""
        counts = Counter(o.verdict.value for o in self.run.outcomes)
        return {v.value: counts[v.value] for v in Verdict}

    @cached_property
    def statistics(self) -> Statistics:
        """What all stored runs with the same inputs demonstrate."""
        return _statistics(self.run, self.counted, self.plan, self.verdict)

    @cached_property
    def risks(self) -> tuple[RiskResult, ...]:
        """Where each risk of the plan stands."""
        if self.plan is None:
            return ()
        return place_risks(self.plan, self.result.requirements, self.counted, counts=not self.run.partial)

    @cached_property
    def comparison(self) -> RunComparison | None:
        """What changed since the last run with a verdict."""
        return compare(self.run, self.result, self.engine)

    @property
    def engine(self) -> str:
        """The link engine with the kernel it runs, as one word or two; empty when no bench came up."""
        bench = self.run.last(BenchUp)
        engine = self.run.meta.get("engine") or (bench.engine if bench else "")
        if not isinstance(engine, Mapping):
            return str(engine or "")
        kernel = engine.get("kernel_release") or engine.get("kernel") or ""
        return f"{engine.get('kind') or ''} {kernel}".strip()

    @property
    def scaled(self) -> tuple[str, ...]:
        """The links whose rate stands for a higher one."""
        links: Mapping[str, LinkFacts] = self.run.meta.get("links") or {}
        return tuple(
            f"{name}: {link.rate_bps / 1e6:g} Mbit/s stands for {link.nominal_rate_bps / 1e6:g} Mbit/s"
            for name, link in links.items()
            if link.rate_scaled and link.rate_bps and link.nominal_rate_bps
        )

    @property
    def gaps(self) -> list[Mapping[str, Any]]:
        """The stated gaps of fidelity that apply to this run's boards, link engine and rates."""
        meta = self.run.meta
        applies = {"always", self.engine.split(" ")[0], "scaled" if self.scaled else ""}
        applies |= {str(b.get("stand_in") or b.get("driver")) for b in (meta.get("boards") or {}).values()}
        return [g for g in meta.get("fidelity_gaps") or () if g.get("applies_to") in applies]

    @property
    def next_steps(self) -> list[str]:
        """What to do next, most urgent first."""
        return _next_steps(self.result, self.statistics)


def violations_of(run: RunRecord) -> list[str]:
    """Return the violations of the epoch invariant, also of a watcher that was killed before its summary."""
    summarised = [violation for e in run.of(WatchSummary) for violation in e.violations]
    return summarised or [e.detail or e.what for e in run.of(WatchViolation)]


def day_of(run: RunRecord) -> datetime.date:
    """Return the day of a run, on which records are in force or not; today when it does not say."""
    try:
        return datetime.datetime.fromisoformat(str(run.meta["started_utc"])).date()
    except (KeyError, ValueError):
        return datetime.datetime.now(datetime.UTC).date()


def _findings(run: RunRecord, figures: tuple[LinkFigure, ...], changes: Sequence[str]) -> Iterator[Finding]:
    for change in changes:
        yield Finding(Verdict.INCONCLUSIVE, f"{change}.", overrides=True)
    if first := next((figure for figure in figures if not figure.ok), None):
        measured, commanded = (quantity(value, first.unit) for value in (first.measured, first.commanded))
        text = f"{first.quantity} of {first.link} {first.direction} is {measured}, commanded {commanded}"
        yield Finding(Verdict.INCONCLUSIVE, f"The bench is outside tolerance: {text}.", overrides=True)
    if violations := violations_of(run):
        many = "a violation" if len(violations) == 1 else f"{len(violations)} violations"
        yield Finding(Verdict.FAIL, f"The watcher saw {many} of the epoch invariant: {violations[0]}.")
    if restarts := unordered_restarts(run.events):
        yield Finding(Verdict.FAIL, f"{restarts[0]}.")
    if faults := [*differences(run.events), *dead_threads(run.events)]:
        yield Finding(Verdict.INCONCLUSIVE, f"The bench was not as this run commanded it: {faults[0]}.")
    for summary in run.of(WatchSummary):
        if not summary.conclusive:
            gap = f"{summary.max_gap_board} was not watched for {summary.max_gap_s or 0:.2f} s"
            why = summary.ended_early[0] if summary.ended_early else gap
            yield Finding(Verdict.INCONCLUSIVE, f"The watcher of the epoch invariant may have missed something: {why}.")
    folder = run.directory / ARTEFACTS
    for artefact in run.of(ArtefactStored) if folder.is_dir() else ():  # a run may be kept without its artefacts
        path = folder / Path(artefact.path).name
        if not (path.is_file() and path.stat().st_size == artefact.size and sha256_of(path) == artefact.sha256):
            yield Finding(Verdict.INCONCLUSIVE, f"{artefact.path} is not the file that was recorded.", overrides=True)
    for outcome in run.outcomes:
        if wrong := next((m for m in outcome.measurements if m.misjudged), None):
            text = f"The evidence contradicts itself: {outcome.title} has {wrong}, which is not so."
            yield Finding(Verdict.INCONCLUSIVE, text, overrides=True)
        bad = next((m for m in outcome.measurements if m.ok is False), None)
        if outcome.verdict is Verdict.PASS and bad is not None:
            text = f"The evidence contradicts itself: {outcome.title} is PASS, but {bad}."
            yield Finding(Verdict.INCONCLUSIVE, text, overrides=True)
    if run.state == "crashed":
        done = len({e.test for e in run.of(TestEnded) if not e.retried})
        yield Finding(Verdict.INCONCLUSIVE, f"The run was killed after {done} of {len(run.outcomes)} tests.")
    elif run.end is not None and run.end.configuration_error:
        yield Finding(Verdict.NOT_RUN, f"Configuration error: {run.end.configuration_error}")
    elif run.end is not None and run.end.interrupted:
        yield Finding(Verdict.INCONCLUSIVE, f"The run was cut short: {run.end.interrupted}.")


def _statistics(run: RunRecord, past: Sequence[Mapping[str, Any]], plan: Plan | None, verdict: Verdict) -> Statistics:
    confidence = plan.confidence if plan else 0.90
    goal = plan.reliability_goal if plan else 0.95
    verdicts = [str(h.get("verdict") or "") for h in past] + ([] if run.partial else [verdict.value])
    conclusive = [v for v in verdicts if v in CONCLUSIVE]
    commits = {h.get("commit") or None for h in past if h.get("verdict") in CONCLUSIVE}
    commits.add((run.meta.get("git") or {}).get("commit"))
    left_out = [f"{why}: not counted." for why in run.left_out]
    if run.partial:
        left_out.append(f"This run counts neither for nor against: {run.partial}.")
    passes, runs = conclusive.count(Verdict.PASS.value), len(conclusive)
    return Statistics(
        passes=passes,
        runs=runs,
        inconclusive=len(verdicts) - runs,
        commits=len(commits - {None}),
        confidence=confidence,
        goal=goal,
        lower_bound=reliability_lower_bound(passes, runs, confidence) if runs else 0.0,
        still_needed=runs_still_needed(passes, runs, goal, confidence),
        left_out=tuple(left_out),
    )


def _next_steps(result: CampaignVerdict, statistics: Statistics) -> list[str]:
    """Return what to do next, most urgent first."""
    steps = []
    for verdict, text in (
        (Verdict.FAIL, "Find out why the device under test failed: {}."),
        (Verdict.INCONCLUSIVE, "Mend the bench and repeat: nothing is known about {}."),
        (Verdict.NOT_RUN, "Run what was not run: {}."),
        (Verdict.WAIVED, "Close the waivers: {} failed and is accepted only by a record."),
    ):
        tested = (r for r in result.requirements if r.covered and not r.absent)
        if names := ", ".join(r.requirement.id for r in tested if r.verdict is verdict):
            steps.append(text.format(names))
    hardware = [r for r in result.requirements if r.verdict is Verdict.PASS and not r.closed]
    if hardware:
        many = plural(len(hardware), "requirement")
        steps.append(f"Repeat on real Orin boards: {many} demonstrated here need hardware to be closed.")
    testable = [r for r in result.requirements if r.requirement.method == "T" and not r.covered]
    for each in (r.requirement for r in testable if r.requirement.shown_by):
        steps.append(f"See the runs of plan {each.shown_by} for {each.id}: its tests show it, this campaign's do not.")
    if uncovered := ", ".join(r.requirement.id for r in testable if not r.requirement.shown_by):
        steps.append(f"Write a test for {uncovered}: no test of this campaign names it.")
    for absent in (r for r in result.requirements if r.absent):
        steps.append(f"Run {absent.requirement.id} in another lab: {absent.reason}.")
    if result.verdict is Verdict.PASS and statistics.still_needed:
        steps.append(
            f"Repeat the run {statistics.still_needed} times without a failure to show a reliability of "
            f"{statistics.goal:g} at {statistics.confidence:.0%} confidence."
        )
    return steps
