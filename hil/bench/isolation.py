"""Tenants kept apart on the flight network: nftables in each spacecraft's router and on its switch.

A tenant's boards reach each other, the ground and the routers; no packet goes between boards of two tenants, or of a
tenant and of nobody, and none leaves a board with another's address.  Nothing is added to this host's own rules.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping

from hil.core import netns
from hil.core.command import run
from hil.errors import BenchError, ConfigurationError
from hil.lab.addressing import BoardAddresses
from hil.lab.model import Lab
from hil.text import one_line


def board_port(board: str) -> str:
    """Return the name of the switch's port to a board."""
    return f"b-{board}"


def rules(lab: Lab, addresses: Mapping[str, BoardAddresses], spacecraft: str, ports: Mapping[str, str]) -> str:
    """Return the rules of a spacecraft's router and switch as ``nft -f`` reads them. Pure.

    ``ports``: the switch's port of each of its boards that is on it.
    """
    groups: dict[str, list[str]] = {}
    for board in lab.boards:
        tenant = lab.tenant_of(board.name)
        groups.setdefault(tenant.name if tenant else "", []).append(addresses[board.name].flight)
    every = ", ".join(addresses[board.name].flight for board in lab.boards)
    apart = [f"ip saddr {{ {one} }} ip daddr {{ {one} }} accept" for one in map(", ".join, groups.values())]
    apart.append(f"ip saddr {{ {every} }} ip daddr {{ {every} }} counter drop")
    own = []
    for board in (b for b in lab.boards if lab.spacecraft_of(b.name).name == spacecraft and b.name in ports):
        nic, address = ports[board.name], addresses[board.name].flight
        own.append(f'iifname "{nic}" ip saddr != {address} counter drop')
        own.append(f'iifname "{nic}" arp saddr ip != {address} counter drop')
    return "\n".join(
        [
            *_chain("ip", "between_spacecraft", "forward", apart),
            *_chain("bridge", "on_board", "forward", apart),
            *_chain("bridge", "own_address", "prerouting", own),
            "",
        ]
    )


def _chain(family: str, name: str, hook: str, lines: list[str]) -> list[str]:
    head = f"type filter hook {hook} priority 0; policy accept;"
    return [f"table {family} tenants {{", f"  chain {name} {{ {head}", *(f"    {line}" for line in lines), "  }", "}"]


def keep_apart(namespace: str, script: str) -> None:
    """Load rules into a router's namespace. ConfigurationError without nft, BenchError when it refuses them."""
    if shutil.which("nft") is None:
        raise ConfigurationError("nft is not installed: tenants cannot be kept apart", remedy="run `hil setup`")
    done = run(netns.argv_inside(namespace, ["nft", script]))
    if not done.ok:
        raise BenchError(
            f"{namespace}: nft refused the rules that keep tenants apart: {one_line(done.tail(3), 300)}",
            remedy="run `hil doctor`",
        )
