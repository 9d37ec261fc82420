"""The campaign's relay across an end of contact that the orbit makes, on a real bench."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from hil import paths

pytestmark = pytest.mark.integration

LAB = paths.ROOT / "lab/brief-gap.yaml"
EPOCH = "2026-03-21T00:02:55Z"
"""A minute before the contact ends: time for bring-up, calibration and two uploads."""
PLAN = paths.ROOT / "testplans/six_gpu"


def test_a_relay_that_the_end_of_a_contact_interrupts_goes_on_in_the_next_one(tmp_path: Path) -> None:
    files = [str(PLAN / name) for name in ("test_1_readiness.py", "test_2_upload.py")]
    options = ["--lab", str(LAB), "--epoch", EPOCH, "--hil-out", str(tmp_path), "--run-id", "gap"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-v", *files, *options],
        cwd=paths.ROOT,
        capture_output=True,
        text=True,
        timeout=300,
    )
    run = tmp_path / "runs/gap"
    result: dict[str, Any] = json.loads((run / "result.json").read_text("utf-8"))
    verdicts = {test["step"]: test["verdict"] for test in result["tests"]}
    assert verdicts["relay"] == "PASS", done.stdout
    assert verdicts["detour"] == "NOT RUN"
    assert "waiting" in done.stdout and "bytes flow again" in done.stdout

    events = [json.loads(line) for line in (run / "evidence.jsonl").read_text("utf-8").splitlines()]
    (gap,) = [event for event in events if event["kind"] == "contact.gap"]
    assert 0 < gap["bytes_at_close"] <= gap["bytes_held"]
    assert gap["flowed_again_s"] >= gap["opens_s"] > gap["closes_s"]
    assert not [
        event
        for event in events
        if event["kind"] == "link.cut" and event["link"] in gap["links"] and event.get("why") != "calibration"
    ]
