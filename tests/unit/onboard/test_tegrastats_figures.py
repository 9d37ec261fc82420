"""The thermal and power model against figures and against an independent integration."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hil.onboard.tegrastats_figures import STEFAN_BOLTZMANN, ZERO_C, ThermalModel, rails, zones

MODEL = ThermalModel()


@pytest.mark.parametrize(("plate_c", "w_per_m2"), [(20, 356), (40, 463), (60, 594), (70, 668), (80, 750), (85, 793)])
def test_the_radiator_rejects_the_published_heat_towards_deep_space(plate_c: float, w_per_m2: float) -> None:
    model = ThermalModel(emissivity=0.85, radiator_m2=1.0, sink_k=0.0)
    assert model.radiated_w(plate_c + ZERO_C) == pytest.approx(w_per_m2, abs=1.0)


def test_one_kilogram_of_aluminium_on_a_twentieth_of_a_square_metre_has_a_time_constant_of_42_minutes() -> None:
    assert MODEL.time_constant_s(60 + ZERO_C) / 60 == pytest.approx(42, abs=1.0)


def reference(plate_k: float, power_w: float, seconds: float) -> float:
    """Classical Runge-Kutta with 0.25 s steps."""

    def rate(t: float) -> float:
        lost = MODEL.emissivity * STEFAN_BOLTZMANN * MODEL.radiator_m2 * (t**4 - MODEL.sink_k**4)
        return (power_w - lost) / MODEL.heat_capacity_j_per_k

    steps = int(seconds / 0.25)
    h = seconds / steps
    for _ in range(steps):
        a = rate(plate_k)
        b = rate(plate_k + h / 2 * a)
        c = rate(plate_k + h / 2 * b)
        d = rate(plate_k + h * c)
        plate_k += h / 6 * (a + 2 * b + 2 * c + d)
    return plate_k


@pytest.mark.parametrize("power_w", [4.5, 20.0, 40.0])
@pytest.mark.parametrize("seconds", [1.0, 60.0, 600.0])
def test_a_step_agrees_with_runge_kutta_to_a_tenth_of_a_millikelvin(power_w: float, seconds: float) -> None:
    assert MODEL.step(300.0, power_w, seconds) == pytest.approx(reference(300.0, power_w, seconds), abs=1e-4)


def test_constant_power_ends_where_it_is_radiated_away() -> None:
    settled = MODEL.step(293.0, 30.0, 20 * 3600.0)
    assert settled == pytest.approx(MODEL.equilibrium_k(30.0), abs=0.01)
    assert MODEL.radiated_w(settled) == pytest.approx(30.0, rel=1e-3)


def test_a_gap_of_ten_years_costs_no_more_than_the_equilibrium() -> None:
    assert MODEL.step(293.0, 30.0, 3e8) == MODEL.equilibrium_k(30.0)


def test_time_that_goes_back_changes_nothing() -> None:
    assert MODEL.step(300.0, 40.0, -5.0) == 300.0


@given(start=st.floats(220, 370), power=st.floats(0, 60), seconds=st.floats(0.01, 3000), share=st.floats(0.01, 0.99))
def test_two_short_steps_are_one_long_step(start: float, power: float, seconds: float, share: float) -> None:
    once = MODEL.step(start, power, seconds)
    twice = MODEL.step(MODEL.step(start, power, seconds * share), power, seconds * (1 - share))
    assert twice == pytest.approx(once, abs=1e-3)


@given(cpu=st.floats(-1, 20), gpu=st.floats(-1, 20), more=st.floats(0, 5))
def test_more_load_never_takes_less_power_and_never_more_than_the_module_may(
    cpu: float, gpu: float, more: float
) -> None:
    low, high = rails(cpu, gpu), rails(cpu + more, gpu + more)
    assert low.total_w <= high.total_w <= 40.0
    assert low.total_w >= 4.5


def test_idle_rails_are_those_of_a_real_idle_board() -> None:
    idle = rails(0.0, 0.0)
    assert (idle.vdd_gpu_soc_mw, idle.vdd_cpu_cv_mw, idle.vin_sys_5v0_mw) == (1995, 0, 2524)


def test_the_junction_is_the_hottest_zone() -> None:
    for load in (0.0, 0.5, 1.0):
        view = zones(310.0, rails(load, load), MODEL)
        assert view.tj_c == max(view.cpu_c, view.gpu_c, view.soc0_c, view.soc1_c, view.soc2_c)
        assert view.tj_c > 310.0 - ZERO_C
