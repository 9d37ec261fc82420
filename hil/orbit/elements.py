"""Constellations: spacecraft with their SGP4 element sets, from a shell or from elements that somebody published."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from sgp4.api import WGS72, Satrec
from sgp4.conveniences import sat_epoch_datetime

from hil.core.files import read_text
from hil.errors import ConfigurationError
from hil.orbit.element_files import ElementSet, parse_elements, parse_tle
from hil.orbit.ellipsoid import EARTH_RADIUS_KM
from hil.orbit.model import Crosslinks, Guest, Shell, Station, Terminals, load_orbit_file
from hil.orbit.times import julian, local_time_h, parse_time
from hil.orbit.track_files import Flight, read_flight

EARTH_MU_KM3_S2 = 398_600.4418
EARTH_J2 = 1.082_626_68e-3

_TROPICAL_YEAR_DAYS = 365.242_19
_SGP4_EPOCH_JD = 2_433_281.5  # 1949-12-31 00:00, from which sgp4init counts days


@dataclass(frozen=True, eq=False)
class Constellation:
    """Spacecraft with their element sets, ground stations, guests, and what a crosslink needs."""

    name: str
    epoch: datetime
    spacecraft: tuple[str, ...]
    element_sets: tuple[ElementSet, ...]
    stations: tuple[Station, ...] = ()
    crosslinks: Crosslinks = field(default_factory=Crosslinks)
    terminals: Terminals = field(default_factory=Terminals)
    assumed: tuple[str, ...] = ()
    planes: tuple[tuple[int, ...], ...] = ()
    """Indices of the spacecraft of each orbital plane, in slot order; empty where planes are not known."""
    guests: tuple[Guest, ...] = ()
    guest_paths: tuple[ElementSet | Flight, ...] = ()
    """One for each guest: elements of a satellite, or the track of an aircraft."""

    def __post_init__(self) -> None:
        if not self.spacecraft or len(self.spacecraft) != len(self.element_sets):
            raise ConfigurationError(
                f"{self.name}: {len(self.spacecraft)} names for {len(self.element_sets)} element sets",
                remedy="give one name per spacecraft (spare slots have none)",
            )
        names = self.nodes
        if twice := sorted({n for n in names if names.count(n) > 1} if len(set(names)) < len(names) else ()):
            raise ConfigurationError(
                f"{self.name}: used twice: {', '.join(twice)}",
                remedy="give every node its own name, with `spacecraft` in the orbit file; of several epochs of one "
                "spacecraft keep one",
            )

    @property
    def nodes(self) -> tuple[str, ...]:
        """Spacecraft, then ground stations, then guests."""
        return (*self.spacecraft, *(s.name for s in self.stations), *(g.name for g in self.guests))

    def guest(self, *names: str) -> Guest | None:
        """Return the guest among these nodes, None without one."""
        return next((guest for guest in self.guests if guest.name in names), None)

    def only(self, *names: str) -> Constellation:
        """Return the constellation of these nodes alone.  Raises ConfigurationError where none is a spacecraft."""
        craft = [k for k, name in enumerate(self.spacecraft) if name in names]
        guests = [k for k, guest in enumerate(self.guests) if guest.name in names]
        return replace(
            self,
            spacecraft=tuple(self.spacecraft[k] for k in craft),
            element_sets=tuple(self.element_sets[k] for k in craft),
            stations=tuple(station for station in self.stations if station.name in names),
            planes=(),
            guests=tuple(self.guests[k] for k in guests),
            guest_paths=tuple(self.guest_paths[k] for k in guests),
        )


def load_constellation(path: Path) -> Constellation:
    """Read an orbit file and build its element sets.

    Raises ConfigurationError: a fault of the file, of the element sets it names, or of their number.
    """
    spec = load_orbit_file(path)
    planes: tuple[tuple[int, ...], ...] = ()
    if spec.shell is not None:
        sets = shell_elements(spec.shell, parse_time(spec.epoch or ""))
        per_plane = len(sets) // spec.shell.planes
        planes = tuple(tuple(range(k, k + per_plane)) for k in range(0, len(sets), per_plane))
        digits = max(2, len(str(len(sets))))
        names: Sequence[str] = [f"sc-{k:0{digits}d}" for k in range(1, len(sets) + 1)]
    elif spec.tle is not None:
        names, sets = parse_tle(spec.tle.splitlines(), where="tle")
    else:
        names, sets = _elements(path.parent / (spec.elements_file or ""))
    return Constellation(
        name=spec.name,
        epoch=parse_time(spec.epoch) if spec.epoch else sat_epoch_datetime(sets[0]).astimezone(UTC),
        spacecraft=spec.spacecraft or tuple(names),
        element_sets=tuple(sets),
        stations=spec.ground_stations,
        crosslinks=spec.crosslinks,
        terminals=spec.terminals,
        assumed=spec.assumed,
        planes=planes,
        guests=spec.guests,
        guest_paths=tuple(_guest_path(guest, path) for guest in spec.guests),
    )


def _elements(file: Path) -> tuple[list[str], list[ElementSet]]:
    text = read_text(file, remedy="elements_file is a path relative to the orbit file")
    return parse_elements(text, where=str(file))


def _guest_path(guest: Guest, orbit_file: Path) -> ElementSet | Flight:
    if guest.track is not None:
        return read_flight(orbit_file.parent / guest.track, name=guest.name, max_speed_m_per_s=guest.max_speed_m_per_s)
    if guest.tle is not None:
        _, sets = parse_tle(guest.tle.splitlines(), where=f"{orbit_file}: tle of guest {guest.name}")
    else:
        _, sets = _elements(orbit_file.parent / (guest.elements_file or ""))
    if len(sets) != 1:
        raise ConfigurationError(
            f"{orbit_file}: guest {guest.name} has elements of {len(sets)} satellites",
            remedy="a guest is one satellite: keep its own elements only",
        )
    return sets[0]


def mean_motion_rad_s(altitude_km: float) -> float:
    """Mean motion of a circular orbit: Kepler's third law, ``sqrt(mu / a^3)``."""
    return math.sqrt(EARTH_MU_KM3_S2 / (EARTH_RADIUS_KM + altitude_km) ** 3)


