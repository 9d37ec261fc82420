"""``result.json``: the run for machines.  The schema is described in docs/evidence.md."""

from __future__ import annotations

import math
from typing import Any

from hil.evidence.events import Event, LinkFigure, LinkSchedule, OrbitEpoch
from hil.report.analysis import Analysis

SCHEMA = 1


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
                    {
                        **{k: getattr(m, k) for k in ("name", "value", "unit", "limit", "ok")},
                        "dimensions": m.dimensions.as_dict(),
                    }
                    for m in o.measurements
                ],
            }
            for o in run.outcomes
        ],
        "findings": [{"verdict": f.verdict.value, "text": f.text} for f in result.findings],
        "calibration": [_figure(figure) for figure in analysis.figures],
        "orbit": _chosen(run.last(OrbitEpoch), "name", "file", "epoch", "seed"),
        "schedule": _chosen(
            run.last(LinkSchedule), "rows", "late_p50_us", "late_p99_us", "late_max_us", "errors", "file"
        ),
        "unproven": list(result.unproven),
        "next_steps": list(analysis.next_steps),
        "unreadable_lines": run.unreadable_lines,
    }


def _figure(figure: LinkFigure) -> dict[str, Any]:
    names = ("link", "direction", "quantity", "commanded", "measured", "unit", "tolerance", "ok", "note")
    error = None if figure.measured is None else figure.measured - figure.commanded
    return {name: _finite(getattr(figure, name)) for name in names} | {"error": _finite(error)}


def _chosen(event: Event | None, *names: str) -> dict[str, Any] | None:
    """Return these fields of an event; None when there is no event."""
    return None if event is None else {name: getattr(event, name) for name in names}


def _finite(value: Any) -> Any:
    """Return ``value``, or None for a number that JSON cannot write."""
    return None if isinstance(value, float) and not math.isfinite(value) else value
