"""Links that are lost and come back together, such as all links of one spacecraft."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, Protocol

from hil.faults.fault import Fault, Parameter
from hil.lab.routes import path

if TYPE_CHECKING:
    from hil.bench.bench import Bench
    from hil.lab.model import Lab
    from hil.links.link_box import Direction


class Box(Protocol):
    """What is needed of ``hil.links.link_box.LinkBox``."""

    def cut(self, link: str, *, why: str = "") -> None: ...
    def restore(self, link: str, *, why: str = "") -> None: ...
    def show(self) -> list[Any]: ...


class LinkSet:
    """Some links of a link box, lost together, and counted together.

    The two ends of a crosslink are separated by losing that one link only where no other way leads round it: in a
    ring the traffic just takes the other direction.  All links of one spacecraft separate it from everything.
    """

    def __init__(self, box: Box, names: Iterable[str]) -> None:
        self._box = box
        self.names = tuple(names)

    @classmethod
    def of_spacecraft(cls, box: Box, lab: Lab, spacecraft: str) -> LinkSet:
        """Return every link of a spacecraft, also to the ground: without them it is alone."""
        return cls(box, (link.name for link in lab.links if spacecraft in link.between))

    @classmethod
    def of_ground(cls, box: Box, lab: Lab) -> LinkSet:
        """Return every ground link: without them nothing comes from the ground, whichever spacecraft has a pass."""
        return cls(box, (link.name for link in lab.links if link.kind == "ground"))

    def cut(self, *, why: str = "") -> None:
        """Take all of them down, one straight after the other."""
        for name in self.names:
            self._box.cut(name, why=why)

    def restore(self, *, why: str = "") -> None:
        """Bring all of them back as they were commanded; the others also when one cannot be, then raise its error."""
        with ExitStack() as stack:
            for name in reversed(self.names):
                stack.callback(self._box.restore, name, why=why)

    def bytes_sent(self) -> int:
        """Return bytes that went into these links, both directions, Ethernet headers included."""
        return sum(
            status.a_to_b.sent_bytes + status.b_to_a.sent_bytes
            for status in self._box.show()
            if status.name in self.names
        )


class LinkCut:
    """One link is lost in both directions: a crosslink, or a link to the ground."""

    description = "loses a link, both directions"
    parameters: Sequence[Parameter] = ()

    def targets(self, bench: Bench) -> Sequence[str]:
        """Return all links that are not cut already."""
        cut = bench.links.cut_links()
        return tuple(link.name for link in bench.lab.links if link.name not in cut)

    @contextmanager
    def inject(self, bench: Bench, target: str, values: Mapping[str, float]) -> Iterator[None]:
        """Cut the link; afterwards it is as it was commanded."""
        try:
            bench.links.cut(target, why="fault")
            yield
        finally:
            bench.links.restore(target, why="fault healed")


class SpacecraftDark:
    """All links of a spacecraft are lost, also those to the ground; its boards go on."""

    description = "loses all links of a spacecraft, also those to the ground; its boards go on"
    parameters: Sequence[Parameter] = ()

    def targets(self, bench: Bench) -> Sequence[str]:
        """Return all spacecraft."""
        return tuple(craft.name for craft in bench.lab.spacecraft)

    @contextmanager
    def inject(self, bench: Bench, target: str, values: Mapping[str, float]) -> Iterator[None]:
        """Cut the links; afterwards they are as they were (a link cut by hand before stays cut)."""
        cut_before = bench.links.cut_links()
        names = [
            n for n in LinkSet.of_spacecraft(bench.links, bench.lab, target).names if n not in cut_before
        ]
        links = LinkSet(bench.links, names)
        try:
            links.cut(why=f"{target} lost")
            yield
        finally:
            links.restore(why=f"{target} is back")


class GroundLost(SpacecraftDark):
    """Every ground link is lost: nothing comes from the ground, whichever spacecraft has a pass."""

    description = "loses all links of the ground station"

    def targets(self, bench: Bench) -> Sequence[str]:
        """Return the ground station."""
        return (bench.lab.ground_station.name,)


LINK_CUT: Fault = LinkCut()
SPACECRAFT_DARK: Fault = SpacecraftDark()
GROUND_LOST: Fault = GroundLost()


def usable_now(bench: Bench) -> frozenset[str]:
    """Links that can be used now: up by plan, where they follow the orbit (fades aside), and not cut by hand."""
    directions: tuple[Direction, Direction] = ("a_to_b", "b_to_a")
    if bench.orbit is not None:
        return bench.orbit.usable() - frozenset(bench.links.cut_links())
    return frozenset(
        name for name in bench.links.links if all(bench.links.commanded(name, d).up for d in directions)
    )


def way_from_ground(bench: Bench, spacecraft: str, *, without: Iterable[str] = ()) -> list[str] | None:
    """Return links from the ground station to a spacecraft that can be used now, in order; None when there is no way.

    ``without`` some links, such as all those of another spacecraft that is to be cut off.
    """
    return path(bench.lab, bench.lab.ground_station.name, spacecraft, usable_now(bench) - {*without})
