"""What `hil link calibrate` prints, from rows alone."""

from __future__ import annotations

from hil.cli.link import summary
from hil.evidence.events import LinkFigure
from hil.links.calibration.calibrate import BLOCKED
from hil.links.calibration.figure import unmeasured


def rows(**changed: LinkFigure) -> list[LinkFigure]:
    made = {
        "delay_p50": LinkFigure("isl", "a_to_b", "delay_p50", 14_386, 14_400.0, "us", 150, True),
        "rate": LinkFigure("isl", "a_to_b", "rate", 200_000_000, 199e6, "bit/s", 6e6, True),
        "loss": LinkFigure("isl", "a_to_b", "loss", 10_000, 9_500.0, "ppm", 2_000, True, low=8e3, high=12e3),
    }
    return list({**made, **changed}.values())


def test_a_direction_is_one_line_that_says_how_far_off_each_figure_is() -> None:
    columns, (line,) = summary(rows())
    assert len(columns) == len(line)
    assert line[:4] == ("isl", "a_to_b", "14.386 ms", "+0.014 ms")
    assert line[5:8] == ("200 Mbit/s", "-0.50 %", "9500 of 10000 ppm")
    assert line[4] == line[8] == line[9] == "-"  # not measured
    assert line[-1] == "ok"


def test_a_figure_outside_marks_its_line_and_is_told_of_with_what_is_allowed() -> None:
    bad = LinkFigure("isl", "a_to_b", "rate", 200_000_000, None, "bit/s", 6e6, False, "busy")
    _, (line,) = summary(rows(rate=bad))
    assert line[6] == "-"
    assert line[-1] == "OUTSIDE"
    assert str(bad) == "isl a_to_b: rate is nothing, allowed 194,000,000 to 206,000,000 bit/s (busy)"


def test_a_direction_that_was_not_measured_has_a_sentence_and_no_line() -> None:
    blocked = LinkFigure("isl", "a_to_b", "state", 0, 0, "up", 0, True, BLOCKED)
    assert summary([blocked])[1] == []
    assert str(blocked) == f"isl a_to_b: {BLOCKED}"
    assert str(unmeasured("isl", "b_to_a", "no packet arrives")) == "isl b_to_a: no packet arrives"
