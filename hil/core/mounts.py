"""What is mounted below our directories, read from the kernel's own list."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

from hil.errors import BenchError

MNT_DETACH = 2


def mounts_under(*directories: Path, mountinfo: Path = Path("/proc/self/mountinfo")) -> list[Path]:
    """Mount points at or below the directories, deepest and latest first: the order to unmount in."""
    found = []
    for line in mountinfo.read_text(errors="replace").splitlines():
        point = Path(_unescape(line.split()[4]))  # field 5 of proc_pid_mountinfo(5)
        if any(point == d or d in point.parents for d in directories):
            found.append(point)
    return sorted(reversed(found), key=lambda p: len(p.parts), reverse=True)


def unmount(point: Path) -> None:
    """Detach one mount, even a busy one (the kernel frees it with its last user).  BenchError if refused."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.umount2(os.fsencode(point), MNT_DETACH) != 0:
        error = ctypes.get_errno()
        raise BenchError(f"cannot unmount {point}: {os.strerror(error)}", remedy="are you root?")


def _unescape(text: str) -> str:
    """Undo mountinfo's octal escapes of space, tab, newline and backslash."""
    for code, char in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        text = text.replace(code, char)
    return text
