"""From the ``twin`` section of a lab file to the parameters of each spacecraft."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from hil.errors import ConfigurationError
from hil.lab.model import Lab
from hil.lab.twin import SkySpec, SpacecraftTwinSpec, TwinSpec
from hil.onboard.twin.modules import MODULES
from hil.onboard.twin.power_bus import BusParameters
from hil.onboard.twin.spacecraft import HeatParameters, Spacecraft

if TYPE_CHECKING:
    from hil.orbit.illumination import Sunlight


def twin_of(lab: Lab) -> TwinSpec:
    """Return the lab's section. ConfigurationError when it has none."""
    if lab.twin is None:
        raise ConfigurationError(
            f"{lab.file}: lab {lab.name} has no section twin",
            remedy="add `twin: {}`: everything in it has a default, marked assumed (docs/lab-reference.md)",
        )
    return lab.twin


def heat_parameters(spec: TwinSpec, craft: str) -> HeatParameters:
    """Return the heat parameters of a spacecraft."""
    own = spec.spacecraft.get(craft, SpacecraftTwinSpec())
    radiator, structure = own.radiator or spec.radiator, own.structure or spec.structure
    return HeatParameters(
        radiator_j_per_k=radiator.heat_capacity_j_per_k,
        radiator_m2=radiator.area_m2,
        emissivity=radiator.emissivity,
        absorptivity=radiator.absorptivity,
        earth_view=radiator.earth_view,
        sun_view=radiator.sun_view,
        **structure.model_dump(exclude={"source"}),
    )


def bus_parameters(spec: TwinSpec, craft: str) -> BusParameters:
    """Return the power parameters of a spacecraft."""
    own = spec.spacecraft.get(craft, SpacecraftTwinSpec())
    return BusParameters(**(own.bus or spec.bus).model_dump(exclude={"source"}))


def spacecraft_of(lab: Lab) -> dict[str, Spacecraft]:
    """Return the twin of every spacecraft of a lab, at rest. ConfigurationError when the lab has no section twin."""
    spec = twin_of(lab)
    return {
        craft.name: Spacecraft.of(
            heat_parameters(spec, craft.name),
            bus_parameters(spec, craft.name),
            {board.name: MODULES[board.module] for board in craft.boards},
        )
        for craft in lab.spacecraft
    }


@dataclass(frozen=True, eq=False)
class CraftSky:
    """The sunlight of a lab's spacecraft, and the row of each in it."""

    sunlight: Sunlight
    rows: dict[str, int]

    def period_s(self) -> float:
        """Return the longest turn around the Earth."""
        return float(self.sunlight.period_s.max())


def sky_of(lab: Lab, *, orbits: float = 0.0, span_s: float = 0.0, epoch: str | None = None) -> CraftSky:
    """Return the sunlight of a lab for so many turns, or seconds, from ``epoch`` (default: the lab's) on.

    From the lab's orbit, unless its section ``twin.sky`` says otherwise; a lab with neither flies at 600 km.
    """
    from hil.orbit.illumination import circular, sunlight

    names = [craft.name for craft in lab.spacecraft]
    spec = twin_of(lab).sky or (SkySpec() if lab.orbit is None else None)
    if spec is not None:
        span = max(span_s, orbits * spec.period_s)
        return CraftSky(circular(spec.period_s, spec.eclipse_s, span), dict.fromkeys(names, 0))
    from hil.orbit.elements import load_constellation
    from hil.orbit.times import parse_time

    assert lab.orbit is not None
    found = load_constellation(lab.file.parent / lab.orbit.file)
    moment = epoch or lab.orbit.epoch
    start: datetime = parse_time(moment) if moment else found.epoch
    if missing := [name for name in names if name not in found.spacecraft]:
        raise ConfigurationError(f"{lab.file}: {', '.join(missing)} is not in the orbit file {lab.orbit.file}")
    turn_s = 60 * max(2 * 3.141592653589793 / element.no_kozai for element in found.element_sets)
    seen = sunlight(found, start, max(span_s, orbits * turn_s))
    return CraftSky(seen, {name: found.spacecraft.index(name) for name in names})
