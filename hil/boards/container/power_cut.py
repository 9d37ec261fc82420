"""Losing power, as a disk sees it.

Killing a container is a *clean* unmount for its file systems: tearing the mount namespace down writes everything
back.  So before the kill, the data partition's file system is shut down without a flush (``EXT4_IOC_SHUTDOWN``, what
xfstests uses to play a crash), and a slot that may be being written is copied as it is on "disk" right now and put
back afterwards.  What the OS had synced is on disk; what it had not is lost.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
from pathlib import Path

from hil.errors import BenchError

EXT4_IOC_SHUTDOWN = 0x8004587D  # _IOR('X', 125, __u32), include/uapi/linux/ext4.h
EXT4_GOING_FLAGS_NOLOGFLUSH = 2
LOOP_MAJOR = 7
_COPY_TRIES = 5


def copy_sparse(source: Path, target: Path, *, size_bytes: int | None = None) -> None:
    """Copy data and keep holes; ``target`` ends up ``size_bytes`` long (default: as long as ``source``).

    On file systems that share extents the copy is immediate.
    """
    with source.open("rb") as reader, target.open("wb") as writer:
        size = os.fstat(reader.fileno()).st_size
        if not _clone(reader.fileno(), writer.fileno()):
            offset = 0
            while offset < size:
                try:
                    offset = os.lseek(reader.fileno(), offset, os.SEEK_DATA)
                except OSError as exc:
                    if exc.errno == errno.ENXIO:  # only a hole is left
                        break
                    raise
                end = os.lseek(reader.fileno(), offset, os.SEEK_HOLE)
                _copy_range(reader.fileno(), writer.fileno(), offset, end)
                offset = end
        writer.truncate(size if size_bytes is None else size_bytes)


def _clone(source: int, target: int) -> bool:
    ficlone = 0x40049409
    try:
        fcntl.ioctl(target, ficlone, source)
    except OSError:
        return False
    return True


def _copy_range(source: int, target: int, start: int, end: int) -> None:
    offset = start
    while offset < end:
        try:
            done = os.copy_file_range(source, target, end - offset, offset, offset)
        except OSError as exc:
            if exc.errno not in (errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP):
                raise
            done = os.pwrite(target, os.pread(source, min(1 << 20, end - offset), offset), offset)
        if done == 0:
            break
        offset += done


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
    raise BenchError(
        f"{image} kept changing while the power was cut", remedy="is something else writing to it?"
    )


def crash_file_system(mount_point: Path) -> bool:
    """Stop the ext4 file system mounted there at once, losing what was not synced.

    False when it is no ext4 on a loop device: the caller falls back to a snapshot.  (Never without that check: were
    nothing mounted there, the path would belong to the host's own file system.)
    """
    try:
        descriptor = os.open(mount_point, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
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
