"""Where spacecraft and stations are, at samples and between them.  Vectorised, km and seconds.

Positions are TEME (true equator, mean equinox of date), which SGP4 gives.  Arrays of positions end in an axis of
three; other axes broadcast.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np
from sgp4.api import SGP4_ERRORS, SatrecArray

from hil.errors import ConfigurationError
from hil.orbit.element_files import ElementSet
from hil.orbit.elements import Constellation
from hil.orbit.ellipsoid import EARTH_RADIUS_KM, earth_fixed_km, geodetic_deg, zenith_of
from hil.orbit.model import Station
from hil.orbit.times import Floats, Ints, gmst_rad, iso, julian
from hil.orbit.track_files import Flight

LIGHT_KM_S = 299_792.458
"""Speed of light in vacuum (exact, by the definition of the metre)."""

EARTH_TURN_RAD_S = 7.292_115_0e-5
"""Turn of the Earth (WGS 84)."""
LEAST_HEIGHT_KM = 80.0
"""Nothing orbits lower: what SGP4 puts there has decayed."""
MAX_AGE_DAYS = 366.0
"""Days from the epoch of elements with drag after which SGP4 does not know on which side of the Earth it is."""


@dataclass(frozen=True, eq=False)
class States:
    """Positions and velocities, TEME: both of shape (spacecraft, times, 3)."""

    position_km: Floats
    velocity_km_s: Floats


def states(found: Constellation, start: datetime, seconds: Floats) -> States:
    """SGP4 states of every spacecraft at ``start`` + ``seconds``.  Raises ConfigurationError like :func:`propagate`."""
    return propagate(found.spacecraft, found.element_sets, start, seconds)


def propagate(names: Sequence[str], sets: Sequence[ElementSet], start: datetime, seconds: Floats) -> States:
    """SGP4 states of element sets at ``start`` + ``seconds``.

    Raises ConfigurationError naming the spacecraft and the moment where its elements do not hold: SGP4 gives up, or
    returns a place below ``LEAST_HEIGHT_KM`` or far above the elements' own apogee (it does so without an error for
    spacecraft that have decayed), or the moment is more than ``MAX_AGE_DAYS`` from their epoch.
    """
    whole, fraction = julian(start, seconds)
    errors, position, velocity = SatrecArray(list(sets)).sgp4(whole, fraction)
    radius_km = np.sqrt(np.einsum("ijk,ijk->ij", position, position))
    apogee_km = np.array([[1.1 * EARTH_RADIUS_KM * (1 + max(0.1, s.alta))] for s in sets])
    age_days = whole + fraction - np.array([[s.jdsatepoch + s.jdsatepochF] for s in sets])
    has_drag = np.array([[s.bstar != 0] for s in sets])
    impossible = (radius_km < EARTH_RADIUS_KM + LEAST_HEIGHT_KM) | ~(radius_km <= apogee_km)
    wrong = (errors != 0) | impossible | (has_drag & (np.abs(age_days) > MAX_AGE_DAYS))
    if wrong.any():
        craft, moment = np.argwhere(wrong)[0]
        if code := int(errors[craft, moment]):
            reason = SGP4_ERRORS.get(code, f"error {code} of SGP4")
        elif impossible[craft, moment]:
            reason = f"SGP4 puts it {radius_km[craft, moment]:.4g} km from the Earth's centre"
        else:
            reason = "too far away for SGP4"
        days, when = float(age_days[craft, moment]), iso(start + timedelta(seconds=float(seconds[moment])))
        raise ConfigurationError(
            f"{names[craft]}: its elements do not hold at {when}, {abs(days):.1f} days "
            f"{'before' if days < 0 else 'after'} their epoch: {reason}",
            remedy="it has decayed, or the span is too far from the epoch of its elements: take newer elements, or "
            "another start",
        )
    return States(position, velocity)


def range_km(a_km: Floats, b_km: Floats) -> Floats:
    """Distance between positions."""
    return np.asarray(np.linalg.norm(b_km - a_km, axis=-1))


def elevation_deg(place_km: Floats, zenith: Floats, position_km: Floats) -> Floats:
    """Elevation of a spacecraft over the horizon of a place (same frame), degrees, without refraction."""
    line = position_km - place_km
    sine = np.sum(line * zenith, axis=-1) / np.linalg.norm(line, axis=-1)
    return np.asarray(np.degrees(np.arcsin(np.clip(sine, -1, 1))))


def one_way_delay_us(distance_km: Floats | float) -> Floats:
    """Light time in vacuum, microseconds."""
    return np.asarray(distance_km) / LIGHT_KM_S * 1e6


def to_earth_fixed(position_km: Floats, gmst: Floats) -> Floats:
    """TEME -> Earth-fixed, by the turn of the Earth alone (polar motion, at most 15 m, is left out).

    ``gmst`` in radians, one per time: it must broadcast with ``position_km``'s axes but the last.
    """
    cosine, sine = np.cos(gmst), np.sin(gmst)
    x, y, z = position_km[..., 0], position_km[..., 1], position_km[..., 2]
    turned = np.broadcast_arrays(cosine * x + sine * y, cosine * y - sine * x, z)
    return np.stack(turned, axis=-1)


def station_teme(station: Station, gmst: Floats) -> tuple[Floats, Floats]:
    """Return a station's TEME position (km) and geodetic zenith (unit vector), per ``gmst`` (radians)."""
    place, zenith = station_earth_fixed(station)
    return to_earth_fixed(place, -gmst), to_earth_fixed(zenith, -gmst)  # the turn back


