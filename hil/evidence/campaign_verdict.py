"""From what became of the tests to the verdict of each requirement and of the campaign.

Rules, in this order:

1. FAIL comes only from the device under test.  INCONCLUSIVE is never merged with PASS or FAIL.
2. A requirement is PASS when every test that names it is PASS.
3. A virtual PASS never closes a requirement that needs hardware: it is "demonstrated (virtual), open".
4. A FAIL becomes WAIVED only through a record in force that names the requirement.
5. A bench outside tolerance makes the whole campaign INCONCLUSIVE, whatever its tests said.
6. A run in which no bench was up closes nothing.
7. What a lab cannot show (the requirement's ``when``) is NOT RUN with the reason, stays open, and does not count.
"""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import dataclass, replace

from hil.evidence.model import WORST_FIRST, Verdict, plural
from hil.evidence.readback import TestOutcome
from hil.evidence.test_plan import Criterion, Plan, Requirement

NO_BENCH = "none"
"""The fidelity of a run in which no bench was there."""


@dataclass(frozen=True)
class RequirementResult:
    """What the campaign says about one requirement."""

    requirement: Requirement
    verdict: Verdict
    closed: bool
    close_out: str
    """E.g. "closed", "demonstrated (virtual), open", "waived by NCR-1, open", "not covered, open", "open"."""
    reason: str
    tests: tuple[str, ...]
    absent: bool = False  # this lab cannot show it

    @property
    def covered(self) -> bool:
        """Whether a test names it."""
        return bool(self.tests)


@dataclass(frozen=True)
class CriterionResult:
    """Whether one condition of PASS is met."""

    criterion: Criterion
    verdict: Verdict
    reason: str
    absent: bool = False  # this lab can show none of its requirements


@dataclass(frozen=True)
class Finding:
    """Something about the whole run, not about one test, that bears on the verdict."""

    verdict: Verdict
    text: str
    overrides: bool = False  # the bench is not to be trusted, so that not even a FAIL is known


@dataclass(frozen=True)
class CampaignVerdict:
    """The result of a run, first things first."""

    verdict: Verdict
    reason: str
    requirements: tuple[RequirementResult, ...]
    criteria: tuple[CriterionResult, ...]
    findings: tuple[Finding, ...]
    unproven: tuple[str, ...]


def judge(
    plan: Plan, outcomes: Sequence[TestOutcome], *, fidelity: str, day: datetime.date, findings: Sequence[Finding] = ()
) -> CampaignVerdict:
    """Return the campaign's verdict from its tests' outcomes.

    ``fidelity`` is the lowest class of the boards (``virtual``, ``hardware``, ``NO_BENCH``), ``day`` the day of the run
    (waivers are in force by date), ``findings`` what is known about the run as a whole.
    """
    spoiled = next((finding.text for finding in findings if finding.overrides), "")
    requirements = tuple(_spoiled(_requirement(plan, r, outcomes, fidelity, day), spoiled) for r in plan.requirements)
    by_id = {r.requirement.id: r for r in requirements}
    criteria = tuple(_criterion(c, by_id) for c in plan.criteria or _default_criteria(plan))
    verdict, reason = _campaign(outcomes, by_id, criteria, findings, fidelity)
    unproven = tuple(_unproven(requirements))
    return CampaignVerdict(verdict, reason, requirements, criteria, tuple(findings), unproven)


def worst(verdicts: Sequence[Verdict]) -> Verdict:
    """Return the verdict that decides: FAIL, then INCONCLUSIVE, then NOT RUN; of nothing at all NOT RUN."""
    return min(verdicts, key=WORST_FIRST.index, default=Verdict.NOT_RUN)


def _requirement(
    plan: Plan, requirement: Requirement, outcomes: Sequence[TestOutcome], fidelity: str, day: datetime.date
) -> RequirementResult:
    mine = [o for o in outcomes if requirement.id in o.requirements]
    tests = tuple(o.test for o in mine)

    def result(verdict: Verdict, close_out: str, reason: str, *, closed: bool = False) -> RequirementResult:
        return RequirementResult(requirement, verdict, closed, close_out, reason, tests)

    if not mine:
        if requirement.method == "T" and requirement.shown_by:
            why = f"tested by plan {requirement.shown_by}, in runs of its own; this run says nothing of it"
            return result(Verdict.NOT_RUN, f"tested by {requirement.shown_by}, open", why)
        if requirement.method == "T":
            return result(Verdict.NOT_RUN, "not covered, open", "no test of this campaign names it")
        where = f": {requirement.evidence}" if requirement.evidence else "; no document is named"
        by = {"A": "analysis", "R": "review of design", "I": "inspection"}[requirement.method]
        return result(Verdict.NOT_RUN, "not by test, open", f"to be closed by {by}{where}")
    if why := next((o.absent for o in mine if o.absent), ""):
        return replace(result(Verdict.NOT_RUN, "not in this lab, open", why), absent=True)
    verdict = worst([o.verdict for o in mine])
    decisive = next((o for o in mine if o.verdict is verdict), mine[0])
    if verdict is Verdict.PASS:
        if fidelity == NO_BENCH:
            return result(verdict, "shown without a bench, open", "no bench was up in this run")
        if requirement.fidelity_needed == "hardware" and fidelity != "hardware":
            reason = "needs a repetition on real Orin boards"
            return result(verdict, f"demonstrated ({fidelity}), open", reason)
        many = f"{len(mine)} tests" if len(mine) > 1 else "its test"
        return result(verdict, "closed", f"{many} passed", closed=True)
    if verdict is Verdict.FAIL:
        waiver = next((w for w in plan.waivers if w.requirement == requirement.id and w.holds_on(day)), None)
        if waiver is not None:
            record = f"{waiver.id} of {waiver.date.isoformat()}, {waiver.approved_by}: {waiver.reason}"
            return result(Verdict.WAIVED, f"waived by {waiver.id}, open", f"{record} ({decisive.reason})")
    return result(verdict, "open", decisive.reason or f"{decisive.title}: {verdict}")


