"""Contact plans: edges, extremes, blocks that join, a coarse filter that leaves nobody out."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from hil.errors import ConfigurationError
from hil.orbit.contact_plan import contact_arrays, contact_plan
from hil.orbit.elements import Constellation, load_constellation, shell_elements
from hil.orbit.geometry import elevation_deg, one_way_delay_us, range_km, states, station_teme
from hil.orbit.model import Shell
from hil.orbit.times import gmst_rad, parse_time
from tests.kits import checkout
from tests.kits.orbit_formulas import grazing_height_km

ORBITS = checkout.ROOT / "lab" / "orbits"


@pytest.fixture(scope="module")
def two() -> Constellation:
    return load_constellation(ORBITS / "two-planes.yaml")


def test_the_ring_is_one_contact_per_neighbour_for_the_whole_span() -> None:
    plan = contact_plan(load_constellation(ORBITS / "ring-of-ten.yaml"), duration_s=6000, step_s=10)
    links = [c for c in plan.contacts if c.kind == "crosslink"]
    assert len(links) == 10
    assert all(c.open_start and c.open_end and c.duration_s == 6000 for c in links)
    assert all(14_365 < c.min_delay_us < c.max_delay_us < 14_402 for c in links)
    assert {frozenset((c.a, c.b)) for c in links} == {
        frozenset((f"sc-{k:02d}", f"sc-{k % 10 + 1:02d}")) for k in range(1, 11)
    }


def test_a_crosslink_opens_and_closes_where_the_line_touches_the_floor_within_10_ms(two: Constellation) -> None:
    plan = contact_plan(two, duration_s=12_000, step_s=10)
    edges = 0
    for c in (c for c in plan.contacts if c.kind == "crosslink"):
        a, b = (two.spacecraft.index(name) for name in (c.a, c.b))
        cut = [(c.start_s, 1.0, c.open_start), (c.end_s, -1.0, c.open_end)]
        for edge_s, inward, is_cut in cut:
            if is_cut:
                continue
            place = states(two, plan.start, np.array([edge_s - inward * 0.01, edge_s + inward * 0.01])).position_km
            before, after = grazing_height_km(place[a], place[b])
            assert before < 80 <= after
            edges += 1
    assert edges > 30


def test_a_pass_begins_and_ends_at_the_mask_within_10_ms(two: Constellation) -> None:
    plan = contact_plan(two, duration_s=12_000, step_s=10)
    station = two.stations[0]
    passes = [c for c in plan.contacts if c.kind == "ground" and not (c.open_start or c.open_end)]
    assert len(passes) > 10
    for c in passes:
        moments = np.array([c.start_s - 0.01, c.start_s + 0.01, c.end_s - 0.01, c.end_s + 0.01])
        place = states(two, plan.start, moments).position_km[two.spacecraft.index(c.a)]
        up = elevation_deg(*station_teme(station, gmst_rad(plan.start, moments)), place) >= station.mask_deg
        assert up.tolist() == [False, True, True, False]


def test_delay_extremes_are_those_of_the_geometry(two: Constellation) -> None:
    plan = contact_plan(two, duration_s=6000, step_s=1)
    c = max((c for c in plan.contacts if c.kind == "crosslink"), key=lambda c: c.duration_s)
    moments = np.arange(c.start_s, c.end_s, 0.25)
    place = states(two, plan.start, moments).position_km
    delays_us = one_way_delay_us(range_km(*(place[two.spacecraft.index(n)] for n in (c.a, c.b))))
    assert c.min_delay_us == pytest.approx(delays_us.min(), abs=1)
    assert c.max_delay_us == pytest.approx(delays_us.max(), abs=10)  # the last quarter second: 31 us/s
    assert -9.3 < c.min_range_rate_km_s < 0 < c.max_range_rate_km_s < 9.3


def test_a_plan_does_not_depend_on_how_time_is_cut_into_blocks(
    two: Constellation, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = contact_plan(two, duration_s=9000, step_s=10).contacts
    monkeypatch.setattr("hil.orbit.contact_plan._ITEMS", 1)  # blocks of eight samples, pairs one by one
    assert contact_plan(two, duration_s=9000, step_s=10).contacts == whole


def test_the_coarse_filter_leaves_no_contact_out(monkeypatch: pytest.MonkeyPatch) -> None:
    epoch = parse_time("2026-03-21T00:00:00Z")
    shell = Shell(planes=9, slots_per_plane=8, altitude_km=550.0, inclination_deg=53.0, raan_deg=0.0, phase_deg=5.0)
    many = Constellation("many", epoch, tuple(f"s{k}" for k in range(72)), tuple(shell_elements(shell, epoch)))
    filtered = contact_arrays(many, epoch, duration_s=3000, step_s=20)
    monkeypatch.setattr("hil.orbit.contact_plan._ALL_PAIRS_UP_TO", 100)
    every = contact_arrays(many, epoch, duration_s=3000, step_s=20)
    assert len(every) > 500
    for column in ("a", "b", "start_s", "end_s"):
        assert np.array_equal(getattr(filtered, column), getattr(every, column))
    assert np.allclose(filtered.min_range_km, every.min_range_km, rtol=1e-9)


def test_a_terminals_range_ends_contacts_that_the_earth_would_allow(two: Constellation) -> None:
    rules = two.crosslinks.model_copy(update={"max_range_km": 3000.0})
    near = contact_plan(replace(two, crosslinks=rules), duration_s=6000, step_s=10)
    links = [c for c in near.contacts if c.kind == "crosslink"]
    assert links and max(c.max_delay_us for c in links) <= float(one_way_delay_us(3000.0)) + 0.01


@pytest.mark.parametrize(
    ("duration_s", "step_s", "words"),
    [(0, 1, "a span of 0"), (10, 0, "a step of 0"), (10, 500, "a step of 500"), (1e9, 1, "more than")],
)
def test_senseless_spans_and_steps_are_refused(
    two: Constellation, duration_s: float, step_s: float, words: str
) -> None:
    with pytest.raises(ConfigurationError, match=words):
        contact_plan(two, duration_s=duration_s, step_s=step_s)


def test_a_span_that_is_no_multiple_of_the_step_is_covered_to_its_end(two: Constellation) -> None:
    plan = contact_plan(two, duration_s=100.5, step_s=10)
    assert max(c.end_s for c in plan.contacts) == 100.5
