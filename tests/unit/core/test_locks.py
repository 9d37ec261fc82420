"""Lock files: one holder, a deadline for the others."""

from __future__ import annotations

from pathlib import Path

import pytest

from hil.core.locks import is_locked, locked
from hil.errors import BenchError
from hil.testing.fakes import FakeClock


def test_a_second_holder_waits_until_its_deadline_and_says_for_what(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    assert not is_locked(lock)
    with locked(lock):
        assert is_locked(lock)
        clock = FakeClock()
        with (
            pytest.raises(BenchError, match="waited 3 s for the other one"),
            locked(lock, deadline_s=3, what="the other one", clock=clock),
        ):
            pass
        assert clock.now >= 3
    assert not is_locked(lock)
    with locked(lock, deadline_s=0):
        assert is_locked(lock)
