"""The judges of a stream and its heat, on streams that were written down."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from hil.errors import BenchError
from hil.evidence.twin import BoardHeat, TwinChange, TwinSample
from hil.workload.heat_log import HeatLog
from hil.workload.judges import (
    judge_duty,
    judge_heat,
    judge_recovery,
    judge_return,
    judge_scenarios,
    judge_slowing,
    judge_throughput,
    judge_tiles,
    state_speed,
)
from hil.workload.loadgen import ScenarioResult
from hil.workload.stream_report import BoardDuty, StreamReport, StreamState

ORBIT_S = 5801.0


class Taken:
    """What was measured, by name and board; ``violated`` has those outside of their limits."""

    def __init__(self) -> None:
        self.values: dict[tuple[str, str], Any] = {}
        self.violated: list[str] = []

    def __call__(self, name: str, value: Any, unit: str = "", *, limit: Any = None, board: str = "") -> None:
        self.values[name, board] = value
        if limit is not None and not limit.holds(value):
            self.violated.append(f"{name} {board}".strip())


def board(spans: list[tuple[float, float]], *, asked: list[tuple[float, float]] | None = None) -> BoardDuty:
    """Return a board whose network computed in these spans, and that had work in others."""
    found = BoardDuty("sc-a", tiles=len(spans))
    for (begin, end), (sent, _) in zip(spans, asked or spans, strict=True):
        found.asked_s.append(sent)
        found.done_s.append(end)
        found.computed_s.append(end - begin)
    return found


def whole(**boards: BoardDuty) -> StreamReport:
    return StreamReport(seconds=11.0, fed_s=10.0, boards=boards)


def log(*celsius: float, load: float = 1.0, orbits: float = 3.0, throttled_s: float = 0.0) -> HeatLog:
    """Return samples spread over so many orbits, a1 at these temperatures."""
    step_s = orbits * ORBIT_S / (len(celsius) - 1)
    samples = []
    for number, junction_c in enumerate(celsius):
        state = BoardHeat(junction_c, busy=load, peak_c=max(celsius[: number + 1]), throttled_s=throttled_s * number)
        samples.append(TwinSample("sc-a", step_s * number, boards={"a1": state}))
        object.__setattr__(samples[-1], "t_s", 5.0 * number)
    return HeatLog(samples, (), ORBIT_S)


def test_duty_counts_the_time_in_which_a_network_computed_once_and_only_while_the_cameras_ran() -> None:
    taken = Taken()
    two_at_once = board([(0.0, 4.0), (2.0, 8.0), (9.0, 12.0)])
    judge_duty(whole(a1=two_at_once, a2=board([(0.2, 10.2)])), HeatLog(), taken)
    assert taken.values["duty", "a1"] == 0.9
    assert taken.values["duty", "a2"] == 0.98
    assert taken.violated == ["duty a1"]


def test_a_container_board_that_this_host_starved_says_nothing_and_one_that_idled_fails() -> None:
    starved = whole(a1=board([(3.0, 10.0)], asked=[(0.0, 10.0)]))
    with pytest.raises(BenchError, match="a1 40%"):
        judge_duty(starved, log(50, 50, load=0.4), Taken(), contained={"a1"})
    real, full, idle = Taken(), Taken(), Taken()
    judge_duty(starved, log(50, 50, load=0.4), real)
    judge_duty(starved, log(50, 50, load=1.0), full, contained={"a1"})
    judge_duty(whole(a1=board([(3.0, 10.0)])), log(50, 50, load=0.4), idle, contained={"a1"})
    assert real.violated == full.violated == idle.violated == ["duty a1"]


def test_a_board_steady_below_its_trip_point_passes_and_one_that_still_warms_up_does_not() -> None:
    steady, warming = Taken(), Taken()
    judge_heat(log(20, 60, 80, 81, 80, 81, 80), steady, contained={"a1"})
    assert steady.violated == []
    judge_heat(log(20, 30, 40, 50, 60, 70, 80), warming, contained={"a1"})
    assert warming.violated == ["last orbit against the one before a1"]


def test_a_board_that_throttled_fails_even_at_less_than_full_load() -> None:
    taken = Taken()
    judge_heat(log(90, 99.1, 99, load=0.6, throttled_s=20.0), taken, contained={"a1"})
    assert taken.violated == ["peak of the junction a1", "time throttled a1"]


def test_heat_at_less_than_full_load_or_of_a_short_stream_says_nothing() -> None:
    with pytest.raises(BenchError, match="not the heat of full load: a1 60%"):
        judge_heat(log(50, 51, 50, load=0.6), Taken(), contained={"a1"})
    with pytest.raises(BenchError, match=r"lasted 0.50 orbits"):
        judge_heat(log(50, 51, orbits=0.5), Taken())
    judge_heat(log(50, 51, orbits=0.5), Taken(), orbits=0)
    with pytest.raises(BenchError, match="no twin"):
        judge_heat(HeatLog(), Taken())


def test_boards_that_take_no_part_are_not_judged() -> None:
    samples = [
        replace(sample, boards={**sample.boards, "a3": BoardHeat(20.0, busy=0.0)})
        for sample in log(50, 50, 50, 50, 50, 50, 50).samples
    ]
    changes = (TwinChange("a3", "shed"), TwinChange("a1", "throttled"))
    heat, taken = HeatLog(samples, changes, ORBIT_S, only=frozenset({"a1"})), Taken()
    state_speed(whole(a1=board([(0, 1)])), heat, taken)
    judge_heat(heat, taken, contained={"a1", "a3"})
    assert {name for _, name in taken.values} == {"a1", ""}
    assert not heat.boards_that("shed") and heat.boards_that("throttled")


def throttled(at_s: float) -> HeatLog:
    change = TwinChange("a1", "throttled")
    object.__setattr__(change, "t_s", at_s)
    return HeatLog((), (change,))


def test_a_throttled_board_has_to_have_lost_speed() -> None:
    slow, same = Taken(), Taken()
    judge_slowing(whole(a1=board([(k, k + 0.5) for k in (0, 1, 2, 3, 4, 6, 8)])), throttled(5.0), slow)
    assert slow.values["speed after that, of the speed before", "a1"] == 0.4
    judge_slowing(whole(a1=board([(k, k + 0.5) for k in range(10)])), throttled(5.0), same)
    assert same.violated == ["speed after that, of the speed before a1"]
    with pytest.raises(BenchError, match="no board was throttled"):
        judge_slowing(whole(a1=board([(0, 1)])), HeatLog(), Taken())


def test_boards_compute_again_soon_after_a_fault() -> None:
    taken = Taken()
    boards = {"a1": board([(0, 10)]), "a2": board([(0, 2), (9, 10)]), "a3": board([(0, 2)])}
    judge_return(whole(**boards), 3.0, boards, taken, within_s=5.0)
    assert [taken.values["until it computes again", name] for name in boards] == [0.0, 6.0, 10.0]
    assert taken.violated == ["until it computes again a2", "until it computes again a3"]


def test_tiles_lost_repeated_or_wrong_are_violations() -> None:
    report, taken = whole(a1=board([(0, 1)])), Taken()
    report.lost.append(("sc-a", 3))
    report.duplicates = 1
    judge_tiles(report, taken)
    assert taken.violated == ["tiles counted twice", "tiles lost"]


def test_a_tile_that_is_still_on_its_way_is_not_lost_and_one_that_no_board_computes_fails() -> None:
    report, slow, wrong, stuck = whole(a1=board([(0, 1)])), Taken(), Taken(), Taken()
    report.unfinished.append(("sc-a", 3))
    with pytest.raises(BenchError, match=r"1 of 0 tiles were still on their way 1 s .* this host was too slow"):
        judge_tiles(report, slow)
    assert slow.violated == [] and slow.values["tiles lost", ""] == 0
    report.duplicates = 1
    judge_tiles(report, wrong)  # what is wrong fails, however slow the host is
    assert wrong.violated == ["tiles counted twice"]
    report.duplicates, report.stuck = 0, True
    judge_tiles(report, stuck)
    assert stuck.violated == ["tiles that no board computed"]


def queues(*waiting: int) -> StreamReport:
    """Return a stream whose longest queue held so many tiles, second by second."""
    report = whole(a1=board([(0, 1)]))
    report.seconds = report.fed_s = float(len(waiting))
    report.states = [StreamState(float(t), {"sc-a": n, "sc-b": n // 2}, ()) for t, n in enumerate(waiting)]
    return report


def test_the_recovery_window_ends_when_nothing_waits_any_more() -> None:
    """Boards do 10 tiles/s, 5 while capped from 5 to 25 s; cameras bring 8: 60 wait, and 2 fewer each second after."""
    level, levels = 0.0, []
    for second in range(80):
        levels.append(round(level))
        level = max(0.0, level + 8 - (5 if 5 <= second < 25 else 10))
    taken = Taken()
    judge_recovery(queues(*levels), 25.0, 20.0, taken, within=1.4)
    assert taken.values["tiles that waited on a spacecraft when the cap was lifted", ""] == 60
    assert taken.values["recovery window", ""] == 29.0
    assert taken.values["recovery window per second capped", ""] == 1.45
    assert taken.violated == ["recovery window"]
    judge_recovery(queues(*levels), 25.0, 20.0, passed := Taken(), within=1.5)
    assert passed.violated == []


def test_a_backlog_that_comes_back_was_not_worked_off() -> None:
    taken = Taken()
    judge_recovery(queues(0, 9, 7, 2, 6, 8, 5, 3, 1, 0, 0, 0, 0), 1.0, 2.0, taken, within=10)
    assert taken.values["recovery window", ""] == 7.0
    judge_recovery(queues(0, 9, 7, 6, 6, 8, 9, 9), 1.0, 2.0, never := Taken(), within=2)
    assert never.violated == ["recovery window"]
    assert never.values["recovery window", ""] == 8.0


def test_without_a_backlog_when_the_cap_is_lifted_nothing_is_known() -> None:
    with pytest.raises(BenchError, match="no backlog"):
        judge_recovery(queues(9, 4, 2, 0, 0), 2.0, 2.0, Taken(), within=1.5)


def test_scenarios_are_stated_and_random_tiles_may_not_wait_long() -> None:
    single = ScenarioResult("SingleStream", 10.0, [1.0, 1.1, 1.2])
    offline = ScenarioResult("Offline", 10.0, [float(n) for n in range(50)])
    quick, slow = ScenarioResult("Server", 10.0, [1.0] * 9 + [3.0]), ScenarioResult("Server", 10.0, [1.0] * 9 + [9.0])
    good, bad = Taken(), Taken()
    judge_scenarios([single, offline, quick], good, spread=4.0)
    assert good.violated == []
    assert good.values["LoadGen Offline, tiles per second", ""] == 5.0
    assert good.values["LoadGen SingleStream, 50 %", ""] == 1.1
    slow.errors.append("a1 does not answer")
    judge_scenarios([single, offline, slow], bad, spread=4.0)
    missed = "LoadGen Server, 99 % against SingleStream, 50 %"
    assert bad.violated == ["tiles of LoadGen that no board computed", missed]
    judge_scenarios([ScenarioResult("SingleStream"), quick], none := Taken(), spread=4.0)
    assert none.violated == ["LoadGen SingleStream, tiles"]


def test_no_window_may_have_too_little_throughput() -> None:
    steady = [(k / 2, k / 2 + 0.4) for k in range(20)]
    gap = [(begin, end) for begin, end in steady if not 4.0 <= begin < 7.0]
    for spans, share, violated in ((steady, 1.0, []), (gap, 0.25, ["least throughput, of the full one"])):
        taken = Taken()
        judge_throughput(whole(a1=board(spans)), taken, full_s=4.0, window_s=4.0, least_share=0.3)
        assert taken.values["least throughput, of the full one", ""] == share
        assert taken.violated == violated


def test_boards_are_listed_in_the_order_in_which_the_twin_changed_them() -> None:
    said = [("b2", "shed"), ("b3", "shed"), ("b2", "restored"), ("b2", "shed")]
    changes = [TwinChange(board, what) for board, what in said]
    for number, change in enumerate(changes):
        object.__setattr__(change, "t_s", float(number))
    assert HeatLog((), changes).boards_that("shed") == {"b2": 0.0, "b3": 1.0}
