"""`hil board` on a real bench of container boards and Jetson-driven stand-ins: what each verb prints and does."""

from __future__ import annotations

import grp
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from hil.bench.bench import Bench
from hil.boards.container.board import ContainerBoard
from hil.boards.jetson.board import JetsonBoard
from hil.boards.protocol import Fidelity, PowerState, Via
from hil.core import paths
from hil.core.wait import wait_until
from hil.leases.leases import default_holder
from tests.kits.hil_command import HIL, Hil, Terminal, bench_from_the_command_line
from tests.kits.host_state import as_it_was

pytestmark = [
    pytest.mark.integration,
    pytest.mark.side_by_side,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
]

NAME = "hiltboard"
LAB = "lab/mixed.yaml"
BOTH = pytest.mark.parametrize("board", ["a1", "b1"])  # a container board, and one with the Jetson driver
hil = Hil(NAME)
good, data = hil.good, hil.data


@pytest.fixture(scope="module", autouse=True)
def bench() -> Iterator[Bench]:
    why = "the strip of stand-ins must not show on the host"
    with as_it_was(why, bench=NAME) as unchanged, bench_from_the_command_line(NAME, LAB):
        unchanged()
        attached = Bench.attach(NAME)
        yield attached
        attached.close()


# -- one lab, two drivers, and nobody has to know which


def test_each_board_has_the_driver_of_the_lab_file_and_its_fidelity_class(bench: Bench) -> None:
    kinds = [type(board) for board in bench.boards.values()]
    assert kinds == [ContainerBoard] * 3 + [JetsonBoard] * 3
    assert {board.fidelity for board in bench.boards.values()} == {Fidelity.VIRTUAL}


def test_a_container_board_reaches_a_stand_in_over_the_crosslink_and_the_ground_reaches_both(bench: Bench) -> None:
    with bench.boards["a1"].shell() as shell:
        shell.run(["ping", "-c1", "-W2", "b2"])
    for name in ("a1", "b3"):
        with bench.boards[name].shell(Via.FLIGHT) as shell:
            assert shell.run(["hostname"]).stdout.strip() == name


def test_a_stand_in_is_power_cycled_from_the_command_line_through_its_strip(bench: Bench) -> None:
    before = bench.boards["b1"].identity()
    assert "b1: on" in good("board", "power", "b1", "reset", "--until-booted")
    assert bench.boards["b1"].identity().boot_id != before.boot_id
    assert good("board", "shell", "b1", "--", "hostname").strip() == "b1"
    assert "login:" in good("board", "console", "b1", "--log")


def as_another_user(*arguments: str, groups: str = "--clear-groups") -> subprocess.CompletedProcess[str]:
    """What `hil` says to a user whom nobody knows, in the group of those who share this machine or in none."""
    user = ["setpriv", "--reuid=23456", "--regid=23456", groups, "--"]
    environment = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "HIL_BENCH": NAME}
    return subprocess.run(
        [*user, *HIL, *arguments], capture_output=True, text=True, timeout=60, env=environment, stdin=subprocess.DEVNULL
    )


def test_a_member_of_the_group_looks_at_roots_bench_and_changes_nothing_and_a_stranger_is_told_whom_to_ask() -> None:
    if as_another_user("--version").returncode:
        pytest.skip("other users may not read this checkout")
    member = f"--groups={grp.getgrnam(paths.GROUP).gr_gid}"

    def all_are_seen() -> bool:
        listed = as_another_user("board", "list", "--json", groups=member)
        assert listed.returncode == 0, listed.stderr
        running = {row["name"]: row["running"] for row in json.loads(listed.stdout)}
        return running == dict.fromkeys(("a1", "a2", "a3", "b1", "b2", "b3"), "A")

    wait_until(all_are_seen, what="the member to see slot A running on all six", deadline_s=60, every_s=1)
    frame = as_another_user("bench", "watch", "--once", groups=member)
    assert frame.returncode == 0 and "isl-ab" in frame.stdout, frame.stderr
    watched = as_another_user("board", "watch", "a1", "--once", groups=member)
    assert watched.returncode == 0 and "board" in watched.stdout, watched.stderr
    console = as_another_user("board", "console", "a1", "--log", groups=member)
    assert "login:" in console.stdout, console.stderr
    for verb in (["board", "power", "a1", "off"], ["link", "cut", "isl-ab"], ["bench", "down"]):
        assert as_another_user(*verb, groups=member).returncode in (2, 3), verb  # not root; held by root
    assert data("board", "list")[0]["power"] == "on"
    stranger = as_another_user("board", "list")
    assert stranger.returncode == 2
    assert "no member of group hil" in stranger.stderr and "usermod -aG hil" in stranger.stderr


