"""Everything the outputs say about a run, worked out once from its run directory."""

from __future__ import annotations

import datetime
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hil.evidence.events import BenchUp, LinkFigure, TestEnded, WatchSummary, WatchViolation
from hil.evidence.model import Verdict
from hil.evidence.readback import RunRecord
from hil.evidence.stats import reliability_lower_bound, runs_still_needed
from hil.evidence.test_plan import Plan
from hil.evidence.verdicts import CampaignVerdict, Finding, judge
from hil.report.calibration.page import latest_figures
from hil.report.history import RunComparison, compare
from hil.report.risks import RiskResult, place_risks
from hil.report.units import quantity

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

    @property
    def sentence(self) -> str:
        """E.g. ``demonstrated 4/4 ..., reliability >= 0.562 at 90 %; 18 more passes for 0.9``."""
        if not self.runs:
            return "No conclusive run of this plan, lab file and boards yet, so nothing is demonstrated statistically."
        text = (
            f"Demonstrated {self.passes}/{self.runs} over all stored runs of this plan, lab file and boards: "
            f"reliability >= {self.lower_bound:.3f} at {self.confidence:.0%} confidence."
        )
        if self.still_needed:
            text += f" {self.still_needed} more without a failure would show {self.goal:g}."
        else:
            text += f" The goal of {self.goal:g} is reached."
        if self.inconclusive:
            many = (
                "1 inconclusive run is"
                if self.inconclusive == 1
                else f"{self.inconclusive} inconclusive runs are"
            )
            text += f" {many} not counted."
        if self.commits > 1:
            text += f" The runs span {self.commits} commits."
        return text


@dataclass(frozen=True)
class Analysis:
    """A run, judged."""

    run: RunRecord
    plan: Plan | None
    result: CampaignVerdict
    counts: Mapping[str, int]
    statistics: Statistics
    risks: tuple[RiskResult, ...]
    figures: tuple[LinkFigure, ...]
    comparison: RunComparison | None
    engine: str
    fidelity: str
    scaled: tuple[str, ...]
    gaps: tuple[Mapping[str, Any], ...]
    next_steps: tuple[str, ...]

    @property
    def verdict(self) -> Verdict:
        return self.result.verdict


def analyse(run: RunRecord) -> Analysis:
    """Judge a run from its directory; works on a run that was killed half-way."""
    plan, meta = run.plan, run.meta
    fidelity = meta.get("fidelity") or "virtual"
    figures = tuple(latest_figures(run.of(LinkFigure)))
    findings = _findings(run, figures)
    if plan is not None:
        result = judge(plan, run.outcomes, fidelity=fidelity, day=_day(run), findings=findings)
    else:
        text = "The run ended before its plan was written."
        result = CampaignVerdict(Verdict.NOT_RUN, text, (), (), tuple(findings), ())
    counts = Counter(o.verdict.value for o in run.outcomes)
    statistics = _statistics(run, plan, result.verdict)
    engine = _engine(run)
    return Analysis(
        run=run,
        plan=plan,
        result=result,
        counts={v.value: counts[v.value] for v in Verdict},
        statistics=statistics,
        risks=place_risks(plan, result.requirements, run.history) if plan else (),
        figures=figures,
        comparison=compare(run, result),
        engine=engine,
        fidelity=fidelity,
        scaled=tuple(_scaled(meta)),
        gaps=tuple(_gaps(meta, engine)),
        next_steps=tuple(_next_steps(result, statistics)),
    )


def violations_of(run: RunRecord) -> list[str]:
    """Return the violations of the epoch invariant, also of a watcher that was killed before its summary."""
    summarised = [violation for e in run.of(WatchSummary) for violation in e.violations]
    return summarised or [e.detail or e.what for e in run.of(WatchViolation)]


def _day(run: RunRecord) -> datetime.date:
    try:
        return datetime.datetime.fromisoformat(str(run.meta["started_utc"])).date()
    except (KeyError, ValueError):
        return datetime.datetime.now(datetime.UTC).date()


