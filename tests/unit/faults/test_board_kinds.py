"""Faults of boards: what a board says decides whether one is confirmed, and what is left of it is healed."""

from __future__ import annotations

import errno
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from hil.boards.protocol import BootState, Completed, PowerState, SlotState
from hil.errors import BenchError, DeviceError
from hil.faults import bench_kinds, bit_kinds, os_kinds, power_kinds
from hil.faults.fault import Injection, Outcome, load_fault
from hil.lab.model import load_lab
from hil.testing.fakes import ListSink
from tests.kits.fake_bench import LAB


class Board:
    """A board whose shell answers scripts from ``says``, in turns, and whose console shows what a test says."""

    def __init__(self, says: list[str | Exception], shows: str = "") -> None:
        self.name, self.spacecraft = "b1", "sc-b"
        self.says, self.ran = list(says), [""]
        self.shows = shows
        self.supervisor = self.console = self.boot = self
        self.done: list[str] = []
        self.can_freeze = True
        self.power = PowerState.ON

    # shell
    def shell(self) -> Board:
        return self

    def __enter__(self) -> Board:
        return self

    def __exit__(self, *exc: object) -> None: ...

    def run(self, argv: list[str], *, timeout_s: float = 30.0, check: bool = True, stdin: bytes = b"") -> Completed:
        self.ran.append(argv[-1])
        answer = self.says.pop(0) if self.says else ""
        if isinstance(answer, Exception):
            raise answer
        return Completed(tuple(argv), 0, answer + "\n", "")

    # supervisor
    def state(self) -> Any:
        slots = SlotState("A", True, 2, True), SlotState("B", True, 3, True)
        return BootState("A", "A", slots) if self.done[-1:] == ["boot"] else self.power

    def reset(self) -> None:
        self.done.append("reset")

    def cut(self) -> None:
        self.done.append("cut")
        self.power = PowerState.OFF

    def on(self) -> None:
        self.done.append("on")
        self.power = PowerState.ON

    def wait_booted(self, *, deadline_s: float) -> None:
        self.done.append("booted")

    # console
    def size(self) -> int:
        return 0

    def wait_for(self, pattern: str, *, deadline_s: float, since: int = 0) -> str:
        if self.shows and self.shows in pattern:
            return self.shows
        raise DeviceError("it does not show that")

    # what crashes
    def panic(self) -> None:
        self.done.append("panic")

    def freeze(self, *, only_init: bool = False) -> None:
        self.done.append("freeze init" if only_init else "freeze")

    def frozen(self) -> tuple[bool, str]:
        return "freeze" in self.done, "processes"

    def thaw(self) -> None:
        self.done.append("thaw")


def bench_of(board: Board) -> Any:
    return SimpleNamespace(name="test", lab=load_lab(LAB), boards={"b1": board}, sink=ListSink(), orbit=None)


def begun(name: str, board: Board, **parameters: float) -> Injection:
    injection = Injection(name, bench_of(board), "b1", parameters)
    injection.begin()
    return injection


# Per fault: what the healing before it prints, what the bite prints, what the probe prints where the fault bit, and
# what it prints where it did nothing.
SAID: dict[str, tuple[str, str, str, str]] = {
    "service-killed": ("", "19", "killed 1", "lives: 19\nkilled 1"),
    "service-frozen": ("", "19", "1 of 1", "0 of 1"),
    "service-slow": ("", "20", "stopped 6 of 10", "stopped 0 of 10"),
    "memory-full": ("", "137", "3 137", "2 1"),
    "data-full": ("", "1", "1020", "400000"),
    "data-read-only": ("", "", "sh: can't create x: Read-only file system", "written"),
}


@pytest.mark.parametrize("name", SAID)
def test_a_fault_is_confirmed_by_what_the_board_says_and_by_nothing_else(name: str) -> None:
    healing, bite, bitten, untouched = SAID[name]
    assert begun(name, Board([healing, bite, bitten])).proof.outcome is Outcome.CONFIRMED
    for nothing in (untouched, "", "sh: syntax error"):
        assert begun(name, Board([healing, bite, nothing])).proof.outcome is Outcome.MISMATCH
    silent = begun(name, Board([healing, bite, DeviceError("no answer")]))
    assert silent.proof.outcome is Outcome.UNKNOWN


