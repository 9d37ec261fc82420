"""Heat and power on the page: figures, picture, and what held a board back."""

from __future__ import annotations

from pathlib import Path

from hil.evidence.events import (
    BoardHeat,
    BoardPower,
    LinkCut,
    LinkRestored,
    StreamSample,
    TwinChange,
    TwinSample,
    TwinStarted,
    WeightsChanged,
)
from hil.evidence.readback import RunRecord
from hil.evidence.record import Recorder
from hil.report.heat import heat_section


def build(directory: Path) -> RunRecord:
    recorder = Recorder.create(directory, {})
    recorder.emit(TwinStarted(60.0, 0.3, ("radiator",), 99.0, 104.5, 5801.0))
    for k in range(10):
        hot = BoardHeat(90.0 + k, 25.0, 1.0, 0.8, "heat" if k > 6 else "compute", True, 90.0 + k, 5.0 * k, 0.5 * k)
        cool = BoardHeat(42.5, 5.0, 0.1, 1.0, "idle", True, 42.5, 0.0, 0.1 * k, 40.0)
        boards = {"a1": hot, "a2": cool}
        recorder.emit(TwinSample("sc-a", 60.0 * k, float(k < 5), 50.0, 0.9, 0.6, 300.0, 60.0, boards))
        recorder.emit(StreamSample({"sc-a": 12}, ("a2",) if k >= 8 else ()))
    recorder.emit(WeightsChanged("a2", "0" * 64))
    recorder.emit(TwinChange("a1", "throttled", "clock 93%", 99.1))
    recorder.emit(LinkCut("isl-ab"))
    recorder.emit(BoardPower("b1", "cut"))  # on the other spacecraft
    recorder.emit(LinkRestored("isl-ab"))
    recorder.close()
    return RunRecord.load(directory)


def test_the_section_says_what_each_board_did_and_what_the_figures_rest_on(tmp_path: Path) -> None:
    section = heat_section(build(tmp_path / "run"))
    hot, cool = section.rows
    assert (hot.peak_c, hot.margin_c, hot.throttled_s, hot.energy_wh) == (99.0, 0.0, 45.0, 4.5)
    assert hot.binding == "compute 70%, heat 30%"
    assert cool.binding == "idle 90%, link 10%"  # its tiles did not get through to it
    assert cool.error_c == 2.5 and section.real
    facts = dict(section.facts)
    assert facts["Time factor"].startswith("60 s of the mission")
    assert facts["Stored weights changed"].startswith("a2 (found at ")
    assert facts["Assumed"] == "radiator"
    assert "depth of discharge 40%" in facts["sc-a"]
    assert section.picture.count("eclipse") >= 1
    assert "a1 throttled" in section.picture
    assert section.picture.count("strike") == 4  # weights, throttled, and the crosslink, which is of all spacecraft
    assert all(text in section.picture for text in ("a2 stored weights changed", "link isl-ab cut", "% clock"))
    assert section.picture.count("line predicted") == 1


def test_a_run_without_a_twin_has_no_such_section(tmp_path: Path) -> None:
    Recorder.create(tmp_path / "run", {}).close()
    assert not heat_section(RunRecord.load(tmp_path / "run")).recorded
