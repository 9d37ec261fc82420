"""Runs of visibility inside one block of samples, and how the runs of successive blocks join.

Everything works on arrays over (pair, sample); nothing here loops over pairs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import TypeAlias

import numpy as np

from hil.orbit.ellipsoid import EARTH_RADIUS_KM
from hil.orbit.geometry import Track
from hil.orbit.times import Bools, Floats, Ints

EDGE_S = 0.001
"""How finely the edges of contacts are refined."""

_NEIGHBOUR_ROWS = 256

Sees: TypeAlias = Callable[[Ints, Ints, Floats], Bools]
"""Whether pair (index), after sample (index), at a share of the step, is in contact."""


@dataclass(frozen=True, eq=False)
class Segments:
    """Columns of equal length: one row is one run of visibility.  ``a`` < ``b`` are node indices."""

    a: Ints
    b: Ints
    start_s: Floats
    end_s: Floats
    min_range_km: Floats
    max_range_km: Floats
    min_rate_km_s: Floats
    max_rate_km_s: Floats
    open_start: Bools
    open_end: Bools

    def __len__(self) -> int:
        return len(self.a)

    @classmethod
    def none(cls) -> Segments:
        whole, real, flag = np.empty(0, np.int64), np.empty(0), np.empty(0, np.bool_)
        return cls(whole, whole, real, real, real, real, real, real, flag, flag)

    @classmethod
    def concatenate(cls, parts: Sequence[Segments]) -> Segments:
        full = [part for part in parts if len(part)]
        if not full:
            return cls.none()
        return cls(*(np.concatenate([getattr(part, f.name) for part in full]) for f in fields(cls)))

    def take(self, rows: Ints | Bools) -> Segments:
        return Segments(*(getattr(self, f.name)[rows] for f in fields(self)))


def neighbours(here: Track, max_range_km: float, floor_km: float, *, everybody: bool) -> tuple[Ints, Ints]:
    """Return pairs (a < b) that may be within reach at some moment of the block; never leaves one out that is.

    Reach is the terminals' range, or the longest line past the floor between the highest two, whichever is less;
    to it comes what two spacecraft can close in half a block.
    """
    count = here.spacecraft
    if everybody:
        a, b = np.triu_indices(count, 1)
        return a.astype(np.int64), b.astype(np.int64)
    middle = len(here.seconds) // 2
    place = here.position[:, :count, middle].T
    highest = float(np.sqrt(np.max(np.sum(here.position[:, :count] ** 2, axis=0))))
    fastest = float(np.sqrt(np.max(np.sum(here.velocity[:, :count] ** 2, axis=0))))
    away_s = max(here.seconds[-1] - here.seconds[middle], here.seconds[middle] - here.seconds[0])
    horizon = 2 * math.sqrt(max(highest**2 - (EARTH_RADIUS_KM + floor_km) ** 2, 0))
    reach = min(max_range_km, horizon) + 2 * fastest * away_s
    found_a: list[Ints] = []
    found_b: list[Ints] = []
    square = np.sum(place**2, axis=1)
    for first in range(0, count, _NEIGHBOUR_ROWS):
        rows = slice(first, first + _NEIGHBOUR_ROWS)
        apart2 = square[rows, None] + square[None, first:] - 2 * (place[rows] @ place[first:].T)
        a, b = np.nonzero(np.triu(apart2 <= reach**2, 1))
        found_a.append(a.astype(np.int64) + first)
        found_b.append(b.astype(np.int64) + first)
    return np.concatenate(found_a), np.concatenate(found_b)


def crosslink_segments(here: Track, a: Ints, b: Ints, max_range_km: float, floor_km: float) -> Segments:
    """Runs in which pairs of spacecraft have a line of sight above the floor, within range."""
    floor2 = (EARTH_RADIUS_KM + floor_km) ** 2

    def clear(pa: Floats, pb: Floats) -> Bools:
        # With dot = a.b, the line's nearest point to the centre is between the ends when dot is less than both
        # squares; its distance squared is (|a|^2 |b|^2 - dot^2) / |b - a|^2.  Products only: this runs 10^8 times.
        a2, b2, dot = _dot(pa, pa), _dot(pb, pb), _dot(pa, pb)
        apart2 = a2 + b2 - 2 * dot
        least2 = np.minimum(a2, b2)
        above = np.where(dot < least2, a2 * b2 - dot * dot >= floor2 * apart2, least2 >= floor2)
        return np.asarray(above & (apart2 <= max_range_km**2))

    def between(pair: Ints, cell: Ints, share: Floats) -> Bools:
        return clear(here.at(a[pair], cell, share)[0], here.at(b[pair], cell, share)[0])

    sees = clear(here.position[:, a], here.position[:, b])
    return _runs(here, a, b, sees, between)


def ground_segments(
    here: Track,
    craft: Ints,
    station: int,
    mask_deg: float,
    *,
    max_range_km: float = math.inf,
    present_s: tuple[float, float] = (-math.inf, math.inf),
) -> Segments:
    """Runs in which spacecraft stand at or above the elevation mask of a station, or of an aircraft in the air.

    ``station`` is the node's index, ``present_s`` when it is there, on the samples' own clock.
    """
    first_s, last_s = present_s
    sine = math.sin(math.radians(mask_deg))
    place = np.full(len(craft), station, np.int64)
    zenith = here.zenith(place)

    def above(pa: Floats, pb: Floats, up: Floats, at_s: Floats) -> Bools:
        line = pa - pb
        apart = np.sqrt(_dot(line, line))
        seen = (_dot(line, up) >= sine * apart) & (apart <= max_range_km)
        return np.asarray(seen & (at_s >= first_s) & (at_s <= last_s))

    def between(pair: Ints, cell: Ints, share: Floats) -> Bools:
        pa, pb, up = (here.at(node[pair], cell, share)[0] for node in (craft, place, zenith))
        at_s = here.seconds[cell] + share * (here.seconds[cell + 1] - here.seconds[cell])
        return above(pa, pb, up, at_s)

    sees = above(here.position[:, craft], here.position[:, place], here.position[:, zenith], here.seconds)
    return _runs(here, craft, place, sees, between)


def joined(parts: Sequence[Segments]) -> Segments:
    """Return the runs of successive blocks, in order of a, b, start; those that meet at a block's border are one."""
    every = Segments.concatenate(parts)
    every = every.take(np.lexsort((every.start_s, every.b, every.a)))
    if not len(every):
        return every
    meets = every.open_end[:-1] & every.open_start[1:] & (every.end_s[:-1] == every.start_s[1:])
    meets &= (every.a[:-1] == every.a[1:]) & (every.b[:-1] == every.b[1:])
    first = np.flatnonzero(np.append(True, ~meets))
    last = np.append(first[1:], len(every)) - 1
    return replace(
        every.take(first),
        end_s=every.end_s[last],
        open_end=every.open_end[last],
        min_range_km=np.minimum.reduceat(every.min_range_km, first),
        max_range_km=np.maximum.reduceat(every.max_range_km, first),
        min_rate_km_s=np.minimum.reduceat(every.min_rate_km_s, first),
        max_rate_km_s=np.maximum.reduceat(every.max_rate_km_s, first),
    )


