"""A store of the test's own, which commands use as well."""

from __future__ import annotations

from pathlib import Path

import pytest

from hil.leases.leases import Leases


@pytest.fixture
def leases(tmp_path: Path) -> Leases:
    return Leases(tmp_path / "leases.db")


@pytest.fixture(autouse=True)
def no_lease_around(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("HIL_LEASE", raising=False)
    monkeypatch.setenv("HIL_LEASES", str(tmp_path / "leases.db"))
