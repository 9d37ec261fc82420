"""Is a count of lost packets what a loss model says? Judged by the model's own distribution, at 99 %."""

from __future__ import annotations

import math
from collections.abc import Sequence

from hil.links.calibration.tolerances import LOSS_CONFIDENCE
from hil.links.state import PPM, GilbertElliott, LinkState

_MOST = 200_000  # of packets, for which the distribution is worked out


def acceptance_counts(state: LinkState, sent: int) -> tuple[int, int]:
    """Return the smallest and largest number of losses, of ``sent`` packets, that agree with ``state`` at 99 %.

    The central part of the distribution of the count, without approximation: binomial for independent loss, and
    for Gilbert-Elliott that of the two-state chain (see :func:`chain_distribution`), whose spread is
    ``sum var + 2 * sum_k (sent - k) * (loss_bad - loss_good)^2 * P(bad) * P(good) * (1 - p - r)^k``: for long
    bursts many times that of independent loss of the same share.  ValueError above 200,000 packets.
    """
    import numpy as np

    share = state.mean_loss_ppm
    if share in (0, PPM) and not state.gemodel:
        return (share // PPM * sent,) * 2
    independent = GilbertElliott(1, 1, loss_bad_ppm=share, loss_good_ppm=share)  # the same in both states
    tail = (1 - LOSS_CONFIDENCE) / 2
    totals = np.cumsum(chain_distribution(state.gemodel or independent, sent))
    low, high = np.searchsorted(totals, [tail, 1 - tail]).tolist()
    return low, min(high, sent)


def chain_distribution(ge: GilbertElliott, sent: int) -> Sequence[float]:
    """Return P(k of ``sent`` packets are lost), k = 0 .. ``sent``, for a chain in its long-run state.

    The probability generating function of the count is ``pi (T D(z))^sent 1``, with T the chain's transitions and
    D(z) the diagonal of ``1 - loss + loss * z`` (E. N. Gilbert, "Capacity of a burst-noise channel", BSTJ 39, 1960,
    for the chain).  It is taken at the roots of unity by repeated squaring and inverted by a Fourier transform.
    """
    import numpy as np

    if sent > _MOST:
        raise ValueError(f"{sent} packets; at most {_MOST}")
    p, r = ge.p_ppm / PPM, ge.r_ppm / PPM
    z = np.exp(-2j * np.pi * np.arange(sent + 1) / (sent + 1))
    good = 1 + ge.loss_good_ppm / PPM * (z - 1)
    bad = 1 + ge.loss_bad_ppm / PPM * (z - 1)
    step = np.array([[(1 - p) * good, p * bad], [r * good, (1 - r) * bad]]).transpose(2, 0, 1)
    power = np.broadcast_to(np.eye(2, dtype=complex), step.shape)
    left = sent
    while left:
        if left & 1:
            power = power @ step
        step = step @ step
        left >>= 1
    transform = (np.array([r, p]) / (p + r)) @ power @ np.ones(2)
    chances: Sequence[float] = np.clip(np.fft.ifft(transform).real, 0, None).tolist()
    return chances


def mean_burst(ge: GilbertElliott) -> float:
    """Return the mean number of packets lost in a row: ``P(lost) / P(lost and the next is not)``.

    With everything lost in the bad state and nothing in the good one this is ``1/r``.
    """
    p, r = ge.p_ppm / PPM, ge.r_ppm / PPM
    bad, good = p / (p + r), r / (p + r)
    lost_bad, lost_good = ge.loss_bad_ppm / PPM, ge.loss_good_ppm / PPM
    lost = bad * lost_bad + good * lost_good
    both = lost * lost + (lost_bad - lost_good) ** 2 * bad * good * (1 - p - r)
    return lost / (lost - both) if lost > both else math.inf


def acceptance_burst(ge: GilbertElliott, runs: int) -> tuple[float, float]:
    """Return the bounds, at 99 %, of the mean length of ``runs`` (one or more) bursts of lost packets.

    Lengths are geometric (exactly so when nothing is lost in the good state and everything in the bad one), so
    their sum is negative binomial: it is at most n as often as n tries have ``runs`` successes.
    """
    ends = min(1.0, 1 / mean_burst(ge))
    if ends >= 1:
        return 1.0, 1.0
    tail = (1 - LOSS_CONFIDENCE) / 2
    log_chance = runs * math.log(ends)  # that the sum is exactly ``runs``
    total, length = math.exp(log_chance), runs
    low: int | None = None
    while total < 1 - tail:
        if low is None and total >= tail:
            low = length
        log_chance += math.log1p(-ends) + math.log(length / (length + 1 - runs))
        length += 1
        total += math.exp(log_chance)
    return (low if low is not None else length) / runs, length / runs


def bursts(lost: Sequence[int]) -> list[int]:
    """Return the lengths of the runs of consecutive numbers in ``lost``, which is in order."""
    lengths: list[int] = []
    for index, sequence in enumerate(lost):
        if index and lost[index - 1] == sequence - 1:
            lengths[-1] += 1
        else:
            lengths.append(1)
    return lengths
