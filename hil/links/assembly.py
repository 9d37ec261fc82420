"""How a link box comes by its kernels: cables to them, links dealt out to them, both ends of a link joined there.

A User-Mode Linux uses one core and serves one link at a time, so a link that is full holds up its neighbours: on two
cores the 95th percentile of a neighbour's delay error was 1.4 ms beside it, and 0.1 ms with a kernel of its own.
Hence as many of them as there are cores, up to a few.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from hil.errors import BenchError
from hil.links.commanded import LinkRecord
from hil.links.engines import rtnl, wiring
from hil.links.engines.agent import Agent, KernelAgent
from hil.links.engines.choose import EngineChoice
from hil.links.engines.sysctl import big_socket_buffers
from hil.links.engines.uml import UmlAgent, kernels_for
from hil.links.engines.wiring import Profile
from hil.links.shape import shape_step
from hil.links.wires import Wire

if TYPE_CHECKING:
    from hil.links.engines.shaper_host import ShaperHost


@dataclass(frozen=True)
class Place:
    """Where a link is shaped: the number of the kernel among the box's, and its NICs there that lead to a and b."""

    kernel: int
    a: str
    b: str


@dataclass(frozen=True)
class Opened:
    """The kernels of a link box, and every link's place in them, in the order of the wires."""

    choice: EngineChoice
    agents: tuple[Agent, ...]
    places: tuple[Place, ...]

    def records(self, wires: Sequence[Wire]) -> tuple[LinkRecord, ...]:
        """What each link is to be, by the kernels' own numbers for the NICs. BenchError when a kernel lacks one."""
        indexes = [rtnl.interfaces(agent) for agent in self.agents]
        if missing := [nic for p in self.places for nic in (p.a, p.b) if nic not in indexes[p.kernel]]:
            raise BenchError(f"the {self.choice.kind} link engine has no NIC {', '.join(missing)}")
        return tuple(
            LinkRecord(
                name=wire.name,
                a=(wire.a.namespace, wire.a.ifname),
                b=(wire.b.namespace, wire.b.ifname),
                egress={"a_to_b": indexes[place.kernel][place.b], "b_to_a": indexes[place.kernel][place.a]},
                commanded={"a_to_b": wire.a_to_b, "b_to_a": wire.b_to_a},
                kernel=place.kernel,
            )
            for wire, place in zip(wires, self.places, strict=True)
        )

    def join(self, links: Sequence[LinkRecord], seed: int | None) -> None:
        """NICs up, and the two ends of every link joined and shaped as commanded. BenchError when one refuses."""
        for number, agent in enumerate(self.agents):
            own = [link for link in links if link.kernel == number]
            with big_socket_buffers() if self.choice.kind == "uml" else nullcontext():
                nics = [link.egress[direction] for link in own for direction in ("b_to_a", "a_to_b")]
                rtnl.transact(agent, [("a NIC up", rtnl.nic_up(index)) for index in nics])
            agent.nics_are_up()
            rtnl.transact(agent, [step for link in own for step in _join(link, seed)])


def open_on_shaper_host(
    shaper: ShaperHost, wires: Sequence[Wire], profile: Profile, undo: ExitStack
) -> Opened:
    """The kernel of another machine, to which the cables lead already."""
    choice, agent, nics = shaper.open({wire.name: wire.a_to_b.mtu for wire in wires}, profile, undo)
    pairs = zip(nics[::2], nics[1::2], strict=True)
    return Opened(choice, (agent,), tuple(Place(0, a, b) for a, b in pairs))


def open_here(
    box_namespace: str,
    wires: Sequence[Wire],
    choice: EngineChoice,
    profile: Profile,
    undo: ExitStack,
    *,
    kernels: int | None = None,
) -> Opened:
    """Cables to the link box's namespace, and the kernels on this machine that have their NICs.

    ``kernels`` is how many User-Mode Linuxes share the links; None: as many as the machine has cores for.
    """
    cables = [
        wiring.Cable(f"l{index}{side}", end.namespace, end.ifname, wire.a_to_b.mtu)
        for index, wire in enumerate(wires)
        for side, end in (("a", wire.a), ("b", wire.b))
    ]
    wiring.lay(box_namespace, cables, profile=profile)
    undo.callback(wiring.remove, box_namespace)
    if choice.kind != "uml":
        agent = KernelAgent(box_namespace)
        undo.callback(agent.close)
        pairs = zip(cables[::2], cables[1::2], strict=True)
        return Opened(choice, (agent,), tuple(Place(0, a.nic, b.nic) for a, b in pairs))
    mtu = max(cable.mtu for cable in cables)
    dealt = deal([_rate_bps(wire) for wire in wires], kernels or kernels_for(len(wires)))
    hands: list[list[str]] = [[] for _ in range(max(dealt) + 1)]
    places = []
    for index, kernel in enumerate(dealt):
        hand = hands[kernel]
        places.append(Place(kernel, f"vec{len(hand)}", f"vec{len(hand) + 1}"))
        hand += [cables[2 * index].nic, cables[2 * index + 1].nic]
    if len(hands) > 1:
        choice = replace(choice, reason=f"{choice.reason}; {len(hands)} kernels share the links")
    starts = [_starter(box_namespace, hand, mtu, profile) for hand in hands]
    return Opened(choice, _together(starts, undo), tuple(places))


def deal(rates_bps: Sequence[float], kernels: int) -> list[int]:
    """The kernel of each link: dealt out like cards, the fastest first, so that those that fill up are apart."""
    order = sorted(range(len(rates_bps)), key=lambda index: -rates_bps[index])
    kernel_of = {index: turn % kernels for turn, index in enumerate(order)}
    return [kernel_of[index] for index in range(len(rates_bps))]


def _rate_bps(wire: Wire) -> float:
    return max(state.rate_bps or float("inf") for state in (wire.a_to_b, wire.b_to_a))


def _starter(namespace: str, nics: Sequence[str], mtu: int, profile: Profile) -> Callable[[], Agent]:
    return lambda: UmlAgent(namespace, nics, mtu=mtu, profile=profile)


def _together(starts: Sequence[Callable[[], Agent]], undo: ExitStack) -> tuple[Agent, ...]:
    """Start them at once; when one fails, ``undo`` ends those that came up."""
    with ThreadPoolExecutor(len(starts)) as pool:
        started = [pool.submit(start) for start in starts]
    for future in started:
        if future.exception() is None:
            undo.callback(future.result().close)
    return tuple(future.result() for future in started)


def _join(link: LinkRecord, seed: int | None) -> list[tuple[str, bytes]]:
    near_a, near_b = link.egress["b_to_a"], link.egress["a_to_b"]
    return [
        (f"ingress at {link.name} a", rtnl.ingress(near_a)),
        (f"ingress at {link.name} b", rtnl.ingress(near_b)),
        shape_step(link, "a_to_b", seed),
        shape_step(link, "b_to_a", seed),
        # redirection last: nothing passes before it is shaped
        (f"redirect {link.name} a to b", rtnl.redirect(near_a, near_b)),
        (f"redirect {link.name} b to a", rtnl.redirect(near_b, near_a)),
    ]
