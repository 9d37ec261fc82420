"""This run beside its baseline, the last release or else the last run of the same plan and lab: what changed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hil.evidence.campaign_verdict import CampaignVerdict, RequirementResult
from hil.evidence.model import Verdict, format_value
from hil.evidence.readback import RunRecord
from hil.report.history_classes import Class, Night, State, class_of
from hil.report.nights import NOTABLE_CHANGE

WINDOW = 10
"""Runs looked back at to tell a new regression from one that is intermittent."""


@dataclass(frozen=True)
class VerdictChange:
    """A requirement whose verdict is another one than the baseline's, or that is still not PASS."""

    requirement: str
    before: str  # "" when the baseline did not know it
    now: str
    kind: str  # "new regression", "failing for N runs", "intermittent", "never passed", "recovered", ...

    @property
    def title(self) -> str:
        """The change without the requirement, under which those that changed alike stand together."""
        return f"{self.before or 'unknown'} → {self.now}: {self.kind}"


@dataclass(frozen=True)
class ValueChange:
    """A measurement that moved."""

    name: str
    before: str
    now: str
    change: str


@dataclass(frozen=True)
class RunComparison:
    """What changed since ``run_id``, the last release, or the last run of this plan and lab with a verdict."""

    run_id: str
    release: str  # its name; "" when it is none
    started_utc: str
    verdict: str
    inputs: tuple[str, ...]  # what differs in the inputs: commit, plan or lab file, engine
    verdicts: tuple[VerdictChange, ...]
    values: tuple[ValueChange, ...]


def compare(run: RunRecord, result: CampaignVerdict, engine: str) -> RunComparison | None:
    """Compare with the last release, else with the last run that has a verdict; None when there is none.

    ``engine`` is the link engine of this run, empty when no bench came up.
    """
    past = [h for h in run.history if h.get("verdict")]
    if not past:
        return None
    last = next((h for h in past if h.get("release")), past[0])
    return RunComparison(
        run_id=str(last.get("run_id")),
        release=str(last.get("release") or ""),
        started_utc=str(last.get("started_utc")),
        verdict=str(last.get("verdict")),
        inputs=tuple(_inputs(run, last, engine)),
        verdicts=tuple(c for r in result.requirements if (c := _verdict_change(r, last, past)) is not None),
        values=tuple(_values(run, last.get("measurements") or {})),
    )


def _inputs(run: RunRecord, last: Mapping[str, Any], engine: str) -> list[str]:
    changes: list[str] = []
    git = run.meta.get("git") or {}
    if last.get("commit") != (git.get("commit") or ""):
        changes.append(f"commit {_short(last.get('commit'))} to {_short(git.get('commit'))}")
    elif git.get("dirty"):
        changes.append("uncommitted changes in the checkout")
    if not last.get("same_inputs"):
        changes.append("plan or lab file")
    if engine and last.get("engine") and last["engine"] != engine:
        changes.append(f"engine {last['engine']} to {engine}")
    return changes


def _short(commit: object) -> str:
    return str(commit)[:10] if commit else "unknown"


def _verdict_change(
    result: RequirementResult, last: Mapping[str, Any], past: Sequence[Mapping[str, Any]]
) -> VerdictChange | None:
    identifier, now = result.requirement.id, result.verdict.value
    series = [str((h.get("requirements") or {}).get(identifier, "")) for h in past[:WINDOW]]
    before = str((last.get("requirements") or {}).get(identifier, ""))
    if now == before and result.verdict is Verdict.PASS:
        return None
    if not result.covered and before in ("", now):
        return None
    if result.verdict is Verdict.PASS:
        kind = "recovered" if before in (Verdict.FAIL, Verdict.INCONCLUSIVE) else "demonstrated now"
    elif result.verdict is Verdict.FAIL:
        kind = _kind_of_failure(series)
    else:
        kind = f"was {before}" if before and before != now else "as before" if before else "new"
    return VerdictChange(identifier, before, now, kind)


def _kind_of_failure(series: Sequence[str]) -> str:
    """Return the class of a failure after the verdicts of earlier runs, the latest first."""
    known = [Night(State(v)) for v in reversed(series) if v in (Verdict.PASS, Verdict.FAIL)]
    found = class_of([*known, Night(State.FAIL)])
    return f"failing for {found.nights} runs" if found.kind is Class.FAILING else found.kind.value


def _values(run: RunRecord, before: Mapping[str, Mapping[str, Any]]) -> list[ValueChange]:
    """Return the numbers that moved, most first; figures of links, which always move a little, come last."""
    changes: list[tuple[bool, float, ValueChange]] = []
    for outcome in run.outcomes:
        for measured in outcome.measurements:
            name = f"{outcome.title}: {measured.label}"
            old, new = before.get(name, {}).get("value"), measured.value
            if not (_is_number(old) and _is_number(new)) or old == new:
                continue
            share = abs(new - old) / abs(old) if old else float("inf")
            if share < NOTABLE_CHANGE:
                continue
            was, now = format_value(old, measured.unit), format_value(new, measured.unit)
            text = f"{(new - old) / abs(old):+.0%}" if old else "from zero"
            changes.append((bool(measured.direction), -share, ValueChange(name, was, now, text)))
    changes.sort(key=lambda entry: entry[:2])
    return [change for *_, change in changes]


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
