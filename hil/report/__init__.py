"""From a run directory alone: result.json, JUnit XML and the HTML page."""

from __future__ import annotations

from pathlib import Path


def make_report(directory: Path) -> Path:
    """Make all outputs of the run in ``directory`` again; path of the page.  See :mod:`hil.report.make`."""
    from hil.report.make import make_report as make

    return make(directory)
