"""Who points at whom: terminals and antennas are handed to contacts, contact plan in hand.

The rule: whatever is tracked is kept until its contact ends; a free terminal goes to the contact that lasts longest
from now on (ties: by link name).  The plan is known in advance, so a terminal that is free in time turns before the
contact opens, just early enough.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np

from hil.orbit.elements import Constellation
from hil.orbit.geometry import track
from hil.orbit.model import Guest, Terminals
from hil.orbit.phases import Candidate
from hil.orbit.times import Floats

PARKED = np.array([1.0, 0.0, 0.0])
"""Where a terminal looks that nobody used yet: along the flight (axes: along flight, across it, up)."""


@dataclass(frozen=True)
class Pass:
    """One contact of a candidate.  ``number`` counts a link's contacts in the plan from 1."""

    candidate: Candidate
    number: int
    start_s: float
    end_s: float
    under_way: bool
    """In contact already when the plan starts: whoever points there tracks."""

    @property
    def key(self) -> tuple[str, int]:
        return self.candidate.name, self.number


@dataclass(frozen=True)
class Pointing:
    """What a pass got: both ends turn from ``slew_from_s`` on and point at each other at ``ready_s``."""

    slew_from_s: float
    ready_s: float
    why: str = ""


@dataclass(frozen=True)
class Pointings:
    """Who got terminals, and why the others had to wait; a pass that waited and then got its turn is in both."""

    given: dict[tuple[str, int], Pointing]
    refused: dict[tuple[str, int], str]


@dataclass(eq=False)
class _Head:
    """A terminal of a spacecraft or a guest, or an antenna of a station, while pointing is worked out."""

    node: str
    number: int
    direction: Floats
    until_s: float = -math.inf
    serves: str = ""


def point(found: Constellation, start: datetime, passes: Sequence[Pass]) -> Pointings:
    """Terminals and antennas for ``passes``.  Raises ConfigurationError where SGP4 fails."""
    return _Scheduler(found, start).run(passes)


