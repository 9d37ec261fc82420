"""The processes of a container board's OS, seen from the host."""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path


def os_pid(firmware_pid: int) -> int | None:
    """Return the child of the firmware that lives in a PID namespace of its own."""
    proc = Path("/proc")
    try:
        own = (proc / str(firmware_pid) / "ns/pid").readlink()
        children = (proc / str(firmware_pid) / "task" / str(firmware_pid) / "children").read_text().split()
    except OSError:
        return None
    for child in children:
        with contextlib.suppress(OSError):
            if (proc / child / "ns/pid").readlink() != own:
                return int(child)
    return None


def os_processes(init: int) -> list[int]:
    """Return the host PIDs of all processes in the PID namespace of an OS's init."""
    proc = Path("/proc")
    found = []
    with contextlib.suppress(OSError):
        namespace = (proc / str(init) / "ns/pid").readlink()
        for entry in proc.iterdir():
            with contextlib.suppress(OSError):
                if entry.name.isdigit() and (entry / "ns/pid").readlink() == namespace:
                    found.append(int(entry.name))
    return found


def process_state(pid: int) -> str:
    """Return the state letter of a process: T when it is stopped, Z when it has ended."""
    try:
        return (Path("/proc") / str(pid) / "stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "Z"


def send(pids: list[int], number: signal.Signals) -> None:
    """Send a signal to processes; those that have ended meanwhile are left out."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
