"""Ports of a shaper host: physical NICs, or VLANs of one, made ready to carry links; and how to put everything back.

Before anything is changed the relay is told how to undo it, so that it does so however the connection ends.
What a relay that was killed left there is removed before ports are used again: VLANs by the prefix of their names,
queueing disciplines of whole ports because the lab file says that those are ours.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from pyroute2.netlink.rtnl import (
    RTM_DELLINK,
    RTM_DELQDISC,
    RTM_GETADDR,
    RTM_GETLINK,
    RTM_GETQDISC,
    RTM_NEWLINK,
    TC_H_INGRESS,
    TC_H_ROOT,
)
from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg
from pyroute2.netlink.rtnl.ifinfmsg import IFF_PROMISC, IFF_UP, ifinfmsg
from pyroute2.netlink.rtnl.tcmsg import tcmsg

from hil.errors import BenchError, ConfigurationError
from hil.links.engines import offload, rtnl
from hil.links.engines.agent import Agent
from hil.links.engines.rtnl import CHANGE, DUMP, INGRESS_HANDLE, NEW, encoded
from hil.links.wires import Port, Profile

PREFIX = "hil.v"
"""Of the VLANs that are made; nobody else's begin so."""
VLANS = "VLANs (8021q)"
_NO_ADDRESS = 1  # how IPv6 makes an address by itself: not at all
_LOWER_UP = 0x10000
_QUEUE_PACKETS = 10_000
_NO_VLAN = 4095
_OURS = ("netem", "ingress")


@dataclass(frozen=True)
class Nic:
    """A NIC of the shaper host as it is."""

    index: int
    flags: int
    mtu: int
    master: bool
    addresses: tuple[str, ...]
    qdiscs: tuple[tuple[str, int], ...]  # kind, handle; those that the kernel gave it by itself have handle 0
    address_mode: int | None  # how IPv6 makes an address for it; None where there is no IPv6

    @property
    def carrier(self) -> bool:
        """Up and something answers at the other end of the cable (not known while it is down)."""
        return bool(self.flags & _LOWER_UP)

    @property
    def up(self) -> bool:
        return bool(self.flags & IFF_UP)


def nics(shaper: Agent) -> dict[str, Nic]:
    """Return all NICs of the shaper host, by name."""
    listings = (
        (ifinfmsg, RTM_GETLINK, "NICs"),
        (ifaddrmsg, RTM_GETADDR, "addresses"),
        (tcmsg, RTM_GETQDISC, "queueing disciplines"),
    )
    steps = [(f"listing its {what}", encoded(form, kind, DUMP)) for form, kind, what in listings]
    links, addresses, qdiscs = (
        [rtnl.decoded(form, raw) for raw in reply.messages]
        for (form, *_), reply in zip(listings, rtnl.transact(shaper, steps), strict=True)
    )
    return {
        str(link.get_attr("IFLA_IFNAME")): Nic(
            index=link["index"],
            flags=link["flags"],
            mtu=link.get_attr("IFLA_MTU"),
            master=link.get_attr("IFLA_MASTER") is not None,
            addresses=tuple(
                f"{a.get_attr('IFA_ADDRESS')}/{a['prefixlen']}"
                for a in addresses
                # a link-local address is the kernel's own doing
                if a["index"] == link["index"] and not str(a.get_attr("IFA_ADDRESS")).startswith("fe80:")
            ),
            qdiscs=tuple((str(q.get_attr("TCA_KIND")), q["handle"]) for q in qdiscs if q["index"] == link["index"]),
            address_mode=link.get_nested("IFLA_AF_SPEC", "AF_INET6", "IFLA_INET6_ADDR_GEN_MODE"),
        )
        for link in links
    }


def lay(shaper: Agent, ports: Sequence[Port], *, mtus: Sequence[int], profile: Profile) -> list[str]:
    """Make the ports of link ends ready, one MTU each; the names of the NICs that are them.

    Offloads are as ``profile`` says, on trunks too, where received packets are put together.  ConfigurationError
    for ports that are not there or somebody else's; BenchError when the kernel refuses something.
    """
    _sweep(shaper, nics(shaper), ports)
    present = nics(shaper)
    for port in ports:
        check(port, present)
    trunks = {port.nic: mtu for port, mtu in sorted(zip(ports, mtus, strict=True), key=lambda pair: pair[1])}
    names = {port: port.nic for port in ports}
    for number, (name, mtu) in enumerate(trunks.items()):
        whole = Port(name) in ports
        _take(shaper, name, present[name], mtu, profile=profile, whole=whole)
        for port, own_mtu in zip(ports, mtus, strict=True):
            if port.nic == name and port.vlan is not None:
                vlan = names[port] = f"{PREFIX}{number}.{port.vlan}"
                shaper.undo(delete_link(vlan))
                message = new_vlan(vlan, present[name].index, port.vlan, own_mtu)
                rtnl.transact(shaper, [(f"{port} (kernel module 8021q)", message)])
                no_own_address(shaper, nics(shaper)[vlan])
                _plain(shaper, vlan, profile)
    return [names[port] for port in ports]


def missing_vlans(shaper: rtnl.Requester) -> list[str]:
    """Return what the kernel lacks for VLANs: it is asked for one that no kernel makes. BenchError for another refusal.

    A real one would need a NIC to put it on, and a scratch namespace has only loopback, which carries none; not every
    kernel has veth or dummy.  4095 is no VLAN (IEEE 802.1Q), which only a kernel that knows the kind can tell.
    """
    (reply,) = rtnl.replies(shaper.request(rtnl.number([new_vlan(f"{PREFIX}0.0", 1, _NO_VLAN, 1500)])))
    if reply.error == errno.EOPNOTSUPP:
        return [VLANS]
    if reply.error != errno.ERANGE:
        raise BenchError(f"probing the kernel for VLANs: {os.strerror(reply.error)}", remedy="the link box needs root")
    return []


