"""The calibration section and its plots, from evidence alone."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from typing import Any

import pytest

from hil.evidence.events import LinkFigure
from hil.evidence.json_fields import read_fields
from hil.report.calibration.page import calibration_page, calibration_section
from hil.report.calibration.plots import Band, Curve, FigureRow, ecdf, figure_rows


def row(quantity: str, **fields: Any) -> dict[str, Any]:
    return {
        "link": "isl-ab",
        "direction": "a_to_b",
        "quantity": quantity,
        "commanded": 14_386,
        "measured": 14_400.0,
        "unit": "us",
        "tolerance": 150,
        "ok": True,
        "note": "",
        "quantiles": [],
        "low": None,
        "high": None,
        **fields,
    }


FULL = [
    row("delay_p50", quantiles=[14_380.0 + share for share in range(101)]),
    row("delay_p95", tolerance=500),
    row("delay_p99", tolerance=0, note="for information"),
    row("rate", commanded=200e6, measured=199.9e6, unit="bit/s", tolerance=6e6),
    row("loss", commanded=10_000, measured=9_500, unit="ppm", tolerance=2_000, low=8_200, high=12_000),
    row("outage_length", commanded=60_000, measured=61_000, tolerance=20_000),
    row("cut_effect_p50", commanded=0, measured=1_000, tolerance=0, note="for information"),
    row("cut_effect_p99", commanded=0, measured=2_000, tolerance=50_000),
]


def section(rows: list[dict[str, Any]]) -> str:
    return calibration_section(read_fields(LinkFigure, each) for each in rows)


def page_of(rows: list[dict[str, Any]], **options: Any) -> str:
    return calibration_page([read_fields(LinkFigure, each) for each in rows], **options)


def svgs(html: str) -> list[ET.Element]:
    return [ET.fromstring(text) for text in re.findall(r"<svg.*?</svg>", html, re.S)]


def test_every_quantity_of_a_link_is_drawn_and_listed() -> None:
    html = section(FULL)
    for title in ("One-way delay", "Rate", "Loss", "Outage length", "Time to effect"):
        assert f"<h4>{title}</h4>" in html
    assert len(svgs(html)) == 5
    assert "6 of 6" in html  # two are for information
    assert "199.90 Mbit/s" in html
    assert "8,200 ppm to 12,000 ppm" in html
    assert 'class="bad"' not in html


def test_no_rows_make_no_section() -> None:
    assert section([]) == ""


def test_of_a_figure_measured_twice_the_last_counts() -> None:
    html = section([row("rate", ok=False, measured=None), *FULL])
    assert "outside" not in html


def test_what_is_outside_is_named_first_and_marked_by_shape_as_well() -> None:
    bad = row("rate", direction="b_to_a", commanded=200e6, measured=150e6, unit="bit/s", tolerance=6e6, ok=False)
    html = section([*FULL, bad])
    assert "Outside: isl-ab b → a rate" in html
    assert html.index("150.0 of 200 Mbit/s") < html.index("199.9 of 200 Mbit/s")
    assert '<path class="bad"' in html


def test_a_link_that_the_contact_plan_has_down_is_told_of_without_alarm() -> None:
    state = row("state", commanded=0, measured=0, unit="up", tolerance=0, note="the contact plan has it down now")
    html = section([state])
    assert '<p class="aside"><b>isl-ab a → b</b>: the contact plan has it down now.' in html
    assert "alarm" not in html.split("</style>")[1]


def test_names_from_evidence_cannot_become_markup() -> None:
    html = section([{**each, "link": "<script>x</script>", "note": "<b>"} for each in FULL])
    assert "<script" not in html
    assert "<b>" not in html.split("</style>")[1].replace('<b class="', "")


@pytest.mark.parametrize("field", ["commanded", "measured", "unit", "tolerance", "quantiles", "note", "link"])
@pytest.mark.parametrize("value", [None, "text", [], float("nan")])
def test_a_field_that_is_missing_or_odd_leaves_a_blank(field: str, value: object) -> None:
    for damaged in (
        [{**each, field: value} for each in FULL],
        [{k: v for k, v in each.items() if k != field} for each in FULL],
    ):
        for picture in svgs(section(damaged)):
            numbers = [v for part in picture.iter() for k, v in part.attrib.items() if k in ("x", "y", "points", "d")]
            assert not any("nan" in number or "inf" in number for number in numbers)


def test_many_links_show_the_worst_and_fold_the_rest() -> None:
    rows = [{**each, "link": f"isl-{n}", "ok": each["ok"] and n != 19} for n in range(20) for each in FULL]
    html = section(rows)
    assert html.index("isl-19, ") < html.index("isl-0, ")
    assert html.count("<details>") >= 3


def test_the_page_stands_alone_and_says_what_it_was_measured_with() -> None:
    page = page_of(FULL, bench="virtual", facts=[("Shaping kernel", "6.1.0 <uml>")])
    assert "6.1.0 &lt;uml&gt;" in page
    assert "What was commanded is what packets see" in page
    assert not re.search(r"""(src|href)\s*=|@import|url\([^#]""", page)
    assert "<script" not in page


def test_the_page_of_a_bench_outside_tolerance_says_so_first() -> None:
    page = page_of([*FULL, row("rate", ok=False)], bench="virtual")
    assert "1 of 8 figures" in page
    assert "Nothing was measured" in page_of([], bench="virtual")


def test_a_value_beyond_the_axis_is_drawn_at_its_end() -> None:
    lines = [FigureRow("a", 97, 103, 500.0, False, "far"), FigureRow("b", 97, 103, None, False)]
    picture = ET.fromstring(figure_rows(lines, unit="%", title="t"))
    arrow = next(e for e in picture.iter("path"))
    assert float(arrow.attrib["d"].split()[0][1:]) <= 520
    assert "nothing measured" in "".join(picture.itertext())


def test_a_distribution_climbs_from_nothing_to_everything() -> None:
    picture = ET.fromstring(ecdf([Curve("a → b", [1.0, 2.0, 4.0])], bands=[Band(0, 5)], unit="µs", title="t"))
    points = [tuple(map(float, p.split(","))) for p in next(picture.iter("polyline")).attrib["points"].split()]
    assert points == sorted(points, key=lambda p: (p[0], -p[1]))
    assert len(points) == 6


def test_plots_of_nothing_are_still_pictures() -> None:
    for text in (ecdf([], unit="µs", title="t"), figure_rows([], title="t"), figure_rows([], unit="%", title="t")):
        assert ET.fromstring(text).attrib["aria-label"] == "t"
