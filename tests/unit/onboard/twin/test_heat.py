"""Heat between lumps against closed forms, scipy's stiff solver, and another library."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
from orbital_thermal import transient
from scipy.integrate import solve_ivp

from hil.onboard.twin.heat import STEFAN_BOLTZMANN, ZERO_C, Network, Temperatures, propagator
from hil.onboard.twin.modules import AGX
from hil.onboard.twin.spacecraft import HeatParameters, Sky, absorbed_w, heat_of, network_of
from hil.orbit.times import Floats

HEAT = HeatParameters()
ORBIT_S, ECLIPSE_S = 5801.0, 2130.0


def sky_at(second: float) -> Sky:
    """An orbit at 600 km with the Sun in its plane."""
    angle = 2 * math.pi * second / ORBIT_S
    dark = abs(second % ORBIT_S - ORBIT_S / 2) < ECLIPSE_S / 2
    return Sky(0.0 if dark else 1.0, max(0.0, math.cos(angle)))


def test_steady_temperatures_are_those_of_the_closed_form() -> None:
    """Equal boards, so nothing flows between them: radiator by Stefan-Boltzmann, the rest by its conductances."""
    powers, sky = [25.0, 25.0, 25.0], Sky(1.0, 0.2)
    network = network_of(HEAT, 3)
    heat = heat_of(HEAT, powers, sky)
    total = sum(powers) + absorbed_w(HEAT, sky)
    radiator = (total / (HEAT.emissivity * HEAT.radiator_m2 * STEFAN_BOLTZMANN)) ** 0.25
    spreader = radiator + sum(powers) / HEAT.spreader_w_per_k
    board = spreader + 25 / HEAT.board_w_per_k
    junction = board + 25 / HEAT.junction_w_per_k
    expected = [junction, board] * 3 + [spreader, radiator]
    assert network.steady_k(heat) == pytest.approx(expected, abs=1e-6)
    nodes = Temperatures(network, [ZERO_C + 20] * 8)
    for _ in range(6000):
        nodes.advance(heat, 10.0)
    assert nodes.kelvin == pytest.approx(expected, abs=0.1)


def test_two_orbits_are_those_of_a_stiff_solver_and_no_energy_is_lost() -> None:
    network = network_of(HEAT, 3)
    matrix, capacity = np.array(network.matrix()), np.array(network.capacity_j_per_k)

    def powers(second: float) -> list[float]:
        return [AGX.power_w(1.0, 1.0) if second % 1200 < 800 else AGX.idle_w, 30.0, AGX.idle_w]

    def slope(second: float, kelvin: Floats) -> Floats:
        heat = np.array(heat_of(HEAT, powers(second), sky_at(second)))
        return np.asarray(matrix @ kelvin + (heat - np.array(network.radiated_w(list(kelvin)))) / capacity)

    start = [ZERO_C + 20] * 8
    seconds = np.arange(0, 2 * ORBIT_S, 100.0)
    solved = solve_ivp(slope, (0, 2 * ORBIT_S), start, "Radau", seconds, max_step=20, rtol=1e-7, atol=1e-6)
    nodes, worst = Temperatures(network, start), 0.0
    for k in range(int(2 * ORBIT_S)):
        if k % 100 == 0:
            worst = max(worst, float(np.abs(solved.y[:, k // 100] - nodes.kelvin).max()))
        nodes.advance(heat_of(HEAT, powers(k + 0.5), sky_at(k + 0.5)), 1.0)
    assert worst < 0.1
    balance = nodes.received_j - nodes.radiated_j - nodes.stored_j(start)
    assert abs(balance) < 0.001 * nodes.received_j


def test_one_node_is_that_of_orbital_thermal() -> None:
    """A radiator alone, with the sink temperatures of that library as the heat that it receives."""
    capacity, load, emissivity = 9000.0, 300.0, 0.85
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        seconds, theirs, sink = transient.simulate(
            600.0, 0.0, load, capacity, assume_sun_shielded=True, emissivity=emissivity, solar_absorptivity=0.15
        )
    nodes = Temperatures(Network((capacity,), radiators=((0, emissivity),)), [float(theirs[0])])
    worst, step = 0.0, float(seconds[1] - seconds[0])
    for k in range(len(seconds) - 1):
        middle = (sink[k] ** 4 + sink[k + 1] ** 4) / 2
        nodes.advance([load + emissivity * STEFAN_BOLTZMANN * middle], step)
        worst = max(worst, abs(nodes.kelvin[0] - float(theirs[k + 1])))
    assert worst < 0.5


def test_a_long_step_is_as_good_as_many_short_ones() -> None:
    network = Network((5.0, 300.0), ((0, 1, 4.0),), ((1, 0.5, 290.0),))
    one, many = Temperatures(network, [300.0, 300.0]), Temperatures(network, [300.0, 300.0])
    one.advance([20.0, 0.0], 500.0)
    for _ in range(500):
        many.advance([20.0, 0.0], 1.0)
    assert one.kelvin == pytest.approx(many.kelvin, abs=1e-8)
    assert propagator(network, 1.0) is propagator(network, 1.0)


def test_a_network_that_loses_nothing_has_no_steady_state() -> None:
    with pytest.raises(ValueError, match="never becomes steady"):
        Network((1.0,)).steady_k([1.0])
