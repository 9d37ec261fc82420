"""Power cuts during an update: every point is reached in turn, on a board that plays an Orin with a capsule."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from hil.boards.console.boot_stages import Stage
from hil.boards.protocol import BootState, Identity, SlotState
from hil.core.wait import wait_until
from hil.errors import DeviceError
from hil.faults.cut_points import CutProcedure, Point, Reference
from hil.images.artefact import BundleFacts

BOOT = [
    ("reboot: Restarting system", 0.02),
    ("[0000.063] I> MB1 (version: 1.4.0.4)", 0.02),
    ("Jetson UEFI firmware (version 36.4.4 built on 2025-06-16)", 0.2),  # it writes the capsule
    ("Rebooting to new boot chain", 0.02),
    ("Jetson UEFI firmware (version 36.5.0 built on 2026-01-16)", 0.02),
    ("L4TLauncher: Attempting Direct Boot", 0.02),
    ("[    0.000000] Booting Linux on physical CPU 0x0000000000", 0.02),
]
WRITE_S = 0.1


class Orin:
    """A board, its updater and its firmware; a cut at ``bricks_at`` of the console ends it for good."""

    name, fidelity = "b1", "virtual"

    def __init__(self, folder: Path, bricks_at: str = "") -> None:
        self.log = folder / "console.log"
        self.log.write_bytes(b"")
        self.supervisor = self.console = self.boot = self
        self.slot, self.active, self.boot_id = "A", "A", 0
        self.whole, self.tries = {"A", "B"}, {"A": 3, "B": 3}
        self.bricks_at, self.bricked, self.is_on = bricks_at, False, True
        self.life, self.booted, self.pushed = 0, True, False
        self.cuts: list[str] = []
        self.write_s = WRITE_S

    def size(self) -> int:
        return self.log.stat().st_size

    def shell(self) -> Orin:
        return self

    def __enter__(self) -> Orin:
        return self

    def __exit__(self, *exc: object) -> None: ...

    def push(self, *files: object) -> None:
        self.pushed = True

    def run(self, *words: object) -> None: ...

    def state(self) -> Any:
        slots = [SlotState(s, s in self.whole, self.tries[s], True) for s in ("A", "B")]
        return BootState(self.slot, self.active, tuple(slots))  # type: ignore[arg-type]

    def set_active(self, slot: str) -> None:
        self.active = slot
        self.whole.add(slot)

    def identity(self) -> Identity:
        if not (self.is_on and self.booted) or self.bricked:
            raise DeviceError("b1 does not answer")
        return Identity("Orin", "1", str(self.boot_id), self.slot, "2.0.0", "new")  # type: ignore[arg-type]

    def cut(self) -> None:
        self.life += 1
        last = self.log.read_text().splitlines()
        self.cuts.append(last[-1] if last else "")
        self.bricked |= bool(self.bricks_at) and self.bricks_at in self.cuts[-1]
        self.is_on = self.booted = False

    def on(self) -> None:
        self.is_on = True
        self._start(quick=True)

    def wait_booted(self, *, deadline_s: float) -> Identity:
        def answer() -> Identity | None:
            try:
                return self.identity()
            except DeviceError:
                return None

        return wait_until(answer, what="b1", deadline_s=deadline_s, error=DeviceError)

    def _start(self, *, quick: bool = False) -> None:
        self.life += 1
        self.booted = False
        threading.Thread(target=self._boot, args=(self.life, quick), daemon=True).start()

    def _boot(self, life: int, quick: bool) -> None:
        for line, then_s in [] if quick else BOOT:
            if self.life != life:
                return
            with self.log.open("a") as log:
                print(line, file=log)
            time.sleep(then_s)
        if self.life == life and not self.bricked:
            self.slot = self.active if self.active in self.whole else self.slot
            self.boot_id += 1
            self.booted = True

    # the updater
    def close(self) -> None: ...

    def install(self, place: str, *, sha256: str, timeout_s: float) -> None:
        assert self.pushed
        life, target = self.life, "B" if self.slot == "A" else "A"
        time.sleep(0.02)
        self.whole.discard(target)
        time.sleep(self.write_s)
        if self.life != life:
            raise DeviceError("the power is gone")
        self.whole.add(target)

    def activate(self) -> None:
        self.active = "B" if self.slot == "A" else "A"
        self._start()

    def confirm(self) -> None:
        self.identity()


@pytest.fixture
def orin(tmp_path: Path) -> Iterator[Orin]:
    yield Orin(tmp_path)


def _procedure(orin: Orin) -> CutProcedure:
    bundle = BundleFacts(Path("os.raucb"), "2.0.0", "aa", 1, "new")
    board: Any = orin
    return CutProcedure(board, lambda: board, bundle, boot_s=3.0, off_s=0.0, install_s=3.0)


def test_the_power_is_cut_at_every_point_of_an_orins_update_the_capsule_included(orin: Orin) -> None:
    procedure = _procedure(orin)
    reference = procedure.measure()
    assert reference.write_s == pytest.approx(WRITE_S, abs=0.15)
    names = [point.name for point in reference.points()]
    assert names[:4] == ["10% of the write", "50% of the write", "90% of the write", "installed"]
    assert [name for name in names if "capsule" in name] == [f"{p}% of the capsule" for p in (10, 25, 50, 75, 90)]
    assert {"restart", "mb1", "uefi", "boot-chain-reboot", "uefi 2", "launcher", "kernel"} <= {*names}
    assert names[-2:] == ["booted, not confirmed", "confirmed"]
    results = procedure.run(reference.points())
    assert [result.point for result in results] == names
    assert [result.point for result in results if not result.survived] == []
    assert sum("UEFI firmware (version 36.4.4" in cut for cut in orin.cuts) >= 4  # at its begin, and in the capsule
    assert {*reference.missing} == {Stage.MB2, Stage.ATF, Stage.OPTEE, Stage.EXIT_BOOT_SERVICES, Stage.LOGIN}


def test_a_board_that_a_cut_in_the_capsule_kills_ends_the_procedure_and_is_told(tmp_path: Path) -> None:
    orin = Orin(tmp_path, bricks_at="36.4.4")
    procedure = _procedure(orin)
    procedure.boot_s = 1.5
    points = [
        Point("installed", "installed"),
        Point("50% of the capsule", Stage.UEFI, 1, 0.1),
        Point("x", Stage.KERNEL),
    ]
    procedure.measure()
    kept, killed = procedure.run(points)
    assert kept.survived and killed.reached
    assert not killed.answers and not killed.survived and killed.problem


def test_a_board_without_a_capsule_says_which_points_need_a_real_one() -> None:
    reference = Reference(1.0, ((Stage.UEFI, 0.1), (Stage.LAUNCHER, 0.2), (Stage.KERNEL, 0.3)))
    assert "capsule" in reference.missing and Stage.BOOT_CHAIN_REBOOT in reference.missing
    assert not [point for point in reference.points() if "capsule" in point.name]


def test_a_write_that_had_ended_when_the_power_went_is_made_again(orin: Orin) -> None:
    told: list[str] = []
    procedure = _procedure(orin)
    procedure.tell = told.append
    procedure.measure()
    usual, numbers = orin.install, count(1)

    def install(place: str, *, sha256: str, timeout_s: float) -> None:
        if (number := next(numbers)) == 1:
            return orin.whole.discard("B" if orin.slot == "A" else "A")
        orin.write_s = WRITE_S if number == 2 else 1.0  # the second one completes the update after the first cut
        return usual(place, sha256=sha256, timeout_s=timeout_s)

    orin.install = install  # type: ignore[method-assign]
    (result,) = procedure.run([Point("50% of the write", "write", wait_s=0.4)])
    assert result.survived and len(orin.cuts) == 2
    assert told[-1] == "b1: missed (the installation had ended), once more: 50% of the write"


def test_a_point_that_never_comes_shows_nothing(orin: Orin, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hil.faults.cut_points.MISSED_S", 0.3)
    procedure = _procedure(orin)
    procedure.measure()
    (result,) = procedure.run([Point("mb2", Stage.MB2)])
    assert not result.reached and not result.survived and result.answers and "mb2" in result.problem
    assert result.completed
