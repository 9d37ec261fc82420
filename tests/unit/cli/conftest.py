"""Commands of unit tests find no leases and journals of this machine."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def home_of_its_own(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the home of the program for this test."""
    home = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("HIL_HOME", str(home))
    monkeypatch.delenv("HIL_LEASES", raising=False)
    monkeypatch.delenv("HIL_LEASE", raising=False)
    return home
