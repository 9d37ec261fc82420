"""A run for other people's databases: KCIDB (KernelCI), and spans for OpenTelemetry (OTLP as JSON).

Verdicts are theirs by the one table of :mod:`hil.evidence.foreign_words`.  Sources: KCIDB schema v5.3; OTLP 1.x JSON
encoding; OpenTelemetry's semantic conventions ``test.*``, ``cicd.*``, ``vcs.*`` (development).
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

from hil.errors import Blame
from hil.evidence.events import BundleUsed, Measurement, TestEnded
from hil.evidence.foreign_words import MEASURED, words_of
from hil.evidence.model import Verdict
from hil.evidence.readback import RunRecord, TestOutcome
from hil.report.analysis import Analysis
from hil.report.export import milliseconds, stable_id, start_ms

ORIGIN = "orbital_hil"
KCIDB_VERSION = {"major": 5, "minor": 3}
MOST_EXCERPT = 16_000
_COMMIT = re.compile(r"[0-9a-f]{40}")


def kcidb_of(analysis: Analysis) -> str:
    """Return the run as KCIDB: a checkout and a build (what was under test), each test, and each measurement of it."""
    run = analysis.run
    commit, started = str((run.meta.get("git") or {}).get("commit") or ""), _moment(run)
    build = f"{ORIGIN}:{run.run_id}"
    document = {
        "version": KCIDB_VERSION,
        "checkouts": [
            {
                "id": build,
                "origin": ORIGIN,
                "comment": _clean(str(run.meta.get("plan_title") or "")),
                **({"git_commit_hash": commit} if _COMMIT.fullmatch(commit) else {}),
                **started,
            }
        ],
        "builds": [
            {
                "id": build,
                "checkout_id": build,
                "origin": ORIGIN,
                "config_name": _clean(f"{run.meta.get('plan')} on {run.meta.get('lab')}"),
                "misc": {
                    "verdict": analysis.verdict.value,
                    "fidelity": analysis.fidelity,
                    "bundles": {b.name: b.sha256 for b in run.of(BundleUsed)},
                },
                **started,
            }
        ],
        "tests": list(_kcidb_tests(analysis, build)),
    }
    return json.dumps(document, indent=1) + "\n"


def _kcidb_tests(analysis: Analysis, build: str) -> Iterator[dict[str, Any]]:
    run, plan = analysis.run, str(analysis.run.meta.get("plan") or "campaign")
    for outcome in analysis.cases:
        path = f"{_word(plan)}.{_word(outcome.step or outcome.test)}"
        common = {
            "build_id": build,
            "origin": ORIGIN,
            "environment": {"comment": _clean(f"lab {run.meta.get('lab')}, {analysis.fidelity}")},
        }
        status = words_of(outcome.verdict, outcome.blame).kcidb
        yield {
            **common,
            "id": f"{ORIGIN}:{stable_id(f'{run.run_id} {outcome.test}')}",
            "path": path,
            "status": status,
            "comment": _clean(outcome.title),
            "duration": milliseconds(outcome.duration_s) / 1000,
            **({"log_excerpt": _clean(outcome.message)[:MOST_EXCERPT]} if outcome.message else {}),
            "misc": {"verdict": outcome.verdict.value, "requirements": list(outcome.requirements)},
        }
        for number, m in enumerate(outcome.measurements):
            if isinstance(m.value, int | float) and not isinstance(m.value, bool) and math.isfinite(m.value):
                yield {
                    **common,
                    "id": f"{ORIGIN}:{stable_id(f'{run.run_id} {outcome.test} {number} {m.label}')}",
                    "path": f"{path}.{_word(m.name)}",
                    "status": _of_measurement(m, outcome),
                    "comment": _clean(m.label),
                    "number": {"value": m.value, **({"unit": _clean(m.unit)} if m.unit else {})},
                    "misc": {"limit": m.limit or "", **m.dimensions},
                }


def _of_measurement(measured: Measurement, outcome: TestOutcome) -> str:
    """Return KCIDB's status of a measurement: without a limit it judges nothing, and a bench's limit no device."""
    if measured.ok is None:
        return MEASURED.kcidb
    device = ("", Blame.DEVICE.value)
    whose = outcome.blame if measured.blame in device else measured.blame
    violated = Verdict.FAIL if whose in device else Verdict.INCONCLUSIVE
    return words_of(Verdict.PASS if measured.ok else violated, whose).kcidb


def otlp_of(analysis: Analysis) -> str:
    """Return the run as one trace: spans of the run and of each attempt at a test, events of measurements."""
    run = analysis.run
    trace, root, begin = _hex(run.run_id, 32), _hex(f"{run.run_id} run", 16), start_ms(run)
    words, git = words_of(analysis.verdict), run.meta.get("git") or {}
    whole = {
        "traceId": trace,
        "spanId": root,
        "name": str(run.meta.get("plan_title") or run.meta.get("plan") or "campaign"),
        "kind": 1,
        **_times(begin, 0.0, run.duration_s),
        "attributes": _attributes(
            {
                "test.suite.name": run.meta.get("plan"),
                "test.suite.run.status": words.otel_run,
                "cicd.pipeline.name": run.meta.get("plan"),
                "cicd.pipeline.run.id": run.run_id,
                "cicd.pipeline.result": words.otel_pipeline,
                "vcs.ref.head.revision": git.get("commit"),
                "hil.verdict": analysis.verdict.value,
                "hil.lab": run.meta.get("lab"),
                "hil.fidelity": analysis.fidelity,
            }
        ),
        "status": _status(analysis.verdict, analysis.result.reason),
    }
    spans = [whole, *(_span(run, end, trace, root, begin) for end in run.of(TestEnded))]
    resource = {"service.name": "orbital-hil", "service.version": run.meta.get("hil_version")}
    scope = {"scope": {"name": "orbital-hil"}, "spans": spans}
    document = {"resourceSpans": [{"resource": {"attributes": _attributes(resource)}, "scopeSpans": [scope]}]}
    return json.dumps(document, indent=1) + "\n"


def _span(run: RunRecord, end: TestEnded, trace: str, root: str, begin: int) -> dict[str, Any]:
    outcome: TestOutcome | None = next((o for o in run.outcomes if o.test == end.test), None)
    verdict = Verdict(end.verdict) if end.verdict in set(Verdict) else Verdict.INCONCLUSIVE
    mine = [m for m in outcome.measurements if not end.retried] if outcome else []
    return {
        "traceId": trace,
        "spanId": _hex(f"{run.run_id} {end.test} {end.attempt} {end.line}", 16),
        "parentSpanId": root,
        "name": outcome.title if outcome else end.test,
        "kind": 1,
        **_times(begin, end.t_s - end.duration_s, end.t_s),
        "attributes": _attributes(
            {
                "test.case.name": end.test,
                "test.case.result.status": words_of(verdict, end.blame).otel_case,
                "hil.verdict": verdict.value,
                "hil.blame": end.blame,
                "hil.attempt": end.attempt,
                "hil.requirements": ", ".join(outcome.requirements) if outcome else "",
            }
        ),
        "events": [
            {
                **{"name": m.name, "timeUnixNano": _nano(begin, m.t_s or end.t_s)},
                "attributes": _attributes(
                    {"hil.value": m.value, "hil.unit": m.unit, "hil.limit": m.limit, "hil.ok": m.ok, **m.dimensions}
                ),
            }
            for m in mine
        ],
        "status": _status(verdict, end.message),
    }


def _status(verdict: Verdict, text: str) -> dict[str, Any]:
    """Return OTLP's status: unset (0) where nothing is known, so that a bench fault is no error of the service."""
    if verdict in (Verdict.PASS, Verdict.WAIVED):
        return {"code": 1}
    return {"code": 2, "message": _clean(text)[:1000]} if verdict is Verdict.FAIL else {"code": 0}


