"""A campaign that is interrupted or killed is torn down and reported."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

from hil.evidence.store import list_runs
from hil.report.make import make_report
from tests.kits.campaign_folder import HEAD, PLAIN, Campaign

pytest_plugins = ["pytester"]

SLOW = (
    HEAD
    + """
import time, pathlib

@pytest.fixture(scope="session")
def bench():
    yield
    pathlib.Path("torn-down").touch()

def test_quick(bench): pass

def test_slow(bench):
    pathlib.Path("slow").touch()
    time.sleep(60)

def test_never(bench): pass
"""
)


def _interruptible() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def _interrupted(campaign: Campaign, number: int, *, again: str = "", text: str = SLOW) -> tuple[int, str]:
    """Run the slow campaign in a process of its own and send it a signal during its second test.

    ``again``: the file that is there when it is to be sent twice more.
    """
    campaign.write(text)
    argv = [sys.executable, "-m", "pytest", "demo", *PLAIN]
    environment = {**os.environ, "HIL_REPORTS": str(campaign.out)}
    with subprocess.Popen(
        argv,
        cwd=campaign.pytester.path,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        # As in a terminal: what runs in the background of a script inherits SIGINT ignored.
        preexec_fn=_interruptible,
    ) as process:
        for mark, times in (("slow", 1), (again, 2)):
            deadline = time.monotonic() + 60
            while mark and not (campaign.pytester.path / mark).exists():
                assert time.monotonic() < deadline and process.poll() is None
                time.sleep(0.02)
            for _ in range(times if mark else 0):
                process.send_signal(number)
                time.sleep(0.2)
        output, _ = process.communicate(timeout=60)
    return process.returncode, output.decode()


def test_more_signals_while_the_bench_goes_down_leave_that_alone_and_show_no_traceback(campaign: Campaign) -> None:
    slow_teardown = SLOW.replace("    yield\n", "    yield\n    pathlib.Path('tearing').touch(); time.sleep(1)\n")
    code, output = _interrupted(campaign, signal.SIGINT, again="tearing", text=slow_teardown)
    assert code == 3
    assert "Traceback" not in output and output.count("the run is ending already") == 2
    assert (campaign.pytester.path / "torn-down").exists()
    assert campaign.verdicts["Slow"] == "INCONCLUSIVE"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["SIGINT", "SIGTERM"])
def test_an_interrupted_campaign_is_torn_down_and_reported(campaign: Campaign, number: signal.Signals) -> None:
    code, output = _interrupted(campaign, number)
    assert code == 3
    assert "report.html" in output
    assert (campaign.pytester.path / "torn-down").exists()
    assert campaign.verdicts == {"Quick": "PASS", "Slow": "INCONCLUSIVE", "Never": "NOT RUN"}
    assert (campaign.directory() / "report.html").is_file()
    assert list_runs(campaign.out)[0].state == "finished"


def test_a_campaign_killed_with_sigkill_is_recognised_and_its_report_can_be_made(campaign: Campaign) -> None:
    code, _ = _interrupted(campaign, signal.SIGKILL)
    assert code == -signal.SIGKILL
    (run,) = list_runs(campaign.out)
    assert (run.state, run.verdict) == ("crashed", "")
    page = make_report(run.directory)
    assert "The run was killed after 1 of 3 tests." in page.read_text("utf-8")
    assert campaign.verdicts == {"Quick": "PASS", "Slow": "INCONCLUSIVE", "Never": "NOT RUN"}
