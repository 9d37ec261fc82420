"""Processes by identity, not by number: a pid is only the same process while its start time is the same.

Everything that is written down about a process in this project is a :class:`ProcessId`, so that a recycled
pid is never signalled.  Reads ``/proc``; the directory is an argument, so that tests can make one up.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hil.core.sysfs import text_of
from hil.core.wait import SYSTEM_CLOCK, Clock, poll_until
from hil.errors import BenchError

PROC = Path("/proc")
_PR_SET_PDEATHSIG = 1


def started(pid: int, proc: Path = PROC) -> tuple[int, bool] | None:
    """``(start ticks, has ended)`` of a pid; None when ``/proc`` shows no such process.

    Start ticks are field 22 of ``/proc/<pid>/stat``: clock ticks from boot to the start of the process (proc(5)).
    A zombie has ended, unless other threads of it still run (field 20): they may still hold files and locks.
    """
    try:
        # The command's name may hold spaces and parentheses, so fields are counted from the last ")".
        stat = (proc / str(pid) / "stat").read_bytes()
        fields = stat.rpartition(b")")[2].split()
        return int(fields[19]), fields[0] in (b"Z", b"X") and int(fields[17]) <= 1
    except (OSError, IndexError, ValueError):
        return None


def idle_cores(seconds: float, proc: Path = PROC) -> float:
    """Look for so long, and return how many of this host's cores had nothing to do."""

    def ticks() -> tuple[int, int]:
        fields = [int(n) for n in (proc / "stat").read_text().split("\n", 1)[0].split()[1:9]]
        return sum(fields), fields[3] + fields[4]

    total, idle = ticks()
    SYSTEM_CLOCK.sleep(seconds)
    after, idle_after = ticks()
    return (os.cpu_count() or 1) * (idle_after - idle) / max(1, after - total)


def is_gone(pid: int, start_ticks: int, proc: Path = PROC) -> bool:
    """Return True only when that very process has certainly ended.

    A process that ``/proc`` hides (another user's, under ``hidepid``) counts as running.
    """
    found = started(pid, proc)
    if found is not None:
        return found != (start_ticks, False)
    try:
        os.kill(pid, 0)
    except OSError as exc:
        return isinstance(exc, ProcessLookupError)
    return False


def boot_id(proc: Path = PROC) -> str:
    """Return the kernel's random name for this boot; empty where it does not tell."""
    return text_of(proc / "sys/kernel/random/boot_id")


def this_process() -> dict[str, Any]:
    """Return this process as :func:`is_alive` understands it: ``pid``, ``start_ticks``, ``boot_id``; and its host."""
    status = started(os.getpid())
    identity = {"pid": os.getpid(), "start_ticks": status[0] if status else None, "boot_id": boot_id()}
    return {**identity, "host": os.uname().nodename}


def is_alive(process: Mapping[str, Any]) -> bool:
    """Return whether that very process still runs: not another one with its pid, not one before a restart."""
    pid, ticks = process.get("pid"), process.get("start_ticks")
    if not isinstance(pid, int) or ticks is None or process.get("boot_id") != boot_id():
        return False
    return started(pid) == (ticks, False)


@dataclass(frozen=True)
class ProcessId:
    """One process of this boot of the machine."""

    pid: int
    start_ticks: int
    """As :func:`started` returns them."""

    def alive(self, proc: Path = PROC) -> bool:
        """Return True while this very process runs; a zombie is not alive."""
        return started(self.pid, proc) == (self.start_ticks, False)

    def __str__(self) -> str:
        return f"{self.pid}:{self.start_ticks}"

    @classmethod
    def parse(cls, text: str) -> ProcessId:
        """Inverse of ``str``. ValueError when it is something else."""
        pid, _, ticks = text.strip().partition(":")
        return cls(int(pid), int(ticks))


@dataclass(frozen=True)
class Process:
    """A running process and its command line."""

    id: ProcessId
    argv: tuple[str, ...]
    parent: int


