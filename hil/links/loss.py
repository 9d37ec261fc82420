"""Is a count of lost packets what a loss model says? Exact for independent loss, widened for bursts."""

from __future__ import annotations

import math

from hil.links.state import PPM, LinkState

_CONFIDENCE = 0.99
_Z = 2.5758  # two-sided 99 % of the normal distribution


def acceptance_counts(state: LinkState, sent: int) -> tuple[int, int]:
    """Smallest and largest number of losses, of ``sent`` packets, that agree with ``state`` at 99 %.

    Independent loss: the central part of the binomial distribution, exactly.  Gilbert-Elliott: the normal
    approximation with the variance of a mean of correlated samples, (1 + rho) / (1 - rho) with rho = 1 - p - r,
    the correlation of the chain from packet to packet.
    """
    share = state.mean_loss_ppm / PPM
    if share in (0.0, 1.0):
        return (round(share * sent), round(share * sent))
    if state.gemodel:
        rho = 1 - (state.gemodel.p_ppm + state.gemodel.r_ppm) / PPM
        inflation = max(1.0, (1 + rho) / (1 - rho))
        half = _Z * math.sqrt(sent * share * (1 - share) * inflation) + 1
        return max(0, math.floor(sent * share - half)), min(sent, math.ceil(sent * share + half))
    return _binomial_quantile(sent, share, (1 - _CONFIDENCE) / 2), _binomial_quantile(
        sent, share, (1 + _CONFIDENCE) / 2
    )


def _binomial_quantile(count: int, share: float, probability: float) -> int:
    """Smallest k with P(X <= k) >= ``probability``."""
    total = 0.0
    for k in range(count + 1):
        log_ways = math.lgamma(count + 1) - math.lgamma(k + 1) - math.lgamma(count - k + 1)
        total += math.exp(log_ways + k * math.log(share) + (count - k) * math.log1p(-share))
        if total >= probability:
            return k
    return count
