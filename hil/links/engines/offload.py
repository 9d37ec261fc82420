"""NIC features by ioctl: what a shaped hop must not do for itself.

netem acts on packets as the stack hands them over, which with segmentation offload are up to 64 KB: a loss then
drops 45 segments at once and the queue limit means 45 times as much.
"""

from __future__ import annotations

import ctypes
import fcntl
import re
import socket
import struct
from collections.abc import Callable
from functools import partial

from hil.errors import BenchError

_SIOCETHTOOL = 0x8946
_SIOCGIFFLAGS, _SIOCSIFFLAGS = 0x8913, 0x8914
_IFF_UP = 0x1
_GSTRINGS, _GSSET_INFO, _GFEATURES, _SFEATURES = 0x1B, 0x37, 0x3A, 0x3B
_SS_FEATURES = 4
_NAME_B = 32
_SEGMENTATION = r"tx-.*-segmentation|tx-gso-(list|partial)|rx-gro(-list|-hw)?|rx-lro|rx-udp-gro-forwarding"

Ioctl = Callable[[bytes], bytes]
"""A SIOCETHTOOL request on one NIC, to the buffer as the kernel leaves it. BenchError when it refuses."""


def segmentation_features(names: list[str], *, udp_only: bool) -> list[str]:
    """Return the features to turn off: all segmentation and coalescing, or only UDP segmentation.

    UDP segmentation always goes: User-Mode Linux 6.1 drops such packets whole.
    """
    wanted = "tx-udp-segmentation" if udp_only else _SEGMENTATION
    return [name for name in names if re.fullmatch(wanted, name)]


def turn_off(sock: socket.socket, ifname: str, *, udp_only: bool) -> None:
    """Turn segmentation features of a NIC off, in the namespace that ``sock`` belongs to, and check that they are.

    Raises BenchError when the NIC is not there or keeps one.
    """

    switch_off(partial(_ethtool, sock, ifname), ifname, udp_only=udp_only)


def switch_off(ask: Ioctl, ifname: str, *, udp_only: bool, undo_first: Callable[[bytes], None] | None = None) -> None:
    """Turn features off on the NIC that ``ask`` asks; ``undo_first`` gets the request that turns them on again."""
    names = _feature_names(ask)
    wanted = segmentation_features(names, udp_only=udp_only)
    blocks = -(-len(names) // 32)
    available, requested, active, fixed = _features(ask, blocks)
    mask = sum(1 << names.index(name) for name in wanted) & available & ~fixed
    on = (requested | active) & mask
    if not on:
        return
    # Some drivers turn a feature on that nobody asked for; with the next change of any the kernel drops those.
    unasked = active & ~requested & available & ~fixed & ~mask
    if undo_first:
        undo_first(_set(mask | unasked, on | unasked, blocks))
    ask(_set(mask | unasked, unasked, blocks))
    _, _, active, _ = _features(ask, blocks)
    if stuck := [name for name in wanted if mask & active & (1 << names.index(name))]:
        raise BenchError(f"NIC {ifname} keeps {', '.join(stuck)} on", remedy="the link box needs plain packets")


def set_up(sock: socket.socket, ifname: str) -> None:
    """Set a NIC up (`ip link set IFNAME up`), in the namespace that ``sock`` belongs to."""
    name = ifname.encode()
    try:
        answer = fcntl.ioctl(sock, _SIOCGIFFLAGS, struct.pack("16sh22x", name, 0))
        (flags,) = struct.unpack_from("h", answer, 16)
        fcntl.ioctl(sock, _SIOCSIFFLAGS, struct.pack("16sh22x", name, flags | _IFF_UP))
    except OSError as exc:
        raise BenchError(f"cannot set NIC {ifname} up: {exc.strerror}") from exc


def segmenting(ask: Ioctl, *, udp_only: bool) -> tuple[list[str], list[str]]:
    """Return which of :func:`segmentation_features` are on and can be turned off, and which are on for good."""
    names = _feature_names(ask)
    wanted = segmentation_features(names, udp_only=udp_only)
    available, _, active, fixed = _features(ask, -(-len(names) // 32))
    on = [name for name in wanted if active & (1 << names.index(name))]
    free = [name for name in on if available & ~fixed & (1 << names.index(name))]
    return free, [name for name in on if name not in free]


def _set(mask: int, values: int, blocks: int) -> bytes:
    """Return a request that sets the features in ``mask`` to ``values``."""
    pairs = [((mask >> 32 * n) & 0xFFFFFFFF, (values >> 32 * n) & 0xFFFFFFFF) for n in range(blocks)]
    return struct.pack("=II", _SFEATURES, blocks) + b"".join(struct.pack("=II", *pair) for pair in pairs)


def _feature_names(ask: Ioctl) -> list[str]:
    info = ask(struct.pack("=IIQI", _GSSET_INFO, 0, 1 << _SS_FEATURES, 0))
    (count,) = struct.unpack_from("=I", info, 16)
    answer = ask(struct.pack("=III", _GSTRINGS, _SS_FEATURES, count) + bytes(count * _NAME_B))
    rows = (answer[12 + i * _NAME_B : 12 + (i + 1) * _NAME_B] for i in range(count))
    return [row.split(b"\0")[0].decode() for row in rows]


def _features(ask: Ioctl, blocks: int) -> tuple[int, int, int, int]:
    """Return (available, requested, active, never changed), one bit per feature."""
    answer = ask(struct.pack("=II", _GFEATURES, blocks) + bytes(16 * blocks))
    words = list(struct.iter_unpack("=IIII", answer[8 : 8 + 16 * blocks]))
    columns = [sum(word[column] << 32 * block for block, word in enumerate(words)) for column in range(4)]
    return columns[0], columns[1], columns[2], columns[3]


def _ethtool(sock: socket.socket, ifname: str, request: bytes) -> bytes:
    buffer = ctypes.create_string_buffer(request, len(request))
    packed = struct.pack("16sP16x", ifname.encode(), ctypes.addressof(buffer))
    try:
        fcntl.ioctl(sock, _SIOCETHTOOL, packed)
    except OSError as exc:
        raise BenchError(f"NIC {ifname}: ethtool ioctl failed: {exc.strerror}") from exc
    return buffer.raw
