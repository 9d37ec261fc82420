"""Events: typed, documented, all emitted and all read, and readable whatever a file holds."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hil.core import paths
from hil.evidence.events import KINDS, Event, LinkCut, LinkFigure, RolloutStep, Unknown, from_record
from hil.evidence.readback import RunRecord
from hil.evidence.record import Recorder
from hil.evidence.store import measurements_of
from hil.report.analysis import Analysis
from hil.report.make import finish_run, make_report
from tests.kits.synthetic_run import build
from tests.kits.synthetic_sky import build_sky
from tools import event_table

LINE = {"t_utc": "2026-11-21T02:14:07.000Z", "mono_s": 12.5}
OLD_RUN = paths.ROOT / "tests" / "data" / "old_run"
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


def test_the_document_has_the_table_that_the_classes_make() -> None:
    text = event_table.DOCUMENT.read_text("utf-8")
    table = text.split(event_table.BEGIN)[1].split(event_table.END)[0]
    assert table == event_table.document(), "run `python -m tools.event_table --write`"


@pytest.mark.parametrize("cls", KINDS.values(), ids=KINDS)
def test_every_event_is_emitted_and_read(cls: type[Event]) -> None:
    assert event_table.emitted_by().get(cls.__name__), f"nobody emits {cls.__name__}"
    assert event_table.read_by().get(cls.__name__), f"nobody reads {cls.__name__}"


def test_a_use_is_found_by_call_match_and_isinstance() -> None:
    assert "hil/links/link_box" in event_table.emitted_by()["LinkCut"]
    assert "hil/report/timeline/link_lanes" in event_table.read_by()["LinkCut"]  # isinstance
    assert "hil/evidence/readback" in event_table.read_by()["TestEnded"]  # match
    assert "hil/report/analysis" in event_table.read_by()["TestEnded"]  # run.of


@dataclass(frozen=True)
class Tick(Event, kind="tick"):
    """An event that a campaign brought along."""

    count: int


def test_an_unknown_kind_and_an_unknown_field_are_kept(tmp_path: Path) -> None:
    with Recorder.create(tmp_path / "run", {}) as recorder:
        recorder.emit(Tick(7))
    (tick,) = RunRecord.load(tmp_path / "run").of(Unknown)
    assert (tick.name, tick.extra) == ("tick", {"count": 7})
    cut = from_record({**LINE, "kind": "link.cut", "link": "isl-ab", "colour": "red"}, 10.0)
    assert (cut, cut.t_s, cut.extra) == (LinkCut("isl-ab"), 2.5, {"colour": "red"})


def test_an_event_is_read_back_as_it_was_emitted(tmp_path: Path) -> None:
    step = RolloutStep("a1", "upload", "end", 3.25, ok=True, bytes=7, resumed_at=(1, 5))
    figure = LinkFigure("isl-ab", "a_to_b", "loss", 10_000, 9_500.0, "ppm", 2_000, True, low=8e3, high=12e3)
    with Recorder.create(tmp_path / "run", {}) as recorder:
        recorder.emit(step)
        recorder.emit(figure)
    assert RunRecord.load(tmp_path / "run").events == (step, figure)


def test_a_field_that_a_line_lacks_has_its_default() -> None:
    step = from_record({**LINE, "kind": "rollout.step", "board": "a1"}, 0.0)
    assert step == RolloutStep("a1", "", "")


@pytest.mark.parametrize("cls", KINDS.values(), ids=KINDS)
@settings(max_examples=20)
@given(data=st.data())
def test_no_value_of_any_field_raises(cls: type[Event], data: st.DataObject) -> None:
    names = [each.name for each in fields(cls) if each.init]
    damaged = data.draw(st.dictionaries(st.sampled_from([*names, "extra", "test", "t_s"]), JSON))
    event = from_record({**LINE, **damaged, "kind": cls.kind}, 0.0)
    assert isinstance(event, cls)
    json.dumps(event.fields(), default=vars)


DAMAGE: tuple[Any, ...] = (None, "text", -1, 1e300, True, [], {}, ["x"], {"a1": 3}, [[1, 2]], [{"phase": 4}])


def damaged_lines(lines: list[str], value: Any) -> Iterator[str]:
    """Every line with each of its own fields replaced in turn; the times and kinds stay."""
    for line in lines:
        record = json.loads(line)
        for key in record.keys() - {"t_utc", "mono_s", "kind", "test"}:
            yield json.dumps({**record, key: value})


@pytest.mark.parametrize("value", DAMAGE, ids=repr)
def test_damaged_evidence_still_makes_a_report(tmp_path: Path, value: Any) -> None:
    run = build_sky(tmp_path / "run") if isinstance(value, list) else build(tmp_path / "run")
    evidence = run / "evidence.jsonl"
    lines = evidence.read_text("utf-8").splitlines()
    by_kind = list({json.loads(line)["kind"]: line for line in lines}.values())
    evidence.write_text("\n".join([*lines, *damaged_lines(by_kind, value)]) + "\n", "utf-8")
    make_report(run)


def old_run(tmp_path: Path) -> Path:
    """A run as the version before typed events and dimensions recorded it."""
    return Path(shutil.copytree(OLD_RUN, tmp_path / "20261129T012430Z-six-gpu-801e"))


def test_a_run_of_an_earlier_version_still_makes_its_report(tmp_path: Path) -> None:
    directory = old_run(tmp_path)
    result, page = finish_run(directory, None)
    assert page is not None
    assert (result["verdict"], result["reason"]) == (
        "PASS",
        "22 tests demonstrated 14 requirements on the virtual bench.",
    )
    assert (result["engine"], result["state"], result["unreadable_lines"]) == ("uml 6.1.176", "finished", 0)
    assert result["duration_s"] == 85.602
    assert len(result["calibration"]) == 56
    html = page.read_text("utf-8")
    assert "OS version of a1" in html
    assert "isl-ab a → b" in html
    assert html.count('class="step c-') > 60
    assert not RunRecord.load(directory).of(LinkFigure)[0].extra
    unknown = {event.name for event in RunRecord.load(directory).of(Unknown)}
    assert unknown == {"campaign.participants"}


def test_the_link_figures_of_an_earlier_version_are_measurements_with_limits_and_dimensions(tmp_path: Path) -> None:
    result, _ = finish_run(old_run(tmp_path), None)
    test = next(t for t in result["tests"] if t["step"] == "calibration")
    p50 = next(m for m in test["measurements"] if m["name"] == "delay_p50" and m["dimensions"]["link"] == "isl-ab")
    assert p50["dimensions"] == {"link": "isl-ab", "direction": "a_to_b"}
    assert (p50["unit"], p50["limit"], p50["ok"]) == ("us", "within 150 us of 14,386 us", True)
    junit = (tmp_path / "20261129T012430Z-six-gpu-801e" / "junit.xml").read_text("utf-8")
    assert 'name="measurement.delay_p50[link=isl-ab,direction=a_to_b]"' in junit


def test_a_figure_of_a_link_that_moved_is_listed_after_what_the_tests_measured(tmp_path: Path) -> None:
    first, second = old_run(tmp_path / "a"), old_run(tmp_path / "b")
    result, _ = finish_run(first, None)
    measurements = measurements_of(result)
    for name, measured in measurements.items():
        if name.endswith("delay p50 of isl-ab a to b") or name.endswith("samples"):
            measured["value"] /= 10 if "delay" in name else 2
    past = {"verdict": "PASS", "run_id": "before", "measurements": measurements}
    (second / "history.json").write_text(json.dumps({"runs": [past]}), "utf-8")
    comparison = Analysis(RunRecord.load(second)).comparison
    assert comparison is not None
    samples, delay = comparison.values
    assert samples.name.endswith("samples") and samples.change == "+100%"
    assert delay.name == "Links deliver what was commanded: delay p50 of isl-ab a to b"
    assert delay.now.endswith(" us") and delay.change == "+900%"
