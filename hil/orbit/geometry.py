"""Where spacecraft are and what they see: ranges, lines of sight, stations.  Vectorised, km and seconds.

Positions are TEME (true equator, mean equinox of date), which SGP4 gives.  Arrays of positions end in an axis of
three; other axes broadcast.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np
from sgp4.api import SGP4_ERRORS, SatrecArray

from hil.errors import ConfigurationError
from hil.orbit.elements import EARTH_RADIUS_KM, Constellation, ElementSet
from hil.orbit.model import Station
from hil.orbit.times import Floats, gmst_rad, iso, julian

LIGHT_KM_S = 299_792.458
"""Speed of light in vacuum (exact, by the definition of the metre)."""

_FLATTENING = 1 / 298.257_223_563  # WGS 84
_ECCENTRICITY_SQUARED = _FLATTENING * (2 - _FLATTENING)


@dataclass(frozen=True, eq=False)
class States:
    """Positions and velocities, TEME: both of shape (spacecraft, times, 3)."""

    position_km: Floats
    velocity_km_s: Floats


def states(found: Constellation, start: datetime, seconds: Floats) -> States:
    """SGP4 states of every spacecraft at ``start`` + ``seconds``.

    Raises ConfigurationError naming the spacecraft and the moment where SGP4 gives up (decay, bad elements).
    """
    whole, fraction = julian(start, seconds)
    errors, position, velocity = propagator(found.element_sets).sgp4(whole, fraction)
    if errors.any():
        craft, moment = np.argwhere(errors)[0]
        reason = SGP4_ERRORS.get(int(errors[craft, moment]), "unknown error")
        raise ConfigurationError(
            f"{found.spacecraft[craft]}: SGP4 fails {seconds[moment]:.0f} s after {iso(start)}: {reason}",
            remedy="use elements whose epoch is nearer to the span",
        )
    return States(position, velocity)


def propagator(sets: Sequence[ElementSet]) -> SatrecArray:
    """Return all element sets as one array, propagated by one call."""
    return SatrecArray(list(sets))


def range_km(a_km: Floats, b_km: Floats) -> Floats:
    """Distance between positions."""
    return np.asarray(np.linalg.norm(b_km - a_km, axis=-1))


def one_way_delay_us(distance_km: Floats | float) -> Floats:
    """Light time in vacuum, microseconds."""
    return np.asarray(distance_km) / LIGHT_KM_S * 1e6


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


def to_earth_fixed(position_km: Floats, gmst: Floats) -> Floats:
    """TEME -> Earth-fixed, by the turn of the Earth alone (polar motion, at most 15 m, is left out).

    ``gmst`` in radians, one per time: it must broadcast with ``position_km``'s axes but the last.
    """
    return _turn(position_km, gmst)


def station_teme(station: Station, gmst: Floats) -> tuple[Floats, Floats]:
    """Return a station's TEME position (km) and geodetic zenith (unit vector), per ``gmst`` (radians)."""
    place, zenith = station_earth_fixed(station)
    return _turn(place, -gmst), _turn(zenith, -gmst)


def station_earth_fixed(station: Station) -> tuple[Floats, Floats]:
    """Return a station's Earth-fixed position (km) and geodetic zenith (unit vector) on the WGS 84 ellipsoid."""
    latitude, longitude = math.radians(station.latitude_deg), math.radians(station.longitude_deg)
    zenith = np.array(
        [
            math.cos(latitude) * math.cos(longitude),
            math.cos(latitude) * math.sin(longitude),
            math.sin(latitude),
        ]
    )
    vertical_km = EARTH_RADIUS_KM / math.sqrt(1 - _ECCENTRICITY_SQUARED * math.sin(latitude) ** 2)
    scale = np.array([1.0, 1.0, 1 - _ECCENTRICITY_SQUARED])
    return zenith * (vertical_km * scale + station.height_km), zenith


def sub_satellite_deg(position_km: Floats, start: datetime, seconds: Floats) -> tuple[Floats, Floats]:
    """Geodetic latitude and longitude (-180 to 180) below positions of shape (..., times, 3), degrees.

    Latitude by Bowring's formula (Survey Review 23, 1976), good to micrometres at these heights.
    """
    fixed = to_earth_fixed(position_km, gmst_rad(start, seconds))
    x, y, z = fixed[..., 0], fixed[..., 1], fixed[..., 2]
    across = np.hypot(x, y)
    polar_km = EARTH_RADIUS_KM * (1 - _FLATTENING)
    reduced = np.arctan2(z * EARTH_RADIUS_KM, across * polar_km)
    second = _ECCENTRICITY_SQUARED / (1 - _ECCENTRICITY_SQUARED)
    latitude = np.arctan2(
        z + second * polar_km * np.sin(reduced) ** 3,
        across - _ECCENTRICITY_SQUARED * EARTH_RADIUS_KM * np.cos(reduced) ** 3,
    )
    return np.degrees(latitude), np.degrees(np.arctan2(y, x))


def _turn(vector: Floats, angle_rad: Floats) -> Floats:
    """Components in axes turned by ``angle_rad`` about z."""
    cosine, sine = np.cos(angle_rad), np.sin(angle_rad)
    x, y, z = vector[..., 0], vector[..., 1], vector[..., 2]
    turned = np.broadcast_arrays(cosine * x + sine * y, cosine * y - sine * x, z)
    return np.stack(turned, axis=-1)
