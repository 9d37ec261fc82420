"""The configuration."""

from __future__ import annotations

import pytest

from hil.evidence.model import equals


@pytest.mark.requirement("OPE-060")
@pytest.mark.step("configure")
@pytest.mark.needs("activate")
def test_the_model_takes_the_configuration(operation, there, within, verify):
    """The network that it names is loaded there, with the digest that it names."""
    with within("configure", operation.steps.configure) as deadline_s:
        took = there.configure(deadline_s)
    verify("nodes that took the configuration", int(took), limit=equals(1))
