"""A short operation on the virtual lab: what was reckoned, uploaded and verified is evidence, as of any campaign."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.integration, pytest.mark.side_by_side]

OPERATION = """\
schema: 1
name: short
steps: {upload: {deadline: 2m}, verify: {}}
"""
ATTEMPTS = 3
"""Of a run whose watcher had to wait for this host's processor: other tests use it, too."""


def test_an_operation_runs_as_a_campaign_with_what_was_reckoned_beside_it(tmp_path: Path) -> None:
    file = tmp_path / "short.yaml"
    file.write_text(OPERATION)
    for attempt in range(ATTEMPTS):
        out = tmp_path / f"out{attempt}"
        words = ["operation", "run", str(file), "--lab", "virtual", "-o", str(out), "-q"]
        done = subprocess.run(
            [sys.executable, "-m", "hil.cli", *words], cwd=tmp_path, capture_output=True, text=True, timeout=240
        )
        if "not watched for" not in done.stdout:
            break
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Feasible; the binding constraint is" in done.stderr
    (path,) = out.glob("runs/*/result.json")
    result = json.loads(path.read_text())
    assert [requirement["id"] for requirement in result["requirements"]] == ["OPE-010", "OPE-020", "OPE-030"]
    upload = next(test for test in result["tests"] if test["step"] == "upload")
    values = {measured["name"]: measured["value"] for measured in upload["measurements"]}
    assert values["time of upload, as reckoned"] > 0 and values["time of upload"] > 0
    assert (path.parent / "artefacts/operation.yaml").read_text().startswith("schema: 1\nname: short\n")
