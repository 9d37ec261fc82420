"""What a spacecraft sees of the Sun and of the lit Earth, over a span: what its radiator and its panel get."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime

import numpy as np

from hil.orbit.elements import Constellation
from hil.orbit.geometry import states
from hil.orbit.sun import sun_km, sunlit_fraction
from hil.orbit.times import Floats


@dataclass(frozen=True, eq=False)
class Sunlight:
    """Samples at ``seconds`` from a start; arrays of shape (spacecraft, times)."""

    seconds: Floats
    sunlit: Floats
    """Share of the Sun's disc, 0 to 1."""
    lit_earth: Floats
    """Cosine of the Sun's zenith angle below the spacecraft, 0 on the night side."""
    beta_deg: Floats
    """Angle between the Sun and the plane of the orbit at the start, per spacecraft."""
    period_s: Floats
    """Time of one turn, per spacecraft."""

    def at(self, seconds: Floats) -> tuple[Floats, Floats]:
        """Return (sunlit, lit Earth) at moments within the span: linear between samples."""
        rows = [[np.interp(seconds, self.seconds, row) for row in table] for table in (self.sunlit, self.lit_earth)]
        return np.array(rows[0]), np.array(rows[1])


def sunlight(found: Constellation, start: datetime, span_s: float, step_s: float = 10.0) -> Sunlight:
    """Return what every spacecraft sees from ``start`` on. ConfigurationError where its elements do not hold."""
    seconds = np.arange(0.0, span_s + step_s, step_s)
    sampled = states(found, start, seconds)
    sun = sun_km(start, seconds)
    place = sampled.position_km
    zenith = np.sum(place * sun, axis=-1) / np.linalg.norm(place, axis=-1) / np.linalg.norm(sun, axis=-1)
    normal = np.cross(place[:, 0], sampled.velocity_km_s[:, 0])
    sine = normal @ sun[0] / np.linalg.norm(normal, axis=-1) / np.linalg.norm(sun[0])
    turn = np.array([2 * math.pi / element.no_kozai * 60 for element in found.element_sets])
    return Sunlight(seconds, sunlit_fraction(place, sun), np.maximum(zenith, 0), np.degrees(np.arcsin(sine)), turn)


def circular(period_s: float, eclipse_s: float, span_s: float, step_s: float = 10.0) -> Sunlight:
    """Return the sunlight of one spacecraft on a circular orbit with a shadow of this length in the middle of a turn.

    It starts over the point nearest to the Sun; without a shadow it flies above the terminator.
    """
    seconds = np.arange(0.0, span_s + step_s, step_s)
    angle = 2 * math.pi * seconds / period_s
    away = np.abs((seconds % period_s) - period_s / 2)
    sunlit = (away >= eclipse_s / 2).astype(float)
    lit = np.maximum(np.cos(angle), 0) if eclipse_s else np.zeros_like(angle)
    flat = np.zeros(1) if eclipse_s else np.full(1, 90.0)
    return Sunlight(seconds, sunlit[None], lit[None], flat, np.array([period_s]))
