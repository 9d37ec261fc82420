"""The namespaces, routers and NICs between boards and links.

Everything lives in namespaces of this bench; no host address, route or firewall rule is added.

``hil.<bench>.mgmt``         the harness: one management cable per board, no forwarding
``hil.<bench>.box``          the link box
``hil.<bench>.<station>``    the ground station
``hil.<bench>.<spacecraft>`` router of a spacecraft: switch ``sw0`` to its boards, one NIC per link
``hil.<bench>.<guest>``      router of a guest: ``sw0`` to its machine, one NIC per link
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hil.bench import isolation
from hil.bench.isolation import board_port
from hil.boards.protocol import Via
from hil.core import netns
from hil.errors import BenchError
from hil.lab.addressing import board_addresses, guest_address, link_addresses, node_address
from hil.lab.link_spec import LinkSpec
from hil.lab.model import Lab
from hil.links.link_box import End, Wire
from hil.links.schedule.windows import ScheduleRow
from hil.links.state import GilbertElliott, LinkState
from hil.links.wires import Share

PREFIX = "hil."
FLIGHT_NIC = "mgbe0"
MANAGEMENT_NIC = "eth0"


class Plumbing:
    """Namespaces and NICs of one bench; ``build`` makes them and ``remove`` takes all of them away."""

    def __init__(self, bench: str, lab: Lab) -> None:
        self.bench = bench
        self.lab = lab
        self.addresses = board_addresses(lab)
        self.management = f"{PREFIX}{bench}.mgmt"
        self.box = f"{PREFIX}{bench}.box"
        self.ground = self.namespace(lab.ground_station.name)

    def namespace(self, node: str) -> str:
        """Namespace of the ground station, of a spacecraft or of a guest."""
        return f"{PREFIX}{self.bench}.{node}"

    def build(self) -> None:
        """Make the namespaces and the on-board switches. BenchError names what the kernel refused."""
        for name in (self.management, self.box, *map(self.namespace, self.lab.nodes)):
            netns.create(name)
            _quiet(name)
            if self.lab.tenants:
                # Calibration sends with tenants' addresses from routers that are not on the way to them
                for which in ("all", "default"):
                    _sysctl(name, f"net/ipv4/conf/{which}/rp_filter", "0")
        with netlink(self.ground) as ip:
            station = node_address(self.lab, self.lab.ground_station.name)
            ip.addr("add", index=_index(ip, "lo"), address=station, prefixlen=32)
        routers = {*self.lab.nodes} - {self.lab.ground_station.name}
        for node in sorted(routers):
            name = self.namespace(node)
            with netlink(name) as ip:
                # Without an address of its own a bridge takes its ports', and changes it whenever one comes or goes
                mac = _mac(node_address(self.lab, node))
                ip.link("add", ifname="sw0", kind="bridge", br_forward_delay=0, address=mac)
                switch = _index(ip, "sw0")
                ip.addr("add", index=switch, address=node_address(self.lab, node), prefixlen=24)
                ip.link("set", index=switch, state="up")
            _sysctl(name, "net/ipv4/ip_forward", "1")
        for craft in self.lab.spacecraft:
            name = self.namespace(craft.name)
            if self.lab.tenants:
                real = {board: nic for where, board, nic in self._real_nics() if where == craft.name}
                ports = {board.name: real.get(board.name, board_port(board.name)) for board in craft.boards}
                isolation.keep_apart(name, isolation.rules(self.lab, self.addresses, craft.name, ports))
            if self.lab.guests:
                isolation.keep_apart(name, isolation.guest_rules(self.lab, self.addresses, craft.name, link_nic))
        self.take_nics()

    def wires(self, now: Mapping[str, ScheduleRow]) -> list[Wire]:
        """What the link box joins: every link of the lab, its ends and its shaping in each direction.

        ``now`` has up, delay and loss, at this moment, of the links that follow the orbit.
        """
        return [
            Wire(
                name=link.name,
                a=End(self.namespace(link.between[0]), link_nic(link)),
                b=End(self.namespace(link.between[1]), link_nic(link)),
                a_to_b=_shaping(link, now, a_to_b=True),
                b_to_a=_shaping(link, now, a_to_b=False),
                shares=tuple(
                    Share(tenant.name, tenant.shares[link.name], tuple(self.addresses[b].flight for b in tenant.boards))
                    for tenant in self.lab.tenants
                    if link.name in tenant.shares
                ),
            )
            for link in self.lab.links
        ]

    def address_links(self) -> None:
        """Give the link NICs their addresses (after the link box made the NICs).

        Both ends know each other beforehand, as the two terminals of a crosslink do: asking (ARP) would cost a round
        trip per hop, and after an outage seconds until the next question.
        """
        ends = link_addresses(self.lab)
        for node in self.lab.nodes:
            with netlink(self.namespace(node)) as ip:
                for link in self.lab.links:
                    if node in link.between:
                        near = ends[link.name][link.between.index(node)]
                        far = ends[link.name][1 - link.between.index(node)]
                        nic = _index(ip, link_nic(link))
                        ip.link("set", index=nic, address=_mac(near), state="up")
                        ip.addr("add", index=nic, address=near, prefixlen=30)
                        ip.neigh("replace", dst=far, lladdr=_mac(far), ifindex=nic, state="permanent")

    def board_address(self, board: str) -> dict[Via, tuple[str, str]]:
        """(namespace to connect from, address) for each way to a board."""
        found = self.addresses[board]
        section = next(b.real for b in self.lab.boards if b.name == board)
        if section and section.ssh:
            # A real board: this machine's own network leads to its management port.
            flight = {Via.FLIGHT: (self.ground, found.flight)} if section.flight else {}
            return {Via.MANAGEMENT: (netns.HOST, section.ssh.address), **flight}
        return {Via.MANAGEMENT: (self.management, found.management), Via.FLIGHT: (self.ground, found.flight)}

    def board_facts(self, board: str) -> dict[str, Any]:
        """Return what the firmware hands to the OS as ``/run/board.json``."""
        spec = next(b for b in self.lab.boards if b.name == board)
        return {
            "name": board,
            "spacecraft": self.lab.spacecraft_of(board).name,
            "model": spec.model,
            "module": spec.module,
            "twin": bool(self.lab.twin and self.lab.twin.loop),
            "flight_security": self.lab.flight_security,
            "serial": spec.serial or f"virt-{self.lab.name}-{board}",
            "flight_address": self.addresses[board].flight,
            "management_address": self.addresses[board].management,
            "hosts": {name: found.flight for name, found in self.addresses.items()},
        }

    def plug(self, board: str, pid: int) -> None:
        """Cable the board whose container has ``pid`` as PID 1: flight NIC to its switch, management NIC to us.

        Called after every power-on: the container's namespace, and its NICs with it, is new each time.
        """
        craft = self.lab.spacecraft_of(board)
        found = self.addresses[board]
        with netlink(self.namespace(craft.name)) as ip:
            near = _veth_into(ip, board_port(board), FLIGHT_NIC, pid)
            ip.link("set", index=near, master=_index(ip, "sw0"), state="up")
        with netlink(self.management) as ip:
            near = _veth_into(ip, f"m-{board}", MANAGEMENT_NIC, pid)
            ip.addr("add", index=near, address=found.harness, prefixlen=30)
            ip.link("set", index=near, state="up")
        inside = f"/proc/{pid}/ns/net"
        _quiet(inside)
        with netlink(inside) as ip:
            ip.link("set", index=_index(ip, "lo"), state="up")
            for nic, address, prefix in ((FLIGHT_NIC, found.flight, 24), (MANAGEMENT_NIC, found.management, 30)):
                index = _index(ip, nic)
                ip.link("set", index=index, address=_mac(address))
                ip.addr("add", index=index, address=address, prefixlen=prefix)
                ip.link("set", index=index, state="up")
            ip.route("add", dst="198.18.0.0/15", gateway=found.router)

    def plug_guest(self, guest: str, pid: int) -> None:
        """Cable the guest whose container has ``pid`` as PID 1 to its router."""
        with netlink(self.namespace(guest)) as ip:
            near = _veth_into(ip, board_port(guest), FLIGHT_NIC, pid)
            ip.link("set", index=near, master=_index(ip, "sw0"), state="up")
        _quiet(f"/proc/{pid}/ns/net")
        with netlink(f"/proc/{pid}/ns/net") as ip:
            ip.link("set", index=_index(ip, "lo"), state="up")
            nic, address = _index(ip, FLIGHT_NIC), guest_address(self.lab, guest)
            ip.link("set", index=nic, address=_mac(address))
            ip.addr("add", index=nic, address=address, prefixlen=24)
            ip.link("set", index=nic, state="up")
            ip.route("add", dst="198.18.0.0/15", gateway=node_address(self.lab, guest))

    def take_nics(self) -> None:
        """Cable real boards and guests to their spacecraft's switches and routers. BenchError without their NIC."""
        for craft, board, nic in self._real_nics():
            with netlink(netns.HOST) as ip:
                if not (found := ip.link_lookup(ifname=nic)):
                    raise BenchError(
                        f"{board}: this machine has no NIC {nic}",
                        remedy="see `ip link`; another bench that is up may have taken it",
                    )
                with netns.opened(self.namespace(craft)) as descriptor:
                    ip.link("set", index=found[0], net_ns_fd=descriptor)
            with netlink(self.namespace(craft)) as ip:
                ip.link("set", index=_index(ip, nic), master=_index(ip, "sw0"), state="up")

    def give_nics_back(self) -> None:
        """NICs of real boards, as far as they were taken: a VLAN would otherwise go with its namespace."""
        for craft, _, nic in self._real_nics():
            if not netns.path_of(self.namespace(craft)).exists():
                continue
            with netlink(self.namespace(craft)) as ip:
                if found := ip.link_lookup(ifname=nic):
                    ip.link("set", index=found[0], net_ns_pid=os.getpid())

    def _real_nics(self) -> list[tuple[str, str, str]]:
        """(node, board or guest, NIC of this machine) of every real board with a flight port, and every real guest."""
        guests = [(guest.name, guest.name, guest.nic) for guest in self.lab.guests if guest.nic]
        return guests + [
            (craft.name, board.name, board.real.flight.nic)
            for craft in self.lab.spacecraft
            for board in craft.boards
            if board.real and board.real.flight
        ]

    def remove(self) -> None:
        """Delete every namespace of this bench; NICs and routes go with them, but those of real boards come back."""
        try:
            self.give_nics_back()
        finally:
            for name in netns.names(f"{PREFIX}{self.bench}."):
                netns.delete(name)


