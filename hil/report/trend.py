"""The shape of a measurement over nights: a step, a drift, a spike, or none of them.

Every change-point tool calls a slow drift a step and a spike two steps.  So spikes are taken out first, steps are found
with a minimum segment (ruptures, PELT), a drift has a test of its own (Mann-Kendall), and of the two the one that
explains the values better is named (BIC).  `python -m tests.benchmarks.nights` measures how often that is right.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

LEAST_NIGHTS = 12
"""With fewer values nothing is said."""
SEGMENT = 3
"""Nights that a level must last to be one."""
SPIKE_SIGMA = 6.0
"""A night further than this from the median of its neighbours, alone, is a spike."""
STEP_SIGMA = 5.0
"""A step explains at least the square of this of the values' variance over the noise."""
DRIFT_P = 5e-4
NOTABLE = 0.02
"""Share of the level that a change must have, however small the noise."""
NEIGHBOURS = 3
"""Nights to either side of the running median."""


class Shape(StrEnum):
    """What values over nights look like."""

    STEADY = "steady"
    STEP = "step"
    DRIFT = "drift"
    SPIKE = "spike"


@dataclass(frozen=True)
class Trend:
    """The shape of values over nights."""

    shape: Shape
    at: int = 0
    """Index of the night of the latest step or spike."""
    change: float = 0.0
    """Share by which the level moved; of a drift from the first night to the last."""


STEADY = Trend(Shape.STEADY)


def trend_of(values: Sequence[float]) -> Trend:
    """Return the shape of values, the latest last; a number of them that is too small is steady."""
    import numpy as np

    x = np.asarray(values, dtype=float)
    if len(x) < LEAST_NIGHTS or not np.isfinite(x).all() or np.ptp(x) == 0:
        return STEADY
    level = float(np.median(x))
    unit = abs(level) or float(np.ptp(x))
    middles = np.array([np.median(x[max(0, n - NEIGHBOURS) : n + NEIGHBOURS + 1]) for n in range(len(x))])
    noise = max(1.4826 * float(np.median(np.abs(np.diff(x)))) / 2**0.5, unit * NOTABLE / SPIKE_SIGMA)
    outlying = np.abs(x - middles) > SPIKE_SIGMA * noise
    alone = outlying & ~np.roll(np.append(outlying, False), 1)[:-1] & ~np.append(outlying, False)[1:]
    kept = np.flatnonzero(~alone)
    shape = _step_or_drift(x[kept], noise, unit)
    if shape.shape is not Shape.STEADY:
        return Trend(shape.shape, int(kept[shape.at]), shape.change)
    if alone.any():
        night = int(np.flatnonzero(alone)[-1])
        return Trend(Shape.SPIKE, night, (x[night] - middles[night]) / unit)
    return STEADY


def _step_or_drift(x: object, noise: float, unit: float) -> Trend:
    import numpy as np
    from ruptures import Pelt
    from scipy.stats import kendalltau

    y = np.asarray(x)
    n, nights = len(y), np.arange(len(y))
    ends = Pelt(model="l2", min_size=SEGMENT, jump=1).fit(y / noise).predict(pen=STEP_SIGMA**2)
    starts = [0, *ends[:-1]]
    levels = [float(np.mean(y[a:b])) for a, b in zip(starts, ends, strict=True)]
    slope, offset = np.polyfit(nights, y, 1)
    drifts = float(kendalltau(nights, y).pvalue) < DRIFT_P
    steps = np.repeat(levels, np.diff([0, *ends]))
    bic_steps = n * np.log(np.sum((y - steps) ** 2) + 1e-30) + 2 * len(levels) * np.log(n)
    bic_line = n * np.log(np.sum((y - offset - slope * nights) ** 2) + 1e-30) + 2 * np.log(n)
    change = float(slope) * (n - 1) / unit
    if drifts and bic_line <= bic_steps and abs(change) >= NOTABLE:
        return Trend(Shape.DRIFT, 0, change)
    if len(levels) > 1 and abs(levels[-1] - levels[-2]) / unit >= NOTABLE:
        return Trend(Shape.STEP, starts[-1], (levels[-1] - levels[-2]) / abs(levels[-2] or unit))
    return STEADY
