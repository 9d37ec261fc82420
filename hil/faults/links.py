"""Links that are lost and come back together, such as all links of one spacecraft."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Protocol

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
        """Every link of a spacecraft, also to the ground: without them it is alone."""
        return cls(box, (link.name for link in lab.links if spacecraft in link.between))

    @classmethod
    def of_ground(cls, box: Box, lab: Lab) -> LinkSet:
        """Every ground link: without them nothing comes from the ground, whichever spacecraft has a pass."""
        return cls(box, (link.name for link in lab.links if link.kind == "ground"))

    def cut(self) -> None:
        """All of them down, one straight after the other."""
        for name in self.names:
            self._box.cut(name)

    def restore(self) -> None:
        """All of them as they were commanded; also the others when one cannot be restored, then its error."""
        with ExitStack() as stack:
            for name in reversed(self.names):
                stack.callback(self._box.restore, name)

    def bytes_sent(self) -> int:
        """Bytes that went into these links, both directions, Ethernet headers included."""
        return sum(
            status.a_to_b.sent_bytes + status.b_to_a.sent_bytes
            for status in self._box.show()
            if status.name in self.names
        )


def usable_now(bench: Bench) -> frozenset[str]:
    """Links that can be used now: up by plan, where they follow the orbit (fades aside), and not cut by hand."""
    directions: tuple[Direction, Direction] = ("a_to_b", "b_to_a")
    if bench.sky is not None:
        return bench.sky.usable() - frozenset(bench.links.cut_links())
    return frozenset(
        name for name in bench.links.links if all(bench.links.commanded(name, d).up for d in directions)
    )


def way_from_ground(bench: Bench, spacecraft: str, *, without: Iterable[str] = ()) -> list[str] | None:
    """Links from the ground station to a spacecraft that can be used now, in order; None when there is no way.

    ``without`` some links, such as all those of another spacecraft that is to be cut off.
    """
    return path(bench.lab, bench.lab.ground_station.name, spacecraft, usable_now(bench) - {*without})
