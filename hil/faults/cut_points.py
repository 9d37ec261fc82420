"""A power cut at every point of an update of one board, unattended: what it boots then, and whether a second try works.

One update without a cut is the measure: how long the installation takes, and which stages the console shows when.
Then the power is cut at each of these points in turn.  A real Orin shows more stages than a container board does, and
writes its firmware while UEFI runs (the capsule): points that the board at hand does not have are named, not left out.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field
from itertools import pairwise

from hil.boards.console.boot_stages import Stage, StageReader
from hil.boards.protocol import Board, Identity, Slot, SlotState
from hil.core.command import Progress, silent
from hil.core.wait import wait_until
from hil.errors import BenchError, DeviceError, HilError
from hil.images.artefact import BundleFacts
from hil.rollout.updaters.protocol import OsAdapter

WRITE, INSTALLED, BOOTED, CONFIRMED = "write", "installed", "booted", "confirmed"
SHARES = (0.1, 0.5, 0.9)
"""Of the installation's usual time, from the moment at which its slot is taken out of the boot order."""
CAPSULE_SHARES = (0.1, 0.25, 0.5, 0.75, 0.9)
"""Of the time between UEFI's begin and its reboot to the new boot chain, in which the capsule is written."""
CAPSULE = "capsule"
LONG_S = 1.0
"""Where two stages are so far apart, the power is also cut halfway."""
OF_A_REAL_BOARD: dict[str, str] = {
    Stage.RESTART: "the kernel's last words before the restart",
    Stage.MB1: "the boot ROM has started MB1",
    Stage.MB2: "MB1 has started MB2",
    Stage.ATF: "MB2 has started ATF",
    Stage.OPTEE: "OP-TEE starts",
    Stage.UEFI: "UEFI starts",
    CAPSULE: "UEFI writes the capsule into the other boot chain: at 10, 25, 50, 75 and 90 % of that",
    Stage.BOOT_CHAIN_REBOOT: "UEFI reboots to the new boot chain",
    Stage.LAUNCHER: "L4TLauncher has chosen a slot",
    Stage.EXIT_BOOT_SERVICES: "the kernel has taken over from UEFI",
    Stage.KERNEL: "the kernel runs",
    Stage.LOGIN: "the OS offers a login",
}
"""Every point of an Orin's restart that the console can show, in its order."""
PLACE = "/data/hil-cut-points.bundle"
JOIN_S = 30.0
TRIES = 3
"""So often an update is made for one point: a short write may have ended when the power goes."""
MISSED_S = 120.0


@dataclass(frozen=True)
class Point:
    """Where the power is cut: so long after a step of the updater, or after the console has shown a stage."""

    name: str
    after: str
    number: int = 1
    """Which of several sightings of the stage."""
    wait_s: float = 0.0


@dataclass(frozen=True)
class Reference:
    """One update without a cut; seconds."""

    write_s: float
    """From the moment at which the slot was taken out of the boot order to the installation's end."""
    stages: tuple[tuple[str, float], ...]
    """What the console showed between the activation and the new system's answer, and when."""

    @property
    def missing(self) -> dict[str, str]:
        """Return the points of a real Orin that this board does not have."""
        seen = {stage for stage, _ in self.stages}
        return {
            name: what
            for name, what in OF_A_REAL_BOARD.items()
            if (name not in seen if name != CAPSULE else Stage.BOOT_CHAIN_REBOOT not in seen)
        }

    def points(self) -> list[Point]:
        """Return every point at which to cut, in the order of the update."""
        found = [Point(f"{share:.0%} of the write", WRITE, wait_s=share * self.write_s) for share in SHARES]
        found.append(Point("installed", INSTALLED))
        counted: dict[str, int] = {}
        stages = [*self.stages]
        for (stage, at_s), (following, next_s) in pairwise([*stages, (BOOTED, self.stages[-1][1] if stages else 0.0)]):
            number = counted[stage] = counted.get(stage, 0) + 1
            name = f"{stage} {number}" if number > 1 else stage
            found.append(Point(name, stage, number))
            capsule = stage == Stage.UEFI and following == Stage.BOOT_CHAIN_REBOOT
            shares = CAPSULE_SHARES if capsule else (0.5,) if next_s - at_s >= LONG_S else ()
            for share in shares:
                what = f"{share:.0%} of the capsule" if capsule else f"halfway from {name} to {following}"
                found.append(Point(what, stage, number, share * (next_s - at_s)))
        return [*found, Point("booted, not confirmed", BOOTED), Point("confirmed", CONFIRMED)]


