"""Geometry against an independent library (satkit) and against published and computed anchors."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
import satkit
from hypothesis import given, settings
from hypothesis import strategies as st
from sgp4.exporter import export_tle

from hil.orbit.element_files import parse_tle
from hil.orbit.elements import Constellation, load_constellation, shell_elements, sun_synchronous_inclination_deg
from hil.orbit.ellipsoid import EARTH_RADIUS_KM
from hil.orbit.geometry import (
    elevation_deg,
    one_way_delay_us,
    range_km,
    states,
    station_earth_fixed,
    sub_satellite_deg,
    to_earth_fixed,
)
from hil.orbit.model import Shell, Station
from hil.orbit.sun import sun_km, sunlit_fraction
from hil.orbit.times import gmst_rad
from tests.kits import checkout
from tests.kits.orbit_formulas import beta_deg, grazing_height_km, line_of_sight, longest_crosslink_km, range_rate_km_s

ORBITS = checkout.ROOT / "lab" / "orbits"
NOW = np.zeros(1)
ORBIT_S = np.arange(0.0, 5802.0, 10.0)
EPOCH = datetime(2026, 3, 21, tzinfo=UTC)


@pytest.fixture(scope="module")
def ring() -> Constellation:
    return load_constellation(ORBITS / "ring-of-ten.yaml")


def satkit_times(seconds: np.ndarray) -> list[satkit.time]:
    return [satkit.time.from_datetime(EPOCH + timedelta(seconds=float(s))) for s in seconds]


def test_neighbour_range_and_rate_agree_with_an_independent_sgp4_at_a_thousand_random_epochs(
    ring: Constellation,
) -> None:
    lines = [export_tle(found) for found in ring.element_sets[:2]]
    names, sets = parse_tle([line for pair in lines for line in pair], where="test")
    both = Constellation("two", EPOCH, tuple(names), tuple(sets))
    # Whole milliseconds: both libraries get the very same instants.
    seconds = np.random.default_rng(7).integers(0, 10 * 86_400_000, 1000) / 1000
    ours = states(both, EPOCH, seconds)
    times = satkit_times(seconds)
    (pa, va), (pb, vb) = (satkit.sgp4(satkit.TLE.from_lines(list(pair))[0], times) for pair in lines)
    wanted = np.linalg.norm(pb - pa, axis=1) / 1000
    got = range_km(*ours.position_km)
    assert np.max(np.abs(got / wanted - 1)) < 1e-6
    assert np.max(np.linalg.norm(ours.position_km[0] - pa / 1000, axis=1)) / 7000 < 1e-6
    rate = np.sum((pb - pa) * (vb - va), axis=1) / np.linalg.norm(pb - pa, axis=1) / 1000
    (a, b), (a_s, b_s) = ours.position_km, ours.velocity_km_s
    assert np.max(np.abs(range_rate_km_s(a, a_s, b, b_s) - rate)) < 1e-6


def test_the_sun_and_its_eclipses_agree_with_an_independent_library() -> None:
    seconds = np.random.default_rng(8).integers(0, 365 * 86_400, 300).astype(float)
    ours = sun_km(EPOCH, seconds)
    wanted = np.array([satkit.sun.pos_mod(t) for t in satkit_times(seconds)]) / 1000
    cosine = np.sum(ours * wanted, axis=1) / np.linalg.norm(ours, axis=1) / np.linalg.norm(wanted, axis=1)
    assert np.degrees(np.arccos(np.clip(cosine, -1, 1))).max() < 0.015
    assert np.max(np.abs(np.linalg.norm(ours, axis=1) / np.linalg.norm(wanted, axis=1) - 1)) < 2e-4

    noon = load_constellation(ORBITS / "two-planes.yaml")
    places = states(noon, EPOCH, ORBIT_S).position_km[2]
    sun = sun_km(EPOCH, ORBIT_S)
    fractions = sunlit_fraction(places, sun)
    reference = [satkit.sun.shadowfunc(s * 1000, p * 1000) for s, p in zip(sun, places, strict=True)]
    assert np.abs(fractions - np.array(reference)).max() < 2e-3  # radii of Sun and Earth differ a little
    assert fractions.min() == 0 and fractions.max() == 1


def test_sidereal_time_and_a_stations_place_agree_with_an_independent_library() -> None:
    seconds = np.arange(0, 86_400 * 30, 7_777.0)
    wanted = np.array([satkit.frametransform.gmst(t) for t in satkit_times(seconds)])
    apart = (gmst_rad(EPOCH, seconds) - wanted + math.pi) % (2 * math.pi) - math.pi
    assert np.abs(apart).max() < 1e-6
    place, _ = station_earth_fixed(Station(name="gs", latitude_deg=-33.1, longitude_deg=18.4, height_km=1.2))
    wanted_m = satkit.itrfcoord(latitude_deg=-33.1, longitude_deg=18.4, altitude=1200.0).vector
    assert np.abs(1000 * place - wanted_m).max() < 1e-3


def test_neighbours_of_the_ring_of_ten_are_4312_7_km_and_14_386_ms_apart(ring: Constellation) -> None:
    circular_km = 2 * (EARTH_RADIUS_KM + 600) * math.sin(math.radians(18))
    assert circular_km == pytest.approx(4312.7, abs=0.05)
    assert float(one_way_delay_us(circular_km)) == pytest.approx(14_386, abs=0.5)
    found = states(ring, ring.epoch, ORBIT_S)
    for k in range(10):
        apart = range_km(found.position_km[k], found.position_km[(k + 1) % 10])
        assert 4307 < apart.min() < apart.max() < 4318
        assert apart.mean() == pytest.approx(4312.7, abs=1.5)
        delay_us = one_way_delay_us(apart)
        assert delay_us.max() - delay_us.min() == pytest.approx(30, abs=2)


def test_a_ring_of_ten_sees_its_neighbours_and_nobody_beyond(ring: Constellation) -> None:
    place = states(ring, ring.epoch, ORBIT_S).position_km
    assert line_of_sight(place[0], place[1]).all()
    assert grazing_height_km(place[0], place[1]).min() > 240
    assert not line_of_sight(place[0], place[2]).any()
    assert grazing_height_km(place[0], place[2]).max() == pytest.approx(-733, abs=15)


def test_nine_active_spacecraft_are_15_92_ms_apart_and_see_their_neighbours() -> None:
    nine = load_constellation(ORBITS / "nine-plus-spare.yaml")
    place = states(nine, nine.epoch, ORBIT_S).position_km
    for k in range(9):
        a, b = place[k], place[(k + 1) % 9]
        assert one_way_delay_us(range_km(a, b)).mean() / 1000 == pytest.approx(15.92, abs=0.01)
        assert line_of_sight(a, b).all()


def test_delays_between_two_planes_move_by_up_to_31_us_per_second() -> None:
    two = load_constellation(ORBITS / "two-planes.yaml")
    found = states(two, two.epoch, ORBIT_S)
    (pa, va), (pb, vb) = ((found.position_km[k], found.velocity_km_s[k]) for k in (0, 5))
    sees = line_of_sight(pa, pb)
    us_per_s = np.abs(one_way_delay_us(range_rate_km_s(pa, va, pb, vb)))[sees].max()
    assert us_per_s == pytest.approx(31, abs=0.5)
    assert sees.mean() == pytest.approx(0.35, abs=0.02)
    assert not line_of_sight(found.position_km[0], found.position_km[1]).any()  # 72 degrees in one plane


@pytest.mark.parametrize(
    ("altitude_km", "inclination_deg", "longest_km"),
    [(500, 97.40, 4733), (550, 97.59, 5017), (600, 97.79, 5287), (650, 97.99, 5545)],
)
def test_sun_synchronous_inclination_and_longest_crosslink_by_altitude(
    altitude_km: float, inclination_deg: float, longest_km: float
) -> None:
    assert sun_synchronous_inclination_deg(altitude_km) == pytest.approx(inclination_deg, abs=0.006)
    assert longest_crosslink_km(altitude_km) == pytest.approx(longest_km, abs=1)


# The equation of time keeps a node at 18:00 mean time 3 degrees off the Sun when its declination is -7.8 degrees.
@pytest.mark.parametrize(("ltan", "highest_beta_deg"), [("06:00", 89.8), ("18:00", 87.0)])
def test_a_dawn_dusk_year_has_270_days_without_eclipse_and_at_worst_20_7_minutes(
    ltan: str, highest_beta_deg: float
) -> None:
    shell = Shell(planes=1, slots_per_plane=1, altitude_km=600.0, ltan=ltan)
    one = Constellation("one", EPOCH, ("a",), tuple(shell_elements(shell, EPOCH)))
    noon = np.arange(0, 365.0) * 86_400
    found = states(one, EPOCH, noon)
    beta = np.abs(beta_deg(found.position_km[0], found.velocity_km_s[0], sun_km(EPOCH, noon)))
    assert beta.min() == pytest.approx(58.8, abs=0.3)
    assert beta.max() == pytest.approx(highest_beta_deg, abs=0.2)
    eclipse_free_deg = math.degrees(math.asin(EARTH_RADIUS_KM / (EARTH_RADIUS_KM + 600)))
    assert (beta > eclipse_free_deg).sum() == pytest.approx(270, abs=8)
    worst = float(noon[beta.argmin()]) + ORBIT_S
    lit = sunlit_fraction(states(one, EPOCH, worst).position_km[0], sun_km(EPOCH, worst))
    assert (lit < 0.5).sum() * 10 / 60 == pytest.approx(20.7, abs=0.6)


def test_a_spacecraft_straight_above_a_station_stands_at_90_degrees(ring: Constellation) -> None:
    seconds = np.array([1234.5])
    place = states(ring, EPOCH, seconds).position_km[0]
    latitude, longitude = sub_satellite_deg(place, EPOCH, seconds)
    below = Station(name="gs", latitude_deg=float(latitude[0]), longitude_deg=float(longitude[0]))
    fixed = to_earth_fixed(place, gmst_rad(EPOCH, seconds))
    assert elevation_deg(*station_earth_fixed(below), fixed)[0] == pytest.approx(90, abs=1e-4)


def test_spare_slots_stay_empty() -> None:
    shell = Shell(planes=2, slots_per_plane=5, altitude_km=600.0, inclination_deg=53.0, raan_deg=0.0, spare_slots=(5,))
    along = [round(math.degrees(s.mo)) for s in shell_elements(shell, EPOCH)]
    assert along == [0, 72, 144, 216] * 2


vectors = st.tuples(*[st.floats(-1, 1)] * 3).filter(lambda v: sum(x * x for x in v) > 0.01)
heights = st.floats(200, 2000)


@settings(max_examples=200, deadline=None)
@given(vectors, vectors, heights, heights)
def test_sight_is_mutual_and_a_line_never_runs_higher_than_its_lower_end(
    a: tuple[float, ...], b: tuple[float, ...], height_a: float, height_b: float
) -> None:
    pa, pb = (np.array(v) / np.linalg.norm(v) * (EARTH_RADIUS_KM + h) for v, h in ((a, height_a), (b, height_b)))
    assert grazing_height_km(pa, pb) == pytest.approx(float(grazing_height_km(pb, pa)), abs=1e-6)
    assert grazing_height_km(pa, pb) <= min(height_a, height_b) + 1e-6


@settings(max_examples=200, deadline=None)
@given(vectors, heights)
def test_sunlight_is_a_share_and_the_day_side_has_all_of_it(v: tuple[float, ...], height: float) -> None:
    place = np.array([v]) / np.linalg.norm(v) * (EARTH_RADIUS_KM + height)
    sun = sun_km(EPOCH, NOW)
    share = float(sunlit_fraction(place, sun)[0])
    assert 0 <= share <= 1
    if float(np.sum(place * sun)) > 0:
        assert share == 1
