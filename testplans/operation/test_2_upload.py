"""All files, from the ground to every board."""

from __future__ import annotations

import pytest

from hil.evidence.model import equals


@pytest.mark.requirement("OPE-020")
@pytest.mark.step("upload")
def test_all_files_reach_the_boards(operation, reckoned, uploading, fleet, request, within, measure, verify):
    """The bundle; with a payload its model, and what it computes on where a result is collected."""
    steps = operation.steps
    payload = request.getfixturevalue("payload") if steps.run else None
    if reckoned.uploaded_s is not None:
        measure("time of upload, as reckoned", round(reckoned.uploaded_s, 3), "s")
    with within("upload", steps.upload):
        transfers = uploading.distribute()
        if payload is not None:
            uploading.distribute(payload.model)
        if payload is not None and steps.collect:
            uploading.upload(payload.scene)
    verify("boards with the bundle", len({each.board for each in transfers}), limit=equals(len(fleet)))