def _findings(run: RunRecord, figures: tuple[LinkFigure, ...]) -> list[Finding]:
    findings: list[Finding] = []
    if outside := [figure for figure in figures if not figure.ok]:
        first = outside[0]
        findings.append(
            Finding(
                Verdict.INCONCLUSIVE,
                f"The bench is outside tolerance: {first.quantity} of {first.link} {first.direction} is "
                f"{quantity(first.measured, first.unit)}, commanded {quantity(first.commanded, first.unit)}.",
                overrides=True,
            )
        )
    if violations := violations_of(run):
        many = "a violation" if len(violations) == 1 else f"{len(violations)} violations"
        findings.append(
            Finding(Verdict.FAIL, f"The watcher saw {many} of the epoch invariant: {violations[0]}.")
        )
    if run.state == "crashed":
        done = len({e.test for e in run.of(TestEnded) if not e.retried})
        findings.append(
            Finding(Verdict.INCONCLUSIVE, f"The run was killed after {done} of {len(run.outcomes)} tests.")
        )
    elif run.end is not None and run.end.configuration_error:
        findings.append(Finding(Verdict.NOT_RUN, f"Configuration error: {run.end.configuration_error}"))
    elif run.end is not None and run.end.interrupted:
        findings.append(Finding(Verdict.INCONCLUSIVE, f"The run was cut short: {run.end.interrupted}."))
    return findings


def _statistics(run: RunRecord, plan: Plan | None, verdict: Verdict) -> Statistics:
    confidence = plan.confidence if plan else 0.90
    goal = plan.reliability_goal if plan else 0.95
    past = [h for h in run.history if h.get("same_inputs")]
    verdicts = [str(h.get("verdict") or "") for h in past] + [verdict.value]
    conclusive = [v for v in verdicts if v in CONCLUSIVE]
    commits = {h.get("commit") for h in past if h.get("verdict") in CONCLUSIVE and h.get("commit")} | {
        (run.meta.get("git") or {}).get("commit")
    }
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
    )


def _engine(run: RunRecord) -> str:
    """Return the link engine with the kernel it runs, as one word or two; empty when no bench came up."""
    engine = run.meta.get("engine")
    if not engine:
        bench = run.last(BenchUp)
        engine = bench.engine if bench else ""
    if isinstance(engine, Mapping):
        kind = engine.get("kind") or ""
        kernel = engine.get("kernel_release") or engine.get("kernel") or ""
        return f"{kind} {kernel}".strip()
    return str(engine or "")


def _scaled(meta: Mapping[str, Any]) -> list[str]:
    links: Mapping[str, Mapping[str, Any]] = meta.get("links") or {}
    return [
        f"{name}: {link['rate_bps'] / 1e6:g} Mbit/s stands for {link['nominal_rate_bps'] / 1e6:g} Mbit/s"
        for name, link in links.items()
        if link.get("rate_scaled")
    ]


def _gaps(meta: Mapping[str, Any], engine: str) -> list[Mapping[str, Any]]:
    """Return the stated gaps of fidelity that apply to this run's boards, link engine and rates."""
    applies = {"always", engine.split(" ")[0] if engine else ""}
    applies |= {str(b.get("stand_in") or b.get("driver")) for b in (meta.get("boards") or {}).values()}
    if _scaled(meta):
        applies.add("scaled")
    return [g for g in meta.get("fidelity_gaps") or () if g.get("applies_to") in applies]


def _next_steps(result: CampaignVerdict, statistics: Statistics) -> list[str]:
    """Return what to do next, most urgent first."""
    steps: list[str] = []

    def named(verdict: Verdict) -> str:
        return ", ".join(
            r.requirement.id
            for r in result.requirements
            if r.verdict is verdict and r.covered and not r.absent
        )

    if failed := named(Verdict.FAIL):
        steps.append(f"Find out why the device under test failed: {failed}.")
    if unclear := named(Verdict.INCONCLUSIVE):
        steps.append(f"Mend the bench and repeat: nothing is known about {unclear}.")
    if skipped := named(Verdict.NOT_RUN):
        steps.append(f"Run what was not run: {skipped}.")
    if waived := named(Verdict.WAIVED):
        steps.append(f"Close the waivers: {waived} failed and is accepted only by a record.")
    hardware = [r for r in result.requirements if r.verdict is Verdict.PASS and not r.closed]
    if hardware:
        many = "1 requirement" if len(hardware) == 1 else f"{len(hardware)} requirements"
        steps.append(f"Repeat on real Orin boards: {many} demonstrated here need hardware to be closed.")
    uncovered = [
        r.requirement.id for r in result.requirements if not r.covered and r.requirement.method == "T"
    ]
    if uncovered:
        steps.append(f"Write a test for {', '.join(uncovered)}: no test of this campaign names it.")
    for absent in (r for r in result.requirements if r.absent):
        steps.append(f"Run {absent.requirement.id} in another lab: {absent.reason}.")
    if result.verdict is Verdict.PASS and statistics.still_needed:
        steps.append(
            f"Repeat the run {statistics.still_needed} times without a failure to show a reliability of "
            f"{statistics.goal:g} at {statistics.confidence:.0%} confidence."
        )
    return steps
