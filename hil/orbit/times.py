"""Time as the orbit room uses it: UTC datetimes for people, seconds since a start for arrays."""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime, timedelta
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from hil.errors import ConfigurationError

Floats: TypeAlias = npt.NDArray[np.float64]
Bools: TypeAlias = npt.NDArray[np.bool_]
Ints: TypeAlias = npt.NDArray[np.int64]

_J2000 = datetime(2000, 1, 1, 12, tzinfo=UTC)
_J2000_JD = 2_451_545.0
_DAY_S = 86_400.0


def parse_time(text: str) -> datetime:
    """Return an instant, in UTC when it names no zone.  Raises ConfigurationError.

    ISO 8601, and what CCSDS (502.0, 301.0 time code A and B) allows beside it: the day of the year
    (``2026-080T06:30:00``), and a leap second, which is taken as the second after it.
    """
    word, leap_s = text.strip(), 0
    try:
        if match := re.fullmatch(r"(\d{4})-(\d{3})(T.*)?", word):
            day = datetime.strptime(f"{match[1]} {match[2]}", "%Y %j")
            word = f"{match[1]}-{day:%m-%d}{match[3] or ''}" if day.year == int(match[1]) else word
        if match := re.fullmatch(r"(.*[T ]23:59:)60(.*)", word):
            word, leap_s = f"{match[1]}59{match[2]}", 1
        moment = datetime.fromisoformat(word) + timedelta(seconds=leap_s)
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError) as exc:
        raise ConfigurationError(
            f"{text[:60]!r} is not a time", remedy="write it like 2026-03-21T06:30:00Z (ISO 8601, UTC)"
        ) from exc


def iso(moment: datetime) -> str:
    """``2026-03-21T06:30:00Z``, with milliseconds when there are any."""
    rounded = moment + timedelta(microseconds=500)
    milli = rounded.microsecond // 1000
    return f"{rounded:%Y-%m-%dT%H:%M:%S}" + (f".{milli:03d}Z" if milli else "Z")


def julian(start: datetime, seconds: Floats) -> tuple[Floats, Floats]:
    """Julian date of ``start`` + ``seconds`` as (midnight or noon, fraction of a day): keeps microseconds."""
    since = start - _J2000
    whole = np.full(seconds.shape, _J2000_JD + since.days)
    fraction = (since.seconds + since.microseconds / 1e6 + seconds) / _DAY_S
    return whole, fraction


def centuries(start: datetime, seconds: Floats) -> Floats:
    """Julian centuries of UTC since J2000."""
    whole, fraction = julian(start, seconds)
    return np.asarray((whole - _J2000_JD + fraction) / 36_525.0)


def gmst_rad(start: datetime, seconds: Floats) -> Floats:
    """Greenwich mean sidereal time, radians (IAU 1982: Vallado, Fundamentals of Astrodynamics, eq. 3-45).

    UTC stands for UT1: they differ by at most 0.9 s, which is 0.4 km on the equator.
    """
    whole, fraction = julian(start, seconds)
    t = (whole - _J2000_JD + fraction) / 36_525.0
    days = whole - _J2000_JD
    # 876,600 h per century is one turn per day: taken off before it costs digits.  JD counts from noon.
    turns = (days % 1.0) + fraction
    seconds_of_time = 67_310.54841 + 8_640_184.812866 * t + 0.093104 * t**2 - 6.2e-6 * t**3
    return np.asarray((2 * math.pi * (turns + seconds_of_time / _DAY_S)) % (2 * math.pi))


def local_time_h(text: str) -> float:
    """Hours of a local time such as ``18:00``.  Raises ValueError."""
    if not (match := re.fullmatch(r"([01]?\d|2[0-3]):([0-5]\d)", text)):
        raise ValueError(f"{text!r} is not a local time; write it in quotes, like '18:00'")
    return int(match[1]) + int(match[2]) / 60