def test_io_errors_are_proven_by_the_session_that_caused_them_and_healed_by_a_restart() -> None:
    board = Board(["", "sh: can't create x: Input/output error", DeviceError("nobody can log in")])
    injection = begun("data-io-errors", board)
    assert injection.proof.outcome is Outcome.CONFIRMED
    injection.end()
    assert board.done == ["reset", "booted"]
    assert begun("data-io-errors", Board(["", "written"])).proof.outcome is Outcome.MISMATCH


def test_a_board_without_the_fault_is_not_restarted_to_heal_it() -> None:
    board = Board([""])
    load_fault("data-read-only").heal(bench_of(board), "b1", {"boot_s": 10.0})
    assert not board.done


def test_damage_is_proven_by_reading_the_changed_places_back() -> None:
    places = json.dumps([[4096, 1, "aa"], [9000, 1, "bb"]])
    manifest = "/data/hil/artefacts/x/manifest.json"
    for seen, outcome in ((["aa", "bb"], Outcome.CONFIRMED), (["aa", "zz"], Outcome.MISMATCH)):
        board = Board([manifest, places, json.dumps(seen)])
        injection = begun("flip-bundle", board)
        assert injection.proof.outcome is outcome and "/data/hil/artefacts/x/data" in injection.proof.seen
    assert begun("flip-bundle", Board([manifest, "[]", "[]"])).proof.outcome is Outcome.MISMATCH
    with pytest.raises(BenchError, match="no model artefact"):
        begun("flip-model", Board([""]))


@pytest.mark.parametrize(("name", "sign"), [("kernel-panic", "Kernel panic"), ("watchdog-reset", "watchdog expired")])
def test_a_crash_is_proven_by_the_console_and_its_restart_was_ordered(name: str, sign: str) -> None:
    board = Board([], shows=sign)
    bench = bench_of(board)
    injection = Injection(name, bench, "b1", {})
    assert injection.begin().outcome is Outcome.CONFIRMED
    assert [event.kind for event in bench.sink.events] == ["board.order", "fault"]
    injection.end()
    assert board.done[-2:] == ["thaw", "booted"]
    assert begun(name, Board([])).proof.outcome is Outcome.MISMATCH


def test_a_hang_is_proven_by_the_states_of_the_processes() -> None:
    assert begun("hang", Board([])).proof.outcome is Outcome.CONFIRMED


@pytest.mark.parametrize(("greeting", "outcome"), [("", Outcome.CONFIRMED), ("SSH-2.0-x", Outcome.MISMATCH)])
def test_sshd_is_gone_when_it_does_not_greet(greeting: str, outcome: Outcome, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os_kinds, "Reachable", Board)
    answers = iter(["SSH-2.0-x", greeting])
    monkeypatch.setattr(os_kinds, "_greeting", lambda board: next(answers))
    assert begun("sshd-gone", Board([])).proof.outcome is outcome


def test_a_power_cut_is_proven_by_the_supervisor(monkeypatch: pytest.MonkeyPatch) -> None:
    board = Board([])
    injection = begun("power-cut", board)
    assert injection.proof.outcome is Outcome.CONFIRMED
    injection.end()
    assert board.done == ["cut", "on", "booted"]
    monkeypatch.setattr(Board, "cut", lambda self: None)
    assert begun("power-cut", Board([])).proof.outcome is Outcome.MISMATCH


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    yield process
    process.kill()
    process.wait()


def _fault_of(part: str, pid: int, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Injection]:
    monkeypatch.setattr(bench_kinds, "pids_of", lambda bench, which: [pid] if which == part else [])
    return lambda name: Injection(name, bench_of(Board([])), part, {})