def station_earth_fixed(station: Station) -> tuple[Floats, Floats]:
    """Return a station's Earth-fixed position (km) and geodetic zenith (unit vector) on the WGS 84 ellipsoid."""
    zenith = zenith_of(station.latitude_deg, station.longitude_deg)
    return earth_fixed_km(zenith, station.height_km), zenith


def sub_satellite_deg(position_km: Floats, start: datetime, seconds: Floats) -> tuple[Floats, Floats]:
    """Geodetic latitude and longitude (-180 to 180) below positions of shape (..., times, 3), degrees."""
    return geodetic_deg(to_earth_fixed(position_km, gmst_rad(start, seconds)))


@dataclass(frozen=True, eq=False)
class Track:
    """A block of samples: axes (coordinate, node, time), TEME, km and km/s.

    Nodes are the spacecraft, ground stations, and guests; then the zeniths of stations and guests (unit vectors, which
    move as positions do, and so are interpolated by the same code).  In the place of a satellite's zenith stands its
    position: nothing looks up from it.
    """

    seconds: Floats
    position: Floats
    velocity: Floats
    spacecraft: int
    nodes: int

    def zenith(self, node: Ints) -> Ints:
        """Index of the zenith that belongs to the station or guest at a node's index."""
        return node - self.spacecraft + self.nodes

    def at(self, node: Ints, cell: Ints, share: Floats) -> tuple[Floats, Floats]:
        """Position and velocity, (coordinate, item), at ``share`` (0 to 1) of the way from sample ``cell`` on.

        Cubic Hermite interpolation.  Its error is ``step^4/384`` times the fourth derivative (radius times mean
        motion to the fourth): at 600 km 0.3 mm for samples 10 s apart, 0.4 m for 60 s.
        """
        step = self.seconds[cell + 1] - self.seconds[cell]
        p0, p1 = self.position[:, node, cell], self.position[:, node, cell + 1]
        m0, m1 = self.velocity[:, node, cell] * step, self.velocity[:, node, cell + 1] * step
        u = share
        place = (1 + 2 * u) * (1 - u) ** 2 * p0 + u * (1 - u) ** 2 * m0 + u**2 * (3 - 2 * u) * p1 + u**2 * (u - 1) * m1
        slope = 6 * u * (u - 1) * (p0 - p1) + (1 - u) * (1 - 3 * u) * m0 + u * (3 * u - 2) * m1
        return place, slope / step


def track(found: Constellation, start: datetime, seconds: Floats) -> Track:
    """Sample every node at ``start`` + ``seconds``.  Raises ConfigurationError where SGP4 fails."""
    sampled, gmst = states(found, start, seconds), gmst_rad(start, seconds)
    nodes = [*zip(sampled.position_km, sampled.velocity_km_s, strict=True)]
    zeniths: list[tuple[Floats, Floats]] = []
    for station in found.stations:
        for vector, kept in zip(station_teme(station, gmst), (nodes, zeniths), strict=True):
            kept.append((vector, _turning(vector)))
    for guest, path in zip(found.guests, found.guest_paths, strict=True):
        if isinstance(path, Flight):
            place, zenith = _flying(path, start, seconds)
        else:
            its = propagate([guest.name], [path], start, seconds)
            place, zenith = ((its.position_km[0], its.velocity_km_s[0]),) * 2
        nodes.append(place)
        zeniths.append(zenith)
    position, velocity = (np.stack(vectors).transpose(2, 0, 1) for vectors in zip(*nodes, *zeniths, strict=True))
    return Track(
        seconds=seconds,
        position=np.ascontiguousarray(position),
        velocity=np.ascontiguousarray(velocity),
        spacecraft=len(found.spacecraft),
        nodes=len(nodes),
    )


def _turning(vector: Floats) -> Floats:
    """Return the rate of a vector that the Earth's turn alone moves, per second."""
    return EARTH_TURN_RAD_S * np.stack([-vector[..., 1], vector[..., 0], 0 * vector[..., 2]], axis=-1)


def _flying(flight: Flight, start: datetime, seconds: Floats) -> tuple[tuple[Floats, Floats], tuple[Floats, Floats]]:
    """Return an aircraft's position and its zenith, each with its rate: the mean over a tenth of a second."""
    before, now, after = (
        [to_earth_fixed(vector, -gmst_rad(start, moments)) for vector in flight.at(start, moments)]
        for moments in (seconds - 0.05, seconds, seconds + 0.05)
    )
    place, zenith = ((here, (late - early) / 0.1) for early, here, late in zip(before, now, after, strict=True))
    return place, zenith
