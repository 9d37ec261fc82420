"""The timeline as data: bars, power, outages, claims."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from hil.core.svg import round_step
from hil.evidence.readback import RunRecord
from hil.report.timeline.drawing import timeline_svg
from hil.report.timeline.lanes import Lanes, category_of, lanes_of


def _lanes(folder: Path, *events: dict[str, Any], end_s: float = 20.0) -> Lanes:
    meta = {
        "mono_start_s": 100.0,
        "boards": {"a1": {"spacecraft": "sc-a"}, "b1": {"spacecraft": "sc-b"}},
        "links": {"isl-ab": {}},
    }
    (folder / "run.json").write_text(json.dumps(meta), "utf-8")
    lines = [{"t_utc": "x", "mono_s": 100.0 + e.pop("at"), **e} for e in [dict(e) for e in events]]
    lines.append({"t_utc": "x", "mono_s": 100.0 + end_s, "kind": "run.end"})
    (folder / "evidence.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
    return lanes_of(RunRecord.load(folder))


def _step(at: float, phase: str, step: str = "install", board: str = "a1", **more: Any) -> dict[str, Any]:
    return {"at": at, "kind": "rollout.step", "board": board, "step": step, "phase": phase, **more}


def _power(at: float, action: str) -> dict[str, Any]:
    return {"at": at, "kind": "board.power", "board": "a1", "action": action}


def _spans(bars: Any) -> list[tuple[float, float]]:
    return [(round(b.start_s, 3), round(b.end_s, 3)) for b in bars]


def test_a_step_lasts_from_its_start_to_its_end(tmp_path: Path) -> None:
    lane, other = _lanes(tmp_path, _step(1, "start"), _step(3, "end", ok=True, detail="slot B")).boards
    assert [(b.label, b.start_s, b.end_s, b.ended, b.detail) for b in lane.bars] == [
        ("install", 1.0, 3.0, True, "slot B")
    ]
    assert other.bars == []


def test_a_step_cut_off_by_power_ends_there(tmp_path: Path) -> None:
    lane, _ = _lanes(tmp_path, _step(1, "start"), _power(2.5, "cut"), _power(4, "on")).boards
    assert _spans(lane.bars) == [(1.0, 2.5)]
    assert not lane.bars[0].ended
    assert _spans(lane.off) == [(2.5, 4.0)]


def test_a_step_whose_end_is_reported_late_ended_when_the_power_went(tmp_path: Path) -> None:
    events = (_step(1, "start"), _power(2.5, "cut"), _step(9, "end", ok=False), _power(10, "on"))
    lane, _ = _lanes(tmp_path, *events).boards
    assert _spans(lane.bars) == [(1.0, 2.5)]


def test_a_step_that_failed_says_so(tmp_path: Path) -> None:
    lane, _ = _lanes(tmp_path, _step(1, "start"), _step(2, "end", ok=False, detail="refused")).boards
    assert (lane.bars[0].ended, lane.bars[0].detail) == (False, "failed: refused")


def test_a_board_that_stays_off_is_off_to_the_end(tmp_path: Path) -> None:
    lane, _ = _lanes(tmp_path, _power(5, "off")).boards
    assert _spans(lane.off) == [(5.0, 20.0)]


def test_an_outage_lasts_until_the_link_is_restored_or_the_run_ends(tmp_path: Path) -> None:
    events = [
        {"at": t, "kind": f"link.{k}", "link": "isl-ab"}
        for t, k in ((1, "cut"), (2, "cut"), (3, "restore"), (9, "cut"))
    ]
    (link,) = _lanes(tmp_path, *events).links
    assert (link.name, _spans(link.cuts)) == ("isl-ab", [(1.0, 3.0), (9.0, 20.0)])


def test_claims_are_counted_from_the_start_of_the_watcher(tmp_path: Path) -> None:
    summary = {"at": 18, "kind": "watch.summary", "started_mono_s": 104.0, "claims": {"a1": [[1.0, 2.0, 3]]}}
    (claim,) = _lanes(tmp_path, summary).boards[0].claims
    assert (claim.start_s, claim.end_s, claim.label) == (5.0, 6.0, "epoch 3")


def test_without_a_summary_claims_come_from_the_watchers_events(tmp_path: Path) -> None:
    events = [{"at": t, "kind": "watch.claim", "board": "a1", "epoch": e} for t, e in ((1, 1), (4, None), (6, 2))]
    claims = _lanes(tmp_path, *events).boards[0].claims
    assert [(c.label, *s) for c, s in zip(claims, _spans(claims), strict=True)] == [
        ("epoch 1", 1.0, 4.0),
        ("epoch 2", 6.0, 20.0),
    ]


def test_bars_that_overlap_are_drawn_below_each_other(tmp_path: Path) -> None:
    lanes = _lanes(
        tmp_path,
        _step(1, "start", "upload"),
        _step(2, "start", "install"),
        _step(8, "end", "upload"),
        _step(9, "end", "install"),
    )
    svg = timeline_svg(lanes, title="x")
    tops = {part.split('y="')[1].split('"')[0] for part in svg.split("<rect ")[1:] if 'class="step' in part}
    assert len(tops) == 2


def test_a_window_shows_only_what_lies_in_it(tmp_path: Path) -> None:
    lanes = _lanes(tmp_path, _step(1, "start"), _step(2, "end"), _step(10, "start", "boot"), _step(12, "end", "boot"))
    svg = timeline_svg(lanes, window=(9.0, 13.0), title="x")
    assert "boot: 10.0 to 12.0 s" in svg
    assert "install" not in svg
    assert (lanes.busy(0, 3), lanes.busy(4, 8)) == (True, False)


@pytest.mark.parametrize(
    ("step", "category"),
    [
        ("upload", "upload"),
        ("relay", "relay"),
        ("fan-out", "fan-out"),
        ("install", "install"),
        ("boot", "boot"),
        ("activate canary", "boot"),
        ("confirm", "confirm"),
        ("configure", "configure"),
        ("roll back", "roll back"),
        ("inference", "inference"),
        ("dance", "other"),
    ],
)
def test_steps_are_coloured_by_what_they_do(step: str, category: str) -> None:
    assert category_of(step) == category


@pytest.mark.parametrize(("span", "step"), [(1.0, 0.1), (20.0, 2.0), (55.0, 5.0), (100.0, 10.0), (3600.0, 500.0)])
def test_the_axis_has_at_most_twelve_round_marks(span: float, step: float) -> None:
    assert round_step(span, 12) == step
    assert span / step <= 12


def test_forty_boards_fit_into_one_picture(tmp_path: Path) -> None:
    boards = [f"n{n}" for n in range(40)]
    events = [_step(t, p, "boot", b) for b in boards for t, p in ((1, "start"), (2, "end"))]
    svg = timeline_svg(_lanes(tmp_path, *events), title="forty")
    assert svg.count('class="step') == 40


def test_stages_of_a_console_and_commands_by_hand_are_marks_with_words(tmp_path: Path) -> None:
    events = (
        {"at": 1, "kind": "console.stage", "board": "a1", "stage": "uefi", "groups": ["36.4"], "bad": False},
        {"at": 2, "kind": "console.stage", "board": "a1", "stage": "panic", "groups": [], "bad": True},
        {
            "at": 3,
            "kind": "link.set",
            "link": "isl-ab",
            "a_to_b": {"delay_us": 5000, "rate_bps": 200_000_000, "loss_ppm": 0, "up": True},
            "b_to_a": {"up": False},
        },
    )
    lanes = _lanes(tmp_path, *events)
    assert [mark.kind for mark in lanes.boards[0].marks] == ["stage", "trouble"]
    svg = timeline_svg(lanes, title="x")
    assert "console: uefi (36.4) at 1.0 s" in svg
    assert svg.count('class="fault"') == 1
    assert "isl-ab set by hand, a to b: 5.000 ms, 200.00 Mbit/s; b to a: down at 3.0 s" in svg