def _runs(here: Track, a: Ints, b: Ints, sees: Bools, between: Sees) -> Segments:
    """Runs of True along each row of ``sees``, with refined edges and extremes."""
    seen = np.nonzero(sees.any(axis=1))[0]
    if not len(seen):
        return Segments.none()
    sees, samples = sees[seen], len(here.seconds)
    framed = np.zeros((len(seen), samples + 2), np.int8)
    framed[:, 1:-1] = sees
    steps = np.diff(framed, axis=1)
    row, first = np.nonzero(steps == 1)
    _, beyond = np.nonzero(steps == -1)  # row-major order: the n-th end belongs to the n-th beginning
    pair = seen[row]

    line = here.position[:, b[seen]] - here.position[:, a[seen]]
    motion = here.velocity[:, b[seen]] - here.velocity[:, a[seen]]
    distance = np.sqrt(_dot(line, line))
    rate = _dot(line, motion) / np.maximum(distance, 1e-9)

    # reduceat over [first, beyond) of every run: the odd places are the gaps, thrown away.
    bounds = np.stack([row * samples + first, row * samples + beyond], axis=1).ravel()
    low = [np.minimum.reduceat(np.append(x.ravel(), 0.0), bounds)[::2] for x in (distance, rate)]
    high = [np.maximum.reduceat(np.append(x.ravel(), 0.0), bounds)[::2] for x in (distance, rate)]

    start, end = here.seconds[first].copy(), here.seconds[beyond - 1].copy()
    for moments, at_edge, cell, opens in (
        (start, first > 0, first - 1, True),
        (end, beyond < samples, beyond - 1, False),
    ):
        rows = np.nonzero(at_edge)[0]
        if not len(rows):
            continue
        cells = cell[rows]
        step = here.seconds[cells + 1] - here.seconds[cells]
        share = _edge(pair[rows], cells, float(step.max()), between, opens=opens)
        moments[rows] = here.seconds[cells] + share * step
        pa, va = here.at(a[pair[rows]], cells, share)
        pb, vb = here.at(b[pair[rows]], cells, share)
        edge_range = np.sqrt(_dot(pb - pa, pb - pa))
        edge_rate = _dot(pb - pa, vb - va) / np.maximum(edge_range, 1e-9)
        for index, value in enumerate((edge_range, edge_rate)):
            low[index][rows] = np.minimum(low[index][rows], value)
            high[index][rows] = np.maximum(high[index][rows], value)
    extremes = (low[0], high[0], low[1], high[1])
    return Segments(a[pair], b[pair], start, end, *extremes, first == 0, beyond == samples)


def _edge(pair: Ints, cell: Ints, step_s: float, between: Sees, *, opens: bool) -> Floats:
    """Shares of a step at which contacts open (or close), by bisection, on the side that is in contact."""
    low, high = np.zeros(len(pair)), np.ones(len(pair))
    for _ in range(max(1, math.ceil(math.log2(step_s / EDGE_S)))):
        middle = (low + high) / 2
        before = between(pair, cell, middle) != opens  # the edge is still to come
        low, high = np.where(before, middle, low), np.where(before, high, middle)
    return high if opens else low


def _dot(u: Floats, v: Floats) -> Floats:
    """Scalar product over the first axis."""
    return np.asarray(u[0] * v[0] + u[1] * v[1] + u[2] * v[2])