def _spoiled(result: RequirementResult, why: str) -> RequirementResult:
    """Return what is left of a requirement's result on a bench, or with evidence, that is not to be trusted."""
    if not why or result.verdict is Verdict.NOT_RUN:
        return result
    return replace(result, verdict=Verdict.INCONCLUSIVE, closed=False, close_out="open", reason=why)


def _default_criteria(plan: Plan) -> tuple[Criterion, ...]:
    """Return the criterion of a plan without any: everything that a test on this bench can show."""
    tested = tuple(r.id for r in plan.requirements if r.method == "T" and r.fidelity_needed == "virtual")
    if not tested:
        return ()
    text = "Every requirement that is verified by test on the virtual bench passes"
    return (Criterion(id="CRIT-ALL", text=text, requirements=tested),)


def _criterion(criterion: Criterion, by_id: dict[str, RequirementResult]) -> CriterionResult:
    shown = [i for i in criterion.requirements if not by_id[i].absent]
    if not shown:
        reason = by_id[criterion.requirements[0]].reason
        return CriterionResult(criterion, Verdict.NOT_RUN, f"not in this lab: {reason}", absent=True)
    verdict = worst([by_id[i].verdict for i in shown])
    decisive = [i for i in shown if by_id[i].verdict is verdict]
    if verdict in (Verdict.PASS, Verdict.WAIVED):
        return CriterionResult(criterion, verdict, "met")
    return CriterionResult(criterion, verdict, f"{', '.join(decisive)}: {by_id[decisive[0]].reason}")


def _campaign(
    outcomes: Sequence[TestOutcome],
    by_id: dict[str, RequirementResult],
    criteria: Sequence[CriterionResult],
    findings: Sequence[Finding],
    fidelity: str,
) -> tuple[Verdict, str]:
    for finding in findings:
        if finding.overrides:
            return finding.verdict, finding.text
    outcomes = [o for o in outcomes if not o.absent]
    # A failing test counts unless every requirement it names is waived.
    failed = [
        o
        for o in outcomes
        if o.verdict is Verdict.FAIL
        and not (o.requirements and all(by_id[i].verdict is Verdict.WAIVED for i in o.requirements))
    ]
    if failed:
        return Verdict.FAIL, _count(failed, outcomes, "failed")
    for finding in sorted(findings, key=lambda f: f.verdict is not Verdict.FAIL):
        return finding.verdict, finding.text
    unclear = [o for o in outcomes if o.verdict is Verdict.INCONCLUSIVE]
    if unclear:
        return Verdict.INCONCLUSIVE, _count(unclear, outcomes, "could not be judged")
    not_run = [o for o in outcomes if o.verdict is Verdict.NOT_RUN]
    if len(not_run) == len(outcomes):
        return Verdict.NOT_RUN, "No test was run."
    if not_run:
        return Verdict.INCONCLUSIVE, _count(not_run, outcomes, "did not run")
    for criterion in criteria:
        if criterion.verdict not in (Verdict.PASS, Verdict.WAIVED) and not criterion.absent:
            return Verdict.INCONCLUSIVE, f"{criterion.criterion.text}: not met ({criterion.reason})."
    waived = sum(r.verdict is Verdict.WAIVED for r in by_id.values())
    shown = sum(r.verdict is Verdict.PASS for r in by_id.values())
    tail = f"; {waived} accepted by waiver" if waived else ""
    earlier = [o.taken_over for o in outcomes if o.taken_over]
    tail += f"; {len(earlier)} of the tests in run {', '.join(dict.fromkeys(earlier))}" if earlier else ""
    done = f"{plural(len(outcomes), 'test')} demonstrated {plural(shown, 'requirement')}"
    where = "without a bench" if fidelity == NO_BENCH else f"on the {fidelity} bench"
    return Verdict.PASS, f"{done} {where}{tail}."


def _count(some: Sequence[TestOutcome], everything: Sequence[TestOutcome], what: str) -> str:
    first = some[0]
    because = f" ({first.reason.rstrip('.')})" if first.reason else ""
    lead = "First: " if len(some) > 1 else ""
    return f"{len(some)} of {len(everything)} tests {what}. {lead}{first.title}{because}."


def _unproven(requirements: Sequence[RequirementResult]) -> list[str]:
    """Return one line per requirement that stays open, most serious first."""
    still_open = sorted((r for r in requirements if not r.closed), key=lambda r: WORST_FIRST.index(r.verdict))
    return [f"{r.requirement.id}: {r.requirement.text} ({r.close_out}: {r.reason})" for r in still_open]
