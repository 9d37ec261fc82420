"""What ``/proc`` says of a process: the one reader of start times, for whoever must not mistake a recycled pid.

Ground floor: every room may use it.  Identities of processes are made of it in ``hil.core.processes`` (to signal them),
``hil.evidence.process`` (who writes a run) and ``hil.leases.leases`` (who holds a board).
"""

from __future__ import annotations

import os
from pathlib import Path

PROC = Path("/proc")


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


def is_gone(pid: int, start_ticks: int, proc: Path = PROC) -> bool:
    """True only when that very process has certainly ended.

    A process that ``/proc`` hides (another user's, under ``hidepid``) counts as running.
    """
    found = started(pid, proc)
    if found is not None:
        return found != (start_ticks, False)
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False


def boot_id(proc: Path = PROC) -> str:
    """The kernel's random name for this boot; empty where it does not tell."""
    try:
        return (proc / "sys/kernel/random/boot_id").read_text("ascii").strip()
    except OSError:
        return ""
