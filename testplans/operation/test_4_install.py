"""The bundle in the slot that is not running."""

from __future__ import annotations

import pytest

from hil.evidence.model import equals


@pytest.mark.requirement("OPE-040")
@pytest.mark.step("install")
@pytest.mark.needs("verify")
def test_the_bundle_is_installed_on_all_boards(operation, uploading, within, verify):
    """On all boards at once, while the running OS keeps running."""
    with within("install", operation.steps.install):
        statuses = uploading.install()
    for name, status in statuses.items():
        wanted = uploading.bundle.image_sha256
        verify("image_sha256", status.other.image_sha256, limit=equals(wanted), board=name, slot=status.other.slot)
