"""NICs of this machine that lead to a shaper host: they become the link NICs of a bench's nodes while it is up."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from hil.bench.plumbing import netlink
from hil.core import netns
from hil.errors import BenchError
from hil.lab.shaper_host import ShaperHostSpec
from hil.links.link_box import End, Wire

_ALIAS = "testbed link NIC, else called "
"""On a NIC that was taken, with the name it had: a killed bench's comes back to the host under its link's name."""


class HostNics:
    """Takes them and gives them back as they were; does nothing in a lab without a shaper host."""

    def __init__(self, section: ShaperHostSpec | None) -> None:
        self._section = section
        # NIC: where it is, and the MAC address and MTU that it had
        self._taken: dict[str, tuple[End, str, int]] = {}

    def take(self, wires: Sequence[Wire]) -> None:
        """Every link's two NICs into their nodes' namespaces, named as there. BenchError when one is not there."""
        if self._section is None:
            return
        for wire in wires:
            link = self._section.links[wire.name]
            for end, near in ((wire.a, link.a.near), (wire.b, link.b.near)):
                self._take(wire.name, end, near, wire.a_to_b.mtu)

    def give_back(self) -> None:
        """All that were taken, before their namespaces go: a VLAN would go with them."""
        for near, (end, mac, mtu) in list(self._taken.items()):
            # Its namespace may be gone, and it with it.
            with suppress(BenchError), netlink(end.namespace) as ip:
                if found := ip.link_lookup(ifname=end.ifname):
                    ip.link("set", index=found[0], state="down")
                    ip.link("set", index=found[0], ifname=near, ifalias="", address=mac, mtu=mtu)
                    ip.link("set", index=found[0], net_ns_pid=os.getpid())
            del self._taken[near]

    def _take(self, link: str, end: End, near: str, mtu: int) -> None:
        with netlink(netns.HOST) as ip:
            nic = next((n for n in ip.get_links() if _called(n) == near), None)
            if nic is None:
                raise BenchError(
                    f"link {link}: this machine has no NIC {near}",
                    remedy="see `ip link`; another bench that is up may have taken it",
                )
            if ip.get_addr(index=nic["index"], family=2):
                raise BenchError(
                    f"link {link}: NIC {near} of this machine has an address: is it in use?",
                    remedy=f"name another NIC, or: ip address flush dev {near}",
                )
            own_mtu = nic.get_attr("IFLA_MTU")
            ip.link("set", index=nic["index"], state="down")
            ip.link("set", index=nic["index"], ifname=end.ifname, ifalias=_ALIAS + near, mtu=max(mtu, own_mtu))
            with netns.opened(end.namespace) as descriptor:
                ip.link("set", index=nic["index"], net_ns_fd=descriptor)
        self._taken[near] = end, nic.get_attr("IFLA_ADDRESS"), own_mtu


def _called(nic: Any) -> str:
    """Return what the technician calls it."""
    alias = str(nic.get_attr("IFLA_IFALIAS") or "")
    return alias.removeprefix(_ALIAS) if alias.startswith(_ALIAS) else str(nic.get_attr("IFLA_IFNAME"))
