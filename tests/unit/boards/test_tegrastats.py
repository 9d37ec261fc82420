"""The tegrastats parser on eight real lines."""

from __future__ import annotations

from pathlib import Path

import pytest

from hil.boards.tegrastats import parse
from hil.errors import DeviceError

SAMPLES = dict(
    line.split("\t", 1)
    for line in (Path(__file__).parents[2] / "data/tegrastats_samples.txt").read_text().splitlines()
)


def test_there_are_eight_samples() -> None:
    assert len(SAMPLES) == 8


# name: RAM used, cores on, cores, GPU %, GPU MHz, EMC %, tj, board mW
EXPECTED = {
    "JP5-NX": (6334, 4, 8, 0, 611, 0, 48.875, 5299),
    "JP5-AGX": (2257, 12, 12, 0, None, 0, 41.468, None),
    "JP6-AGX-sudo": (29114, 12, 12, 0, 305, 1, 53.062, 3205 + 4405 + 4767),
    "JP6-AGX-user": (1313, 8, 12, 0, None, None, 43.343, 1995 + 0 + 2524),
    "JP6-NANO-sudo": (6982, 6, 6, 84, 713, 18, 65.562, 17946),
    "JP6-NANO-user": (3452, 6, 6, 0, None, None, 50.25, 4824),
    "JP7-AGX": (20642, 12, 12, 12, 1300, 3, None, 5139 + 3268 + 5500),
    "JP7-NX": (2432, 6, 8, 0, None, None, 59.687, 7280),
}


@pytest.mark.parametrize("name", EXPECTED)
def test_every_real_line_is_read(name: str) -> None:
    reading = parse(SAMPLES[name])
    on = [core for core in reading.cores if core]
    found = (
        reading.ram_used_mb,
        len(on),
        len(reading.cores),
        reading.gpu_load_percent,
        reading.gpu_mhz,
        reading.emc_load_percent,
        reading.zones_c.get("tj"),
        reading.board_mw,
    )
    assert found == EXPECTED[name]


def test_a_gated_zone_is_absent_never_minus_256() -> None:
    reading = parse(SAMPLES["JP5-AGX"])
    assert "gpu" not in reading.zones_c
    assert "cv0" not in reading.zones_c
    assert {"cpu", "tboard", "soc2", "tdiode", "soc0", "tj", "soc1"} == set(reading.zones_c)


def test_engines_and_clocks_are_not_taken_for_zones_or_rails() -> None:
    reading = parse(SAMPLES["JP6-NANO-sudo"])
    assert set(reading.zones_c) == {"cv0", "cpu", "soc2", "soc0", "cv1", "gpu", "tj", "soc1", "cv2"}
    assert reading.rails_mw == {"vdd_in": 17946, "vdd_cpu_gpu_cv": 8896, "vdd_soc": 3923}


def test_readings_carry_their_units() -> None:
    sensors = parse(SAMPLES["JP6-AGX-sudo"]).sensors()
    assert sensors["tj_c"] == 53.062
    assert sensors["vin_sys_5v0_mw"] == 4767
    assert sensors["cpu_load_percent"] == pytest.approx((3 + 4 + 0 + 1 + 0 + 100 + 1 + 0 + 100) / 12)


@pytest.mark.parametrize("line", ["", "hello", "RAM 1/2MB but no cores", "CPU [1%@2]"])
def test_what_is_no_tegrastats_line_is_refused(line: str) -> None:
    with pytest.raises(DeviceError, match="not a tegrastats line"):
        parse(line)
