"""Which process writes a run, in a form that a recycled pid or a reboot cannot fake."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from hil.core.process_id import boot_id, started


def this_process() -> dict[str, Any]:
    """This process as :func:`is_alive` understands it."""
    return {"pid": os.getpid(), "start_ticks": _start_ticks(os.getpid()), "boot_id": boot_id()}


def is_alive(process: Mapping[str, Any]) -> bool:
    """Whether that very process still runs (not another one with its pid, not one before a reboot)."""
    pid, ticks = process.get("pid"), process.get("start_ticks")
    if not isinstance(pid, int) or ticks is None or process.get("boot_id") != boot_id():
        return False
    return bool(_start_ticks(pid) == ticks)


def _start_ticks(pid: int) -> int | None:
    """When a process that runs was started; None when there is no such process."""
    found = started(pid)
    return None if found is None or found[1] else found[0]
