"""A campaign without a terminal: it goes on by itself, can be watched and ended, and keeps its exit code."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from hil.campaign import jobs
from hil.cli.app import run
from hil.errors import ConfigurationError

SLEEPS = "import time; print('it runs', flush=True); time.sleep(60)"


@pytest.fixture
def started(out: Path) -> Callable[..., jobs.Job]:
    def start(name: str, code: str, directory: Path | None = None) -> jobs.Job:
        return jobs.start(name, [sys.executable, "-c", code], run_directory=directory)

    return start


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_attach_shows_all_of_it_and_returns_its_exit_code(
    started: Callable[..., jobs.Job], out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    directory = out / "runs" / "night-1"
    directory.mkdir(parents=True)
    job = started(
        "night-1", "import sys, time; print('a'); time.sleep(1); print('\\x1b[2Jb', end=''); sys.exit(3)", directory
    )
    assert job.state == "running"
    assert os.getsid(job.facts["process"]["pid"]) == job.facts["process"]["pid"]  # a terminal's end does not reach it
    assert run(["campaign", "attach"]) == 3
    shown = capsys.readouterr().out
    assert shown.startswith("a\n") and "b" in shown and "\x1b" not in shown
    assert (directory / "terminal.log").read_text("utf-8") == job.log.read_text("utf-8")
    assert (job.state, job.exit_code) == ("ended", 3)
    with pytest.raises(ConfigurationError, match="exists already"):
        started("night-1", "pass")


def test_cancel_is_ctrl_c_and_waits_for_the_end(
    started: Callable[..., jobs.Job], capsys: pytest.CaptureFixture[str]
) -> None:
    job = started("night-2", SLEEPS)
    until(lambda: "it runs" in job.log.read_text("utf-8"))
    assert run(["campaign", "cancel", "night-2"]) == 0
    assert "KeyboardInterrupt" in job.log.read_text("utf-8")
    assert job.exit_code == 130
    assert run(["campaign", "cancel", "night-2"]) == 2
    assert "does not run" in capsys.readouterr().err
    assert run(["campaign", "list"]) == 0
    assert "night-2" in capsys.readouterr().out


def test_one_that_does_not_end_is_told_and_killed_only_when_asked(
    started: Callable[..., jobs.Job], capsys: pytest.CaptureFixture[str]
) -> None:
    job = started("night-3", f"import signal; signal.signal(signal.SIGINT, signal.SIG_IGN); {SLEEPS}")
    until(lambda: "it runs" in job.log.read_text("utf-8"))
    assert run(["campaign", "cancel", "last", "--timeout", "0.5s"]) == 3
    assert "--kill" in capsys.readouterr().err and job.state == "running"
    assert run(["campaign", "cancel", "last", "--timeout", "0.5s", "--kill"]) == 0
    assert (job.state, run(["campaign", "attach"])) == ("killed", 3)


def test_a_name_that_is_unknown_is_refused_with_those_there_are(
    started: Callable[..., jobs.Job], capsys: pytest.CaptureFixture[str]
) -> None:
    started("night-4", "pass")
    assert run(["campaign", "attach", "day"]) == 2
    assert "night-4" in capsys.readouterr().err
