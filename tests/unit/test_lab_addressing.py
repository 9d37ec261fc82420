"""Addresses and routes derived from a lab."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network

from hil import paths
from hil.lab.addressing import board_addresses, flight_network, link_addresses, routes
from hil.lab.model import Lab, load_lab

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
                {
                    "name": "up",
                    "kind": "ground",
                    "between": ["gs", "s0"],
                    "one_way_delay_us": 1,
                    "rate_bps": 10**8,
                }
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


def walk(lab: Lab, start: str, destination: str) -> list[str]:
    """Follow the routes from ``start`` to the spacecraft whose flight network ``destination`` is."""
    owner = {
        address: node
        for link in lab.links
        for address, node in zip(link_addresses(lab)[link.name], link.between, strict=True)
    }
    path = [start]
    while flight_network(lab, path[-1]) != destination if path[-1] != lab.ground_station.name else True:
        gateway = next(r.gateway for r in routes(lab) if r.node == path[-1] and r.destination == destination)
        path.append(owner[gateway])
        assert len(path) < 20, f"a loop: {path}"
    return path


def test_the_ground_reaches_the_far_side_of_a_ring_by_a_shortest_path() -> None:
    lab = ring(10)
    assert len(walk(lab, "gs", flight_network(lab, "s5"))) == 7  # gs, s0, five hops
    assert walk(lab, "gs", flight_network(lab, "s9")) == ["gs", "s0", "s9"]


def test_every_node_has_a_route_to_every_other_network() -> None:
    lab = ring(4)
    networks = len(lab.spacecraft) + len(lab.links)
    for craft in lab.spacecraft:
        own = 1 + sum(craft.name in link.between for link in lab.links)
        assert len([r for r in routes(lab) if r.node == craft.name]) == networks - own
