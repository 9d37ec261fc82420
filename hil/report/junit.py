"""JUnit XML (xunit2) with the requirements of each test as properties.

FAIL is ``<failure>``; INCONCLUSIVE is ``<error>``; NOT RUN is ``<skipped>``, so that tools that know only these
three never count an inconclusive test as passed or failed.
"""

from __future__ import annotations

import re
from typing import Any
from xml.etree import ElementTree

from hil.evidence.model import Verdict, format_value
from hil.evidence.readback import TestOutcome
from hil.report.analysis import Analysis

_NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def junit_of(analysis: Analysis) -> str:
    """Return the XML document."""
    run, counts = analysis.run, analysis.counts
    numbers = {
        "tests": str(len(run.outcomes)),
        "failures": str(counts[Verdict.FAIL.value]),
        "errors": str(counts[Verdict.INCONCLUSIVE.value]),
        "skipped": str(counts[Verdict.NOT_RUN.value]),
        "time": f"{run.duration_s:.3f}",
    }
    root = ElementTree.Element("testsuites", {"name": str(run.meta.get("plan", "")), **numbers})
    suite = ElementTree.SubElement(
        root,
        "testsuite",
        {
            "name": str(run.meta.get("plan", "")),
            "timestamp": str(run.meta.get("started_utc", "")).removesuffix("Z"),
            **numbers,
        },
    )
    _properties(
        suite,
        [
            ("run_id", run.run_id),
            ("verdict", analysis.verdict.value),
            ("reason", analysis.result.reason),
            ("fidelity", analysis.fidelity),
            ("engine", analysis.engine),
            ("lab", run.meta.get("lab", "")),
            ("commit", (run.meta.get("git") or {}).get("commit") or ""),
            *((f"requirement.{r.requirement.id}", r.verdict.value) for r in analysis.result.requirements),
        ],
    )
    for outcome in run.outcomes:
        _case(suite, outcome)
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def _case(suite: ElementTree.Element, outcome: TestOutcome) -> None:
    file, _, name = outcome.test.partition("::")
    case = ElementTree.SubElement(
        suite,
        "testcase",
        {
            "classname": file.removesuffix(".py").replace("/", "."),
            "name": _clean(name or outcome.test),
            "time": f"{outcome.duration_s:.3f}",
        },
    )
    properties: list[tuple[str, Any]] = [("requirement", r) for r in outcome.requirements]
    properties += [("step", outcome.step), ("verdict", outcome.verdict.value)]
    if outcome.blame:
        properties.append(("blame", outcome.blame))
    if outcome.retries:
        properties.append(("retries", outcome.retries))
    for m in outcome.measurements:
        limit = f" (limit {m.limit})" if m.limit else ""
        of = ",".join(f"{key}={value}" for key, value in m.dimensions.items())
        name = f"measurement.{m.name}" + (f"[{of}]" if of else "")
        properties.append((name, format_value(m.value, m.unit) + limit))
    _properties(case, properties)
    tag = {Verdict.FAIL: "failure", Verdict.INCONCLUSIVE: "error", Verdict.NOT_RUN: "skipped"}.get(
        outcome.verdict
    )
    if tag:
        body = ElementTree.SubElement(case, tag, {"message": _clean(outcome.reason)})
        if tag != "skipped":
            body.set("type", outcome.blame or outcome.verdict.value)
            body.text = _clean(f"{outcome.message}\n{outcome.remedy}".strip())


def _properties(parent: ElementTree.Element, pairs: list[tuple[str, Any]]) -> None:
    holder = ElementTree.SubElement(parent, "properties")
    for name, value in pairs:
        ElementTree.SubElement(holder, "property", {"name": _clean(name), "value": _clean(str(value))})


def _clean(text: str) -> str:
    """Return ``text`` without characters that XML 1.0 cannot hold (console output has them)."""
    return _NOT_XML.sub("\ufffd", text)
