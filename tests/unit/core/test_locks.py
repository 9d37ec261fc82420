"""Lock files: one holder, a deadline for the others."""

from __future__ import annotations

import fcntl
from pathlib import Path
from threading import Timer

import pytest

from hil.core.locks import LOOK_S, is_locked, locked
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


def test_a_look_is_no_holder_for_another_look_and_a_new_holder_outwaits_it(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    lock.touch()
    with lock.open("rb") as look:
        fcntl.flock(look, fcntl.LOCK_SH)
        assert not is_locked(lock)
        done = Timer(0.05, fcntl.flock, (look, fcntl.LOCK_UN))
        done.start()
        with locked(lock, deadline_s=LOOK_S):
            assert is_locked(lock)
        done.join()
