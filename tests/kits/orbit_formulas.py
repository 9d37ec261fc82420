"""Formulas of orbit geometry that only the tests need: what plans are checked against."""

from __future__ import annotations

import math

import numpy as np

from hil.orbit.ellipsoid import EARTH_RADIUS_KM
from hil.orbit.times import Bools, Floats


def range_rate_km_s(a_km: Floats, a_km_s: Floats, b_km: Floats, b_km_s: Floats) -> Floats:
    """Rate at which the distance grows: the relative velocity along the line between the two."""
    line = b_km - a_km
    return np.asarray(np.sum(line * (b_km_s - a_km_s), axis=-1) / np.linalg.norm(line, axis=-1))


def grazing_height_km(a_km: Floats, b_km: Floats) -> Floats:
    """Return least height of the straight line between two positions over a sphere of 6,378.137 km.

    Where the line's nearest point to Earth's centre lies beyond an end, the lower end's own height.  The sphere
    has the equator's radius, so over the poles the true height is up to 21 km more (never less).
    """
    line = b_km - a_km
    length2 = np.sum(line * line, axis=-1)
    along = np.clip(-np.sum(a_km * line, axis=-1) / np.where(length2 > 0, length2, 1.0), 0.0, 1.0)
    nearest = a_km + along[..., None] * line
    return np.asarray(np.linalg.norm(nearest, axis=-1) - EARTH_RADIUS_KM)


def line_of_sight(a_km: Floats, b_km: Floats, floor_km: float = 80.0) -> Bools:
    """Whether the line between two positions stays at or above ``floor_km``."""
    return np.asarray(grazing_height_km(a_km, b_km) >= floor_km)


def longest_crosslink_km(altitude_km: float, floor_km: float = 80.0) -> float:
    """Longest line between two spacecraft of one altitude that stays above the floor: a chord."""
    radius = EARTH_RADIUS_KM + altitude_km
    return 2 * math.sqrt(radius**2 - (EARTH_RADIUS_KM + floor_km) ** 2)


def beta_deg(position_km: Floats, velocity_km_s: Floats, sun: Floats) -> Floats:
    """Angle between the orbital plane and the direction to the Sun, degrees."""
    normal = np.cross(position_km, velocity_km_s)
    sine = np.sum(normal * sun, axis=-1) / (np.linalg.norm(normal, axis=-1) * np.linalg.norm(sun, axis=-1))
    return np.asarray(np.degrees(np.arcsin(np.clip(sine, -1, 1))))
