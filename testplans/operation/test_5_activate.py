"""The restart into the new OS."""

from __future__ import annotations

import pytest

from hil.evidence.model import equals


@pytest.mark.requirement("OPE-050")
@pytest.mark.step("activate")
@pytest.mark.needs("install")
def test_all_boards_run_the_new_os(operation, uploading, boards, within, verify):
    """One canary, then the others; each confirmed after its health checks."""
    with within("activate", operation.steps.activate):
        uploading.activate_canary()
        uploading.activate_rest()
    for name, board in boards.items():
        verify("os_version", board.identity().os_version, limit=equals(uploading.bundle.version), board=name)
