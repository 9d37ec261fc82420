"""One spacecraft: its boards' heat and power from step to step, and what that makes of them.

Nodes: junction and board of every board, then the spreader that all boards sit on, then the radiator.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from hil.onboard.twin import power_bus
from hil.onboard.twin.heat import ZERO_C, Network, Temperatures
from hil.onboard.twin.modules import SHUTDOWN_C, THROTTLE_STATES, Module, clock_of, next_state
from hil.onboard.twin.power_bus import SOLAR_W_M2, Battery, BusParameters

EARTH_INFRARED_W_M2 = 237.0
ALBEDO = 0.30
"""Means of the Earth (Gilmore, Spacecraft Thermal Control Handbook, vol. 1, ch. 2)."""
CONTROL_S = 1.0
"""How often the governor looks, in seconds of the mission."""


@dataclass(frozen=True)
class HeatParameters:
    """Of one spacecraft, in SI units; where each figure comes from stands in the lab file."""

    junction_j_per_k: float = 12.0
    junction_w_per_k: float = 4.0
    """From the junction to the board: 0.25 K/W."""
    board_j_per_k: float = 250.0
    board_w_per_k: float = 3.0
    """From a board to the spreader."""
    between_boards_w_per_k: float = 0.3
    spreader_j_per_k: float = 1340.0
    spreader_w_per_k: float = 12.0
    """From the spreader to the radiator."""
    radiator_j_per_k: float = 1340.0
    radiator_m2: float = 0.30
    emissivity: float = 0.85
    absorptivity: float = 0.15
    earth_view: float = 0.20
    """View factor from the radiator to the Earth."""
    sun_view: float = 0.10
    """Share of the sunlight that falls on the radiator, as a mean of cosines."""
    start_c: float = 20.0


@dataclass(frozen=True)
class Sky:
    """What the spacecraft sees: share of the Sun's disc, and share of the Earth below that is lit (cosine)."""

    sunlit: float = 1.0
    lit_earth: float = 0.0


@dataclass(frozen=True)
class Demand:
    """What a board does: whether it has power, for what share of the time it is busy, and its own cap of the clock."""

    on: bool = True
    busy: float = 0.0
    cap: float = 1.0
    power_w: float | None = None
    """What a real board's own rails say; it then counts instead of the table's."""


@dataclass
class BoardState:
    """One board as it is after the last step."""

    module: Module
    power_w: float = 0.0
    clock: float = 1.0
    state: int = 0
    on: bool = True
    busy: float = 0.0
    cap: float = 1.0
    tripped: bool = False
    shed: bool = False
    peak_c: float = -ZERO_C
    throttled_s: float = 0.0
    energy_j: float = 0.0

    @property
    def binding(self) -> str:
        """Return what holds it back now."""
        return binding(self.tripped or self.state > 0, self.on and not self.shed, self.busy, self.cap)


def binding(hot: bool, on: bool, busy: float, clock: float) -> str:
    """Return what holds a board back: heat, power (its OS caps it, too), compute (all of it is used), or idle."""
    if hot:
        return "heat"
    if not on:
        return "power"
    if busy < 0.9:
        return "idle"
    return "power" if clock < 0.999 else "compute"


@dataclass(frozen=True)
class Orders:
    """What has to happen to boards now, by name."""

    trip: tuple[str, ...] = ()
    shed: tuple[str, ...] = ()
    restore: tuple[str, ...] = ()


