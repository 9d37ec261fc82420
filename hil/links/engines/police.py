"""The policer before a link's redirection: it limits what waits in bytes, where netem's queue counts packets.

A token bucket (``act_police``) lets through what a queue of so many bytes would hold, and drops the rest.  netem
behind it needs a place for each of these packets, however small.  One policer per direction, found by its number, so
that a change of rate reaches it without touching the filter (``matchall`` cannot be changed in place).

The messages are composed by hand: pyroute2 0.9.7 has neither ``tcamsg`` nor the policer's 64-bit rate.  Layouts:
``include/uapi/linux/pkt_cls.h`` and ``pkt_sched.h``.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from hil.links.engines import rtnl
from hil.links.state import ETHERNET_HEADER_B

_TCAMSG = struct.Struct("=BBH")
_POLICE = struct.Struct("=IiIII BBHhHI BBHhHI iiI")
_RTM_NEWACTION, _RTM_GETACTION = 48, 50
_TCA_ACT_TAB = 1
_ACT_KIND, _ACT_OPTIONS, _ACT_STATS = 1, 2, 4
_POLICE_TBF, _POLICE_RATE, _POLICE_RESULT, _POLICE_RATE64 = 1, 2, 5, 8
_STATS_QUEUE = 3
_DROPS_AT = 8  # struct gnet_stats_queue: qlen, backlog, drops, ...
_SHOT, _PIPE = 2, 3
_CELL_LOG = 6  # of a table of rates that the kernel wants and does not use
_TABLE_B = 1024
_NUMBERS_FROM = 0x48490000
_MARGIN = 0.999
"""Of netem's rate: both round a packet's time to whole ns, and the queue behind a policer that is faster would grow."""


@dataclass(frozen=True)
class Police:
    """What a policer lets through: bytes of frames per second (0: all), and for how long more than that, ns."""

    bytes_per_s: int
    burst_ns: int

    @classmethod
    def of(cls, rate_bps: int, burst_us: int) -> Police:
        """Return the policer before a link of this rate (0: no limit) on which so much may wait.

        A bucket holds 274 s at most; below 3 kbit/s, where 64 full packets take longer, it lets all through.
        """
        burst_ns = burst_us * 1000
        if not rate_bps or burst_ns >> rtnl.TICK_NS_SHIFT > rtnl.U32_MAX:
            return cls(0, 0)
        return cls(max(1, int(rate_bps / 8 * _MARGIN)), burst_ns)


def change(ifindex: int, police: Police) -> bytes:
    """Compose the RTM_NEWACTION that makes the policer before NIC ``ifindex``, or changes it (with a full bucket)."""
    table = rtnl.attribute(_TCA_ACT_TAB, rtnl.attribute(1, action(ifindex, police)))
    flags = rtnl.NLM_F_ACK | rtnl.NLM_F_CREATE | rtnl.NLM_F_REPLACE
    return rtnl.composed(_RTM_NEWACTION, flags, bytes(_TCAMSG.size), table)


def dump_request() -> bytes:
    """Compose the RTM_GETACTION for all policers of the namespace."""
    table = rtnl.attribute(_TCA_ACT_TAB, rtnl.attribute(1, rtnl.attribute(_ACT_KIND, b"police\0")))
    return rtnl.composed(_RTM_GETACTION, rtnl.DUMP, bytes(_TCAMSG.size), table)


def drops(message: bytes) -> dict[int, int]:
    """Return the packets that policers dropped, by NIC, of one message of a dump."""
    found = {}
    (table,) = (rtnl.attributes(message, rtnl.HEADER.size + _TCAMSG.size).get(_TCA_ACT_TAB),)
    for begin, end in rtnl.attributes(message[: table[1]], table[0]).values() if table else ():
        action = message[begin:end]
        parts = rtnl.parts(action)
        options, stats = parts.get(_ACT_OPTIONS, b""), parts.get(_ACT_STATS, b"")
        own, queue = rtnl.attributes(options, 0).get(_POLICE_TBF), rtnl.attributes(stats, 0).get(_STATS_QUEUE)
        if own and queue:
            (number,) = struct.unpack_from("=I", options, own[0])
            (dropped,) = struct.unpack_from("=I", stats, queue[0] + _DROPS_AT)
            found[number - _NUMBERS_FROM] = dropped
    return found


def action(ifindex: int, police: Police) -> bytes:
    """Compose the policer of a direction as an action of a filter, for :func:`hil.links.engines.rtnl.redirect`."""
    rate = police.bytes_per_s
    burst = police.burst_ns >> rtnl.TICK_NS_SHIFT
    # At ingress the kernel counts a packet without its Ethernet header
    spec = (_CELL_LOG, rtnl.LINKLAYER_ETHERNET, ETHERNET_HEADER_B, 0, 0, min(rate, rtnl.U32_MAX))
    fixed = _POLICE.pack(_NUMBERS_FROM + ifindex, _SHOT, 0, burst, rtnl.U32_MAX, *spec, *bytes(6), 0, 0, 0)
    options = rtnl.attribute(_POLICE_TBF, fixed) + rtnl.attribute(_POLICE_RESULT, struct.pack("=I", _PIPE))
    if rate:
        options += rtnl.attribute(_POLICE_RATE, bytes(_TABLE_B))
    if rate > rtnl.U32_MAX:
        options += rtnl.attribute(_POLICE_RATE64, struct.pack("=Q", rate))
    return rtnl.attribute(_ACT_KIND, b"police\0") + rtnl.attribute(_ACT_OPTIONS, options)
