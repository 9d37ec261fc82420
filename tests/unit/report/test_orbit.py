"""Links over the run, interrupted transfers, and the constellation: as data and on the page."""

from __future__ import annotations

import json
import re
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

from hil.core import paths
from hil.evidence.readback import RunRecord
from hil.orbit.chart import IDLE_EDGE, PHASE_COLOURS
from hil.report.links import scaled_rates
from hil.report.make import make_report
from hil.report.svgfile import inline_svg
from hil.report.timeline.drawing import timeline_svg
from hil.report.timeline.lanes import Lanes, lanes_of
from hil.report.timeline.link_lanes import PHASES, LinkLane, chosen
from hil.report.timeline.view import folded, interruptions, legend
from tests.kits.html_page import Page
from tests.kits.synthetic_sky import AGAIN_S, CLOSES_S, PICTURE, build_sky

RING = {"isl-ab": ["sc-a", "sc-b"], "isl-bc": ["sc-b", "sc-c"], "isl-ca": ["sc-c", "sc-a"]}
PAIR = {"isl-ab": ["sc-a", "sc-b"], "ground": ["gs-1", "sc-a"]}


def _lanes(
    folder: Path, *events: dict[str, Any], links: dict[str, list[str]] = PAIR, end_s: float = 100.0, **meta: Any
) -> Lanes:
    facts = {
        "mono_start_s": 50.0,
        "gateway": "a1",
        "boards": {f"{c}1": {"spacecraft": f"sc-{c}"} for c in "abc"},
        "links": {n: {"kind": "ground" if "gs-1" in e else "crosslink", "between": e} for n, e in links.items()},
        **meta,
    }
    (folder / "run.json").write_text(json.dumps(facts), "utf-8")
    lines = [{"t_utc": "x", "mono_s": 50.0 + e["at"], **e} for e in events]
    lines.append({"t_utc": "x", "mono_s": 50.0 + end_s, "kind": "run.end"})
    (folder / "evidence.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
    return lanes_of(RunRecord.load(folder))


def _timeline(link: str, *intervals: tuple[str, float, float], why: str = "") -> dict[str, Any]:
    listed = [{"phase": p, "start_s": a, "end_s": b, "why": why} for p, a, b in intervals]
    return {"at": 99.0, "kind": "link.timeline", "link": link, "intervals": listed}


def _relay(start_s: float, end_s: float, **facts: Any) -> list[dict[str, Any]]:
    step = {"kind": "rollout.step", "board": "b1", "step": "relay"}
    return [{"at": start_s, **step, "phase": "start"}, {"at": end_s, **step, "phase": "end", "ok": True, **facts}]


def _cut(link: str, start_s: float, end_s: float) -> list[dict[str, Any]]:
    return [{"at": start_s, "kind": "link.cut", "link": link}, {"at": end_s, "kind": "link.restore", "link": link}]


def _link(lanes: Lanes, name: str) -> LinkLane:
    return next(link for link in lanes.links if link.name == name)


def _gaps(lanes: Lanes) -> list[tuple[float, float]]:
    return [(g.start_s, g.end_s) for lane in lanes.boards for b in lane.bars for g in b.gaps]


def test_phases_are_those_of_the_run_and_nothing_outside_of_it(tmp_path: Path) -> None:
    event = _timeline("isl-ab", ("track", -30, 20), ("blocked", 20, 40), ("track", 40, 400), ("track", 400, 500))
    link = _link(_lanes(tmp_path, event), "isl-ab")
    assert [(b.category, b.start_s, b.end_s) for b in link.phases] == [
        ("track", 0.0, 20),
        ("blocked", 20, 40),
        ("track", 40, 100.0),
    ]
    assert link.down == [(20, 40)]


def test_routes_do_not_follow_fades_so_a_fade_is_no_change_and_no_gap(tmp_path: Path) -> None:
    event = _timeline("isl-ab", ("track", 0, 20), ("fade", 20, 20.1), ("track", 20.1, 100))
    lanes = _lanes(tmp_path, event, *_relay(10, 30, source="a1"))
    link = _link(lanes, "isl-ab")
    assert (link.changes, link.down, _gaps(lanes)) == (False, [], [])
    assert link.story == "track 0.0 to 100.0 s, 1 fade"
    assert "fade: 20.0 to 20.1 s" in timeline_svg(lanes, title="x")


def test_intervals_that_are_none_are_left_out(tmp_path: Path) -> None:
    event = _timeline("isl-ab", ("dance", 0, 10))
    event["intervals"] += ["x", {"phase": "track"}, {"phase": "TRACK", "start_s": 10, "end_s": 100}]
    link = _link(_lanes(tmp_path, event), "isl-ab")
    assert [(b.category, b.start_s) for b in link.phases] == [("track", 10)]


def test_a_relay_over_a_closed_contact_shows_the_gap(tmp_path: Path) -> None:
    event = _timeline("isl-ab", ("track", 0, 20), ("blocked", 20, 35), ("acquire", 35, 42), ("track", 42, 100))
    lanes = _lanes(tmp_path, event, *_relay(10, 60, source="a1"))
    assert _gaps(lanes) == [(20, 42)]
    svg = timeline_svg(lanes, title="x")
    assert "relay interrupted: 20.0 to 42.0 s (22.00 s), no usable chain of links from sc-a to sc-b" in svg
    assert svg.count("relay: 10.0 to 60.0 s (50.00 s)") == 2
    assert "blocked: 20.0 to 35.0 s" in svg


def test_what_was_measured_of_a_gap_is_shown_instead_of_what_was_planned(tmp_path: Path) -> None:
    event = _timeline("isl-ab", ("track", 0, 20), ("blocked", 20, 42), ("track", 42, 100))
    seen = {"closes_s": 15.0, "opens_s": 37.0, "flowed_again_s": 37.6, "ended_s": 55.0, "bytes_held": 1234567}
    gap = {"at": 60.0, "kind": "contact.gap", "links": ["isl-ab"], **seen}
    lanes = _lanes(tmp_path, event, *_relay(10, 60, source="a1"), gap)
    assert [(round(a, 3), round(b, 3)) for a, b in _gaps(lanes)] == [(20.0, 42.6)]
    (told,) = interruptions(lanes)
    assert "1,234,567 bytes held, bytes flowed again 0.60 s after the contact returned" in told["why"]


def test_a_relay_that_has_another_way_round_has_no_gap(tmp_path: Path) -> None:
    events = (*_cut("isl-ab", 20, 30), *_relay(10, 60, source="a1"))
    assert _gaps(_lanes(tmp_path, *events, links=RING)) == []
    assert _gaps(_lanes(tmp_path, *events, *_cut("isl-bc", 25, 35), links=RING)) == [(25, 30)]


def test_an_upload_stands_still_without_the_ground_and_says_where_it_resumed(tmp_path: Path) -> None:
    step = {"kind": "rollout.step", "board": "a1", "step": "upload"}
    end = {"at": 50.0, **step, "phase": "end", "ok": True, "resumed_at": [4000000]}
    lanes = _lanes(tmp_path, {"at": 10, **step, "phase": "start"}, *_cut("ground", 20, 30), end)
    (told,) = interruptions(lanes)
    assert (told["start_s"], told["end_s"], told["resumed"]) == (20, 30, "4,000,000")


def test_of_many_links_those_that_carry_or_change_come_first_and_the_rest_is_folded(tmp_path: Path) -> None:
    links = {f"isl-{n}": [f"sc-{n}", f"sc-{n + 1}"] for n in range(20)} | PAIR
    steady = [_timeline(name, ("track", 0, 100)) for name in links if name != "isl-7"]
    changed = _timeline("isl-7", ("track", 0, 50), ("lost", 50, 60), ("track", 60, 100))
    lanes = _lanes(tmp_path, *steady, changed, *_cut("isl-9", 5, 6), *_relay(10, 60, source="a1"), links=links)
    shown, rest = chosen(lanes.links), lanes.folded.links
    assert [link.name for link in shown] == ["isl-9", "isl-7"]
    both = {"spacecraft": ["sc-a", "sc-b"], "way": ["isl-3"]}
    lanes = _lanes(tmp_path, *steady, changed, *_cut("isl-9", 5, 6), links=links, participants=both)
    shown, rest = chosen(lanes.links), lanes.folded.links
    assert [link.name for link in shown] == ["isl-3", "isl-ab", "ground", "isl-9", "isl-7"]
    assert len(rest) == 17
    assert folded(lanes)["title"] == "17 links that did not change"
    assert "isl-12" in folded(lanes)["svg"] and "isl-12" not in timeline_svg(lanes.shown, title="x")


def test_few_links_are_all_shown(tmp_path: Path) -> None:
    lanes = _lanes(tmp_path)
    assert (chosen(lanes.links), lanes.folded.links) == (lanes.links, ())
    assert folded(lanes) == {}


def test_a_bystander_that_restarted_is_not_folded_away(tmp_path: Path) -> None:
    boards = {f"n{k}": {"spacecraft": f"sc-{k}"} for k in range(20)}
    events = [{"at": 2, "kind": "board.boot", "board": b, "slot": "A"} for b in boards]
    events += [{"at": 5, "kind": "bench.up"}, {"at": 50, "kind": "board.boot", "board": "n7", "slot": "A"}]
    shown = _lanes(tmp_path, *events, boards=boards).shown
    assert [lane.name for lane in shown.boards] == ["n7"]


def test_the_legend_names_only_what_occurs(tmp_path: Path) -> None:
    event = _timeline("isl-ab", ("track", 0, 20), ("idle", 20, 100))
    keys = legend(_lanes(tmp_path, event))
    assert [key.text for key in keys["links"]] == ["track", "idle"]
    assert list(keys["boards"]) == []
    keys = legend(_lanes(tmp_path, *_cut("isl-ab", 1, 2), {"at": 3, "kind": "route.change", "changed": 2}))
    assert [key.text for key in keys["links"]] == ["cut on command", "routes changed"]


def test_changes_of_routes_are_marks_that_say_why(tmp_path: Path) -> None:
    lanes = _lanes(tmp_path, {"at": 3, "kind": "route.change", "changed": 2, "why": "isl-ab lost"})
    assert "2 routes changed at 3.0 s: isl-ab lost" in timeline_svg(lanes, title="x")


def test_the_picture_says_in_words_what_links_did(tmp_path: Path) -> None:
    event = _timeline("isl-ab", ("track", 0, 20), ("blocked", 20, 100))
    svg = timeline_svg(_lanes(tmp_path, event), title="Timeline")
    assert "<desc>0 tests, 3 boards, 2 links. isl-ab: track 0.0 to 20.0 s, blocked 20.0 to 100.0 s.</desc>" in svg


@pytest.fixture(scope="module")
def gap(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = build_sky(tmp_path_factory.mktemp("out") / "run-gap")
    make_report(directory)
    return directory


def test_the_page_shows_the_interrupted_relay_and_why_it_went_on(gap: Path) -> None:
    html = (gap / "report.html").read_text("utf-8")
    text = Page(html).text
    assert f"relay interrupted: {CLOSES_S:.1f} to {AGAIN_S:.1f} s (20.40 s), contact ended by plan on isl-ab" in html
    assert "blocked: 22.0 to 30.5 s (8.50 s), out of range" in html
    for expected in (
        "Transfers that stood still",
        "bytes flowed again 0.40 s after the contact returned; it went on and ended",
        "Constellation at the time of the run",
        "brief-gap from orbits/brief-gap.yaml",
        "2026-03-21 05:14:00 UTC when the bench came up",
        "1 of 1 up at the start; 1 changed during the run",
        "altitude 600 km, LTAN 18:00",
        "acquisition drawn 8.0 s",
        "05:14:21",  # the closing in mission time
        "11,873 rows applied by the link box, late by 0.212 ms (p50), 3.141 ms (p99), 9.027 ms (at most)",
        "follows the orbit",
    ):
        assert expected in text, expected


def test_the_page_with_a_sky_is_sound_and_stays_by_itself(gap: Path) -> None:
    html = (gap / "report.html").read_text("utf-8")
    page = Page(html)
    assert len(page.ids) == len(set(page.ids))
    assert "script" not in page.tags and "image" not in page.tags and "foreignobject" not in page.tags
    assert not re.search(r"https?://|@import|url\((?!#)|onload|onclick", html)
    for link in page.links:
        assert link[1:] in page.ids if link.startswith("#") else (gap / link).exists(), link
    result = json.loads((gap / "result.json").read_text("utf-8"))
    assert (result["orbit"]["name"], result["schedule"]["late_p99_us"]) == ("brief-gap", 3141)


def test_the_page_of_a_ring_of_ten_folds_what_took_no_part(tmp_path: Path) -> None:
    html = make_report(build_sky(tmp_path / "run", "ring")).read_text("utf-8")
    text = Page(html).text
    assert "16 links that did not change and 34 boards that took no part" in text
    assert "isl-01-02 and 9 more links: 200 Mbit/s stands for 2500 Mbit/s" in text
    assert "relay interrupted" not in html  # there is another way round
    assert len(html) < 400_000


def test_a_run_that_was_killed_before_its_timeline_says_so(tmp_path: Path) -> None:
    directory = build_sky(tmp_path / "run")
    path = directory / "evidence.jsonl"
    kept = [line for line in path.read_text("utf-8").splitlines() if '"link.timeline"' not in line]
    path.write_text("\n".join(kept) + "\n", "utf-8")
    text = Page(make_report(directory).read_text("utf-8")).text
    assert "The run ended before the phases of its links were recorded." in text


@pytest.mark.parametrize(
    "event",
    [
        {"kind": "link.timeline"},
        {"kind": "link.timeline", "link": "isl-ab", "intervals": {"a": 1}, "between": "sc-a"},
        {"kind": "orbit.epoch", "epoch": "yesterday", "assumed": "x", "zero_mono_s": "x"},
        {"kind": "orbit.picture"},
        {"kind": "orbit.picture", "file": "../../../../etc/passwd"},
        {"kind": "orbit.picture", "file": "plan.json"},
        {"kind": "link.schedule"},
        {"kind": "link.schedule", "file": "gone.csv", "rows": "many"},
        {"kind": "route.change"},
        {"kind": "contact.gap", "links": None, "closes_s": 3, "flowed_again_s": 1, "ended_s": 9},
    ],
    ids=lambda e: e["kind"] + str(len(e)),
)
def test_evidence_of_the_sky_that_lacks_fields_still_gives_a_page(tmp_path: Path, event: dict[str, Any]) -> None:
    directory = build_sky(tmp_path / "run")
    with (directory / "evidence.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps({"t_utc": "x", "mono_s": 5040.0, **event}) + "\n")
    page = make_report(directory).read_text("utf-8")
    assert "root:x:0" not in page
    assert not (directory / "report-error.txt").exists()


def test_a_picture_keeps_its_shapes_and_loses_everything_that_acts_or_reaches_out(tmp_path: Path) -> None:
    path = tmp_path / "picture.svg"
    path.write_text(PICTURE, "utf-8")
    svg = inline_svg(path, "frame")
    assert svg is not None
    assert '<circle class="sea" cx="100" cy="100" r="80"><title>the Earth &lt;here&gt;</title>' in svg
    assert ".frame .sea,.frame .isl{stroke:#8aa0b8}" in svg and ".frame svg{background:#fff}" in svg
    for gone in ("script", "alert", "onload", "onclick", "href", "example", "<image", "foreign", "position", "a link"):
        assert gone not in svg, gone


@pytest.mark.parametrize(
    "content",
    [
        "",
        "not a picture",
        "<html/>",
        '<!DOCTYPE svg [<!ENTITY a "aaaa">]><svg xmlns="http://www.w3.org/2000/svg">&a;</svg>',
        "<svg>" + " " * 1_600_000 + "</svg>",
        "<svg>" + "<g>" * 3000 + "</g>" * 3000 + "</svg>",
    ],
    ids=["empty", "text", "html", "entities", "huge", "deep"],
)
def test_what_is_no_safe_picture_is_not_inlined(tmp_path: Path, content: str) -> None:
    path = tmp_path / "picture.svg"
    path.write_text(content, "utf-8")
    assert inline_svg(path, "frame") is None


def test_text_within_a_title_cannot_become_an_element(tmp_path: Path) -> None:
    path = tmp_path / "picture.svg"
    path.write_text("<svg><title>a<title>&lt;/title&gt;&lt;b&gt;</title><g><path d='M0 0'/></g></title></svg>", "utf-8")
    assert inline_svg(path, "frame") == '<svg viewBox="0 0 1 1" role="img"><title>a</title></svg>'


def test_links_with_the_same_scaled_rate_are_named_together() -> None:
    scaled = [f"isl-{n}: 200 Mbit/s stands for 2500 Mbit/s" for n in range(5)] + ["ground: 1 stands for 2"]
    assert scaled_rates(scaled) == "isl-0 and 4 more links: 200 Mbit/s stands for 2500 Mbit/s; ground: 1 stands for 2"


# Machado, Oliveira, Fernandes: A Physiologically-based Model for Simulation of Color Vision Deficiency (2009),
# full deficiency, on linear RGB.
VISION = {
    "normal": ((1, 0, 0), (0, 1, 0), (0, 0, 1)),
    "protan": ((0.152286, 1.052583, -0.204868), (0.114503, 0.786281, 0.099216), (-0.003882, -0.048116, 1.051998)),
    "deutan": ((0.367322, 0.860646, -0.227968), (0.280085, 0.672501, 0.047413), (-0.011820, 0.042940, 0.968881)),
    "tritan": ((1.255528, -0.076749, -0.178779), (-0.078411, 0.930809, 0.147602), (0.004733, 0.691367, 0.303900)),
}
LEAST_DIFFERENCE = 12.0
"""CIE 1976 colour difference; 2.3 is just noticeable side by side."""


@pytest.mark.parametrize("vision", VISION)
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_phases_are_told_apart_with_any_colour_vision(theme: str, vision: str) -> None:
    css = (paths.PACKAGE / "report" / "templates" / "report.css").read_text("utf-8")
    light, dark = css.split("@media (prefers-color-scheme: dark)", 1)
    names = {phase: {"track": "track-phase"}.get(phase, phase) for phase in PHASES if phase not in ("idle", "blocked")}
    names["cut"] = "outage"
    colours = {}
    for phase, name in names.items():
        found = re.search(rf"--{name}: (#[0-9a-f]{{6}});", light if theme == "light" else dark.split("\n* {", 1)[0])
        assert found, (theme, phase)
        colours[phase] = _lab(found[1], VISION[vision])
    for a, b in combinations(colours, 2):
        difference = sum((x - y) ** 2 for x, y in zip(colours[a], colours[b], strict=True)) ** 0.5
        assert difference >= LEAST_DIFFERENCE, (a, b, round(difference, 1))


def test_the_charts_of_an_orbit_colour_phases_as_the_light_report_does() -> None:
    css = (paths.PACKAGE / "report" / "templates" / "report.css").read_text("utf-8")
    light = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6});", css.split("@media", 1)[0]))
    named = {phase: light["track-phase" if phase == "track" else phase] for phase in PHASES if phase != "blocked"}
    assert {str(phase): colour for phase, colour in PHASE_COLOURS.items()} == named
    assert light["idle-edge"] == IDLE_EDGE


def _lab(colour: str, vision: Any) -> tuple[float, float, float]:
    values = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in values]
    seen = [min(1.0, max(0.0, sum(a * b for a, b in zip(row, linear, strict=True)))) for row in vision]
    to_xyz = ((0.4124, 0.3576, 0.1805), (0.2126, 0.7152, 0.0722), (0.0193, 0.1192, 0.9505))
    xyz = [sum(a * b for a, b in zip(row, seen, strict=True)) for row in to_xyz]
    x, y, z = (
        t ** (1 / 3) if t > 0.008856 else 7.787 * t + 16 / 116
        for t in (v / white for v, white in zip(xyz, (0.95047, 1.0, 1.08883), strict=True))
    )
    return 116 * y - 16, 500 * (x - y), 200 * (y - z)
