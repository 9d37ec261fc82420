"""Where each risk stands: a cell moves only as far as the evidence carries it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hil.evidence.campaign_verdict import RequirementResult
from hil.evidence.model import Verdict
from hil.evidence.stats import reliability_lower_bound, runs_still_needed
from hil.evidence.test_plan import Cell, Plan, Risk

SHOWN = (Verdict.PASS.value, Verdict.WAIVED.value)


@dataclass(frozen=True)
class RiskResult:
    """A risk before the campaign, now, and where the plan hopes to bring it."""

    risk: Risk
    now: Cell
    reason: str

    @property
    def reached(self) -> bool:
        """Whether the plan's "after" cell is reached."""
        return self.now == self.risk.after


def place_risks(
    plan: Plan, requirements: Sequence[RequirementResult], past: Sequence[Mapping[str, Any]], *, counts: bool = True
) -> tuple[RiskResult, ...]:
    """Place every risk of the plan, by the ``past`` runs and, where it ``counts``, this one.

    A risk stays where it was unless all its requirements are closed at the fidelity they need; then its
    likelihood falls to the level that contains the upper bound of P(failure) over all stored runs.
    """
    return tuple(_place(plan, risk, requirements, past, int(counts)) for risk in plan.risks)


def _place(
    plan: Plan, risk: Risk, requirements: Sequence[RequirementResult], past: Sequence[Mapping[str, Any]], own: int
) -> RiskResult:
    mine = [r for r in requirements if r.requirement.id in risk.requirements]
    not_shown = [r for r in mine if r.verdict is not Verdict.PASS]
    if not_shown:
        names = ", ".join(f"{r.requirement.id} {r.verdict}" for r in not_shown)
        return RiskResult(risk, risk.before, f"Stays: {names}.")
    passes, runs = _record(risk, past, own)
    p_failure = 1 - (reliability_lower_bound(passes, runs, plan.confidence) if runs else 0.0)
    statistic = f"{passes}/{runs} runs, P(failure) <= {p_failure:.1%} at {plan.confidence:.0%}"
    if still_open := [r.requirement.id for r in mine if not r.closed]:
        need = "needs" if len(still_open) == 1 else "need"
        stays = f"Stays: {', '.join(still_open)} {need} hardware."
        return RiskResult(risk, risk.before, f"{stays} Virtual evidence: {statistic}.")
    level = max(risk.after.likelihood, min(risk.before.likelihood, plan.scale.level_for(p_failure)))
    now = Cell(likelihood=level, severity=risk.after.severity)
    if now == risk.after:
        return RiskResult(risk, now, f"Reached: {statistic}.")
    wanted = 1 - plan.scale.likelihood[risk.after.likelihood - 1].p_max
    more = runs_still_needed(passes, runs, wanted, plan.confidence)
    return RiskResult(risk, now, f"{statistic}; {more:,} more without a failure to reach the planned cell.")


def _record(risk: Risk, past: Sequence[Mapping[str, Any]], own: int) -> tuple[int, int]:
    """Return passes and conclusive runs of this risk's requirements, with ``own`` passes of this run."""
    passes = runs = own
    for run in past:
        verdicts = [(run.get("requirements") or {}).get(r, "") for r in risk.requirements]
        if Verdict.FAIL.value in verdicts:
            runs += 1
        elif all(v in SHOWN for v in verdicts):
            passes, runs = passes + 1, runs + 1
    return passes, runs
