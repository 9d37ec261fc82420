"""Faults of the bench itself, planted to see whether it is blamed: keeper, link box, container engine, disks.

They are no faults of the device: what they do to a trial must make it INCONCLUSIVE.
"""

from __future__ import annotations

import errno
import os
import signal
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from hil.bench.carrier_watch import free_bytes
from hil.bench.state import disk_dir, is_live, link_socket, read_state
from hil.core.processes import families, processes
from hil.errors import BenchError, HilError
from hil.faults.fault import Bite, Fault, Parameter, Proof
from hil.host.engine import dockerd
from hil.host.engine.dockerd import EngineFiles
from hil.links.link_box import LinkBox

if TYPE_CHECKING:
    from hil.bench.bench import Bench

KEEPER, LINK_BOX, ENGINE, DISKS = "keeper", "link-box", "engine", "disks"
BALLAST = "hil-fault-ballast"
MIB = 1 << 20
SMALLEST_PIECE_B = 1 << 16
ANSWER_S = 1.0
EFFECT_S = 3.0
"""A signal takes effect within this."""


def pids_of(bench: str, part: str) -> list[int]:
    """Return the processes of a part of a bench: ``keeper``, ``link-box`` (User-Mode Linuxes) or ``engine``."""
    state = read_state(bench)
    if state is None:
        return []
    if part == KEEPER:
        return [state.keeper_pid] if is_live(bench) else []  # else another process may have its number now
    if part == ENGINE:
        daemon = dockerd.started(EngineFiles.default())
        return [daemon.pid] if daemon is not None else []
    launchers = [
        process.id.pid
        for process in processes()
        if process.parent == state.keeper_pid and any("linux.uml" in word for word in process.argv)
    ]
    # Below the launcher are the kernel and its helpers; the processes that it traces stand still with it.
    return [pid for family in families(launchers).values() for pid in family if not _traced(pid)]


def _traced(pid: int) -> bool:
    try:
        return "TracerPid:\t0\n" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


def links_answer(bench: str) -> bool:
    """Return whether the link box reads its links back within a second."""
    try:
        with LinkBox.attach(link_socket(bench), timeout_s=ANSWER_S) as box:
            box.show()
        return True
    except (HilError, OSError):
        return False


class PartFrozen:
    """A part of the bench stands still until it is healed."""

    description = "freezes a part of the bench itself; the engine is that of all benches of this host"
    works_on = "this host; link-box where links are shaped in User-Mode Linux"
    parameters: Sequence[Parameter] = ()
    parts: Sequence[str] = (KEEPER, LINK_BOX, ENGINE)

    def targets(self, bench: Bench) -> Sequence[str]:
        """Return the parts that run as processes of their own."""
        return tuple(part for part in self.parts if pids_of(bench.name, part))

    def inject(self, bench: Bench, target: str, values: Mapping[str, float]) -> Bite:
        """Freeze it."""
        pids = pids_of(bench.name, target)
        if not pids:
            raise BenchError(f"bench {bench.name} has no {target} any more")
        self.bite(pids)
        until_s = time.monotonic() + EFFECT_S
        while not self.reached([_state(pid) for pid in pids]) and time.monotonic() < until_s:
            time.sleep(0.02)

        def prove() -> Proof:
            states = [_state(pid) for pid in pids]
            seen = f"processes of {target}: {', '.join(s or 'gone' for s in states)}"
            if target != LINK_BOX or not self.reached(states):
                return Proof.of(self.reached(states), seen)
            answers = links_answer(bench.name)
            return Proof.of(not answers, f"{seen}; the links {'are still' if answers else 'cannot be'} read back")

        return Bite(prove)

    def bite(self, pids: Sequence[int]) -> None:
        """Stop the processes."""
        _send(pids, signal.SIGSTOP)

    def reached(self, states: Sequence[str]) -> bool:
        """Return whether all of them stand still."""
        return set(states) == {"T"}

    def heal(self, bench: Bench, target: str, values: Mapping[str, float]) -> None:
        """Let it go on."""
        _send(pids_of(bench.name, target), signal.SIGCONT)


class PartKilled(PartFrozen):
    """A part of the bench is killed; the bench must be brought up again."""

    description = "kills a part of the bench itself, which must be brought up again then"
    parts = (KEEPER, LINK_BOX)

    def bite(self, pids: Sequence[int]) -> None:
        """Kill the processes."""
        _send(pids, signal.SIGKILL)

    def reached(self, states: Sequence[str]) -> bool:
        """Return whether none of them runs any more."""
        return set(states) <= {"", "Z"}

    def heal(self, bench: Bench, target: str, values: Mapping[str, float]) -> None:
        """Do nothing: what was killed does not come back by itself."""


class DisksFull:
    """The file system of this host on which the boards' disks are is full."""

    description = "fills the file system of this host with the boards' disks, if it is not the root file system"
    works_on = "this host, where HIL_HOME has a file system of its own"
    parameters: Sequence[Parameter] = (Parameter("left_mb", 0.0, 0.0, 8.0, "MiB that stay free"),)

    def targets(self, bench: Bench) -> Sequence[str]:
        """Return ``disks``; nothing where they are on the root file system, with all that this host needs."""
        folder = disk_dir(bench.name)
        return (DISKS,) if folder.is_dir() and folder.stat().st_dev != Path("/").stat().st_dev else ()

    def inject(self, bench: Bench, target: str, values: Mapping[str, float]) -> Bite:
        """Fill it with one file."""
        folder, left_b = disk_dir(bench.name), int(values["left_mb"] * MIB)
        self.bite(folder, left_b)

        def prove() -> Proof:
            free_b = free_bytes(folder)
            return Proof.of(free_b <= left_b + MIB, f"{free_b:,} bytes are free for the boards' disks")

        return Bite(prove)

    def bite(self, folder: Path, left_b: int) -> None:
        """Take all that is free but ``left_b``; others write meanwhile, and the file system needs some of it itself."""
        size = 0
        piece = free_bytes(folder) - left_b
        with (folder / BALLAST).open("wb") as file:
            while piece >= SMALLEST_PIECE_B:
                try:
                    os.posix_fallocate(file.fileno(), size, piece)
                    size += piece
                except OSError as exc:
                    if exc.errno != errno.ENOSPC:
                        raise
                    size = max(size, os.fstat(file.fileno()).st_size)
                piece = min(piece // 2, free_bytes(folder) - left_b)

    def heal(self, bench: Bench, target: str, values: Mapping[str, float]) -> None:
        """Remove the file."""
        (disk_dir(bench.name) / BALLAST).unlink(missing_ok=True)


def _send(pids: Sequence[int], number: signal.Signals) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)


def _state(pid: int) -> str:
    """Return the state letter of a process, T when it is stopped; empty when it is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return ""


PART_FROZEN: Fault = PartFrozen()
PART_KILLED: Fault = PartKilled()
DISKS_FULL: Fault = DisksFull()
