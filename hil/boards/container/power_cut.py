"""Losing power, as a disk sees it.

Killing a container is a *clean* unmount for its file systems: tearing the mount namespace down writes everything
back.  So before the kill, the data partition's file system is shut down without a flush (``EXT4_IOC_SHUTDOWN``, what
xfstests uses to play a crash), and a slot that may be being written is copied as it is on "disk" right now and put
back afterwards.  What the OS had synced is on disk; what it had not is lost.
"""

from __future__ import annotations

import fcntl
import os
import struct
from pathlib import Path

from hil.core.command import run
from hil.errors import BenchError

EXT4_IOC_SHUTDOWN = 0x8004587D  # _IOR('X', 125, __u32), include/uapi/linux/ext4.h
EXT4_GOING_FLAGS_NOLOGFLUSH = 2
LOOP_MAJOR = 7
_COPY_TRIES = 5
COPY_S = 120.0


def copy_sparse(source: Path, target: Path, *, size_bytes: int | None = None) -> None:
    """Copy data and keep holes; ``target`` ends up ``size_bytes`` long (default: as long as ``source``).

    On file systems that share extents the copy is immediate.  BenchError when it cannot be made.
    """
    done = run(["cp", "--sparse=auto", "--reflink=auto", str(source), str(target)], timeout_s=COPY_S)
    if not done.ok:
        raise BenchError(f"{source} cannot be copied: {done.tail(3)}", remedy="is the disk full?")
    if size_bytes is not None:
        os.truncate(target, size_bytes)


def snapshot(image: Path) -> Path:
    """Copy ``image`` as it is on disk now; the copy's path.

    The kernel may still be writing back; the copy is taken again until the file stood still meanwhile.
    BenchError when it never does (the board must be paused).
    """
    target = image.with_name(f"{image.name}.cut")
    for _ in range(_COPY_TRIES):
        before = image.stat().st_mtime_ns
        copy_sparse(image, target)
        if image.stat().st_mtime_ns == before:
            return target
    target.unlink(missing_ok=True)
    raise BenchError(f"{image} kept changing while the power was cut", remedy="is something else writing to it?")


def crash_file_system(mount_point: Path) -> bool:
    """Stop the ext4 file system mounted there at once, losing what was not synced.

    False when it is no ext4 on a loop device, or a link: the caller falls back to a snapshot.  (Never without these
    checks: were nothing mounted there, or a link of the OS, the path would belong to the host's own file systems.)
    """
    try:
        descriptor = os.open(mount_point, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        if os.major(os.fstat(descriptor).st_dev) != LOOP_MAJOR:
            return False
        fcntl.ioctl(descriptor, EXT4_IOC_SHUTDOWN, struct.pack("I", EXT4_GOING_FLAGS_NOLOGFLUSH))
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return True
