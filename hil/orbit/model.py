"""What an orbit file may say (``lab/orbits/*.yaml``): strict models, units in key names."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from hil.errors import ConfigurationError
from hil.lab.yamlfile import Strict, fault, load_yaml
from hil.orbit.times import local_time_h, parse_time

Name = Annotated[
    str,
    Field(
        pattern=r"^[a-z0-9][a-z0-9.-]{0,30}$",
        description="lower case letters, digits, dots and hyphens, at most 31 characters",
    ),
]
RateBps = Annotated[int, Field(gt=0, description="bit/s; 2500000000 is 2.5 Gbit/s")]


class Shell(Strict):
    """Circular orbits of one altitude: ``planes`` x ``slots_per_plane``, minus spare slots left empty.

    Planes are ``raan_spread_deg / planes`` apart; plane ``p`` is turned by ``p * phase_deg`` along its orbit.
    With ``ltan`` (local time of the ascending node, mean solar time at the file's epoch) the inclination is
    the sun-synchronous one and the first plane's node follows; without it, both are given.
    """

    planes: Annotated[int, Field(ge=1, le=1000, description="orbital planes")]
    slots_per_plane: Annotated[int, Field(ge=1, le=1000, description="evenly spaced places in each plane")]
    altitude_km: Annotated[float, Field(ge=160, le=40_000, description="above the equator's radius")]
    ltan: str | None = Field(
        default=None, description='local time of the ascending node, like "18:00": sun-synchronous, gives both angles'
    )
    inclination_deg: Annotated[float | None, Field(ge=0, le=180, description="required without ltan")] = None
    raan_deg: Annotated[
        float | None, Field(ge=-360, le=360, description="node of the first plane; required without ltan")
    ] = None
    raan_spread_deg: Annotated[float, Field(gt=0, le=360, description="that all planes share evenly")] = 360.0
    phase_deg: Annotated[
        float, Field(ge=-360, le=360, description="by which each plane is turned against the one before")
    ] = 0.0
    first_slot_deg: Annotated[
        float, Field(ge=-360, le=360, description="place of the first slot along the orbit, at the epoch")
    ] = 0.0
    spare_slots: tuple[Annotated[int, Field(ge=1)], ...] = Field(
        default=(), strict=False, description="slots, counted from 1 in every plane, in which nobody flies"
    )

    @model_validator(mode="after")
    def _one_way_to_say_it(self) -> Self:
        if self.ltan is not None:
            if self.inclination_deg is not None or self.raan_deg is not None:
                raise fault("ltan", self.ltan, "give ltan (sun-synchronous), or inclination_deg and raan_deg")
            try:
                local_time_h(self.ltan)
            except ValueError as exc:
                raise fault("ltan", self.ltan, str(exc)) from exc
            if self.altitude_km > 5_900:
                raise fault("ltan", self.ltan, "no sun-synchronous circular orbit is higher than 5,900 km")
        elif self.inclination_deg is None or self.raan_deg is None:
            raise ValueError("a shell needs ltan (sun-synchronous), or inclination_deg and raan_deg")
        for slot in self.spare_slots:
            if slot > self.slots_per_plane:
                raise fault("spare_slots", str(slot), f"slot {slot} of {self.slots_per_plane}")
        if len(set(self.spare_slots)) >= self.slots_per_plane:
            raise ValueError("every slot is spare: nobody flies")
        return self


class Station(Strict):
    """A ground station: geodetic place, and the elevation from which a spacecraft is in contact.

    Each of its ``antennas`` serves one spacecraft at a time and needs ``acquire_s`` from pointing to a usable link
    (2 s is assumed: nobody published one).  The spacecraft's end is an antenna of its own, not one of its optical
    terminals (assumed).
    """

    name: Name
    latitude_deg: Annotated[float, Field(ge=-90, le=90, description="geodetic, north is positive")]
    longitude_deg: Annotated[float, Field(ge=-180, le=360, description="east is positive")]
    height_km: Annotated[float, Field(ge=-0.5, le=9, description="above the ellipsoid")] = 0.0
    mask_deg: Annotated[float, Field(ge=0, lt=90, description="least elevation of a contact")] = 10.0
    rate_bps: RateBps = 100_000_000
    antennas: Annotated[int, Field(ge=1, le=64, description="spacecraft served at a time")] = 1
    acquire_s: Annotated[float, Field(ge=0, le=3600, description="from pointing to a usable link")] = 2.0


class Duration(Strict):
    """A lognormal distribution of times, by its median and its 99th percentile; equal ones make a constant."""

    median_s: Annotated[float, Field(gt=0, le=3600, description="half of them are shorter")]
    p99_s: Annotated[float, Field(gt=0, le=36_000, description="99 of 100 are shorter; not below the median")]

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.p99_s < self.median_s:
            raise fault("p99_s", str(self.p99_s), f"p99_s is below the median ({self.median_s:g} s)")
        return self


class Fades(Strict):
    """Moments in which the beam misses: Poisson in time, off by default (``per_hour: 0``).

    Durations are log-uniform from ``shortest_ms`` to ``longest_ms``; 1 to 100 ms is the range that mispointing
    bursts of optical crosslinks are given.  A fade longer than ``lost_after_ms`` (50 ms, assumed) ends tracking.
    """

    per_hour: Annotated[float, Field(ge=0, le=3600, description="mean number; 0: none")] = 0.0
    shortest_ms: Annotated[float, Field(gt=0, le=10_000, description="shortest fade")] = 1.0
    longest_ms: Annotated[float, Field(gt=0, le=600_000, description="longest fade")] = 100.0
    lost_after_ms: Annotated[
        float, Field(gt=0, le=600_000, description="a longer fade loses the link: it is acquired again")
    ] = 50.0

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.longest_ms < self.shortest_ms:
            raise fault("longest_ms", str(self.longest_ms), f"below shortest_ms ({self.shortest_ms:g})")
        return self


class Terminals(Strict):
    """The optical heads of every spacecraft.

    Defaults and their sources.  ``per_spacecraft``: "at least four optical terminals" is what the operator of ten
    such spacecraft says.  ``slew_deg_per_s``: the figure of one published terminal (25 deg/s); ``settle_s``: assumed.
    ``acquire``: median 20 s, p99 100 s.  The SDA OCT standard requires at most 100 s, hopes for 10 s, and its first
    crosslink in orbit took "well under the 100 seconds, but over the 10 seconds"; other makers say 12 and 15 s.
    ``reacquire``: half of that, because the other end's place is still known (engineering choice).
    ``bit_error_rate``: what is left after coding; makers publish 1e-7 at worst.
    """

    per_spacecraft: Annotated[int, Field(ge=1, le=64, description="optical heads on each")] = 4
    slew_deg_per_s: Annotated[float, Field(gt=0, le=1000, description="how fast a head turns")] = 25.0
    settle_s: Annotated[float, Field(ge=0, le=600, description="from the end of a turn to acquisition")] = 2.0
    acquire: Annotated[Duration, Field(description="finding each other")] = Duration(median_s=20.0, p99_s=100.0)
    reacquire: Annotated[Duration, Field(description="finding each other again")] = Duration(median_s=10.0, p99_s=50.0)
    bit_error_rate: Annotated[float, Field(ge=0, le=0.01, description="left after coding, per bit")] = 1e-12
    fades: Fades = Fades()


class Crosslinks(Strict):
    """What a crosslink needs: a line of sight above ``grazing_floor_km``, and a range a terminal closes.

    80 km is where laser links fade out of the atmosphere (Alphasat TDP1: Optical Engineering 55(11) 111608).
    """

    grazing_floor_km: Annotated[float, Field(ge=0, le=1000, description="least height of the beam above the Earth")] = (
        80.0
    )
    max_range_km: Annotated[float, Field(gt=0, le=100_000, description="greatest range")] = 6_500.0
    rate_bps: RateBps = 2_500_000_000


class Guest(Strict):
    """A node from outside the constellation that spacecraft serve: a third party's satellite (``tle`` or
    ``elements_file``), or an aircraft or a drone (``track``).

    Its link takes one of its ``terminals`` and one of a spacecraft's.  A satellite needs a line of sight like a
    crosslink's.  An aircraft needs a spacecraft ``mask_deg`` above its own horizon: the beam rises from it, so that the
    Earth's limb is never in between.  Guests do not see each other, nor ground stations.  All defaults are assumed:
    those of a spacecraft's terminal, but one terminal only.
    """

    name: Name
    tle: str | None = Field(None, description="two-line elements of this one satellite")
    elements_file: str | None = Field(None, description="path, relative to this file, of its TLE or OMM")
    track: str | None = Field(
        None, description="path, relative to this file, of a CSV, GPX or CZML file: places at times"
    )
    max_range_km: Annotated[float, Field(gt=0, le=100_000, description="that its terminal closes")] = 6_500.0
    rate_bps: RateBps = 100_000_000
    mask_deg: Annotated[float, Field(ge=0, lt=90, description="least elevation seen from it; for a track")] = 10.0
    max_speed_m_per_s: Annotated[
        float, Field(gt=0, le=3_000, description="a faster jump in its track is an error; for a track")
    ] = 350.0
    terminals: Annotated[int, Field(ge=1, le=64, description="spacecraft that it can point at, at a time")] = 1
    slew_deg_per_s: Annotated[float, Field(gt=0, le=1000, description="how fast a terminal of it turns")] = 25.0
    settle_s: Annotated[float, Field(ge=0, le=600, description="from the end of a turn to acquisition")] = 2.0
    acquire: Annotated[Duration, Field(description="a spacecraft and it finding each other")] = Duration(
        median_s=20.0, p99_s=100.0
    )

    @model_validator(mode="after")
    def _one_path(self) -> Self:
        given = [key for key in ("tle", "elements_file", "track") if getattr(self, key) is not None]
        if len(given) != 1:
            raise fault("name", self.name, f"give exactly one of tle, elements_file, track (found {len(given)})")
        for key in ("mask_deg", "max_speed_m_per_s"):
            if key in self.model_fields_set and self.track is None:
                raise fault(key, str(getattr(self, key)), f"{key} is for a track; a satellite has none")
        return self


class OrbitFile(Strict):
    """An orbit file: spacecraft from one of ``shell``, ``tle`` (text) and ``elements_file`` (TLE or OMM)."""

    schema_: Annotated[Literal[1], Field(alias="schema", description="version of this format")]
    name: Name
    description: str = Field("", description="one line for people")
    epoch: str | None = Field(
        None,
        description="ISO 8601 UTC: epoch of a shell's elements (required there); contact plans start here, else at "
        "the first element set's own epoch",
    )
    shell: Shell | None = None
    tle: str | None = Field(None, description="two-line element sets, with or without name lines")
    elements_file: str | None = Field(
        None, description="path, relative to this file, of TLE lines, or of OMMs in JSON, CSV, XML or KVN"
    )
    spacecraft: tuple[Name, ...] = Field(
        (),
        strict=False,
        description="names in order of plane and slot (or of the elements); none: sc-01, sc-02, ..., or the TLE's own",
    )
    ground_stations: tuple[Station, ...] = Field((), strict=False)
    guests: tuple[Guest, ...] = Field((), strict=False, description="nodes from outside that spacecraft serve")
    crosslinks: Crosslinks = Crosslinks()
    terminals: Terminals = Terminals()
    assumed: tuple[str, ...] = Field(
        default=(), strict=False, description="values that nobody published, and why they are what they are"
    )

    @model_validator(mode="after")
    def _rules(self) -> Self:
        given = [k for k in ("shell", "tle", "elements_file") if getattr(self, k) is not None]
        if len(given) != 1:
            found = " and ".join(given) or "none of them"
            raise ValueError(f"give exactly one of shell, tle, elements_file (found {found})")
        if self.shell is not None and self.epoch is None:
            raise ValueError("a shell needs an epoch, like '2026-03-21T00:00:00Z'")
        if self.epoch is not None:
            try:
                parse_time(self.epoch)
            except ConfigurationError as exc:
                raise fault("epoch", self.epoch, f"{exc.message}; {exc.remedy}") from exc
        names = [*self.spacecraft, *(s.name for s in self.ground_stations), *(g.name for g in self.guests)]
        for name in names:
            if names.count(name) > 1:
                raise fault("name", name, f"{name} is used twice")
        return self


def load_orbit_file(path: Path) -> OrbitFile:
    """Read and check an orbit file.  Raises ConfigurationError with file, line, key and what is allowed."""
    try:
        return load_yaml(path, OrbitFile)
    except ConfigurationError as exc:
        text = path.read_bytes().decode("utf-8", "replace") if path.is_file() else ""
        if re.search(r"^gateway:", text, re.MULTILINE):
            orbit = re.search(r"^orbit:\s*\{?[^}]*?\bfile: *([^\s,}]+)", text, re.MULTILINE)
            its = f"give its orbit file: {path.parent / orbit[1]}" if orbit else "it has no orbit"
            raise ConfigurationError(f"{path}: this is a lab file, not an orbit file", remedy=its) from exc
        if path.suffix not in (".yaml", ".yml") and re.search(r"MEAN_MOTION|^1 .{67}\s*$", text, re.MULTILINE):
            raise ConfigurationError(
                f"{path}: these are elements, not an orbit file",
                remedy=f"name them in an orbit file: elements_file: {path.name}",
            ) from exc
        raise