def test_the_list_shows_a_stand_in_that_is_off_without_its_slots(bench: Bench) -> None:
    assert "b2: off" in good("board", "power", "b2", "off")
    rows = {row["name"]: row for row in json.loads(good("board", "list", "--json"))}
    assert (rows["b2"]["power"], rows["b2"]["running"], rows["b2"]["active"]) == ("off", None, None)
    assert rows["b3"]["running"] == "A"
    assert rows["b2"]["problems"] == []
    bench.boards["b2"].supervisor.on()
    assert bench.boards["b2"].wait_booted().os_version
    assert bench.boards["b2"].supervisor.state() is PowerState.ON


# -- what each verb prints and does, on both


@BOTH
def test_show_tells_what_the_board_itself_says(board: str) -> None:
    found = data("board", "show", board)
    assert found["driver"] == ("container" if board == "a1" else "jetson") and found["power"] == "on"
    assert found["identity"]["slot"] == found["running"] and found["sensors"]["tj_c"] > 0
    assert found["problems"] == [] and Path(found["console"]["log"]).is_file()
    assert (found["last_reset"] is None) == (board == "a1")
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


def test_the_lab_files_power_mode_was_set_when_the_bench_came_up(bench: Bench) -> None:
    assert bench.state.power_modes == {"b3": "MODE_50W"}
    assert data("board", "mode", "b3")["mode"] == "MODE_50W"
    assert data("board", "mode", "b2")["mode"] == data("board", "mode", "b2")["default"] == "MODE_30W"


@pytest.mark.parametrize("board", ["a2", "b2"])
def test_a_power_mode_is_chosen_by_name_through_the_reboot_that_it_needs(board: str) -> None:
    boot = data("board", "show", board)["identity"]["boot_id"]
    refused = hil("board", "mode", board, "15w")
    assert refused.returncode == 2 and "needs a reboot; nothing was changed" in refused.stderr
    assert data("board", "show", board)["identity"]["boot_id"] == boot
    done = data("board", "mode", board, "15w", "--reboot")
    assert (done["mode"], done["changed"], done["rebooted"]) == ("MODE_15W", True, True)
    assert data("board", "show", board)["identity"]["boot_id"] != boot
    assert good("board", "mode", board, "15W") == f"{board}: MODE_15W, as before\n"
    wrong = hil("board", "mode", board, "99W")
    assert wrong.returncode == 2 and "modes: MAXN, MODE_15W, MODE_30W, MODE_50W" in wrong.stderr


def test_a_command_runs_on_every_board_of_both_kinds() -> None:
    rows = json.loads(good("board", "run", "all", "--json", "--", "cat", "/proc/sys/kernel/random/boot_id"))
    assert [row["board"] for row in rows] == ["a1", "a2", "a3", "b1", "b2", "b3"]
    assert len({row["stdout"] for row in rows}) == 6 and {row["exit_code"] for row in rows} == {0}
    assert hil("board", "run", "a1,b1", "--", "false").returncode == 1


@BOTH
def test_output_comes_while_a_command_runs_and_ctrl_c_ends_it_on_the_board(board: str, bench: Bench) -> None:
    argv = [*HIL, "board", "shell", board, "--bench", NAME, "--", "sh", "-c", "echo begun; sleep 4321; echo never"]
    with subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None and child.stdout.readline() == "begun\n"
        child.send_signal(signal.SIGINT)
        try:
            assert child.wait(timeout=30) == 130
        finally:
            child.kill()
        assert child.stdout.read() == ""
    with bench.boards[board].shell() as shell:
        assert shell.run(["pgrep", "-f", "sleep 4321"], check=False).stdout == ""


