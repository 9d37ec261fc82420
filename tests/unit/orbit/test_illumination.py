"""What a spacecraft sees of the Sun, against the eclipses of the chart and against geometry."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from hil.core import paths
from hil.orbit.elements import load_constellation
from hil.orbit.ellipsoid import EARTH_RADIUS_KM
from hil.orbit.illumination import circular, sunlight
from hil.orbit.times import parse_time


def test_a_dawn_dusk_orbit_has_eclipses_only_where_beta_is_small() -> None:
    ring = load_constellation(paths.lab_file(Path("kepler")).parent / "orbits/ring-of-ten.yaml")
    march, june = parse_time("2026-03-21T00:00:00Z"), parse_time("2026-06-21T00:00:00Z")
    spring, summer = (sunlight(ring, start, 6000.0) for start in (march, june))
    limit = math.degrees(math.asin(EARTH_RADIUS_KM / (EARTH_RADIUS_KM + 600)))
    assert np.abs(spring.beta_deg).min() > limit
    assert spring.sunlit.min() == 1.0
    assert np.abs(summer.beta_deg).max() < limit
    assert summer.sunlit.min() == 0.0
    dark = np.mean(summer.sunlit[0][:581] < 0.5)
    assert 0.1 < dark < 0.25  # at most about 21 % of a turn for such an orbit
    assert spring.period_s == pytest.approx(5801, abs=5)


def test_the_lit_earth_is_below_where_the_sun_is_high() -> None:
    sky = circular(5801.0, 2130.0, 5801.0, step_s=1.0)
    sunlit, lit = sky.at(np.array([0.0, 5801 / 4, 5801 / 2]))
    assert sunlit[0] == pytest.approx([1, 1, 0])
    assert lit[0] == pytest.approx([1, 0, 0], abs=0.01)
    assert circular(5801.0, 0.0, 100.0).lit_earth.max() == 0  # above the terminator
