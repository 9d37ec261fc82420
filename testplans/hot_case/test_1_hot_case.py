"""Boards that are too hot: they slow down, stay on and lose nothing; a cap by their OS ends it."""

from __future__ import annotations

import pytest

from hil.evidence.model import equals


@pytest.fixture(scope="module")
def streamed(tiles, parameters):
    return tiles.run(parameters["stream_s"], again_every=10)


@pytest.mark.requirement("HOT-010", "HOT-020")
@pytest.mark.step("throttle")
def test_boards_that_are_too_hot_slow_down_and_lose_nothing(tiles, streamed, measure):
    """As in always_on, on a lab whose radiators are too small."""
    from hil.workload.judges import judge_duty, judge_slowing, judge_tiles, state_heat, state_speed

    report, heat = streamed.report, streamed.heat
    state_speed(report, heat, measure)
    state_heat(heat, measure)
    judge_slowing(report, heat, measure)
    judge_tiles(report, measure)
    measure("boards shut down by heat", len(heat.boards_that("tripped")), limit=equals(0))
    judge_duty(report, heat, measure, contained=tiles.contained)


@pytest.mark.requirement("HOT-030")
@pytest.mark.step("cap")
@pytest.mark.needs("throttle")
def test_a_cap_by_the_os_ends_the_throttling(tiles, parameters, measure):
    """The OS caps all clocks; at the end no board is throttled any more."""
    from hil.workload.judges import judge_tiles

    with tiles.capped(parameters["cap_share"]):
        done = tiles.run(parameters["cap_s"])
    for name, rows in done.heat.boards().items():
        measure("junction at the end", rows[-1][1].junction_c, "C", board=name)
        measure("held back by heat at the end", rows[-1][1].binding == "heat", limit=equals(False), board=name)
    judge_tiles(done.report, measure)
