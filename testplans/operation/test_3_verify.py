"""Every byte is there; the boards have compared the digest themselves."""

from __future__ import annotations

import pytest

from hil.evidence.model import equals


@pytest.mark.requirement("OPE-030")
@pytest.mark.step("verify")
@pytest.mark.needs("upload")
def test_every_board_has_every_byte(operation, uploading, fleet, within, verify):
    """Seen through the management network."""
    with within("verify", operation.steps.verify):
        there = {name: uploading.bytes_at(name) for name in fleet.names}
    for name, size in there.items():
        verify("bytes of the bundle", size, "B", limit=equals(uploading.bundle.size_bytes), board=name)