def _shaping(link: LinkSpec, now: Mapping[str, ScheduleRow], *, a_to_b: bool) -> LinkState:
    over = link.a_to_b if a_to_b else link.b_to_a
    row = now.get(link.name)

    def pick(one: int | None, other: int) -> int:
        return other if one is None else one

    loss_ppm = pick(over.loss_ppm, link.loss_ppm)
    burst = pick(over.loss_burst_packets, link.loss_burst_packets)
    bursty = GilbertElliott.bursty(loss_ppm, burst) if burst > 1 and loss_ppm else None
    return LinkState(
        delay_us=row.delay_us if row else pick(over.one_way_delay_us, link.one_way_delay_us or 0),
        rate_bps=pick(over.rate_bps, link.rate_bps),
        loss_ppm=0 if bursty else row.loss_ppm if row else loss_ppm,
        gemodel=bursty,
        jitter_us=pick(over.jitter_us, link.jitter_us),
        mtu=link.mtu,
        up=row.up if row else True,
    )


def link_nic(link: LinkSpec) -> str:
    """NIC of a link, the same name at both ends (names of links have at most 13 characters)."""
    return f"l-{link.name}"


def _quiet(namespace: str) -> None:
    """No IPv6 chatter on emulated links: what crosses a link is what was sent on purpose."""
    _sysctl(namespace, "net/ipv6/conf/all/disable_ipv6", "1")
    _sysctl(namespace, "net/ipv6/conf/default/disable_ipv6", "1")


