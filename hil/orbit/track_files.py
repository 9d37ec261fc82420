"""Tracks of aircraft and drones: CSV, GPX 1.0 and 1.1, and CZML, checked before anything is computed from them.

A track is places at times, in order of time.  Between two places the guest flies along the great circle, at an even
rate.  Heights are taken as above the WGS 84 ellipsoid; the sea, from which GPX counts, lies up to 107 m off.
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import NamedTuple
from xml.parsers import expat

import numpy as np

from hil.core.files import read_text
from hil.errors import ConfigurationError
from hil.orbit.ellipsoid import earth_fixed_km, geodetic_deg, height_km, zenith_of
from hil.orbit.times import Floats, Ints, parse_time
from hil.text import one_line

MOST_BYTES = 20_000_000
MOST_POINTS = 200_000
CSV_HEADER = ("time", "latitude_deg", "longitude_deg", "altitude_m")

_BOUNDS: Mapping[str, tuple[float, float]] = {
    "latitude_deg": (-90.0, 90.0),
    "longitude_deg": (-180.0, 360.0),
    "altitude_m": (-500.0, 50_000.0),
}
_FORMS = f"CSV with the header {','.join(CSV_HEADER)}, GPX with ele and time in each trkpt, or CZML"


@dataclass(frozen=True, eq=False)
class Flight:
    """Where an aircraft or a drone is: ``seconds`` after ``start``, its zenith (unit vectors) and height per point."""

    start: datetime
    seconds: Floats
    zenith: Floats
    height_km: Floats

    def span(self, start: datetime) -> tuple[float, float]:
        """Return when the track begins and ends, in seconds after ``start``."""
        first_s = (self.start - start).total_seconds()
        return first_s, first_s + float(self.seconds[-1])

    def at(self, start: datetime, seconds: Floats) -> tuple[Floats, Floats]:
        """Return Earth-fixed positions (km) and zeniths at ``start`` + ``seconds``; outside its span it waits."""
        moments = np.clip(seconds - self.span(start)[0], 0.0, self.seconds[-1])
        cell: Ints = np.clip(np.searchsorted(self.seconds, moments, side="right") - 1, 0, len(self.seconds) - 2)
        share = (moments - self.seconds[cell]) / (self.seconds[cell + 1] - self.seconds[cell])
        a, b = self.zenith[cell], self.zenith[cell + 1]
        angle = np.arctan2(np.linalg.norm(np.cross(a, b), axis=-1), np.sum(a * b, axis=-1))
        sine = np.sin(angle)
        still = sine < 1e-9  # a hover: straight is as good, and 0 / 0 is not
        safe = np.where(still, 1.0, sine)
        from_a = np.where(still, 1 - share, np.sin((1 - share) * angle) / safe)
        from_b = np.where(still, share, np.sin(share * angle) / safe)
        zenith = from_a[:, None] * a + from_b[:, None] * b
        zenith /= np.linalg.norm(zenith, axis=-1, keepdims=True)
        return earth_fixed_km(zenith, np.interp(moments, self.seconds, self.height_km)), zenith


class _Point(NamedTuple):
    """One place of a track as its file has it; ``place`` names file and line (or sample) in messages."""

    place: str
    time: datetime
    latitude_deg: float
    longitude_deg: float
    altitude_m: float


def read_flight(path: Path, *, name: str, max_speed_m_per_s: float) -> Flight:
    """Read a track; its form is told by how it begins.  ``name`` chooses among several objects of a CZML document.

    Raises ConfigurationError with file, line (in CZML: the sample) and what to do: a file that is too large or is none
    of the forms, a place off the Earth, times out of order, a jump faster than ``max_speed_m_per_s``.
    """
    text = read_text(path, remedy="track is a path relative to the orbit file", most_bytes=MOST_BYTES)
    text, where = text.lstrip("\ufeff"), str(path)
    head = text.lstrip()
    if head.startswith("<"):
        points = iter(_Gpx(where).read(text))
    elif head.startswith(("[", "{")):
        points = _czml(text, where, name)
    else:
        points = _csv(text, where)
    kept: list[_Point] = []
    for point in points:
        if len(kept) == MOST_POINTS:
            raise ConfigurationError(
                f"{point.place}: more than {MOST_POINTS:,} points", remedy="keep one point per second, or fewer"
            )
        kept.append(point)
    return _flight(kept, where, max_speed_m_per_s)


def _flight(points: Sequence[_Point], where: str, max_speed_m_per_s: float) -> Flight:
    if len(points) < 2:
        raise ConfigurationError(f"{where}: {len(points)} points; a track has two or more", remedy=f"give {_FORMS}")
    start = points[0].time
    seconds = np.array([(point.time - start).total_seconds() for point in points])
    zenith = zenith_of(np.array([p.latitude_deg for p in points]), np.array([p.longitude_deg for p in points]))
    height = np.array([point.altitude_m for point in points]) / 1000
    took_s = np.diff(seconds)
    if len(wrong := np.nonzero(took_s <= 0)[0]):
        late = points[int(wrong[0]) + 1]
        how = "the time of the point before it again" if took_s[wrong[0]] == 0 else "earlier than the point before it"
        raise ConfigurationError(
            f"{late.place}: {late.time.isoformat()} is {how}", remedy="put points in order of time, one per time"
        )
    moved_m = 1000 * np.linalg.norm(np.diff(earth_fixed_km(zenith, height), axis=0), axis=-1)
    if len(wrong := np.nonzero(moved_m > max_speed_m_per_s * took_s)[0]):
        k = int(wrong[0])
        raise ConfigurationError(
            f"{points[k + 1].place}: {moved_m[k] / 1000:,.1f} km in {took_s[k]:g} s from the point before it, "
            f"{moved_m[k] / took_s[k]:,.0f} m/s; at most {max_speed_m_per_s:g} m/s is allowed",
            remedy="mend the point (degrees? order of latitude and longitude?), or raise the guest's max_speed_m_per_s",
        )
    if len(wrong := np.nonzero(np.sum(zenith[1:] * zenith[:-1], axis=-1) < 0)[0]):
        raise ConfigurationError(
            f"{points[int(wrong[0]) + 1].place}: more than a quarter of the Earth from the point before it",
            remedy="give places between them",
        )
    return Flight(start, seconds, zenith, height)


def _point(place: str, time: datetime, said: Mapping[str, object]) -> _Point:
    """Check one place.  Raises ConfigurationError: not a number, off the Earth, or a year that no element set has."""
    if not 1957 <= time.year < 2100:
        raise ConfigurationError(f"{place}: the year {time.year}", remedy="give times from 1957 to 2099")
    numbers: list[float] = []
    for key, (least, most) in _BOUNDS.items():
        number = _number(key, said.get(key), place)
        if not least <= number <= most:
            hint = "; what is higher is a satellite: give its elements" if key == "altitude_m" else ""
            raise ConfigurationError(f"{place}: {key} is {number:g}", remedy=f"give {least:g} to {most:g}{hint}")
        numbers.append(number)
    return _Point(place, time, *numbers)


def _number(key: str, value: object, place: str) -> float:
    try:
        number = float(value) if isinstance(value, (int, float, str)) and not isinstance(value, bool) else math.nan
    except (ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        found = "missing" if value is None or value == "" else f"{one_line(str(value), 40)!r}, not a number"
        raise ConfigurationError(f"{place}: {key} is {found}", remedy="mend the point, or take it out")
    return number


def _time(text: str, place: str) -> datetime:
    try:
        return parse_time(text)
    except ConfigurationError as exc:
        raise ConfigurationError(f"{place}: {exc.message}", remedy=exc.remedy) from exc


# -- CSV ---------------------------------------------------------------------------------------------------------


def _csv(text: str, where: str) -> Iterator[_Point]:
    rows = csv.reader(text.splitlines())
    header: list[str] | None = None
    try:
        for row in rows:
            if not row or row[0].startswith("#"):
                continue
            place = f"{where}:{rows.line_num}"
            if header is None:
                header = [cell.strip() for cell in row]
                if missing := [key for key in CSV_HEADER if key not in header]:
                    raise ConfigurationError(
                        f"{place}: no column {', '.join(missing)} in {one_line(','.join(header), 80)!r}",
                        remedy=f"give {_FORMS}",
                    )
                continue
            if len(row) != len(header):
                raise ConfigurationError(
                    f"{place}: {len(row)} columns, the header has {len(header)}", remedy="mend the line"
                )
            said = dict(zip(header, (cell.strip() for cell in row), strict=True))
            yield _point(place, _time(said["time"], place), said)
    except csv.Error as exc:
        raise ConfigurationError(f"{where}:{rows.line_num}: not CSV: {exc}", remedy=f"give {_FORMS}") from exc


# -- GPX ---------------------------------------------------------------------------------------------------------


_GPX_KEYS = {"ele": "altitude_m", "time": "time"}
_MOST_TEXT = 200  # characters of one of them, with the white space around it


class _Gpx:
    """Points of the track, as the parser comes past them.  A document type, and with it every entity, is refused."""

    def __init__(self, where: str) -> None:
        self._where, self._parser = where, expat.ParserCreate()
        self._parser.buffer_text = True
        self._parser.StartDoctypeDeclHandler = self._doctype
        self._parser.StartElementHandler = self._begin
        self._parser.EndElementHandler = self._end
        self._parser.CharacterDataHandler = self._text
        self._open: list[str] = []
        self._said: dict[str, str] = {}
        self._line = 0
        self.points: list[_Point] = []

    def read(self, text: str) -> list[_Point]:
        try:
            self._parser.Parse(text, True)
        except expat.ExpatError as exc:
            raise ConfigurationError(
                f"{self._where}:{exc.lineno}: not valid XML: {expat.ErrorString(exc.code)}", remedy=f"give {_FORMS}"
            ) from exc
        return self.points

    @property
    def _place(self) -> str:
        return f"{self._where}:{self._line}"

    def _doctype(self, *_: object) -> None:
        raise ConfigurationError(
            f"{self._where}:{self._parser.CurrentLineNumber}: a GPX file has no DOCTYPE and no entities",
            remedy="take it out",
        )

    def _begin(self, name: str, attributes: dict[str, str]) -> None:
        tag = name.rpartition(":")[2]
        if not self._open and tag != "gpx":
            raise ConfigurationError(
                f"{self._where}: XML of kind {one_line(tag, 40)!r}, not a GPX track", remedy=f"give {_FORMS}"
            )
        self._open.append(tag)
        if tag == "trkpt":
            self._line, self._said = self._parser.CurrentLineNumber, {}
            self._said |= {"latitude_deg": attributes.get("lat", ""), "longitude_deg": attributes.get("lon", "")}

    def _text(self, text: str) -> None:
        if self._open[-2:-1] != ["trkpt"] or self._open[-1] not in _GPX_KEYS:
            return
        key = _GPX_KEYS[self._open[-1]]
        self._said[key] = self._said.get(key, "") + text
        if len(self._said[key]) > _MOST_TEXT:
            raise ConfigurationError(
                f"{self._place}: {self._open[-1]} has more than {_MOST_TEXT} characters", remedy="mend the point"
            )

    def _end(self, _: str) -> None:
        if self._open.pop() == "trkpt":
            said = {key: text.strip() for key, text in self._said.items()}
            self.points.append(_point(self._place, _time(said.get("time", ""), self._place), said))


# -- CZML --------------------------------------------------------------------------------------------------------


def _czml(text: str, where: str, name: str) -> Iterator[_Point]:
    """Sampled positions of one object: ``cartographicDegrees``, or ``cartesian`` in the Earth-fixed frame."""
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as exc:
        line = getattr(exc, "lineno", 1)
        raise ConfigurationError(
            f"{where}:{line}: not valid JSON: {getattr(exc, 'msg', exc)}", remedy=f"give {_FORMS}"
        ) from exc
    packets = document if isinstance(document, list) else [document]
    moving = {
        str(packet.get("id", f"packet {number}")): position
        for number, packet in enumerate(packets, 1)
        if isinstance(packet, Mapping) and isinstance(position := packet.get("position"), Mapping)
        if any(isinstance(row := position.get(key), list) and len(row) > 4 for key in _CZML)
    }
    if len(moving) > 1 and name not in moving:
        raise ConfigurationError(
            f"{where}: {len(moving)} objects move: {one_line(', '.join(moving), 200)}",
            remedy=f"keep the guest's own packet, or give it the id {name}",
        )
    if not moving:
        raise ConfigurationError(f"{where}: no object has sampled positions ({' or '.join(_CZML)})", remedy=_FORMS)
    key_of = name if name in moving else next(iter(moving))
    yield from _samples(moving[key_of], f"{where}: {one_line(key_of, 40)}")


_CZML = ("cartographicDegrees", "cartesian")


def _samples(position: Mapping[str, object], place: str) -> Iterator[_Point]:
    if position.get("referenceFrame", "FIXED") != "FIXED":
        raise ConfigurationError(f"{place}: referenceFrame is not FIXED", remedy="write Earth-fixed positions")
    kind = next(key for key in _CZML if isinstance(position.get(key), list))
    flat = position[kind]
    assert isinstance(flat, list)
    if len(flat) % 4:
        raise ConfigurationError(
            f"{place}: {kind} has {len(flat)} numbers", remedy="give a time and three numbers for each sample"
        )
    epoch = _time(str(position["epoch"]), f"{place}: epoch") if "epoch" in position else None
    for number, first in enumerate(range(0, len(flat), 4), 1):
        here = f"{place}: sample {number}"
        time, *rest = flat[first : first + 4]
        values = [_number(what, value, here) for what, value in zip(("x", "y", "z"), rest, strict=True)]
        yield _point(here, _moment(time, epoch, here), _geodetic(kind, values, here))


def _moment(time: object, epoch: datetime | None, place: str) -> datetime:
    if isinstance(time, str):
        return _time(time, place)
    seconds = _number("its time", time, place)
    if epoch is None:
        raise ConfigurationError(f"{place}: a time in seconds, and no epoch", remedy="give the position an epoch")
    try:
        return epoch + timedelta(seconds=seconds)
    except OverflowError as exc:
        raise ConfigurationError(f"{place}: {seconds:g} s after the epoch", remedy="mend its time") from exc


def _geodetic(kind: str, values: Sequence[float], place: str) -> dict[str, object]:
    """Return a place's latitude, longitude and altitude: from degrees and metres, or from Earth-fixed metres."""
    if kind == "cartographicDegrees":
        return {"longitude_deg": values[0], "latitude_deg": values[1], "altitude_m": values[2]}
    fixed_km = np.array(values) / 1000
    if not 6_000 < math.hypot(*fixed_km) < 7_000:
        raise ConfigurationError(f"{place}: not a place near the Earth's surface", remedy="give metres, Earth-fixed")
    latitude, longitude = geodetic_deg(fixed_km)
    return {
        "latitude_deg": float(latitude),
        "longitude_deg": float(longitude),
        "altitude_m": float(height_km(fixed_km)) * 1000,
    }
