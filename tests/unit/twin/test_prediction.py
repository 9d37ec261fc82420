"""The prediction is the twin of the bench, only faster; and the twin reproduces what was published."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest

from hil.core import paths
from hil.errors import ConfigurationError
from hil.lab.model import Lab, load_lab
from hil.lab.twin import BusSpec, RadiatorSpec, SkySpec, SpacecraftTwinSpec, StructureSpec, TwinSpec
from hil.onboard.twin.spacecraft import Demand, Sky
from hil.twin.parameters import sky_of, spacecraft_of
from hil.twin.prediction import predict
from hil.twin.traces import NX_LINE, NX_PLATEAUS, TRACES, Trace, reproduce

HOT = TwinSpec(
    radiator=RadiatorSpec(area_m2=0.09),
    structure=StructureSpec(start_c=60.0),
    bus=BusSpec(battery_wh=60.0, panel_m2=0.7),
    spacecraft={"sc-b": SpacecraftTwinSpec(bus=BusSpec(budget_w=130.0, shed_order=("b2",)))},
)


def lab(twin: TwinSpec | None, name: str = "virtual") -> Lab:
    return load_lab(Path(name)).model_copy(update={"twin": twin})


def test_the_prediction_is_what_the_spacecraft_do_step_by_step() -> None:
    """With throttling, shedding and coming back."""
    steps = 4000
    found = predict(lab(HOT), span_s=steps, every_s=1.0)
    sky = sky_of(lab(HOT), span_s=steps)
    light = sky.sunlight.at(np.arange(steps, dtype=np.float64) + 0.5)
    switched = 0
    for number, (name, craft) in enumerate(spacecraft_of(lab(HOT)).items()):
        row = sky.rows[name]
        on = dict.fromkeys(craft.boards, True)
        for k in range(steps):
            demands = {board: Demand(on=on[board], busy=1.0) for board in craft.boards}
            orders = craft.advance(demands, Sky(float(light[0][row, k]), float(light[1][row, k])), 1.0)
            junctions = list(craft.junctions_c().values())
            assert found.junction_c[number, :, k] == pytest.approx(junctions, abs=1e-6), (name, k)
            assert found.level[number, k] == pytest.approx(craft.level, abs=1e-9)
            on.update(dict.fromkeys((*orders.trip, *orders.shed), False))
            on.update(dict.fromkeys(orders.restore, True))
            switched += len(orders.shed) + len(orders.restore)
        assert found.throttled_s[number] == pytest.approx([b.throttled_s for b in craft.boards.values()], abs=1e-6)
    assert switched
    assert found.throttled_s.sum() > 100
    assert found.energy_error < 0.001


def test_forty_boards_for_a_day_take_seconds() -> None:
    kepler = load_lab(paths.lab_file(Path("kepler")))
    start = time.process_time()
    found = predict(kepler, span_s=86_400)
    assert time.process_time() - start < 10
    assert found.junction_c.shape[:2] == (10, 4)
    assert found.sunlit.min() == 1.0  # dawn-dusk in March: no eclipse
    assert found.energy_error < 0.001


def test_sunlight_of_a_lab_without_an_orbit_is_that_of_600_km() -> None:
    sky = sky_of(lab(TwinSpec()), orbits=2)
    assert np.mean(sky.sunlight.sunlit) == pytest.approx(1 - 2130 / 5801, abs=0.01)
    never = sky_of(lab(TwinSpec(sky=SkySpec(eclipse_s=0.0))), orbits=1)
    assert never.sunlight.sunlit.min() == 1.0


def test_a_lab_without_a_twin_is_told_what_to_add() -> None:
    with pytest.raises(ConfigurationError, match="has no section twin") as caught:
        predict(lab(None))
    assert "twin: {}" in caught.value.remedy


@pytest.mark.parametrize("trace", [t for t in TRACES if t.fitted], ids=lambda t: t.name)
def test_published_traces_are_reproduced(trace: Trace) -> None:
    found = reproduce(trace)
    assert abs(found.peak_error_c) <= 2
    assert found.time_error is None or abs(found.time_error) <= 0.1


def test_plateaus_of_the_orin_nx_are_reproduced() -> None:
    from hil.onboard.twin.modules import NX

    bare, slope = NX_LINE
    for _, mhz, watt, celsius in NX_PLATEAUS:
        power_w = NX.power_w(1.0, mhz / NX.top_mhz)
        assert power_w == pytest.approx(watt, rel=0.05)
        assert bare + slope * watt == pytest.approx(celsius, abs=2)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{spacecraft: {sc-x: {}}}", "sc-x is no spacecraft"),
        ("{bus: {shed_order: [z9]}}", "z9 is no board here"),
        ("{radiator: {area_m2: 0}}", "area_m2"),
    ],
)
def test_a_section_that_cannot_be_is_refused(text: str, said: str, tmp_path: Path) -> None:
    file = tmp_path / "lab.yaml"
    file.write_text(paths.lab_file(Path("virtual")).read_text() + f"\ntwin: {text}\n")
    with pytest.raises(ConfigurationError, match=said):
        load_lab(file)


def test_boards_may_be_busy_one_by_one() -> None:
    """A board without a share idles; a share for all is the same as that share for each."""
    every = predict(lab(TwinSpec()), span_s=600)
    each = predict(lab(TwinSpec()), span_s=600, busy=dict.fromkeys(("a1", "a2", "a3", "b1", "b2", "b3"), 1.0))
    assert np.array_equal(every.junction_c, each.junction_c)
    one = predict(lab(TwinSpec()), span_s=600, busy={"a1": 1.0})
    assert one.peak_c(0, 0) > one.peak_c(0, 1) + 5 > one.peak_c(1, 0) + 5


def test_a_power_mode_lowers_power_and_heat() -> None:
    full, capped = predict(lab(TwinSpec()), span_s=3600), predict(lab(TwinSpec()), span_s=3600, clock=624.0 / 1300.5)
    assert float(full.power_w[0, 0, 0]) == pytest.approx(60.0)
    assert float(capped.power_w[0, 0, -1]) == pytest.approx(30.0)
    assert capped.peak_c(0, 0) < full.peak_c(0, 0) - 10
    assert float(capped.clock.max()) == pytest.approx(624.0 / 1300.5)
