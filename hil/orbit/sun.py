"""Where the Sun is, and how much of it a spacecraft sees.  Vectorised, km and seconds."""

from __future__ import annotations

from datetime import datetime

import numpy as np

from hil.orbit.ellipsoid import EARTH_RADIUS_KM
from hil.orbit.times import Floats, centuries

ASTRONOMICAL_UNIT_KM = 149_597_870.7
SUN_RADIUS_KM = 695_700.0


def sun_km(start: datetime, seconds: Floats) -> Floats:
    """Return the Sun's position, shape (times, 3), km, mean equator and equinox of date.

    The Astronomical Almanac's low-precision formula (page C5): 0.01 degrees from 1950 to 2050.  TEME differs from
    this frame by nutation, at most 0.005 degrees.
    """
    days = centuries(start, seconds) * 36_525.0
    mean_longitude = np.radians(280.460 + 0.985_647_4 * days)
    anomaly = np.radians(357.528 + 0.985_600_3 * days)
    longitude = mean_longitude + np.radians(1.915 * np.sin(anomaly) + 0.020 * np.sin(2 * anomaly))
    obliquity = np.radians(23.439 - 4.0e-7 * days)
    distance_km = ASTRONOMICAL_UNIT_KM * (1.000_14 - 0.016_71 * np.cos(anomaly) - 0.000_14 * np.cos(2 * anomaly))
    direction = np.stack(
        [np.cos(longitude), np.cos(obliquity) * np.sin(longitude), np.sin(obliquity) * np.sin(longitude)], axis=-1
    )
    return np.asarray(distance_km[..., None] * direction)


def sunlit_fraction(position_km: Floats, sun: Floats) -> Floats:
    """Share of the Sun's disc seen from each position: 1 sunlight, 0 umbra, between them penumbra.

    Overlap of two discs (Montenbruck and Gill, Satellite Orbits, section 3.4.2: conical shadow of a sphere of
    the equator's radius, no refraction).  ``sun`` must broadcast with ``position_km``.
    """
    to_sun = sun - position_km
    distance = np.linalg.norm(to_sun, axis=-1)
    radius = np.linalg.norm(position_km, axis=-1)
    sun_disc = np.arcsin(np.minimum(SUN_RADIUS_KM / distance, 1))
    earth_disc = np.arcsin(np.minimum(EARTH_RADIUS_KM / radius, 1))
    cosine = -np.sum(position_km * to_sun, axis=-1) / (radius * distance)
    apart = np.arccos(np.clip(cosine, -1, 1))
    # x: from the Sun's centre to the chord that the two discs' edges share; y: half that chord.
    safe = np.maximum(apart, 1e-12)
    x = (safe**2 + sun_disc**2 - earth_disc**2) / (2 * safe)
    y = np.sqrt(np.maximum(sun_disc**2 - x**2, 0))
    hidden = (
        sun_disc**2 * np.arccos(np.clip(x / sun_disc, -1, 1))
        + earth_disc**2 * np.arccos(np.clip((safe - x) / earth_disc, -1, 1))
        - safe * y
    )
    partial = 1 - hidden / (np.pi * sun_disc**2)
    umbra = apart <= earth_disc - sun_disc
    annular = 1 - (earth_disc / sun_disc) ** 2
    covered = np.where(earth_disc >= sun_disc, 0.0, annular)
    inside = np.where(umbra | (apart <= np.abs(earth_disc - sun_disc)), covered, partial)
    return np.asarray(np.where(apart >= sun_disc + earth_disc, 1.0, np.clip(inside, 0, 1)))
