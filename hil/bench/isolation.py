"""Tenants and guests kept apart on the flight network: nftables in each spacecraft's router and on its switch.

A tenant's boards reach each other, the ground and the routers; no packet goes between boards of two tenants, or of a
tenant and of nobody, and none leaves a board with another's address.  A guest reaches the node service of the one
board that serves it, and nothing else.  Nothing is added to this host's own rules.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Collection, Mapping, Sequence
from itertools import permutations, product

from hil.core import netns
from hil.core.command import run
from hil.errors import BenchError, ConfigurationError
from hil.evidence.events import IsolationTried, TenantAttempt
from hil.evidence.sink import Sink
from hil.lab.addressing import BoardAddresses, flight_network, guest_address, link_addresses
from hil.lab.link_spec import LinkSpec
from hil.lab.model import Lab
from hil.onboard.node.answers import PORT
from hil.text import one_line


def attempts_by_tenant(
    lab: Lab, succeeded: Mapping[tuple[str, str], Collection[str]], tries: Sequence[str], sink: Sink
) -> dict[tuple[str, str], list[str]]:
    """Sum up what boards could do to boards, by ordered pair of different tenants, and record it for the report.

    ``succeeded``: words of ``tries`` by (board that tried, board tried on).
    """
    found: dict[tuple[str, str], list[str]] = {}
    for by, on in permutations(lab.tenants, 2):
        words = {word for pair in product(by.boards, on.boards) for word in succeeded.get(pair, ())}
        if words:
            found[by.name, on.name] = sorted(words)
    attempts = tuple(TenantAttempt(by, on, tuple(words)) for (by, on), words in found.items())
    sink.emit(IsolationTried(tuple(tenant.name for tenant in lab.tenants), tuple(tries), attempts))
    return found


def board_port(board: str) -> str:
    """Return the name of the switch's port to a board."""
    return f"b-{board}"


def rules(lab: Lab, addresses: Mapping[str, BoardAddresses], spacecraft: str, ports: Mapping[str, str]) -> str:
    """Return the rules of a spacecraft's router and switch as ``nft -f`` reads them. Pure.

    ``ports``: the switch's port of each of its boards that is on it.
    """
    groups: dict[str, list[str]] = {}
    mates: dict[str, list[str]] = {}  # the same on this switch, as ports
    for board in lab.boards:
        tenant = lab.tenant_of(board.name)
        groups.setdefault(tenant.name if tenant else "", []).append(addresses[board.name].flight)
        if lab.spacecraft_of(board.name).name == spacecraft and board.name in ports:
            mates.setdefault(tenant.name if tenant else "", []).append(f'"{ports[board.name]}"')
    every = ", ".join(addresses[board.name].flight for board in lab.boards)
    apart = [f"ip saddr {{ {one} }} ip daddr {{ {one} }} accept" for one in map(", ".join, groups.values())]
    apart.append(f"ip saddr {{ {every} }} ip daddr {{ {every} }} counter drop")
    # What a switch forwards goes from board to board; by port, so also broadcast, IPv6 and what is not IP
    switched = [f"iifname {{ {one} }} oifname {{ {one} }} accept" for one in map(", ".join, mates.values())]
    switched.append("counter drop")
    own = []
    for board in (b for b in lab.boards if lab.spacecraft_of(b.name).name == spacecraft and b.name in ports):
        nic, address = ports[board.name], addresses[board.name].flight
        own.append(f'iifname "{nic}" ip saddr != {address} counter drop')
        own.append(f'iifname "{nic}" arp saddr ip != {address} counter drop')
    return "\n".join(
        [
            *_chain("ip", "between_spacecraft", "forward", apart),
            *_chain("bridge", "on_board", "forward", switched),
            *_chain("bridge", "own_address", "prerouting", own),
            "",
        ]
    )


def guest_rules(
    lab: Lab, addresses: Mapping[str, BoardAddresses], spacecraft: str, nic_of: Callable[[LinkSpec], str]
) -> str:
    """Return the rules about guests of a spacecraft's router as ``nft -f`` reads them. Pure.

    ``nic_of``: the NIC of a link.  A guest has the address of its machine and no other, and asks; it is not asked.
    """
    ends = link_addresses(lab)
    every = ", ".join(flight_network(lab, guest.name) for guest in lab.guests)
    forward, own = [], []
    for link in lab.links:
        if link.kind != "guest" or spacecraft not in link.between:
            continue
        far = 1 - link.between.index(spacecraft)
        nic, guest = nic_of(link), link.between[far]
        forward.append(f'iifname "{nic}" ip saddr != {guest_address(lab, guest)} counter drop')
        # The two ends of the link itself: what measures it
        own.append(f'iifname "{nic}" ip saddr {ends[link.name][far]} ip daddr {ends[link.name][1 - far]} accept')
        own.append(f'iifname "{nic}" counter drop')
    for each in lab.guests:
        here, board = guest_address(lab, each.name), addresses[each.served_by or lab.gateway].flight
        forward.append(f"ip saddr {here} ip daddr {board} tcp dport {PORT} accept")
        forward.append(f"ip saddr {board} ip daddr {here} tcp sport {PORT} tcp flags & (syn | ack) != syn accept")
    for way in ("saddr", "daddr"):
        forward.append(f"ip {way} {{ {every} }} counter drop")
    own.append(f"ip saddr {{ {every} }} counter drop")
    lines = [*_chain("ip", "through", "forward", forward, "guests"), *_chain("ip", "to_router", "input", own, "guests")]
    return "\n".join([*lines, ""])


def _chain(family: str, name: str, hook: str, lines: list[str], table: str = "tenants") -> list[str]:
    head = f"type filter hook {hook} priority 0; policy accept;"
    return [f"table {family} {table} {{", f"  chain {name} {{ {head}", *(f"    {line}" for line in lines), "  }", "}"]


def keep_apart(namespace: str, script: str) -> None:
    """Load rules into a router's namespace. ConfigurationError without nft, BenchError when it refuses them."""
    if shutil.which("nft") is None:
        raise ConfigurationError(
            "nft is not installed: tenants and guests cannot be kept apart", remedy="run `hil setup`"
        )
    done = run(netns.argv_inside(namespace, ["nft", script]))
    if not done.ok:
        raise BenchError(
            f"{namespace}: nft refused the rules that keep tenants and guests apart: {one_line(done.tail(3), 300)}",
            remedy="run `hil doctor`",
        )
