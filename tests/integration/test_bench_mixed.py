"""A bench of container boards and Jetson-driven stand-ins: one lab, two drivers, and nobody has to know which."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from hil import paths
from hil.bench.bench import Bench
from hil.boards.container import ContainerBoard
from hil.boards.jetson.board import JetsonBoard
from hil.boards.protocol import Fidelity, PowerState, Via
from tests.integration.host_state import leftovers, network_of_this_host

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def bench() -> Iterator[Bench]:
    before = network_of_this_host()
    with Bench(paths.ROOT / "lab/mixed.yaml", name="mixedtest") as up:
        assert network_of_this_host() == before, "the strip of stand-ins must not show on the host"
        yield up
    assert leftovers() == []


def hil(*argv: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "hil.cli", *argv],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        stdin=subprocess.DEVNULL,
        env={**os.environ, "HIL_BENCH": "mixedtest"},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_each_board_has_the_driver_of_the_lab_file_and_its_fidelity_class(bench: Bench) -> None:
    kinds = [type(board) for board in bench.boards.values()]
    assert kinds == [ContainerBoard] * 3 + [JetsonBoard] * 3
    assert {board.fidelity for board in bench.boards.values()} == {Fidelity.VIRTUAL}


def test_a_container_board_reaches_a_stand_in_over_the_crosslink_and_the_ground_reaches_both(
    bench: Bench,
) -> None:
    with bench.boards["a1"].shell() as shell:
        shell.run(["ping", "-c1", "-W2", "b2"])
    for name in ("a1", "b3"):
        with bench.boards[name].shell(Via.FLIGHT) as shell:
            assert shell.run(["hostname"]).stdout.strip() == name


def test_a_stand_in_is_power_cycled_from_the_command_line_through_its_strip(bench: Bench) -> None:
    before = bench.boards["b1"].identity()
    assert "b1: on" in hil("board", "power", "b1", "reset", "--wait")
    assert bench.boards["b1"].identity().boot_id != before.boot_id
    assert hil("board", "shell", "b1", "--", "hostname").strip() == "b1"
    assert "login:" in hil("board", "console", "b1", "--log")


def test_the_list_shows_a_stand_in_that_is_off_without_its_slots(bench: Bench) -> None:
    assert "b2: off" in hil("board", "power", "b2", "off")
    rows = {row["name"]: row for row in json.loads(hil("board", "list", "--json"))}
    assert (rows["b2"]["power"], rows["b2"]["running"], rows["b2"]["active"]) == ("off", None, None)
    assert rows["b3"]["running"] == "A"
    assert rows["b2"]["problems"] == []
    bench.boards["b2"].supervisor.on()
    assert bench.boards["b2"].wait_booted().os_version
    assert bench.boards["b2"].supervisor.state() is PowerState.ON


def test_a_file_goes_there_and_back_from_the_command_line(bench: Bench, tmp_path: Path) -> None:
    there, back = tmp_path / "there", tmp_path / "back"
    there.write_bytes(os.urandom(3_000_001))
    assert "3,000,001 bytes, digest compared" in hil("board", "push", "b1", str(there), "/data/pushed")
    assert "3,000,001 sent" in hil("board", "pull", "b1", "/data/pushed", str(back))
    assert back.read_bytes() == there.read_bytes()
