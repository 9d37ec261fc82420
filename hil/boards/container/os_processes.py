"""The processes of a container board's OS, seen from the host."""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path

from hil.core.wait import poll_until

STOPPED_WITHIN_S = 3.0
"""A stop signal takes effect within this, also on a busy host."""


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


def stop_all(init: int) -> None:
    """Stop all processes of an OS: again until all stand still, for what is just being forked escapes the first time.

    After :data:`STOPPED_WITHIN_S` it returns all the same; who wants to know looks.
    """
    for _ in poll_until(STOPPED_WITHIN_S, every_s=0.02):
        send(os_processes(init), signal.SIGSTOP)
        if standing_still(init)[0]:
            return


def standing_still(init: int | None) -> tuple[bool, str]:
    """Return whether all processes of an OS are stopped, and how many are."""
    states = [process_state(each) for each in os_processes(init)] if init else []
    stopped = sum(state in "TZ" for state in states)
    return 0 < len(states) == stopped, f"{stopped} of {len(states)} processes of its OS stand still"


def send(pids: list[int], number: signal.Signals) -> None:
    """Send a signal to processes; those that have ended meanwhile are left out."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
