"""What k passes of n runs demonstrate: exact (Clopper-Pearson) bounds, without scipy.

Wilson's interval is optimistic at the ends (45/45 gives .965 instead of .950 at 90 %), so it is not offered.
"""

from __future__ import annotations

import math
from bisect import bisect_left


def _binomial_upper_tail(k: int, n: int, p: float) -> float:
    """Return P(X >= k) for X ~ Binomial(n, p), summed in logarithms: large n does not underflow."""
    if k <= 0 or p >= 1:
        return 1.0
    if p <= 0:
        return 0.0
    log_p, log_q = math.log(p), math.log1p(-p)
    base = math.lgamma(n + 1)
    terms = (
        math.exp(base - math.lgamma(i + 1) - math.lgamma(n - i + 1) + i * log_p + (n - i) * log_q)
        for i in range(k, n + 1)
    )
    return min(1.0, math.fsum(terms))


def reliability_lower_bound(passes: int, runs: int, confidence: float = 0.90) -> float:
    """Return the one-sided Clopper-Pearson lower bound of the success probability.

    The p at which ``passes`` or more out of ``runs`` would have the probability ``1 - confidence``; equal to
    ``scipy.stats.beta.ppf(1 - C, k, n - k + 1)``.  0.0 when nothing ran or nothing passed.
    """
    _check(confidence)
    if not 0 <= passes <= runs:
        raise ValueError(f"{passes} passes out of {runs} runs")
    if passes == 0:
        return 0.0
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        if _binomial_upper_tail(passes, runs, middle) < 1 - confidence:
            low = middle
        else:
            high = middle
    return low


def runs_for(reliability: float, confidence: float = 0.90, failures: int = 0) -> int:
    """Return the smallest number of runs with ``failures`` failures among them that demonstrates ``reliability``.

    For no failures this is the success run ``ceil(ln(1 - C) / ln R)``: 45 for R = .95 at 90 %.
    """
    _check(confidence)
    if not 0 < reliability < 1:
        raise ValueError(f"reliability {reliability} is not between 0 and 1")
    least = max(failures + 1, math.ceil(math.log(1 - confidence) / math.log(reliability) - 1e-9))
    if failures == 0:
        return least

    def shown(runs: int) -> bool:
        return _binomial_upper_tail(runs - failures, runs, reliability) <= 1 - confidence

    enough = least
    while not shown(enough):
        enough *= 2
    return bisect_left(range(enough), True, lo=least, key=shown)


def runs_still_needed(passes: int, runs: int, reliability: float, confidence: float = 0.90) -> int:
    """Return how many further passes demonstrate ``reliability``, with the failures seen so far."""
    return max(0, runs_for(reliability, confidence, runs - passes) - runs)


def _check(confidence: float) -> None:
    if not 0 < confidence < 1:
        raise ValueError(f"confidence {confidence} is not between 0 and 1")
