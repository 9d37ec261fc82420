"""The technician's commands on a real bench, and `hil clean` after its keeper was killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator

import pytest

from hil.bench.leftovers import keepers
from hil.core import netns
from hil.core.wait import wait_until
from tests.kits.hil_command import Hil, Terminal, bench_from_the_command_line

pytestmark = [
    pytest.mark.integration,
    pytest.mark.side_by_side,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
]

NAME = "hiltcli"
LAB = "lab/virtual.yaml"


hil = Hil()
good, data = hil.good, hil.data


@pytest.fixture(scope="module", autouse=True)
def bench() -> Iterator[None]:
    with bench_from_the_command_line(NAME, LAB):
        yield


def test_the_bench_is_listed_as_up() -> None:
    (row,) = [r for r in data("bench", "status") if r["name"] == NAME]
    assert row["status"] == "up" and row["live"] and row["engine"]["kind"] in ("kernel", "uml")


def test_boards_are_listed_with_power_slots_and_addresses() -> None:
    rows = {r["name"]: r for r in data("board", "list", "--bench", NAME)}
    assert list(rows) == ["a1", "a2", "a3", "b1", "b2", "b3"]
    assert {r["power"] for r in rows.values()} == {"on"} and rows["b1"]["running"] == "A"
    assert rows["b1"]["addresses"]["flight"] == "198.18.2.11"


def test_a_command_on_a_board_gives_its_output_and_its_exit_code() -> None:
    assert "num_slots: 2" in good("board", "shell", "a1", "--bench", NAME, "--", "nvbootctrl", "dump-slots-info")
    assert hil("board", "shell", "a1", "--bench", NAME, "--", "sh", "-c", "exit 7").returncode == 7
    assert good(
        "board", "shell", "b2", "--bench", NAME, "--via", "flight", "--", "cat", stdin="through the links\n"
    ) == ("through the links\n")


def test_an_unknown_board_or_link_is_told_with_those_there_are() -> None:
    done = hil("board", "power", "zz", "state", "--bench", NAME)
    assert done.returncode == 2 and "a1, a2, a3, b1, b2, b3" in done.stderr
    done = hil("link", "cut", "zz", "--bench", NAME)
    assert done.returncode == 2 and "isl-ab" in done.stderr


def test_an_interactive_shell_is_a_real_terminal_on_the_board() -> None:
    with Terminal("board", "shell", "a2", "--bench", NAME) as terminal:
        terminal.wait_for(rb"[#$] ")
        terminal.type(b"tty; hostname; exit 5\r")
        terminal.wait_for(rb"/dev/pts/\d+\s+a2\s")
        assert terminal.exit_code() == 5


def test_the_serial_console_answers_what_is_typed_and_ends_with_ctrl_bracket() -> None:
    with Terminal("board", "console", "b3", "--bench", NAME) as terminal:
        terminal.wait_for(rb"Ctrl-\] ends it")
        terminal.type(b"\r")
        terminal.wait_for(rb"(login:|[#$] )")
        terminal.type(b"\x1d")
        terminal.wait_for(rb"console closed")
        assert terminal.exit_code() == 0


def test_the_console_log_begins_with_the_firmware() -> None:
    log = good("board", "console", "a3", "--bench", NAME, "--log")
    assert "MB1" in log and "login:" in log


def test_a_board_is_cut_off_and_comes_back() -> None:
    assert good("board", "power", "b1", "cut", "--bench", NAME) == "b1: off\n"
    assert hil("board", "shell", "b1", "--bench", NAME, "--", "true").returncode in (1, 3)
    assert "runs 1.0.0 from slot A" in good("board", "power", "b1", "on", "--until-booted", "--bench", NAME)


def test_a_link_is_set_cut_and_restored_and_the_kernel_says_so() -> None:
    good("link", "set", "isl-ab", "--delay-us", "5000", "--direction", "a-to-b", "--bench", NAME)
    good("link", "cut", "isl-ab", "--bench", NAME)
    link = next(s for s in data("link", "show", "--bench", NAME)["links"] if s["name"] == "isl-ab")
    assert not link["up"] and not link["a_to_b"]["kernel"]["up"]
    done = hil("link", "probe", "isl-ab", "-n", "5", "--bench", NAME)
    assert done.returncode == 3
    good("link", "restore", "isl-ab", "--bench", NAME)
    link = next(s for s in data("link", "show", "--bench", NAME)["links"] if s["name"] == "isl-ab")
    assert link["up"] and link["a_to_b"]["commanded"]["delay_us"] == 5000
    assert link["b_to_a"]["commanded"]["delay_us"] == 14386


def test_probes_arrive_no_earlier_than_light_would() -> None:
    good("link", "set", "isl-ab", "--delay-us", "14386", "--bench", NAME)
    rows = data("link", "probe", "isl-ab", "-n", "20", "--bench", NAME)
    assert {r["direction"] for r in rows} == {"a_to_b", "b_to_a"}
    for row in rows:
        assert 0 < row["arrived"] <= row["sent"] == 20
        assert row["p0_us"] > 13_000


def test_clean_leaves_a_live_bench_alone() -> None:
    done = json.loads(hil("clean", "--dry-run", "--json").stdout)
    assert NAME in done["live"]
    assert not [x for x in done["removed"] if x["bench"] == NAME]


def test_after_its_keeper_is_killed_the_bench_is_called_lost_and_clean_takes_everything_away() -> None:
    keeper = keepers()[NAME]
    os.kill(keeper.pid, signal.SIGKILL)
    wait_until(lambda: not keeper.alive(), what="the keeper to be gone", deadline_s=10)
    done = hil("bench", "status", NAME)
    assert done.returncode == 3 and "hil clean" in done.stderr
    cleaned = json.loads(hil("clean", "--json").stdout)
    found = {(x["kind"], x["name"]) for x in cleaned["removed"] if x["bench"] == NAME}
    assert {name for kind, name in found if kind == "namespace"} >= {f"hil.{NAME}.mgmt", f"hil.{NAME}.box"}
    # While another test or set-up uses the container engine, containers are left alone: then its end is awaited.
    if not any("containers" in text for text in cleaned["live"]):
        assert {name for kind, name in found if kind == "container"} == {
            f"hil.{NAME}.{board}" for board in ("a1", "a2", "a3", "b1", "b2", "b3")
        }
    assert not cleaned["failed"]
    assert netns.names(f"hil.{NAME}.") == []
    losetup = subprocess.run(["losetup", "--all"], capture_output=True, text=True).stdout
    assert f"/bench/{NAME}/" not in losetup
    rest = json.loads(hil("clean", "--dry-run", "--json").stdout)
    assert not [x for x in rest["removed"] if x["bench"] == NAME]
