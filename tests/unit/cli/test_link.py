"""`hil link`: what `calibrate` prints, from rows alone, and what `set` commands."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hil.cli.app import run
from hil.cli.link import summary
from hil.evidence.events import LinkFigure
from hil.links.calibration.calibrate import BLOCKED
from hil.links.calibration.figure import unmeasured
from hil.links.link_box import LinkBox
from hil.links.state import GilbertElliott
from tests.kits.fake_bench import fake_bench


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
    assert line[5:9] == ("200 Mbit/s", "-0.50 %", "-", "9500 of 10000 ppm")
    assert line[4] == line[9] == line[10] == "-"  # not measured
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


@pytest.fixture
def links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LinkBox]:
    """The links of a bench that commands take for the one that is up."""
    monkeypatch.setenv("HIL_BENCH", "six")
    with fake_bench(tmp_path) as bench:
        monkeypatch.setattr("hil.bench.bench.Bench.attach", lambda name: bench)
        yield bench.links


def test_a_link_is_set_with_units_and_what_is_not_named_stays(
    links: LinkBox, capsys: pytest.CaptureFixture[str]
) -> None:
    before = links.commanded("isl-ab", "b_to_a")
    asked = ["--delay", "20ms", "--rate", "2.5Gbit/s", "--loss", "1%", "--jitter", "1.5ms", "--loss-burst", "20"]
    assert run(["link", "set", "isl-ab", *asked, "--direction", "a_to_b"]) == 0
    said = capsys.readouterr().out
    assert said == "isl-ab a_to_b: 20.000 ms ± 1.500 ms, 2.5 Gbit/s, 1 % lost in bursts of 20 packets\n"
    state = links.commanded("isl-ab", "a_to_b")
    assert (state.delay_us, state.rate_bps, state.jitter_us, state.loss_ppm) == (20_000, 2_500_000_000, 1_500, 0)
    assert state.gemodel == GilbertElliott.bursty(10_000, 20) and links.commanded("isl-ab", "b_to_a") == before
    assert run(["link", "show"]) == 0
    assert re.search(r"20\.000 ms ± 1\.500 ms .* ppm in bursts of 20 packets", capsys.readouterr().out)
    assert run(["link", "set", "isl-ab", "--loss", "2%"]) == 0  # the bursts stay where there were some
    assert links.commanded("isl-ab", "a_to_b").gemodel == GilbertElliott.bursty(20_000, 20)
    assert links.commanded("isl-ab", "b_to_a") == replace(before, loss_ppm=20_000)
    assert run(["link", "set", "isl-ab", "--loss-burst", "1"]) == 0
    assert links.commanded("isl-ab", "a_to_b").loss_ppm == pytest.approx(20_000, abs=20)


def test_the_former_options_work_with_a_note(links: LinkBox, capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["--delay-us", "5000", "--rate-bps=64000", "--loss-ppm", "7", "--direction", "b-to-a"]
    assert run(["link", "set", "isl-ab", *asked]) == 0
    state = links.commanded("isl-ab", "b_to_a")
    assert (state.delay_us, state.rate_bps, state.loss_ppm) == (5_000, 64_000, 7)
    assert "--delay-us is now --delay 5000us" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [
        ("--delay", "20", "20 has no unit; write 20ms or 14386us"),
        ("--delay", "3s", "more than a link can have, 2s"),
        ("--delay", "soon", "is not a duration"),
        ("--rate", "50", "'50' is no rate; write 50Mbit"),
        ("--rate", "1kbit", "not between 64kbit and 1e+08kbit"),
        ("--rate", "50Mbyte", "is no rate"),
        ("--loss", "1", "'1' is no share; write 1%"),
        ("--loss", "101%", "more than all packets"),
        ("--loss-burst", "20", "bursts of no loss"),
    ],
)
def test_what_a_link_cannot_be_is_refused_with_how_it_is_written(
    option: str, value: str, words: str, links: LinkBox, capsys: pytest.CaptureFixture[str]
) -> None:
    before = links.commanded("isl-ab", "a_to_b")
    assert run(["link", "set", "isl-ab", option, value]) == 2
    assert words in " ".join(capsys.readouterr().err.split())
    assert links.commanded("isl-ab", "a_to_b") == before


def test_calibrate_measures_for_as_long_as_it_was_told_and_fails_with_what_is_outside(
    links: LinkBox, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[dict[str, Any]] = []
    short = LinkFigure("isl-ab", "a_to_b", "rate_sustained", 2e8, 1.7e8, "bit/s", 6e6, False, "UDP")

    def calibrate(box: LinkBox, **how: Any) -> list[LinkFigure]:
        asked.append(how)
        return [short]

    monkeypatch.setattr("hil.links.calibration.calibrate.calibrate", calibrate)
    page = ["-o", str(tmp_path / "page.html")]
    assert run(["link", "calibrate", "isl-ab", "--sustained", "10s", "--no-outage", *page]) == 3
    assert (asked[0]["sustained_s"], asked[0]["links"], asked[0]["outage"]) == (10.0, ("isl-ab",), False)
    assert "OUTSIDE: isl-ab a_to_b: rate_sustained is 170,000,000" in capsys.readouterr().out
    assert "sustained" in (tmp_path / "page.html").read_text()
    assert run(["link", "calibrate", *page]) == 3 and asked[1]["sustained_s"] is None
