"""The links of a box as its kernels get them first: which NIC is which, joined in pairs, and shaped."""

from __future__ import annotations

from collections.abc import Sequence

from hil.errors import BenchError
from hil.links.commanded import LinkRecord
from hil.links.engines import htb, police, rtnl
from hil.links.engines.kinds import Kernels
from hil.links.shape import Direction, shape_step
from hil.links.wires import Profile, Wire


def records_of(kernels: Kernels, wires: Sequence[Wire], profile: Profile) -> tuple[LinkRecord, ...]:
    """Return the record of each link, by the kernels' own numbers for the NICs. BenchError when a kernel lacks one."""
    indexes = [rtnl.interfaces(agent) for agent in kernels.agents]
    if missing := [nic for p in kernels.nics for nic in (p.a, p.b) if nic not in indexes[p.kernel]]:
        raise BenchError(f"the link engine has no NIC {', '.join(missing)}")
    return tuple(
        LinkRecord(
            name=wire.name,
            a=(wire.a.namespace, wire.a.ifname),
            b=(wire.b.namespace, wire.b.ifname),
            egress={"a_to_b": indexes[place.kernel][place.b], "b_to_a": indexes[place.kernel][place.a]},
            commanded={"a_to_b": wire.a_to_b, "b_to_a": wire.b_to_a},
            kernel=place.kernel,
            built={"a_to_b": wire.a_to_b, "b_to_a": wire.b_to_a},
            policed=profile == "exact" and not wire.shares,
            shares=wire.shares,
        )
        for wire, place in zip(wires, kernels.nics, strict=True)
    )


def join(kernels: Kernels, links: Sequence[LinkRecord], seed: int | None) -> None:
    """Set the NICs up, join and shape the two ends of every link as commanded. BenchError when a kernel refuses."""
    for number, agent in enumerate(kernels.agents):
        own = [link for link in links if link.kernel == number]
        agent.set_up_nics([link.egress[direction] for link in own for direction in ("b_to_a", "a_to_b")])
        rtnl.transact(agent, [step for link in own for step in _joining(link, seed)])


def _joining(link: LinkRecord, seed: int | None) -> list[tuple[str, bytes]]:
    near_a, near_b = link.egress["b_to_a"], link.egress["a_to_b"]
    return [
        (f"ingress at {link.name} a", rtnl.ingress(near_a)),
        (f"ingress at {link.name} b", rtnl.ingress(near_b)),
        shape_step(link, "a_to_b", seed),
        shape_step(link, "b_to_a", seed),
        *_shares(link, "a_to_b"),
        *_shares(link, "b_to_a"),
        # redirection last: nothing passes before it is shaped
        (f"redirect {link.name} a to b", rtnl.redirect(near_a, near_b, _police(link, "a_to_b"))),
        (f"redirect {link.name} b to a", rtnl.redirect(near_b, near_a, _police(link, "b_to_a"))),
    ]


def _shares(link: LinkRecord, direction: Direction) -> list[tuple[str, bytes]]:
    wanted = link.scheduler(direction)
    messages = htb.build(link.egress[direction], wanted) if wanted else []
    return [(f"shares of {link.name} {direction}", message) for message in messages]


def _police(link: LinkRecord, direction: Direction) -> bytes:
    wanted = link.police(direction)
    return police.action(link.egress[direction], wanted) if wanted else b""
