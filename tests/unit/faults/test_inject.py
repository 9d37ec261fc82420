"""Faults that strike in the middle of something."""

from __future__ import annotations

import threading

import pytest

from hil.errors import BenchError, DeviceError
from hil.evidence.events import FaultInjected
from hil.faults.inject import strike
from hil.testing.fakes import ListSink


class Counter:
    """An action that counts until it is struck."""

    def __init__(self) -> None:
        self.count = 0
        self.struck = threading.Event()

    def run(self) -> int:
        while not self.struck.wait(0.001):
            self.count += 1
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
