"""Orbits as SGP4 element sets: from a shell, from TLE lines, from OMMs (CCSDS 502.0) in JSON or KVN."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from sgp4 import omm
from sgp4.api import WGS72, Satrec
from sgp4.conveniences import sat_epoch_datetime

from hil.errors import ConfigurationError
from hil.orbit.model import Crosslinks, Shell, Station, Terminals, load_orbit_file
from hil.orbit.times import julian, local_time_h, parse_time

EARTH_RADIUS_KM = 6378.137
"""WGS 84 equatorial radius: altitudes and grazing heights count from a sphere of this radius."""
EARTH_MU_KM3_S2 = 398_600.4418
EARTH_J2 = 1.082_626_68e-3

_TROPICAL_YEAR_DAYS = 365.242_19
_SGP4_EPOCH_JD = 2_433_281.5  # 1949-12-31 00:00, from which sgp4init counts days

ElementSet: TypeAlias = Any
"""An ``sgp4.api.Satrec`` (the library has no types)."""


@dataclass(frozen=True, eq=False)
class Constellation:
    """Spacecraft with their element sets, ground stations, and what a crosslink needs."""

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

    def __post_init__(self) -> None:
        if not self.spacecraft or len(self.spacecraft) != len(self.element_sets):
            raise ConfigurationError(
                f"{self.name}: {len(self.spacecraft)} names for {len(self.element_sets)} element sets",
                remedy="give one name per spacecraft (spare slots have none)",
            )
        names = [*self.spacecraft, *(s.name for s in self.stations)]
        if twice := sorted({n for n in names if names.count(n) > 1} if len(set(names)) < len(names) else ()):
            raise ConfigurationError(
                f"{self.name}: used twice: {', '.join(twice)}", remedy="give every node its own name"
            )

    @property
    def nodes(self) -> tuple[str, ...]:
        """Spacecraft, then ground stations."""
        return (*self.spacecraft, *(s.name for s in self.stations))


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
        file = path.parent / (spec.elements_file or "")
        try:
            text = file.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as exc:
            raise ConfigurationError(
                f"elements_file {file}: cannot be read: {exc}", remedy="the path is relative to the orbit file"
            ) from exc
        names, sets = parse_elements(text, where=str(file))
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
    )


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


def parse_elements(text: str, *, where: str) -> tuple[list[str], list[ElementSet]]:
    """Names and element sets of a file's text: OMM in JSON, OMM in KVN, or TLE lines, told by how it begins."""
    head = text.lstrip("\ufeff \t\r\n")
    if head.startswith(("[", "{")):
        try:
            found = json.loads(head)
        except json.JSONDecodeError as exc:
            raise ConfigurationError(f"{where}:{exc.lineno}: not valid JSON: {exc.msg}") from exc
        return _from_omms(found if isinstance(found, list) else [found], where)
    if head.startswith("CCSDS_OMM_VERS"):
        return _from_omms(_kvn(head.splitlines()), where)
    return parse_tle(text.splitlines(), where=where)


def parse_tle(lines: Iterable[str], *, where: str) -> tuple[list[str], list[ElementSet]]:
    """Return names and element sets of TLE lines, with or without name lines.

    Raises ConfigurationError with ``where:line`` for a line that is missing, cut, or fails its checksum.
    """
    names: list[str] = []
    sets: list[ElementSet] = []
    name, first = "", ""
    for number, raw in enumerate(lines, 1):
        line = raw.rstrip()
        if not line or line.startswith("#"):
            continue
        if line.startswith(("1 ", "2 ")) and len(line) >= 60:
            _check_tle(line, f"{where}:{number}")
            if line[0] == "1":
                first = line
                continue
            if first[2:7] != line[2:7]:
                raise ConfigurationError(f"{where}:{number}: line 2 of a TLE without its line 1 before it")
            names.append(_node_name(name) or f"sc-{len(sets) + 1:02d}")
            sets.append(Satrec.twoline2rv(first, line))
            name, first = "", ""
        elif first:
            raise ConfigurationError(f"{where}:{number}: expected line 2 of a TLE, found {line[:30]!r}")
        else:
            name = line.removeprefix("0 ")
    if first or not sets:
        raise ConfigurationError(
            f"{where}: " + ("the last TLE has no line 2" if first else "holds no TLE"),
            remedy="give two lines of 69 characters per spacecraft, optionally after a name line",
        )
    return names, sets


