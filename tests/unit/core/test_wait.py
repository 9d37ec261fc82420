"""Waits: a deadline, and a sentence about what was waited for."""

from __future__ import annotations

import pytest

from hil.core.wait import duration_s, poll_until, wait_until
from hil.errors import BenchError, DeviceError
from hil.testing.fakes import FakeClock


def test_the_first_true_answer_is_returned_and_nothing_is_asked_again() -> None:
    answers = iter([None, "", "yes"])
    clock = FakeClock()
    assert wait_until(lambda: next(answers), what="an answer", deadline_s=1, clock=clock) == "yes"
    assert clock.now == pytest.approx(2 * 0.05)


def test_an_answer_that_is_there_is_returned_even_without_any_time() -> None:
    clock = FakeClock()
    assert wait_until(lambda: "yes", what="an answer", deadline_s=0, clock=clock) == "yes"
    assert clock.now == 0


@pytest.mark.parametrize("error", [OSError("not yet"), EOFError("not yet"), DeviceError("not yet")])
def test_an_error_of_the_poll_is_asked_again_until_it_answers(error: Exception) -> None:
    answers: list[object] = [error, error, "yes"]

    def poll() -> object:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    assert wait_until(poll, what="an answer", deadline_s=1, clock=FakeClock()) == "yes"


def test_the_deadline_names_what_was_waited_for_and_the_last_error() -> None:
    refused = ConnectionRefusedError("nobody there")

    def poll() -> None:
        raise refused

    clock = FakeClock()
    with pytest.raises(DeviceError, match=r"waited 3 s for board a1 to answer .*nobody there") as caught:
        wait_until(poll, what="board a1 to answer", deadline_s=3, error=DeviceError, remedy="power it", clock=clock)
    assert 3 <= clock.now < 3.2
    assert caught.value.__cause__ is refused and caught.value.remedy == "power it"


def test_the_pace_of_asking_is_what_was_asked_for() -> None:
    polls: list[float] = []
    clock = FakeClock()
    with pytest.raises(BenchError):
        wait_until(lambda: polls.append(clock.now), what="x", deadline_s=2, every_s=0.5, clock=clock)
    assert polls == [0, 0.5, 1, 1.5, 2]


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


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90s", 90), ("10m", 600), ("1h30m", 5400), ("3d", 259_200), ("0.5s", 0.5), ("10ms", 0.01), ("90", 90)],
)
def test_a_duration_is_numbers_with_units(text: str, seconds: float) -> None:
    assert duration_s(text) == seconds


@pytest.mark.parametrize("text", ["", "1h30", "s", "1h 30m", "-5s", "1w", "5sx"])
def test_what_is_no_duration_is_refused_with_how_to_write_one(text: str) -> None:
    with pytest.raises(ValueError, match="write 90s, 10m, 2h, 1h30m or 10ms"):
        duration_s(text)
