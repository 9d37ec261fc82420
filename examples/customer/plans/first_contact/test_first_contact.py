"""A first campaign: each test shows a requirement of plan.yaml, and the run ends in a report."""

import re
import time

import pytest

from hil import at_least, at_most, equals

LIGHT_TIME_MS = 10.0  # one way, as in lab/first.yaml
PING_B1 = ["ping", "-c", "1", "-W", "1", "b1"]


@pytest.mark.step("boards")
@pytest.mark.retry_bench(1)
def test_both_boards_run_their_factory_os(bench, verify):
    for name, board in bench.boards.items():
        verify("running_slot", board.identity().slot, limit=equals("A"), board=name)


@pytest.mark.requirement("FC-010")
@pytest.mark.needs("boards")
def test_light_takes_its_time(bench, verify):
    with bench.boards["a1"].shell() as shell:
        shell.run(PING_B1)  # the first one also asks for the address
        answer = shell.run(PING_B1).stdout
    round_trip_ms = float(re.search(r"time=([\d.]+)", answer).group(1))
    verify("round trip", round_trip_ms, "ms", limit=at_least(2 * LIGHT_TIME_MS))


@pytest.mark.requirement("FC-020")
@pytest.mark.needs("boards")
def test_a_board_is_reached_again_after_the_crosslink_was_lost(bench, crosslink, verify, measure):
    with bench.boards["a1"].shell() as shell:
        bench.links.cut(crosslink)
        try:
            answers = shell.run(PING_B1, check=False).returncode == 0
            measure("b1 answers without the crosslink", answers, limit=equals(False))
        finally:
            bench.links.restore(crosslink)
        begin = time.monotonic()
        while shell.run(PING_B1, check=False).returncode != 0:
            assert time.monotonic() < begin + 10, "the other spacecraft does not answer any more"
        verify("time until it answers again", time.monotonic() - begin, "s", limit=at_most(2.0))
