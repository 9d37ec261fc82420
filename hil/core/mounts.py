"""What is mounted below our directories, read from the kernel's own list."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from pathlib import Path

from hil.core.sysfs import text_of
from hil.errors import BenchError

MNT_DETACH = 2
MOUNTINFO = Path("/proc/self/mountinfo")


def mounts_under(*directories: Path, mountinfo: Path = MOUNTINFO) -> list[Path]:
    """Mount points at or below the directories, deepest and latest first: the order to unmount in."""
    below = [point for point, _ in _mounts(mountinfo) if any(map(point.is_relative_to, directories))]
    return sorted(reversed(below), key=lambda p: len(p.parts), reverse=True)


def filesystem_of(directory: Path, mountinfo: Path = MOUNTINFO) -> str:
    """Return the type of the file system that ``directory`` is on; empty when the kernel does not tell."""
    place = directory.resolve()
    above = [mount for mount in _mounts(mountinfo) if place.is_relative_to(mount[0])]
    # Of several at one point the latest is the one that is seen.
    return max(reversed(above), key=lambda mount: len(mount[0].parts), default=(place, ""))[1]


def _mounts(mountinfo: Path) -> Iterator[tuple[Path, str]]:
    """Mount point and type of the file system of every mount, in the order of mounting (proc_pid_mountinfo(5))."""
    for line in text_of(mountinfo).splitlines():
        before, _, after = line.partition(" - ")
        yield Path(_unescape(before.split()[4])), after.split()[0]


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
