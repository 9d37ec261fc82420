"""What fits into the passes of a day: raw data do not, results do."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from hil.core import paths
from hil.orbit.contact_plan import contact_plan
from hil.orbit.downlink import downlink
from hil.orbit.elements import load_constellation

RAW_TILE_B, RESULT_B = 524_288, 779
"""A tile of four bands, and the mean of the reference masks' twelve tiles, packed to two bits and compressed."""


def test_nothing_is_made_from_nothing_and_raw_data_do_not_fit_where_results_do() -> None:
    ring = load_constellation(paths.lab_file(Path("kepler")).parent / "orbits/ring-of-ten.yaml")
    plan = contact_plan(ring, ring.epoch, duration_s=86_400.0, step_s=10.0)
    tiles_per_s = 8.0
    raw = downlink(plan, ring.spacecraft, tiles_per_s * RAW_TILE_B)
    results = downlink(plan, ring.spacecraft, tiles_per_s * RESULT_B)
    for found in (raw, results):
        assert found.sent + found.left == pytest.approx(found.made)
    assert raw.passes == results.passes > 10
    assert raw.sent == pytest.approx(0.9 * 100e6 / 8 * raw.contact_s, rel=0.01)  # every pass is full
    assert results.unfit == 0 < 0.7 * raw.left < raw.unfit < raw.left
    assert 0.13 < raw.fits < 0.18
    assert results.left < results.made / 2  # what was made since the last pass: the station is near the equator
    assert results.most_stored < 13 * 3600 * tiles_per_s * RESULT_B


def test_a_constellation_without_passes_keeps_everything() -> None:
    ring = load_constellation(paths.lab_file(Path("kepler")).parent / "orbits/ring-of-ten.yaml")
    plan = replace(contact_plan(ring, ring.epoch, duration_s=600.0, step_s=10.0), contacts=())
    found = downlink(plan, ring.spacecraft, 100.0)
    assert (found.sent, found.passes, found.fits) == (0.0, 0, 0.0)
    assert found.left == found.made == 600 * 100.0 * 10
