"""The page: one self-contained HTML file, verdict first.  No network, no scripts, light, dark and print."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hil.evidence.carriers import crowdedness
from hil.evidence.events import (
    ArtefactLost,
    ArtefactStored,
    BenchDiffers,
    BenchLost,
    BenchPulse,
    BenchPutBack,
    BenchRetried,
    BenchUp,
    BundleUsed,
    ConsolePort,
    InferenceFinished,
    LeftoverFound,
    LinkSchedule,
    OrbitEpoch,
    PowerAnswerLost,
    ThreadDied,
    WatchSummary,
)
from hil.evidence.model import WORST_FIRST, Verdict
from hil.evidence.record import ARTEFACTS
from hil.evidence.test_plan import METHOD_NAMES
from hil.report.analysis import CONCLUSIVE, Analysis, day_of, violations_of
from hil.report.calibration.page import calibration_section
from hil.report.heat import heat_section
from hil.report.links import calibration_summary, scaled_rates
from hil.report.orbit import href, inside, orbit_section
from hil.report.pages import render
from hil.report.tenants import tenants_section
from hil.report.thumbnail import picture
from hil.report.timeline.drawing import timeline_svg
from hil.report.timeline.lanes import Lanes, lanes_of
from hil.report.timeline.view import folded, interruptions, legend
from hil.report.vcd import COLUMNS, rows_of

CONSOLE_LINES = 40
CONSOLE_TAIL_BYTES = 64_000
CLOSE_UP_BELOW = 0.7
"""A file of tests gets a closer picture when it takes less than this share of the run."""

_ANSI = re.compile(r"\x1b(?:\[[0-9;?=]*[A-Za-z]|[()][A-Z0-9]|[=>])")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")


def html_of(analysis: Analysis) -> str:
    """Return the page as text."""
    return render("report.html.j2", **_context(analysis))


def _context(analysis: Analysis) -> dict[str, Any]:
    run, result, lanes = analysis.run, analysis.result, lanes_of(analysis.run)
    shown = lanes.shown
    notes = [
        e
        for e in run.events
        if isinstance(
            e,
            BenchRetried
            | ConsolePort
            | PowerAnswerLost
            | LeftoverFound
            | BenchDiffers
            | BenchPutBack
            | BenchLost
            | ThreadDied,
        )
    ]
    return {
        "a": analysis,
        "run": run,
        "meta": run.meta,
        "git": run.meta.get("git") or {},
        "parameters": _parameters(run.meta.get("parameters")),
        "result": result,
        "numbers": {o.test: n for n, o in enumerate(run.outcomes, start=1)},
        "methods": METHOD_NAMES,
        "open_groups": _open_groups(analysis),
        "columns": COLUMNS,
        "matrix": rows_of(analysis),
        "day": day_of(run),
        "record": _record_of_requirements(analysis),
        "timeline": timeline_svg(shown, title="Timeline of the whole run"),
        "close_ups": _close_ups(analysis, shown),
        "legend": legend(shown),
        "folded": folded(lanes),
        "interruptions": interruptions(lanes),
        "orbit": orbit_section(run, lanes.links),
        "heat": heat_section(run),
        "tenants": tenants_section(run),
        "scaled": scaled_rates(analysis.scaled),
        "summary": calibration_summary(analysis.figures),
        "calibration": calibration_section(analysis.figures),
        "schedules": run.of(LinkSchedule),
        "log_of": lambda e: href(run.directory, e.file, f"{ARTEFACTS}/{e.file}"),
        "watch": run.of(WatchSummary),
        "inference": run.of(InferenceFinished),
        "pictures": _pictures(analysis),
        "consoles": _consoles(analysis),
        "artefacts": run.of(ArtefactStored),
        "lost": run.of(ArtefactLost),
        "bench_notes": notes,
        "bench_load": _bench_load(run.of(BenchPulse)),
        "phases": [e for e in run.of(BenchUp) if e.phases_s],
        "bundles": list(dict.fromkeys(run.of(BundleUsed))),
        "epoch": run.last(OrbitEpoch),
        "violations": violations_of(run),
    }


def _bench_load(pulses: list[BenchPulse]) -> str:
    """Return how loaded the host was while the campaign ran; empty when nobody looked."""
    if not pulses:
        return ""
    late_s = {part: max(p.late_s.get(part, 0.0) for p in pulses) for pulse in pulses for part in pulse.late_s}
    shares = sorted(pulse.cpu_busy for pulse in pulses)
    return (
        f"Processors busy {shares[len(shares) // 2]:.0%} (median), {shares[-1]:.0%} (most); taken away "
        f"{max(pulse.cpu_steal for pulse in pulses):.0%} at most; this process's clock late by "
        f"{max(pulse.clock_late_s for pulse in pulses):.2f} s at most; programs that shared a core: "
        f"{crowdedness(pulses):.1f} in the worst half minute. Longest without a sign of life: "
        + ", ".join(f"{part} {seconds:.2f} s" for part, seconds in late_s.items())
        + "."
    )


def _parameters(found: object) -> str:
    """Return the plan's parameters as this run had them, those with another value than the plan's marked."""
    words = []
    for name, one in found.items() if isinstance(found, dict) else ():
        if isinstance(one, dict):
            instead = f" (plan: {one.get('plan')})" if one.get("value") != one.get("plan") else ""
            words.append(f"{name} {one.get('value')} {one.get('unit') or ''}".rstrip() + instead)
    return ", ".join(words)


def _open_groups(analysis: Analysis) -> list[dict[str, Any]]:
    """Return what is still unproven, by reason, most serious first."""
    groups: dict[str, list[Any]] = {}
    still_open = [r for r in analysis.result.requirements if not r.closed]
    for result in sorted(still_open, key=lambda r: WORST_FIRST.index(r.verdict)):
        title = result.close_out if result.close_out != "open" else f"{result.verdict}, open"
        groups.setdefault(title, []).append(result)
    return [{"title": title, "results": results} for title, results in groups.items()]


def _record_of_requirements(analysis: Analysis) -> dict[str, str]:
    """Return passes out of conclusive runs per requirement, this run included, e.g. ``4/4``."""
    past = [h.get("requirements") or {} for h in analysis.counted]
    record: dict[str, str] = {}
    for result in analysis.result.requirements:
        verdicts = [str(p.get(result.requirement.id, "")) for p in past]
        verdicts += [] if analysis.run.partial else [result.verdict.value]
        known = [v for v in verdicts if v in CONCLUSIVE]
        record[result.requirement.id] = f"{known.count(Verdict.PASS.value)}/{len(known)}" if known else ""
    return record


def _close_ups(analysis: Analysis, lanes: Lanes) -> list[dict[str, str]]:
    """Draw one closer picture per file of tests in which anything happened on a board or a link."""
    spans: dict[str, tuple[float, float]] = {}
    for outcome in analysis.run.outcomes:
        if outcome.start_s is None or not outcome.duration_s:
            continue
        name = Path(outcome.test.partition("::")[0]).stem
        start, end = spans.get(name, (outcome.start_s, outcome.start_s))
        spans[name] = (min(start, outcome.start_s), max(end, outcome.start_s + outcome.duration_s))
    pictures = []
    for name, (start, end) in spans.items():
        if end - start < CLOSE_UP_BELOW * lanes.end_s and lanes.busy(start, end):
            words = re.sub(r"^test_(\d+_)?", "", name).replace("_", " ")
            title = f"{words[:1].upper()}{words[1:]}, {start:.0f} to {end:.0f} s"
            pictures.append({"title": title, "svg": timeline_svg(lanes, window=(start, end), title=title)})
    return pictures


def _files(analysis: Analysis, kind: str) -> Iterator[tuple[ArtefactStored, Path]]:
    """Yield the artefacts of a kind that lie in the run, with their files."""
    for artefact in analysis.run.of(ArtefactStored):
        path = inside(analysis.run.directory, artefact.path)
        if path is not None and kind in artefact.artefact_kind:
            yield artefact, path


def _pictures(analysis: Analysis) -> list[dict[str, str]]:
    masks = _files(analysis, "mask")
    return [{"name": path.name, "uri": uri, "path": mask.path} for mask, path in masks if (uri := picture(path))]


def _consoles(analysis: Analysis) -> list[tuple[str, ArtefactStored, str]]:
    """Return (board, log, its last lines) by board."""
    logs = _files(analysis, "console")
    consoles = [(log.board or path.name.split(".")[0], log, console_tail(path)) for log, path in logs]
    return sorted(consoles, key=lambda console: console[0])


def console_tail(path: Path) -> str:
    """Return the last lines of a console, without terminal control sequences; empty when it cannot be read."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - CONSOLE_TAIL_BYTES))
            raw = file.read()
    except OSError:
        return ""
    text = _ANSI.sub("", raw.decode("utf-8", "replace")).replace("\r\n", "\n").replace("\r", "\n")
    lines = [_CONTROL.sub("", line).rstrip() for line in text.split("\n")]
    return "\n".join(lines[-CONSOLE_LINES:]).strip("\n")