@dataclass
class Spacecraft:
    """The runner's state of one spacecraft: ``advance`` carries it on."""

    heat: HeatParameters
    bus: BusParameters
    boards: dict[str, BoardState]
    temperatures: Temperatures
    battery: Battery
    seconds: float = 0.0
    sky: Sky = field(default_factory=Sky)
    _control_s: float = 0.0
    _restored_s: float = -1e9

    @classmethod
    def of(cls, heat: HeatParameters, bus: BusParameters, modules: Mapping[str, Module]) -> Spacecraft:
        """Return a spacecraft at rest, all of it at ``start_c``, its battery full."""
        network = network_of(heat, len(modules))
        temperatures = Temperatures(network, [heat.start_c + ZERO_C] * len(network))
        boards = {name: BoardState(module) for name, module in modules.items()}
        return cls(heat, bus, boards, temperatures, Battery(bus.battery_wh, bus.battery_wh))

    @property
    def level(self) -> float:
        """Charge of the battery, 0 to 1."""
        return self.battery.charge_wh / self.bus.battery_wh

    @property
    def boards_w(self) -> float:
        return sum(board.power_w for board in self.boards.values())

    def junction_c(self, name: str) -> float:
        """Return a board's junction temperature, C."""
        return self.temperatures.kelvin[2 * [*self.boards].index(name)] - ZERO_C

    def junctions_c(self) -> dict[str, float]:
        return {name: self.temperatures.kelvin[2 * i] - ZERO_C for i, name in enumerate(self.boards)}

    def boards_c(self) -> dict[str, float]:
        return {name: self.temperatures.kelvin[2 * i + 1] - ZERO_C for i, name in enumerate(self.boards)}

    @property
    def radiator_c(self) -> float:
        return self.temperatures.kelvin[-1] - ZERO_C

    def advance(self, demands: Mapping[str, Demand], sky: Sky, seconds: float) -> Orders:
        """Carry heat, battery and clocks on; return what boards must be told. At most ``CONTROL_S`` per governor step.

        A board that is cut off or shed stays so until its demand says that it has power again: who wants it back
        after a trip must switch it on.
        """
        self.sky = sky
        self._demand(demands)
        powers = [board.power_w for board in self.boards.values()]
        self.temperatures.advance(heat_of(self.heat, powers, sky), seconds)
        level = power_bus.charge(self.bus, self.battery, sum(powers), sky.sunlit, seconds)
        self.seconds += seconds
        junctions = self.junctions_c()
        for name, junction in junctions.items():
            board = self.boards[name]
            board.peak_c = max(board.peak_c, junction)
            board.energy_j += board.power_w * seconds
            board.throttled_s += seconds if board.state else 0.0
        self._control_s += seconds
        trips = self._govern(junctions)
        return Orders(trips, *self._switch(level))

    def _demand(self, demands: Mapping[str, Demand]) -> None:
        for name, board in self.boards.items():
            wants = demands.get(name, Demand(on=False))
            if wants.on and not board.on:
                board.tripped = board.shed = False
            if not wants.on:
                board.state = 0
            board.on, board.busy, board.cap = wants.on, min(1.0, max(0.0, wants.busy)), wants.cap
            board.clock = min(board.cap, clock_of(board.state))
            drawn_w = board.module.power_w(board.busy, board.clock) if wants.power_w is None else wants.power_w
            board.power_w = drawn_w if board.on else 0.0

    def _govern(self, junctions_c: Mapping[str, float]) -> tuple[str, ...]:
        """Step the governor for every second that has passed; return the boards that reached the shutdown trip."""
        steps = int(self._control_s / CONTROL_S + 1e-9)
        self._control_s -= steps * CONTROL_S
        trips = []
        for name, junction in junctions_c.items():
            board = self.boards[name]
            if not board.on:
                continue
            for _ in range(min(steps, THROTTLE_STATES)):
                board.state = next_state(board.state, junction)
            if junction >= SHUTDOWN_C and not board.tripped:
                board.tripped = True
                trips.append(name)
        return tuple(trips)

    def _switch(self, level: float) -> tuple[tuple[str, ...], tuple[str, ...]]:
        live = {n: b.power_w for n, b in self.boards.items() if b.on and not b.tripped and not b.shed}
        shed = power_bus.to_shed(self.bus, live, level)
        for name in shed:
            self.boards[name].shed = True
        order = power_bus.shed_first(self.bus, [*self.boards])
        waiting = [name for name in order if self.boards[name].shed and not self.boards[name].on]
        back = ""
        if waiting and self.seconds - self._restored_s >= 60 * CONTROL_S:
            needs_w = self.boards[waiting[-1]].module.most_w
            back = power_bus.to_restore(self.bus, waiting, sum(live.values()), needs_w, level)
            if back:
                self._restored_s = self.seconds
        return tuple(shed), (back,) if back else ()


def network_of(heat: HeatParameters, boards: int) -> Network:
    """Return the nodes and conductances of a spacecraft with so many boards, which stand in a row."""
    capacities: list[float] = []
    links: list[tuple[int, int, float]] = []
    spreader, radiator = 2 * boards, 2 * boards + 1
    for i in range(boards):
        capacities += [heat.junction_j_per_k, heat.board_j_per_k]
        links += [(2 * i, 2 * i + 1, heat.junction_w_per_k), (2 * i + 1, spreader, heat.board_w_per_k)]
        if i and heat.between_boards_w_per_k:
            links.append((2 * i - 1, 2 * i + 1, heat.between_boards_w_per_k))
    links.append((spreader, radiator, heat.spreader_w_per_k))
    capacities += [heat.spreader_j_per_k, heat.radiator_j_per_k]
    return Network(tuple(capacities), tuple(links), (), ((radiator, heat.emissivity * heat.radiator_m2),))


def absorbed_w(heat: HeatParameters, sky: Sky) -> float:
    """Return what the radiator receives from Sun, Earth and the sunlight that the Earth sends back, W."""
    sunlight = SOLAR_W_M2 * (heat.sun_view * sky.sunlit + ALBEDO * heat.earth_view * sky.lit_earth)
    infrared = EARTH_INFRARED_W_M2 * heat.earth_view
    return heat.radiator_m2 * (heat.absorptivity * sunlight + heat.emissivity * infrared)


def heat_of(heat: HeatParameters, powers_w: Sequence[float], sky: Sky) -> list[float]:
    """Return the heat put into each node, W: all of a board's electrical power becomes heat in its junction."""
    received = [watt for power in powers_w for watt in (power, 0.0)]
    return [*received, 0.0, absorbed_w(heat, sky)]
