"""A run in a page of Markdown, for the page of a CI job: verdict first, what changed, what is still unproven."""

from __future__ import annotations

import re

from hil.evidence.model import Verdict
from hil.report.analysis import Analysis
from hil.text import one_line

MOST_ROWS = 50
_SPECIAL = re.compile(r"([\\`*_{}\[\]<>#|~&])")


def plain(text: str) -> str:
    """Return text of a test's author or a board as Markdown that shows it and does nothing else."""
    return _SPECIAL.sub(r"\\\1", one_line(text, 300))


def markdown_of(analysis: Analysis) -> str:
    """Return the summary."""
    run, result, counts = analysis.run, analysis.result, analysis.counts
    tests = ", ".join(f"{count} {verdict}" for verdict, count in counts.items() if count)
    lines = [
        f"# {result.verdict}: {plain(str(run.meta.get('plan_title') or run.meta.get('plan') or run.run_id))}",
        "",
        plain(result.reason),
        "",
        f"Run {plain(run.run_id)}, lab {plain(str(run.meta.get('lab') or 'none'))}, fidelity {analysis.fidelity}; "
        f"{tests or 'no test'}. {plain(analysis.statistics.sentence)}",
    ]
    lines += [line for note in analysis.notes for line in ("", f"**{plain(note)}**")]
    lines += ["", "| requirement | verdict | close-out | reason |", "|---|---|---|---|"]
    shown = sorted(result.requirements, key=lambda r: (r.closed, r.verdict is Verdict.PASS))
    for each in shown[:MOST_ROWS]:
        cells = (each.requirement.id, each.verdict, plain(each.close_out), plain(each.reason))
        lines.append("| " + " | ".join(cells) + " |")
    if len(shown) > MOST_ROWS:
        lines.append(f"| and {len(shown) - MOST_ROWS} more | | | |")
    change = analysis.comparison
    if change is not None:
        since = f"release {change.release}" if change.release else change.run_id
        lines += ["", f"## Since {plain(since)}", ""]
        moved = [f"- {plain(each.requirement)}: {plain(each.title)}" for each in change.verdicts]
        moved += [
            f"- {plain(v.name)}: {plain(v.before)} → {plain(v.now)} ({plain(v.change)})" for v in change.values[:8]
        ]
        lines += moved or ["Nothing changed."]
    if analysis.next_steps:
        lines += ["", "## What to do next", "", *(f"1. {plain(step)}" for step in analysis.next_steps)]
    return "\n".join(lines) + "\n"