def _attributes(facts: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [{"key": key, "value": _value(value)} for key, value in facts.items() if value not in (None, "")]


def _value(value: Any) -> dict[str, Any]:
    if isinstance(value, bool):
        return {"boolValue": value}
    if isinstance(value, int) and abs(value) < 2**63:
        return {"intValue": str(value)}
    if isinstance(value, float) and math.isfinite(value):
        return {"doubleValue": value}
    return {"stringValue": _clean(str(value))}


def _times(begin: int, start_s: float, end_s: float) -> dict[str, str]:
    return {"startTimeUnixNano": _nano(begin, start_s), "endTimeUnixNano": _nano(begin, end_s)}


def _nano(begin_ms: int, t_s: float) -> str:
    return str(max(0, begin_ms + milliseconds(t_s)) * 1_000_000)


def _hex(text: str, digits: int) -> str:
    return stable_id(text).replace("-", "")[:digits]


def _word(text: str) -> str:
    """Return a part of a KCIDB path."""
    return re.sub(r"[^A-Za-z0-9_-]+", "_", text).strip("_") or "unnamed"


def _clean(text: str) -> str:
    """Return text without NUL and lone surrogates, which these formats do not take."""
    return text.replace("\0", "").encode("utf-8", "replace").decode()


def _moment(run: RunRecord) -> dict[str, str]:
    started = str(run.meta.get("started_utc") or "")
    return {"start_time": started.replace("Z", "+00:00")} if start_ms(run) else {}
