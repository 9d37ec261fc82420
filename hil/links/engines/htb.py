"""Tenants' shares of a link: an HTB qdisc below the link's netem, a class for each tenant, and one for all others.

netem delays and loses as on any link but no longer serialises; HTB serialises what comes out of it at the link's rate
and gives each class its part of that while others want theirs.  A class may borrow what the others leave, in proportion
to the shares.  Each class has a queue of its own, limited in bytes, so one tenant's packets never wait behind another's
queue.  A packet belongs to the tenant whose board it comes from, else to the one whose board it goes to (u32 on IPv4
addresses).

The messages are composed by hand, as in :mod:`.police`.  Layouts: ``include/uapi/linux/pkt_sched.h``, ``pkt_cls.h``.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address

from hil.links.engines import rtnl

NETEM_HANDLE, HTB_HANDLE = 0x10000, 0x20000
_NETEM_CHILD = NETEM_HANDLE + 1
WHOLE, REST, FIRST = 1, 2, 16
"""Minor numbers of classes: the link's rate, all who are no tenant, the first tenant."""
_TCMSG = struct.Struct("=BBHiIII")
_RTM_NEWTCLASS, _RTM_GETTCLASS = 40, 42
_KIND, _OPTIONS, _STATS2 = 1, 2, 7
_HTB_PARMS, _HTB_INIT, _HTB_RATE64, _HTB_CEIL64 = 1, 2, 6, 7
_GLOB = struct.Struct("=IIIII")  # struct tc_htb_glob: version, rate2quantum, defcls, debug, direct_pkts
_HTB_VERSION, _RATE2QUANTUM = 3, 10
_SPEC = struct.Struct("=BBHhHI")  # struct tc_ratespec
_OPT = struct.Struct("=12s12sIIIII")  # struct tc_htb_opt: rate, ceil, buffer, cbuffer, quantum, level, prio
_U32_CLASSID, _U32_SEL = 1, 5
_SELECTOR = struct.Struct("=BBBxHHhhI")  # struct tc_u32_sel: flags, offshift, nkeys, offmask, off, offoff, hoff, hmask
_KEY = struct.Struct("=I4sii")  # struct tc_u32_key: mask, val, off, offmask
_TERMINAL = 1
_SOURCE_AT, _DESTINATION_AT = 12, 16  # in an IPv4 header
_ETH_P_IP_BE = 0x0008
_STATS_BASIC, _STATS_QUEUE = 1, 3
_BURST_NS = 2_000_000
"""What a class may send at once after a silence, in time at its rate: so a kernel that wakes up late catches up."""
_LEAST_BURST_FRAMES = 2


