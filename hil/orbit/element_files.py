"""Element sets of SGP4 in the forms that CelesTrak and Space-Track serve: TLE lines; OMM (CCSDS 502.0) in JSON, CSV,
XML and KVN.

What elements say of an orbit decides whether they are taken, never an identifier: a catalogue number above 99999
(alpha-5) or of nine digits is as good as any.  What SGP4 would compute wrongly is refused: SGP4-XP elements, other
frames, other time systems.
"""

from __future__ import annotations

import csv
import json
import math
import xml.etree.ElementTree as ET
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

from sgp4 import omm
from sgp4.api import SGP4_ERRORS, Satrec

from hil.errors import ConfigurationError
from hil.orbit.times import parse_time

ElementSet: TypeAlias = Any
"""An ``sgp4.api.Satrec`` (the library has no types)."""


class _OmmElements(Satrec):  # type: ignore[misc]
    """Elements that keep their catalogue number as it was given: the library knows none above 339999."""

    satnum_str = ""


_FORMS = "two lines of 69 characters per spacecraft (TLE), or an OMM in JSON, CSV, XML or KVN"
_ORBIT: Mapping[str, tuple[float, float]] = {
    "MEAN_MOTION": (0.01, 18.0),  # rev/day: 17.6 would fly at the surface, 0.01 beyond the Moon
    "ECCENTRICITY": (0.0, 0.9999),
    "INCLINATION": (0.0, 180.0),
    "RA_OF_ASC_NODE": (-360.0, 360.0),
    "ARG_OF_PERICENTER": (-360.0, 360.0),
    "MEAN_ANOMALY": (-360.0, 360.0),
}
"""What an OMM must hold beside its epoch, and what is possible; degrees where it is an angle."""
_DRAG = ("BSTAR", "MEAN_MOTION_DOT", "MEAN_MOTION_DDOT")  # 0 where an OMM has none
_MUST_BE: Mapping[str, tuple[str, ...]] = {
    "MEAN_ELEMENT_THEORY": ("SGP4", "SGP/SGP4"),
    "EPHEMERIS_TYPE": ("0", "2"),
    "REF_FRAME": ("TEME", "TEME OF DATE", "TEMEOFDATE"),
    "CENTER_NAME": ("EARTH",),
    "TIME_SYSTEM": ("UTC",),
}
_XP_ONLY = ("BTERM", "AGOM")
_SURFACE_KM = 6378.137


def parse_elements(text: str, *, where: str) -> tuple[list[str], list[ElementSet]]:
    """Return names and element sets of a file's text; its form is told by how it begins.

    Raises ConfigurationError with the line, or the number and name of the object.
    """
    head = text.lstrip("\ufeff \t\r\n")
    first_line = head.partition("\n")[0]
    if head.startswith(("[", "{")):
        try:
            document = json.loads(head)
        except (ValueError, RecursionError) as exc:
            line = getattr(exc, "lineno", 1)
            raise ConfigurationError(f"{where}:{line}: not valid JSON: {getattr(exc, 'msg', exc)}") from exc
        return _from_omms(document if isinstance(document, list) else [document], where)
    if head.startswith("<"):
        return _from_omms(_xml(head, where), where)
    if head.startswith("CCSDS_OMM_VERS"):
        return _from_omms(_kvn(head.splitlines()), where)
    if "EPOCH" in first_line and "," in first_line:
        rows = csv.DictReader(head.splitlines())
        try:
            return _from_omms(list(rows), where)
        except csv.Error as exc:
            raise ConfigurationError(
                f"{where}:{rows.reader.line_num}: not CSV: {exc}", remedy=f"give {_FORMS}"
            ) from exc
    return parse_tle(text.splitlines(), where=where)


# -- TLE ---------------------------------------------------------------------------------------------------------


def parse_tle(lines: Iterable[str], *, where: str) -> tuple[list[str], list[ElementSet]]:
    """Return names and element sets of TLE lines, with or without name lines.

    Raises ConfigurationError with ``where:line`` for a line that is missing, cut, fails its checksum, or is no orbit.
    """
    names: list[str] = []
    sets: list[ElementSet] = []
    name, first, begins = "", "", ""
    for number, raw in enumerate(lines, 1):
        line, place = raw.lstrip("\ufeff").rstrip(), f"{where}:{number}"
        if not line or line.startswith("#"):
            continue
        begins = begins or line
        if line.startswith(("1 ", "2 ")) and len(line) >= 60:
            _check_line(line, place)
            if line[0] == "1":
                first = line
                continue
            if first[2:7] != line[2:7]:
                raise ConfigurationError(f"{place}: line 2 of a TLE without its line 1 before it")
            names.append(_node_name(name) or f"sc-{len(sets) + 1:02d}")
            sets.append(_from_tle(first, line, f"{place}: {name[:40] or names[-1]}"))
            name, first = "", ""
        elif first:
            raise ConfigurationError(f"{place}: expected line 2 of a TLE, found {line[:30]!r}")
        else:
            name = line.removeprefix("0 ")
    if first or not sets:
        raise ConfigurationError(
            f"{where}: " + ("the last TLE has no line 2" if first else f"holds no elements; it says {begins[:60]!r}"),
            remedy=f"give {_FORMS}",
        )
    return names, sets


