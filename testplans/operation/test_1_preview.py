"""What was reckoned before a board was powered, with the figures that the run is compared with."""

from __future__ import annotations

import pytest

from hil.evidence.model import at_least
from hil.operation.preview import check


@pytest.mark.requirement("OPE-010")
@pytest.mark.step("preview")
def test_the_preview_finds_room_for_every_step(operation, bench, measure, tell):
    """For each term the share that stays free; what is not known is left out."""
    epoch = None if bench.orbit is None else f"{bench.orbit.epoch:%Y-%m-%dT%H:%M:%SZ}"
    found = check(operation, bench.lab, epoch=epoch)
    tell(found.sentence)
    for term in found.preview.terms:
        if term.free is not None:
            measure(f"free: {term.name}", round(term.free, 4), limit=at_least(operation.limits.margin))
