"""``result.json``: the run for machines.  The schema is described in docs/evidence.md."""

from __future__ import annotations

import math
from typing import Any

from hil.evidence.events import BundleUsed, LinkFigure, LinkSchedule, OrbitEpoch
from hil.evidence.record import jsonable
from hil.report.analysis import Analysis

SCHEMA = 1


def result_of(analysis: Analysis) -> dict[str, Any]:
    """Return the content of ``result.json``: plain JSON values only."""
    run, result = analysis.run, analysis.result
    statistics, epoch, schedule = analysis.statistics, run.last(OrbitEpoch), run.last(LinkSchedule)
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
            **_chosen(statistics, "passes", "runs", "inconclusive", "confidence"),
            "reliability_lower_bound": round(statistics.lower_bound, 6),
            "reliability_goal": statistics.goal,
            "runs_still_needed": statistics.still_needed,
            "sentence": statistics.sentence,
        },
        "requirements": [
            _chosen(r.requirement, "id", "text", "method", "level", "fidelity_needed")
            | _chosen(r, "verdict", "covered", "closed", "close_out", "reason", "tests")
            for r in result.requirements
        ],
        "criteria": [
            _chosen(c.criterion, "id", "text", "requirements") | _chosen(c, "verdict", "reason")
            for c in result.criteria
        ],
        "risks": [
            {
                **_chosen(r.risk, "id", "title"),
                "before": r.risk.before.model_dump(),
                "now": r.now.model_dump(),
                "after": r.risk.after.model_dump(),
                **_chosen(r, "reached", "reason"),
            }
            for r in analysis.risks
        ],
        "tests": [
            {
                "id": o.test,
                **_chosen(o, "title", "step", "verdict", "blame", "message", "remedy"),
                **_chosen(o, "duration_s", "retries", "requirements", "taken_over"),
                "measurements": [
                    _chosen(m, "name", "value", "unit", "limit", "ok", "blame") | {"dimensions": m.dimensions}
                    for m in o.measurements
                ],
            }
            for o in run.outcomes
        ],
        "findings": [_chosen(f, "verdict", "text") for f in result.findings],
        "calibration": [_figure(figure) for figure in analysis.figures],
        "orbit": epoch and _chosen(epoch, "name", "file", "epoch", "seed"),
        "schedule": schedule
        and _chosen(schedule, "rows", "late_p50_us", "late_p99_us", "late_max_us", "errors", "file"),
        "unproven": list(result.unproven),
        "next_steps": list(analysis.next_steps),
        "partial": run.partial,
        "tests_sha256": run.meta.get("tests_sha256") or "",
        "bundles": [
            _chosen(b, "name", "version", "sha256", "size", "image_sha256", "signer", "signer_sha256")
            for b in dict.fromkeys(run.of(BundleUsed))
        ],
        "evidence": {
            "lines": len(run.lines),
            "first": run.chain.first,
            # once changed, the head that was kept stays: the next report must see it, too
            "head": next(filter(None, analysis.heads), run.head) if analysis.changes else run.head,
            "changes": list(analysis.changes),
        },
        "unreadable_lines": run.unreadable_lines,
        "damage": list(run.damage),
    }


def _figure(figure: LinkFigure) -> dict[str, Any]:
    names = ("link", "direction", "quantity", "commanded", "measured", "unit", "tolerance", "ok", "note")
    error = None if figure.measured is None else figure.measured - figure.commanded
    return {**_chosen(figure, *names), "error": _plain(error)}


def _chosen(of: object, *names: str) -> dict[str, Any]:
    """Return these attributes of an object as JSON values."""
    return {name: _plain(getattr(of, name)) for name in names}


def _plain(value: Any) -> Any:
    """Return ``value`` as JSON has it; None for a number that JSON cannot write."""
    return None if isinstance(value, float) and not math.isfinite(value) else jsonable(value)
