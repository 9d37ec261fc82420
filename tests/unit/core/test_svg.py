"""The canvas: valid XML, escaped texts, and round marks on an axis."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hil.core.svg import Axis, Canvas, picture, round_step, title_element


def test_every_shape_has_its_class_and_its_tip_and_nothing_is_markup() -> None:
    canvas = Canvas()
    canvas.rect("a", 1, 2, 3, 4, radius=2, tip="<b>")
    canvas.line("", 0, 0, 1, 1)
    canvas.text("t", 0, 0, "a < b & c")
    canvas.polyline("p", [])
    with canvas.group("g", tip="both"):
        canvas.circle("c", 1, 1, 2)
        canvas.diamond("d", 5, 5, 2)
    root = ET.fromstring(picture("pic", 10, 20, 'say "x"', [canvas], head=title_element("<t>")))
    assert [child.tag for child in root] == ["title", "rect", "line", "text", "g"]
    assert root.attrib["aria-label"] == 'say "x"'
    assert root[1][0].text == "<b>"
    assert "class" not in root[2].attrib
    assert root[3].text == "a < b & c"


@given(st.floats(-1e6, 1e6), st.floats(1e-3, 1e6), st.integers(2, 12))
def test_marks_are_round_inside_the_axis_and_not_too_many(low: float, span: float, most: int) -> None:
    axis = Axis(low, low + span, 0, 100)
    ticks = axis.ticks(most)
    assert len(ticks) <= most + 1
    assert all(-0.001 <= axis.at(tick) <= 100.001 for tick in ticks)


@pytest.mark.parametrize(("value", "x"), [(-5, 10), (0, 10), (5, 60), (10, 110), (99, 110)])
def test_what_lies_beyond_an_axis_is_drawn_at_its_end(value: float, x: float) -> None:
    assert Axis(0, 10, 10, 110).at(value) == x


@given(st.floats(1e-6, 1e9), st.integers(1, 20))
def test_a_step_is_one_two_or_five_times_a_power_of_ten(span: float, most: int) -> None:
    step = round_step(span, most)
    assert f"{step:e}"[0] in "125"
    assert span / step <= most * (1 + 1e-6)
