"""Faults of clocks: processes see another time of day, nothing else is moved, and the proof reads it back."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from hil.boards.protocol import Completed, Fidelity
from hil.faults import clock_kinds
from hil.faults.fault import Injection, Outcome
from hil.lab.model import load_lab
from hil.testing.fakes import ListSink
from tests.kits.fake_bench import LAB

YEAR_S = 365 * 86_400
KINDS = ["clock-bump", "clock-strobe", "clock-1970", "clock-2038"]


@pytest.fixture
def moved(tmp_path: Path) -> dict[str, str]:
    """The environment of a process whose clock is a year ahead; its file is ``clock``."""
    (tmp_path / "clock").write_bytes(struct.pack("<q", YEAR_S))
    return {**os.environ, "LD_PRELOAD": str(clock_kinds.library()), "HIL_FAULT_CLOCK": str(tmp_path / "clock")}


def test_the_time_of_day_of_a_process_is_moved_at_once_and_its_monotonic_clock_is_not(
    moved: dict[str, str], tmp_path: Path
) -> None:
    say = "import sys, time\nfor _ in sys.stdin: print(time.time(), time.monotonic(), flush=True)"
    argv = [sys.executable, "-S", "-c", say]
    with subprocess.Popen(argv, env=moved, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin and process.stdout
        for off_s in (YEAR_S, 0, -YEAR_S):
            (tmp_path / "clock").open("r+b").write(struct.pack("<q", off_s))
            print("now", file=process.stdin, flush=True)
            day_s, monotonic_s = map(float, process.stdout.readline().split())
            assert day_s == pytest.approx(time.time() + off_s, abs=10)
            assert monotonic_s == pytest.approx(time.monotonic(), abs=10)
        process.stdin.close()
    shown = subprocess.run(["date", "+%Y"], env=moved, capture_output=True, text=True).stdout
    assert int(shown) == time.gmtime(time.time() - YEAR_S).tm_year


def test_without_its_file_the_library_does_nothing(moved: dict[str, str]) -> None:
    environment = moved | {"HIL_FAULT_CLOCK": "/none"}
    said = subprocess.run(["date", "+%s"], env=environment, capture_output=True, text=True).stdout
    assert int(said) == pytest.approx(time.time(), abs=10)


class Board:
    """A board whose time of day and services a test sets; it answers the probe and notes every script."""

    name, fidelity = "b1", Fidelity.VIRTUAL

    def __init__(self, off_s: list[float], services: str = "2 of 2") -> None:
        self.off_s, self.services = off_s, services
        self.ran: list[str] = []

    def shell(self) -> Board:
        return self

    def __enter__(self) -> Board:
        return self

    def __exit__(self, *exc: object) -> None: ...

    def push(self, local: Path, remote: str) -> None:
        self.ran.append(f"push {local.name}")

    def write(self, remote: str, content: bytes) -> None:
        self.ran.append(f"write {remote}")

    def run(self, argv: list[str], **options: Any) -> Completed:
        self.ran.append(argv[-1])
        said = "".join(f"{time.time() + each}\n" for each in self.off_s) + self.services
        return Completed(tuple(argv), 0, said, "")


def _begun(name: str, board: Board) -> Injection:
    bench: Any = SimpleNamespace(name="test", lab=load_lab(LAB), boards={"b1": board}, sink=ListSink(), orbit=None)
    injection = Injection(name, bench, "b1", {})
    injection.begin()
    return injection


@pytest.mark.parametrize("name", KINDS)
def test_a_moved_clock_is_confirmed_by_the_boards_own_time_of_day_and_its_services(name: str) -> None:
    now = time.time()
    off_s = {"clock-1970": 86_400 - now, "clock-2038": 2**31 - 2 - now}.get(name, -3600.0)
    looks = [off_s, 0.0, off_s] if name == "clock-strobe" else [off_s] * 3
    assert _begun(name, Board(looks)).proof.outcome is Outcome.CONFIRMED
    for board in (Board([0.0] * 3), Board([off_s / 2] * 3), Board(looks, "1 of 2"), Board(looks, "0 of 0")):
        assert _begun(name, board).proof.outcome is Outcome.MISMATCH


def test_a_moved_clock_is_healed_only_where_it_was_moved() -> None:
    board = Board([-3600.0])
    injection = _begun("clock-bump", board)
    injection.end()
    assert f"[ -e {clock_kinds.PRELOAD} ] || exit 0" in board.ran[-1] and "rm -f" in board.ran[-1]


def test_a_clock_of_the_bench_can_be_moved_only_in_a_process_started_for_that(
    moved: dict[str, str], tmp_path: Path
) -> None:
    assert not clock_kinds.can_move_own_clock()
    program = (
        "import time; from hil.faults.fault import load_fault\n"
        "jump = load_fault('bench-clock-jump'); apart = lambda: round(time.time() - time.monotonic())\n"
        "assert jump.targets(None) == ('clock',); before = apart()\n"
        "bite = jump.inject(None, 'clock', {'by_s': 3600.0}); print(bite.prove().outcome, end=' ')\n"
        "jump.heal(None, 'clock', {}); print(bite.prove().outcome, apart() - before)"
    )
    (tmp_path / "clock").write_bytes(struct.pack("<q", 0))
    done = subprocess.run([sys.executable, "-c", program], env=moved, capture_output=True, text=True)
    assert done.stdout == "confirmed mismatch 0\n", done.stderr
