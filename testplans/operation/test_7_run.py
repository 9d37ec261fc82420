"""The payload on all boards."""

from __future__ import annotations

import pytest

from hil.core.wait import duration_s
from hil.errors import BenchError
from hil.evidence.model import at_least, at_most

KNOWN_EVERY = 5
"""So often a board gets a tile of which the answer is known."""


@pytest.mark.requirement("OPE-070")
@pytest.mark.step("run")
@pytest.mark.needs("configure")
def test_the_payload_runs_within_its_limits(operation, tiles, measure):
    """A stream of tiles; heat and charge where the lab has a twin."""
    from hil.workload.judges import judge_tiles, state_heat

    limits = operation.limits
    done = tiles.run(duration_s(operation.steps.run.duration), known_every=KNOWN_EVERY)
    if not done.report.checks:
        raise BenchError(
            f"no answer was compared with a known one: each {KNOWN_EVERY}th tile of a board is",
            remedy="give steps.run a longer duration",
        )
    judge_tiles(done.report, measure)
    if not done.heat.samples:
        return
    state_heat(done.heat, measure)
    for name, rows in done.heat.boards().items():
        hottest = max(board.junction_c for _, board in rows)
        measure("hottest junction", hottest, "C", limit=at_most(limits.junction_c), board=name)
    if limits.least_charge is not None:
        for craft in dict.fromkeys(sample.spacecraft for sample in done.heat.samples):
            lowest = min(s.lowest_charge for s in done.heat.samples if s.spacecraft == craft)
            measure(f"lowest charge of {craft}", round(lowest, 4), limit=at_least(limits.least_charge))
