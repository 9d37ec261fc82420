"""A spacecraft that loses its boards in eclipse: in order, without losing work, and not for good."""

from __future__ import annotations

import pytest

from hil.errors import BenchError
from hil.evidence.model import equals


@pytest.fixture(scope="module")
def streamed(tiles, parameters):
    return tiles.run(parameters["stream_s"], again_every=10, finish_s=120.0)


@pytest.mark.requirement("CLD-010", "CLD-020")
@pytest.mark.step("eclipse")
def test_boards_go_off_in_order_and_the_other_spacecraft_takes_over(bench, streamed, measure):
    """The battery of one spacecraft is too small for the eclipse."""
    from hil.twin.parameters import bus_parameters
    from hil.workload.judges import judge_tiles, state_heat, state_speed

    report, heat = streamed.report, streamed.heat
    state_speed(report, heat, measure)
    state_heat(heat, measure)
    went = list(heat.boards_that("shed"))
    if not went:
        raise BenchError("no board was shed, so nothing is known of what eclipse does", remedy="--lab cold-case")
    for craft in bench.lab.spacecraft:
        own = [board.name for board in craft.boards]
        order = [name for name in bus_parameters(bench.lab.twin, craft.name).shed_order if name in went]
        if seen := [name for name in went if name in own]:
            measure(f"order in which boards of {craft.name} went off", ", ".join(seen), limit=equals(", ".join(order)))
    measure("tiles computed on the other spacecraft", sum(board.elsewhere for board in report.boards.values()))
    judge_tiles(report, measure)


@pytest.mark.requirement("CLD-030")
@pytest.mark.step("return")
@pytest.mark.needs("eclipse")
def test_boards_that_come_back_compute_again(tiles, rollout, streamed, parameters, measure):
    """By themselves, when the battery holds enough again."""
    from hil.workload.judges import judge_return

    for name, at_s in streamed.heat.boards_that("restored").items():
        if at_s + parameters["back_s"] < streamed.report.fed_s:
            judge_return(streamed.report, at_s, [name], measure, within_s=parameters["back_s"])
    rollout.serving_together(tiles.epoch, deadline_s=120.0)
