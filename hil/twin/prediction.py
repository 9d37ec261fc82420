"""The twin of a whole constellation carried ahead without a bench, all spacecraft at once in numpy.

The equations are those of :mod:`hil.onboard.twin`, with the same propagators; a test holds the two together.  Nothing
switches for most of the time: a block of steps is carried on with constant power, and done again one by one when in it
a board became hot or the battery low.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from hil.lab.model import Lab
from hil.onboard.twin.heat import STEFAN_BOLTZMANN, ZERO_C, Network, propagator
from hil.onboard.twin.modules import HYSTERESIS_C, SHUTDOWN_C, THROTTLE_C, THROTTLE_STATES, Module, clock_of
from hil.onboard.twin.power_bus import SOLAR_W_M2, shed_first, to_restore, to_shed
from hil.onboard.twin.spacecraft import ALBEDO, EARTH_INFRARED_W_M2, Spacecraft, network_of
from hil.orbit.times import Bools, Floats
from hil.twin.parameters import CraftSky, sky_of, spacecraft_of

RESTORE_EVERY_S = 60.0
BLOCK = 60
"""Steps that are tried at once."""


@dataclass(frozen=True, eq=False)
class Prediction:
    """Samples of every spacecraft: arrays (spacecraft, board, time) for boards, (spacecraft, time) for the rest.

    Rows of ``boards`` that a spacecraft does not have are NaN.
    """

    spacecraft: tuple[str, ...]
    boards: tuple[tuple[str, ...], ...]
    seconds: Floats
    junction_c: Floats
    power_w: Floats
    clock: Floats
    on: Bools
    radiator_c: Floats
    sunlit: Floats
    level: Floats
    period_s: float
    throttled_s: Floats
    energy_error: float
    """Heat received less stored less radiated, as a share of what was received; the worst spacecraft."""
    assumed: tuple[str, ...] = ()
    time_factor: float = 1.0

    def peak_c(self, craft: int, board: int) -> float:
        return float(np.nanmax(self.junction_c[craft, board]))


def predict(
    lab: Lab,
    *,
    orbits: float = 3.0,
    span_s: float = 0.0,
    step_s: float = 1.0,
    busy: float | Mapping[str, float] = 1.0,
    clock: float = 1.0,
    epoch: str | None = None,
    every_s: float = 10.0,
) -> Prediction:
    """Return what becomes of a lab's spacecraft when every board is busy for the share ``busy`` of the time.

    Shares may be given by board: one without a share idles.  ``clock``: the highest that their power mode allows, as a
    share of the module's highest.

    Over ``orbits`` turns, or ``span_s`` seconds; one sample every ``every_s``, a whole number of steps.
    """
    sky = sky_of(lab, orbits=orbits, span_s=span_s, epoch=epoch)
    steps = round((span_s or orbits * sky.period_s()) / step_s)
    fleet = _Fleet(spacecraft_of(lab), sky, step_s, busy, clock, steps)
    spec = lab.twin
    return fleet.run(max(1, round(every_s / step_s)), spec.assumed if spec else (), spec.time_factor if spec else 1.0)


class _Fleet:
    """All spacecraft, padded to the same number of boards; first axis: the spacecraft."""

    def __init__(
        self,
        crafts: Mapping[str, Spacecraft],
        sky: CraftSky,
        step_s: float,
        busy: float | Mapping[str, float],
        clock: float,
        steps: int,
    ) -> None:
        self.clocks = np.minimum(clock, [clock_of(k) for k in range(THROTTLE_STATES + 1)])
        """By state of the governor."""
        self.names, self.crafts, self.step_s, self.steps = tuple(crafts), list(crafts.values()), step_s, steps
        self.period_s = sky.period_s()
        count, most = len(self.crafts), max(len(craft.boards) for craft in self.crafts)
        self.most, self.nodes = most, 2 * most + 2
        self.has = np.array([[i < len(craft.boards) for i in range(most)] for craft in self.crafts])
        networks = [_padded(craft, most) for craft in self.crafts]
        tables = [propagator(network, step_s) for network in networks]
        self.forward = np.array([np.hstack([phi, psi]) for phi, psi in tables])
        """What turns temperatures and heat, one below the other, into the temperatures a step later."""
        self.capacity = np.array([network.capacity_j_per_k for network in networks])
        self.power_of_state = np.array(
            [
                [
                    [module.power_w(share, float(each)) for each in self.clocks]
                    for module, share in zip(_modules(craft, most), _shares(craft, most, busy), strict=True)
                ]
                for craft in self.crafts
            ]
        )
        rows = [sky.rows[name] for name in self.names]
        middles: Floats = (np.arange(steps, dtype=np.float64) + 0.5) * step_s
        self.sunlit, lit = (table[rows] for table in sky.sunlight.at(middles))
        self._lights(lit)
        self.kelvin = np.repeat(self._heat("start_c")[:, None] + ZERO_C, self.nodes, axis=1)
        self.start = self.kelvin.copy()
        self.before = self.radiates * self.kelvin[:, -1] ** 4
        self.stored = self._bus("battery_wh")
        self.state = np.zeros((count, most), dtype=np.int64)
        self.tripped, self.shed = np.zeros_like(self.has), np.zeros_like(self.has)
        self.restored_s = np.full(count, -1e9)
        self.throttled_s = np.zeros((count, most))
        self.put_in, self.gone = np.zeros(count), np.zeros(count)

    def _heat(self, name: str) -> Floats:
        return np.array([getattr(craft.heat, name) for craft in self.crafts])

    def _bus(self, name: str) -> Floats:
        return np.array([getattr(craft.bus, name) for craft in self.crafts])

    def _lights(self, lit: Floats) -> None:
        """Compute what radiator and panel receive at every step."""
        area, emits, sees = self._heat("radiator_m2"), self._heat("emissivity"), self._heat("earth_view")
        self.radiates = emits * area * STEFAN_BOLTZMANN
        light = SOLAR_W_M2 * (self._heat("sun_view")[:, None] * self.sunlit + ALBEDO * sees[:, None] * lit)
        infrared = (emits * EARTH_INFRARED_W_M2 * sees)[:, None]
        self.received = area[:, None] * (self._heat("absorptivity")[:, None] * light + infrared)
        self.made = (self._bus("panel_m2") * self._bus("panel_efficiency") * SOLAR_W_M2)[:, None] * self.sunlit
        self.limits = self._bus("battery_wh"), self._bus("budget_w"), self._bus("shed_below")
        self.losses = self._bus("charge_efficiency"), self._bus("converter_efficiency"), self._bus("platform_w")

    @property
    def on(self) -> Bools:
        return np.asarray(self.has & ~self.tripped & ~self.shed)

    def run(self, keep: int, assumed: tuple[str, ...], time_factor: float) -> Prediction:
        """Carry on to the end; every ``keep``-th step is a sample."""
        count, most, samples = len(self.crafts), self.most, -(-self.steps // keep)
        kelvin, powers = np.zeros((samples, count, self.nodes)), np.zeros((samples, count, most))
        states, level = np.zeros((samples, count, most), dtype=np.int64), np.zeros((samples, count))
        alive = np.zeros((samples, count, most), dtype=bool)
        k = 0
        while k < self.steps:
            power, state, on = self._powers(), self.state, self.on
            size = min(BLOCK, self.steps - k)
            done = self._calm(k, size, power)
            if done is None:
                size = 1
                done = self._one(k, power)
            trace, charge = done
            first = -k % keep
            for offset in range(first, size, keep):
                at = (k + offset) // keep
                kelvin[at], level[at] = trace[offset], charge[:, offset]
                powers[at], states[at], alive[at] = power, state, on
            k += size
        clocks = self.clocks[states]
        missing = ~self.has[..., None]
        junctions = np.moveaxis(kelvin[:, :, 0 : 2 * most : 2], 0, -1) - ZERO_C
        electric = np.moveaxis(powers, 0, -1)
        stored_j = (self.capacity * (self.kelvin - self.start)).sum(axis=1)
        return Prediction(
            spacecraft=self.names,
            boards=tuple(tuple(craft.boards) for craft in self.crafts),
            seconds=np.arange(0, self.steps, keep, dtype=np.float64) * self.step_s + self.step_s,
            junction_c=np.where(missing, np.nan, junctions),
            power_w=np.where(missing, np.nan, electric),
            clock=np.moveaxis(clocks, 0, -1),
            on=np.moveaxis(alive, 0, -1),
            radiator_c=kelvin[:, :, -1].T - ZERO_C,
            sunlit=self.sunlit[:, ::keep],
            level=(level / self.limits[0]).T,
            period_s=self.period_s,
            throttled_s=self.throttled_s,
            energy_error=float(np.abs((self.put_in - self.gone - stored_j) / self.put_in).max()),
            assumed=assumed,
            time_factor=time_factor,
        )

    def _powers(self) -> Floats:
        chosen = np.take_along_axis(self.power_of_state, self.state[..., None], axis=2)[..., 0]
        return np.asarray(chosen * self.on)

    def _calm(self, k: int, size: int, power: Floats) -> tuple[Floats, Floats] | None:
        """Carry on for a block in which nothing switches: (temperatures, charge in Wh); None when something would."""
        capacity, budget, low = self.limits
        drawn = power.sum(axis=1)
        if self.state.any() or self.shed.any() or (drawn > budget).any():
            return None
        charge = self._charges(k, size, drawn)
        if (charge < (low * capacity)[:, None]).any():
            return None
        trace, radiated = self._trace(k, size, power)
        if trace[:, :, 0 : 2 * self.most : 2].max() - ZERO_C >= THROTTLE_C:
            return None
        self._accept(k, size, drawn, trace, radiated, charge)
        return trace, charge

    def _one(self, k: int, power: Floats) -> tuple[Floats, Floats]:
        """Carry on by one step, and let the governor and the bus look."""
        drawn = power.sum(axis=1)
        charge = self._charges(k, 1, drawn)
        trace, radiated = self._trace(k, 1, power)
        self._accept(k, 1, drawn, trace, radiated, charge)
        self.throttled_s = self.throttled_s + ((self.state > 0) & self.on) * self.step_s
        junction, on = trace[0, :, 0 : 2 * self.most : 2] - ZERO_C, self.on
        change = (junction >= THROTTLE_C).astype(np.int64) - (junction < THROTTLE_C - HYSTERESIS_C)
        self.state = np.clip(self.state + change, 0, THROTTLE_STATES) * on
        live = on & ~self.tripped
        self.tripped = self.tripped | ((junction >= SHUTDOWN_C) & on)
        level = charge[:, 0] / self.limits[0]
        for craft in np.nonzero((drawn > self.limits[1]) | (level < self.limits[2]) | self.shed.any(axis=1))[0]:
            self._switch(int(craft), power[craft], live[craft] & ~self.tripped[craft], float(level[craft]), k)
        return trace, charge

    def _trace(self, k: int, size: int, power: Floats) -> tuple[Floats, Floats]:
        """Return temperatures after each of the steps, and what the radiators gave off before and after each, W."""
        nodes = self.nodes
        column = np.zeros((len(self.crafts), 2 * nodes, 1))
        flat = column[..., 0]
        flat[:, :nodes] = self.kelvin
        flat[:, nodes : nodes + 2 * self.most : 2] = power
        trace = np.empty((size, len(self.crafts), nodes))
        radiated = np.empty((size + 1, len(self.crafts)))
        radiated[0], before = self.radiates * self.kelvin[:, -1] ** 4, self.before
        received = np.ascontiguousarray(self.received[:, k : k + size].T)
        for i in range(size):
            now = radiated[i]
            flat[:, -1] = received[i] - 1.5 * now + 0.5 * before
            kelvin = (self.forward @ column)[..., 0]
            flat[:, :nodes] = trace[i] = kelvin
            before = now
            radiated[i + 1] = self.radiates * kelvin[:, -1] ** 4
        return trace, radiated

    def _charges(self, k: int, size: int, drawn: Floats) -> Floats:
        """Return the charge of each battery after each of the steps, Wh."""
        into, converter, platform = self.losses
        surplus = self.made[:, k : k + size] - (platform + drawn / converter)[:, None]
        gains = np.where(surplus > 0, surplus * into[:, None], surplus) * (self.step_s / 3600)
        charge, stored = np.empty_like(gains), self.stored
        for i in range(size):
            charge[:, i] = stored = np.minimum(np.maximum(stored + gains[:, i], 0.0), self.limits[0])
        return charge

    def _accept(self, k: int, size: int, drawn: Floats, trace: Floats, radiated: Floats, charge: Floats) -> None:
        self.put_in = self.put_in + (drawn * size + self.received[:, k : k + size].sum(axis=1)) * self.step_s
        self.gone = self.gone + ((radiated[:-1] + radiated[1:]) / 2).sum(axis=0) * self.step_s
        self.kelvin, self.before, self.stored = trace[-1].copy(), radiated[-2], charge[:, -1]

    def _switch(self, craft: int, power: Floats, live: Bools, level: float, k: int) -> None:
        """Shed and restore the boards of one spacecraft, as :class:`Spacecraft` does."""
        own = self.crafts[craft]
        names, bus = [*own.boards], own.bus
        watts = {name: float(power[i]) for i, name in enumerate(names) if live[i]}
        waiting = [name for name in shed_first(bus, names) if self.shed[craft, names.index(name)]]
        for name in to_shed(bus, watts, level):
            self.shed[craft, names.index(name)] = True
        now_s = (k + 1) * self.step_s
        if waiting and now_s - self.restored_s[craft] >= RESTORE_EVERY_S:
            needs_w = own.boards[waiting[-1]].module.most_w
            if back := to_restore(bus, waiting, sum(watts.values()), needs_w, level):
                self.shed[craft, names.index(back)] = False
                self.restored_s[craft] = now_s


def _padded(craft: Spacecraft, most: int) -> Network:
    """Return a spacecraft's network with boards that are not there: they have a heat capacity and no connection."""
    real, spare = len(craft.boards), most - len(craft.boards)
    own = network_of(craft.heat, real)

    def moved(node: int) -> int:
        return node if node < 2 * real else node + 2 * spare

    return Network(
        (*own.capacity_j_per_k[: 2 * real], *[1.0] * (2 * spare), *own.capacity_j_per_k[2 * real :]),
        tuple((moved(a), moved(b), watt_per_k) for a, b, watt_per_k in own.links),
        (),
        tuple((moved(node), area) for node, area in own.radiators),
    )


def _modules(craft: Spacecraft, most: int) -> list[Module]:
    own = [board.module for board in craft.boards.values()]
    return [*own, *own[:1] * (most - len(own))]


def _shares(craft: Spacecraft, most: int, busy: float | Mapping[str, float]) -> list[float]:
    """Return for how much of the time each board is busy, those that are not there included."""
    own = [busy.get(name, 0.0) if isinstance(busy, Mapping) else busy for name in craft.boards]
    return [*own, *[0.0] * (most - len(own))]
