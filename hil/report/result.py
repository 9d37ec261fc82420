"""``result.json``: the run for machines.  The schema is described in docs/evidence.md."""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import Any

from hil.report.analysis import Analysis

SCHEMA = 1
_SCHEDULE = ("rows", "late_p50_us", "late_p99_us", "late_max_us", "errors", "file")


def result_of(analysis: Analysis) -> dict[str, Any]:
    """The content of ``result.json``: plain JSON values only."""
    run, result = analysis.run, analysis.result
    statistics = analysis.statistics
    return {
        "schema": SCHEMA,
        "run_id": run.run_id,
        "verdict": result.verdict.value,
        "reason": result.reason,
        "state": run.state,
        "started_utc": run.meta.get("started_utc", ""),
        "ended_utc": run.end.t_utc if run.end else (run.events[-1].t_utc if run.events else ""),
        "duration_s": round(run.duration_s, 3),
        "plan": run.meta.get("plan", ""),
        "plan_title": run.meta.get("plan_title", ""),
        "plan_sha256": run.meta.get("plan_sha256", ""),
        "lab": run.meta.get("lab", ""),
        "lab_sha256": run.meta.get("lab_sha256", ""),
        "boards": (run.meta.get("participants") or {}).get("boards") or [],
        "commit": (run.meta.get("git") or {}).get("commit"),
        "dirty": (run.meta.get("git") or {}).get("dirty"),
        "fidelity": analysis.fidelity,
        "engine": analysis.engine,
        "rate_scaled": list(analysis.scaled),
        "seed": run.meta.get("seed"),
        "counts": dict(analysis.counts),
        "statistics": {
            "passes": statistics.passes,
            "runs": statistics.runs,
            "inconclusive": statistics.inconclusive,
            "confidence": statistics.confidence,
            "reliability_lower_bound": round(statistics.lower_bound, 6),
            "reliability_goal": statistics.goal,
            "runs_still_needed": statistics.still_needed,
            "sentence": statistics.sentence,
        },
        "requirements": [
            {
                "id": r.requirement.id,
                "text": r.requirement.text,
                "method": r.requirement.method,
                "level": r.requirement.level,
                "fidelity_needed": r.requirement.fidelity_needed,
                "verdict": r.verdict.value,
                "covered": r.covered,
                "closed": r.closed,
                "close_out": r.close_out,
                "reason": r.reason,
                "tests": list(r.tests),
            }
            for r in result.requirements
        ],
        "criteria": [
            {
                "id": c.criterion.id,
                "text": c.criterion.text,
                "requirements": list(c.criterion.requirements),
                "verdict": c.verdict.value,
                "reason": c.reason,
            }
            for c in result.criteria
        ],
        "risks": [
            {
                "id": r.risk.id,
                "title": r.risk.title,
                "before": r.risk.before.model_dump(),
                "now": r.now.model_dump(),
                "after": r.risk.after.model_dump(),
                "reached": r.reached,
                "reason": r.reason,
            }
            for r in analysis.risks
        ],
        "tests": [
            {
                "id": o.id,
                "title": o.title,
                "step": o.step,
                "verdict": o.verdict.value,
                "blame": o.blame,
                "message": o.message,
                "remedy": o.remedy,
                "duration_s": o.duration_s,
                "retries": o.retries,
                "requirements": list(o.requirements),
                "measurements": [
                    {k: m.get(k) for k in ("name", "value", "unit", "limit", "ok")} for m in o.measurements
                ],
            }
            for o in run.outcomes
        ],
        "findings": [{"verdict": f.verdict.value, "text": f.text} for f in result.findings],
        "calibration": [
            {**asdict(c), "measured": _finite(c.measured), "error": _finite(c.error)}
            for c in analysis.calibrations
        ],
        "orbit": _last(analysis, "orbit.epoch", ("name", "file", "epoch", "seed")),
        "schedule": _last(analysis, "link.schedule", _SCHEDULE),
        "unproven": list(result.unproven),
        "next_steps": list(analysis.next_steps),
        "unreadable_lines": run.unreadable_lines,
    }


def _last(analysis: Analysis, kind: str, keys: tuple[str, ...]) -> dict[str, Any] | None:
    """Fields of the run's last event of a kind; None when there is none."""
    events = analysis.run.of_kind(kind)
    return {key: events[-1].fields.get(key) for key in keys} if events else None


def _finite(figure: float) -> float | None:
    """JSON has no word for "nothing arrived" among numbers."""
    return figure if math.isfinite(figure) else None
