"""A night of three campaigns and a series of trials on two labs: killed once, gone on with, and told in the morning."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from hil.core import paths
from hil.core.wait import poll_until
from hil.evidence.record import read_json
from hil.nightly.site import build_site
from hil.report.make import make_report

pytestmark = [pytest.mark.integration, pytest.mark.side_by_side]

NAMES = ("first", "second", "third", "faults")
PLAN = """
schema: 1
id: short
title: Both boards run
purpose: Does a board run?
article: the factory OS
requirements: [{id: S-1, text: Boards run the factory OS, method: T, level: system, fidelity_needed: virtual}]
"""
TEST = """
import pytest
from hil import at_most, equals

@pytest.mark.requirement("S-1")
def test_boards_run(bench, verify):
    for name, board in bench.boards.items():
        verify("slot", board.identity().slot, limit=equals("A"), board=name)
"""
NIGHTLY = """
schema: 1
name: short
workers: 2
jobs:
- {name: first, lab: night-a.yaml, campaign: plan, deadline: 2m}
- {name: second, lab: night-b.yaml, campaign: plan, deadline: 2m}
- {name: third, lab: night-a.yaml, campaign: plan, deadline: 2m}
- {name: faults, lab: night-a.yaml, trials: faults.yaml, count: 1, seed: 1, arguments: [--no-canary], deadline: 3m}
"""
FAULTS = """
schema: 1
name: one-cut
description: the ground link is cut once
swarm: 1
faults: [1, 1]
storm_s: 60
calm_s: 60
moments: [upload]
kinds: [{fault: ground-lost, lasts_s: [0.5, 0.6]}]
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    lab = (paths.ROOT / "examples/customer/lab/first.yaml").read_text("utf-8")
    for name in ("night-a", "night-b"):
        (tmp_path / f"{name}.yaml").write_text(lab.replace("name: first", f"name: {name}", 1), "utf-8")
    (tmp_path / "plan").mkdir()
    for name, text in (("plan/plan.yaml", PLAN), ("plan/test_short.py", TEST), ("nightly.yaml", NIGHTLY)):
        (tmp_path / name).write_text(text, "utf-8")
    (tmp_path / "faults.yaml").write_text(FAULTS, "utf-8")
    return tmp_path


def hil(*words: str) -> list[str]:
    return [sys.executable, "-m", "hil.cli", "nightly", *words]


def test_a_night_that_was_killed_is_gone_on_with_and_told(folder: Path) -> None:
    out, told = folder / "out", folder / "told"
    with (folder / "nightly.yaml").open("a", encoding="utf-8") as file:
        file.write(f"notify: {{argv: [tee, {told}]}}\n")
    begun = subprocess.Popen(hil("run", str(folder / "nightly.yaml"), "--id", "n", "--out", str(out)), cwd=folder)
    assert any(at_work(out) for _ in poll_until(180.0, every_s=0.1)), "a job ended, and another one is in its test"
    os.kill(begun.pid, signal.SIGKILL)
    begun.wait()
    kept = {path: path.read_bytes() for path in jobs_of(out) if read_json(path)["ended"]}
    done = subprocess.run(
        hil("resume", "n", "--json", "--out", str(out)), cwd=folder, capture_output=True, text=True, timeout=400
    )
    assert done.returncode == 0, done.stdout + done.stderr
    night: dict[str, Any] = json.loads(done.stdout)
    jobs = {job["name"]: job for job in night["jobs"]}
    assert {name: job["verdict"] for name, job in jobs.items()} == dict.fromkeys(NAMES, "PASS")
    assert kept and all(path.read_bytes() == before for path, before in kept.items()), "what had ended is not run again"
    killed = {name: job["attempts"][0] for name, job in jobs.items() if job["attempts"][0]["exit_code"] is None}
    assert killed and not {path.stem for path in kept} & killed.keys()
    morning = (out / "nights/n/morning.md").read_text("utf-8")
    for name in killed:
        assert jobs[name]["attempts"][-1]["exit_code"] == 0
        assert f"{name}, attempt 1: killed with the night" in morning
    begun_runs = [run for each in killed.values() if (run := out / "runs" / each["run_id"] / "run.json").is_file()]
    assert begun_runs and all(make_report(run.parent).is_file() for run in begun_runs), "there is a report of it, too"
    assert told.read_text("utf-8").startswith("PASS: night short")
    assert morning.startswith("# PASS: night short") and "4 jobs: 4 PASS." in morning
    assert all(f"| {name} | PASS |" in morning for name in NAMES)
    built = build_site(out, folder / "site")
    assert built.nights == 1 and built.runs >= 3


def jobs_of(out: Path) -> list[Path]:
    return sorted((out / "nights/n/jobs").glob("*.json"))


def at_work(out: Path) -> bool:
    """Whether a job has ended, and another one is in a test of its campaign."""
    ended = {path.stem for path in jobs_of(out) if read_json(path).get("ended")}
    running = [
        path for path in out.glob("runs/*-1/evidence.jsonl") if not any(f"-{name}-1" in str(path) for name in ended)
    ]
    return bool(ended) and any('"test.start"' in path.read_text("utf-8") for path in running)