def _check_line(line: str, place: str) -> None:
    digits = sum(int(c) if c in "0123456789" else c == "-" for c in line[:68])
    if len(line) != 69 or line[68] not in "0123456789":
        raise ConfigurationError(f"{place}: a TLE line has 69 characters, this one {len(line)}")
    if digits % 10 != int(line[68]):
        raise ConfigurationError(
            f"{place}: checksum is {line[68]}, the line adds up to {digits % 10}", remedy="copy the TLE again"
        )


def _from_tle(first: str, second: str, place: str) -> ElementSet:
    columns = {
        "INCLINATION": second[8:16],
        "RA_OF_ASC_NODE": second[17:25],
        "ECCENTRICITY": "." + second[26:33].replace(" ", "0"),
        "ARG_OF_PERICENTER": second[34:42],
        "MEAN_ANOMALY": second[43:51],
        "MEAN_MOTION": second[52:63],
        "EPHEMERIS_TYPE": first[62],
    }
    _check_theory(columns, place)
    _check_orbit(columns, place)
    year, day = first[18:20].strip(), _number("the day of the epoch", first[20:32], place)
    if not year.isdecimal() or not 1 <= day < 367:
        raise ConfigurationError(f"{place}: its epoch {first[18:32]!r} is not a year and a day")
    try:
        elements = Satrec.twoline2rv(first, second)
    except ValueError as exc:
        raise ConfigurationError(f"{place}: {exc}") from exc
    return _checked(elements, place)


# -- OMM ---------------------------------------------------------------------------------------------------------


def _from_omms(messages: Sequence[object], where: str) -> tuple[list[str], list[ElementSet]]:
    names: list[str] = []
    sets: list[ElementSet] = []
    for number, message in enumerate(messages, 1):
        if not isinstance(message, Mapping):
            raise ConfigurationError(f"{where}: OMM {number}: expected keys and values")
        said = dict(_leaves(message))
        name = said.get("OBJECT_NAME", "")
        place = f"{where}: OMM {number}" + (f" ({name[:40]})" if name else "")
        names.append(_node_name(name) or f"sc-{number:02d}")
        sets.append(_from_omm(said, place))
    if not sets:
        raise ConfigurationError(f"{where}: holds no OMM", remedy=f"give {_FORMS}")
    return names, sets


def _leaves(message: Mapping[Any, object]) -> Iterator[tuple[str, str]]:
    """Yield every key with a value that is not empty, out of however many objects it lies in."""
    for key, value in message.items():
        if isinstance(value, Mapping):
            yield from _leaves(value)
        elif key is not None and value is not None and (text := str(value).strip()):
            yield str(key).strip().upper().removeprefix("USER_DEFINED_"), text


