"""A campaign in a folder of its own, run by pytester, and what it left."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jinja2
import jinja2.ext
import pytest

from hil.bench import orbit_clock
from hil.boards import kinds
from hil.campaign import hooks
from hil.core import closed_pipe
from hil.database import migrate, schema
from hil.lab import model
from hil.orbit import times
from hil.report import html, junit, make, result, terminal

LOADED = (
    *(jinja2, closed_pipe, hooks, orbit_clock, kinds, migrate, schema, model, times),
    *(html, junit, make, result, terminal),
)
"""Loaded here because pytester forgets, after each of its runs, what was first imported during it."""

OTHERS = (
    *("hypothesispytest", "randomly", "html", "html_fixtures", "metadata", "rerunfailures", "timeout", "allure_pytest"),
    *("xdist", "xdist.looponfail", "pytest_cov"),
)
WITHOUT_OTHERS = tuple(word for name in OTHERS for word in ("-p", f"no:{name}"))
"""Options of pytest: without the plugins of others, which cost a second at every start."""
PLAIN = ("-p", "no:cacheprovider", *WITHOUT_OTHERS)

PLAN = """\
schema: 1
id: demo
title: A demo campaign
requirements:
  - {id: DEM-1, text: It works., method: T, level: system, fidelity_needed: virtual}
  - {id: DEM-2, text: It works on hardware., method: T, level: system, fidelity_needed: hardware}
"""

ON_A_BENCH = """
import pytest

@pytest.fixture(scope="session", autouse=True)
def engine(recorder):
    recorder.update_meta(engine="kernel")
"""
"""The run is one on a bench, as far as its evidence says."""

HEAD = """
import pytest
from hil.errors import *
from hil.evidence.model import *

"""

PASSES = (
    HEAD
    + """
@pytest.mark.requirement("DEM-1", "DEM-2")
def test_the_os_boots(verify):
    '''It boots.'''
    verify("boot time", 0.4, "s", limit=at_most(2))
"""
)


def without_record(pytester: pytest.Pytester, *arguments: str) -> pytest.RunResult:
    """Run a pytest that may end before pytester records it; then pytester would look for a Ctrl-C in that record."""
    return pytester.runpytest_inprocess(*PLAIN, *arguments, no_reraise_ctrlc=True)


class Campaign:
    """Runs campaigns in a folder of their own and reads what they left."""

    def __init__(self, pytester: pytest.Pytester, out: Path) -> None:
        self.pytester, self.out = pytester, out
        self.folder = pytester.mkdir("demo")
        (self.folder / "plan.yaml").write_text(PLAN, "utf-8")
        (self.folder / "conftest.py").write_text(ON_A_BENCH, "utf-8")

    def write(self, text: str, name: str = "test_1.py") -> None:
        (self.folder / name).write_text(text, "utf-8")

    def run(self, *arguments: str) -> pytest.RunResult:
        return self.pytester.runpytest_inprocess("demo", *PLAIN, *arguments)

    def refused(self, *arguments: str) -> pytest.RunResult:
        """Run one that ends before it has begun."""
        return without_record(self.pytester, "demo", *arguments)

    def run_apart(self, *arguments: str) -> pytest.RunResult:
        """Run it in a process of its own, which a signal may wake, or which ends while it reads its arguments."""
        return self.pytester.runpytest_subprocess("demo", *PLAIN, *arguments)

    def directory(self) -> Path:
        (directory,) = (self.out / "runs").iterdir()
        return directory

    @property
    def result(self) -> dict[str, Any]:
        result: dict[str, Any] = json.loads((self.directory() / "result.json").read_text("utf-8"))
        return result

    @property
    def verdicts(self) -> dict[str, str]:
        return {t["title"]: t["verdict"] for t in self.result["tests"]}

    def nothing_was_written(self) -> bool:
        return not self.out.exists()
