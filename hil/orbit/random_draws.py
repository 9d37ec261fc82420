"""What chance decides about a link: acquisition times and fades, seeded so that links do not disturb each other."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from typing import Literal

import numpy as np

from hil.errors import ConfigurationError
from hil.orbit.model import Duration, Fades

_P99_SIGMAS = 2.326_347_874_040_841
"""Standard normal quantile of 0.99."""

_PURPOSES = ("acquisition", "fades")


def generator(
    seed: int, link: str, contact: int, purpose: Literal["acquisition", "fades"]
) -> np.random.Generator:
    """Return a generator of its own for every link, contact (1, 2, ... in the plan) and purpose.

    Another link in the plan, or fades switched on, changes nobody else's draws.  Raises ConfigurationError: a
    negative seed.
    """
    if seed < 0:
        raise ConfigurationError(f"a seed of {seed}", remedy="give a whole number from 0 on")
    digest = hashlib.sha256(link.encode()).digest()
    words = [int.from_bytes(digest[k : k + 4], "big") for k in range(0, 16, 4)]
    return np.random.default_rng([seed, *words, contact, _PURPOSES.index(purpose)])


def draw_s(found: Duration, chance: np.random.Generator) -> float:
    """Return one lognormal time in seconds."""
    sigma = math.log(found.p99_s / found.median_s) / _P99_SIGMAS
    return found.median_s * math.exp(sigma * float(chance.standard_normal()))


def fades(found: Fades, chance: np.random.Generator) -> Iterator[tuple[float, float]]:
    """Endless pairs: seconds of tracking until the next fade, and how long that lasts in seconds.

    Ends at once when fades are off.
    """
    if found.per_hour == 0:
        return
    low, high = math.log(found.shortest_ms / 1000), math.log(found.longest_ms / 1000)
    while True:
        gap_s = float(chance.exponential(3600 / found.per_hour))
        yield gap_s, math.exp(float(chance.uniform(low, high)))
