"""All files, from the ground to the model."""

from __future__ import annotations

import pytest

from hil.evidence.model import equals


@pytest.mark.requirement("OPE-020")
@pytest.mark.step("upload")
def test_all_files_reach_the_model(operation, reckoned, there, within, measure, verify):
    """The bundle; the container image; with a payload its model and its scene."""
    if reckoned.uploaded_s is not None:
        measure("time of upload, as reckoned", round(reckoned.uploaded_s, 3), "s")
    with within("upload", operation.steps.upload) as deadline_s:
        there.upload()
    sizes = there.sizes(deadline_s)
    for name, artefact in there.files.items():
        verify(f"bytes of {name}", sizes[name], "B", limit=equals(artefact.size_bytes))
