"""`make test` says what ran, what could not run here, and never hides a failure."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tools import run_all_tests as selftest
from tools.run_all_tests import Outcome, Stage, exit_code, read_junit, run_stage, summary

JUNIT = """<?xml version="1.0"?><testsuites><testsuite>
<testcase classname="tests.unit.test_x" name="test_a"/>
<testcase classname="tests.unit.test_x" name="test_b"><failure message="x"/></testcase>
<testcase classname="tests.unit.test_x" name="test_c"><error message="x"/></testcase>
<testcase classname="tests.unit.test_x" name="test_d"><skipped message="this kernel has no netem"/></testcase>
</testsuite></testsuites>"""


def test_counts_and_skip_reasons_come_from_pytests_own_report(tmp_path: Path) -> None:
    (tmp_path / "r.xml").write_text(JUNIT)
    outcome = read_junit("unit tests", tmp_path / "r.xml")
    assert (outcome.passed, outcome.failed) == (1, 2)
    assert outcome.skipped == [("tests.unit.test_x::test_d", "this kernel has no netem")]


def test_a_stage_that_crashes_before_its_report_counts_as_failed(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    crashed = Stage("unit tests", (sys.executable, "-c", "raise SystemExit(4)"), 30.0, pytest=True)
    outcome = run_stage(crashed, tmp_path)
    assert not outcome.ok and outcome.failed == 1


def test_a_stage_past_its_deadline_is_ended_and_failed(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    endless = Stage("mypy", (sys.executable, "-c", "import time; time.sleep(60)"), 0.2)
    outcome = run_stage(endless, tmp_path)
    assert not outcome.ok and outcome.failed == 1
    assert "did not end within" in capfd.readouterr().err


def test_the_last_line_has_the_counts_and_what_could_not_run_is_named() -> None:
    outcomes = [
        Outcome("set-up", not_run="needs root"),
        Outcome("mypy"),
        Outcome("unit tests", passed=10, skipped=[("t::d", "no netem here")]),
        Outcome("integration tests", not_run="needs root"),
    ]
    lines = summary(outcomes).splitlines()
    assert lines[-1].startswith("10 passed, 0 failed, 1 skipped in ")
    assert "  integration tests: needs root" in lines and "  t::d: no netem here" in lines


def test_when_all_of_it_ran_the_summary_says_so() -> None:
    assert "  nothing: all of it ran" in summary([Outcome("unit tests", passed=3)])


def test_a_failed_linter_shows_in_the_last_line() -> None:
    lines = summary([Outcome("mypy", ok=False, failed=1), Outcome("unit tests", passed=3)]).splitlines()
    assert any(line.split() == ["mypy", "FAILED", "(0.0", "s)"] for line in lines)
    assert lines[-1].startswith("3 passed, 1 failed")


def test_exit_codes_tell_failed_from_partial_from_passed() -> None:
    passed, failed = Outcome("a", passed=1), Outcome("b", ok=False, failed=1)
    partial = Outcome("c", not_run="needs root")
    assert exit_code([passed], allow_partial=False) == 0
    assert exit_code([passed, partial], allow_partial=False) == 3
    assert exit_code([passed, partial], allow_partial=True) == 0
    assert exit_code([passed, failed, partial], allow_partial=True) == 1


def test_a_plain_user_runs_linters_and_unit_tests_and_is_told_what_did_not_run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ran: list[str] = []
    monkeypatch.setattr(selftest.os, "geteuid", lambda: 1000)
    monkeypatch.delenv("ALLOW_PARTIAL", raising=False)
    monkeypatch.setattr(selftest, "run_stage", lambda s, _: ran.append(s.name) or Outcome(s.name, passed=1))
    assert selftest.main() == 3
    assert ran == ["ruff check", "ruff format", "mypy", "unit tests"]
    told = capsys.readouterr().out
    assert "integration tests side by side: needs root" in told
    assert "integration tests one at a time: needs root" in told


def test_no_integration_test_runs_after_a_set_up_that_failed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ran: list[str] = []

    def run(stage: Stage, _: Path) -> Outcome:
        ran.append(stage.name)
        return Outcome(stage.name, ok=stage.name != "set-up", passed=1)

    monkeypatch.setattr(selftest, "why_no_lab", lambda: "")
    monkeypatch.setattr(selftest, "run_stage", run)
    monkeypatch.setattr(selftest, "_say_leftovers", lambda: None)
    assert selftest.main() == 1
    assert ran == ["set-up", "ruff check", "ruff format", "mypy", "unit tests"]
    assert "integration tests one at a time: set-up failed" in capsys.readouterr().out


def test_every_integration_test_runs_in_one_of_the_two_stages() -> None:
    side_by_side, one_at_a_time = (s.argv for s in selftest.stages() if s.name.startswith("integration"))
    chosen = [argv[argv.index("-m", 2) + 1] for argv in (side_by_side, one_at_a_time)]
    assert chosen == ["side_by_side", "not side_by_side"]
