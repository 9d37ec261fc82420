"""The traps of tegrastats: what breaks public parsers, and what a bad line may at most do to ours."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hil.boards.jetson.modules import sku_of
from hil.boards.tegrastats import Engine, parse
from hil.errors import DeviceError

DATA = Path(__file__).parents[2] / "data/tegrastats_samples.txt"
SAMPLES = dict(line.split("\t", 1) for line in DATA.read_text().splitlines())
HEAD = "RAM 1/2MB (lfb 7x512kB) CPU [1%@729,off] "


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


def test_engines_are_off_busy_or_only_a_clock_and_absent_without_root() -> None:
    nano = parse(SAMPLES["JP6-NANO-sudo"]).engines
    assert nano["nvenc"] == Engine(1, 115)
    assert nano["vic"] == Engine(31, 115)
    assert nano["ape"] == Engine(None, 174)
    assert nano["nvjpg1"] is None
    padded = parse(SAMPLES["JP6-AGX-sudo"]).engines  # runs of spaces between name and value
    assert {name for name, engine in padded.items() if engine is None} == set(padded) - {"ape"}
    assert len(padded) == 10
    assert parse(SAMPLES["JP5-NX"]).engines == {"vic": Engine(None, 729), "ape": Engine(None, 174)}
    assert parse(SAMPLES["JP6-NANO-user"]).engines == {}


def test_the_first_power_figure_counts_the_others_are_averages_and_maxima() -> None:
    assert parse(SAMPLES["JP6-NANO-sudo"]).rails_mw["vdd_in"] == 17946
    assert parse(HEAD + "VDD_IN 7280mW/7000mW/9000mW").rails_mw == {"vdd_in": 7280}
    assert parse(HEAD + "VDD_IN 7280/7000").rails_mw == {"vdd_in": 7280}


@pytest.mark.parametrize(
    ("sample", "part"),
    [("JP6-AGX-sudo", "p3701-0004"), ("JP7-NX", "p3767-0000"), ("JP6-NANO-user", "p3767-0005")],
)
def test_both_sources_agree_on_what_a_boards_power_is(sample: str, part: str) -> None:
    reading = parse(SAMPLES[sample])
    assert reading.board_mw == sku_of(part).board_mw(
        {name: float(mw) for name, mw in reading.rails_mw.items()}
    )


def test_a_rail_inside_another_is_not_added() -> None:
    line = SAMPLES["JP6-AGX-sudo"] + " VDDQ_VDD2_1V8AO 604mW/604mW"
    assert parse(line).board_mw == parse(SAMPLES["JP6-AGX-sudo"]).board_mw


@pytest.mark.parametrize("core", ["5", "5%", "5%@7x9", "5%@729extra", "", "Off?"])
def test_a_torn_core_is_an_error_not_a_core_that_is_off(core: str) -> None:
    with pytest.raises(DeviceError, match="core"):
        parse(f"RAM 1/2MB CPU [1%@729,{core}]")


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(sorted(SAMPLES)), st.data())
def test_a_mangled_line_is_read_or_refused_and_never_shows_a_gated_zone(
    name: str, data: st.DataObject
) -> None:
    line = SAMPLES[name]
    start = data.draw(st.integers(0, len(line)))
    end = data.draw(st.integers(start, min(len(line), start + 60)))
    junk = data.draw(
        st.one_of(st.text(max_size=20), st.just("9" * 5000), st.sampled_from(sorted(SAMPLES.values())))
    )
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
