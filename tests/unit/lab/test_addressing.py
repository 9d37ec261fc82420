"""Addresses and routes derived from a lab."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network

from hil.core import paths
from hil.lab.addressing import board_addresses, flight_network, link_addresses, node_address
from hil.lab.model import Lab, load_lab
from hil.lab.routes import path, routes

LAB = load_lab(paths.ROOT / "lab/virtual.yaml")
BENCHMARKING = IPv4Network("198.18.0.0/15")


def ring(count: int) -> Lab:
    names = [f"s{i}" for i in range(count)]
    return Lab.model_validate(
        {
            "schema": 1,
            "name": "ring",
            "ground_station": {"name": "gs"},
            "gateway": "s0-b0",
            "spacecraft": [{"name": n, "boards": [{"name": f"{n}-b{j}"} for j in range(4)]} for n in names],
            "links": [
                {"name": "up", "kind": "ground", "between": ["gs", "s0"], "one_way_delay_us": 1, "rate_bps": 10**8}
            ]
            + [
                {
                    "name": f"l{i}",
                    "kind": "crosslink",
                    "between": [names[i], names[(i + 1) % count]],
                    "one_way_delay_us": 1,
                    "rate_bps": 10**8,
                }
                for i in range(count)
            ],
        }
    )


def test_every_address_is_unique_and_in_the_benchmarking_range() -> None:
    lab = ring(10)
    found = [a for b in board_addresses(lab).values() for a in (b.flight, b.management, b.harness)]
    found += [a for pair in link_addresses(lab).values() for a in pair]
    assert len(found) == len(set(found)) == 40 * 3 + 11 * 2
    assert all(IPv4Address(a) in BENCHMARKING for a in found)


def test_a_board_lives_on_the_flight_network_of_its_spacecraft() -> None:
    for board, found in board_addresses(LAB).items():
        network = IPv4Network(flight_network(LAB, LAB.spacecraft_of(board).name))
        assert IPv4Address(found.flight) in network
        assert IPv4Address(found.router) in network


def walk(lab: Lab, start: str, end: str, usable: set[str] | None = None) -> list[str]:
    """Follow the routes from ``start``, gateway by gateway, to ``end``."""
    owner = {
        address: node
        for link in lab.links
        for address, node in zip(link_addresses(lab)[link.name], link.between, strict=True)
    }
    table = {(r.node, r.destination): r.gateway for r in routes(lab, usable)}
    nodes = [start]
    while nodes[-1] != end:
        nodes.append(owner[table[nodes[-1], flight_network(lab, end)]])
        assert len(nodes) < 20, f"a loop: {nodes}"
    return nodes


def test_the_ground_reaches_the_far_side_of_a_ring_by_a_shortest_path() -> None:
    lab = ring(10)
    assert len(walk(lab, "gs", "s5")) == 7  # gs, s0, five hops
    assert walk(lab, "gs", "s9") == ["gs", "s0", "s9"]


def test_every_node_has_a_route_to_every_other_node_with_its_own_address() -> None:
    lab = ring(4)
    table = routes(lab)
    assert len(table) == len(lab.nodes) * (len(lab.nodes) - 1)
    assert all(route.source == node_address(lab, route.node) for route in table)


def test_replies_come_back_the_way_that_packets_went() -> None:
    lab = ring(10)
    for there in lab.nodes:
        for back in lab.nodes:
            if there != back:
                assert walk(lab, there, back) == walk(lab, back, there)[::-1]


def test_a_ring_that_lost_a_spacecraft_is_a_line_that_still_joins_the_rest() -> None:
    lab = ring(10)
    left = {link.name for link in lab.links if "s3" not in link.between}
    assert walk(lab, "s2", "s4", left) == ["s2", "s1", "s0", "s9", "s8", "s7", "s6", "s5", "s4"]
    assert path(lab, "s2", "s3", left) is None
    assert not [r for r in routes(lab, left) if r.destination == flight_network(lab, "s3")]


def test_the_ground_station_forwards_nothing_between_spacecraft() -> None:
    lab = ring(4)
    both = lab.model_validate(
        {
            **lab.model_dump(by_alias=True),
            "links": [
                *lab.model_dump()["links"],
                {**lab.link("up").model_dump(), "name": "up2", "between": ("gs", "s2")},
            ],
        }
    )
    assert path(both, "s0", "s2", {"up", "up2"}) is None
    assert path(both, "s0", "gs", {"up", "up2"}) == ["up"]
    assert len(walk(both, "s0", "s2")) == 3  # two crosslinks, not the two ground links