def check(port: Port, present: Mapping[str, Nic]) -> None:
    """Raise ConfigurationError for a port that is not there, or that is not ours to use."""
    nic = present.get(port.nic)
    if nic is None:
        usable = ", ".join(sorted(name for name in present if name != "lo"))
        raise ConfigurationError(
            f"the shaper host has no NIC {port.nic}", remedy=f"its NICs: {usable}; see shaper_host in the lab file"
        )
    what = f"port {port.nic} of the shaper host"
    addresses = ", ".join(nic.addresses) if port.vlan is None else ""
    foreign = [kind for kind, handle in nic.qdiscs if handle and kind not in _OURS]
    for wrong, message, remedy in (
        (nic.master, f"{what} belongs to a bridge or bond", f"there: ip link set {port.nic} nomaster"),
        (
            addresses,
            f"{what} has address {addresses}: is it the way to the shaper host?",
            f"name another port; or there: ip address flush dev {port.nic}",
        ),
        (
            foreign,
            f"{what} has queueing discipline {', '.join(foreign)}, which is not ours",
            f"there: tc qdisc delete dev {port.nic} {'clsact' if 'clsact' in foreign else 'root'}",
        ),
    ):
        if wrong:
            raise ConfigurationError(message, remedy=remedy)


def new_vlan(name: str, link: int, vlan: int, mtu: int) -> bytes:
    """Compose `ip link add link LINK name NAME mtu MTU txqueuelen 10000 type vlan id VLAN`."""
    data = {"attrs": [("IFLA_VLAN_ID", vlan)]}
    attributes = [
        ("IFLA_IFNAME", name),
        ("IFLA_LINK", link),
        ("IFLA_MTU", mtu),
        ("IFLA_TXQLEN", _QUEUE_PACKETS),
        ("IFLA_LINKINFO", {"attrs": [("IFLA_INFO_KIND", "vlan"), ("IFLA_INFO_DATA", data)]}),
    ]
    return encoded(ifinfmsg, RTM_NEWLINK, NEW, attributes)


def delete_link(name: str) -> bytes:
    """Compose `ip link delete NAME`."""
    return encoded(ifinfmsg, RTM_DELLINK, CHANGE, [("IFLA_IFNAME", name)])


def set_link(index: int, flags: int, mtu: int) -> bytes:
    """Set a NIC up and promiscuous as in ``flags``, and its MTU."""
    mask = IFF_UP | IFF_PROMISC
    fields = {"index": index, "flags": flags & mask, "change": mask}
    return encoded(ifinfmsg, RTM_NEWLINK, CHANGE, [("IFLA_MTU", mtu)], **fields)


def address_mode(index: int, mode: int) -> bytes:
    """Set how IPv6 makes an address by itself for a NIC: 1 is not at all."""
    inet6 = {"attrs": [("IFLA_INET6_ADDR_GEN_MODE", mode)]}
    attributes = [("IFLA_AF_SPEC", {"attrs": [("AF_INET6", inet6)]})]
    return encoded(ifinfmsg, RTM_NEWLINK, CHANGE, attributes, index=index)


def delete_qdisc(index: int, *, ingress: bool) -> bytes:
    """Compose `tc qdisc delete dev INDEX root` or `... ingress`."""
    handle, parent = (INGRESS_HANDLE, TC_H_INGRESS) if ingress else (0, TC_H_ROOT)
    return encoded(tcmsg, RTM_DELQDISC, CHANGE, index=index, handle=handle, parent=parent)


def _sweep(shaper: Agent, present: dict[str, Nic], ports: Sequence[Port]) -> None:
    """Remove what a relay left that could not undo."""
    steps = [(f"leftover {name}", delete_link(name)) for name in present if name.startswith(PREFIX)]
    for name in sorted({port.nic for port in ports if port.vlan is None} & {*present}):
        for kind, handle in present[name].qdiscs:
            if handle and kind in _OURS:
                message = delete_qdisc(present[name].index, ingress=kind == "ingress")
                steps.append((f"leftover {kind} of {name}", message))
    if steps:
        rtnl.transact(shaper, steps)


def _take(shaper: Agent, name: str, nic: Nic, mtu: int, *, profile: Profile, whole: bool) -> None:
    shaper.undo(set_link(nic.index, nic.flags, nic.mtu))
    if whole:
        shaper.undo(delete_qdisc(nic.index, ingress=False))
        shaper.undo(delete_qdisc(nic.index, ingress=True))
        no_own_address(shaper, nic)
    flags = nic.flags | IFF_UP | (IFF_PROMISC if whole else 0)
    rtnl.transact(shaper, [(f"port {name} up, MTU {mtu}", set_link(nic.index, flags, max(mtu, nic.mtu)))])
    _plain(shaper, name, profile)


def no_own_address(shaper: Agent, nic: Nic) -> None:
    """Turn off addresses that IPv6 makes by itself: it would put its own packets on the link."""
    if nic.address_mode is None or nic.address_mode == _NO_ADDRESS:
        return
    shaper.undo(address_mode(nic.index, nic.address_mode))
    rtnl.transact(shaper, [("no IPv6 address", address_mode(nic.index, _NO_ADDRESS))])


def _plain(shaper: Agent, name: str, profile: Profile) -> None:
    ask, undo = partial(shaper.ioctl, name), partial(shaper.undo_ioctl, name)
    offload.switch_off(ask, name, udp_only=profile == "bulk", undo_first=undo)
