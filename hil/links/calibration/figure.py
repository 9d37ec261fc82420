"""A calibration's result: one figure of one direction, commanded and measured side by side."""

from __future__ import annotations

from collections.abc import Sequence

from hil.evidence.events import INFORMATION, LinkFigure
from hil.links.calibration.probe import Probe
from hil.links.link_box import Direction

DELAY_P50_TOLERANCE_US = 150
DELAY_P95_TOLERANCE_US = 500
RATE_TOLERANCE_PERCENT = 3
OUTAGE_TOLERANCE_US = 20_000
EFFECT_TOLERANCE_US = 50_000
CONSTANT_LIMIT_US = 1_000
STRAY_LOSS_PPM = 1_000  # one in a thousand without a command is noise of a busy host; more is a broken bench


def figure(
    probe: Probe,
    quantity: str,
    commanded: float,
    measured: float | None,
    unit: str,
    tolerance: float,
    note: str = "",
    *,
    quantiles: tuple[float, ...] = (),
) -> LinkFigure:
    """A figure that is ok within ``tolerance`` to either side of ``commanded``."""
    ok = measured is not None and abs(measured - commanded) <= tolerance
    rounded = None if measured is None else round(measured, 1)
    return LinkFigure(
        probe.link,
        probe.direction,
        quantity,
        commanded,
        rounded,
        unit,
        tolerance,
        ok,
        note,
        tuple(round(value, 1) for value in quantiles),
    )


def information(probe: Probe, quantity: str, commanded: float, measured: float | None) -> LinkFigure:
    """A figure in us that nothing is judged by, except that there is one."""
    rounded = None if measured is None else round(measured, 1)
    return LinkFigure(
        probe.link, probe.direction, quantity, commanded, rounded, "us", 0, measured is not None, INFORMATION
    )


def bounded(
    probe: Probe,
    quantity: str,
    commanded: float,
    measured: float,
    unit: str,
    bounds: tuple[float, float],
    note: str,
) -> LinkFigure:
    """A figure that is ok between ``bounds``, which need not lie evenly around ``commanded``."""
    low, high = bounds
    return LinkFigure(
        probe.link,
        probe.direction,
        quantity,
        commanded,
        round(measured, 3),
        unit,
        round(max(commanded - low, high - commanded), 3),
        low <= measured <= high,
        note,
        low=round(low, 3),
        high=round(high, 3),
    )


def unmeasured(link: str, direction: Direction, why: str) -> LinkFigure:
    """A direction that is commanded up and of which nothing could be measured."""
    return LinkFigure(link, direction, "state", 1, 0, "up", 0, False, why)


def percentile(values: Sequence[float], share: float) -> float:
    """Nearest-rank percentile of at least one value."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def percentiles(values: Sequence[float]) -> tuple[float, ...]:
    """Percentiles 0, 1, ... 100 of at least one value, by linear interpolation."""
    ordered = sorted(values)
    found = []
    for share in range(101):
        at = share / 100 * (len(ordered) - 1)
        below = int(at)
        above = min(below + 1, len(ordered) - 1)
        found.append(ordered[below] + (at - below) * (ordered[above] - ordered[below]))
    return tuple(found)