@dataclass(frozen=True)
class Shares:
    """What the scheduler of one direction does: the whole rate, and each tenant's percent and addresses.

    ``queue_bytes``: what may wait, of each class.  ``frame_bytes``: the largest frame.
    """

    bytes_per_s: int
    queue_bytes: int
    frame_bytes: int
    percents: tuple[int, ...]
    addresses: tuple[tuple[str, ...], ...]
    closed: frozenset[int] = frozenset()
    """Tenants, by their place, whose packets are all lost: for them the link is cut."""

    @property
    def rest_percent(self) -> int:
        """The part of those who are no tenant: what is left of 100, at least 1."""
        return max(1, 100 - sum(self.percents))

    def queue_of(self, minor: int) -> int | None:
        """Return the bytes that may wait in a class; None for the whole link's."""
        return None if minor == WHOLE else 0 if minor - FIRST in self.closed else self.queue_bytes

    def classes(self) -> dict[int, int]:
        """Return bytes per second that each class is sure of, by its minor number, the whole link's first.

        Where the tenants' shares are 100 percent together, that of all others (1) comes off each in proportion.
        """
        parts = {REST: self.rest_percent, **{FIRST + n: percent for n, percent in enumerate(self.percents)}}
        total = sum(parts.values())
        return {WHOLE: self.bytes_per_s} | {
            minor: max(1, self.bytes_per_s * part // total) for minor, part in parts.items()
        }


@dataclass(frozen=True)
class ClassCount:
    """A class as the kernel reports it."""

    bytes_per_s: int
    most_bytes_per_s: int
    sent_bytes: int
    sent_packets: int
    dropped_packets: int
    queued_packets: int
    queue_bytes: int | None = None
    """What may wait; None where that is not known."""


def build(ifindex: int, shares: Shares) -> list[bytes]:
    """Compose the messages that put the scheduler below the netem of NIC ``ifindex``, which is there already."""
    init = _GLOB.pack(_HTB_VERSION, _RATE2QUANTUM, REST, 0, 0)
    qdisc = _options("htb", rtnl.attribute(_HTB_INIT, init))
    steps = [_message(rtnl.RTM_NEWQDISC, rtnl.NEW, ifindex, HTB_HANDLE, _NETEM_CHILD, qdisc), *change(ifindex, shares)]
    for offset in (_SOURCE_AT, _DESTINATION_AT):
        for number, addresses in enumerate(shares.addresses):
            steps += [_belongs(ifindex, address, offset, HTB_HANDLE + FIRST + number) for address in addresses]
    return steps


def change(ifindex: int, shares: Shares) -> list[bytes]:
    """Compose the messages that make the classes of NIC ``ifindex`` and their queues, or change them."""
    least = min(shares.percents)
    steps = []
    for minor, rate in shares.classes().items():
        percent = shares.percents[minor - FIRST] if minor >= FIRST else least
        quantum = shares.frame_bytes * percent // least
        options = _parameters(rate, shares.bytes_per_s, shares.frame_bytes, quantum)
        parent = HTB_HANDLE + (0 if minor == WHOLE else WHOLE)
        steps.append(_message(_RTM_NEWTCLASS, _MAKE, ifindex, HTB_HANDLE + minor, parent, _options("htb", options)))
        if minor != WHOLE:
            queue = _options("bfifo", struct.pack("=I", shares.queue_of(minor)))
            handle = (minor + 2) << 16
            steps.append(_message(rtnl.RTM_NEWQDISC, _MAKE, ifindex, handle, HTB_HANDLE + minor, queue))
    return steps


_MAKE = rtnl.NLM_F_ACK | rtnl.NLM_F_CREATE | rtnl.NLM_F_REPLACE


def dump_request(ifindex: int) -> bytes:
    """Compose the RTM_GETTCLASS for all classes of a NIC."""
    return _message(_RTM_GETTCLASS, rtnl.DUMP, ifindex, 0, 0, b"")


def decode(message: bytes) -> tuple[int, int, ClassCount] | None:
    """Decode (ifindex, minor number, class) of one message of a dump; None for anything that is no class of ours."""
    _, kind, *_ = rtnl.HEADER.unpack_from(message)
    _, _, _, ifindex, handle, _, _ = _TCMSG.unpack_from(message, rtnl.HEADER.size)
    if kind != _RTM_NEWTCLASS or handle & 0xFFFF0000 != HTB_HANDLE:
        return None
    parts = rtnl.parts(message, rtnl.HEADER.size + _TCMSG.size)
    options, stats = rtnl.parts(parts.get(_OPTIONS, b"")), rtnl.parts(parts.get(_STATS2, b""))
    if _HTB_PARMS not in options:
        return None
    rate, ceil, *_ = _OPT.unpack_from(options[_HTB_PARMS])

    def bytes_per_s(spec: bytes, wide: int) -> int:
        return int(struct.unpack("=Q", options[wide])[0] if wide in options else _SPEC.unpack(spec)[-1])

    sent_bytes, sent = struct.unpack_from("=QI", stats[_STATS_BASIC]) if _STATS_BASIC in stats else (0, 0)
    queued, _, dropped = struct.unpack_from("=III", stats[_STATS_QUEUE]) if _STATS_QUEUE in stats else (0, 0, 0)
    counted = ClassCount(
        bytes_per_s(rate, _HTB_RATE64), bytes_per_s(ceil, _HTB_CEIL64), sent_bytes, sent, dropped, queued
    )
    return ifindex, handle & 0xFFFF, counted


def queue_of(message: bytes) -> tuple[int, int, int] | None:
    """Decode (ifindex, minor number, bytes that may wait) of one message of a dump of qdiscs; None for others."""
    _, kind, *_ = rtnl.HEADER.unpack_from(message)
    _, _, _, ifindex, _, parent, _ = _TCMSG.unpack_from(message, rtnl.HEADER.size)
    parts = rtnl.parts(message, rtnl.HEADER.size + _TCMSG.size)
    if kind != rtnl.RTM_NEWQDISC or parent & 0xFFFF0000 != HTB_HANDLE or parts.get(_KIND) != b"bfifo\0":
        return None
    return ifindex, parent & 0xFFFF, int(struct.unpack_from("=I", parts[_OPTIONS])[0])


def as_commanded(shares: Shares, classes: Mapping[int, ClassCount]) -> bool:
    """Tell whether the kernel's classes are those that ``shares`` asks for."""
    most = shares.bytes_per_s
    wanted = {minor: (rate, most, shares.queue_of(minor)) for minor, rate in shares.classes().items()}
    return wanted == {minor: (c.bytes_per_s, c.most_bytes_per_s, c.queue_bytes) for minor, c in classes.items()}


def _parameters(rate: int, ceil: int, frame_bytes: int, quantum: int) -> bytes:
    def spec(value: int) -> bytes:
        return _SPEC.pack(0, rtnl.LINKLAYER_ETHERNET, 0, 0, 0, min(value, rtnl.U32_MAX))

    def burst(value: int) -> int:
        frames_ns = _LEAST_BURST_FRAMES * frame_bytes * 1_000_000_000 // value
        return min(max(_BURST_NS, frames_ns) >> rtnl.TICK_NS_SHIFT, rtnl.U32_MAX)

    content = rtnl.attribute(_HTB_PARMS, _OPT.pack(spec(rate), spec(ceil), burst(rate), burst(ceil), quantum, 0, 0))
    for kind, value in ((_HTB_RATE64, rate), (_HTB_CEIL64, ceil)):
        if value > rtnl.U32_MAX:
            content += rtnl.attribute(kind, struct.pack("=Q", value))
    return content


def _belongs(ifindex: int, address: str, offset: int, class_id: int) -> bytes:
    """Compose the filter that puts packets with this address, as source or as destination, into a class."""
    key = _KEY.pack(rtnl.U32_MAX, IPv4Address(address).packed, offset, 0)
    selector = _SELECTOR.pack(_TERMINAL, 0, 1, 0, 0, 0, 0, 0) + key
    options = rtnl.attribute(_U32_CLASSID, struct.pack("=I", class_id)) + rtnl.attribute(_U32_SEL, selector)
    info = (1 if offset == _SOURCE_AT else 2) << 16 | _ETH_P_IP_BE
    flags = rtnl.NLM_F_ACK | rtnl.NLM_F_CREATE
    return _message(rtnl.RTM_NEWTFILTER, flags, ifindex, 0, HTB_HANDLE, _options("u32", options), info=info)


def _options(kind: str, content: bytes) -> bytes:
    return rtnl.attribute(_KIND, kind.encode() + b"\0") + rtnl.attribute(_OPTIONS, content)


def _message(kind: int, flags: int, ifindex: int, handle: int, parent: int, content: bytes, *, info: int = 0) -> bytes:
    return rtnl.composed(kind, flags, _TCMSG.pack(0, 0, 0, ifindex, handle, parent, info), content)
