"""The package of `examples/`, installed by pip, passes its own tests: real sshd, a strip that switches it, a fault."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.kits import checkout

pytestmark = [pytest.mark.integration, pytest.mark.side_by_side]

PACKAGE = checkout.ROOT / "examples/orbital_hil_examples"


def test_the_strip_the_board_and_the_fault_work_from_outside_the_tree(tmp_path: Path) -> None:
    site = tmp_path / "site"
    install = ["-m", "pip", "install", "-q", "--no-deps", "--no-index", "--no-build-isolation"]
    subprocess.run([sys.executable, *install, "--target", str(site), str(PACKAGE)], check=True)
    argv = [sys.executable, "-m", "pytest", "-rs", "-p", "no:cacheprovider", "--rootdir", str(PACKAGE), "tests"]
    environment = {**os.environ, "PYTHONPATH": str(site), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(argv, cwd=PACKAGE, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"\d+ passed, \d+ skipped", done.stdout)
    for reason in ("it has one root file system", "this driver reads none", "it is no Jetson"):
        assert "board h1 has no" in done.stdout and reason in done.stdout