def _sysctl(namespace: str, key: str, value: str) -> None:
    with netns.inside(namespace):
        path = Path("/proc/sys") / key
        if path.exists():  # a kernel without IPv6 has no IPv6 keys
            path.write_text(value)


@contextmanager
def netlink(namespace: str) -> Iterator[Any]:
    """A netlink handle whose socket belongs to ``namespace``; its errors become BenchError."""
    from pyroute2 import IPRoute, NetlinkError

    with netns.inside(namespace):
        ip = IPRoute()
    try:
        yield ip
    except NetlinkError as exc:
        raise BenchError(f"network namespace {namespace}: {exc}", remedy="run `hil doctor`") from exc
    finally:
        ip.close()


def _index(ip: Any, ifname: str) -> int:
    found: list[int] = ip.link_lookup(ifname=ifname)
    if not found:
        raise BenchError(f"NIC {ifname} is not there")
    return found[0]


def _mac(address: str) -> str:
    """Return the MAC address of the NIC that has this IPv4 address: always the same one, as a real NIC's.

    Were it new at every power-on, neighbours would go on sending to the old one until their ARP entries expire.
    """
    return ":".join(f"{byte:02x}" for byte in (0x02, 0x00, *(int(part) for part in address.split("."))))


def _veth_into(ip: Any, near: str, far: str, pid: int) -> int:
    """A veth pair: ``near`` here, ``far`` in the namespace of ``pid``; a leftover of the last power-on is replaced."""
    from pyroute2 import NetlinkError

    if old := ip.link_lookup(ifname=near):
        try:
            ip.link("del", index=old[0])
        except NetlinkError as exc:
            if exc.code != errno.ENODEV:  # the dead namespace took it along this very moment
                raise
    ip.link("add", ifname=near, kind="veth", peer={"ifname": far, "net_ns_pid": pid})
    return _index(ip, near)
