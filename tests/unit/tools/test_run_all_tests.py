"""`make test` says what ran, what could not run here, and never hides a failure."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from hil.core import paths
from tools import run_all_tests
from tools.run_all_tests import Beside, Outcome, Stage, exit_code, read_junit, repeat_alone, run_stage, summary

JUNIT = """<?xml version="1.0"?><testsuites><testsuite>
<testcase classname="tests.unit.test_x" name="test_a"/>
<testcase classname="tests.unit.test_x" name="test_b"><failure message="x"/></testcase>
<testcase classname="tests.unit.test_x" name="test_c"><error message="x"/></testcase>
<testcase classname="tests.unit.test_x" name="test_d"><skipped message="this kernel has no netem"/></testcase>
</testsuite></testsuites>"""


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the stages that ran; set-up fails, the others pass."""
    names: list[str] = []

    def run(stage: Stage, _: Path, beside: Beside | None = None) -> Outcome:
        names.append(f"{stage.name} beside" if beside else stage.name)
        return Outcome(stage.name, ok=stage.name != "set-up", passed=1)

    monkeypatch.setattr(run_all_tests, "run_stage", run)
    monkeypatch.setattr(run_all_tests, "_say_leftovers", lambda: None)
    monkeypatch.delenv("ALLOW_PARTIAL", raising=False)
    return names


def test_counts_and_skip_reasons_come_from_pytests_own_report(tmp_path: Path) -> None:
    (tmp_path / "r.xml").write_text(JUNIT)
    outcome = read_junit("unit tests", tmp_path / "r.xml")
    assert (outcome.passed, outcome.failed) == (1, 2)
    assert outcome.skipped == [("tests.unit.test_x::test_d", "this kernel has no netem")]


@pytest.mark.parametrize(("code", "deadline_s"), [("raise SystemExit(4)", 30.0), ("import time; time.sleep(60)", 0.2)])
def test_a_stage_that_crashes_or_passes_its_deadline_has_failed(tmp_path: Path, code: str, deadline_s: float) -> None:
    outcome = run_stage(Stage("unit tests", (sys.executable, "-c", code), deadline_s, pytest=True), tmp_path)
    assert not outcome.ok and outcome.failed == 1


SHY = """
from pathlib import Path
def test_good(): pass
def test_shy():
    marker = Path(__file__).with_name("marker")
    there = marker.exists()
    marker.touch()
    assert there
def test_other(): assert {other}
"""


@pytest.mark.parametrize(("other", "passes"), [("True", True), ("False", False)])
def test_failures_of_a_stage_that_had_company_are_repeated_alone_and_told(
    tmp_path: Path, other: str, passes: bool
) -> None:
    """A test that fails again has failed."""
    (tmp_path / "test_it.py").write_text(SHY.format(other=other))
    words = ("pytest", str(tmp_path / "test_it.py"), "-q", "-p", "no:xdist")
    stage = Stage("unit tests", (sys.executable, "-m", *words), 60.0, pytest=True, again=words)
    outcome = run_stage(stage, tmp_path)
    assert not outcome.ok
    repeat_alone(stage, outcome, tmp_path)
    assert outcome.ok is passes and (outcome.failed == 0) is passes
    told = "failed beside others, passed alone" in summary([outcome], 1.0)
    assert told is passes and (outcome.passed == 3) is passes


def test_exit_codes_tell_failed_from_partial_from_passed() -> None:
    passed, failed = Outcome("a", passed=1), Outcome("b", ok=False, failed=1)
    partial = Outcome("c", not_run="needs root")
    assert exit_code([passed], allow_partial=False) == 0
    assert exit_code([passed, partial], allow_partial=False) == 3
    assert exit_code([passed, partial], allow_partial=True) == 0
    assert exit_code([passed, failed, partial], allow_partial=True) == 1


