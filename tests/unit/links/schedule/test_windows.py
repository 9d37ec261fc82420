"""What a schedule commands, and the files that remember it."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hil.errors import BenchError, HarnessError
from hil.links.schedule.windows import KEPT_S, ScheduleRow, Thinner, Windows, scheduled_state
from hil.links.state import GilbertElliott, LinkState

SECOND = 1_000_000_000
OWN = LinkState(1, 200_000_000, loss_ppm=7, mtu=9000)


def row(at_s: float, link: str = "x", *, up: bool = True, delay_us: int = 100, loss_ppm: int = 0) -> ScheduleRow:
    return ScheduleRow(round(at_s * SECOND), link, up, delay_us, loss_ppm)


def test_a_row_gives_delay_loss_and_up_and_the_direction_gives_the_rest() -> None:
    state = scheduled_state(OWN, row(0, up=False, delay_us=14_386, loss_ppm=3))
    assert state == LinkState(14_386, 200_000_000, loss_ppm=3, mtu=9000, up=False)


def test_a_burst_model_and_profile_bulk_keep_the_rows_loss_out() -> None:
    bursts = LinkState(1, 0, gemodel=GilbertElliott(1_000, 50_000))
    assert scheduled_state(bursts, row(0, loss_ppm=3)).gemodel == bursts.gemodel
    assert scheduled_state(bursts, row(0, loss_ppm=3)).loss_ppm == 0
    assert scheduled_state(OWN, row(0, loss_ppm=3), bulk=True).mean_loss_ppm == 0


def thinned(*rows: ScheduleRow, thinner: Thinner | None = None, before_s: float = 30) -> list[ScheduleRow]:
    return (thinner or Thinner()).changes(rows, before_ns=round(before_s * SECOND))


def test_rows_that_command_nothing_new_are_dropped() -> None:
    rows = [row(0), row(1), row(2, delay_us=101), row(3, loss_ppm=5, delay_us=101), row(4, "y")]
    assert thinned(*rows) == [rows[0], rows[2], rows[3], rows[4]]


def test_a_delay_that_moves_while_the_link_is_down_waits_until_it_is_up() -> None:
    rows = [row(0), row(1, up=False), row(2, up=False, delay_us=500), row(3, delay_us=600)]
    assert thinned(*rows) == [rows[0], rows[1], rows[3]]


def test_a_link_with_a_burst_model_moves_in_steps_but_its_edges_are_exact() -> None:
    rows = [row(0), row(1, delay_us=119), row(2, delay_us=120), row(3.03, delay_us=121, up=False)]
    assert thinned(*rows, thinner=Thinner({"x": 20})) == [rows[0], rows[2], rows[3]]


def test_delays_move_at_whole_tenths_of_a_second_and_edges_where_they_are() -> None:
    found = thinned(
        row(0.05),
        row(0.12, delay_us=101),
        row(0.13, "y"),
        row(0.19, delay_us=102),
        row(0.3, delay_us=103),
        row(0.31, delay_us=104),
        row(0.35, delay_us=104, up=False),
        row(0.38, delay_us=105),
    )
    assert found == [
        row(0.05),
        row(0.13, "y"),
        row(0.2, delay_us=102),
        row(0.3, delay_us=103),
        row(0.35, delay_us=104, up=False),
        row(0.38, delay_us=105),
    ]


def test_of_two_rows_of_a_link_at_one_moment_the_last_one_counts() -> None:
    assert thinned(row(1), row(1, delay_us=7)) == [row(1, delay_us=7)]
    assert thinned(row(0), row(1, up=False), row(1, up=True, delay_us=7)) == [row(0), row(1, delay_us=7)]


def test_a_move_that_falls_into_the_next_window_comes_with_its_beginning() -> None:
    thinner = Thinner()
    assert thinned(row(0), row(29.95, delay_us=101), thinner=thinner) == [row(0)]
    assert thinned(row(30, delay_us=101), thinner=thinner, before_s=60) == [row(30, delay_us=101)]


@given(st.lists(st.tuples(st.integers(0, 999), st.booleans(), st.integers(0, 5), st.integers(0, 1)), max_size=40))
def test_thinned_rows_have_every_edge_and_never_an_old_delay(drawn: list[tuple[int, bool, int, int]]) -> None:
    rows = [row(0)] + [
        row(at / 1000, up=up, delay_us=100 + delay, loss_ppm=loss) for at, up, delay, loss in sorted(drawn)
    ]
    found = thinned(*rows, before_s=2)
    assert [each.at_ns for each in found] == sorted(each.at_ns for each in found)
    for at_ms in range(0, 1200, 7):
        true = [each for each in rows if each.at_ns <= at_ms * 1_000_000][-1]
        made = [each for each in found if each.at_ns <= at_ms * 1_000_000][-1]
        assert made.up == true.up
        recent = [each for each in rows if each.at_ns >= (at_ms - 100) * 1_000_000 or each is rows[0]]
        if true.up:
            assert made.loss_ppm == true.loss_ppm
            settled = [each for each in rows if each.at_ns <= (at_ms - 100) * 1_000_000][-1:]
            assert made.delay_us in {each.delay_us for each in recent + settled}


@pytest.fixture
def windows(tmp_path: Path) -> Windows:
    made = Windows.beside(tmp_path / "links.sock", ("x", "y"))
    made.write(0, 30 * SECOND, [row(0), row(0, "y"), row(10, delay_us=110), row(20, delay_us=120)])
    made.write(30 * SECOND, 60 * SECOND, [row(30, delay_us=120), row(30, "y"), row(40, up=False)])
    return made


def test_any_process_can_tell_the_row_last_due(tmp_path: Path, windows: Windows) -> None:
    other = Windows.beside(tmp_path / "links.sock", ("x", "y"))
    for each in (windows, other):
        assert each.at("x", 10 * SECOND - 1) == row(0)
        assert each.at("x", 10 * SECOND) == row(10, delay_us=110)
        assert each.at("x", 35 * SECOND) == row(30, delay_us=120)
        assert each.at("y", 29 * SECOND) == row(0, "y")


def test_before_the_beginning_the_first_row_counts_and_after_the_end_the_last(windows: Windows) -> None:
    assert windows.at("x", -5) == row(0)
    assert windows.at("x", 99 * SECOND) == row(40, up=False)


def test_the_rows_between_two_moments_cross_windows(windows: Windows) -> None:
    found = windows.between("x", 15 * SECOND, 45 * SECOND)
    assert found == [row(10, delay_us=110), row(20, delay_us=120), row(30, delay_us=120), row(40, up=False)]


def test_the_rows_between_two_moments_are_also_those_of_a_window_written_meanwhile(
    tmp_path: Path, windows: Windows
) -> None:
    other = Windows.beside(tmp_path / "links.sock", ("x", "y"))
    assert other.at("x", 35 * SECOND) == row(30, delay_us=120)
    windows.write(60 * SECOND, 90 * SECOND, [row(60, up=False), row(60, "y"), row(65)])
    assert other.between("x", 59 * SECOND, 66 * SECOND) == [row(40, up=False), row(60, up=False), row(65)]


def test_another_plan_takes_over_at_its_moment_also_for_those_who_had_read_the_old_one(
    tmp_path: Path, windows: Windows
) -> None:
    assert windows.at("x", 41 * SECOND) == row(40, up=False)
    windows.forget_from(25 * SECOND)
    windows.write(25 * SECOND, 55 * SECOND, [row(25, delay_us=7), row(25, "y")])
    for each in (windows, Windows.beside(tmp_path / "links.sock", ("x", "y"))):
        assert each.at("x", 24 * SECOND) == row(20, delay_us=120)
        assert each.at("x", 41 * SECOND) == row(25, delay_us=7)


def test_what_is_too_long_ago_is_not_kept_and_said_to_be(windows: Windows) -> None:
    for number in range(2, 40):
        at = 30.0 * number
        windows.write(round(at * SECOND), round((at + 30) * SECOND), [row(at), row(at, "y")])
    assert len(list(windows.directory.iterdir())) <= KEPT_S / 30 + 3
    with pytest.raises(BenchError, match="is not kept"):
        windows.at("x", 20 * SECOND)


def test_a_window_without_every_links_state_is_a_fault_of_ours(windows: Windows) -> None:
    windows.write(60 * SECOND, 90 * SECOND, [row(60)])
    with pytest.raises(HarnessError, match="no keyframe of y"):
        windows.at("x", 61 * SECOND)


def test_without_a_schedule_there_is_nothing_to_tell(tmp_path: Path) -> None:
    with pytest.raises(BenchError, match="no schedule is kept"):
        Windows(tmp_path / "none", ("x",)).at("x", 0)
