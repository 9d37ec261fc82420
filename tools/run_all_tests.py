"""``make test``: the set-up, the linters, the unit tests, the integration tests, and an honest summary.

mypy and the unit tests fill the time in which integration tests wait for boards: they run beside those, at a low
priority, and their output comes when they have ended.  Integration tests that need the whole host (no marker) leave
the most of it free, and come first; those that measure (marker ``quiet``) have it for themselves.

Exit codes: 0 everything ran and passed; 1 something failed; 3 what ran passed, but this host could not run all
of it (not root, or a kernel that lacks something), unless ``ALLOW_PARTIAL=1``; 130 interrupted.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from hil.core import paths
from hil.errors import HilError
from hil.host.doctor.this_host import diagnose

LINT_DEADLINE_S = 300.0
TURN_DEADLINE_S = 2400.0
"""For the integration tests of another checkout to end (`tests/integration/conftest.py`)."""
BESIDE_DEADLINE_S = 900.0 + TURN_DEADLINE_S
"""For what runs beside the integration tests, behind them and behind those of another checkout."""
SIDE_BY_SIDE_DEADLINE_S = 900.0 + TURN_DEADLINE_S
ONE_AT_A_TIME_DEADLINE_S = 1500.0 + TURN_DEADLINE_S
SETUP_DEADLINE_S = 1200.0
INTERRUPTED = 130
PARTIAL = 3
UNIT_WORKERS = 2
REPEATED_AT_MOST = 5
LAST = ("setsid", "sh", "-c", 'echo 5 >/proc/self/autogroup; exec nice -n 5 "$@"', "sh")
"""Runs a command behind the others: where the kernel groups tasks by session (autogroup),
niceness alone holds only within a session, and boards and links have sessions of their own."""
WORKERS = 3
"""For tests side by side, at least: more than a small host has cores, because they wait much of the time."""


@dataclass(frozen=True)
class Stage:
    """One step of ``make test``."""

    name: str
    argv: tuple[str, ...]
    deadline_s: float
    pytest: bool = False
    lab: bool = False
    """Needs what the virtual lab needs: root, a fit kernel and, but for the set-up itself, the set-up."""
    beside: bool = False
    """Runs beside the stages of the lab that come next, where this host can run those."""
    alone: bool = False
    """Begins when nothing runs beside it any more."""
    again: tuple[str, ...] = ()
    """Arguments of pytest that repeat its failures at the end, alone: a few that pass then are told, and no failure."""


@dataclass
class Outcome:
    """What became of a stage.  For pytest stages the counts are of tests."""

    stage: str
    seconds: float = 0.0
    ok: bool = True
    passed: int = 0
    failed: int = 0
    skipped: list[tuple[str, str]] = field(default_factory=list)
    """(test, reason)"""
    failures: list[str] = field(default_factory=list)
    passed_alone: list[str] = field(default_factory=list)
    """Tests that failed while others ran beside them, and passed when nothing did."""
    counted: bool = False
    """True when the counts are of tests; else ``failed`` is 1 for the whole stage."""
    not_run: str = ""
    """Why the whole stage did not run here."""

    @property
    def line(self) -> str:
        """One line of the summary."""
        if self.not_run:
            return f"could not run here: {self.not_run}"
        if self.counted:
            counts = f"{self.passed} passed, {self.failed} failed"
            return counts + (f", {len(self.skipped)} skipped" if self.skipped else "")
        return "ok" if self.ok else "FAILED"


def stages() -> list[Stage]:
    """All of them, in order."""
    python = sys.executable
    unit = (python, "-m", "pytest", "tests/unit", "tests/benchmarks")
    integration = (python, "-m", "pytest", "tests/integration", "--durations=15")
    return [
        Stage("set-up", (python, "-m", "hil.cli", "setup"), SETUP_DEADLINE_S, lab=True),
        Stage("ruff check", (python, "-m", "ruff", "check"), LINT_DEADLINE_S),
        Stage("ruff format", (python, "-m", "ruff", "format", "--check", "--quiet"), LINT_DEADLINE_S),
        Stage("mypy", (python, "-m", "mypy"), BESIDE_DEADLINE_S, beside=True),
        Stage(
            "unit tests",
            (*unit, "-n", str(max(UNIT_WORKERS, os.cpu_count() or 1))),
            BESIDE_DEADLINE_S,
            pytest=True,
            beside=True,
            again=unit[2:],
        ),
        Stage(
            "integration tests one at a time",
            (*integration, "-m", "not side_by_side and not quiet"),
            ONE_AT_A_TIME_DEADLINE_S,
            pytest=True,
            lab=True,
            again=(*integration[2:], "-m", "not side_by_side and not quiet"),
        ),
        Stage(
            "integration tests side by side",
            (
                *(*integration, "-m", "side_by_side", "-n", str(WORKERS)),
                *("--dist", "loadscope", "--no-loadscope-reorder"),
            ),
            SIDE_BY_SIDE_DEADLINE_S,
            pytest=True,
            lab=True,
            again=(*integration[2:], "-m", "side_by_side"),
        ),
        Stage(
            "integration tests that measure",
            (*integration, "-m", "quiet"),
            ONE_AT_A_TIME_DEADLINE_S,
            pytest=True,
            lab=True,
            alone=True,
        ),
    ]


def why_no_lab() -> str:
    """Why set-up and integration tests cannot run on this host; empty when they can (after set-up)."""
    if os.geteuid() != 0:
        return "needs root"
    bad = [c for c in diagnose() if c.status == "fail" and c.id not in ("host-packages", "docker", "links")]
    return "; ".join(f"{c.id}: {c.found}" for c in bad)


def run_stage(stage: Stage, scratch: Path, beside: Beside | None = None) -> Outcome:
    """Run one stage with its output going straight through, or kept where it runs beside others."""
    if beside is None:
        print(f"\n== {stage.name}", flush=True)
    start = time.monotonic()
    report = scratch / f"{stage.name.replace(' ', '-')}.xml"
    argv = list(stage.argv)
    if stage.pytest:
        argv += [f"--junitxml={report}", "-o", f"cache_dir={scratch / stage.name.partition(',')[0].replace(' ', '-')}"]
    code = _run(argv, stage.deadline_s) if beside is None else beside.run(argv, stage.deadline_s)
    outcome = read_junit(stage.name, report) if stage.pytest else Outcome(stage.name)
    outcome.seconds = time.monotonic() - start
    outcome.ok = code == 0
    if code != 0 and not outcome.failed:
        outcome.failed = 1  # the stage itself: lint, a crash, a deadline
    return outcome


class Beside:
    """Stages that run one after another beside the integration tests, at a low priority; their output is kept."""

    def __init__(self, scratch: Path) -> None:
        self._scratch, self._said = scratch, scratch / "beside.log"
        self._stages: list[Stage] = []
        self._outcomes: list[Outcome] = []
        self._child: subprocess.Popen[bytes] | None = None
        self._thread: threading.Thread | None = None
        self._ended = False

    def add(self, stage: Stage) -> None:
        self._stages.append(stage)

    def start(self) -> None:
        """Begin with the stages that were added."""
        if self._stages and self._thread is None:
            print(f"\nbeside what follows: {', '.join(stage.name for stage in self._stages)}", flush=True)
            self._thread = threading.Thread(target=self._run_all, name="beside")
            self._thread.start()

    def _run_all(self) -> None:
        for stage in self._stages:
            if self._ended:
                return
            with self._said.open("a") as said:
                said.write(f"\n== {stage.name}\n")
            self._outcomes.append(run_stage(stage, self._scratch, self))

    def run(self, argv: Sequence[str], deadline_s: float) -> int:
        with self._said.open("a") as said:
            self._child = subprocess.Popen([*LAST, *argv], cwd=paths.ROOT, stdout=said, stderr=said, env=_environment())
            if self._ended:
                self._child.terminate()
            return _end_of(self._child, deadline_s)

    def outcomes(self) -> list[Outcome]:
        """Wait for the stages, print what they said, and return what became of them; once."""
        if self._thread is not None:
            self._thread.join()
            print(self._said.read_text(errors="replace"), flush=True)
        found, self._stages, self._outcomes, self._thread = self._outcomes, [], [], None
        self._said.unlink(missing_ok=True)
        return found

    def end(self) -> None:
        """End what runs, and begin nothing more."""
        self._ended = True
        if self._child is not None:
            self._child.terminate()
        if self._thread is not None:
            self._thread.join()


def read_junit(stage: str, report: Path) -> Outcome:
    """Counts and skip reasons of a pytest run; no counts when it did not come to write its report."""
    outcome = Outcome(stage)
    try:
        root = ET.parse(report).getroot()
    except (OSError, ET.ParseError):
        return outcome
    for case in root.iter("testcase"):
        name = f"{case.get('classname')}::{case.get('name')}"
        skipped = case.find("skipped")
        if case.find("failure") is not None or case.find("error") is not None:
            outcome.failed += 1
            outcome.failures.append(name)
        elif skipped is not None:
            outcome.skipped.append((name, skipped.get("message") or "no reason given"))
        else:
            outcome.passed += 1
    outcome.counted = bool(outcome.passed or outcome.failed or outcome.skipped)
    return outcome


def repeat_alone(stage: Stage, outcome: Outcome, scratch: Path) -> None:
    """Repeat a few failures of a stage that had not the host to itself; what passes now has passed, and is told."""
    if not stage.again or not 0 < len(outcome.failures) <= REPEATED_AT_MOST:
        return
    argv = (sys.executable, "-m", *stage.again, "--last-failed", "--last-failed-no-failures", "none")
    once_more = Stage(f"{stage.name}, failures alone", argv, stage.deadline_s, pytest=True)
    repeated = run_stage(once_more, scratch)
    if repeated.ok and repeated.passed == outcome.failed:
        outcome.passed_alone, outcome.failures = outcome.failures, []
        outcome.passed, outcome.failed, outcome.ok = outcome.passed + outcome.failed, 0, True


def summary(outcomes: Sequence[Outcome], took_s: float) -> str:
    """What ran, what this host could not run, and the counts in the last line; some stages ran beside others."""
    width = max(len(o.stage) for o in outcomes)
    lines = ["", "== what ran"]
    lines += [f"  {o.stage:<{width}}  {o.line}  ({o.seconds:.1f} s)" for o in outcomes if not o.not_run]
    if flaky := [f"  {name}" for o in outcomes for name in o.passed_alone]:
        lines += ["== failed beside others, passed alone", *flaky]
    lines += ["== what this host could not run"]
    lacking = [f"  {o.stage}: {o.not_run}" for o in outcomes if o.not_run]
    lacking += [f"  {name}: {reason}" for o in outcomes for name, reason in o.skipped]
    lines += lacking or ["  nothing: all of it ran"]
    passed, failed = sum(o.passed for o in outcomes), sum(o.failed for o in outcomes)
    skipped = sum(len(o.skipped) for o in outcomes)
    counts = f"{passed} passed, {failed} failed" + (f", {skipped} skipped" if skipped else "")
    lines.append(f"{counts} in {took_s:.0f} s")
    return "\n".join(lines)


def exit_code(outcomes: Sequence[Outcome], *, allow_partial: bool) -> int:
    """0, 1 or 3; see the module.  Single skipped tests are reported, not counted as partial."""
    if any(not o.ok for o in outcomes):
        return 1
    return PARTIAL if any(o.not_run for o in outcomes) and not allow_partial else 0


class Terminated(KeyboardInterrupt):
    """SIGTERM came, to this process alone: its children have not heard of it."""


def terminated(*_: object) -> None:
    raise Terminated


def main() -> int:
    """Run everything that this host can; the exit code."""
    no_lab, start = why_no_lab(), time.monotonic()
    outcomes: list[Outcome] = []
    with tempfile.TemporaryDirectory(prefix="hil-selftest-") as scratch:
        beside = Beside(Path(scratch))
        try:
            for stage in stages():
                lab_works = not no_lab and (not outcomes or outcomes[0].ok)
                if stage.lab and not lab_works:
                    outcomes.append(Outcome(stage.name, not_run=no_lab or "set-up failed, see above"))
                elif stage.beside and lab_works:
                    beside.add(stage)
                else:
                    if stage.alone:
                        outcomes += beside.outcomes()
                    elif stage.lab and outcomes:
                        beside.start()
                    outcomes.append(run_stage(stage, Path(scratch)))
            outcomes += beside.outcomes()
            for stage in stages():
                for outcome in outcomes:
                    if outcome.stage == stage.name:
                        repeat_alone(stage, outcome, Path(scratch))
        except KeyboardInterrupt:
            beside.end()
            print("\ninterrupted", file=sys.stderr)
            return INTERRUPTED
    _say_leftovers()
    print(summary(outcomes, time.monotonic() - start), flush=True)
    return exit_code(outcomes, allow_partial=bool(os.environ.get("ALLOW_PARTIAL")))


def _say_leftovers() -> None:
    """Tests switch off what they switched on; if one did not, say so instead of leaving it to be found."""
    if os.geteuid() != 0:
        return
    from hil.bench.clean import clean

    try:
        left = clean(dry_run=True).removed
    except HilError as exc:
        print(f"\ncould not look for leftovers: {exc}", flush=True)
        return
    if left:
        print("\n== left behind (`hil clean` removes it)", *(f"  {x}" for x in left), sep="\n", flush=True)


def _environment() -> dict[str, str]:
    """Return the environment of the stages: the many programs that tests start find their modules compiled."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}


def _run(argv: Sequence[str], deadline_s: float) -> int:
    """Exit code of a child that shares our terminal; it is asked to end at the deadline, or with us."""
    with subprocess.Popen(argv, cwd=paths.ROOT, env=_environment()) as child:
        try:
            return _end_of(child, deadline_s)
        except Terminated:
            child.terminate()
            _wait_or_kill(child)
            raise
        except KeyboardInterrupt:
            # The terminal has sent Ctrl-C to the child as well: give it time to switch everything off.
            _wait_or_kill(child)
            raise


def _end_of(child: subprocess.Popen[bytes], deadline_s: float) -> int:
    try:
        return child.wait(timeout=deadline_s)
    except subprocess.TimeoutExpired:
        print(f"\ndid not end within {deadline_s:.0f} s", file=sys.stderr)
        child.terminate()
    _wait_or_kill(child)
    return child.returncode or 1


def _wait_or_kill(child: subprocess.Popen[bytes], patience_s: float = 60.0) -> None:
    try:
        child.wait(timeout=patience_s)
    except subprocess.TimeoutExpired:
        child.kill()


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, terminated)
    sys.exit(main())
