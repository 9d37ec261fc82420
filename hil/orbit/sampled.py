"""A link plan as rows that a link box plays: up, delay and loss, only where something changes."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np

from hil.errors import ConfigurationError
from hil.orbit.elements import Constellation
from hil.orbit.geometry import one_way_delay_us, range_km, track
from hil.orbit.phases import Candidate, LinkPlan, LinkSample, Phase
from hil.orbit.times import Floats

MAX_WINDOW_SAMPLES = 1_000_000


def packet_loss_ppm(bit_error_rate: float, mtu: int) -> int:
    """Share of full packets of ``mtu`` bytes with at least one wrong bit: ``1 - (1 - ber)^bits``, in millionths.

    Bits are taken as independent, which is what is left after coding; bursts are fades, in time.
    """
    return round(-math.expm1(8 * mtu * math.log1p(-bit_error_rate)) * 1_000_000)


def samples(
    constellation: Constellation,
    candidates: Sequence[Candidate],
    plan: LinkPlan,
    *,
    from_s: float,
    to_s: float,
    step_s: float = 0.1,
) -> list[LinkSample]:
    """Return rows of ``from_s`` <= time < ``to_s``, in order of time, then link.

    First one row per link at ``from_s``; then one where ``up`` changes, at the very moment, and, while a link is
    up, one whenever the delay, rounded to whole microseconds, changes: the row's delay is never more than half a
    microsecond off.  Geometry is sampled every ``step_s`` and taken as straight between (at 0.1 s this bends by
    centimetres).  ``loss_ppm`` comes from the bit error rate and the link's MTU; a ground link has none.

    An empty window gives the rows at ``from_s`` alone.

    Raises ConfigurationError: a window outside the plan or one that ends before it begins, a link that is not in
    the plan.
    """
    if not 0 <= from_s <= to_s <= plan.span_s:
        raise ConfigurationError(
            f"a window from {from_s:g} to {to_s:g} s of a link plan of {plan.span_s:g} s",
            remedy="take a window inside the plan, or plan a longer span",
        )
    if not step_s >= 0.001 or (to_s - from_s) / step_s > MAX_WINDOW_SAMPLES:
        raise ConfigurationError(
            f"{to_s - from_s:g} s in steps of {step_s:g} s", remedy="take a shorter window or a longer step"
        )
    if not candidates:
        return []
    count = max(1, math.ceil((to_s - from_s) / step_s - 1e-9))
    grid: Floats = from_s + step_s * np.arange(count + 1, dtype=np.float64)
    grid[-1] = to_s
    places = track(constellation, plan.start, grid).position.transpose(1, 2, 0)
    index = {name: k for k, name in enumerate(constellation.nodes)}
    rows: list[LinkSample] = []
    for link in candidates:
        delay = one_way_delay_us(range_km(places[index[link.a]], places[index[link.b]]))
        ber = constellation.terminals.bit_error_rate if link.kind != "ground" else 0.0
        loss = packet_loss_ppm(ber, link.mtu)
        rows += [LinkSample(at, link.name, up, us, loss) for at, up, us in _rows(link, plan, grid, delay, to_s)]
    rows.sort(key=lambda row: (row.at_s, row.link))
    return rows


def _rows(
    link: Candidate, plan: LinkPlan, grid: Floats, delay: Floats, to_s: float
) -> Iterator[tuple[float, bool, int]]:
    """(time, up, delay in us) of one link."""
    whole = np.rint(delay)
    at_s, up = float(grid[0]), plan.up(link.name, float(grid[0]))
    yield at_s, up, round(float(delay[0]))
    while at_s < to_s:
        interval = plan.interval(link.name, at_s)
        if (interval.phase is Phase.TRACK) is not up:
            up = not up
            yield at_s, up, round(float(np.interp(at_s, grid, delay)))
        until_s = min(interval.end_s, to_s)
        if up:
            yield from ((t, True, us) for t, us in _steps(grid, delay, whole, at_s, until_s))
        at_s = until_s


def _steps(grid: Floats, delay: Floats, whole: Floats, from_s: float, until_s: float) -> list[tuple[float, int]]:
    """Moments strictly inside an interval at which the rounded delay changes, with the delay from then on."""
    first = max(0, int(np.searchsorted(grid, from_s, side="right")) - 1)
    beyond = int(np.searchsorted(grid, until_s, side="left"))
    cells = np.nonzero(whole[first : beyond + 1][1:] != whole[first : beyond + 1][:-1])[0] + first
    if not len(cells):
        return []
    # A cell in which the delay passes several microseconds gets a row for each.
    jumps = (whole[cells + 1] - whole[cells]).astype(np.int64)
    many = np.abs(jumps)
    cell, sign = np.repeat(cells, many), np.repeat(np.sign(jumps), many)
    nth = np.arange(len(cell)) - np.repeat(np.cumsum(many) - many, many)
    level = whole[cell] + sign * (nth + 0.5)
    share = np.clip((level - delay[cell]) / (delay[cell + 1] - delay[cell]), 0.0, 1.0)
    moments = grid[cell] + share * (grid[cell + 1] - grid[cell])
    inside = (moments > from_s) & (moments < until_s)
    values = (level + sign * 0.5).astype(np.int64)
    return list(zip(moments[inside].tolist(), values[inside].tolist(), strict=True))
