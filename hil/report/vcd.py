"""The verification control document of a run: the ten columns of ECSS-E-ST-10-02C, for the page, as CSV, as ReqIF."""

from __future__ import annotations

import csv
import io
import re
from dataclasses import astuple, dataclass
from typing import TYPE_CHECKING

from hil.evidence.campaign_verdict import RequirementResult
from hil.evidence.model import Verdict
from hil.evidence.test_plan import METHOD_NAMES
from hil.report.export import quoted, stable_id
from hil.report.pages import render

if TYPE_CHECKING:
    from hil.report.analysis import Analysis

COLUMNS = (
    *("Id", "Requirement", "Traceability", "Level and stage", "Method", "Verification plan", "Evidence", "Compliance"),
    *("Close-out", "Reason"),
)
"""In the standard's order."""
_NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@dataclass(frozen=True)
class Row:
    """One requirement."""

    id: str
    text: str
    trace: str
    level: str
    """With the stage: on the ground before flight, which is all that a bench can show."""
    method: str
    plan: str
    """The plan's criteria that ask for it."""
    evidence: str
    """Ids of the tests that name it, or the document of another method."""
    compliance: str
    """yes, partial, no; "not shown" where nothing is known."""
    close_out: str
    """closed or open."""
    reason: str


def rows_of(analysis: Analysis) -> list[Row]:
    """Return the matrix, in the order of the plan; what no test names is a row, too."""
    return [_row(analysis, result) for result in analysis.result.requirements]


def _row(analysis: Analysis, result: RequirementResult) -> Row:
    of = result.requirement
    criteria = [c.id for c in (analysis.plan.criteria if analysis.plan else ()) if of.id in c.requirements]
    plan = analysis.plan.id if analysis.plan else ""
    reason = result.reason if result.close_out in ("open", "closed") else f"{result.close_out}: {result.reason}"
    return Row(
        id=of.id,
        text=of.text,
        trace=of.trace,
        level=f"{of.level}, qualification",
        method=METHOD_NAMES[of.method],
        plan=f"{plan}: {', '.join(criteria)}" if criteria else plan,
        evidence="; ".join(result.tests) or of.evidence or ("" if of.method != "T" else "not covered"),
        compliance=_compliance(result),
        close_out="closed" if result.closed else "open",
        reason=reason,
    )


def _compliance(result: RequirementResult) -> str:
    if result.verdict is Verdict.PASS:
        return "yes" if result.closed else "partial"
    return {Verdict.FAIL: "no", Verdict.WAIVED: "no, accepted"}.get(result.verdict, "not shown")


def csv_of(analysis: Analysis) -> str:
    """Return the matrix as CSV (RFC 4180); text that a spreadsheet would compute begins with ``'``."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(COLUMNS)
    writer.writerows([quoted(cell) for cell in astuple(row)] for row in rows_of(analysis))
    return text.getvalue()


def reqif_of(analysis: Analysis) -> str:
    """Return the matrix as ReqIF 1.2: a requirement is an object with ten attributes, the same id in every run."""
    run, plan = analysis.run, str(analysis.run.meta.get("plan") or "")
    names = ["ReqIF.ForeignID", "ReqIF.Text", *COLUMNS[2:]]
    document = render(
        "vcd.reqif.j2",
        run=run,
        plan=plan,
        moment=str(run.meta.get("started_utc") or "1970-01-01T00:00:00Z"),
        attributes=[(f"_{stable_id(f'attribute {name}')}", name) for name in names],
        rows=[(f"_{stable_id(f'requirement {plan} {row.id}')}", astuple(row)) for row in rows_of(analysis)],
        ids={word: f"_{stable_id(f'{word} {plan} {run.run_id}')}" for word in ("header", "specification")},
    )
    return _NOT_XML.sub("\ufffd", document)
