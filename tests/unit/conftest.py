"""Settings of the unit tests."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

# On a busy machine an example may take any time: that is no fault of the code.
settings.register_profile("unhurried", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("unhurried")
