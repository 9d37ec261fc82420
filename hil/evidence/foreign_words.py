"""Our verdicts in the words of others: one table for every format that is written.

Sources: the JUnit XML that Jenkins and GitLab read; CTRF (https://ctrf.io); Allure 2 results; KCIDB schema v5.3;
in-toto's test result v0.1; OpenTelemetry's ``test.case.result.status``, ``test.suite.run.status`` and
``cicd.pipeline.result``; our exit codes.
"""

from __future__ import annotations

from dataclasses import dataclass

from hil.errors import Blame
from hil.evidence.model import EXIT_CODE, Verdict


@dataclass(frozen=True)
class Words:
    """What a verdict is called elsewhere; empty where there is no word that fits."""

    junit: str
    """Element in a test case; empty: none, which means passed."""
    ctrf: str
    allure: str
    kcidb: str
    in_toto: str
    """None fits a run that shows nothing; WARNED means that it passed, with a warning."""
    otel_case: str
    otel_run: str
    otel_pipeline: str
    """``cicd.pipeline.result``."""


PASSED = Words("", "passed", "passed", "PASS", "PASSED", "pass", "success", "success")
FAILED = Words("failure", "failed", "failed", "FAIL", "FAILED", "fail", "failure", "failure")
BENCH_FAULT = Words("error", "other", "broken", "MISS", "", "", "aborted", "error")
OWN_ERROR = Words("error", "other", "broken", "ERROR", "", "", "aborted", "error")
NOT_RUN = Words("skipped", "skipped", "skipped", "SKIP", "", "", "skipped", "skip")
WAIVED = Words("", "passed", "passed", "PASS", "WARNED", "pass", "success", "success")
MEASURED = Words("", "passed", "passed", "DONE", "", "", "", "")
"""A measurement without a limit judges nothing."""


def words_of(verdict: Verdict | str, blame: str = "") -> Words:
    """Return what a verdict is called elsewhere; of INCONCLUSIVE it depends on whose fault it was."""
    if verdict == Verdict.INCONCLUSIVE:
        return BENCH_FAULT if blame in ("", Blame.BENCH.value) else OWN_ERROR
    return {Verdict.PASS: PASSED, Verdict.FAIL: FAILED, Verdict.NOT_RUN: NOT_RUN, Verdict.WAIVED: WAIVED}[
        Verdict(verdict)
    ]


def table() -> list[str]:
    """Return the table as Markdown, for the documentation."""
    rows = {
        "PASS": (PASSED, Verdict.PASS),
        "FAIL": (FAILED, Verdict.FAIL),
        "INCONCLUSIVE, the bench": (BENCH_FAULT, Verdict.INCONCLUSIVE),
        "INCONCLUSIVE, a test's or this software's own error": (OWN_ERROR, Verdict.INCONCLUSIVE),
        "NOT RUN": (NOT_RUN, Verdict.NOT_RUN),
        "WAIVED": (WAIVED, Verdict.WAIVED),
    }
    lines = ["| ours | JUnit | CTRF | Allure | KCIDB | in-toto | OpenTelemetry case, run, pipeline | exit code |"]
    lines.append("|---|---|---|---|---|---|---|---|")
    for ours, (theirs, verdict) in rows.items():
        otel = f"{theirs.otel_case or '—'}, {theirs.otel_run}, {theirs.otel_pipeline}"
        cells = [
            ours,
            f"`<{theirs.junit}>`" if theirs.junit else "no element",
            theirs.ctrf,
            theirs.allure,
            theirs.kcidb,
        ]
        lines.append("| " + " | ".join([*cells, theirs.in_toto or "—", otel, str(EXIT_CODE[verdict])]) + " |")
    return lines