class _Scheduler:
    """Greedy, from event to event: a pass asks, a pass ends."""

    def __init__(self, found: Constellation, start: datetime) -> None:
        self._found, self._start = found, start
        self._stations = {station.name: station for station in found.stations}
        self._turns: dict[str, Guest | Terminals] = {guest.name: guest for guest in found.guests}
        counts = {name: found.terminals.per_spacecraft for name in found.spacecraft}
        counts |= {name: station.antennas for name, station in self._stations.items()}
        counts |= {guest.name: guest.terminals for guest in found.guests}
        self._heads = {node: [_Head(node, k + 1, PARKED) for k in range(count)] for node, count in counts.items()}
        self._answer = Pointings({}, {})

    def run(self, passes: Sequence[Pass]) -> Pointings:
        asks = [(self._asks_at(one), k) for k, one in enumerate(passes)]
        heapq.heapify(asks)
        ends: list[float] = []
        waiting: list[Pass] = []
        while asks or ends:
            at_s = min(asks[0][0] if asks else math.inf, ends[0] if ends else math.inf)
            while ends and ends[0] <= at_s:
                heapq.heappop(ends)
            news: list[Pass] = []
            while asks and asks[0][0] <= at_s:
                news.append(passes[heapq.heappop(asks)[1]])
            free = {node for node, heads in self._heads.items() if any(h.until_s <= at_s for h in heads)}
            waiting = [one for one in waiting if one.end_s > at_s]
            turn = news + [one for one in waiting if free.issuperset(self._ends(one.candidate))]
            given: set[tuple[str, int]] = set()
            for one in sorted(turn, key=lambda one: _rank(one, at_s)):
                if self._give(one, at_s):
                    heapq.heappush(ends, one.end_s)
                    given.add(one.key)
            waiting = [one for one in waiting + news if one.key not in given]
        return self._answer

    def _ends(self, link: Candidate) -> tuple[str, ...]:
        """Nodes of which a link needs a terminal or an antenna."""
        if link.kind == "ground":
            return (link.a if link.a in self._stations else link.b,)
        return link.a, link.b

    def _asks_at(self, one: Pass) -> float:
        """Terminals are asked early enough for the longest turn; an antenna's turn is part of its ``acquire_s``."""
        ends = self._ends(one.candidate)
        lead_s = 0.0 if one.candidate.kind == "ground" else max(self._turn_s(node, 180.0) for node in ends)
        return max(0.0, one.start_s - lead_s)

    def _turn_s(self, node: str, angle_deg: float) -> float:
        """Return how long a terminal of a spacecraft, or of a guest, takes to turn and to settle."""
        rules = self._turns.get(node, self._found.terminals)
        return angle_deg / rules.slew_deg_per_s + rules.settle_s

    def _give(self, one: Pass, at_s: float) -> bool:
        """Hand over terminals at both ends when there are any."""
        link = one.candidate
        nodes = self._ends(link)
        free = {node: [head for head in self._heads[node] if head.until_s <= at_s] for node in nodes}
        if short := [node for node in nodes if not free[node]]:
            self._answer.refused.setdefault(one.key, " and ".join(self._busy(node) for node in short))
            return False
        if link.kind == "ground":
            ready_s = max(at_s, one.start_s)
            self._take(free[nodes[0]][0], one)
            self._answer.given[one.key] = Pointing(ready_s, ready_s)
            return True
        look_s = max(at_s, one.start_s)
        aims = dict(zip(nodes, self._aims(link, look_s), strict=True))
        chosen = {n: min(free[n], key=lambda h: (_angle_deg(h.direction, aims[n]), h.number)) for n in nodes}
        turns = {node: _angle_deg(chosen[node].direction, aims[node]) for node in nodes}
        turn_deg = max(turns.values())
        tracked = one.under_way and at_s == 0
        slew_s = 0.0 if tracked else max(self._turn_s(node, turns[node]) for node in nodes)
        slew_from_s = max(at_s, one.start_s - slew_s)
        ready_s = max(slew_from_s + slew_s, one.start_s)
        if ready_s >= one.end_s:
            self._answer.refused.setdefault(one.key, f"ends before a turn of {turn_deg:.0f} deg would")
            return False
        for node, aim in zip(nodes, self._aims(link, one.end_s), strict=True):
            self._take(chosen[node], one)
            chosen[node].direction = aim
        heads = " and ".join(f"{head.node}/{head.number}" for head in chosen.values())
        settle_s = max(self._turn_s(node, 0.0) for node in nodes)
        self._answer.given[one.key] = Pointing(
            slew_from_s, ready_s, f"terminals {heads} turn up to {turn_deg:.1f} deg, settle {settle_s:g} s"
        )
        return True

    def _take(self, head: _Head, one: Pass) -> None:
        head.until_s, head.serves = one.end_s, one.candidate.name

    def _busy(self, node: str) -> str:
        serves = ", ".join(sorted(head.serves for head in self._heads[node]))
        return f"{node} serves {serves}"

    def _aims(self, link: Candidate, at_s: float) -> tuple[Floats, Floats]:
        """Directions to the other end, each in its own axes."""
        both = self._found.only(link.a, link.b)
        here = track(both, self._start, np.array([at_s]))
        (a, a_s), (b, b_s) = (
            (here.position[:, node, 0], here.velocity[:, node, 0]) for node in map(both.nodes.index, (link.a, link.b))
        )
        return _own_axes(b - a, a, a_s), _own_axes(a - b, b, b_s)


def _rank(one: Pass, at_s: float) -> tuple[bool, float, str, int]:
    """Return what is tracked already, then the longest remaining time."""
    return not one.under_way or at_s > 0, max(one.start_s, at_s) - one.end_s, *one.key


def _own_axes(line_km: Floats, place_km: Floats, velocity_km_s: Floats) -> Floats:
    up = place_km / np.linalg.norm(place_km)
    across = np.cross(place_km, velocity_km_s)
    if not np.linalg.norm(across) > 1e-6:  # straight up, or a hover over a pole: no heading
        across = np.cross(up, [0.0, 1.0, 0.0])
    across /= np.linalg.norm(across)
    axes = np.stack([np.cross(across, up), across, up])
    return np.asarray(axes @ (line_km / np.linalg.norm(line_km)))


def _angle_deg(u: Floats, v: Floats) -> float:
    return math.degrees(math.acos(min(1.0, max(-1.0, float(u @ v)))))
