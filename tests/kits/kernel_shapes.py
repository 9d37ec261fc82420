"""Shapers and redirections that this host's kernel takes even where it lacks netem and matchall."""

from __future__ import annotations

import struct

from hil.core.wait import wait_until
from hil.links.engines import rtnl
from hil.links.engines.agent import Agent
from hil.links.engines.wire_format import Applied, PlanRow, Shape


def tbf(ifindex: int, bytes_per_second: int) -> bytes:
    """A root token bucket filter, composed by pyroute2: a shaper that this kernel has."""
    from pyroute2.netlink.rtnl.tcmsg import sched_tbf, tcmsg

    message = tcmsg()
    message["index"] = ifindex
    message["parent"] = 0xFFFFFFFF
    options = sched_tbf.get_parameters({"rate": bytes_per_second, "burst": 16_384, "latency": "50ms"})
    message["attrs"] = [("TCA_KIND", "tbf"), ("TCA_OPTIONS", options)]
    message["header"]["type"] = 36
    message["header"]["flags"] = 0x505
    message.encode()
    return bytes(message.data)


def redirect_by_u32(from_ifindex: int, to_ifindex: int) -> bytes:
    """The box's redirection with the classifier that also small kernels have: u32, matching everything."""
    from pyroute2.netlink.rtnl.tcmsg import cls_u32, tcmsg

    message = tcmsg()
    message["index"] = from_ifindex
    message["parent"] = 0xFFFF0000
    message["info"] = (1 << 16) | 0x0300
    action = {"kind": "mirred", "direction": "egress", "action": "redirect", "ifindex": to_ifindex}
    options = cls_u32.get_parameters({"keys": ["0x0/0x0+0"], "action": action, "target": 0})
    options["attrs"] = [pair for pair in options["attrs"] if pair[0] != "TCA_U32_CLASSID"]
    message["attrs"] = [("TCA_KIND", "u32"), ("TCA_OPTIONS", options)]
    message["header"]["type"] = 44
    message["header"]["flags"] = 0x605
    message.encode()
    return bytes(message.data)


def joined_by_u32(a: int, b: int) -> list[tuple[str, bytes]]:
    """Steps that make a link of two NICs by what also small kernels have; 20 Mbit/s from a to b."""
    return [
        ("up a", rtnl.nic_up(a)),
        ("up b", rtnl.nic_up(b)),
        ("ingress a", rtnl.ingress(a)),
        ("ingress b", rtnl.ingress(b)),
        ("tbf", tbf(b, 2_500_000)),
        ("a to b", redirect_by_u32(a, b)),
        ("b to a", redirect_by_u32(b, a)),
    ]


def queue_length_shape() -> Shape:
    """A shape that this kernel takes whether or not it has netem: the loopback NIC's queue length is the delay.

    Three numbers go into an alias that nobody reads, the delay in ns into the last attribute.
    """
    from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg

    message = ifinfmsg()
    message["index"] = 1
    message["attrs"] = [("IFLA_IFALIAS", "alias of 15 b"), ("IFLA_TXQLEN", 1)]
    message["header"]["type"] = 16
    message["header"]["flags"] = 0x5
    message.encode()
    data = bytes(message.data)
    length_at = data.rindex(struct.pack("=HHI", 8, 13, 1)) + 4
    alias_at = data.index(b"alias of")
    padded = bytearray(data + bytes(4))  # the upper half of a number of 64 bits
    struct.pack_into("=I", padded, 0, len(padded))
    return Shape(bytes(padded), bytes(padded), alias_at, (length_at, length_at), 0)


def queue_length(agent: Agent) -> int:
    from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg

    request = ifinfmsg()
    request["header"]["type"] = 18
    request["header"]["flags"] = 0x301
    request.encode()
    (reply,) = rtnl.transact(agent, [("reading the NIC", bytes(request.data))])
    parsed = ifinfmsg(reply.messages[0])
    parsed.decode()
    return int(parsed.get_attr("IFLA_TXQLEN"))


def row(at_ns: int, delay_us: int, *, slot: int = 3) -> PlanRow:
    return PlanRow(at_ns, delay_us, 0x41414141, 0x41414141, slot, 1)


def wait_for_rows(agent: Agent, count: int) -> list[Applied]:
    """Rows until there are this many."""
    found: list[Applied] = []
    seen = 0

    def poll() -> bool:
        nonlocal seen
        log = agent.plan_log(seen)
        seen = log.seen
        found.extend(log.applied)
        return len(found) >= count

    wait_until(poll, what=f"{count} rows", deadline_s=10, every_s=0.01)
    return found
