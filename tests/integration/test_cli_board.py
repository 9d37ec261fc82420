"""`hil board` on a real bench of container boards and Jetson-driven stand-ins: what each verb prints and does."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hil import netns
from hil.bench.leftovers import keepers
from tests.integration.test_host_cli import Terminal

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
]

NAME = "hiltboard"
LAB = "lab/mixed.yaml"
BOTH = pytest.mark.parametrize("board", ["a1", "b1"])  # a container board, and one with the Jetson driver
HIL = (sys.executable, "-m", "hil.cli")


def hil(*arguments: str, timeout_s: float = 120) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*HIL, *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout_s,
        env={**os.environ, "HIL_BENCH": NAME},
    )


def good(*arguments: str) -> str:
    done = hil(*arguments)
    assert done.returncode == 0, done.stderr + done.stdout
    return done.stdout


def data(*arguments: str) -> Any:
    return json.loads(good(*arguments, "--json"))


@pytest.fixture(scope="module", autouse=True)
def bench() -> Iterator[None]:
    done = hil("bench", "up", "--lab", LAB, "--name", NAME, timeout_s=900)
    assert done.returncode == 0, done.stderr
    yield
    if NAME in keepers():
        good("bench", "down", NAME)
    assert netns.names(f"hil.{NAME}.") == []


@BOTH
def test_show_tells_what_the_board_itself_says(board: str) -> None:
    found = data("board", "show", board)
    assert found["driver"] == ("container" if board == "a1" else "jetson") and found["power"] == "on"
    assert found["identity"]["slot"] == found["running"] and found["sensors"]["tj_c"] > 0
    assert found["problems"] == [] and Path(found["console"]["log"]).is_file()
    page = good("board", "show", board)
    assert found["identity"]["serial"] in page and found["identity"]["boot_id"] in page


@BOTH
def test_slots_are_those_of_the_firmware_and_the_next_one_can_be_chosen(board: str) -> None:
    before = data("board", "slots", board)
    other = "B" if before["active"] == "A" else "A"
    try:
        assert data("board", "slots", board, "--next", other)["active"] == other
        told = good("board", "shell", board, "--", "nvbootctrl", "dump-slots-info")
        assert f"Active bootloader slot: {other}" in told
    finally:
        assert data("board", "slots", board, "--next", before["active"])["active"] == before["active"]


def test_a_command_runs_on_every_board_of_both_kinds() -> None:
    rows = json.loads(good("board", "run", "all", "--json", "--", "cat", "/proc/sys/kernel/random/boot_id"))
    assert [row["board"] for row in rows] == ["a1", "a2", "a3", "b1", "b2", "b3"]
    assert len({row["stdout"] for row in rows}) == 6 and {row["exit_code"] for row in rows} == {0}
    assert hil("board", "run", "a1,b1", "--", "false").returncode == 1


@BOTH
def test_watch_prints_a_document_per_look_until_it_is_interrupted(board: str) -> None:
    argv = [*HIL, "board", "watch", board, "--bench", NAME, "--every", "0.5s", "--json"]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as child:
        assert child.stdout is not None
        looks = [json.loads(child.stdout.readline()) for _ in range(3)]
        child.send_signal(signal.SIGINT)
        assert child.wait(timeout=30) == 0
    assert looks[0]["at"] < looks[1]["at"] < looks[2]["at"]
    assert all(look["sensors"]["tj_c"] > 0 for look in looks)
    assert "tj" in good("board", "watch", board, "--once")


@BOTH
def test_the_live_view_shows_the_sensors_in_a_terminal_and_q_ends_it(board: str) -> None:
    screen = Terminal("board", "watch", board, "--bench", NAME)
    screen.wait_for(rb"(?s)lowest.*tj +\d+\.\d \xc2\xb0C")
    screen.type(b"q")
    assert screen.exit_code() == 0


@BOTH
def test_a_reset_is_over_when_the_os_answers_with_a_new_boot_id(board: str) -> None:
    before = data("board", "show", board)["identity"]["boot_id"]
    done = data("board", "reset", board, "--wait")
    assert done["power"] == "on" and done["boot_id"] != before
    assert data("board", "power", board, "state") == {"name": board, "power": "on"}


@BOTH
def test_a_file_goes_there_and_back_with_figures(board: str, tmp_path: Path) -> None:
    sent = tmp_path / "sent"
    sent.write_bytes(os.urandom(100_000))
    assert data("board", "push", board, str(sent), "/data/sent")["size_bytes"] == 100_000
    assert data("board", "pull", board, "/data/sent", str(tmp_path / "back"))["connections"] == 1
    assert (tmp_path / "back").read_bytes() == sent.read_bytes()


@BOTH
def test_what_is_a_container_is_not_flashed(board: str, tmp_path: Path) -> None:
    done = hil("board", "flash", board, "--tree", str(tmp_path), "--yes")
    assert done.returncode == 2 and f"{board} is a container board" in done.stderr
