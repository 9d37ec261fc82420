"""Faults that strike in the middle of something."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from hil.errors import BenchError, DeviceError
from hil.evidence.events import FaultInjected
from hil.faults.inject import Struck, strike
from hil.testing.fakes import ListSink


class Counter:
    """An action that counts until it is struck."""

    def __init__(self) -> None:
        self.count = 0
        self.struck = threading.Event()

    def run(self) -> int:
        while not self.struck.wait(0.001):
            self.count += 1
        time.sleep(0.05)  # so that it does not end before the fault has taken effect
        return self.count


def test_the_fault_strikes_once_the_threshold_is_reached_and_is_recorded() -> None:
    counter, sink = Counter(), ListSink()
    struck = strike(
        counter.run, counter.struck.set, progress=lambda: counter.count, threshold=5, what="a stop", sink=sink
    )
    assert struck.at >= 5
    assert struck.unwrap() >= struck.at
    assert sink.events == [FaultInjected("a stop", struck.at)]


def test_what_the_action_raised_after_the_fault_is_handed_over() -> None:
    counter = Counter()

    def action() -> int:
        counter.run()
        raise DeviceError("power is gone")

    struck = strike(action, counter.struck.set, progress=lambda: counter.count, threshold=1, what="x", sink=ListSink())
    assert struck.result is None
    with pytest.raises(DeviceError, match="power is gone"):
        struck.unwrap()


def test_an_action_that_ends_before_the_fault_shows_nothing() -> None:
    with pytest.raises(BenchError, match="ended before the fault could strike"):
        strike(lambda: 1, lambda: None, progress=lambda: 0, threshold=1, what="x", sink=ListSink())


def test_an_action_that_succeeds_before_the_fault_takes_effect_shows_nothing() -> None:
    ended = threading.Event()

    def action() -> int:
        ended.wait(5)
        return 1

    @contextmanager
    def late_outage() -> Iterator[None]:
        ended.set()  # the bench is slow: the action ends while the link is still up
        time.sleep(0.1)
        yield

    with pytest.raises(BenchError, match=r"had ended 0.* before the fault took effect"):
        strike(action, late_outage(), progress=lambda: 1, threshold=1, what="x", sink=ListSink())


def test_an_error_before_the_fault_is_raised_as_it_is() -> None:
    def action() -> int:
        raise DeviceError("refused at once")

    with pytest.raises(DeviceError, match="refused at once"):
        strike(action, lambda: None, progress=lambda: 0, threshold=1, what="x", sink=ListSink())


def test_an_action_that_does_not_end_after_the_fault_is_the_benchs_fault() -> None:
    counter = Counter()
    with pytest.raises(BenchError, match="did not end within"):
        strike(
            counter.run,
            lambda: None,
            progress=lambda: counter.count,
            threshold=1,
            what="x",
            sink=ListSink(),
            end_deadline_s=0.05,
        )
    counter.struck.set()


def test_an_action_that_returns_nothing_is_not_an_error() -> None:
    assert Struck(1, None, None).unwrap() is None
