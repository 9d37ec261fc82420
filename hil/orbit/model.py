"""What an orbit file may say (``lab/orbits/*.yaml``): strict models, units in key names."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from hil.errors import ConfigurationError
from hil.lab.yamlfile import Strict, fault, load_yaml
from hil.orbit.times import local_time_h, parse_time

Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9.-]{0,30}$")]


class Shell(Strict):
    """Circular orbits of one altitude: ``planes`` x ``slots_per_plane``, minus spare slots left empty.

    Planes are ``raan_spread_deg / planes`` apart; plane ``p`` is turned by ``p * phase_deg`` along its orbit.
    With ``ltan`` (local time of the ascending node, mean solar time at the file's epoch) the inclination is
    the sun-synchronous one and the first plane's node follows; without it, both are given.
    """

    planes: Annotated[int, Field(ge=1, le=1000)]
    slots_per_plane: Annotated[int, Field(ge=1, le=1000)]
    altitude_km: Annotated[float, Field(ge=160, le=40_000)]
    ltan: str | None = None
    inclination_deg: Annotated[float | None, Field(ge=0, le=180)] = None
    raan_deg: Annotated[float | None, Field(ge=-360, le=360)] = None
    raan_spread_deg: Annotated[float, Field(gt=0, le=360)] = 360.0
    phase_deg: Annotated[float, Field(ge=-360, le=360)] = 0.0
    first_slot_deg: Annotated[float, Field(ge=-360, le=360)] = 0.0
    spare_slots: tuple[Annotated[int, Field(ge=1)], ...] = Field((), strict=False)
    """Slots (1-based, in every plane) in which nobody flies."""

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
    """A ground station: geodetic place, and the elevation from which a spacecraft is in contact."""

    name: Name
    latitude_deg: Annotated[float, Field(ge=-90, le=90)]
    longitude_deg: Annotated[float, Field(ge=-180, le=360)]
    height_km: Annotated[float, Field(ge=-0.5, le=9)] = 0.0
    mask_deg: Annotated[float, Field(ge=0, lt=90)] = 10.0
    rate_bps: Annotated[int, Field(gt=0)] = 100_000_000


class Crosslinks(Strict):
    """What a crosslink needs: a line of sight above ``grazing_floor_km``, and a range a terminal closes.

    80 km is where laser links fade out of the atmosphere (Alphasat TDP1: Optical Engineering 55(11) 111608).
    """

    grazing_floor_km: Annotated[float, Field(ge=0, le=1000)] = 80.0
    max_range_km: Annotated[float, Field(gt=0, le=100_000)] = 6_500.0
    rate_bps: Annotated[int, Field(gt=0)] = 2_500_000_000


class OrbitFile(Strict):
    """An orbit file: spacecraft from ``shell``, from ``tle`` (text), or from ``elements_file`` (TLE or OMM)."""

    schema_: Annotated[Literal[1], Field(alias="schema")]
    name: Name
    description: str = ""
    epoch: str | None = None
    """Epoch of a shell's elements; contact plans start here (else at the first element set's own epoch)."""
    shell: Shell | None = None
    tle: str | None = None
    elements_file: str | None = None
    """Path, relative to this file, of TLE lines, an OMM in KVN, or OMMs in JSON."""
    spacecraft: tuple[Name, ...] = Field((), strict=False)
    """Names in order of plane and slot (or of the elements); empty: sc-01, sc-02, ..., or the TLE's own."""
    ground_stations: tuple[Station, ...] = Field((), strict=False)
    crosslinks: Crosslinks = Crosslinks()
    assumed: tuple[str, ...] = Field((), strict=False)
    """Values that nobody published, and why they are what they are."""

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
        names = [*self.spacecraft, *(s.name for s in self.ground_stations)]
        for name in names:
            if names.count(name) > 1:
                raise fault("name", name, f"{name} is used twice")
        return self


def load_orbit_file(path: Path) -> OrbitFile:
    """Read and check an orbit file.  Raises ConfigurationError with file, line, key and what is allowed."""
    return load_yaml(path, OrbitFile)
