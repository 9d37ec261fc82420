"""Which process writes a run, in a form that a recycled pid or a reboot cannot fake."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def this_process() -> dict[str, Any]:
    """This process as :func:`is_alive` understands it."""
    return {"pid": os.getpid(), "start_ticks": _start_ticks(os.getpid()), "boot_id": _boot_id()}


def is_alive(process: Mapping[str, Any]) -> bool:
    """Whether that very process still runs (not another one with its pid, not one before a reboot)."""
    pid, ticks = process.get("pid"), process.get("start_ticks")
    if not isinstance(pid, int) or ticks is None or process.get("boot_id") != _boot_id():
        return False
    return bool(_start_ticks(pid) == ticks)


def _start_ticks(pid: int) -> int | None:
    """Field 22 of /proc/<pid>/stat: start in clock ticks since boot; None when there is no such process."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace")
    except OSError:
        return None
    # The command name, in brackets, may itself contain spaces and brackets: count from its end.
    after = stat.rpartition(")")[2].split()
    return None if after[0] in {"Z", "X"} else int(after[19])


def _boot_id() -> str:
    try:
        return _BOOT_ID.read_text("ascii").strip()
    except OSError:
        return ""
