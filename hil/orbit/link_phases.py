"""The link plan: for every link BLOCKED -> SLEW -> ACQUIRE -> TRACK <-> FADE -> LOST -> REACQUIRE, from geometry,
terminals and seeded chance.

Pure: the same constellation, candidates, start and seed give the same plan.  A contact that is open when the plan
starts is tracked already (a run may begin in the middle of the mission).
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Literal

import numpy as np

from hil.errors import ConfigurationError
from hil.orbit.contact_plan import STEP_S, ContactPlan, contact_arrays
from hil.orbit.elements import Constellation
from hil.orbit.model import Duration, Fades, Station, Terminals
from hil.orbit.phases import Candidate, Interval, LinkPlan, Phase
from hil.orbit.pointing import Pass, Pointings, point

LOOK_AHEAD_S = 6_000.0
"""How far beyond the span contacts are known, so that "lasts longest" means something near its end: one orbit."""

_P99_SIGMAS = 2.326_347_874_040_841
"""Standard normal quantile of 0.99."""

_PURPOSES = ("acquisition", "fades")


def plan_links(
    constellation: Constellation,
    candidates: Sequence[Candidate],
    *,
    start: datetime,
    span_s: float,
    seed: int,
    step_s: float = STEP_S,
) -> LinkPlan:
    """Return phases of every candidate for ``span_s`` from ``start``; contacts are sampled every ``step_s``.

    Raises ConfigurationError: candidates that the constellation does not have, a span or seed out of bounds, or
    SGP4 fails.
    """
    _check(constellation, candidates)
    span_s = round(float(span_s), 6)  # as its times: the last interval ends where the plan does
    passes = _passes(constellation, candidates, start, span_s, step_s)
    pointings = point(constellation, start, [one for many in passes.values() for one in many])
    links = {
        link.name: tuple(_intervals(constellation, link, passes[link.name], pointings, span_s, seed))
        for link in candidates
    }
    return LinkPlan(start, span_s, seed, links)


def every_candidate(plan: ContactPlan) -> tuple[Candidate, ...]:
    """Return a candidate for every pair that has a contact in a contact plan, named ``a--b``."""
    pairs = sorted({(c.kind, c.a, c.b) for c in plan.contacts})
    return tuple(Candidate(f"{a}--{b}", kind, a, b) for kind, a, b in pairs)


def _check(found: Constellation, candidates: Sequence[Candidate]) -> None:
    craft, stations = set(found.spacecraft), {s.name for s in found.stations}
    names = [link.name for link in candidates]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ConfigurationError(f"links named twice: {', '.join(twice)}", remedy="give each its own name")
    for link in candidates:
        ends = {link.a, link.b}
        if unknown := sorted(ends - set(found.nodes)):
            raise ConfigurationError(
                f"link {link.name}: {found.name} has no {', '.join(unknown)}",
                remedy=f"there are {', '.join(found.nodes)}",
            )
        kinds = sorted("ground" if end in stations else "spacecraft" if end in craft else "guest" for end in ends)
        wanted = ["spacecraft"] * 2 if link.kind == "crosslink" else sorted(["spacecraft", link.kind])
        if kinds != wanted:
            raise ConfigurationError(
                f"link {link.name}: {link.a} and {link.b} make no {link.kind} link",
                remedy="a crosslink joins two spacecraft; a ground link a spacecraft and a ground station; a guest "
                "link a spacecraft and a guest",
            )


def _passes(
    found: Constellation, candidates: Sequence[Candidate], start: datetime, span_s: float, step_s: float
) -> dict[str, list[Pass]]:
    """Return contacts of every candidate, in order of time."""
    arrays = contact_arrays(found, start, duration_s=span_s + LOOK_AHEAD_S, step_s=step_s)
    index = {name: k for k, name in enumerate(found.nodes)}
    rows: dict[tuple[int, int], list[tuple[float, float, bool]]] = {}
    columns = (arrays.a, arrays.b, arrays.start_s, arrays.end_s, arrays.open_start)
    for a, b, start_s, end_s, is_open in zip(*(column.tolist() for column in columns), strict=True):
        rows.setdefault((a, b), []).append((start_s, end_s, is_open and start_s == 0))
    found_in: dict[str, list[Pass]] = {}
    for link in candidates:
        first, second = sorted((index[link.a], index[link.b]))
        found_in[link.name] = [
            Pass(link, number, *row) for number, row in enumerate(sorted(rows.get((first, second), ())), 1)
        ]
    return found_in


class _Lane:
    """Intervals of one link, laid one after another up to the end of the span; times to the microsecond."""

    def __init__(self, span_s: float) -> None:
        self._span_s, self._at_s = span_s, 0.0
        self.laid: list[Interval] = []

    @property
    def full(self) -> bool:
        return self._at_s >= self._span_s

    def until(self, end_s: float, phase: Phase, why: str = "") -> None:
        """``phase`` from where the last one ended; nothing when that is no time at all."""
        end_s = min(round(end_s, 6), self._span_s)
        if end_s > self._at_s:
            self.laid.append(Interval(phase, self._at_s, end_s, why))
            self._at_s = end_s


def _intervals(
    found: Constellation, link: Candidate, passes: Sequence[Pass], pointings: Pointings, span_s: float, seed: int
) -> Iterator[Interval]:
    lane = _Lane(span_s)
    blocked = _blocked_because(found, link)
    for one in passes:
        got, refused = pointings.given.get(one.key), pointings.refused.get(one.key, "")
        if got is None:
            lane.until(one.start_s, Phase.BLOCKED, blocked)
            lane.until(one.end_s, Phase.IDLE, refused)
        elif one.under_way and got.ready_s == 0:
            _tracked(lane, found.terminals, one, seed, 0.0, "already tracked when the plan starts")
        else:
            lane.until(min(one.start_s, got.slew_from_s), Phase.BLOCKED, blocked)
            lane.until(got.slew_from_s, Phase.IDLE, refused)
            lane.until(got.ready_s, Phase.SLEW, got.why)
            needs_s, why = _acquisition(found, one, seed)
            up_s = got.ready_s + needs_s
            lane.until(
                min(up_s, one.end_s), Phase.ACQUIRE, why + ("" if up_s < one.end_s else "; the contact ended first")
            )
            _tracked(lane, found.terminals, one, seed, up_s)
        if lane.full:
            break
    lane.until(span_s, Phase.BLOCKED, blocked)
    yield from lane.laid


def _blocked_because(found: Constellation, link: Candidate) -> str:
    if link.kind == "ground":
        station = _station(found, link)
        return f"under {station.mask_deg:g} deg at {station.name}"
    rules, guest = found.crosslinks, found.guest(link.a, link.b)
    most_km = min(rules.max_range_km, guest.max_range_km) if guest else rules.max_range_km
    if guest and guest.track:
        return f"under {guest.mask_deg:g} deg at {guest.name}, beyond {most_km:,.0f} km, or outside its track's times"
    return f"no line of sight above {rules.grazing_floor_km:g} km within {most_km:,.0f} km"


def _station(found: Constellation, link: Candidate) -> Station:
    return next(station for station in found.stations if station.name in (link.a, link.b))


def _acquisition(found: Constellation, one: Pass, seed: int) -> tuple[float, str]:
    link = one.candidate
    if link.kind == "ground":
        return _station(found, link).acquire_s, "acquisition of the station, fixed"
    rules = found.guest(link.a, link.b) or found.terminals
    drawn_s = draw_s(rules.acquire, generator(seed, link.name, one.number, "acquisition"))
    return drawn_s, f"acquisition drawn {drawn_s:.1f} s"


def _tracked(lane: _Lane, rules: Terminals, one: Pass, seed: int, from_s: float, why: str = "") -> None:
    """TRACK to the end of the contact, with its fades.  Ground links have none."""
    if from_s >= one.end_s:
        return
    chance = generator(seed, one.candidate.name, one.number, "fades")
    lost_after_s = rules.fades.lost_after_ms / 1000
    at_s = from_s
    if one.candidate.kind != "ground":
        for gap_s, fade_s in fades(rules.fades, chance):
            begins_s = at_s + gap_s
            if begins_s >= one.end_s or lane.full:
                break
            lane.until(begins_s, Phase.TRACK, why)
            why = ""
            drawn = f"fade drawn {fade_s * 1000:.1f} ms"
            lane.until(min(begins_s + min(fade_s, lost_after_s), one.end_s), Phase.FADE, drawn)
            at_s = begins_s + fade_s
            if fade_s > lost_after_s:
                over = f"{drawn}, over {rules.fades.lost_after_ms:g} ms"
                lane.until(min(at_s, one.end_s), Phase.LOST, over)
                needs_s = draw_s(rules.reacquire, chance)
                at_s += needs_s
                lane.until(min(at_s, one.end_s), Phase.REACQUIRE, f"reacquisition drawn {needs_s:.1f} s")
    lane.until(one.end_s, Phase.TRACK, why)


def generator(seed: int, link: str, contact: int, purpose: Literal["acquisition", "fades"]) -> np.random.Generator:
    """Return a generator of its own for every link, contact (1, 2, ... in the plan) and purpose.

    Another link in the plan, or fades switched on, changes nobody else's draws.  Raises ConfigurationError: a
    negative seed.
    """
    if seed < 0:
        raise ConfigurationError(f"a seed of {seed}", remedy="give a whole number from 0 on")
    digest = hashlib.sha256(link.encode()).digest()
    words = [int.from_bytes(digest[k : k + 4], "big") for k in range(0, 16, 4)]
    return np.random.default_rng([seed, *words, contact, _PURPOSES.index(purpose)])


def draw_s(found: Duration, chance: np.random.Generator) -> float:
    """Return one lognormal time in seconds."""
    sigma = math.log(found.p99_s / found.median_s) / _P99_SIGMAS
    return found.median_s * math.exp(sigma * float(chance.standard_normal()))


def fades(found: Fades, chance: np.random.Generator) -> Iterator[tuple[float, float]]:
    """Endless pairs: seconds of tracking until the next fade, and how long that lasts in seconds.

    Ends at once when fades are off.
    """
    if found.per_hour == 0:
        return
    low, high = math.log(found.shortest_ms / 1000), math.log(found.longest_ms / 1000)
    while True:
        gap_s = float(chance.exponential(3600 / found.per_hour))
        yield gap_s, math.exp(float(chance.uniform(low, high)))