def test_a_part_of_the_bench_is_frozen_and_goes_on(
    sleeper: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    make = _fault_of("keeper", sleeper.pid, monkeypatch)
    injection = make("bench-part-frozen")
    assert injection.begin().outcome is Outcome.CONFIRMED
    injection.end()
    until_s = time.monotonic() + 5
    while bench_kinds._state(sleeper.pid) == "T" and time.monotonic() < until_s:
        time.sleep(0.01)
    assert bench_kinds._state(sleeper.pid) != "T"
    monkeypatch.setattr(bench_kinds, "_send", lambda *args: None)
    assert make("bench-part-frozen").begin().outcome is Outcome.MISMATCH


def test_a_part_of_the_bench_is_killed(sleeper: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    injection = _fault_of("link-box", sleeper.pid, monkeypatch)("bench-part-killed")
    assert injection.begin().outcome is Outcome.CONFIRMED
    assert sleeper.wait(5) == -signal.SIGKILL
    assert not Path(f"/proc/{sleeper.pid}").exists()


def test_a_keeper_that_is_gone_has_no_process_whoever_has_its_number_now(
    sleeper: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bench_kinds, "read_state", lambda bench: SimpleNamespace(keeper_pid=sleeper.pid))
    for live, pids in ((True, [sleeper.pid]), (False, [])):
        monkeypatch.setattr(bench_kinds, "is_live", lambda bench, live=live: live)
        assert bench_kinds.pids_of("x", "keeper") == pids


def test_a_link_box_that_still_answers_is_not_frozen_whatever_its_processes_look_like(
    sleeper: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    for answers, outcome in ((True, Outcome.MISMATCH), (False, Outcome.CONFIRMED)):
        monkeypatch.setattr(bench_kinds, "links_answer", lambda bench, answers=answers: answers)
        assert _fault_of("link-box", sleeper.pid, monkeypatch)("bench-part-frozen").begin().outcome is outcome


def test_no_script_of_a_fault_matches_the_shell_that_runs_it() -> None:
    for pattern in (os_kinds.NODE, os_kinds.SSHD):
        assert pattern.startswith("[") and pattern[2] == "]"


def test_the_disks_of_the_bench_are_filled_only_where_that_is_no_root_file_system(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fault = load_fault("bench-disks-full")
    monkeypatch.setattr(bench_kinds, "disk_dir", lambda bench: Path("/"))
    assert not fault.targets(bench_of(Board([])))
    monkeypatch.setattr(bench_kinds, "disk_dir", lambda bench: tmp_path)
    monkeypatch.setattr(bench_kinds.DisksFull, "targets", lambda self, bench: ("disks",))
    free_b = [5 * bench_kinds.MIB]

    def taken(file: int, offset: int, length: int) -> None:
        if length > 3 * bench_kinds.MIB:  # as a file system that needs room for itself
            raise OSError(errno.ENOSPC, "No space left on device")
        free_b[0] -= length

    monkeypatch.setattr("os.posix_fallocate", taken)
    monkeypatch.setattr(bench_kinds, "free_bytes", lambda folder: free_b[0])
    injection = Injection("bench-disks-full", bench_of(Board([])), "disks", {})
    assert injection.begin().outcome is Outcome.CONFIRMED and free_b[0] < bench_kinds.MIB
    assert list(tmp_path.iterdir())
    injection.end()
    assert not list(tmp_path.iterdir())
    free_b[0] = 5 * bench_kinds.MIB
    monkeypatch.setattr(bench_kinds.DisksFull, "bite", lambda *args: None)
    assert Injection("bench-disks-full", bench_of(Board([])), "disks", {}).begin().outcome is Outcome.MISMATCH


def test_a_boot_that_was_not_cut_short_is_not_confirmed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(power_kinds, "_shows", lambda board, pattern, *args, **options: pattern == power_kinds.KERNEL)
    tries = iter([3, 2, 3, 2])
    slots = lambda: BootState("A", "A", (SlotState("A", True, next(tries), True), SlotState("B", True, 3, True)))  # noqa: E731
    board = Board([])
    board.boot = SimpleNamespace(state=slots)  # type: ignore[assignment]
    assert begun("boot-cut", board, within_s=0.0).proof.outcome is Outcome.CONFIRMED
    monkeypatch.setattr(power_kinds.PowerGlitch, "cut", lambda *args: None)
    assert begun("boot-cut", board, within_s=0.0).proof.outcome is Outcome.MISMATCH


@pytest.mark.parametrize("says", ["no JSON", "3", "[]", "[" * 200_000])
def test_damage_of_which_a_board_says_nonsense_is_an_error_of_the_bench(says: str) -> None:
    fault, values = bit_kinds.FLIP_SLOT, {"regions": 1.0, "length_b": 1.0, "seed": 0.0}
    done = json.dumps([[0, 1, "a" * 64]])
    for answers in ([says], [done, says]):
        board = Board(list(answers))
        board.done.append("boot")
        bench = bench_of(board)
        with pytest.raises(BenchError, match=r"b1: /dev/.* cannot be"):
            fault.inject(bench, "b1", values).prove()
