"""An aircraft crosses the contacts of three spacecraft, is handed over twice, gets its mask, and sees nothing else."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.integration, pytest.mark.side_by_side]


def test_an_aircraft_is_handed_over_twice_gets_its_mask_once_and_sees_nothing_else(tmp_path: Path) -> None:
    words = ["campaign", "run", "guest", "--lab", "guests", "-o", str(tmp_path / "out"), "-q"]
    done = subprocess.run(
        [sys.executable, "-m", "hil.cli", *words], cwd=tmp_path, capture_output=True, text=True, timeout=400
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (path,) = tmp_path.glob("out/runs/*/result.json")
    result = json.loads(path.read_text())
    values = {each["name"]: each["value"] for test in result["tests"] for each in test["measurements"]}
    assert values["hand-overs"] == 2 and values["spacecraft that served it"] == 3
    assert values["pixels that differ"] == 0 and values["jobs that were run"] == 1
    assert values["attempts at others"] == 2 * (2 * (4 + 4 + 3) - 1) and values["of these reached"] == 0
