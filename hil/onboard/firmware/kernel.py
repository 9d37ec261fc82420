"""The system calls the firmware needs and Python's standard library lacks, through ctypes."""

from __future__ import annotations

import ctypes
import fcntl
import os
import signal
import stat
import struct
import sys
import time
from pathlib import Path

MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC = 1, 2, 4, 8
MS_REMOUNT, MS_BIND, MS_MOVE, MS_REC, MS_PRIVATE = 32, 4096, 8192, 16384, 1 << 18

CLONE_NEWNS, CLONE_NEWUTS, CLONE_NEWIPC, CLONE_NEWPID = 0x00020000, 0x04000000, 0x08000000, 0x20000000
_CLONE_NUMBER = {"x86_64": 56, "aarch64": 220}

LOOP_CTL_GET_FREE = 0x4C82
LOOP_CONFIGURE = 0x4C0A
LO_FLAGS_AUTOCLEAR = 4
_LOOP_CONFIG_SIZE = 304
_LOOP_FLAGS_OFFSET = 8 + 52

_libc = ctypes.CDLL(None, use_errno=True)


def _check(result: int, what: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return result


def mount(source: str, target: Path | str, fstype: str = "", flags: int = 0, options: str = "") -> None:
    """mount(2); OSError says what was mounted where."""
    _check(
        _libc.mount(source.encode(), str(target).encode(), fstype.encode(), flags, options.encode()),
        f"mount {source} on {target}",
    )


def bind(source: Path | str, target: Path | str, *, read_only: bool = False) -> None:
    """Bind-mount one file or directory over another."""
    mount(str(source), target, flags=MS_BIND | MS_REC)
    if read_only:
        mount("none", target, flags=MS_REMOUNT | MS_BIND | MS_RDONLY)


def set_hostname(name: str) -> None:
    encoded = name.encode()
    _check(_libc.sethostname(encoded, len(encoded)), "sethostname")


def clone_machine() -> int:
    """fork(2) into new mount, PID, UTS and IPC namespaces; 0 in the child, which is PID 1 of its own world.

    Raw clone(2): the child is ours directly, so its reboot(2) arrives here as a wait status.  The caller must be
    single-threaded and the child must exec soon (Python's own fork hooks do not run).
    """
    flags = CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWPID | signal.SIGCHLD
    return _check(_libc.syscall(_CLONE_NUMBER[os.uname().machine], flags, 0, 0, 0, 0), "clone")


def attach_loop(image: Path, *, tries: int = 20) -> tuple[int, str]:
    """Attach ``image`` to a free loop device: (open descriptor, device path).

    Autoclear: the device frees itself when the last descriptor and mount are gone, however the board dies.
    Another board may take the device that was free a moment ago, hence the retries.
    """
    backing = os.open(image, os.O_RDWR | os.O_CLOEXEC)
    try:
        config = bytearray(_LOOP_CONFIG_SIZE)
        struct.pack_into("<I", config, 0, backing)
        struct.pack_into("<I", config, _LOOP_FLAGS_OFFSET, LO_FLAGS_AUTOCLEAR)
        make_node("/dev/loop-control", stat.S_IFCHR, 10, 237)
        for attempt in range(tries):
            control = os.open("/dev/loop-control", os.O_RDWR | os.O_CLOEXEC)
            try:
                number = fcntl.ioctl(control, LOOP_CTL_GET_FREE)
            finally:
                os.close(control)
            path = f"/dev/loop{number}"
            make_node(path, stat.S_IFBLK, 7, number)
            loop = -1
            try:
                loop = os.open(path, os.O_RDWR | os.O_CLOEXEC)
                fcntl.ioctl(loop, LOOP_CONFIGURE, bytes(config))
                return loop, path
            except OSError:
                if loop >= 0:
                    os.close(loop)
                if attempt == tries - 1:
                    raise
                time.sleep(0.005)
    finally:
        os.close(backing)
    raise OSError(f"no free loop device for {image}")


def make_node(path: str, kind: int, major: int, minor: int) -> None:
    """A device node for root alone; left alone when it is there."""
    if not Path(path).exists():
        os.mknod(path, kind | 0o600, os.makedev(major, minor))


def close_quietly(descriptor: int) -> None:
    try:
        os.close(descriptor)
    except OSError as exc:
        print(f"close: {exc}", file=sys.stderr)
