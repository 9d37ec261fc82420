"""Routes through a lab's links: a pure function of the lab file and of which links can be used now."""

from __future__ import annotations

import heapq
from collections.abc import Collection
from dataclasses import dataclass

from hil.lab.addressing import flight_network, link_addresses, node_address
from hil.lab.model import Lab


@dataclass(frozen=True)
class Route:
    """In ``node``: packets for ``destination`` (CIDR) go to ``gateway``, the far end of ``link``.

    ``source`` is the address the node's own packets carry: one that does not change with the way they take.
    """

    node: str
    destination: str
    gateway: str
    link: str
    source: str


def routes(lab: Lab, usable: Collection[str] | None = None) -> list[Route]:
    """Return routes of the ground station and every spacecraft to every other node's network over ``usable`` links.

    ``usable`` None: all links.  Fewest hops; among equals one that is the same in both directions.  The ground
    station and guests forward nothing: they are never on the way.  A node that cannot be reached has no route.
    """
    addresses = link_addresses(lab)
    result: list[Route] = []
    ways = _Ways(lab, usable)
    for node in lab.nodes:
        source = node_address(lab, node)
        for destination, (name, *_) in ways.from_node(node).items():
            gateway = addresses[name][1 - lab.link(name).between.index(node)]
            result.append(Route(node, flight_network(lab, destination), gateway, name, source))
    return result


def path(lab: Lab, start: str, end: str, usable: Collection[str] | None = None) -> list[str] | None:
    """Return names of the links from ``start`` to ``end``, in order; None when there is no way."""
    return [] if start == end else _Ways(lab, usable).from_node(start).get(end)


class _Ways:
    """Shortest paths; the i-th link adds 2^i behind the hops, so that no two paths cost the same."""

    def __init__(self, lab: Lab, usable: Collection[str] | None) -> None:
        self._leaves = lab.leaves
        self._edges: dict[str, list[tuple[str, str, int]]] = {node: [] for node in lab.nodes}
        for i, link in enumerate(lab.links):
            if usable is None or link.name in usable:
                a, b = link.between
                self._edges[a].append((b, link.name, 1 << i))
                self._edges[b].append((a, link.name, 1 << i))

    def from_node(self, start: str) -> dict[str, list[str]]:
        """Return links on the way to every node that can be reached."""
        done: dict[str, list[str]] = {}
        queue: list[tuple[int, int, str, list[str]]] = [(0, 0, start, [])]
        while queue:
            hops, weight, here, way = heapq.heappop(queue)
            if here in done:
                continue
            done[here] = way
            if here in self._leaves and here != start:
                continue
            for there, link, bit in self._edges[here]:
                if there not in done:
                    heapq.heappush(queue, (hops + 1, weight + bit, there, [*way, link]))
        del done[start]
        return done