def sun_synchronous_inclination_deg(altitude_km: float) -> float:
    """Inclination at which J2 turns a circular orbit's node by 360 degrees per tropical year.

    ``cos i = -2 (node rate) / (3 n J2) (a / Re)^2`` (Vallado, Fundamentals of Astrodynamics, sec. 9.6).
    Raises ConfigurationError above about 5,970 km, where there is none.
    """
    node_rate_rad_s = 2 * math.pi / (_TROPICAL_YEAR_DAYS * 86_400)
    ratio = (EARTH_RADIUS_KM + altitude_km) / EARTH_RADIUS_KM
    cosine = -2 * node_rate_rad_s * ratio**2 / (3 * mean_motion_rad_s(altitude_km) * EARTH_J2)
    if cosine < -1:
        raise ConfigurationError(
            f"no circular orbit at {altitude_km:g} km is sun-synchronous", remedy="give inclination_deg"
        )
    return math.degrees(math.acos(cosine))


def raan_of_ltan_deg(ltan_h: float, epoch: datetime) -> float:
    """Right ascension of an ascending node whose local mean solar time is ``ltan_h`` at ``epoch``.

    The mean Sun's right ascension is its mean longitude, 280.460 + 0.9856474 d degrees (Astronomical Almanac).
    """
    whole, fraction = julian(epoch, np.zeros(1))
    days = float(whole[0] - 2_451_545.0 + fraction[0])
    return (280.460 + 0.9856474 * days + 15 * (ltan_h - 12)) % 360


def shell_elements(shell: Shell, epoch: datetime) -> list[ElementSet]:
    """Element sets of a shell, plane by plane and slot by slot; spare slots are left out.

    Circular, without drag (B* = 0); mean motion by :func:`mean_motion_rad_s`, so SGP4's own periodic terms move
    a spacecraft at 600 km by -8 to +7 km in height.
    """
    if shell.ltan is not None:
        inclination_deg = sun_synchronous_inclination_deg(shell.altitude_km)
        first_raan_deg = raan_of_ltan_deg(local_time_h(shell.ltan), epoch)
    else:
        inclination_deg, first_raan_deg = shell.inclination_deg or 0.0, shell.raan_deg or 0.0
    whole, fraction = julian(epoch, np.zeros(1))
    epoch_days = float(whole[0] - _SGP4_EPOCH_JD + fraction[0])
    sets: list[ElementSet] = []
    for plane in range(shell.planes):
        raan_deg = first_raan_deg + plane * shell.raan_spread_deg / shell.planes
        for slot in range(shell.slots_per_plane):
            if slot + 1 in shell.spare_slots:
                continue
            along_deg = shell.first_slot_deg + plane * shell.phase_deg + slot * 360 / shell.slots_per_plane
            found = Satrec()
            found.sgp4init(
                WGS72,
                "i",
                len(sets) + 1,
                epoch_days,
                0.0,  # B*: no drag
                0.0,
                0.0,
                0.0,  # eccentricity
                0.0,  # argument of perigee
                math.radians(inclination_deg),
                math.radians(along_deg % 360),
                mean_motion_rad_s(shell.altitude_km) * 60,
                math.radians(raan_deg % 360),
            )
            sets.append(found)
    return sets
