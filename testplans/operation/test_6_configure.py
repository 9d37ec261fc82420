"""One cluster."""

from __future__ import annotations

import pytest

from hil.core.wait import duration_s
from hil.evidence.model import equals


@pytest.mark.requirement("OPE-060")
@pytest.mark.step("configure")
@pytest.mark.needs("activate")
def test_all_boards_serve_under_one_epoch(operation, uploading, fleet, within, verify):
    """Prepared on all, then committed."""
    step, bundle = operation.steps.configure, uploading.bundle
    config = fleet.config(os_version=bundle.version, image_sha256=bundle.image_sha256)
    with within("configure", step):
        epoch = uploading.configure(config, wait_for=())
        together = uploading.serving_together(epoch, deadline_s=duration_s(step.deadline))
    serving = sum(claim == epoch for claim in together.epochs.values())
    verify("boards that serve", serving, limit=equals(len(fleet)))