def _check_tle(line: str, where: str) -> None:
    digits = sum(int(c) if c.isdigit() else c == "-" for c in line[:68])
    if len(line) != 69 or not line[68].isdigit():
        raise ConfigurationError(f"{where}: a TLE line has 69 characters, this one {len(line)}")
    if digits % 10 != int(line[68]):
        raise ConfigurationError(
            f"{where}: checksum is {line[68]}, the line adds up to {digits % 10}", remedy="copy the TLE again"
        )


_OMM_KEYS = (
    "EPOCH",
    "MEAN_MOTION",
    "ECCENTRICITY",
    "INCLINATION",
    "RA_OF_ASC_NODE",
    "ARG_OF_PERICENTER",
    "MEAN_ANOMALY",
)
_OMM_DEFAULTS: Mapping[str, str] = {
    "OBJECT_ID": "2000-001A",
    "CLASSIFICATION_TYPE": "U",
    "EPHEMERIS_TYPE": "0",
    "ELEMENT_SET_NO": "0",
    "REV_AT_EPOCH": "0",
    "BSTAR": "0",
    "MEAN_MOTION_DOT": "0",
    "MEAN_MOTION_DDOT": "0",
}


def _from_omms(messages: Sequence[object], where: str) -> tuple[list[str], list[ElementSet]]:
    names: list[str] = []
    sets: list[ElementSet] = []
    for number, message in enumerate(messages, 1):
        if not isinstance(message, dict):
            raise ConfigurationError(f"{where}: OMM {number}: expected keys and values")
        missing = [key for key in _OMM_KEYS if key not in message]
        if missing:
            raise ConfigurationError(f"{where}: OMM {number}: missing {', '.join(missing)}")
        theory = str(message.get("MEAN_ELEMENT_THEORY", "SGP4")).upper()
        if theory not in ("SGP4", "SGP/SGP4"):
            raise ConfigurationError(
                f"{where}: OMM {number}: MEAN_ELEMENT_THEORY is {theory}", remedy="only SGP4 is propagated"
            )
        fields = {**_OMM_DEFAULTS, "NORAD_CAT_ID": str(number), **{k: str(v) for k, v in message.items()}}
        # The library takes an epoch with microseconds and without a zone; an OMM's is UTC.
        epoch = parse_time(fields["EPOCH"]).astimezone(UTC)
        fields["EPOCH"] = f"{epoch:%Y-%m-%dT%H:%M:%S.%f}"
        found = Satrec()
        try:
            omm.initialize(found, fields)
        except (ValueError, KeyError) as exc:
            raise ConfigurationError(f"{where}: OMM {number}: {exc}") from exc
        names.append(_node_name(str(message.get("OBJECT_NAME", ""))) or f"sc-{number:02d}")
        sets.append(found)
    if not sets:
        raise ConfigurationError(f"{where}: holds no OMM")
    return names, sets


def _kvn(lines: Sequence[str]) -> list[dict[str, str]]:
    messages: list[dict[str, str]] = []
    for line in lines:
        key, equals, value = (part.strip() for part in line.partition("="))
        if key == "CCSDS_OMM_VERS":
            messages.append({})
        elif equals and messages and not key.startswith("COMMENT"):
            messages[-1][key] = value.split("[")[0].strip()  # a unit may follow in brackets
    return messages


def _node_name(text: str) -> str:
    """``AETHER 1 (A)`` as a node's name: ``aether-1-a``."""
    kept = "".join(c if c.isalnum() and c.isascii() else " " for c in text.lower())
    return "-".join(kept.split())[:31]