def test_a_plain_user_runs_linters_and_unit_tests_and_reads_what_did_not_run(
    ran: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert run_all_tests.main() == 3
    assert ran == ["ruff check", "ruff format", "mypy", "unit tests"]
    lines = capsys.readouterr().out.splitlines()
    assert "  integration tests one at a time: needs root" in lines
    assert lines[-1].startswith("4 passed, 0 failed in ")


def test_no_integration_test_runs_after_a_set_up_that_failed(
    ran: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(run_all_tests, "why_no_lab", lambda: "")
    assert run_all_tests.main() == 1
    assert ran == ["set-up", "ruff check", "ruff format", "mypy", "unit tests"]
    assert "integration tests one at a time: set-up failed" in capsys.readouterr().out


def test_mypy_and_unit_tests_run_beside_the_first_integration_tests_and_nothing_beside_the_last(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    began: list[str] = []
    first_may_end = threading.Event()

    def run(stage: Stage, _: Path, beside: Beside | None = None) -> Outcome:
        began.append(stage.name)
        if stage.name == "integration tests one at a time":
            assert first_may_end.wait(30)
        if stage.name == "unit tests":
            first_may_end.set()
        return Outcome(stage.name, ok=stage.name != "mypy", failed=stage.name == "mypy")

    monkeypatch.setattr(run_all_tests, "run_stage", run)
    monkeypatch.setattr(Path, "read_text", lambda *_, **__: "what they said")
    monkeypatch.setattr(run_all_tests, "_say_leftovers", lambda: None)
    monkeypatch.setattr(run_all_tests, "why_no_lab", lambda: "")
    assert run_all_tests.main() == 1  # mypy
    assert set(began[3:6]) == {"mypy", "unit tests", "integration tests one at a time"}
    assert began[6:] == ["integration tests side by side", "integration tests that measure"]
    assert "what they said" in capsys.readouterr().out


def test_what_runs_beside_has_a_low_priority_and_is_heard_at_its_end(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    beside = Beside(tmp_path)
    beside.add(Stage("mypy", (sys.executable, "-c", "import os; print('niceness', os.nice(0)); exit(4)"), 30.0))
    beside.start()
    (outcome,) = beside.outcomes()
    assert not outcome.ok and outcome.failed == 1
    assert f"\nniceness {min(19, os.nice(0) + 5)}\n" in capfd.readouterr().out
    assert beside.outcomes() == []


def test_what_runs_beside_ends_with_the_rest(tmp_path: Path) -> None:
    beside = Beside(tmp_path)
    for name in ("mypy", "unit tests"):
        beside.add(Stage(name, (sys.executable, "-c", "import time; time.sleep(600)"), 900.0))
    beside.start()
    beside.end()
    assert [outcome.ok for outcome in beside.outcomes()] in ([], [False])


def test_sigterm_ends_the_stage_that_runs() -> None:
    stage = "import os, time; print(os.getpid(), flush=True); time.sleep(600)"
    text = f"""import signal, sys
from pathlib import Path
from tools.run_all_tests import Stage, run_stage, terminated
signal.signal(signal.SIGTERM, terminated)
run_stage(Stage("it", (sys.executable, "-c", {stage!r}), 900.0), Path("/nonexistent"))
"""
    argv = [sys.executable, "-c", text]
    with subprocess.Popen(argv, cwd=paths.ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as runner:
        assert runner.stdout is not None
        child = int(next(line for line in runner.stdout if line.strip().isdigit()))
        runner.terminate()
        assert runner.wait(60) != 0
    with pytest.raises(ProcessLookupError):
        os.kill(child, 0)


def test_in_the_background_of_a_script_the_programs_of_tests_still_take_ctrl_c(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text((paths.ROOT / "tests/conftest.py").read_text())
    text = """import signal, subprocess, sys
def test_it():
    child = subprocess.Popen([sys.executable, "-c", "print(1, flush=True); import time; time.sleep(600)"], stdout=-1)
    child.stdout.read(1)
    child.send_signal(signal.SIGINT)
    try:
        assert child.wait(20) != 0
    finally:
        child.kill()
"""
    (tmp_path / "test_it.py").write_text(text)
    argv = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)]
    assert subprocess.run(["sh", "-c", 'trap "" INT; "$@"', "-", *argv]).returncode == 0