def identify(pid: int, proc: Path = PROC) -> ProcessId | None:
    """Return who has this pid now; None when nobody (or only a zombie) has it."""
    found = started(pid, proc)
    return ProcessId(pid, found[0]) if found and not found[1] else None


def current() -> ProcessId:
    """Return this process."""
    me = identify(os.getpid())
    if me is None:
        raise BenchError("/proc does not show this process", remedy="mount /proc")
    return me


def ancestors(proc: Path = PROC) -> Iterator[ProcessId]:
    """Yield this process, its parent, and so on, as far as ``/proc`` shows them."""
    pid = os.getpid()
    while pid and (who := identify(pid, proc)) is not None:
        yield who
        try:
            pid = int((proc / str(pid) / "stat").read_bytes().rpartition(b")")[2].split()[1])
        except (OSError, IndexError, ValueError):
            return


def processes(proc: Path = PROC) -> Iterator[Process]:
    """Every process that is alive and has a command line (kernel threads have none)."""
    for entry in sorted(proc.glob("[0-9]*"), key=lambda p: int(p.name)):
        pid = int(entry.name)
        try:
            raw = (entry / "cmdline").read_bytes()
            parent = int((entry / "stat").read_text(errors="replace").rpartition(")")[2].split()[1])
        except (OSError, IndexError, ValueError):
            continue  # it ended while we looked
        who = identify(pid, proc)
        if who and raw:
            yield Process(who, tuple(raw.decode(errors="replace").rstrip("\0").split("\0")), parent)


def families(roots: Iterable[int], proc: Path = PROC) -> dict[int, list[int]]:
    """Return each root's own pid and the pids of all that descend from it, at this moment."""
    children: dict[int, list[int]] = {}
    for process in processes(proc):
        children.setdefault(process.parent, []).append(process.id.pid)
    found: dict[int, list[int]] = {}
    for root in roots:
        found[root] = [root]
        for pid in found[root]:
            found[root] += children.get(pid, [])
    return found


def memory_b(pids: Iterable[int], proc: Path = PROC) -> int:
    """Return memory of processes in bytes, each shared page divided among those that share it (Pss, proc(5))."""
    total = 0
    for pid in pids:
        with suppress(OSError, ValueError, StopIteration):  # it ended while we looked
            lines = (proc / str(pid) / "smaps_rollup").read_text().splitlines()
            total += next(int(line.split()[1]) for line in lines if line.startswith("Pss:")) * 1024
    return total


def dies_with_us() -> Callable[[], None]:
    """Return what makes a child, before it becomes its command, end with SIGTERM when this process dies (prctl(2))."""
    from ctypes import CDLL

    prctl, parent = CDLL(None).prctl, os.getpid()

    def prepare() -> None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:  # killed before the line above
            os._exit(1)

    return prepare


def end(who: ProcessId, *, what: str, term_s: float = 5.0, kill_s: float = 5.0, clock: Clock = SYSTEM_CLOCK) -> None:
    """End one process: SIGTERM, up to ``term_s`` seconds of patience, SIGKILL.

    Returns once it is gone (at once when it was not there).  Signals go through a pidfd whose process is
    checked after opening, so a recycled pid is never hit.  BenchError when it survives SIGKILL by ``kill_s``.
    """
    try:
        fd = os.pidfd_open(who.pid)
    except ProcessLookupError:
        return
    try:
        for number, patience in ((signal.SIGTERM, term_s), (signal.SIGKILL, kill_s)):
            if not who.alive():
                return
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(fd, number)
            if not all(who.alive() for _ in poll_until(patience, every_s=0.02, clock=clock)):
                return
    finally:
        os.close(fd)
    raise BenchError(
        f"{what} (pid {who.pid}) did not end {kill_s:g} s after SIGKILL",
        remedy="it hangs in the kernel: see `dmesg`; a restart of this machine clears it",
    )
