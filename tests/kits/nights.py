"""Nights made of jobs that only pretend: `tests.kits.fake_hil` stands in for `hil`."""

from __future__ import annotations

import sys
from pathlib import Path

from hil.nightly.night import Night
from tests.kits import fake_hil

FAKE = (sys.executable, fake_hil.__file__)
HEAD = "schema: 1\nname: lab-a\njobs:\n"


def job(name: str, behave: str = "0", more: str = "") -> str:
    """A campaign that ends with an exit code, hangs, or fails once for the bench."""
    return f'- {{name: {name}, lab: virtual, campaign: six_gpu, arguments: ["--behave", "{behave}"]{more}}}\n'


def begin(folder: Path, *jobs: str, night_id: str = "n1") -> Night:
    """Begin a night of these jobs."""
    path = folder / "nightly.yaml"
    path.write_text(HEAD + "".join(jobs), "utf-8")
    return Night.begin(path, folder / "out", night_id=night_id)


def said(night: Night) -> list[str]:
    """Run a night to its end; what it said."""
    lines: list[str] = []
    night.run(lines.append, FAKE)
    return lines
