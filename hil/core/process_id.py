"""The identity of a process as ``/proc`` shows it, which a recycled pid or a restart of the machine cannot fake.

``hil.core.processes`` makes of it what signals are sent to, ``hil.evidence`` the writer of a run, ``hil.leases`` the
holder of a board.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

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
    """Return True only when that very process has certainly ended.

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
    """Return the kernel's random name for this boot; empty where it does not tell."""
    try:
        return (proc / "sys/kernel/random/boot_id").read_text("ascii").strip()
    except OSError:
        return ""


def this_process() -> dict[str, Any]:
    """Return this process as :func:`is_alive` understands it: ``pid``, ``start_ticks``, ``boot_id``."""
    status = started(os.getpid())
    return {"pid": os.getpid(), "start_ticks": status[0] if status else None, "boot_id": boot_id()}


def is_alive(process: Mapping[str, Any]) -> bool:
    """Return whether that very process still runs: not another one with its pid, not one before a restart."""
    pid, ticks = process.get("pid"), process.get("start_ticks")
    if not isinstance(pid, int) or ticks is None or process.get("boot_id") != boot_id():
        return False
    return started(pid) == (ticks, False)