@BOTH
def test_watch_prints_a_document_per_look_until_it_is_interrupted(board: str) -> None:
    argv = [*HIL, "board", "watch", board, "--bench", NAME, "--every", "0.5s", "--json"]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as child:
        assert child.stdout is not None
        looks = [json.loads(child.stdout.readline()) for _ in range(3)]
        child.send_signal(signal.SIGINT)
        try:
            assert child.wait(timeout=30) == 0
        finally:
            child.kill()
    assert looks[0]["at"] < looks[1]["at"] < looks[2]["at"]
    assert all(look["sensors"]["tj_c"] > 0 for look in looks)
    assert "tj" in good("board", "watch", board, "--once")


@BOTH
def test_the_live_view_shows_the_sensors_in_a_terminal_and_q_ends_it(board: str) -> None:
    with Terminal("board", "watch", board, "--bench", NAME) as screen:
        screen.wait_for(rb"(?s)lowest.*tj +\d+\.\d \xc2\xb0C")
        screen.type(b"q")
        assert screen.exit_code() == 0


@BOTH
def test_a_reset_is_over_when_the_os_answers_with_a_new_boot_id(board: str) -> None:
    before = data("board", "show", board)["identity"]["boot_id"]
    done = data("board", "power", board, "reset", "--until-booted")
    assert done["power"] == "on" and done["boot_id"] != before
    assert data("board", "power", board, "state") == {"name": board, "power": "on"}


@BOTH
def test_a_file_goes_there_and_back_with_figures(board: str, tmp_path: Path) -> None:
    sent = tmp_path / "sent"
    sent.write_bytes(os.urandom(3_000_001))
    assert "3,000,001 bytes, digest compared" in good("board", "push", board, str(sent), "/data/sent")
    pulled = data("board", "pull", board, "/data/sent", str(tmp_path / "back"))
    assert (pulled["size_bytes"], pulled["connections"]) == (3_000_001, 1)
    assert (tmp_path / "back").read_bytes() == sent.read_bytes()


@BOTH
def test_a_folder_goes_there_and_back_as_with_scp(board: str, tmp_path: Path) -> None:
    (tmp_path / "app/sub").mkdir(parents=True)
    (tmp_path / "app/sub/x").write_text("hello")
    good("board", "cp", str(tmp_path / "app"), f"{board}:/data")
    good("board", "cp", f"{board}:/data/app", str(tmp_path / "back"))
    assert (tmp_path / "back/sub/x").read_text() == "hello"


@BOTH
def test_logs_are_of_console_and_os_and_a_board_is_waited_for(board: str) -> None:
    good("board", "wait", board, "--for", "on", "--for", "ssh", "--for", "slot=A", "--timeout", "30s")
    lines = good("board", "logs", board, "-n", "5").splitlines()
    assert {line.split(":")[0] for line in lines} == {"console", "os"}


@BOTH
def test_what_is_a_container_is_not_flashed(board: str, tmp_path: Path) -> None:
    done = hil("board", "flash", board, "--tree", str(tmp_path), "--yes")
    assert done.returncode == 2 and f"{board} is a container board" in done.stderr


# -- a bench belongs to whoever leased it

PLAN = """\
schema: 1
id: busy
title: A campaign that takes its time
requirements:
  - {id: BSY-1, text: The bench stays as it is., method: T, level: system, fidelity_needed: virtual}
"""
BUSY = """\
import time
from pathlib import Path

import pytest


@pytest.mark.requirement("BSY-1")
def test_the_bench_stays_as_it_is(bench, verify):
    here = Path(__file__).parent
    (here / "begun").touch()
    until = time.monotonic() + 240
    while not (here / "enough").exists():
        assert time.monotonic() < until
        time.sleep(0.1)
    verify("links cut", len(bench.links.cut_links()))


def test_what_it_leaves_behind(bench):
    bench.links.cut("isl-ab")
    bench.boards["b3"].supervisor.cut()
"""
CHANGES = (
    "board power b3 cut", "board power b3 reset", "board mode a1 15W", "board slots a1 --next B",
    "board push a1 {file} /data/x", "board cp {file} a1:/data/x", "board shell a1 -- true",
    "board run all -- true", "board qualify a1 --by bob",
    "link set isl-ab --loss-ppm 10", "link cut isl-ab", "link restore isl-ab", "link reset", "link calibrate",
    "fault inject link-cut isl-ab --for 1s", "bench reset", "bench down",
)  # fmt: skip


