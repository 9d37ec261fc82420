"""Places on and above the WGS 84 ellipsoid, Earth-fixed.  Vectorised: positions and directions end in an axis of three.

A direction straight up (the geodetic zenith, a unit vector) stands for latitude and longitude: it has no seam at 180
degrees and no special case at the poles.
"""

from __future__ import annotations

import numpy as np

from hil.orbit.times import Floats

EARTH_RADIUS_KM = 6378.137
"""WGS 84 equatorial radius: altitudes and grazing heights count from a sphere of this radius."""

_FLATTENING = 1 / 298.257_223_563  # WGS 84
_ECCENTRICITY_SQUARED = _FLATTENING * (2 - _FLATTENING)
_SCALE = np.array([1.0, 1.0, 1 - _ECCENTRICITY_SQUARED])


def zenith_of(latitude_deg: Floats | float, longitude_deg: Floats | float) -> Floats:
    """Return the geodetic zenith of places."""
    latitude, longitude = np.radians(latitude_deg), np.radians(longitude_deg)
    across = np.cos(latitude)
    return np.stack([across * np.cos(longitude), across * np.sin(longitude), np.sin(latitude)], axis=-1)


def earth_fixed_km(zenith: Floats, height_km: Floats | float) -> Floats:
    """Return positions from their zenith and their height above the ellipsoid."""
    vertical_km = EARTH_RADIUS_KM / np.sqrt(1 - _ECCENTRICITY_SQUARED * zenith[..., 2:] ** 2)
    return np.asarray(zenith * (vertical_km * _SCALE + np.asarray(height_km)[..., None]))


def geodetic_deg(fixed_km: Floats) -> tuple[Floats, Floats]:
    """Return geodetic latitude and longitude (-180 to 180), degrees.

    Latitude by Bowring's formula (Survey Review 23, 1976), good to micrometres at these heights.
    """
    x, y, z = fixed_km[..., 0], fixed_km[..., 1], fixed_km[..., 2]
    across = np.hypot(x, y)
    polar_km = EARTH_RADIUS_KM * (1 - _FLATTENING)
    reduced = np.arctan2(z * EARTH_RADIUS_KM, across * polar_km)
    second = _ECCENTRICITY_SQUARED / (1 - _ECCENTRICITY_SQUARED)
    latitude = np.arctan2(
        z + second * polar_km * np.sin(reduced) ** 3,
        across - _ECCENTRICITY_SQUARED * EARTH_RADIUS_KM * np.cos(reduced) ** 3,
    )
    return np.degrees(latitude), np.degrees(np.arctan2(y, x))


def height_km(fixed_km: Floats) -> Floats:
    """Return heights above the ellipsoid: along the zenith, from its surface."""
    zenith = zenith_of(*geodetic_deg(fixed_km))
    return np.asarray(np.sum(zenith * (fixed_km - earth_fixed_km(zenith, 0.0)), axis=-1))
