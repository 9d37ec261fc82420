"""Network namespaces, and the one function that opens sockets to boards.

The harness talks to virtual boards from its own empty namespaces, so a wrong address fails with ENETUNREACH
instead of leaving the machine through the host's default route.
"""

from __future__ import annotations

import ctypes
import os
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from hil.core.command import run
from hil.errors import BenchError

CLONE_NEWNET = 0x40000000
NETNS_DIR = Path("/run/netns")
HOST = ""
"""The machine's own network instead of a namespace: where a real lab's boards and power strips are."""
SOCKET_OPTIONS = (
    (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
    # A board that lost power says nothing; one that came back answers the first keep-alive with a reset.
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 2),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 8),
)
"""No delay, and a dead peer noticed: after 17 s of silence, or 1 s after it restarted."""

_libc = ctypes.CDLL(None, use_errno=True)


def path_of(namespace: str) -> Path:
    """Return the file of a namespace: a name under ``/run/netns``, or already a path such as ``/proc/123/ns/net``."""
    return Path(namespace) if namespace.startswith("/") else NETNS_DIR / namespace


def create(namespace: str) -> None:
    """Make an empty named namespace with loopback up. BenchError when it exists or the kernel refuses."""
    _ip("netns", "add", namespace)
    _ip("-n", namespace, "link", "set", "lo", "up")


def delete(namespace: str) -> None:
    """Remove a named namespace; its NICs and their peers go with it. No error when it is gone already."""
    if path_of(namespace).exists():
        _ip("netns", "delete", namespace)


def names(prefix: str) -> list[str]:
    """Named namespaces that start with ``prefix``, sorted."""
    return sorted(p.name for p in NETNS_DIR.glob(f"{prefix}*")) if NETNS_DIR.is_dir() else []


@contextmanager
def inside(namespace: str) -> Iterator[None]:
    """Run the calling thread in ``namespace``; sockets made here keep belonging to it afterwards.

    :data:`HOST` stays where the thread is.  Raises BenchError when the namespace is not there or entering it is
    not permitted.
    """
    if namespace == HOST:
        yield
        return
    with opened(namespace) as target:
        home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            _setns(target, namespace)
            try:
                yield
            finally:
                _setns(home, "the thread's own")
        finally:
            os.close(home)


@contextmanager
def opened(namespace: str) -> Iterator[int]:
    """A descriptor of a namespace, for calls that take one. BenchError when it is not there."""
    try:
        target = os.open(path_of(namespace), os.O_RDONLY | os.O_CLOEXEC)
    except OSError as exc:
        raise BenchError(
            f"network namespace {namespace}: {exc.strerror}", remedy="is the bench up? see `hil bench status`"
        ) from exc
    try:
        yield target
    finally:
        os.close(target)


def connect(namespace: str, address: tuple[str, int], *, timeout_s: float) -> socket.socket:
    """Open a TCP connection from inside ``namespace``, with TCP_NODELAY.

    Nothing else in this project opens a socket to a board.  OSError as ``socket.connect`` raises it.
    """
    with inside(namespace):
        sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        sock.settimeout(timeout_s)
        for level, option, value in SOCKET_OPTIONS:
            sock.setsockopt(level, option, value)
        sock.connect(address)
    except BaseException:
        sock.close()
        raise
    return sock


def udp(namespace: str, address: str, *, device: str, foreign: bool = False) -> socket.socket:
    """A UDP socket of ``namespace`` bound to a free port of ``address``, that uses NIC ``device`` and no other.

    ``foreign``: the address may be one that the namespace does not have, to send from.
    BenchError when the namespace, the NIC or the address is not there.
    """
    with inside(namespace):
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device.encode())
        if foreign:
            sock.setsockopt(socket.IPPROTO_IP, socket.IP_TRANSPARENT, 1)
        sock.bind((address, 0))
    except OSError as exc:
        sock.close()
        raise BenchError(f"no UDP socket on {address} ({device} in {namespace}): {exc.strerror}") from exc
    return sock


def datagram(namespace: str) -> socket.socket:
    """A UDP socket of ``namespace`` (:data:`HOST`: of this machine), not yet bound. BenchError as :func:`inside`."""
    with inside(namespace):
        return socket.socket(socket.AF_INET, socket.SOCK_DGRAM)


def argv_inside(namespace: str, argv: Sequence[str]) -> list[str]:
    """Return the command line that runs ``argv`` in ``namespace`` (and nothing else changed)."""
    if namespace == HOST:
        return list(argv)
    return ["nsenter", f"--net={path_of(namespace)}", "--", *argv]


def _setns(fd: int, what: str) -> None:
    if _libc.setns(fd, CLONE_NEWNET) != 0:
        raise BenchError(
            f"cannot enter network namespace {what}: {os.strerror(ctypes.get_errno())}",
            remedy="the virtual lab needs root",
        )


def _ip(*argv: str) -> None:
    done = run(["ip", *argv])
    if not done.ok:
        raise BenchError(f"`ip {' '.join(argv)}` failed: {done.stderr.strip()}")
