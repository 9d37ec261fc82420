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

from hil.bench.bench import Bench
from hil.bench.clean import clean
from hil.bench.state import read_state
from hil.core.wait import wait_until
from hil.errors import BenchError
from hil.links.engines.kinds import choose
from tests.kits import checkout
from tests.kits.hil_command import Hil
from tests.kits.host_state import leftovers

pytestmark = pytest.mark.integration

LAB = checkout.TWO_BOARDS


def start(name: str) -> subprocess.Popen[bytes]:
    """A process that brings up a bench, says so, and waits to be killed."""
    script = (
        "import time\nfrom pathlib import Path\nfrom hil.bench.bench import Bench\n"
        f"with Bench(Path({str(LAB)!r}), name={name!r}):\n    print('up', flush=True)\n    time.sleep(600)\n"
    )
    return subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, start_new_session=True)


def kill_keeper(name: str) -> None:
    """Of a bench that has just come up; and who brought it up."""
    owner = start(name)
    try:
        assert owner.stdout is not None
        assert owner.stdout.readline() == b"up\n"
        state = read_state(name)
        assert state is not None
        os.kill(state.keeper_pid, signal.SIGKILL)
    finally:
        owner.kill()
        owner.communicate()


def test_killed_owners_take_their_benches_along() -> None:
    """Six at once, each killed at a moment of its own: before, while and after its bench comes up."""
    draw, began = random.Random(0), time.monotonic()
    owners = [(start(f"killed{number}"), 0.3 + 1.3 * (number + draw.random())) for number in range(6)]
    for owner, moment_s in sorted(owners, key=lambda each: each[1]):
        time.sleep(max(0.0, began + moment_s - time.monotonic()))
        owner.kill()
        owner.communicate()
    wait_until(lambda: not leftovers(), what="the keepers to notice and take their benches down", deadline_s=60)


def test_hil_clean_removes_and_names_what_a_killed_keeper_left() -> None:
    kill_keeper("orphan")
    assert any("orphan" in found for found in leftovers())
    removed = "\n".join(str(item) for item in clean().removed)
    assert "hil.orphan.a1" in removed
    assert "hil.orphan.box" in removed
    assert leftovers() == []


def test_a_bench_comes_up_in_the_place_of_one_of_its_name_that_was_killed() -> None:
    kill_keeper("orphan")
    with Bench(LAB, name="orphan") as bench:
        assert {board.identity().slot for board in bench.boards.values()} == {"A"}
    assert not leftovers()


def test_a_kept_bench_outlives_who_brought_it_up_and_ends_on_command() -> None:
    hil = Hil()
    hil.good("bench", "up", "--lab", str(LAB), "--name", "kept")
    try:
        assert "kept" in hil.good("bench", "status")
    finally:
        hil.good("bench", "down", "kept")
    assert leftovers() == []


def test_a_lab_that_cannot_come_up_says_why_and_leaves_nothing(tmp_path: Path) -> None:
    lab = tmp_path / "lab.yaml"
    lab.write_text(LAB.read_text().replace("engine: auto", "engine: kernel"))
    if choose().name == "kernel":
        with Bench(lab, name="forced"):
            pass
    else:
        with pytest.raises(BenchError, match="netem"), Bench(lab, name="forced"):
            pass
    assert leftovers() == []


def test_a_nic_of_somebody_else_is_left_alone_whatever_its_name() -> None:
    script = (
        "ip link add hilflight0 type veth peer name hilflight1 && "
        f"{sys.executable} -m hil.cli clean --json && ip -br link show dev hilflight0"
    )
    done = subprocess.run(["unshare", "--net", "sh", "-c", script], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and "hilflight0" in done.stdout.rpartition("}")[2], done.stderr