def _from_omm(said: Mapping[str, str], place: str) -> ElementSet:
    _check_theory(said, place)
    if missing := [key for key in ("EPOCH", *_ORBIT) if key not in said]:
        raise ConfigurationError(
            f"{place}: missing or empty: {', '.join(missing)}", remedy="fill it in, or take this object out of the file"
        )
    _check_orbit(said, place)
    if decayed := said.get("DECAY_DATE"):
        raise ConfigurationError(f"{place}: decayed on {decayed[:40]}", remedy="take this object out of the file")
    try:
        # The library takes an epoch with microseconds and without a zone; an OMM's is UTC.
        epoch = parse_time(said["EPOCH"])
    except ConfigurationError as exc:
        raise ConfigurationError(f"{place}: EPOCH: {exc.message}", remedy=exc.remedy) from exc
    if not 1957 <= epoch.year < 2100:
        raise ConfigurationError(f"{place}: EPOCH is in the year {epoch.year}, not from 1957 to 2099")
    # Beside an epoch in whole seconds, in files of before 2020.
    micros = int(_number("EPOCH_MICROSECONDS", said.get("EPOCH_MICROSECONDS", "0"), place))
    fields = {
        **{key: said[key] for key in _ORBIT},
        **{key: str(_number(key, said.get(key, "0"), place)) for key in _DRAG},
        "EPOCH": f"{epoch:%Y-%m-%dT%H:%M:%S}.{epoch.microsecond or micros:06d}",
        # Identifiers that the library wants: it knows none above 339999, and no orbit depends on them.
        "NORAD_CAT_ID": number if len(number := said.get("NORAD_CAT_ID", "")) < 6 and number.isdecimal() else "0",
        "OBJECT_ID": "",
        "CLASSIFICATION_TYPE": "U",
        "EPHEMERIS_TYPE": "0",
        "ELEMENT_SET_NO": "0",
        "REV_AT_EPOCH": "0",
    }
    elements = _OmmElements()
    elements.satnum_str = said.get("NORAD_CAT_ID", "")
    try:
        omm.initialize(elements, fields)
    except (ValueError, OverflowError) as exc:
        raise ConfigurationError(f"{place}: {exc}") from exc
    return _checked(elements, place)


def _xml(text: str, where: str) -> list[dict[str, str]]:
    """Return the elements of every ``omm`` (or of every ``item``, as Space-Track's other XML calls them)."""
    if "<!" in text.replace("<!--", ""):
        raise ConfigurationError(f"{where}: an OMM has no DOCTYPE", remedy=f"give {_FORMS}")
    try:
        root = ET.fromstring(text)
    except (ET.ParseError, ValueError) as exc:
        raise ConfigurationError(f"{where}:{getattr(exc, 'position', (1,))[0]}: not valid XML: {exc}") from exc
    messages = [e for e in root.iter() if _tag(e) in ("omm", "item")]
    return [
        {e.get("parameter") or _tag(e): e.text or "" for e in message.iter() if len(e) == 0} for message in messages
    ]


def _tag(element: ET.Element) -> str:
    return str(element.tag).rpartition("}")[2]  # without its namespace


def _kvn(lines: Sequence[str]) -> list[dict[str, str]]:
    messages: list[dict[str, str]] = []
    for line in lines:
        key, equals, value = (part.strip() for part in line.partition("="))
        if key == "CCSDS_OMM_VERS":
            messages.append({})
        elif equals and messages and not key.startswith("COMMENT"):
            messages[-1][key] = value.split("[")[0].strip()  # a unit may follow in brackets
    return messages


# -- both --------------------------------------------------------------------------------------------------------


def _check_theory(said: Mapping[str, str], place: str) -> None:
    theory, kind = said.get("MEAN_ELEMENT_THEORY", "").upper(), said.get("EPHEMERIS_TYPE", "").strip()
    if kind == "4" or "XP" in theory or any(key in said for key in _XP_ONLY):
        raise ConfigurationError(
            f"{place}: these are SGP4-XP elements (type 4); SGP4 would compute a wrong orbit from them",
            remedy="get SGP4 elements of it (ephemeris type 0)",
        )
    for key, allowed in _MUST_BE.items():
        value = said.get(key, "").strip().upper()
        if value and value not in allowed:
            raise ConfigurationError(
                f"{place}: {key} is {value[:40]}", remedy=f"only {allowed[0]} is propagated: SGP4 takes no other"
            )


def _check_orbit(said: Mapping[str, str], place: str) -> None:
    for key, (least, most) in _ORBIT.items():
        if not least <= _number(key, said[key], place) <= most:
            raise ConfigurationError(f"{place}: {key} is {said[key].strip()[:40]}, not from {least:g} to {most:g}")


def _number(key: str, text: str, place: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise ConfigurationError(f"{place}: {key} is {text.strip()[:40]!r}, not a number")
    return number


def _checked(elements: ElementSet, place: str) -> ElementSet:
    """Return element sets that are an orbit at their own epoch."""
    error, position, _ = elements.sgp4(elements.jdsatepoch, elements.jdsatepochF)
    if error or elements.altp < 0 or not math.hypot(*position) > _SURFACE_KM:
        reason = SGP4_ERRORS.get(error, "the lowest point is below the Earth's surface")
        raise ConfigurationError(f"{place}: these elements are no orbit: {reason}", remedy="get its elements anew")
    return elements


def _node_name(text: str) -> str:
    """``AETHER 1 (A)`` as a node's name: ``aether-1-a``."""
    kept = "".join(c if c.isalnum() and c.isascii() else " " for c in text.lower())
    return "-".join(kept.split())[:31]
