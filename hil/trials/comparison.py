"""Figures about counted trials: bounds, and the comparison of two builds."""

from __future__ import annotations

from dataclasses import dataclass

from hil.evidence.stats import reliability_lower_bound


@dataclass(frozen=True)
class Comparison:
    """Two builds beside each other."""

    share_a: float
    share_b: float
    p_value: float
    """Two-sided, Fisher's exact test: how likely so great a difference is when there is none."""


def compare(passes_a: int, trials_a: int, passes_b: int, trials_b: int) -> Comparison:
    """Compare the pass rates of two builds (Fisher's exact test, two-sided). ValueError without trials."""
    from scipy.stats import fisher_exact

    if not (trials_a and trials_b):
        raise ValueError("a build without counted trials cannot be compared")
    table = [[passes_a, trials_a - passes_a], [passes_b, trials_b - passes_b]]
    return Comparison(passes_a / trials_a, passes_b / trials_b, float(fisher_exact(table)[1]))


def interval(passes: int, trials: int, confidence: float) -> tuple[float, float]:
    """Return the two-sided Clopper-Pearson interval of a pass rate; (0, 1) without trials."""
    if not trials:
        return 0.0, 1.0
    one_sided = 1 - (1 - confidence) / 2
    low = reliability_lower_bound(passes, trials, one_sided)
    return low, 1 - reliability_lower_bound(trials - passes, trials, one_sided)


def median_interval(values: list[float], confidence: float) -> tuple[float, float, float] | None:
    """Return (median, low, high) by order statistics (binomial), or None with too few values for that confidence."""
    from scipy.stats import binom

    values = sorted(values)
    count = len(values)
    if not count:
        return None
    middle = (values[(count - 1) // 2] + values[count // 2]) / 2
    for rank in range(count // 2, -1, -1):  # the narrowest pair of order statistics that covers enough
        covered = binom.cdf(count - rank, count, 0.5) - binom.cdf(rank - 1, count, 0.5)
        if covered >= confidence and rank >= 1:
            return middle, values[rank - 1], values[count - rank]
    return None
