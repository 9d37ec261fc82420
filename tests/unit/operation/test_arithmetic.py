"""Bytes through windows of contact, on cases that can be reckoned by hand."""

from __future__ import annotations

import pytest

from hil.operation.arithmetic import ENDLESS, Preview, Term, Window, after_contact_s, at, contacts, reached_s, through

PASSES = (Window(0, 480, 100e6), Window(5800, 6280, 100e6), Window(11600, 12080, 100e6))
"""Three passes of 8 min at 100 Mbit/s: each carries 6 GB, 5.4 GB of a file with 90 % of it."""


def arriving(size: float, windows: tuple[Window, ...] = PASSES, efficiency: float = 0.9) -> float | None:
    return reached_s(through(windows, [(0.0, size)], efficiency), size)


def test_a_bundle_of_two_passes_is_there_in_the_middle_of_the_second() -> None:
    assert arriving(8.1e9) == pytest.approx(5800 + 240)
    assert arriving(5.4e9) == pytest.approx(480)
    assert at(through(PASSES, [(0.0, ENDLESS)], 0.9), 6280) == pytest.approx(10.8e9)


def test_a_bundle_that_does_not_fit_never_arrives() -> None:
    assert arriving(16.3e9) is None
    assert arriving(16.2e9) == pytest.approx(12080, abs=0.01)


def test_half_the_rate_takes_twice_the_passes() -> None:
    slow = tuple(Window(window.start_s, window.end_s, 50e6) for window in PASSES)
    assert arriving(5.4e9, slow) == pytest.approx(6280, abs=0.01)
    assert arriving(8.1e9, slow) == pytest.approx(12080, abs=0.01)


def test_a_rate_that_is_cut_in_a_pass_counts_from_then_on() -> None:
    cut = (Window(0, 100, 100e6), Window(100, 200, 10e6))
    assert arriving(1e9 + 12.5e6, cut, 1.0) is not None
    assert arriving(1.25e9 + 62.5e6, cut, 1.0) == pytest.approx(150)
    assert [(c.start_s, c.end_s, c.rate_bps) for c in contacts(cut, from_s=0, to_s=200)] == [(0, 200, 100e6)]


def test_what_is_relayed_waits_for_its_contact_and_never_overtakes_the_upload() -> None:
    up = through([Window(0, 100, 80e6)], [(0.0, 1e9)], 1.0)  # 10 MB/s: all there at 100 s
    fast, late, slow = Window(0, 300, 800e6), Window(90, 300, 160e6), Window(0, 300, 40e6)
    assert reached_s(through([fast], up, 1.0), 1e9) == pytest.approx(100, abs=0.01)
    assert at(through([fast], up, 1.0), 50) == pytest.approx(5e8, rel=1e-6)
    # 900 MB wait at 90 s; 20 MB/s go while 10 MB/s come: the last byte leaves at 140 s
    assert reached_s(through([late], up, 1.0), 1e9) == pytest.approx(140, abs=0.01)
    assert reached_s(through([slow], up, 1.0), 1e9) == pytest.approx(200, abs=0.01)


def test_what_waits_is_gone_in_the_middle_of_a_window_and_then_goes_as_it_comes() -> None:
    up = through([Window(0, 100, 80e6)], [(0.0, 1e9)], 1.0)
    done = through([Window(50, 200, 240e6)], up, 1.0)  # 500 MB wait; 30 against 10 MB/s: caught up at 75 s
    assert at(done, 75) == pytest.approx(7.5e8, rel=1e-6)
    assert at(done, 90) == pytest.approx(9e8, rel=1e-6)


def test_contact_is_counted_in_passes_and_in_seconds() -> None:
    assert after_contact_s(PASSES, 600, from_s=0, to_s=20_000) == pytest.approx(5800 + 120)
    assert after_contact_s(PASSES, 600, from_s=400, to_s=20_000) == pytest.approx(11600 + 40)
    assert after_contact_s(PASSES, 2000, from_s=0, to_s=20_000) is None
    assert after_contact_s(PASSES, 0, from_s=7, to_s=20_000) == 7
    assert len(contacts(PASSES, from_s=100, to_s=6000)) == 2
    assert not contacts(PASSES, from_s=480, to_s=5800)


def test_without_any_window_nothing_arrives() -> None:
    assert at(through([], [(0.0, 1e6)], 1.0), 1e6) == 0
    assert arriving(1e6, ()) is None


def term(name: str, needs: float | None, has: float | None) -> Term:
    return Term(name, needs, has, "B", "a test")


def test_the_term_with_the_least_free_binds() -> None:
    preview = Preview((term("a", 50, 100), term("b", 89, 100), term("c", None, 1), term("d", 1, 100)), 0.1)
    assert preview.feasible and preview.binding is preview.terms[1]
    assert [each.name for each in preview.unknown] == ["c"]
    tight = Preview((*preview.terms, term("e", 91, 100)), 0.1)
    assert not tight.feasible and tight.binding is tight.terms[-1]
    assert Preview((term("a", 90, 100),), 0.1).feasible


def test_of_two_that_cannot_be_at_all_the_first_binds() -> None:
    preview = Preview((term("a", 5, 0), term("b", 500, 1)), 0.0)
    assert preview.binding is preview.terms[0] and not preview.feasible
    assert term("nothing of nothing", 0, 0).fits(0.0)
    assert Preview((term("a", None, None),), 0.5).binding is None


def test_a_month_of_passes_is_no_work() -> None:
    """Ten thousand windows, over two legs: nothing is looked for from the beginning for each."""
    windows = [Window(60.0 * number, 60.0 * number + 30, 8e6) for number in range(10_000)]
    up = through(windows, [(0.0, 2.25e11)], 1.0)
    assert reached_s(through(windows, up, 1.0), 2.25e11) == pytest.approx(60.0 * 7_499 + 30, abs=0.01)
