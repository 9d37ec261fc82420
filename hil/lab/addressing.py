"""Addresses of a lab: a pure function of the lab file, inside 198.18.0.0/15 (RFC 2544 benchmarking space).

- flight LAN of spacecraft k (from 1): ``198.18.k.0/24``, its router ``.1``, board j (from 1) ``.(10 + j)``
- the ground station: ``198.18.0.1``, whichever spacecraft it is reached through
- guest k (from 1): ``198.18.n.11`` behind its router ``198.18.n.1``, n being k after the number of spacecraft
- management: one /30 per board in ``198.19.0.0/17``, harness ``.1``, board ``.2``
- link i: one /30 in ``198.19.128.0/17``, end a ``.1``, end b ``.2``
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address

from hil.lab.model import Lab

_MANAGEMENT = int(IPv4Address("198.19.0.0"))
_LINKS = int(IPv4Address("198.19.128.0"))


@dataclass(frozen=True)
class BoardAddresses:
    """A board's addresses; prefix lengths are 24 (flight) and 30 (management)."""

    flight: str
    router: str
    management: str
    harness: str  # the harness end of the management /30


def flight_network(lab: Lab, node: str) -> str:
    """Return CIDR of a node's own network: a spacecraft's flight LAN, the ground station's, or a guest's."""
    return f"198.18.{lab.nodes.index(node)}.0/24"


def node_address(lab: Lab, node: str) -> str:
    """Return a node's own address, the same whatever links it has: a router's, or the ground station's."""
    return f"198.18.{lab.nodes.index(node)}.1"


def guest_address(lab: Lab, guest: str) -> str:
    """Return the address of a guest's machine, behind its router (:func:`node_address`)."""
    return f"198.18.{lab.nodes.index(guest)}.11"


def board_addresses(lab: Lab) -> dict[str, BoardAddresses]:
    """Return addresses of every board by name."""
    addresses: dict[str, BoardAddresses] = {}
    number = 0
    for k, craft in enumerate(lab.spacecraft, start=1):
        for j, board in enumerate(craft.boards, start=1):
            net = _MANAGEMENT + 4 * number
            addresses[board.name] = BoardAddresses(
                flight=f"198.18.{k}.{10 + j}",
                router=f"198.18.{k}.1",
                management=str(IPv4Address(net + 2)),
                harness=str(IPv4Address(net + 1)),
            )
            number += 1
    return addresses


def link_addresses(lab: Lab) -> dict[str, tuple[str, str]]:
    """Return (address of end a, address of end b) of every link by name; /30 each."""
    return {
        link.name: (str(IPv4Address(_LINKS + 4 * i + 1)), str(IPv4Address(_LINKS + 4 * i + 2)))
        for i, link in enumerate(lab.links)
    }
