"""JUnit XML (xunit2) with the requirements of each test as properties.

Its words are those of :mod:`hil.evidence.foreign_words`: tools that know only ``failure``, ``error`` and ``skipped``
never count an inconclusive test as passed or failed.  A finding about the whole run is a test case of its own.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from hil.evidence.foreign_words import words_of
from hil.evidence.model import format_value
from hil.evidence.readback import TestOutcome
from hil.report.analysis import UNVERIFIABLE, Analysis
from hil.report.pages import render

_NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def junit_of(analysis: Analysis) -> str:
    """Return the XML document."""
    run = analysis.run
    facts = {
        "run_id": run.run_id,
        "verdict": analysis.verdict,
        "reason": analysis.result.reason,
        "fidelity": analysis.fidelity,
        "engine": analysis.engine,
        "lab": run.meta.get("lab", ""),
        **({"unverifiable": UNVERIFIABLE} if run.unverifiable else {}),
        "commit": (run.meta.get("git") or {}).get("commit") or "",
        **{f"requirement.{r.requirement.id}": r.verdict for r in analysis.result.requirements},
    }
    shown = [(case, words_of(case.verdict, case.blame).junit, list(_facts(case))) for case in analysis.cases]
    document = render(
        "junit.xml.j2",
        run=run,
        started=str(run.meta.get("started_utc", "")).removesuffix("Z"),
        tags=[tag for _, tag, _ in shown],
        facts=facts.items(),
        cases=shown,
    )
    return _NOT_XML.sub("\ufffd", document)


def strictdoc_of(analysis: Analysis) -> str:
    """Return JUnit of pytest's kind that StrictDoc 0.30 traces; name the file ``*.pytest.junit.xml``.

    StrictDoc takes no ``error`` and no property twice, and makes a field of each property's name.  A test that is
    INCONCLUSIVE shows nothing, so it is skipped there, as one that did not run.
    """
    run = analysis.run
    outcomes = analysis.outcomes
    shown = {o.test: words_of(o.verdict, o.blame).junit for o in outcomes}
    document = render(
        "strictdoc.xml.j2",
        run=run,
        started=str(run.meta.get("started_utc", "")).removesuffix("Z"),
        verdict=analysis.verdict,
        outcomes=[(o, "skipped" if shown[o.test] == "error" else shown[o.test]) for o in outcomes],
        failures=sum(tag == "failure" for tag in shown.values()),
        skipped=sum(tag in ("error", "skipped") for tag in shown.values()),
    )
    return _NOT_XML.sub("\ufffd", document)


def _facts(outcome: TestOutcome) -> Iterator[tuple[str, object]]:
    for requirement in outcome.requirements:
        yield "requirement", requirement
    yield from (("step", outcome.step), ("verdict", outcome.verdict))
    if outcome.blame:
        yield "blame", outcome.blame
    if outcome.retries:
        yield "retries", outcome.retries
    for m in outcome.measurements:
        of = ",".join(f"{key}={value}" for key, value in m.dimensions.items())
        limit = f" (limit {m.limit})" if m.limit else ""
        yield f"measurement.{m.name}" + (f"[{of}]" if of else ""), format_value(m.value, m.unit) + limit
