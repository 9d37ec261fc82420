"""What the tests of engineering models share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kits.pod_api import PASSWORD, PodApi


@pytest.fixture
def api(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[PodApi]:
    monkeypatch.setenv("EM_PASSWORD", PASSWORD)
    (volume := tmp_path / "volume").mkdir()
    with PodApi(volume) as served:
        yield served
