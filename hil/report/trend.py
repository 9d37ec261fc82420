"""The shape of a measurement over nights: a step, a drift, a spike, or none of them.

Every change-point tool calls a slow drift a step and a spike two steps.  So spikes are taken out first, steps are found
with a minimum segment (ruptures, PELT), a drift has a test of its own (Mann-Kendall), and of the two the one that
explains the values better is named (BIC).  `python -m tests.benchmarks.nights` measures how often that is right.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Values = NDArray[np.float64]

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
    middles = _running_median(x)
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


def _running_median(x: Values) -> Values:
    """Return the median of each night and its neighbours; of those that there are, at either end."""
    import numpy as np

    inner = np.median(np.lib.stride_tricks.sliding_window_view(x, 2 * NEIGHBOURS + 1), axis=1)
    first = [np.median(x[: n + NEIGHBOURS + 1]) for n in range(NEIGHBOURS)]
    last = [np.median(x[n - NEIGHBOURS :]) for n in range(len(x) - NEIGHBOURS, len(x))]
    return np.concatenate([first, inner, last])


def _mann_kendall(x: Values) -> float:
    """Return the probability of a trend as strong as this, up or down, where there is none (normal approximation)."""
    import numpy as np

    n = len(x)
    score = float(np.sum(np.sign(np.subtract.outer(x, x))[np.tril_indices(n, -1)]))
    spread = math.sqrt(n * (n - 1) * (2 * n + 5) / 18)
    return math.erfc(max(0.0, abs(score) - 1) / spread / math.sqrt(2))


def _step_or_drift(y: Values, noise: float, unit: float) -> Trend:
    import numpy as np

    n, nights = len(y), np.arange(len(y))
    starts, levels = _levels(y, noise)
    drifts = _mann_kendall(y) < DRIFT_P
    if len(levels) == 1 and not drifts:
        return STEADY
    slope, offset = np.polyfit(nights, y, 1)
    steps = np.repeat(levels, np.diff([*starts, n]))
    bic_steps = n * np.log(np.sum((y - steps) ** 2) + 1e-30) + 2 * len(levels) * np.log(n)
    bic_line = n * np.log(np.sum((y - offset - slope * nights) ** 2) + 1e-30) + 2 * np.log(n)
    change = float(slope) * (n - 1) / unit
    if drifts and bic_line <= bic_steps and abs(change) >= NOTABLE:
        return Trend(Shape.DRIFT, 0, change)
    if len(levels) > 1 and abs(levels[-1] - levels[-2]) / unit >= NOTABLE:
        return Trend(Shape.STEP, starts[-1], (levels[-1] - levels[-2]) / abs(levels[-2] or unit))
    return STEADY


def _levels(y: Values, noise: float) -> tuple[list[int], list[float]]:
    """Return where each level begins, and its mean."""
    import numpy as np

    if not _stands_out(y / noise):
        return [0], [float(np.mean(y))]
    from ruptures import Pelt

    ends = Pelt(model="l2", min_size=SEGMENT, jump=1).fit(y / noise).predict(pen=STEP_SIGMA**2)
    starts = [0, *ends[:-1]]
    return starts, [float(np.mean(y[a:b])) for a, b in zip(starts, ends, strict=True)]


def _stands_out(z: Values) -> bool:
    """Return whether any stretch of nights differs from the others enough to be looked at: most do not."""
    import numpy as np

    n = len(z)
    sums = np.concatenate([[0.0], np.cumsum(z - z.mean())])
    lengths = np.subtract.outer(np.arange(n + 1), np.arange(n + 1))
    with np.errstate(divide="ignore", invalid="ignore"):
        gains = np.subtract.outer(sums, sums) ** 2 * n / (lengths * (n - lengths))
    return bool(np.nanmax(np.where((lengths >= SEGMENT) & (lengths <= n - SEGMENT), gains, 0.0)) >= STEP_SIGMA**2)
