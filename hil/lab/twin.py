"""The ``twin`` section of a lab file: heat and power of the spacecraft, each figure with its source."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pydantic import Field

from hil.lab.yamlfile import Strict, fault

_SOURCE = Field(default="assumed", description="where the figures come from; 'assumed' when nobody published them")


class RadiatorSpec(Strict):
    """The panel that sheds the heat, and what it sees."""

    area_m2: float = Field(default=0.30, gt=0, le=100, description="the side that radiates, m2")
    emissivity: float = Field(default=0.85, gt=0, le=1, description="for its own infrared")
    absorptivity: float = Field(default=0.15, ge=0, le=1, description="for sunlight; white paint: about 0.15")
    earth_view: float = Field(default=0.20, ge=0, le=1, description="view factor to the Earth")
    sun_view: float = Field(default=0.10, ge=0, le=1, description="mean cosine of the sunlight on it")
    heat_capacity_j_per_k: float = Field(default=1340.0, gt=0, le=1e6, description="1.5 kg of aluminium: 1340")
    source: str = _SOURCE


class StructureSpec(Strict):
    """The way of the heat from a junction to the radiator."""

    junction_j_per_k: float = Field(default=12.0, gt=0, le=1e4, description="heat capacity of die and lid")
    junction_w_per_k: float = Field(default=4.0, gt=0, le=1e3, description="junction to board; 4 W/K is 0.25 K/W")
    board_j_per_k: float = Field(default=250.0, gt=0, le=1e5, description="module, plate and carrier")
    board_w_per_k: float = Field(default=3.0, gt=0, le=1e3, description="board to spreader")
    between_boards_w_per_k: float = Field(default=0.3, ge=0, le=1e3, description="neighbouring boards")
    spreader_j_per_k: float = Field(default=1340.0, gt=0, le=1e6, description="the plate under all boards")
    spreader_w_per_k: float = Field(default=12.0, gt=0, le=1e4, description="spreader to radiator, heat pipes")
    start_c: float = Field(default=20.0, ge=-60, le=90, description="temperature of everything at the start")
    source: str = _SOURCE


class BusSpec(Strict):
    """Solar panel, battery and what the bus gives to the boards."""

    panel_m2: float = Field(default=1.2, gt=0, le=1000, description="solar cells, turned to the Sun")
    panel_efficiency: float = Field(default=0.28, gt=0, le=1, description="of the cells, wiring included")
    battery_wh: float = Field(default=230.0, gt=0, le=1e6, description="what it holds when full; full at the start")
    charge_efficiency: float = Field(default=0.95, gt=0, le=1, description="from the panel into the battery")
    converter_efficiency: float = Field(default=0.9, gt=0, le=1, description="from the bus to the boards")
    platform_w: float = Field(default=25.0, ge=0, le=1e5, description="what the rest of the spacecraft draws")
    budget_w: float = Field(default=250.0, gt=0, le=1e6, description="for all boards; above it boards go off")
    shed_below: float = Field(default=0.3, ge=0, le=1, description="charge below which boards go off, one by one")
    restore_above: float = Field(default=0.5, ge=0, le=1, description="charge above which they come back")
    shed_order: tuple[str, ...] = Field(default=(), strict=False, description="boards; the others: last one first")
    source: str = _SOURCE


class SkySpec(Strict):
    """Sunlight without an orbit file: a circular orbit that passes through the shadow once per turn."""

    period_s: float = Field(default=5801.0, gt=60, le=1e6, description="600 km: 5801")
    eclipse_s: float = Field(default=2130.0, ge=0, le=1e6, description="600 km, Sun in the plane: 2130; none: 0")
    source: str = _SOURCE


class SpacecraftTwinSpec(Strict):
    """One spacecraft where it differs; a section that stands here replaces the whole section above."""

    radiator: RadiatorSpec | None = None
    structure: StructureSpec | None = None
    bus: BusSpec | None = None


class TwinSpec(Strict):
    """Heat and power of the spacecraft, in the loop on container boards; left out: boards know no heat."""

    time_factor: float = Field(
        default=1.0, gt=0, le=1000, description="seconds of the mission per second of the bench; above 1 it is printed"
    )
    loop: bool = Field(
        default=True,
        description="container boards feel it: clocks, sensors, trips, the bus. false: for predictions only",
    )
    board_cores: float | None = Field(
        default=None,
        gt=0,
        le=64,
        description="cores of this host that a container board gets at full clock; left out: 9/10 of all, shared alike",
    )
    radiator: RadiatorSpec = RadiatorSpec()
    structure: StructureSpec = StructureSpec()
    bus: BusSpec = BusSpec()
    sky: SkySpec | None = Field(
        default=None, description="sunlight of every spacecraft; left out: from the orbit, or of 600 km without one"
    )
    spacecraft: Mapping[str, SpacecraftTwinSpec] = Field(default={}, description="by name, where one differs")

    def check(self, boards: Mapping[str, Sequence[str]]) -> None:
        """Compare with the lab's boards by spacecraft. Raises the error of a validator."""
        for name, own in self.spacecraft.items():
            if name not in boards:
                raise fault("twin.spacecraft", name, f"{name} is no spacecraft; allowed: {', '.join(boards)}")
            _check_order(own.bus.shed_order if own.bus else (), boards[name])
        _check_order(self.bus.shed_order, [board for names in boards.values() for board in names])

    @property
    def assumed(self) -> tuple[str, ...]:
        """Return the sections whose figures nobody published."""
        own = {f"{craft}.{name}": getattr(spec, name) for craft, spec in self.spacecraft.items() for name in SECTIONS}
        parts = {name: getattr(self, name) for name in (*SECTIONS, "sky")} | own
        return tuple(name for name, part in parts.items() if part is not None and part.source.startswith("assumed"))


def _check_order(order: Sequence[str], boards: Sequence[str]) -> None:
    for board in order:
        if board not in boards:
            raise fault("shed_order", board, f"{board} is no board here; boards: {', '.join(boards)}")


SECTIONS = ("radiator", "structure", "bus")
