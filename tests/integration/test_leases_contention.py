"""Many processes want the same boards, and many are killed: the small form of ``tests/benchmarks/leases.py``."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from hil.core import paths

pytestmark = [pytest.mark.integration, pytest.mark.side_by_side]


def test_forty_contenders_of_which_many_are_killed_never_share_a_board_and_all_survivors_are_served(
    tmp_path: Path,
) -> None:
    out = tmp_path / "figures.json"
    argv = [sys.executable, "-m", "tests.benchmarks.leases", "--processes", "40", "--seconds", "5"]
    argv += ["--hidden-every", "0"]  # their leases have to run out, which takes its time
    # In a process of its own: it forks, and pytest has threads.
    done = subprocess.run([*argv, "--out", str(out)], cwd=paths.ROOT, capture_output=True, text=True, timeout=180)
    assert out.exists(), done.stderr
    value = {figure["name"]: figure["value"] for figure in json.loads(out.read_text())["figures"]}
    assert value["leases: boards held twice"] == 0, done.stdout + done.stderr
    assert value["leases: survivors never served"] == 0, done.stdout + done.stderr
    assert value["leases: left over at the end"] == 0
    assert value["leases: killed with SIGKILL"] >= 5 and value["leases: granted"] >= 20
