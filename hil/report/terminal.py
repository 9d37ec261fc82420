"""The last lines of a campaign run in the terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

_COLOUR = {"PASS": "green", "FAIL": "red", "INCONCLUSIVE": "yellow", "NOT RUN": "yellow", "WAIVED": "purple"}


def summary(result: Mapping[str, Any], report: Path | None) -> Iterator[tuple[str, dict[str, bool]]]:
    """Return lines with pytest terminal markup: verdict first, then what is open, then where the report is."""
    verdict = result["verdict"]
    yield f"{verdict}: {result['reason']}", {_COLOUR.get(verdict, "yellow"): True, "bold": True}
    counts = ", ".join(f"{n} {v}" for v, n in result["counts"].items() if n)
    yield f"tests: {counts or 'none'}", {}
    requirements = result["requirements"]
    closed = sum(r["closed"] for r in requirements)
    shown = sum(r["verdict"] == "PASS" and not r["closed"] for r in requirements)
    yield f"requirements: {closed} closed, {shown} demonstrated and open, of {len(requirements)}", {}
    uncovered = [r["id"] for r in requirements if not r["covered"] and r["method"] == "T"]
    if uncovered:
        yield f"no test names: {', '.join(uncovered)}", {"yellow": True}
    retries = sum(t["retries"] for t in result["tests"])
    if retries:
        yield f"repeated because the bench was at fault: {retries} (see the report)", {"yellow": True}
    taken = [t["taken_over"] for t in result["tests"] if t.get("taken_over")]
    if taken:
        yield f"taken over from run {', '.join(dict.fromkeys(taken))}: {len(taken)} tests", {"yellow": True}
    if result["statistics"]["runs"]:
        yield result["statistics"]["sentence"], {}
    yield f"report: {report}" if report else "no report could be made; the evidence is kept", {"bold": True}
