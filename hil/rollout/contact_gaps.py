"""When the contact between two nodes is interrupted by plan, and how long a transfer takes without that.  Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from hil.lab.model import Lab
from hil.lab.routes import path


class ContactPlan(Protocol):
    """What is needed of ``hil.orbit.link_phases.LinkPlan``."""

    def topology(self) -> list[tuple[float, frozenset[str]]]:
        """(seconds since the plan's start, links that can be used from then on), in time order."""
        ...


class OrbitClock(Protocol):
    """What is needed of a bench that follows an orbit (``bench.orbit``)."""

    @property
    def plan(self) -> ContactPlan: ...

    def now_s(self) -> float:
        """Return seconds since the plan's start."""
        ...


@dataclass(frozen=True)
class PlannedGap:
    """No way leads from one node to the other; seconds since the plan's start."""

    closes_s: float
    opens_s: float
    links: tuple[str, ...]
    """The links that closed."""

    @property
    def length_s(self) -> float:
        return self.opens_s - self.closes_s


def gaps(plan: ContactPlan, lab: Lab, start: str, end: str) -> list[PlannedGap]:
    """Return every interruption between two nodes that begins and ends within the plan, in time order.

    Links with a delay of their own do not follow the orbit: they are always there.  A way round counts as contact.
    """
    fixed = frozenset(link.name for link in lab.links if not link.follows_orbit)
    found: list[PlannedGap] = []
    closed: tuple[float, tuple[str, ...]] | None = None
    before: frozenset[str] | None = None
    for at_s, links in plan.topology():
        usable = links | fixed
        joined = path(lab, start, end, usable) is not None
        if not joined and closed is None and before is not None:
            closed = at_s, tuple(sorted(before - usable))
        elif joined and closed is not None:
            found.append(PlannedGap(closed[0], at_s, closed[1]))
            closed = None
        if joined or before is not None:
            before = usable
    return found


def upcoming(orbit: OrbitClock, lab: Lab, start: str, end: str, *, within_s: float) -> list[PlannedGap]:
    """Gaps that have not ended yet and begin within the next ``within_s`` seconds; the first may have begun."""
    now_s = orbit.now_s()
    return [
        gap for gap in gaps(orbit.plan, lab, start, end) if gap.opens_s > now_s and gap.closes_s <= now_s + within_s
    ]


def transfer_s(lab: Lab, way: tuple[str, ...] | list[str], size_bytes: int) -> float:
    """Return least time for ``size_bytes`` over these links: the slowest one decides (frame overhead is left out)."""
    return size_bytes * 8 / min(lab.link(name).rate_bps for name in way)