@dataclass(frozen=True)
class CutResult:
    """What one cut came to."""

    point: str
    reached: bool
    """The update was at this point when the power went; else nothing was shown."""
    answers: bool
    back_s: float | None = None
    """From power on until the OS answers, seconds."""
    system: str = ""
    """old or new: what runs then."""
    tries: str = ""
    """Tries left of slot A and B, ``-`` where a slot cannot be booted."""
    completed: bool = False
    """The update came to its end afterwards: at once, or by a second try."""
    problem: str = ""

    @property
    def survived(self) -> bool:
        return self.reached and self.recovered

    @property
    def recovered(self) -> bool:
        """Whether the board answers and the update came to its end, wherever the power was cut."""
        return self.answers and self.completed


@dataclass
class CutProcedure:
    """Updates one board again and again, and cuts its power each time at another point."""

    board: Board
    adapter: Callable[[], OsAdapter]
    bundle: BundleFacts
    boot_s: float = 60.0
    """How long the board may take to come back, with every try of a slot that does not boot."""
    off_s: float = 0.2
    install_s: float = 120.0
    tell: Progress = silent
    results: list[CutResult] = field(default_factory=list)

    def measure(self) -> Reference:
        """Update the board without a cut. Raises what the updater raises: then no cut would show anything."""
        with self.board.shell() as shell:
            shell.push(self.bundle.path, PLACE)
            shell.run(["sync"])
        before = self.board.identity()
        self._make_bootable(before)
        begun: list[float] = []
        thread = threading.Thread(target=lambda: begun.append(self._write_begins(before)), daemon=True)
        thread.start()
        with closing(self.adapter()) as adapter:
            adapter.install(PLACE, sha256=self.bundle.sha256, timeout_s=self.install_s)
            ended_s = time.monotonic()
            thread.join(1.0)
            watch = StageWatch(self.board)
            adapter.activate()
            self._restarted(before, watch)
            adapter.confirm()
        write_s = ended_s - begun[0] if begun else 0.0
        return Reference(round(max(0.0, write_s), 3), tuple((stage, round(at_s, 3)) for stage, at_s in watch.seen))

    def run(self, points: Sequence[Point]) -> list[CutResult]:
        """Cut at each point, again where the update had gone on meanwhile.

        It ends early when the board does not answer any more: nobody can go on by wire.
        """
        for point in points:
            self.tell(f"{self.board.name}: power cut at: {point.name}")
            result = self.cut_at(point)
            for _ in range(TRIES - 1):
                if result.reached or not result.recovered:
                    break
                self.tell(f"{self.board.name}: missed ({result.problem}), once more: {point.name}")
                result = self.cut_at(point)
            self.results.append(result)
            if not result.answers:
                break
        return self.results

    def cut_at(self, point: Point) -> CutResult:
        """Update the board, cut its power at the point, and see what comes of it."""
        before = self.board.wait_booted(deadline_s=self.boot_s)
        reached, problem = self._cut(point, before)
        time.sleep(self.off_s)
        begun_s = time.monotonic()
        self.board.supervisor.on()
        try:
            after = self.board.wait_booted(deadline_s=self.boot_s)
        except DeviceError as exc:
            return CutResult(point.name, reached, False, problem=exc.message.splitlines()[0])
        back_s = round(time.monotonic() - begun_s, 1)
        slots = {slot.slot: slot for slot in self.board.boot.state().slots}
        tries = " ".join(f"{name}:{_tries(slots[name])}" for name in sorted(slots))
        system = "old" if after.slot == before.slot else "new"
        try:
            self._complete(before, after)
        except HilError as exc:
            return CutResult(point.name, reached, True, back_s, system, tries, False, exc.message.splitlines()[0])
        return CutResult(point.name, reached, True, back_s, system, tries, True, problem)

    def _cut(self, point: Point, before: Identity) -> tuple[bool, str]:
        """Update until the point, and cut; whether it was reached, and why not."""
        if point.after == WRITE:
            return self._cut_in_the_write(point, before)
        try:
            with closing(self.adapter()) as adapter:
                adapter.install(PLACE, sha256=self.bundle.sha256, timeout_s=self.install_s)
                if point.after != INSTALLED:
                    watch = StageWatch(self.board)
                    adapter.activate()
                    if point.after in (BOOTED, CONFIRMED):
                        self._restarted(before, watch)
                        if point.after == CONFIRMED:
                            adapter.confirm()
                    else:
                        watch.wait_for(point.after, point.number, deadline_s=MISSED_S)
                        time.sleep(point.wait_s)
            self.board.supervisor.cut()
            return True, ""
        except HilError as exc:
            self.board.supervisor.cut()
            return False, exc.message.splitlines()[0]

    def _cut_in_the_write(self, point: Point, before: Identity) -> tuple[bool, str]:
        ended = threading.Event()

        def install() -> None:
            with suppress(HilError, OSError, EOFError), closing(self.adapter()) as adapter:  # the power goes
                adapter.install(PLACE, sha256=self.bundle.sha256, timeout_s=self.install_s)
                ended.set()

        self._make_bootable(before)
        thread = threading.Thread(target=install, name="update", daemon=True)
        thread.start()
        try:
            self._write_begins(before)
            time.sleep(point.wait_s)
            reached = not ended.is_set()
            return reached, "" if reached else "the installation had ended"
        except HilError as exc:
            return False, exc.message.splitlines()[0]
        finally:
            self.board.supervisor.cut()
            thread.join(JOIN_S)

    def _make_bootable(self, before: Identity) -> None:
        """Let the other slot be bootable, so that it shows when the updater takes that back."""
        if any(slot.slot != before.slot and not slot.bootable for slot in self.board.boot.state().slots):
            for slot in (_other(before.slot), before.slot):
                self.board.boot.set_active(slot)

    def _write_begins(self, before: Identity) -> float:
        """Wait until the updater has taken the other slot out of the boot order; when that was, monotonic seconds."""

        def begun() -> bool:
            return any(slot.slot != before.slot and not slot.bootable for slot in self.board.boot.state().slots)

        wait_until(begun, what="the write to the other slot", deadline_s=self.install_s, every_s=0.002)
        return time.monotonic()

    def _complete(self, before: Identity, after: Identity) -> None:
        """Bring the update to its end. Raises what goes wrong."""
        with closing(self.adapter()) as adapter:
            if after.slot == before.slot:
                adapter.install(PLACE, sha256=self.bundle.sha256, timeout_s=self.install_s)
                adapter.activate()
                after = self._restarted(after, StageWatch(self.board))
            adapter.confirm()
        if after.image_sha256 != self.bundle.image_sha256 or after.slot == before.slot:
            raise DeviceError(f"{self.board.name} runs slot {after.slot} after the second try, not the bundle")

    def _restarted(self, before: Identity, watch: StageWatch) -> Identity:
        """Wait until another boot answers, and note the console's stages meanwhile."""

        def again() -> Identity | None:
            watch.look()
            with suppress(DeviceError, BenchError):
                now = self.board.identity()
                return now if now.boot_id != before.boot_id else None
            return None

        return wait_until(
            again, what=f"{self.board.name} to restart", deadline_s=self.boot_s, every_s=0.05, error=DeviceError
        )


class StageWatch:
    """The stages that a board's console shows from now on."""

    def __init__(self, board: Board) -> None:
        self._log, self._at = board.console.log, board.console.size()
        self._reader = StageReader()
        self._begun_s = time.monotonic()
        self.seen: list[tuple[str, float]] = []

    def look(self) -> None:
        """Read what has come."""
        with self._log.open("rb") as file:
            file.seek(self._at)
            data = file.read(1 << 20)
        self._at += len(data)
        at_s = time.monotonic() - self._begun_s
        self.seen += [(sighting.stage.value, at_s) for sighting in self._reader.feed(data, at_s) if not sighting.bad]

    def wait_for(self, stage: str, number: int, *, deadline_s: float) -> None:
        """Wait until a stage was seen so often. DeviceError at the deadline."""

        def shown() -> bool:
            self.look()
            return sum(each == stage for each, _ in self.seen) >= number

        wait_until(shown, what=f"{stage} on the console", deadline_s=deadline_s, every_s=0.01, error=DeviceError)


def _other(slot: Slot) -> Slot:
    return "B" if slot == "A" else "A"


def _tries(slot: SlotState) -> str:
    return str(slot.retries) if slot.bootable else "-"
