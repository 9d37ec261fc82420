"""The container image runs."""

from __future__ import annotations

import pytest

from hil.text import one_line


@pytest.mark.requirement("OPE-050")
@pytest.mark.step("activate")
@pytest.mark.needs("install")
def test_the_container_image_runs(operation, there, within, measure):
    """It has Python, NumPy and ONNX Runtime, and says which."""
    with within("activate", operation.steps.activate) as deadline_s:
        answer = there.activate(deadline_s)
    for name in ("python", "machine", "providers"):
        measure(name, one_line(str(answer.get(name)), 200))
