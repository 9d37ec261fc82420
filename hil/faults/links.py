"""Links that are lost and come back together, such as all links of one spacecraft."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Protocol

from hil.lab.routes import path
from hil.links.shape import DIRECTIONS, Direction

if TYPE_CHECKING:
    from hil.bench.bench import Bench
    from hil.lab.model import Lab


class Box(Protocol):
    """What is needed of ``hil.links.link_box.LinkBox``."""

    def cut(self, link: str, *, why: str = "") -> object: ...
    def restore(self, link: str, *, why: str = "") -> None: ...
    def show(self) -> list[Any]: ...


def links_of(lab: Lab, end: str) -> list[str]:
    """Return the names of all links of a spacecraft or of the ground station."""
    return [link.name for link in lab.links if end in link.between]


class LinkSet:
    """Some links of a link box, lost together, and counted together.

    The two ends of a crosslink are separated by losing that one link only where no other way leads round it: in a
    ring the traffic just takes the other direction.  All links of one spacecraft separate it from everything.
    """

    def __init__(self, box: Box, names: Iterable[str], into: Mapping[str, Direction] | None = None) -> None:
        """``into``: by link the direction that leads into what the links belong to."""
        self._box = box
        self.names = tuple(names)
        self._into = into or {}

    @classmethod
    def of(cls, box: Box, lab: Lab, end: str) -> LinkSet:
        """Return every link of a spacecraft, also to the ground, or of the ground station: without them it is alone."""
        directions = {link.name: DIRECTIONS[link.between.index(end) == 0] for link in lab.links if end in link.between}
        return cls(box, directions, directions)

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
            self._sent(status.a_to_b) + self._sent(status.b_to_a)
            for status in self._box.show()
            if status.name in self.names
        )

    def _sent(self, status: Any) -> int:
        """Return the bytes that went into a direction: of a tenant's box the tenant's own."""
        tenant = getattr(self._box, "tenant", "")
        return int(status.sent_by(tenant) if tenant else status.sent_bytes)

    def bytes_into(self) -> int:
        """Return bytes that went through these links into the spacecraft that they belong to (:meth:`of`)."""
        return sum(
            self._sent(getattr(status, self._into[status.name]))
            for status in self._box.show()
            if status.name in self._into
        )


def usable_now(bench: Bench) -> frozenset[str]:
    """Links that can be used now: up by plan, where they follow the orbit (fades aside), and not cut by hand."""
    if bench.orbit is not None:
        return bench.orbit.usable() - frozenset(bench.links.cut_links())
    box = bench.links
    return frozenset(name for name in box.links if all(box.commanded(name, d).up for d in DIRECTIONS))


def way_from_ground(bench: Bench, spacecraft: str, *, without: Iterable[str] = ()) -> list[str] | None:
    """Return links from the ground station to a spacecraft that can be used now, in order; None when there is no way.

    ``without`` some links, such as all those of another spacecraft that is to be cut off.
    """
    return path(bench.lab, bench.lab.ground_station.name, spacecraft, usable_now(bench) - {*without})
