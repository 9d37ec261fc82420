"""Every byte is there; a job on the model computes the digests."""

from __future__ import annotations

import pytest

from hil.evidence.model import equals


@pytest.mark.requirement("OPE-030")
@pytest.mark.step("verify")
@pytest.mark.needs("upload")
def test_the_model_has_every_byte(operation, there, within, verify):
    """The hash in its list of files is of an algorithm that is not said, so it is not used."""
    with within("verify", operation.steps.verify) as deadline_s:
        if there.spec.tar is not None:
            there.install(deadline_s)  # a job needs the image
        found = there.digests(deadline_s)
    for name, artefact in there.files.items():
        verify(f"sha256 of {name}", found[name], limit=equals(artefact.sha256))
