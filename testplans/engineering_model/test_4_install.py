"""The container image on the model."""

from __future__ import annotations

import pytest

from hil.evidence.model import equals


@pytest.mark.requirement("OPE-040")
@pytest.mark.step("install")
@pytest.mark.needs("verify")
def test_the_model_has_the_container_image(operation, there, within, verify):
    """An engineering model has no slots: nothing is shown about the OS and its updater."""
    with within("install", operation.steps.install) as deadline_s:
        has = there.install(deadline_s)
    verify("container images", int(has), limit=equals(1))
