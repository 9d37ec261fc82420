"""Addresses of a lab: a pure function of the lab file, inside 198.18.0.0/15 (RFC 2544 benchmarking space).

- flight LAN of spacecraft k (from 1): ``198.18.k.0/24``, its router ``.1``, board j (from 1) ``.(10 + j)``
- management: one /30 per board in ``198.19.0.0/17``, harness ``.1``, board ``.2``
- link i: one /30 in ``198.19.128.0/17``, end a ``.1``, end b ``.2``
"""

from __future__ import annotations

from collections import deque
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


@dataclass(frozen=True)
class Route:
    """In ``node``: packets for ``destination`` (CIDR) go to ``gateway``."""

    node: str
    destination: str
    gateway: str


def flight_network(lab: Lab, spacecraft: str) -> str:
    """CIDR of a spacecraft's flight LAN."""
    return f"198.18.{_index(lab, spacecraft)}.0/24"


def router(lab: Lab, spacecraft: str) -> str:
    """The spacecraft router's address on its flight LAN."""
    return f"198.18.{_index(lab, spacecraft)}.1"


def board_addresses(lab: Lab) -> dict[str, BoardAddresses]:
    """Addresses of every board by name."""
    found: dict[str, BoardAddresses] = {}
    number = 0
    for k, craft in enumerate(lab.spacecraft, start=1):
        for j, board in enumerate(craft.boards, start=1):
            net = _MANAGEMENT + 4 * number
            found[board.name] = BoardAddresses(
                flight=f"198.18.{k}.{10 + j}",
                router=f"198.18.{k}.1",
                management=str(IPv4Address(net + 2)),
                harness=str(IPv4Address(net + 1)),
            )
            number += 1
    return found


def link_addresses(lab: Lab) -> dict[str, tuple[str, str]]:
    """(address of end a, address of end b) of every link by name; /30 each."""
    return {
        link.name: (str(IPv4Address(_LINKS + 4 * i + 1)), str(IPv4Address(_LINKS + 4 * i + 2)))
        for i, link in enumerate(lab.links)
    }


def routes(lab: Lab) -> list[Route]:
    """Shortest-path routes (fewest hops, then file order) of ground station and spacecraft routers.

    Every node gets a route to every flight LAN that is not its own and to every link subnet it has no end in,
    so that any two addresses of the flight network can talk and replies find their way.
    """
    addresses = link_addresses(lab)
    nodes = [lab.ground_station.name, *(s.name for s in lab.spacecraft)]
    found: list[Route] = []
    for node in nodes:
        hop = _first_hops(lab, addresses, node)
        for craft in lab.spacecraft:
            if craft.name != node:
                found.append(Route(node, flight_network(lab, craft.name), hop[craft.name]))
        for i, link in enumerate(lab.links):
            if node not in link.between:
                nearest = min(link.between, key=lambda end: (_hops(lab, node, end), end))
                found.append(Route(node, f"{IPv4Address(_LINKS + 4 * i)}/30", hop[nearest]))
    return found


def _index(lab: Lab, spacecraft: str) -> int:
    return [s.name for s in lab.spacecraft].index(spacecraft) + 1


def _neighbours(lab: Lab, addresses: dict[str, tuple[str, str]], node: str) -> list[tuple[str, str]]:
    """(neighbour, neighbour's address on the link to it), in file order."""
    found = []
    for link in lab.links:
        if node in link.between:
            far = 1 - link.between.index(node)
            found.append((link.between[far], addresses[link.name][far]))
    return found


def _first_hops(lab: Lab, addresses: dict[str, tuple[str, str]], start: str) -> dict[str, str]:
    hop: dict[str, str] = {}
    queue = deque([(neighbour, via) for neighbour, via in _neighbours(lab, addresses, start)])
    while queue:
        node, via = queue.popleft()
        if node == start or node in hop:
            continue
        hop[node] = via
        queue.extend((neighbour, via) for neighbour, _ in _neighbours(lab, addresses, node))
    return hop


def _hops(lab: Lab, start: str, end: str) -> int:
    addresses = link_addresses(lab)
    distance = {start: 0}
    queue = deque([start])
    while queue:
        here = queue.popleft()
        for neighbour, _ in _neighbours(lab, addresses, here):
            if neighbour not in distance:
                distance[neighbour] = distance[here] + 1
                queue.append(neighbour)
    return distance[end]
