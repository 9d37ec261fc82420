"""The campaign's relay across an end of contact that the orbit makes, on a real bench."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from hil.core import paths

pytestmark = [pytest.mark.integration, pytest.mark.side_by_side]

LAB = paths.ROOT / "lab/brief-gap.yaml"
SHALLOW = ("phase_deg: 9.15 ", "phase_deg: 9.11 ")
"""The line dips less far: closed from 00:04:06.9 to 00:04:11.6, then 5 s of acquisition. In the dark for ten seconds
is past all patience of a transfer's connections (0.8 s), and the test does not wait for the 19 s of the lab."""
EPOCHS = ("2026-03-21T00:03:28Z", "2026-03-21T00:02:28Z")
"""39 s before the contact ends: twice what bring-up, calibration and two uploads take; where this host was too busy
for that, a minute more."""
PLAN = paths.ROOT / "testplans/six_gpu"


@pytest.fixture
def lab(tmp_path: Path) -> Path:
    """The lab of the brief gap with a briefer one."""
    orbit = (LAB.parent / "orbits" / LAB.name).read_text("utf-8")
    assert orbit.count(SHALLOW[0]) == 1
    (tmp_path / "orbits").mkdir()
    (tmp_path / "orbits" / LAB.name).write_text(orbit.replace(*SHALLOW), "utf-8")
    (tmp_path / LAB.name).write_text(LAB.read_text("utf-8"), "utf-8")
    return tmp_path / LAB.name


def test_a_relay_that_the_end_of_a_contact_interrupts_goes_on_in_the_next_one(lab: Path, tmp_path: Path) -> None:
    files = [str(PLAN / name) for name in ("test_1_readiness.py", "test_2_upload.py")]
    for epoch in EPOCHS:
        name = f"gap-{epoch[14:16]}"
        options = ["--lab", str(lab), "--epoch", epoch, "--hil-out", str(tmp_path), "--run-id", name]
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-v", *files, *options],
            cwd=paths.ROOT,
            capture_output=True,
            text=True,
            timeout=300,
        )
        # The relay was ready before the contact ended, and the other tests let its first byte through in time.
        if "waiting" in done.stdout and "before the first byte" not in done.stdout:
            break
    run = tmp_path / "runs" / name
    result: dict[str, Any] = json.loads((run / "result.json").read_text("utf-8"))
    verdicts = {test["step"]: test["verdict"] for test in result["tests"]}
    assert verdicts["relay"] == "PASS", done.stdout
    assert verdicts["detour"] == "NOT RUN"
    assert "waiting" in done.stdout and "bytes flow again" in done.stdout

    events = [json.loads(line) for line in (run / "evidence.jsonl").read_text("utf-8").splitlines()]
    (gap,) = [event for event in events if event["kind"] == "contact.gap"]
    assert 0 < gap["bytes_at_close"] <= gap["bytes_held"]
    assert gap["flowed_again_s"] >= gap["opens_s"] > gap["closes_s"] + 8.0
    assert not [
        event
        for event in events
        if event["kind"] == "link.cut" and event["link"] in gap["links"] and event.get("why") != "calibration"
    ]
