"""A campaign to run, with reports under the test's own directory."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.kits.campaign_folder import Campaign


@pytest.fixture
def out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HIL_REPORTS", str(tmp_path / "out"))
    monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)
    return tmp_path / "out"


@pytest.fixture
def campaign(pytester: pytest.Pytester, out: Path) -> Campaign:
    return Campaign(pytester, out)
