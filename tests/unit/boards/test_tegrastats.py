"""The tegrastats parser: eight real lines, what breaks public parsers, and what a bad line may at most do to ours."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hil.boards.jetson.modules import sku_of
from hil.boards.tegrastats import parse
from hil.errors import DeviceError
from tests.kits import checkout

SAMPLES = dict(line.split("\t", 1) for line in (checkout.DATA / "tegrastats_samples.txt").read_text().splitlines())
HEAD = "RAM 1/2MB (lfb 7x512kB) CPU [1%@729,off] "


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


@pytest.mark.parametrize(
    ("text", "load", "mhz"),
    [
        ("GR3D_FREQ 7%", 7, None),
        ("GR3D_FREQ 7%@611", 7, 611),
        ("GR3D_FREQ 7%@[713]", 7, 713),
        ("GR3D_FREQ 7%@[305,611]", 7, 611),
        ("GR3D_FREQ @[1575,1574,1575]", None, 1575),
        ("GR3D_FREQ off", None, None),
        ("", None, None),
    ],
)
def test_every_form_of_the_gpu_is_read(text: str, load: int | None, mhz: int | None) -> None:
    reading = parse(HEAD + text + " cpu@40C")
    assert (reading.gpu_load_percent, reading.gpu_mhz) == (load, mhz)


def test_the_first_power_figure_counts_the_others_are_averages_and_maxima() -> None:
    assert parse(SAMPLES["JP6-NANO-sudo"]).rails_mw["vdd_in"] == 17946
    assert parse(HEAD + "VDD_IN 7280mW/7000mW/9000mW").rails_mw == {"vdd_in": 7280}
    assert parse(HEAD + "VDD_IN 7280/7000").rails_mw == {"vdd_in": 7280}


@pytest.mark.parametrize(
    ("sample", "part"), [("JP6-AGX-sudo", "p3701-0004"), ("JP7-NX", "p3767-0000"), ("JP6-NANO-user", "p3767-0005")]
)
def test_both_sources_agree_on_what_a_boards_power_is(sample: str, part: str) -> None:
    reading = parse(SAMPLES[sample])
    assert reading.board_mw == sku_of(part).board_mw({name: float(mw) for name, mw in reading.rails_mw.items()})


def test_a_rail_inside_another_is_not_added() -> None:
    line = SAMPLES["JP6-AGX-sudo"] + " VDDQ_VDD2_1V8AO 604mW/604mW"
    assert parse(line).board_mw == parse(SAMPLES["JP6-AGX-sudo"]).board_mw


@pytest.mark.parametrize("core", ["5", "5%", "5%@7x9", "5%@729extra", "", "Off?"])
def test_a_torn_core_is_an_error_not_a_core_that_is_off(core: str) -> None:
    with pytest.raises(DeviceError, match="core"):
        parse(f"RAM 1/2MB CPU [1%@729,{core}]")


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(sorted(SAMPLES)), st.data())
def test_a_mangled_line_is_read_or_refused_and_never_shows_a_gated_zone(name: str, data: st.DataObject) -> None:
    line = SAMPLES[name]
    start = data.draw(st.integers(0, len(line)))
    end = data.draw(st.integers(start, min(len(line), start + 60)))
    junk = data.draw(st.one_of(st.text(max_size=20), st.just("9" * 5000), st.sampled_from(sorted(SAMPLES.values()))))
    try:
        reading = parse(line[:start] + junk + line[end:])
    except DeviceError:
        return
    assert all(value > -256 for value in reading.zones_c.values())
    assert all(isinstance(value, float) for value in reading.sensors().values())


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=400))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        parse(text)
    except DeviceError as exc:
        assert "not a tegrastats line" in exc.message


@pytest.mark.parametrize(
    ("name", "mhz", "board_mw"),
    [
        ("39-tegrastats-jp5-nx.txt", 611.0, 5299.0),
        ("41-tegrastats-jp7.txt", 1300.0, None),
        ("42-tegrastats-nano-super.txt", 1020.0, 4567.0),
    ],
)
def test_lines_of_others_are_read(name: str, mhz: float, board_mw: float | None) -> None:
    (line,) = (checkout.DATA / "cases" / name).read_text().splitlines()
    seen = parse(line)
    assert (seen.gpu_load_percent, seen.gpu_mhz, seen.board_mw) == (0, mhz, board_mw)
