"""Errors of configuration and bench in a few lines, without the source of the harness, and with their own exit code."""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING

import pytest

from hil.campaign.options import CAMPAIGN, chosen_lab, refused, uses_bench

if TYPE_CHECKING:
    from hil.errors import ConfigurationError

EXIT_CODES = {"configuration": 2, "bench": 3, "harness": 3}
"""By the value of the blame."""


def needs_lab() -> ConfigurationError:
    """Return the error of a test that wants a bench where none is named."""
    from hil.errors import ConfigurationError

    return ConfigurationError(
        "the fixture `bench` needs a lab",
        remedy="add --hil-lab FILE (or --hil-lab virtual), or --hil-bench NAME of a bench that is up",
    )


class ShortErrors:
    """A pytest plugin for every run; a campaign has verdicts and an exit code of its own."""

    def __init__(self) -> None:
        self._blames: list[str] = []

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """End a run at once in which every test wants a bench, and the lab is not named or wrong."""
        config, items = session.config, session.items
        needed = bool(items) and all(map(uses_bench, items))
        if not needed or config.option.collectonly or config.pluginmanager.has_plugin(CAMPAIGN):
            return
        from hil.errors import ConfigurationError

        try:
            if not config.getoption("hil_bench") and chosen_lab(config) is None:
                raise needs_lab()
        except ConfigurationError as exc:
            raise refused(exc) from exc

    @pytest.hookimpl(wrapper=True, trylast=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Replace the traceback by the message and the line of the test, unless the user asked for tracebacks."""
        report = yield
        if call.excinfo is None or not report.failed:
            return report
        from hil.errors import Blame, HilError

        error = call.excinfo.value
        if not isinstance(error, HilError):
            return report
        vars(report)["hil_blame"] = error.blame.value  # also from the workers of pytest-xdist
        options = item.config.option
        if error.blame in (Blame.CONFIGURATION, Blame.BENCH) and options.tbstyle == "auto" and not options.fulltrace:
            lines = [entry.lineno + 1 for entry in call.excinfo.traceback if entry.path == item.path]
            where = f"{item.path.name}:{lines[-1]}: " if lines else ""
            report.longrepr = f"{where}error ({error.blame.value}): {error}"
        return report

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self._blames.append(getattr(report, "hil_blame", ""))

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Give the run the exit code 2 or 3 when only configuration, bench or harness were at fault."""
        codes = {EXIT_CODES.get(blame, 1) for blame in self._blames}
        if session.exitstatus == pytest.ExitCode.TESTS_FAILED and codes and 1 not in codes:
            session.exitstatus = max(codes)
