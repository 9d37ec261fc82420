"""Waits: a deadline, and a sentence about what was waited for."""

from __future__ import annotations

import pytest

from hil.core.wait import poll_until, wait_until
from hil.errors import BenchError, DeviceError
from hil.testing.fakes import FakeClock


def test_the_first_true_answer_is_returned() -> None:
    answers = iter([None, "", "yes"])
    assert wait_until(lambda: next(answers), what="an answer", deadline_s=1, clock=FakeClock()) == "yes"


def test_the_deadline_names_what_was_waited_for_and_the_last_error() -> None:
    def poll() -> None:
        raise ConnectionRefusedError("nobody there")

    clock = FakeClock()
    with pytest.raises(DeviceError, match=r"waited 3 s for board a1 to answer .*nobody there"):
        wait_until(poll, what="board a1 to answer", deadline_s=3, error=DeviceError, clock=clock)
    assert 3 <= clock.now < 3.2


def test_a_bug_in_the_poll_is_not_swallowed() -> None:
    with pytest.raises(ZeroDivisionError):
        wait_until(lambda: 1 / 0, what="nothing", deadline_s=1, clock=FakeClock())


def test_a_wait_without_a_kind_of_error_blames_the_bench() -> None:
    with pytest.raises(BenchError):
        wait_until(lambda: None, what="anything", deadline_s=0.1, clock=FakeClock())


def test_a_loop_with_a_deadline_looks_once_more_when_it_has_passed() -> None:
    clock = FakeClock()
    waited = list(poll_until(1.0, every_s=0.4, clock=clock))
    assert waited == pytest.approx([0.0, 0.4, 0.8, 1.2])


def test_a_loop_without_time_looks_once() -> None:
    assert list(poll_until(0.0, clock=FakeClock())) == [0.0]