def busy_campaign(folder: Path, meanwhile: Callable[[], None]) -> dict[str, Any]:
    """Run a campaign on the kept bench, do something while it goes on, and return its result."""
    folder.mkdir()
    (folder / "plan.yaml").write_text(PLAN)
    (folder / "test_busy.py").write_text(BUSY)
    argv = [sys.executable, "-m", "pytest", "-q", str(folder), f"--hil-bench={NAME}", f"--hil-out={folder / 'out'}"]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as run:
        try:
            wait_until(lambda: (folder / "begun").exists() or run.poll() is not None, what="the run", deadline_s=90)
            meanwhile()
        finally:
            (folder / "enough").touch()
            said = run.communicate(timeout=120)[0]
    results = list(folder.glob("out/runs/*/result.json"))
    assert results, said
    return dict(json.loads(results[0].read_text()))


def test_every_change_by_a_second_user_is_refused_with_the_holders_name_and_the_campaign_passes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner = default_holder()
    file = tmp_path / "file"
    file.write_text("x")

    def bob() -> None:
        monkeypatch.setenv("SUDO_USER", "bob")
        with ThreadPoolExecutor(4) as pool:
            done = list(pool.map(lambda words: (words, hil(*words.format(file=file).split())), CHANGES))
        monkeypatch.delenv("SUDO_USER")
        for words, each in done:
            assert each.returncode == 3, (words, each.stdout, each.stderr)
            assert f"held by {owner} on" in each.stderr and "pytest" in each.stderr and "--force" in each.stderr, words
        assert good("board", "list") and good("link", "show") and "login:" in good("board", "console", "a1", "--log")

    monkeypatch.delenv("SUDO_USER", raising=False)
    good("link", "cut", "isl-ab")  # a kept bench is put back before a run
    result = busy_campaign(tmp_path / "first", bob)
    assert result["verdict"] == "PASS", result["reason"]
    assert hil.data("link", "show")["links"][1]["differs"] is None  # and what a test leaves behind, after it
    assert data("board", "power", "b3", "state")["power"] == "on"


def test_what_was_forced_is_in_the_victims_evidence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def bob() -> None:
        monkeypatch.setenv("SUDO_USER", "bob")
        good("board", "power", "b3", "reset", "--force")
        monkeypatch.delenv("SUDO_USER")

    result = busy_campaign(tmp_path / "second", bob)
    assert result["verdict"] == "INCONCLUSIVE", result["reason"]
    (evidence,) = tmp_path.glob("second/out/runs/*/evidence.jsonl")
    said = [e for e in map(json.loads, evidence.read_text().splitlines()) if e.get("part") == "board b3"]
    assert any("was changed by another hand" in e.get("what", "") and "by bob" in e["what"] for e in said), said
    *_, noted = [e for e in map(json.loads, good("bench", "log", NAME, "--json").splitlines()) if e["forced"]]
    assert (noted["who"], noted["verb"], noted["about"]) == ("bob", "power", "b3")


def test_the_power_of_a_stand_in_is_cut_in_an_update_by_command_and_what_only_a_real_board_has_is_named() -> None:
    """Two of the twenty-five points that it has: docs/jetson.md tells of all."""
    points = ("installed", "launcher")
    asked = [word for point in points for word in ("--at", point)]
    done = hil("board", "cuts", "b2", *asked, "--json", timeout_s=300)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    cuts = {cut["point"]: cut for cut in said["cuts"]}
    assert cuts.keys() == {*points} and all(cut["reached"] and cut["survived"] for cut in cuts.values()), cuts
    assert [cuts[point]["system"] for point in points] == ["old", "new"]
    assert said["needs_a_real_board"].keys() == {"capsule", "boot-chain-reboot"}
    assert data("board", "list")[4]["running"] in ("A", "B")
