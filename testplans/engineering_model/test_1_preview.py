"""What was reckoned before anything was connected."""

from __future__ import annotations

import pytest

from hil.evidence.model import at_least


@pytest.mark.requirement("OPE-010")
@pytest.mark.step("preview")
def test_the_preview_finds_room_for_every_step(operation, engineering_model, reckoned, recorder, measure, tell):
    """For each term the share that stays free; what is not known is left out."""
    recorder.artefact(operation.file, kind="operation")
    recorder.artefact(engineering_model.file, kind="operation")
    tell(reckoned.sentence)
    for term in reckoned.preview.terms:
        if term.free is not None:
            measure(f"free: {term.name}", round(term.free, 4), limit=at_least(operation.limits.margin))
