"""What SIGKILL leaves, and what a bench that cannot come up leaves: nothing, or what `hil clean` names and removes."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from hil import paths
from hil.bench.bench import Bench
from hil.bench.clean import clean
from hil.bench.state import read_state
from hil.errors import BenchError
from hil.links.engines.detect import detect
from hil.wait import wait_until
from tests.integration.host_state import leftovers

pytestmark = pytest.mark.integration

LAB = paths.ROOT / "lab/virtual.yaml"


def start(name: str) -> subprocess.Popen[bytes]:
    """A process that brings up a bench, says so, and waits to be killed."""
    script = (
        "import time\nfrom pathlib import Path\nfrom hil.bench.bench import Bench\n"
        f"with Bench(Path({str(LAB)!r}), name={name!r}):\n    print('up', flush=True)\n    time.sleep(600)\n"
    )
    return subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, start_new_session=True)


@pytest.mark.parametrize("moment", range(10))
def test_a_killed_owner_takes_its_bench_along(moment: int) -> None:
    owner = start(f"killed{moment}")
    time.sleep(random.Random(moment).uniform(0.3, 6.0))
    owner.kill()
    owner.communicate()
    wait_until(lambda: not leftovers(), what="the keeper to notice and take its bench down", deadline_s=60)


def test_hil_clean_removes_and_names_what_a_killed_keeper_left() -> None:
    owner = start("orphan")
    try:
        assert owner.stdout is not None
        assert owner.stdout.readline() == b"up\n"
        state = read_state("orphan")
        assert state is not None
        os.kill(state.keeper_pid, signal.SIGKILL)
    finally:
        owner.kill()
        owner.communicate()
    assert any("orphan" in found for found in leftovers())
    removed = "\n".join(str(item) for item in clean().removed)
    assert "hil.orphan.a1" in removed
    assert "hil.orphan.box" in removed
    assert leftovers() == []


def test_a_kept_bench_outlives_who_brought_it_up_and_ends_on_command() -> None:
    hil = [sys.executable, "-m", "hil.cli"]
    subprocess.run(
        [*hil, "bench", "up", "--lab", str(LAB), "--name", "kept"],
        check=True,
        capture_output=True,
        timeout=120,
    )
    try:
        shown = subprocess.run([*hil, "bench", "status"], check=True, capture_output=True, text=True).stdout
        assert "kept" in shown
    finally:
        subprocess.run([*hil, "bench", "down", "kept"], check=True, capture_output=True, timeout=120)
    assert leftovers() == []


def test_a_lab_that_cannot_come_up_says_why_and_leaves_nothing(tmp_path: Path) -> None:
    lab = tmp_path / "lab.yaml"
    lab.write_text(LAB.read_text().replace("engine: auto", "engine: kernel"))
    if detect().kind == "kernel":
        with Bench(lab, name="forced"):
            pass
    else:
        with pytest.raises(BenchError, match="netem"), Bench(lab, name="forced"):
            pass
    assert leftovers() == []
