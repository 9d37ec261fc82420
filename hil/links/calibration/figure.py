"""A calibration's result: one figure of one direction, commanded and measured side by side."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import replace

from hil.evidence.measurement import INFORMATION, LinkFigure
from hil.evidence.model import within
from hil.links.calibration.probe import Probe
from hil.links.link_box import Direction


def figure(
    probe: Probe,
    quantity: str,
    commanded: float,
    measured: float | None,
    unit: str,
    tolerance: float,
    note: str = "",
    *,
    quantiles: Sequence[float] = (),
) -> LinkFigure:
    """Return a figure that is ok within ``tolerance`` to either side of ``commanded``, as it is recorded."""
    recorded = None if measured is None else round(measured, 1)
    return LinkFigure(
        *(probe.link, probe.direction, quantity, commanded),
        measured=recorded,
        unit=unit,
        tolerance=tolerance,
        ok=within(tolerance, of=commanded).holds(recorded),
        note=note,
        quantiles=tuple(round(value, 1) for value in quantiles),
    )


def information(probe: Probe, quantity: str, commanded: float, measured: float | None) -> LinkFigure:
    """Return a figure in us that nothing is judged by, except that there is one."""
    unjudged = figure(probe, quantity, commanded, measured, "us", 0, INFORMATION)
    return replace(unjudged, ok=measured is not None)


def bounded(
    probe: Probe, quantity: str, commanded: float, measured: float, unit: str, bounds: tuple[float, float], note: str
) -> LinkFigure:
    """Return a figure that is ok between ``bounds``, which need not lie evenly around ``commanded``."""
    low, high = (round(bound, 3) for bound in bounds)
    recorded = round(measured, 3)
    return LinkFigure(
        *(probe.link, probe.direction, quantity, commanded),
        measured=recorded,
        unit=unit,
        tolerance=round(max(commanded - low, high - commanded), 3),
        ok=low <= recorded <= high,
        note=note,
        low=low,
        high=high,
    )


def unmeasured(link: str, direction: Direction, why: str) -> LinkFigure:
    """Return the figure of a direction that is commanded up and of which nothing could be measured."""
    return LinkFigure(link, direction, "state", 1, 0, "up", 0, False, why)


def down(link: str, direction: Direction, why: str) -> LinkFigure:
    """Return the figure of a direction that its contact plan has down, and that is silent."""
    return LinkFigure(link, direction, "state", 0, 0, "up", 0, True, why)


def percentile(values: Sequence[float], share: float) -> float:
    """Return the nearest-rank percentile of at least one value."""
    rank = math.ceil(round(share * len(values), 9))  # 0.07 * 100 is a little more than 7
    return sorted(values)[max(0, rank - 1)]


def percentiles(values: Sequence[float]) -> tuple[float, ...]:
    """Return percentiles 0, 1, ... 100 of at least one value, by linear interpolation."""
    if len(values) == 1:
        return (values[0],) * 101
    return min(values), *statistics.quantiles(values, n=100, method="inclusive"), max(values)
