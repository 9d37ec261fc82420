"""What a link does when: phases, plans and samples.  Facts only; numpy is not needed to read a plan."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Any, Literal, NamedTuple, TypeAlias

from hil.errors import ConfigurationError

JSON_FORMAT = "hil-link-plan/1"


class Phase(StrEnum):
    """Where a link stands."""

    BLOCKED = "blocked"
    """Out of sight or out of range."""
    IDLE = "idle"
    """In sight, and no terminal (or antenna) points there."""
    SLEW = "slew"
    """Both terminals turn towards each other; before the contact opens when they are free in time."""
    ACQUIRE = "acquire"
    TRACK = "track"
    """Frames pass."""
    FADE = "fade"
    """The beam misses for a moment; frames are lost, routes stay."""
    LOST = "lost"
    """The fade lasted too long: tracking is over."""
    REACQUIRE = "reacquire"


Kind: TypeAlias = Literal["crosslink", "ground", "guest"]
"""Of a contact or a link: of two spacecraft, of one with a ground station, of one with a guest."""

USABLE = frozenset({Phase.TRACK, Phase.FADE})
"""Phases in which routes use a link."""


@dataclass(frozen=True)
class Candidate:
    """A link that may come up: what a lab lists.  ``a`` and ``b`` are nodes of the constellation.

    For a ground link one of the two is a ground station, for a guest's link a guest, whichever way round.
    """

    name: str
    kind: Kind
    a: str
    b: str
    mtu: int = 1500


@dataclass(frozen=True)
class Interval:
    """One phase of a link; seconds from the plan's start.  ``why`` says what was drawn or what stood in the way."""

    phase: Phase
    start_s: float
    end_s: float
    why: str = ""


@dataclass(frozen=True)
class LinkPlan:
    """Every link's phases, without gaps, from 0 to ``span_s`` seconds after ``start``."""

    start: datetime
    span_s: float
    seed: int
    links: Mapping[str, tuple[Interval, ...]]

    def interval(self, link: str, at_s: float) -> Interval:
        """Return the interval that holds at a moment; an edge belongs to what begins there.

        Raises ConfigurationError: no such link, or a moment outside the plan.
        """
        if link not in self.links:
            raise ConfigurationError(
                f"no link {link!r} in the link plan", remedy=f"there are {', '.join(self.links) or 'none'}"
            )
        if not 0 <= at_s <= self.span_s:
            raise ConfigurationError(
                f"{at_s:g} s is outside the link plan (0 to {self.span_s:g} s)", remedy="plan a longer span"
            )
        found = self.links[link]
        return found[bisect_right(found, at_s, key=lambda i: i.start_s) - 1]

    def up(self, link: str, at_s: float) -> bool:
        """Return whether frames pass.  Raises ConfigurationError like :meth:`interval`."""
        return self.interval(link, at_s).phase is Phase.TRACK

    def restricted(self, links: Sequence[str]) -> LinkPlan:
        """Return the same plan with these links only.  Raises ConfigurationError like :meth:`interval`."""
        for link in links:
            self.interval(link, 0.0)
        return LinkPlan(self.start, self.span_s, self.seed, {link: self.links[link] for link in links})

    def scaled(self, factor: float) -> LinkPlan:
        """Return the same plan with every time ``factor`` times as long."""
        links = {
            name: tuple(replace(i, start_s=i.start_s * factor, end_s=i.end_s * factor) for i in intervals)
            for name, intervals in self.links.items()
        }
        return LinkPlan(self.start, self.span_s * factor, self.seed, links)

    def topology(self) -> list[tuple[float, frozenset[str]]]:
        """Return which links routes may use, from when on: the first entry is at 0, each later one is a change.

        A fade counts as usable (routes do not follow fades); a lost link does not.
        """
        edges = sorted(
            (interval.start_s, name, interval.phase in USABLE)
            for name, intervals in self.links.items()
            for interval in intervals
        )
        now: set[str] = set()
        found: list[tuple[float, frozenset[str]]] = []
        for k, (at_s, name, usable) in enumerate(edges):
            (now.add if usable else now.discard)(name)
            if k + 1 < len(edges) and edges[k + 1][0] == at_s:
                continue
            here = frozenset(now)
            if not found or found[-1][1] != here:
                found.append((at_s, here))
        return found or [(0.0, frozenset())]

    def to_json(self) -> dict[str, Any]:
        """JSON values; :meth:`from_json` is the inverse."""
        return {
            "format": JSON_FORMAT,
            "start": self.start.isoformat(),
            "span_s": self.span_s,
            "seed": self.seed,
            "links": {name: [vars(i) for i in intervals] for name, intervals in self.links.items()},
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> LinkPlan:
        """Read what :meth:`to_json` wrote.  Raises ConfigurationError."""
        try:
            if value["format"] != JSON_FORMAT:
                raise ValueError(f"format is {value['format']!r}, expected {JSON_FORMAT!r}")
            links = {
                name: tuple(Interval(**{**row, "phase": Phase(row["phase"])}) for row in rows)
                for name, rows in value["links"].items()
            }
            start = datetime.fromisoformat(value["start"])
            return cls(start, float(value["span_s"]), int(value["seed"]), links)
        except (ValueError, KeyError, TypeError, AttributeError) as exc:
            raise ConfigurationError(
                f"not a link plan of this testbed: {exc}", remedy="write it with `hil orbit links --format json`"
            ) from exc


class LinkSample(NamedTuple):
    """What both directions of a link shall be from ``at_s`` (seconds from the plan's start) on."""

    at_s: float
    link: str
    up: bool
    delay_us: int
    loss_ppm: int
