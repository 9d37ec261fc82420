"""Is a campaign's folder in order, and does a lab fit it?  Nothing is started and nothing is written."""

from __future__ import annotations

import io
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from hil.campaign.markers import CampaignTest
from hil.campaign.run import CampaignRun
from hil.errors import ConfigurationError, HilError

if TYPE_CHECKING:
    from hil.lab.model import Lab


@dataclass(frozen=True)
class Validated:
    """A campaign whose plan, tests and lab fit together."""

    run: CampaignRun
    tests: tuple[CampaignTest, ...]
    absent: dict[str, str]
    """Requirements that the lab cannot show, each with the reason."""

    @property
    def uncovered(self) -> list[str]:
        """Requirements that are verified by test and that no test names."""
        named = {identifier for test in self.tests for identifier in test.requirements}
        return [r.id for r in self.run.plan.requirements if r.method == "T" and r.id not in named]

    @property
    def steps(self) -> list[str]:
        return list(dict.fromkeys(test.step for test in self.tests))


def validate(folder: Path, *, lab: Lab | None = None, on: str = "", split: str = "") -> Validated:
    """Collect the tests of a campaign and compare them with its plan and the lab.

    ConfigurationError says what is wrong: in the plan, a test file, a marker, the lab, or the choice of boards.
    """
    run = CampaignRun.check(folder, lab=lab, on=on, split=split)
    tests = _collected(folder)
    reasons = {r.id: run.unmet[r.when] for r in run.plan.requirements if r.when in run.unmet}
    return Validated(run, tests, reasons)


class _Collector:
    """A pytest plug-in that keeps what was collected, and why it could not be."""

    def __init__(self) -> None:
        self.tests: tuple[CampaignTest, ...] = ()
        self.faults: list[str] = []

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self.faults.append(report.longreprtext.strip())

    def pytest_keyboard_interrupt(self, excinfo: pytest.ExceptionInfo[BaseException]) -> None:
        cause = excinfo.value.__cause__
        self.faults.append(cause.message if isinstance(cause, HilError) else str(excinfo.value))

    @pytest.hookimpl(trylast=True)
    def pytest_collection_finish(self, session: pytest.Session) -> None:
        self.tests = tuple(CampaignTest.of(item) for item in session.items)


def _collected(folder: Path) -> tuple[CampaignTest, ...]:
    """Let pytest collect; the campaign's own plug-in checks the markers."""
    collector, said = _Collector(), io.StringIO()
    with redirect_stdout(said), redirect_stderr(said):
        code = pytest.main(["--collect-only", "-q", "-p", "no:cacheprovider", str(folder)], plugins=[collector])
    if code == 0 and collector.tests:
        return collector.tests
    if code == pytest.ExitCode.NO_TESTS_COLLECTED:
        raise ConfigurationError(f"{folder} has no tests", remedy="a test is a function test_... in a file test_*.py")
    why = "\n".join(collector.faults) or said.getvalue().strip()[-2000:]
    raise ConfigurationError(f"{folder}: {why}", remedy="correct the tests or the plan")
