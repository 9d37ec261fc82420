"""Keys of workers: whoever has them can run programs as root, so nobody else may read them."""

from __future__ import annotations

from pathlib import Path

import pytest

from hil.errors import ConfigurationError
from hil.trials.workers import CERTIFICATE, KEY, security_of


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o602])
def test_a_key_that_others_can_read_is_refused(tmp_path: Path, mode: int) -> None:
    for name in (CERTIFICATE, KEY):
        (tmp_path / name).touch()
    (tmp_path / KEY).chmod(mode)
    with pytest.raises(ConfigurationError, match="read by others") as raised:
        security_of(tmp_path)
    assert "chmod 600" in raised.value.remedy
